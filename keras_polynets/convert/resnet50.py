"""The residual networks of keras.applications as those of the zoo."""

import re

from keras import layers
from keras import ops

from keras_polynets.convert import second_order
from keras_polynets.convert.assignments import Mismatch
from keras_polynets.convert.assignments import assignments
from keras_polynets.convert.assignments import checked

# As `keras.applications.ResNet50`, 101 and 152 name what has weights.
_NAMES = re.compile(
    r"conv1_(conv|bn)|conv(\d+)_block(\d+)_(\d)_(conv|bn)|predictions"
)
_KINDS = {"conv": "conv", "bn": "norm"}


def is_transfer(source, target):
    """Says whether the weights go from Keras's network to the zoo's.

    Args:
        source: Dictionary from names to layers, of the network with weights.
        target: The same of the network that receives them.
    """
    with_weights = [name for name, layer in source.items() if layer.weights]
    return (
        {"conv1_conv", "conv1_bn"} <= source.keys()
        and all(map(_NAMES.fullmatch, with_weights))
        and {"stem_conv", "stem_norm"} <= target.keys()
    )


def transfers(source, target, head=True):
    """Returns the values that make a network compute what Keras's does.

    The convolutions of Keras's networks have biases; the moving mean of the
    normalisation behind each takes it up. The second-order terms become zero,
    as they are before training.

    Args:
        source: Dictionary from names to layers, those of
            `keras.applications.ResNet50`, 101 or 152.
        target: The same of a `keras_polynets.models.ResNet`.
        head: Boolean, whether the source has to give the weights of the head.

    Returns:
        Pair of a list of pairs of a variable and an array, and a list of
        strings, what does not fit.
    """
    theirs = {own_name(n): n for n, layer in source.items() if layer.weights}
    pairs, errors = second_order.zeros(target)
    for name, layer in target.items():
        if not layer.weights or second_order.is_part(name):
            continue
        if name in theirs:
            try:
                pairs += _layer(source, theirs[name], layer)
            except Mismatch as error:
                errors.append(f"{name!r} from {theirs[name]!r}: {error}")
        elif head or name != "head":
            errors.append(f"{name!r}: the source has no such layer")
    errors += [
        f"{their!r} of the source: the target has no layer {name!r}"
        for name, their in theirs.items()
        if name not in target
    ]
    return pairs, errors


def own_name(name):
    """Returns the name in the zoo of a layer of Keras's network.

    Args:
        name: String, the name of a layer with weights.
    """
    if name == "predictions":
        return "head"
    stem, stage, block, number, kind = _NAMES.fullmatch(name).groups()
    if stem:
        return f"stem_{_KINDS[stem]}"
    kind = _KINDS[kind]
    part = f"shortcut_{kind}" if number == "0" else f"{kind}{number}"
    return f"stage{int(stage) - 1}_block{block}_{part}"


def _layer(source, name, target):
    """Returns the values for one layer of the target."""
    layer = source[name]
    if isinstance(layer, layers.BatchNormalization):
        return _normalization(layer, _bias(source[_convolution(name)]), target)
    if isinstance(layer, layers.Conv2D):
        if type(target) is not layers.Conv2D or target.use_bias:
            raise Mismatch(
                "expected a `Conv2D` without bias in the target, received a "
                f"{type(target).__name__}"
            )
        pairs = [(target.kernel, ops.convert_to_numpy(layer.kernel))]
        return checked(pairs)
    return assignments(layer, target)


def _normalization(layer, bias, target):
    if abs(layer.epsilon - target.epsilon) > 1e-12:
        raise Mismatch(
            f"expected the epsilon {layer.epsilon}, received {target.epsilon}"
        )
    pairs = assignments(layer, target)
    return [
        (variable, value - bias if variable is target.moving_mean else value)
        for variable, value in pairs
    ]


def _convolution(name):
    """Returns the name of the convolution before a normalisation."""
    return f"{name.removesuffix('bn')}conv"


def _bias(layer):
    return 0.0 if layer.bias is None else ops.convert_to_numpy(layer.bias)
