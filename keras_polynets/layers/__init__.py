"""Layers: the polynomial recursions and what Keras lacks beside them."""

from keras_polynets.layers.augmentation import RandomPadCrop
from keras_polynets.layers.batch_normalization import BatchNormalization
from keras_polynets.layers.ccp import CCP
from keras_polynets.layers.ccp_conv import CCPConv2D
from keras_polynets.layers.filters import GaussianFilter2D
from keras_polynets.layers.filters import MedianFilter2D
from keras_polynets.layers.log_mel import LogMelSpectrogram
from keras_polynets.layers.ncp import NCP
from keras_polynets.layers.ncp import NCPSkip
from keras_polynets.layers.neurons import square
from keras_polynets.layers.prodpoly import ProdPoly
from keras_polynets.layers.quadratic import QuadraticDense
from keras_polynets.layers.quadratic import QuadraticLayer
from keras_polynets.layers.quadratic_conv import QuadraticConv1D
from keras_polynets.layers.quadratic_conv import QuadraticConv2D
from keras_polynets.layers.quadratic_conv import QuadraticConv2DTranspose
from keras_polynets.layers.quadratic_conv import QuadraticConv3D
from keras_polynets.layers.resampling import Resample
from keras_polynets.layers.wave_augmentation import RandomGain
from keras_polynets.layers.wave_augmentation import RandomNoise
from keras_polynets.layers.wave_augmentation import RandomShift
from keras_polynets.layers.wave_augmentation import RandomSpeed

__all__ = [
    "BatchNormalization",
    "CCP",
    "CCPConv2D",
    "GaussianFilter2D",
    "MedianFilter2D",
    "LogMelSpectrogram",
    "NCP",
    "NCPSkip",
    "ProdPoly",
    "QuadraticConv1D",
    "QuadraticConv2D",
    "QuadraticConv2DTranspose",
    "QuadraticConv3D",
    "QuadraticDense",
    "QuadraticLayer",
    "RandomGain",
    "RandomNoise",
    "RandomPadCrop",
    "RandomShift",
    "RandomSpeed",
    "Resample",
    "square",
]
