"""The plain convolutional networks (VGG), quadratic and not."""

import functools

from keras_polynets.layers import square
from keras_polynets.models import VGG
from keras_polynets.models.vgg import VGG7
from keras_polynets.zoo.registry import register
from keras_polynets.zoo.resnets import CIFAR_COLOURS
from keras_polynets.zoo.resnets import IMAGENET_COLOURS
from keras_polynets.zoo.resnets import QRESNET
from keras_polynets.zoo.resnets import QUADRALIB
from keras_polynets.zoo.resnets import RELINEAR
from keras_polynets.zoo.resnets import build
from keras_polynets.zoo.resnets import sgd

SIMONYAN = (
    "Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale "
    "Image Recognition, ICLR 2015"
)
QUADRATIC = {"family": "quadratic VGG nets", "paper": RELINEAR}


_build = functools.partial(build, network=VGG)


@register(
    family="VGG nets",
    paper=SIMONYAN,
    parameters=14_774_436,
    optimizer=sgd(0.1, 1e-4),
)
def vgg16(**kwargs):
    """VGG16 for 32 × 32 images, with batch normalisation and a small head."""
    return _build("vgg16", kwargs, IMAGENET_COLOURS, classes=100)


@register(
    **QUADRATIC,
    parameters=44_203_812,
    optimizer=QRESNET["optimizer"],
)
def quadratic_vgg16(**kwargs):
    """Quadratic-VGG16: VGG16 with quadratic neurons."""
    full = {"classes": 100, "neuron": "full"}
    return _build("quadratic_vgg16", kwargs, IMAGENET_COLOURS, **full)


@register(**QUADRATIC, parameters=14_774_436, optimizer=sgd(0.05, 1e-4))
def vgg16_quadratic_activation(**kwargs):
    """VGG16 with x² as its activation: a baseline that does not converge."""
    squares = {"classes": 100, "activation": square}
    return _build(
        "vgg16_quadratic_activation", kwargs, IMAGENET_COLOURS, **squares
    )


@register(
    family=QUADRATIC["family"],
    paper=QUADRALIB,
    parameters=12_304_330,
    optimizer={**sgd(0.1, 5e-4), "global_clipnorm": 0.5},
)
def quadratic_vgg7(**kwargs):
    """VGG7 with the quadratic neurons of QuadraLib."""
    neurons = {"neuron": "quadralib", "branch_normalization": True}
    return _build(
        "quadratic_vgg7", kwargs, CIFAR_COLOURS, layout=VGG7, **neurons
    )


@register(
    family=QUADRATIC["family"],
    paper=QUADRALIB,
    parameters=1_347,
    optimizer=sgd(0.1, 5e-4),
)
def test_quadratic_vgg(**kwargs):
    """Toy member of the quadratic VGG networks, for tests."""
    small = {"input_shape": (8, 8, 3), "classes": 3, "layout": (4, "M", 8, "M")}
    neurons = {"neuron": "quadralib", "branch_normalization": True}
    return _build(
        "test_quadratic_vgg", kwargs, CIFAR_COLOURS, **small, **neurons
    )
