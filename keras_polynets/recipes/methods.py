"""The sections of a recipe that change how a model is trained, with checks."""

import dataclasses

from keras_polynets import constraints
from keras_polynets import robustness
from keras_polynets._errors import unknown_name
from keras_polynets.callbacks.projection import NORMS
from keras_polynets.recipes.sections import require


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Start from the weights of another network: weight transfer.

    `convert.transfer_weights` puts them into the recipe's model, such as those
    of a conventional network into the quadratic one of the same layout. They
    come from a file, or from a training of that network, which then is the
    first part of the run, in its folder `source`. It has the seed, the data
    and the devices of the run; the rest is in its own recipe.

    Args:
        recipe: The recipe of the other network: `NAME.TAG`, or a `.toml` file.
        epochs: The epochs of its training, whose last weights are taken, while
            its schedule stays as it is; 0 for all.
        weights: Path of a file of its weights, or empty to train it.
        changes: Keys of its recipe to change, such as
            `{"overrides": {"width": 8}}`.
    """

    recipe: str = ""
    epochs: int = 0
    weights: str = ""
    changes: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        require(
            self.recipe, "transfer.recipe", self.recipe, "the name of a recipe"
        )
        require(self.epochs >= 0, "transfer.epochs", self.epochs, "at least 0")
        require(
            not (self.epochs and self.weights),
            "transfer.epochs",
            self.epochs,
            "0 where transfer.weights names a file, which is not trained",
        )


@dataclasses.dataclass(frozen=True)
class Projection:
    """The arguments of `callbacks.PeriodicProjection`.

    Args:
        max_value: The bound of all layers.
        every: Optimizer steps from one projection to the next.
        start_epoch: The first epoch that projects.
        joint_bias: Whether biases are projected with the weights.
        norm: "linf" or "spectral".
        layers: Table from the name of a layer to its bound, or to an array of
            bounds, one an order; where there is one, `max_value` does not
            count and other layers are left alone.
    """

    max_value: float = 1.0
    every: int = 10
    start_epoch: int = 0
    joint_bias: bool = True
    norm: str = "linf"
    layers: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for key, low in (("max_value", 0), ("every", 0), ("start_epoch", -1)):
            value = getattr(self, key)
            expected = "above 0" if low == 0 else "at least 0"
            require(value > low, f"projection.{key}", value, expected)
        if self.norm not in NORMS:
            raise unknown_name("norm of a projection", self.norm, NORMS)
        for name, value in self.layers.items():
            require(
                _is_bound(value),
                f"projection.layers.{name}",
                value,
                "a number above 0 or an array of such numbers",
            )


def _is_bound(value):
    try:
        constraints.check_bound(value)
    except (TypeError, ValueError):
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """The arguments of `trainers.AdversarialTraining`.

    Args:
        attack: The attack, as `robustness.parse_attack` reads it.
        warmup_epochs: The first epochs, which train without it.
    """

    attack: str = "fgsm:0.1"
    warmup_epochs: int = 0

    def __post_init__(self):
        robustness.parse_attack(self.attack)
        require(
            self.warmup_epochs >= 0,
            "adversarial.warmup_epochs",
            self.warmup_epochs,
            "at least 0",
        )


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """The arguments of `regularizers.JacobianPenalty`.

    Args:
        weight: The strength of the penalty.
        projections: The random directions that estimate the norm; 0 for the
            exact norm.
    """

    weight: float = 0.01
    projections: int = 1

    def __post_init__(self):
        for key in ("weight", "projections"):
            value = getattr(self, key)
            require(value >= 0, f"jacobian.{key}", value, "at least 0")
