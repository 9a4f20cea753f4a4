"""Enclosures of what a network yields around images, layer by layer."""

import dataclasses
import functools
import math
import operator

import keras
import numpy as np

from keras_polynets import layers
from keras_polynets.analysis.degree_rules import AFFINE
from keras_polynets.analysis.degree_rules import NOISE
from keras_polynets.layers import recursions
from keras_polynets.layers.degrees import after_activation
from keras_polynets.layers.residual import PadShortcut
from keras_polynets.layers.residual import ScalarGate
from keras_polynets.robustness import contractions
from keras_polynets.robustness import floats
from keras_polynets.robustness import intervals
from keras_polynets.robustness import layer_maps
from keras_polynets.robustness import linear_maps
from keras_polynets.robustness import norms

# They change nothing in inference, but for the dtype.
IDLE = NOISE | {keras.layers.ActivityRegularization, keras.layers.Identity}
# They leave components in their order.
_KEEPING = IDLE | {
    keras.layers.Flatten,
    keras.layers.InputLayer,
    keras.layers.Reshape,
}


def keeps_order(layer):
    """Returns whether a layer yields its input, but for shape and dtype.

    Args:
        layer: A layer or another operation.
    """
    # Flattening of channels that come first moves them.
    moves = getattr(layer, "data_format", None) == "channels_first"
    return type(layer) in _KEEPING and not moves


def unit_roundoff(layer, x=None):
    """Returns the unit roundoff of the arithmetic of a layer.

    Args:
        layer: A layer.
        x: The enclosure that it takes, in whose dtype it may compute.
    """
    unit = floats.roundoff_of(layer.compute_dtype, f"Layer {layer.name!r}")
    if isinstance(layer, layer_maps.SINGLE):
        unit = max(unit, floats.UNIT_ROUNDOFFS["float32"])
    return unit if x is None or layer.autocast else max(unit, x.unit)


@functools.singledispatch
def enclose(layer, x, affine):
    """Encloses what a layer yields: the rules behind the local bounds.

    A `functools.singledispatch` on the class of the layer. For a layer of your
    own register a rule with these arguments. It computes with enclosures as
    the layer does with tensors: they add, and multiply as tensors and numbers
    do, and `x.through(affine(layer, x.shape), unit)` is what a known linear
    layer makes of them.

    Args:
        layer: A built layer, which acts as in inference.
        x: The enclosure of its input, or a list of those of its inputs.
        affine: Callable `(layer, shape)` that returns the linear map and bias
            of an affine layer of Keras for an example of that shape.

    Returns:
        The enclosure of the output of the layer.

    Raises:
        NotImplementedError: If no rule is registered for the layer.

    Example:

    >>> @keras_polynets.robustness.enclose.register
    ... def _(layer: Cube, x, affine):
    ...     return x * x * x
    """
    if type(layer) in IDLE:
        return _cast(layer, x) if isinstance(x, list) else _cast(layer, [x])[0]
    if type(layer) in layer_maps.KNOWN:
        return _activated(layer, _through(layer, x, affine))
    name = type(layer).__name__
    raise NotImplementedError(
        f"There is no local bound for {layer.name!r}, a {name}. Bounds exist "
        "for polynomial networks: linear layers, sums, products and the "
        "layers of keras_polynets, without other activations than `square`. "
        "Replace the layer, or register a rule with "
        f"`keras_polynets.robustness.enclose.register({name})`."
    )


def enclosed(layer, x, affine):
    """Encloses what a layer yields, if the rule for its class is its own.

    Args:
        layer: See `enclose`.
        x: See `enclose`.
        affine: See `enclose`.
    """
    norms.check_call(layer, enclose)
    return enclose(layer, x, affine)


def _activated(layer, x):
    activation = getattr(layer, "activation", None)
    degree = after_activation(activation, 1)
    if activation is None or activation is keras.activations.linear:
        return x
    if degree == 2 and activation in (layers.square, keras.ops.square):
        return x * x
    raise ValueError(
        f"Layer {layer.name!r} has the activation "
        f"{getattr(activation, '__name__', activation)!r}, for which no bound "
        "exists here. Polynomial networks have none, or `square`: build the "
        "model without it, so that it yields logits."
    )


@enclose.register(keras.layers.InputLayer)
def _(layer, x, affine):
    return x


@enclose.register(keras.layers.Activation)
def _(layer, x, affine):
    return _activated(layer, *_cast(layer, [x]))


@enclose.register(
    ScalarGate
    | PadShortcut
    | layers.BatchNormalization
    | layers.GaussianFilter2D
)
def _(layer, x, affine):
    return _through(layer, x, affine)


@enclose.register(keras.layers.SpectralNormalization)
def _(layer, x, affine):
    (x,) = _cast(layer, [x])
    return _cast(layer, [enclosed(layer.layer, x, affine)])[0]


@enclose.register(layer_maps.SEPARABLE)
def _(layer, x, affine):
    for stage in layer_maps.stages(layer, x.shape):
        x = x.through(stage, unit_roundoff(layer, x))
    return _activated(layer, x)


@enclose.register(keras.layers.TimeDistributed)
def _(layer, x, affine):
    inner = layer.layer
    is_model = isinstance(inner, keras.Model)
    if not is_model and inner.compute_dtype != layer.compute_dtype:
        raise NotImplementedError(
            f"There is no local bound for {layer.name!r}, a TimeDistributed of "
            f"dtype {layer.compute_dtype} around a layer of dtype "
            f"{inner.compute_dtype}. Give both the same."
        )
    (x,) = _cast(layer, [x])
    steps, *shape = x.shape
    if type(inner) in AFFINE:
        for stage in layer_maps.stages(inner, tuple(shape)):
            linear = linear_maps.Repeated(stage.linear, steps)
            stage = dataclasses.replace(stage, linear=linear)
            x = x.through(stage, unit_roundoff(inner, x))
        return _activated(inner, x)
    parts = [
        enclosed(inner, x.copied(operator.itemgetter(step)), affine)
        for step in range(steps)
    ]
    parts = [part.copied(operator.itemgetter(None)) for part in parts]
    return concatenated(parts, axis=1)


@enclose.register(keras.layers.Dot)
def _(layer, x, affine):
    if layer.normalize:
        raise NotImplementedError(
            f"There is no local bound for {layer.name!r}, a Dot with "
            "normalize=True, which is no polynomial."
        )
    return contractions.dot(*_cast(layer, x), layer.axes)


@enclose.register(keras.layers.Add)
def _(layer, x, affine):
    return _sum(layer, x)


def _sum(layer, terms):
    first, *rest = _cast(layer, terms)
    for term in rest:
        shapes = (None, *first.shape), (None, *term.shape)
        norms.check_addition(layer, *shapes)
        first = first + term
    return first


@enclose.register(keras.layers.Subtract)
def _(layer, x, affine):
    first, second = _cast(layer, x)
    return first - second


@enclose.register(keras.layers.Average)
def _(layer, x, affine):
    return _sum(layer, x) * (1 / len(x))


@enclose.register(keras.layers.Multiply)
def _(layer, x, affine):
    return functools.reduce(lambda a, b: a * b, _cast(layer, x))


@enclose.register(keras.layers.Concatenate)
def _(layer, x, affine):
    return concatenated(_cast(layer, x), layer.axis)


def _cast(layer, enclosures):
    """Returns the inputs of a layer in its dtype."""
    return [x.cast(unit_roundoff(layer, x)) for x in enclosures]


@enclose.register(layers.CCP | layers.NCP)
def _(layer, x, affine):
    factors = _factors(layer, x, affine)
    x = _through(layer.output_map, hidden(layer, factors, affine), affine)
    # Half precision multiplies in single precision.
    return _cast(layer, [x])[0]


def hidden(layer, factors, affine):
    """Encloses what a dense polynomial's recursion makes of its factors.

    Args:
        layer: The `CCP` or `NCP`.
        factors: List of the enclosures of its factors.
        affine: The `networks.Maps` of the layers.
    """
    if isinstance(layer, layers.CCP):
        return recursions.ccp(factors)
    first, *rest = layer.state_maps
    constant = norms.values(first.kernel)[0]
    skips = None
    if isinstance(layer, layers.NCPSkip):
        skips = [
            functools.partial(_through, skip, affine=affine)
            for skip in layer.skip_maps
        ] or [lambda state: state] * len(rest)
    maps = [functools.partial(_through, s, affine=affine) for s in rest]
    return recursions.ncp(factors, constant, maps, skips)


@enclose.register
def _(layer: layers.CCPConv2D, x, affine):
    def pooled(y, times):
        for _ in range(int(times)):
            y = _through(layer.pooling, y, affine)
        return y

    def terms(n):
        # The weights of a pooled factor are averages of the kernel's.
        strides, _ = layer.pooled_window(n)
        return layer.products_an_output(n) + math.prod(strides)

    factors = [
        pooled(factor, layer.poolings(n))
        for n, factor in enumerate(_factors(layer, x, affine, terms), start=1)
    ]
    x = recursions.ccp(
        factors, between=lambda n, y: pooled(y, n in layer.pool_after)
    )
    return _cast(layer, [x])[0]


@enclose.register
def _(layer: layers.ProdPoly, x, affine):
    (x,) = _cast(layer, [x])
    for polynomial in layer.polynomials:
        x = enclosed(polynomial, x, affine)
    return x


@enclose.register
def _(layer: layers.QuadraticLayer, x, affine):
    (x,) = _cast(layer, [x])
    outputs = of_neurons(layer, x, functools.partial(_through, affine=affine))
    if layer.bias is not None:
        sizes = [1] * len(outputs.shape)
        first = getattr(layer, "data_format", None) == "channels_first"
        sizes[0 if first else -1] = -1
        bias = norms.values(layer.bias).reshape(sizes)
        outputs = outputs + bias
    # Half precision multiplies in single precision.
    return _cast(layer, [_activated(layer, outputs)])[0]


def of_neurons(layer, x, apply):
    """Returns what quadratic neurons make of an input, without their bias.

    Args:
        layer: The `QuadraticLayer`.
        x: What stands for its input: it multiplies, and adds.
        apply: Callable `(layer, x)`, what a linear layer makes of it.
    """
    maps = {}
    for role, branch in layer.branches().items():
        y = apply(branch, x * x if role == "power" else x)
        if layer.branch_normalization:
            y = apply(getattr(layer, f"{role}_normalization"), y)
        maps[role] = y
    return layer._neuron.combine(maps)


def _through(layer, x, affine):
    """Encloses what a linear layer yields, without its activation."""
    norms.check_call(layer, layer_maps.affine, enclose)
    return x.through(affine(layer, x.shape), unit_roundoff(layer, x))


def _factors(layer, x, affine, terms=None):
    """Returns the enclosures of the factors of a polynomial.

    Args:
        layer: The polynomial layer.
        x: The enclosure of its input.
        affine: The `networks.AffineMaps`.
        terms: A callable from the order of a factor to the number of terms
            that the layer sums for it, by default those of the map.
    """
    x, unit = intervals.evaluated(x), unit_roundoff(layer.factors)
    maps = affine.parts(layer.factors, x.shape, layer.order)
    if terms is not None:
        maps = [
            part.with_terms(terms(n)) for n, part in enumerate(maps, start=1)
        ]
    return [x.through(part, unit) for part in maps]


def concatenated(enclosures, axis):
    """Returns enclosures side by side, as the sum of padded ones.

    Args:
        enclosures: List of enclosures.
        axis: Integer, the axis, counted with the batch.
    """
    total, before = None, 0
    if axis % (len(enclosures[0].shape) + 1) == 0:
        raise NotImplementedError(
            "There is no bound for examples that are concatenated along the "
            "axis of the batch (axis=0). Concatenate them along another one."
        )
    where = axis % (len(enclosures[0].shape) + 1) - 1
    sizes = [x.shape[where] for x in enclosures]
    for x, size in zip(enclosures, sizes, strict=True):
        pads = [(0, 0)] * len(x.shape)
        pads[where] = before, sum(sizes) - before - size
        pad = functools.partial(np.pad, pad_width=pads, constant_values=-1)
        padded = x.copied(pad)
        total = padded if total is None else total + padded
        before += size
    return total
