"""Fully connected quadratic networks, and the polynomials that they are."""

import dataclasses
import itertools

import keras
import numpy as np
from keras import ops
from numpy.polynomial import polynomial

from keras_polynets.layers.quadratic import QuadraticLayer


@keras.saving.register_keras_serializable(package="keras_polynets")
class ParallelDense(keras.layers.EinsumDense):
    """A dense layer of each of several networks that do not see each other."""

    def __init__(self, networks, units, use_bias=True, **kwargs):
        super().__init__(
            "bni,niu->bnu",
            output_shape=(networks, units),
            bias_axes="nu" if use_bias else None,
            **kwargs,
        )
        self.networks, self.units = networks, units


@keras.saving.register_keras_serializable(package="keras_polynets")
class ParallelQuadraticDense(QuadraticLayer):
    """A layer of quadratic neurons of each of several networks."""

    _map_class = ParallelDense
    _geometry = ("networks", "units")


def quadratic_mlp(widths, networks=1, neuron="full", activation="relu"):
    """Builds fully connected quadratic networks that train side by side.

    Networks this small cost as much alone as many of them together.

    Args:
        widths: Integers: the inputs, the units of each layer. The last layer
            has no activation.
        networks: Integer, how many networks there are.
        neuron: The quadratic neuron, as in `layers.QuadraticDense`.
        activation: The activation of the other layers.

    Returns:
        A `keras.Sequential` whose inputs and outputs have the shape
        `(batch_size, networks, width)`.
    """
    last = len(widths) - 2
    dtype = keras.config.dtype_policy().variable_dtype
    return keras.Sequential(
        [
            keras.Input((networks, widths[0]), dtype=dtype),
            *(
                ParallelQuadraticDense(
                    networks=networks,
                    units=units,
                    neuron=neuron,
                    activation=None if i == last else activation,
                    name=f"quadratic_{i}",
                )
                for i, units in enumerate(widths[1:])
            ),
        ]
    )


def initialize(model, seeds, quadratic_terms=False):
    """Draws the weights of each network of `quadratic_mlp` with its own seed.

    They are uniform in ±1/√fan_in, biases too.

    Args:
        model: What `quadratic_mlp` returned.
        seeds: Integers, one a network: the same network has the same weights
            in any company.
        quadratic_terms: Boolean, whether the gates and powers are drawn too.
            Else they stay where they are: by default, where the network is a
            conventional one.
    """
    for number, layer in enumerate(model.layers):
        for order, (role, branch) in enumerate(layer.branches().items()):
            if role != "linear" and not quadratic_terms:
                continue
            bound = branch.kernel.shape[1] ** -0.5
            for variable in branch.trainable_variables:
                draws = [
                    np.random.default_rng(
                        [seed, number, order, variable.ndim]
                    ).uniform(-bound, bound, variable.shape[1:])
                    for seed in seeds
                ]
                variable.assign(np.stack(draws))


@dataclasses.dataclass(frozen=True)
class Piece:
    """An interval on which a network is one polynomial.

    Args:
        low: Where it begins.
        high: Where it ends.
        coefficients: Array `(outputs, degree + 1)`, those of the powers of the
            input, the constant first.
    """

    low: float
    high: float
    coefficients: np.ndarray


def polynomial_pieces(model, network=0, low=-1.0, high=1.0):
    """Finds the polynomials that a ReLU network of one input consists of.

    A quadratic network whose activations are ReLU is a polynomial wherever no
    activation changes sign. The pieces are found layer by layer, from the real
    roots of the polynomials before each activation, in float64.

    Args:
        model: What `quadratic_mlp` returned, with one input, full neurons and
            ReLU (or no) activations.
        network: Integer, which of its networks.
        low: Float, where the interval begins.
        high: Float, where it ends.

    Returns:
        List of `Piece`, from left to right, of degree `2 ** len(layers)`.
    """
    pieces = [Piece(low, high, np.array([[0.0, 1.0]]))]
    for layer in model.layers:
        weights = {
            role: [
                np.asarray(ops.convert_to_numpy(v)[network], np.float64)
                for v in (branch.kernel, branch.bias)
            ]
            for role, branch in layer.branches().items()
        }
        pieces = [
            Piece(p.low, p.high, _neurons(p.coefficients, weights))
            for p in pieces
        ]
        if layer.activation is not keras.activations.linear:
            pieces = [part for p in pieces for part in _relu(p)]
    return pieces


def _neurons(inputs, weights):
    """Returns the polynomials of full neurons of inputs that are polynomials"""

    def affine(coefficients, role):
        kernel, bias = weights[role]
        outputs = kernel.T @ coefficients
        outputs[:, 0] += bias
        return outputs

    def product(left, right):
        return np.array(list(map(np.convolve, left, right)))

    return product(affine(inputs, "linear"), affine(inputs, "gate")) + affine(
        product(inputs, inputs), "power"
    )


def _relu(piece):
    """Cuts a piece where units change sign, and zeroes those below 0."""
    cuts = {piece.low, piece.high}
    for unit in piece.coefficients:
        roots = polynomial.polyroots(polynomial.polytrim(unit))
        # Double roots come out with small imaginary parts. A cut too many is
        # undone below.
        real = roots.real[np.abs(roots.imag) < 1e-6]
        cuts.update(real[(real > piece.low) & (real < piece.high)])
    parts = []
    for low, high in itertools.pairwise(sorted(cuts)):
        middle = polynomial.polyval((low + high) / 2, piece.coefficients.T)
        active = middle > 0
        if parts and np.array_equal(parts[-1][2], active):
            low = parts.pop()[0]
        parts.append((low, high, active))
    return [
        Piece(low, high, piece.coefficients * active[:, None])
        for low, high, active in parts
    ]
