"""The sections of a recipe, each with its defaults and checks."""

import dataclasses

from keras_polynets._errors import unknown_name
from keras_polynets.optimizers.relinear import SHRINKAGES

SCHEDULES = ("constant", "step", "cosine", "plateau")


def require(condition, key, value, expected):
    if not condition:
        raise ValueError(
            f"Recipe key {key!r} must be {expected}. Received: {value!r}"
        )


@dataclasses.dataclass(frozen=True)
class Data:
    """Which data, and how much of the training set selects the model.

    Args:
        name: A name or a path for `data.load`.
        validation: How many training examples are held out; 0 trains on all.
        validation_seed: Seed of the stratified split.
        archives: Folder of local archives for TFDS; `None` for the default.
        split: The argument `split` of `data.load`; empty for the default.
        own_validation: Whether the examples that the set itself holds out
            select the model; then `validation` is 0.
    """

    name: str = "fashion_mnist_sample"
    validation: int = 0
    validation_seed: int = 0
    archives: str | None = None
    split: str = ""
    own_validation: bool = False

    def __post_init__(self):
        require(self.name, "data.name", self.name, "a name or a path")
        require(
            not (self.validation and self.own_validation),
            "data.validation",
            self.validation,
            "0 where data.own_validation = true",
        )
        require(
            self.validation >= 0,
            "data.validation",
            self.validation,
            "an integer of at least 0",
        )


@dataclasses.dataclass(frozen=True)
class ReLinear:
    """The arguments of `optimizers.ReLinear`.

    Args:
        gate_factor: What multiplies the learning rate of the gates.
        power_factor: What multiplies that of the power terms.
        gate_shrinkage: How strongly gates shrink at every step.
        power_shrinkage: How strongly power terms shrink.
        shrinkage: "l1" or "l2".
        proximal: Whether they shrink by the proximal operator.
    """

    gate_factor: float = 1.0
    power_factor: float = 1.0
    gate_shrinkage: float = 0.0
    power_shrinkage: float = 0.0
    shrinkage: str = "l1"
    proximal: bool = True

    def __post_init__(self):
        for key in (
            "gate_factor",
            "power_factor",
            "gate_shrinkage",
            "power_shrinkage",
        ):
            value = getattr(self, key)
            require(
                value >= 0, f"optimizer.relinear.{key}", value, "at least 0"
            )
        if self.shrinkage not in SHRINKAGES:
            raise unknown_name("shrinkage", self.shrinkage, SHRINKAGES)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The optimizer: a Keras name and its arguments.

    Args:
        name: Name of a Keras optimizer, such as "sgd" or "adam".
        learning_rate: Rate at the beginning (after the warm-up).
        reference_batch_size: The batch size that `learning_rate` is for. With
            another one the rate is scaled in proportion (Goyal et al., 2017);
            0 does not scale it.
        momentum: Momentum, for those that have one; `None` is Keras's own.
        nesterov: Whether the momentum is Nesterov's; `None` is Keras's own.
        weight_decay: Coupled L2 on all trainable variables.
        global_clipnorm: Largest norm of all gradients together, or `None`.
        relinear: See `ReLinear`; `None` trains all roles alike.
    """

    name: str = "sgd"
    learning_rate: float = 0.001
    reference_batch_size: int = 0
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float = 0.0
    global_clipnorm: float | None = None
    relinear: ReLinear | None = None

    def __post_init__(self):
        for key in ("learning_rate", "global_clipnorm"):
            value = getattr(self, key)
            require(
                value is None or value > 0, f"optimizer.{key}", value, "above 0"
            )
        for key in ("momentum", "weight_decay", "reference_batch_size"):
            value = getattr(self, key)
            require(
                value is None or value >= 0,
                f"optimizer.{key}",
                value,
                "at least 0",
            )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the learning rate changes.

    Args:
        name: "constant"; "step", times `factor` at each of `epochs`; "cosine",
            half a cosine down to `final_rate`, which is reached at the end of
            the last epoch; or "plateau", times `factor` when `monitor` has not
            improved for `patience` epochs.
        epochs: The first epochs of the new rates.
        factor: What the rate is multiplied by.
        final_rate: The last rate of "cosine".
        monitor: Name of a metric, such as "val_loss".
        patience: Number of epochs without improvement.
        warmup_epochs: Epochs of linear warm-up; not with "plateau".
    """

    name: str = "constant"
    epochs: tuple[int, ...] = ()
    factor: float = 0.1
    final_rate: float = 0.0
    monitor: str = "val_loss"
    patience: int = 10
    warmup_epochs: float = 0.0

    def __post_init__(self):
        if self.name not in SCHEDULES:
            raise unknown_name("schedule", self.name, SCHEDULES)
        increasing = all(
            a < b for a, b in zip((0, *self.epochs), self.epochs, strict=False)
        )
        require(
            increasing and bool(self.epochs) == (self.name == "step"),
            "schedule.epochs",
            list(self.epochs),
            "increasing epochs of at least 1 for name = 'step', absent for "
            "others",
        )
        require(
            0 < self.factor < 1, "schedule.factor", self.factor, "in (0, 1)"
        )
        require(
            self.patience >= 1, "schedule.patience", self.patience, "at least 1"
        )
        require(
            self.final_rate == 0
            or (self.final_rate > 0 and self.name == "cosine"),
            "schedule.final_rate",
            self.final_rate,
            "at least 0 for name = 'cosine', absent for others",
        )
        require(
            self.warmup_epochs >= 0,
            "schedule.warmup_epochs",
            self.warmup_epochs,
            "at least 0",
        )
        require(
            not (self.warmup_epochs and self.name == "plateau"),
            "schedule.warmup_epochs",
            self.warmup_epochs,
            "0 with name = 'plateau', because Keras cannot lower the rate of "
            "an optimizer that has a schedule",
        )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images, or of the recordings.

    Args:
        crop_padding: Pixels of padding before a random crop; 0 for none.
        flip: Whether images are mirrored at random, left to right.
        gain: The range of `layers.RandomGain` for recordings, two numbers;
            empty for none. It matters where the set has background recordings.
        speed: The factor of `layers.RandomSpeed`; 0 for none.
        shift: The samples of `layers.RandomShift`; 0 for none.
        noise: The factor of `layers.RandomNoise`, with the background
            recordings of the set where it has some; 0 for none.
        probability: The share of the recordings that each of these changes.
    """

    crop_padding: int = 0
    flip: bool = False
    gain: tuple[float, ...] = ()
    speed: float = 0.0
    shift: int = 0
    noise: float = 0.0
    probability: float = 0.5

    def __post_init__(self):
        require(
            not self.gain
            or (len(self.gain) == 2 and 0 < self.gain[0] <= self.gain[1]),
            "augmentation.gain",
            list(self.gain),
            "empty or two numbers (low, high) with 0 < low <= high",
        )
        for key, high in (("speed", "below 1"), ("noise", "at most 1")):
            value = getattr(self, key)
            require(
                0 <= value < 1 or (key == "noise" and value == 1),
                f"augmentation.{key}",
                value,
                f"at least 0 and {high}",
            )
        require(self.shift >= 0, "augmentation.shift", self.shift, "at least 0")
        require(
            0 < self.probability <= 1,
            "augmentation.probability",
            self.probability,
            "in (0, 1]",
        )
        require(
            self.crop_padding >= 0,
            "augmentation.crop_padding",
            self.crop_padding,
            "at least 0",
        )


@dataclasses.dataclass(frozen=True)
class Stream:
    """Read the images while they are used: `data.stream`, for large sets.

    Training images are random crops of `data.CroppedBatches`; those of the
    test are cut by `data.evaluation_batches`.

    Args:
        size: Height and width of a crop.
        area: The range of the share of an image that a crop holds.
        resize: The shorter side of a test image before it is cut.
    """

    size: int = 224
    area: tuple[float, ...] = (0.08, 1.0)
    resize: int = 256

    def __post_init__(self):
        require(self.size >= 1, "stream.size", self.size, "at least 1")
        require(
            len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1,
            "stream.area",
            list(self.area),
            "two numbers (low, high) with 0 < low <= high <= 1",
        )
        require(
            self.resize >= self.size,
            "stream.resize",
            self.resize,
            f"at least stream.size = {self.size}",
        )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured at the end.

    Args:
        attacks: Attacks as `robustness.parse_attack` reads them.
        selecting_attacks: The attacks that the validation set is measured
            under; empty for `attacks`.
        attacked_examples: How many examples of the test set are attacked,
            evenly taken from all; 0 for all.
        batch_size: Images a batch, for the validation too.
        top_k: Numbers of classes: for 5 also the share of the examples whose
            class is among the five most probable ones.
        crops: With `Stream`, 1 or 10 crops of a test image, whose
            probabilities are averaged.
        test_curve: Whether the test set is measured after every epoch, for a
            curve as papers draw it. It selects nothing: the weights are those
            of the last epoch. Only where no images are held out.
    """

    attacks: tuple[str, ...] = ()
    selecting_attacks: tuple[str, ...] = ()
    attacked_examples: int = 0
    batch_size: int = 500
    top_k: tuple[int, ...] = ()
    crops: int = 1
    test_curve: bool = False

    def __post_init__(self):
        require(
            self.batch_size >= 1,
            "evaluation.batch_size",
            self.batch_size,
            "at least 1",
        )
        require(
            self.attacked_examples >= 0,
            "evaluation.attacked_examples",
            self.attacked_examples,
            "at least 0",
        )
        require(
            all(k >= 1 for k in self.top_k),
            "evaluation.top_k",
            list(self.top_k),
            "integers of at least 1",
        )
        require(
            self.crops == 1 or (self.crops == 10 and not self.attacks),
            "evaluation.crops",
            self.crops,
            "1, or 10 without evaluation.attacks",
        )
        require(
            self.crops == 1 or not self.test_curve,
            "evaluation.test_curve",
            self.test_curve,
            "false where evaluation.crops = 10",
        )
