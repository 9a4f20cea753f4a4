"""Polynomial and quadratic neural networks for Keras 3."""

from keras_polynets._backend import check_backend

check_backend()

# ruff: noqa: E402  (an absent backend is explained before Keras is imported)
from keras_polynets import analysis
from keras_polynets import callbacks
from keras_polynets import constraints
from keras_polynets import convert
from keras_polynets import data
from keras_polynets import distribute
from keras_polynets import export
from keras_polynets import layers
from keras_polynets import metrics
from keras_polynets import models
from keras_polynets import optimizers
from keras_polynets import plots
from keras_polynets import recipes
from keras_polynets import regularizers
from keras_polynets import robustness
from keras_polynets import schedules
from keras_polynets import trainers
from keras_polynets import zoo
from keras_polynets._version import __version__

__all__ = [
    "__version__",
    "analysis",
    "callbacks",
    "constraints",
    "convert",
    "data",
    "distribute",
    "export",
    "layers",
    "metrics",
    "models",
    "optimizers",
    "plots",
    "recipes",
    "regularizers",
    "robustness",
    "schedules",
    "trainers",
    "zoo",
]
