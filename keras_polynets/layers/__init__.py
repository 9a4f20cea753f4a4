"""Layers: the polynomial recursions and what Keras lacks beside them."""

from keras_polynets.layers.augmentation import RandomPadCrop
from keras_polynets.layers.ccp import CCP
from keras_polynets.layers.ccp_conv import CCPConv2D
from keras_polynets.layers.ncp import NCP
from keras_polynets.layers.ncp import NCPSkip
from keras_polynets.layers.prodpoly import ProdPoly

__all__ = [
    "CCP",
    "CCPConv2D",
    "NCP",
    "NCPSkip",
    "ProdPoly",
    "RandomPadCrop",
]
