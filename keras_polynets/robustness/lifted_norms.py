"""What the paper's algorithm bounds, and what its theorem asks for."""

import dataclasses
import functools

import numpy as np

from keras_polynets import layers
from keras_polynets.robustness import theorems
from keras_polynets.robustness.affine_maps import with_constant

# The largest d ** N for which the matrix of NCP is formed.
SIZE_LIMIT = 10**8


@dataclasses.dataclass(frozen=True)
class LiftedNorms:
    """The ℓ∞ operator norm of a polynomial's lifted matrix, and its bound.

    Args:
        theoretical: Float, the norm of the matrix in the theorem.
        algorithmic: Float, the product of the norms of its factors, which the
            projection controls.
    """

    theoretical: float
    algorithmic: float

    @property
    def ratio(self):
        """The theoretical norm over its algorithmic bound, in [0, 1]."""
        if self.algorithmic == 0:
            return 1.0
        return self.theoretical / self.algorithmic


@functools.singledispatch
def lifted_norms(layer, constant=True):
    """The norm of a polynomial's lifted matrix and the paper's bound of it.

    A polynomial of order `N` without biases is `C Phi (z kron ... kron z)`.
    Theorems 1 and 3 ask for `||Phi||_inf`; the projection of the paper's
    algorithm controls the product of the norms of the matrices of which `Phi`
    is made, which Lemmas 1 and 2 show to be larger.

    - CCP: `Phi` is the face-splitting product of all `U_n`, whose row is the
      Kronecker product of the rows. Its norm is the largest over rows of the
      product of the rows' ℓ1 norms: exact at any size.
    - NCP: `Phi` is `(A_N • S_N)` times the products `I kron (A_n • S_n)`. It
      is formed, order by order, where `d ** N` is at most 1e8.

    Args:
        layer: A built `keras_polynets.layers.CCP` or `NCP` (not `NCPSkip`,
            which the paper leaves out).
        constant: Boolean, whether input and state have the component 1 that
            absorbs the skips of CCP, the constants of NCP and the biases
            (Lemmas 11 and 12). Without it `U_n`, `A_n` and `S_n` themselves
            are multiplied.

    Returns:
        A `LiftedNorms`: `theoretical`, `algorithmic` and their `ratio`.

    Raises:
        ValueError: If `d ** N` is too large for NCP; the message has the
            size.
        NotImplementedError: For other layers.

    Example:

    >>> model = keras_polynets.zoo.load("pn4.fashion_mnist_projected")
    >>> layer = model.get_layer("polynomial")
    >>> keras_polynets.robustness.lifted_norms(layer).ratio

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Theorems 1 and 3, Lemmas 1 and
          2, Appendix H.1.
    """
    raise NotImplementedError(
        "The lifted matrix is that of `CCP` or `NCP`. Received "
        f"{layer.name!r} of class {type(layer).__name__}. Pass the polynomial "
        "layer of a model: `model.get_layer(name)`."
    )


@lifted_norms.register
def _(layer: layers.CCP, constant=True):
    factors = theorems.split_factors(layer)
    matrices = [
        with_constant(f.matrix, f.bias + (n > 0)) if constant else f.matrix
        for n, f in enumerate(factors)
    ]
    rows = np.stack([np.abs(matrix).sum(axis=1) for matrix in matrices])
    return LiftedNorms(
        float(rows.prod(axis=0).max()), float(rows.max(axis=1).prod())
    )


@lifted_norms.register
def _(layer: layers.NCP, constant=True):
    if isinstance(layer, layers.NCPSkip):
        raise NotImplementedError(
            f"Layer {layer.name!r} is an NCPSkip, whose lifted matrix is not "
            "the paper's. Expected a `CCP` or an `NCP`."
        )
    factors = theorems.split_factors(layer)
    first, states = theorems.ncp_states(layer)
    matrices = [_absorbed(f, constant) for f in factors]
    states = [_state(s, constant) for s in states]
    first = np.append(1.0, first) if constant else first
    size = matrices[0].shape[1] ** layer.order
    if size > SIZE_LIMIT:
        raise ValueError(
            f"The lifted matrix of {layer.name!r} has {size:,} columns (the "
            f"dimension {matrices[0].shape[1]:,} to the power of its order "
            f"{layer.order}). It is formed up to {SIZE_LIMIT:,}: take fewer "
            "inputs or a lower order."
        )
    algorithmic = float(np.abs(first).max())
    for matrix in (*matrices, *states):
        algorithmic *= float(np.linalg.norm(matrix, np.inf))
    lifted = first[:, None] * matrices[0]
    for matrix, state in zip(matrices[1:-1], states[:-1], strict=True):
        lifted = np.einsum("ri,rj->rij", matrix, state @ lifted)
        lifted = lifted.reshape(len(matrix), -1)
    rows = np.abs(lifted).sum(axis=1)
    if states:
        # The norm of a Kronecker product of rows is that of their norms.
        rows = np.abs(states[-1] @ lifted).sum(axis=1)
        rows = rows * np.abs(matrices[-1]).sum(axis=1)
    return LiftedNorms(float(rows.max()), algorithmic)


def _absorbed(affine, constant):
    if not constant:
        return affine.matrix
    return with_constant(affine.matrix, affine.bias)


def _state(affine, constant):
    """Returns `S'_n = [1 0; b_n S_n]`, or `S_n`."""
    if not constant:
        return affine.matrix
    first = np.zeros((1, affine.matrix.shape[1] + 1))
    first[0, 0] = 1.0
    return np.vstack([first, np.column_stack([affine.bias, affine.matrix])])
