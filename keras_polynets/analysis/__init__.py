"""Analysis: what a network is made of and what its parts are worth."""

from keras_polynets.analysis.degree import NotPolynomialError
from keras_polynets.analysis.degree import polynomial_degree
from keras_polynets.analysis.importance import LayerImportance
from keras_polynets.analysis.importance import layer_importance
from keras_polynets.analysis.summary import LayerSummary
from keras_polynets.analysis.summary import ModelSummary
from keras_polynets.analysis.summary import summary
from keras_polynets.analysis.variety import variety_dimension

__all__ = [
    "LayerImportance",
    "LayerSummary",
    "ModelSummary",
    "NotPolynomialError",
    "layer_importance",
    "polynomial_degree",
    "summary",
    "variety_dimension",
]
