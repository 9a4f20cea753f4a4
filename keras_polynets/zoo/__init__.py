"""The zoo: from a name to a model with its weights."""

from keras_polynets.zoo import denoisers as _denoisers  # noqa: F401
from keras_polynets.zoo import polynomial_nets as _polynomial_nets  # noqa: F401
from keras_polynets.zoo import resnets as _resnets  # noqa: F401
from keras_polynets.zoo import vggs as _vggs  # noqa: F401
from keras_polynets.zoo import weights
from keras_polynets.zoo.cards import card
from keras_polynets.zoo.compilation import compile_model
from keras_polynets.zoo.directory import data_directory
from keras_polynets.zoo.load import info
from keras_polynets.zoo.load import load
from keras_polynets.zoo.predictions import decode_predictions
from keras_polynets.zoo.registry import list_models
from keras_polynets.zoo.registry import register

__all__ = [
    "card",
    "compile_model",
    "data_directory",
    "decode_predictions",
    "info",
    "list_models",
    "load",
    "register",
    "weights",
]
