"""Upper bounds of Lipschitz constants, layer by layer."""

import functools
import math
import numbers

import keras
import numpy as np

from keras_polynets import layers
from keras_polynets._errors import check_layer
from keras_polynets._errors import unknown_name
from keras_polynets.analysis import graphs
from keras_polynets.layers import recursions
from keras_polynets.robustness import affine_maps
from keras_polynets.robustness import chains
from keras_polynets.robustness import linear_extents
from keras_polynets.robustness import norms
from keras_polynets.robustness import operator_norms
from keras_polynets.robustness import theorems
from keras_polynets.robustness.enclosures import IDLE
from keras_polynets.robustness.enclosures import enclose
from keras_polynets.robustness.enclosures import of_neurons
from keras_polynets.robustness.extents import Extent
from keras_polynets.robustness.extents import constant

FORMS = ("auto", "theorem", "recursion")

_POLYNOMIAL = "Bounds exist for polynomial networks without activations."
ISOMETRIES = (
    keras.layers.InputLayer
    | keras.layers.Flatten
    | keras.layers.Reshape
    | keras.layers.Permute
    | keras.layers.Identity
    | keras.layers.Dropout
)


def lipschitz_bound(model, p=np.inf, radius=None, form="auto"):
    """Upper bound of the Lipschitz constant of a polynomial network.

    With it, no change of the input of `p`-norm `epsilon` inside the set looked
    at moves the outputs (logits) by more than `epsilon` times the bound. A
    polynomial has no global Lipschitz constant, so the bound belongs to a set
    of inputs, that of `radius`. Layers count as in inference; everything is
    computed in float64.

    `form` chooses how the polynomial layers are bounded:

    - `"theorem"`: the paper's Theorem 2 (CCP) and Theorem 4 (NCP), and
      Theorems 7 and 9 for other `p`: the order times the product of the
      operator norms of all matrices. The theorems know no biases; constants
      (the skip of CCP, the output's bias, `b_n` of NCP, biases of the factors)
      are absorbed by a component that is always 1, as in Lemmas 11 and 12.
      NCP-Skip, which the paper leaves out, follows in the same way; its
      factors `a_n s_n` become `a_n s_n + v_n` with `v_n` the norm of the skip
      `V_n`. `keras_polynets.robustness.theorems` has the formulas.
    - `"recursion"`: a bound `m_n` of `||x_n||` and one `l_n` of the Lipschitz
      constant of `x_n`, carried through the recursion by the product rule. For
      CCP with `u_n = ||U_n||` this is

          m_n = (R u_n + 1) m_{n-1}
          l_n = u_n m_{n-1} + (R u_n + 1) l_{n-1}

      Biases enter `m_n`. For `p` below infinity the Hadamard product is
      bounded by the largest component of one operand times the `p`-norm of
      the other. For NCP without biases and `p = inf` it equals Theorem 4.
    - `"auto"`: the smaller of both, for each polynomial layer.

    Args:
        model: A built functional or sequential model whose layers form a
            chain, or a layer. Known are `CCP`, `NCP`, `NCPSkip`, `CCPConv2D`,
            `ProdPoly`, quadratic layers, and the linear layers of Keras and of
            this package, such as `Dense`, convolutions, average poolings and
            `BatchNormalization`, all of them without activation. Other layers
            are taught by `keras_polynets.robustness.propagate.register`.
        p: 1, 2 or `float("inf")`, the order of the norm in inputs and outputs.
        radius: Positive float: the set is `||z||_p <= radius`, in the model's
            input units. By default the set is the model's valid range,
            `model.input_range`, whose radius is its largest absolute value for
            `p = inf`, and the radius of the ball around it otherwise. For
            layers, and for models without a range, it is the unit ball.
        form: `"auto"`, `"theorem"` or `"recursion"`.

    Returns:
        Float. Infinity where the bound exceeds float64.

    Raises:
        ValueError: If `p`, `radius` or `form` is not as above, if the model is
            not a chain, or if a layer is not built, holds NaN or has an
            activation.
        NotImplementedError: If there is no rule for a layer.

    Example:

    >>> model = keras_polynets.zoo.load("pn4", weights=None)
    >>> bound = keras_polynets.robustness.lipschitz_bound(model)

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Theorems 2, 4, 5, 7 and 9.
    """
    if form not in FORMS:
        raise unknown_name("form", form, FORMS)
    region = input_region(model, norms.check_p(p), radius)
    return propagate(model, region, p, form).lipschitz


def input_region(model, p, radius):
    """Returns the `Extent` of the identity on the set of inputs.

    Args:
        model: A model or a layer.
        p: The order of the norm.
        radius: The radius of the set, or `None` for the valid range.
    """
    check_layer(model)
    if graphs.is_graph(model) or not isinstance(model, keras.Model):
        norms.check_call(model, propagate)
    if radius is None and getattr(model, "input_range", None) is not None:
        peak = max(float(np.max(np.abs(side))) for side in model.input_range)
        size = math.prod(fixed(model.input_shape[1:], p, model))
        return Extent(peak * float(size) ** (1 / p), peak, 1.0)
    radius = 1.0 if radius is None else radius
    check_radius(radius)
    return Extent(float(radius), float(radius), 1.0)


def check_radius(radius):
    """Raises a `ValueError` unless a radius is positive and finite."""
    if not (isinstance(radius, numbers.Real) and 0 < radius < np.inf):
        raise ValueError(
            "Argument `radius` must be a positive finite number. "
            f"Received: radius={radius!r}"
        )


def fixed(dimensions, p, layer):
    """Returns dimensions that matter for finite `p`; none may be `None`."""
    if p == np.inf:
        return ()
    if None in dimensions:
        raise ValueError(
            f"For p={p} the bound depends on the size of the input, which "
            f"{layer.name!r} leaves open: {tuple(dimensions)}. Build it with a "
            "fixed input shape, or use p=float('inf')."
        )
    return dimensions


@functools.singledispatch
def propagate(layer, extent, p, form):
    """Carries bounds through one layer: the rules behind `lipschitz_bound`.

    A `functools.singledispatch` on the class of the layer. For a layer of your
    own register a rule with these arguments.

    Args:
        layer: A built layer or model.
        extent: The `Extent` of the layer's input, as a map of the network's
            input: `radius` bounds its `p`-norm, `peak` its largest component,
            `lipschitz` its Lipschitz constant.
        p: 1, 2 or `float("inf")`, the order of the norm.
        form: `"auto"`, `"theorem"` or `"recursion"`.

    Returns:
        The `Extent` of the layer's output.

    Raises:
        NotImplementedError: If no rule is registered for the layer.

    Example:

    >>> @keras_polynets.robustness.propagate.register
    ... def _(layer: keras.layers.ReLU, extent, p, form):
    ...     return extent
    """
    if type(layer) in IDLE:
        return extent
    if linear_extents.is_linear(layer):
        return _linear(layer, extent, p, form)
    name = type(layer).__name__
    is_enclosed = enclose.dispatch(type(layer)) is not enclose.dispatch(object)
    raise NotImplementedError(
        f"There is no rule for the Lipschitz constant of {layer.name!r}, a "
        f"{name}, over a whole set. "
        f"{chains.LOCAL if is_enclosed else _POLYNOMIAL} "
        "Bound the layers before and behind it one by one, or register a rule "
        f"with `keras_polynets.robustness.propagate.register({name})`."
    )


@propagate.register(linear_extents.LINEAR)
def _linear(layer, extent, p, form):
    if hasattr(layer, "activation"):
        check_no_activation(layer)
    return linear_extents.linear_extent(layer, extent, p)


@propagate.register(ISOMETRIES)
def _(layer, extent, p, form):
    return extent


@propagate.register
def _(layer: keras.layers.Activation, extent, p, form):
    check_no_activation(layer)
    return extent


@propagate.register(norms.POOLINGS)
def _(layer, extent, p, form):
    return extent.averaged(operator_norms.operator_norm(layer, p))


@propagate.register(norms.AFFINE)
def _(layer, extent, p, form):
    check_no_activation(layer)
    outputs = extent.affine(affine_maps.affine_map(layer), p)
    return outputs.repeated(positions(layer, p), p)


@propagate.register
def _(layer: keras.layers.Rescaling, extent, p, form):
    factor, shift = norms.rescaling(layer, p)
    return Extent(
        extent.radius * factor + shift,
        extent.peak * factor + shift,
        extent.lipschitz * factor,
    )


@propagate.register(layers.CCP | layers.NCP | layers.CCPConv2D)
def _(layer, extent, p, form):
    bounds = []
    if form != "recursion":
        product = theorems.product_form(layer, extent.radius, p)
        bias = theorems.output_map(layer).bias
        bounds.append(theorems.theorem_extent(product, extent, bias, p))
    if form != "theorem":
        hidden = recursion_extent(layer, extent, p)
        bounds.append(hidden.affine(theorems.output_map(layer), p))
    bound = functools.reduce(Extent.meet, bounds)
    return bound.repeated(positions(layer, p), p)


@propagate.register
def _(layer: layers.QuadraticLayer, extent, p, form):
    norms.check_one_shape(layer)

    def through(branch, extent):
        norms.check_call(branch, propagate)
        return propagate(branch, extent, p, form)

    outputs = of_neurons(layer, extent, through)
    if layer.bias is not None:
        shape = layer.compute_output_shape((None, *norms.example_shape(layer)))
        units = layer.bias.shape[0]
        times = math.prod(fixed(shape[1:], p, layer)) // units or 1
        bias = constant(norms.values(layer.bias), p).repeated(times, p)
        outputs = outputs + bias
    if layer.activation is layers.square:
        return outputs * outputs
    check_no_activation(layer)
    return outputs


@propagate.register
def _(layer: keras.layers.TimeDistributed, extent, p, form):
    norms.check_call(layer.layer, propagate)
    steps = fixed(norms.example_shape(layer)[:1], p, layer)
    extent = propagate(layer.layer, extent, p, form)
    return extent.repeated(math.prod(steps), p)


@propagate.register
def _(layer: layers.ProdPoly, extent, p, form):
    for polynomial in chains.polynomials(layer, propagate):
        extent = propagate(polynomial, extent, p, form)
    return extent


@propagate.register
def _(model: keras.Model, extent, p, form):
    for operation in chains.chain(model, propagate):
        extent = propagate(operation, extent, p, form)
    return extent


@functools.singledispatch
def recursion_extent(layer, extent, p):
    """Returns the extent of `x_N`: the layer's own recursion, on extents."""
    return recursions.ccp(_factor_extents(layer, extent, p))


@recursion_extent.register
def _(layer: layers.NCP, extent, p):
    first, rest = theorems.ncp_states(layer)
    return recursions.ncp(
        _factor_extents(layer, extent, p),
        constant(first, p),
        [_rule(affine, p) for affine in rest],
        [_rule(affine, p) for affine in theorems.ncp_skips(layer)],
    )


def _factor_extents(layer, extent, p):
    # A pooling of CCPConv2D has at most norm 1 and commutes with the bounds.
    factors = theorems.split_factors(layer)
    return [extent.affine(affine, p) for affine in factors]


def _rule(affine, p):
    return lambda extent: extent.affine(affine, p)


def check_no_activation(layer):
    """Raises a `ValueError` if a layer has an activation function."""
    if layer.activation is not keras.activations.linear:
        raise ValueError(
            f"Layer {layer.name!r} has the activation "
            f"{getattr(layer.activation, '__name__', layer.activation)!r}, for "
            "which no bound exists here. Polynomial networks have none: build "
            "the model without it, so that it yields logits."
        )


def positions(layer, p):
    """Returns to how many positions a layer applies, for finite `p`.

    Dense layers and polynomials act on the last axis, at every position of the
    axes before it. For `p = inf` their number does not matter. A convolution
    is one map of the whole image.

    Args:
        layer: A built layer.
        p: The order of the norm.
    """
    if p == np.inf or isinstance(layer, norms.CONVOLUTIONS | layers.CCPConv2D):
        return 1
    return math.prod(fixed(norms.example_shape(layer)[:-1], p, layer))
