"""The residual networks: first-order, product-of-polynomials, quadratic."""

from keras_polynets.models import ResNet
from keras_polynets.zoo.registry import register

HE = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016"
CVPR = "Chrysos et al., Π-nets: Deep Polynomial Neural Networks, CVPR 2020"
TPAMI = "Chrysos et al., Deep Polynomial Neural Networks, TPAMI 2021"
RELINEAR = (
    "Fan et al., Expressivity and Trainability of Quadratic Networks, 2021"
)
QUADRALIB = (
    "Xu et al., QuadraLib: A Performant Quadratic Neural Network Library for "
    "Architecture Optimization and Design Exploration, MLSys 2022"
)


def sgd(learning_rate, weight_decay):
    """Returns the table of SGD with momentum and coupled weight decay."""
    return {
        "name": "sgd",
        "learning_rate": learning_rate,
        "momentum": 0.9,
        "weight_decay": weight_decay,
    }


RESNET = {
    "family": "residual nets",
    "paper": HE,
    "optimizer": sgd(0.1, 5e-4),
}
CIFAR = {**RESNET, "optimizer": sgd(0.1, 1e-4)}
PRODPOLY = {**RESNET, "family": "prodpoly residual nets", "paper": TPAMI}
QRESNET = {
    "family": "quadratic residual nets",
    "paper": RELINEAR,
    # The released default for QResNet20: rates of 0.1 and 0.00001.
    "optimizer": {
        **sgd(0.1, 1e-4),
        "relinear": {"gate_factor": 1e-4, "power_factor": 1e-4},
    },
}
# A toy has to move in two steps.
TOY = {"relinear": {"gate_factor": 0.1, "power_factor": 0.1}}
SPEECH = {"task": "speech command recognition", "optimizer": sgd(0.01, 5e-4)}

# Mean and standard deviation of a channel whose values are in (0, 1).
IMAGENET_COLOURS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR_COLOURS = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))

# A map of the shortcut and one of the product, in every block.
TWO_MAPS = {"order": 2, "operand_map": "conv", "product_map": "all"}


def build(name, kwargs, colours=None, network=ResNet, **defaults):
    """Returns the network, its input standardised by `colours`.

    Args:
        name: The name of the network.
        kwargs: What a user asked for; it goes before `defaults`.
        colours: Means and deviations of the channels, or `None`.
        network: The class of the network.
        **defaults: Arguments of the class.
    """
    arguments = {"name": name, "input_shape": (32, 32, 3), **defaults, **kwargs}
    if colours is not None and arguments.get("preprocessing") != "caffe":
        channels = arguments["input_shape"][-1]
        arguments.setdefault("input_range", standardised(colours, channels))
    return network(**arguments)


def standardised(colours, channels):
    """Returns the range of standardised images, one pair a channel.

    Images that have not three channels are standardised by the mean colour.
    """
    means, deviations = colours
    if channels != len(means):
        means = [sum(means) / len(means)]
        deviations = [sum(deviations) / len(deviations)]
    pairs = list(zip(means, deviations, strict=True))
    low, high = [-m / d for m, d in pairs], [(1 - m) / d for m, d in pairs]
    return (low, high) if len(pairs) > 1 else (low[0], high[0])


def _of_stem(stem):
    """Returns the arguments that go with a stem: sizes and colours."""
    if stem != "imagenet":
        return {"stem": stem}
    return {
        "stem": stem,
        "input_shape": (224, 224, 3),
        "classes": 1000,
        "colours": IMAGENET_COLOURS,
    }


def _cifar(name, depth, kwargs, **defaults):
    """Returns a network of three stages of `(depth - 2) / 6` blocks."""
    return build(
        name,
        kwargs,
        IMAGENET_COLOURS,
        **{
            "blocks": ((depth - 2) // 6,) * 3,
            "width": 16,
            "shortcut": "pad",
            "initialization": "fan_in",
            **defaults,
        },
    )


@register(**RESNET, parameters=11_173_962)
def resnet18(stem="cifar", **kwargs):
    """ResNet18: for 32 × 32 images, or with stem="imagenet" for ImageNet."""
    return build("resnet18", kwargs, **_of_stem(stem))


@register(**RESNET, parameters=21_282_122)
def resnet34(stem="cifar", **kwargs):
    """ResNet34: for 32 × 32 images, or with stem="imagenet" for ImageNet."""
    blocks = {"blocks": (3, 4, 6, 3)}
    return build("resnet34", kwargs, **blocks, **_of_stem(stem))


@register(**PRODPOLY, parameters=6_009_930)
def prodpoly_resnet18(**kwargs):
    """Prodpoly-ResNet in the place of ResNet18, with two blocks fewer."""
    return build("prodpoly_resnet18", kwargs, blocks=(2, 2, 1, 1), **TWO_MAPS)


@register(**PRODPOLY, parameters=12_976_970)
def prodpoly_resnet34(**kwargs):
    """Prodpoly-ResNet in the place of ResNet34, with six blocks fewer."""
    return build("prodpoly_resnet34", kwargs, blocks=(3, 3, 2, 2), **TWO_MAPS)


@register(**PRODPOLY, parameters=14_663_076)
def prodpoly_resnet34_cifar100(**kwargs):
    """Prodpoly-ResNet in the place of ResNet34, for CIFAR-100."""
    return build(
        "prodpoly_resnet34_cifar100",
        kwargs,
        blocks=(3, 4, 3, 2),
        classes=100,
        **TWO_MAPS,
    )


def _speech(name, kwargs, **defaults):
    # Wave forms become log-mel spectrograms inside the preprocessor.
    return build(
        name,
        kwargs,
        input_shape=(32, 32, 1),
        classes=35,
        **{
            "data_range": (-1.0, 1.0),
            "preprocessing": "log_mel",
            **defaults,
        },
    )


@register(**RESNET | SPEECH, parameters=21_293_795)
def resnet34_speech(**kwargs):
    """ResNet34 for the log-mel spectrograms of 35 spoken words."""
    return _speech("resnet34_speech", kwargs, blocks=(3, 4, 6, 3))


@register(**PRODPOLY | SPEECH, parameters=13_173_987)
def prodpoly_resnet34_speech(**kwargs):
    """Prodpoly-ResNet in the place of ResNet34, for spoken words."""
    return _speech(
        "prodpoly_resnet34_speech",
        kwargs,
        blocks=(3, 3, 3, 2),
        order=2,
        product_map="identity",
    )


def _resnet50(name, kwargs, **defaults):
    return build(
        name,
        kwargs,
        IMAGENET_COLOURS,
        **{
            "input_shape": (224, 224, 3),
            "classes": 1000,
            "stem": "imagenet",
            "branch": "bottleneck",
            "blocks": (3, 4, 6, 3),
            "epsilon": 1.001e-5,
            "preprocessing": _caffe_for(kwargs.get("input_shape")),
            **defaults,
        },
    )


def _caffe_for(input_shape):
    colour = input_shape is None or input_shape[-1] == 3
    return "caffe" if colour else "rescale"


@register(**CIFAR, parameters=25_557_032)
def resnet50(**kwargs):
    """ResNet50 for ImageNet, laid out as that of keras.applications."""
    return _resnet50("resnet50", kwargs)


@register(**PRODPOLY | {"optimizer": sgd(0.1, 1e-4)}, parameters=34_916_392)
def prodpoly_resnet50(**kwargs):
    """Prodpoly-ResNet50 for ImageNet: tanh of a product in every block."""
    return _resnet50(
        "prodpoly_resnet50",
        kwargs,
        order=2,
        operand_map="factorized",
        product_activation="tanh",
    )


@register(**PRODPOLY | {"paper": CVPR}, parameters=11_173_962)
def resnet18_linear(stem="cifar", **kwargs):
    """ResNet18 without activation functions: affine, a baseline."""
    return build("resnet18_linear", kwargs, activation=None, **_of_stem(stem))


@register(**PRODPOLY | {"paper": CVPR}, parameters=11_173_962)
def prodpoly_resnet18_linear(**kwargs):
    """Prodpoly-ResNet without activations: degree order ** blocks."""
    linear = {"activation": None, "order": 2}
    return build("prodpoly_resnet18_linear", kwargs, **linear)


@register(**PRODPOLY | {"optimizer": sgd(0.1, 1e-4)}, parameters=11_693_352)
def pinet18(**kwargs):
    """Π-net of 18 layers for ImageNet, without activation functions."""
    return build(
        "pinet18",
        kwargs,
        **_of_stem("imagenet"),
        **{
            "activation": None,
            "order": 2,
            "product_normalization": "batch",
            "zero_init_residual": True,
            "initialization": "fan_out_small_head",
        },
    )


@register(**PRODPOLY | {"optimizer": sgd(0.01, 5e-4)}, parameters=6_825_553)
def ncp_prodpoly_cifar10(**kwargs):
    """Product of polynomials by NCP, without activation functions."""
    return build(
        "ncp_prodpoly_cifar10",
        kwargs,
        blocks=(2, 2, 2, 1),
        branch="single",
        kernel_size=5,
        activation=None,
        shortcut="projection_always",
        shortcut_normalization="instance",
        order=2,
        gate=True,
        add_residual=False,
    )


@register(**CIFAR, parameters=269_722)
def resnet20(**kwargs):
    """ResNet20 for 32 × 32 images; width=24, 32 or 40 widens it."""
    return _cifar("resnet20", 20, kwargs)


@register(**CIFAR, parameters=464_154)
def resnet32(**kwargs):
    """ResNet32 for 32 × 32 images; width=24, 32 or 40 widens it."""
    return _cifar("resnet32", 32, kwargs)


@register(**CIFAR, parameters=853_018)
def resnet56(**kwargs):
    """ResNet56 for 32 × 32 images; width=24, 32 or 40 widens it."""
    return _cifar("resnet56", 56, kwargs)


@register(**CIFAR, parameters=1_727_962)
def resnet110(**kwargs):
    """ResNet110 for 32 × 32 images."""
    return _cifar("resnet110", 110, kwargs)


@register(**CIFAR, parameters=19_421_274)
def resnet1202(**kwargs):
    """ResNet1202 for 32 × 32 images."""
    return _cifar("resnet1202", 1202, kwargs)


def _quadratic(name, depth, kwargs):
    neurons = {"neuron": "full", "initialization": "fan_in_blocks"}
    return _cifar(name, depth, kwargs, **neurons)


@register(**QRESNET, parameters=806_266)
def qresnet20(**kwargs):
    """QResNet20: ResNet20 with quadratic neurons."""
    return _quadratic("qresnet20", 20, kwargs)


@register(**QRESNET, parameters=1_389_114)
def qresnet32(**kwargs):
    """QResNet32: ResNet32 with quadratic neurons."""
    return _quadratic("qresnet32", 32, kwargs)


@register(**QRESNET, parameters=2_554_810)
def qresnet56(**kwargs):
    """QResNet56: ResNet56 with quadratic neurons."""
    return _quadratic("qresnet56", 56, kwargs)


@register(**QRESNET, parameters=5_177_626)
def qresnet110(**kwargs):
    """QResNet110: ResNet110 with quadratic neurons."""
    return _quadratic("qresnet110", 110, kwargs)


@register(**QRESNET, parameters=33_671_976)
def qresnet18(**kwargs):
    """QResNet18 for ImageNet: ResNet18 with quadratic neurons."""
    quadratic = {"neuron": "full", "initialization": "fan_in_blocks"}
    return build("qresnet18", kwargs, **_of_stem("imagenet"), **quadratic)


@register(**QRESNET, parameters=63_992_744)
def qresnet34(**kwargs):
    """QResNet34 for ImageNet: ResNet34 with quadratic neurons."""
    return build(
        "qresnet34",
        kwargs,
        **_of_stem("imagenet"),
        **{
            "blocks": (3, 4, 6, 3),
            "neuron": "full",
            "initialization": "fan_in_blocks",
        },
    )


@register(
    family="quadratic residual nets",
    paper=QUADRALIB,
    optimizer={**sgd(0.1, 5e-4), "global_clipnorm": 0.5},
    parameters=520_282,
)
def quadratic_resnet14(**kwargs):
    """ResNet14 with the quadratic neurons of QuadraLib."""
    return build(
        "quadratic_resnet14",
        kwargs,
        CIFAR_COLOURS,
        blocks=(2, 2, 2),
        width=16,
        neuron="quadralib",
        branch_normalization=True,
        initialization="fan_in",
    )


@register(**PRODPOLY, parameters=1_551)
def test_prodpoly_resnet(**kwargs):
    """Toy member of the prodpoly residual networks, for tests."""
    small = {"input_shape": (8, 8, 3), "classes": 3, "width": 4}
    return build(
        "test_prodpoly_resnet", kwargs, blocks=(1, 1), **small, **TWO_MAPS
    )


@register(
    **QRESNET | {"optimizer": {**sgd(0.1, 1e-4), **TOY}}, parameters=3_721
)
def test_qresnet(**kwargs):
    """Toy member of the quadratic residual networks, for tests."""
    small = {"input_shape": (8, 8, 3), "classes": 3, "width": 4}
    neurons = {"neuron": "full", "rezero": True, "blocks": (1, 1)}
    return _cifar("test_qresnet", 8, kwargs, **small, **neurons)
