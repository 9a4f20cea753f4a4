"""The quadratic neurons of the literature: one formula over linear maps."""

import dataclasses

import keras
from keras import ops

from keras_polynets._errors import unknown_name

ROLES = ("linear", "gate", "power", "addend")

_FAN = (
    'Fan et al., "On Expressivity and Trainability of Quadratic Networks", 2021'
)
_TSAPANOS = (
    'Tsapanos et al., "Neurons with Paraboloid Decision Boundaries for '
    'Improved Neural Network Classification Performance", TNNLS 2018'
)
_CHRYSOS = (
    'Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020'
)
_BU = (
    'Bu and Karpatne, "Quadratic Residual Networks: A New Class of Neural '
    "Networks for Solving Forward and Inverse Problems in Physics Involving "
    'PDEs", SDM 2021'
)
_XU = (
    'Xu et al., "QuadraLib: A Performant Quadratic Neural Network Library for '
    'Architecture Optimization and Design Exploration", MLSys 2022'
)
_GOYAL = (
    'Goyal et al., "Improved Polynomial Neural Networks with Normalised '
    'Activations", IJCNN 2020'
)


def quadratic(linear=None, gate=None, power=None, addend=None):
    """The formula of every quadratic neuron: `linear * gate + power + addend`.

    Args:
        linear: What the first linear map yields, or `None`.
        gate: The second factor of the product; `None` stands for 1.
        power: What a linear map of the squared input yields; `None` for 0.
        addend: A further first-order term; `None` for 0.

    Returns:
        The value of the neuron before its activation.
    """
    product = linear if gate is None else linear * gate
    first, *others = [t for t in (product, power, addend) if t is not None]
    for term in others:
        first = first + term
    return first


@dataclasses.dataclass(frozen=True)
class Neuron:
    """One quadratic neuron: which linear maps stand where in the formula.

    Args:
        name: The value of the argument `neuron` of quadratic layers.
        formula: The formula, as text.
        paper: Where it was proposed.
        terms: Dictionary from the arguments of `quadratic` to the branch that
            stands there: `"linear"`, `"gate"`, `"power"` or `"addend"`. A
            branch may stand twice.
        use_bias: Whether the neuron has biases by default.
        outer_bias: Whether its one bias is added to the whole neuron, instead
            of one to every branch.
        first_order: Dictionary from a branch to the `(kernel, bias)` at which
            the neuron equals its linear branch: ReLinear's initialisation.
            `None` where no such point exists.
    """

    name: str
    formula: str
    paper: str
    terms: dict
    use_bias: bool = True
    outer_bias: bool = False
    first_order: dict | None = None

    @property
    def branches(self):
        """The names of the linear maps that the neuron owns, in order."""
        return tuple(r for r in ROLES if r in self.terms.values())

    def combine(self, maps):
        """Returns the neuron's value before its activation.

        Args:
            maps: Dictionary from each of `branches` to what it yields.
        """
        return quadratic(**{k: maps[b] for k, b in self.terms.items()})

    @property
    def parameters(self):
        """The number of parameters of a neuron with `n` inputs, as text."""
        biases = 1 if self.outer_bias else len(self.branches)
        return _count(len(self.branches), biases if self.use_bias else 0)

    @property
    def multiplications(self):
        """The number of multiplications of a neuron alone, as text.

        The `n` squares are computed once for all neurons of a layer.
        """
        squares = int("power" in self.branches)
        return _count(len(self.branches) + squares, int("gate" in self.terms))


def _count(slope, constant):
    text = "n" if slope == 1 else f"{slope}n"
    return f"{text} + {constant}" if constant else text


_PRODUCT = {"linear": "linear", "gate": "gate"}
_GATE, _POWER = {"gate": (0.0, 1.0)}, {"power": (0.0, 0.0)}

NEURONS = {
    neuron.name: neuron
    for neuron in (
        Neuron(
            "full",
            "(W_r x + b_r) * (W_g x + b_g) + W_b x² + c",
            _FAN,
            {**_PRODUCT, "power": "power"},
            first_order=_GATE | _POWER,
        ),
        Neuron(
            "compact",
            "W_r x + b_r + W_b x² + c",
            _FAN,
            {"linear": "linear", "power": "power"},
            first_order=_POWER,
        ),
        Neuron(
            "parabolic",
            "(W_r x + b_r) * (W_g x + b_g)",
            _TSAPANOS,
            _PRODUCT,
            first_order=_GATE,
        ),
        Neuron(
            "poly",
            "(W_g x) * (W_r x) + W_r x",
            _CHRYSOS,
            {**_PRODUCT, "addend": "linear"},
            use_bias=False,
            outer_bias=True,
            first_order={"gate": (0.0, 0.0)},
        ),
        Neuron(
            "qres",
            "(W_g x) * (W_r x) + W_r x + b",
            _BU,
            {**_PRODUCT, "addend": "linear"},
            outer_bias=True,
            first_order={"gate": (0.0, 0.0)},
        ),
        Neuron(
            "quadralib",
            "(W_a x + b_a) * (W_b x + b_b) + W_c x + b_c",
            _XU,
            {**_PRODUCT, "addend": "addend"},
            first_order={**_GATE, "addend": (0.0, 0.0)},
        ),
        Neuron("goyal", "W x² + b", _GOYAL, {"power": "power"}),
        Neuron("type2", "W x²", _XU, {"power": "power"}, use_bias=False),
        Neuron(
            "type3",
            "(W x)²",
            _XU,
            {"linear": "linear", "gate": "linear"},
            use_bias=False,
        ),
        Neuron("type4", "(W_a x) * (W_b x)", _XU, _PRODUCT, use_bias=False),
        Neuron(
            "type2_4",
            "(W_a x) * (W_b x) + W_c x²",
            _XU,
            {**_PRODUCT, "power": "power"},
            use_bias=False,
        ),
    )
}


def get(name, use_bias=None):
    """Returns the `Neuron` of a name.

    `"poly"` with a bias is `"qres"`, and `"qres"` without one is `"poly"`.

    Args:
        name: String, one of `NEURONS`.
        use_bias: Boolean, or `None` for the neuron's default.

    Raises:
        ValueError: If there is no neuron of this name.
    """
    if not isinstance(name, str) or name not in NEURONS:
        raise unknown_name("neuron", name, NEURONS)
    if name in ("poly", "qres") and use_bias is not None:
        name = "qres" if use_bias else "poly"
    return NEURONS[name]


@keras.saving.register_keras_serializable(package="keras_polynets")
def square(x):
    """The activation `x * x`, the baseline of networks of quadratic neurons.

    Keras has no such activation. Saved models know it by its registered name.

    Args:
        x: Tensor.

    Returns:
        Tensor of the same shape and dtype.

    Example:

    >>> layer = keras.layers.Dense(8, activation=keras_polynets.layers.square)
    """
    return ops.square(x)
