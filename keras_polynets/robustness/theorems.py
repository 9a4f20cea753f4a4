"""The product form of polynomial networks, on which the theorems stand.

The theorems of the paper speak of polynomials without biases. Constants are
absorbed by one more component that is always 1, in the input and in the
hidden state. With `z' = [z / R; 1]`, `x' = [1; x]` and `R` the radius of the
set of inputs, so that both have components within [-1, 1]:

- CCP (Lemma 11) is `x'_1 = A_1 z'`, `x'_n = (A_n z') * x'_{n-1}` with
  `A_1 = [0 1; R U_1 c_1]` and `A_n = [0 1; R U_n (1 + c_n)]`, where `c_n` is
  the bias of the factor (zero in the paper). The skip of CCP has become the
  ones beside `U_n`.
- NCP (Lemma 12) is `x'_1 = (A_1 z') * S'_1`,
  `x'_n = (A_n z') * (S'_n x'_{n-1})` with `A_n = [0 1; R A_n a_n]`,
  `S'_1 = [1; b_1]`, `S'_n = [1 0; b_n S_n]`, where `a_n` is the bias of the
  factor. Where `a_n` and `b_2, ..., b_N` are zero the paper's recursion has no
  constant to absorb and stays as it is.
- NCP-Skip adds `V_n x_{n-1}`, which leaves the constant component alone.

The output is `C' x'_N` with `C' = [beta C]`.

Let `a_n`, `s_n`, `v_n`, `c` be the norms of `A_n`, `S'_n`, `V_n`, `C'` and
`rho` a bound of `||z'||_p`: 1 without the constant component, else
`2 ** (1 / p)`. From `||x * y|| <= ||x|| ||y||` follow for
`m_n >= ||x'_n||` and `l_n >= Lip(x'_n)`, seen as functions of `z / R`,

    m_n = (rho a_n s_n + v_n) m_{n-1},                    m_0 = 1
    l_n = a_n s_n m_{n-1} + (rho a_n s_n + v_n) l_{n-1},  l_0 = 0

and the bounds `c m_N` of the outputs and `c l_N / R` of the Lipschitz
constant. Without skips (`v_n = 0`) this is Theorems 2, 4, 7 and 9:
`N c prod(a_n s_n)` for `R = rho = 1`.
"""

import dataclasses
import functools

import keras
import numpy as np

from keras_polynets import layers
from keras_polynets.robustness import affine_maps
from keras_polynets.robustness import norms
from keras_polynets.robustness.affine_maps import AffineMap
from keras_polynets.robustness.extents import Extent


@dataclasses.dataclass(frozen=True)
class ProductForm:
    """The norms of the matrices of a polynomial in product form.

    Args:
        factors: The norms of `A_1, ..., A_N`, scaled by the radius.
        states: The norms of `S_1, ..., S_N`; ones for CCP.
        skips: The norms of `V_1, ..., V_N`, zeros without skips; `V_1 = 0`.
        output: The matrix `C'`, `[beta C]` or `C`.
        has_constant: Whether input and state have the component 1.
    """

    factors: tuple
    states: tuple
    skips: tuple
    output: np.ndarray
    has_constant: bool

    @property
    def order(self):
        return len(self.factors)

    def input_norm(self, p):
        """Returns `rho`, the bound of the norm of `z'`."""
        return 2.0 ** (1 / p) if self.has_constant else 1.0

    def hidden(self, p):
        """Returns `(m_N, l_N)`, the bounds of `x'_N` as in the module's text.

        Args:
            p: The order of the norm.
        """
        rho = self.input_norm(p)
        size, slope = 1.0, 0.0
        for a, s, v in zip(self.factors, self.states, self.skips, strict=True):
            growth = rho * a * s + v
            size, slope = growth * size, a * s * size + growth * slope
        return size, slope

    def lifted_norm(self):
        """Returns `prod(a_n s_n + v_n)`, a bound of the norm of `Phi`.

        `x'_N = Phi (z' kron ... kron z')`. By Lemmas 1 and 2 the norm of
        `Phi`, the face-splitting product of all matrices, is at most this
        product; a skip enters as `V_n x_{n-1}` times the component 1.
        """
        terms = zip(self.factors, self.states, self.skips, strict=True)
        return float(np.prod([a * s + v for a, s, v in terms]))


def theorem_extent(form, extent, bias, p):
    """Returns the extent behind a polynomial, by the theorems.

    Args:
        form: The `ProductForm` of the polynomial, scaled by `extent.radius`.
        extent: The `Extent` of its input.
        bias: The bias of the output, which a form without constant lacks.
        p: The order of the norm.
    """
    size, _ = form.hidden(p)
    output = float(np.linalg.norm(form.output, p))
    radius = output * size
    if not form.has_constant:
        radius += float(np.linalg.norm(bias, p))
    return Extent(radius, radius, output * hidden_slope(form, extent, p))


def hidden_slope(form, extent, p):
    """Returns the bound of the Lipschitz constant of `x'_N`.

    Args:
        form: As in `theorem_extent`.
        extent: As in `theorem_extent`.
        p: The order of the norm.
    """
    return form.hidden(p)[1] / _scale(extent.radius) * extent.lipschitz


def _scale(radius):
    # A map whose values are all zero needs no scaling.
    return radius or 1.0


def split_factors(layer):
    """Returns the list of the `AffineMap`s of a polynomial's factors.

    Args:
        layer: A polynomial layer, with `order` maps side by side in `factors`.
    """
    if isinstance(layer, layers.CCPConv2D):
        norms.check_one_shape(layer)
    return affine_maps.affine_maps(layer.factors, layer.order)


def output_map(layer):
    """Returns the `AffineMap` behind the recursion of a polynomial."""
    if hasattr(layer, "output_map"):
        return affine_maps.affine_map(layer.output_map)
    # The hidden map itself is the output: the identity, of norm 1.
    return AffineMap(np.ones((1, 1)), np.zeros(1))


@functools.singledispatch
def product_form(layer, radius, p, constant=False):
    """Returns the `ProductForm` of a layer.

    Args:
        layer: `CCP`, `CCPConv2D`, `NCP`, `NCPSkip` or an affine layer, built.
        radius: The radius of the set of inputs.
        p: The order of the norm.
        constant: Whether to add the component 1 where it is not needed.
    """
    raise NotImplementedError(
        f"There is no product form of {layer.name!r}, a "
        f"{type(layer).__name__}. Known are `CCP`, `NCP`, `NCPSkip`, "
        "`CCPConv2D` and `ProdPoly`, and affine layers: `Dense`, "
        "convolutions, average poolings and `Rescaling`."
    )


@product_form.register(norms.AFFINE)
def _(layer, radius, p, constant=True):
    affine = affine_maps.affine_map(layer)
    return _affine_form(_scale(radius) * affine.matrix, affine.bias)


@product_form.register
def _(layer: keras.layers.Rescaling, radius, p, constant=True):
    scale, offset = norms.rescaling(layer, p)
    return _affine_form(
        np.array([[_scale(radius) * scale]]), np.array([offset])
    )


def _affine_form(matrix, bias):
    # Of order 1, with the input itself as the hidden state.
    output = np.column_stack([bias, matrix])
    return ProductForm((1.0,), (1.0,), (0.0,), output, has_constant=True)


@product_form.register(layers.CCP | layers.CCPConv2D)
def _(layer, radius, p, constant=False):
    scale = _scale(radius)
    output = output_map(layer)
    return ProductForm(
        factors=tuple(
            factor.lifted_norm(scale, factor.bias + (n > 0), p)
            for n, factor in enumerate(split_factors(layer))
        ),
        states=(1.0,) * layer.order,
        skips=(0.0,) * layer.order,
        output=np.column_stack([output.bias, output.matrix]),
        has_constant=True,
    )


@product_form.register
def _(layer: layers.NCP, radius, p, constant=False):
    scale = _scale(radius)
    factors = split_factors(layer)
    first, rest = ncp_states(layer)
    constant = constant or any(a.bias.any() for a in (*factors, *rest))
    last = output_map(layer)
    output = last.matrix
    if constant:
        first = np.append(1.0, first)
        output = np.column_stack([last.bias, output])

    def size(affine, factor):
        if constant:
            return affine.lifted_norm(factor, affine.bias, p)
        return factor * affine.norm(p)

    skips = [v.norm(p) for v in ncp_skips(layer)] or [0.0] * len(rest)
    return ProductForm(
        factors=tuple(size(a, scale) for a in factors),
        # S_1 acts as a diagonal matrix, whose norm is its largest entry.
        states=(float(np.abs(first).max()), *(size(s, 1.0) for s in rest)),
        skips=(0.0, *skips),
        output=output,
        has_constant=bool(constant),
    )


def ncp_states(layer):
    """Returns `b_1` and the list of the maps of `S_n`, `n = 2, ..., N`."""
    first, *rest = layer.state_maps
    return norms.values(first.kernel)[0], [
        affine_maps.affine_map(s) for s in rest
    ]


def ncp_skips(layer):
    """Returns the list of the maps `V_n`, `n = 2, ..., N`; empty for NCP."""
    if not isinstance(layer, layers.NCPSkip):
        return []
    if layer.skip == "identity":
        one = AffineMap(np.eye(layer.rank), np.zeros(layer.rank))
        return [one] * (layer.order - 1)
    return [affine_maps.affine_map(skip) for skip in layer.skip_maps]
