"""Upper bounds of the Rademacher complexity of polynomial networks."""

import math

import keras
import numpy as np

from keras_polynets import layers
from keras_polynets._errors import check_positive_integer
from keras_polynets.robustness import bounds
from keras_polynets.robustness import chains
from keras_polynets.robustness import norms
from keras_polynets.robustness import operator_norms
from keras_polynets.robustness import theorems


def rademacher_bound(model, num_samples, p=np.inf, radius=None):
    """Upper bound of the empirical Rademacher complexity of a network's class.

    The class holds the functions of one output `f(z) = <c, Phi z^k>`, with
    `z^k` the `k`-th Kronecker power of the input, for which `c` and `Phi` are
    no larger than the model's: `||c|| <= mu` and `||Phi||_p <= lambda`. On
    `num_samples` inputs of the set `||z||_p <= radius` its complexity is at
    most

        2 mu lambda sqrt(2 k log(d) / num_samples)    p = inf, Theorems 1, 3
        mu lambda rho**k / sqrt(num_samples)          p = 2,   Theorems 6, 8

    - `k` is the degree of the polynomial.
    - `d` is the dimension of the input, plus one for the component that is
      always 1 and absorbs constants (Lemmas 11 and 12, scaled by `radius`:
      see `keras_polynets.robustness.theorems`). A dimension of 1 counts as 2,
      from which on the theorem's last step holds.
    - `rho` bounds the norm of the scaled input: `sqrt(2)` with the component
      1, else 1.
    - `mu` is the largest norm of an output unit's weights, the bias joined:
      ℓ1 for `p = inf`, ℓ2 for `p = 2`.
    - `lambda` is the algorithmic bound of `||Phi||_p` of Lemmas 1 and 2: the
      product of the operator norms of all matrices. For NCP-Skip each factor
      is that of NCP plus the norm of the skip.

    A layer before a polynomial of order `N` enters `lambda` with its power
    `N`, since `(W z)^N = W^N z^N`, one behind it once; the matrix of an affine
    layer is `[1 0; b W]`, and average poolings have norm 1. In `pn_conv` the
    first convolution comes before, the matrices are the orders' convolutions,
    whose norm is that of their kernels (Theorem 5), and the last dense layer
    yields `mu`. Products of polynomials compose in the same way.

    Args:
        model: A built model whose layers form a chain, or a layer. Known are
            the layers of `lipschitz_bound`.
        num_samples: Positive integer, the size of the sample.
        p: `float("inf")` or 2, the order of the norm of the inputs.
        radius: As in `lipschitz_bound`.

    Returns:
        Float. Infinity where the bound exceeds float64.

    Raises:
        ValueError: If `num_samples`, `p` or `radius` is not as above, if the
            model is not a chain or leaves the shape of its input open, or if
            a layer is not built, holds NaN or has an activation.
        NotImplementedError: If a layer is not known.

    Example:

    >>> model = keras_polynets.zoo.load("pn4", weights=None)
    >>> keras_polynets.robustness.rademacher_bound(model, num_samples=60_000)

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Theorems 1, 3, 6 and 8,
          Lemmas 1 and 2.
    """
    check_positive_integer("num_samples", num_samples)
    if p not in (2, np.inf):
        raise ValueError(
            "Argument `p` must be 2 or `float('inf')`, for which the paper "
            f"bounds the Rademacher complexity. Received: p={p!r}"
        )
    scale = bounds.input_region(model, p, radius).radius
    leaves = chains.leaves(model, theorems.product_form)
    maps = [layer for layer in leaves if not _has_norm_one(layer, p)]
    if not maps:
        raise ValueError(f"Model {model.name!r} has no layer with weights.")
    degree, lifted, forms = 1, 1.0, []
    for layer in maps:
        form = _form(layer, 1.0 if forms else scale, p, len(maps) > 1)
        if forms:
            lifted *= _norm_with_constant(forms[-1].output, p)
        degree *= form.order
        lifted = _power(lifted, form.order) * form.lifted_norm()
        forms.append(form)
    mu = float(np.max(np.linalg.norm(form.output, {2: 2}.get(p, 1), axis=1)))
    if p == 2:
        rho = forms[0].input_norm(p)
        return mu * lifted * _power(rho, degree) / math.sqrt(num_samples)
    size = _input_size(model) + forms[0].has_constant
    spread = math.sqrt(2 * degree * math.log(max(size, 2)) / num_samples)
    return 2 * mu * lifted * spread


def global_bounds(model, num_samples, p=np.inf, radius=None):
    """Returns the bounds of a model over a whole set, `None` without one.

    Args:
        model: A built model.
        num_samples: As in `rademacher_bound`.
        p: As in `lipschitz_bound`.
        radius: As in `lipschitz_bound`.

    Returns:
        Dictionary with `lipschitz_bound` and `rademacher_bound`.

    Raises:
        ValueError: If an argument beside the model is not as above.
    """
    check_positive_integer("num_samples", num_samples)
    norms.check_p(p)
    if radius is not None:
        bounds.check_radius(radius)

    def defined(function, *arguments):
        try:
            return float(function(*arguments))
        except (NotImplementedError, ValueError):
            # What is left to be wrong is the model.
            return None

    rademacher = None
    # The paper bounds the complexity for these two norms.
    if p in (2, np.inf):
        rademacher = defined(rademacher_bound, model, num_samples, p, radius)
    return {
        "lipschitz_bound": defined(bounds.lipschitz_bound, model, p, radius),
        "rademacher_bound": rademacher,
    }


def _form(layer, scale, p, constant):
    many = isinstance(layer, norms.CONVOLUTIONS | layers.CCPConv2D)
    if (p != np.inf and many) or bounds.positions(layer, p) > 1:
        raise ValueError(
            f"Layer {layer.name!r} acts at several positions, for which the "
            "complexity is bounded for p=float('inf') only. Flatten its input."
        )
    if hasattr(layer, "activation"):
        bounds.check_no_activation(layer)
    if isinstance(layer, layers.NCP):
        # A skip is lifted to the next order by the component 1, and the
        # output's bias is a weight of the class.
        constant |= isinstance(layer, layers.NCPSkip)
        constant |= bool(theorems.output_map(layer).bias.any())
    return theorems.product_form(layer, scale, p, constant)


def _has_norm_one(layer, p):
    if isinstance(layer, norms.POOLINGS):
        return operator_norms.operator_norm(layer, p) <= 1.0
    return isinstance(layer, bounds.ISOMETRIES)


def _norm_with_constant(output, p):
    one = np.zeros((1, output.shape[1]))
    one[0, 0] = 1.0
    return float(np.linalg.norm(np.vstack([one, output]), p))


def _power(base, exponent):
    # Python raises where NumPy would warn: the bound is then infinite.
    try:
        return base**exponent
    except OverflowError:
        return math.inf


def _input_size(model):
    if isinstance(model, keras.Model):
        shape = model.input_shape
    else:
        shape = model.get_build_config()["input_shape"]
    if None in shape[1:]:
        raise ValueError(
            "The bound depends on the dimension of the input, which "
            f"{model.name!r} leaves open: {tuple(shape)}. Build it with a "
            "fixed input shape."
        )
    return math.prod(shape[1:])
