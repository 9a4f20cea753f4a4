"""Conversion: Keras models with quadratic neurons, weights of elsewhere."""

from keras_polynets.convert.converted_model import ConvertedModel
from keras_polynets.convert.prodpoly import to_prodpoly
from keras_polynets.convert.quadratic import to_quadratic
from keras_polynets.convert.report import ConversionReport
from keras_polynets.convert.spline import from_spline
from keras_polynets.convert.torch_quadralib import from_torch_quadralib
from keras_polynets.convert.transfer import transfer_weights

__all__ = [
    "ConversionReport",
    "ConvertedModel",
    "from_spline",
    "from_torch_quadralib",
    "to_prodpoly",
    "to_quadratic",
    "transfer_weights",
]
