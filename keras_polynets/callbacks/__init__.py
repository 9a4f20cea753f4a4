"""Callbacks that Keras lacks."""

from keras_polynets.callbacks.backup import Backup
from keras_polynets.callbacks.nan import TerminateOnNonFinite
from keras_polynets.callbacks.nan import first_non_finite
from keras_polynets.callbacks.projection import PeriodicProjection

__all__ = [
    "Backup",
    "PeriodicProjection",
    "TerminateOnNonFinite",
    "first_non_finite",
]
