"""Model families: Keras models built out of the layers."""

from keras_polynets.models.conv_polynomial_net import ConvPolynomialNet
from keras_polynets.models.guided_denoiser import GuidedDenoiser
from keras_polynets.models.polynomial_net import PolynomialNet
from keras_polynets.models.polynomial_net_stack import PolynomialNetStack
from keras_polynets.models.quadratic_autoencoder import DenoisingAutoencoder
from keras_polynets.models.resnet import ResNet
from keras_polynets.models.vgg import VGG
from keras_polynets.models.zoo_model import ZooModel

__all__ = [
    "ConvPolynomialNet",
    "DenoisingAutoencoder",
    "GuidedDenoiser",
    "PolynomialNet",
    "PolynomialNetStack",
    "ResNet",
    "VGG",
    "ZooModel",
]
