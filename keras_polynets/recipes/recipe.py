"""What a recipe may say, and how it is read, checked and written."""

import dataclasses
import math
import pathlib
import tomllib
import types
import typing

from keras_polynets._errors import unknown_name
from keras_polynets.data.loading import is_path
from keras_polynets.recipes import toml
from keras_polynets.recipes.methods import Adversarial
from keras_polynets.recipes.methods import Jacobian
from keras_polynets.recipes.methods import Projection
from keras_polynets.recipes.methods import Transfer
from keras_polynets.recipes.sections import Augmentation
from keras_polynets.recipes.sections import Data
from keras_polynets.recipes.sections import Evaluation
from keras_polynets.recipes.sections import Optimizer
from keras_polynets.recipes.sections import Schedule
from keras_polynets.recipes.sections import Stream
from keras_polynets.recipes.sections import require

STRATEGIES = ("default", "mirrored")
# Keys that a reader looks for, even where they have their default.
TOLD = ("data.name", "optimizer.name", "optimizer.learning_rate")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on, checked.

    Two runs of the same recipe on the same device end with the same weights.

    Args:
        model: Registered name of the model.
        overrides: Keyword arguments of `zoo.load`.
        seed: Seed of the initial weights, the order of the data, the
            augmentation and dropout.
        epochs: Number of passes over the training data.
        batch_size: Examples a step, over all replicas.
        initial_weights: Path of a file of this model's weights, or empty.
        strategy: "default", or "mirrored" on `devices` devices.
        devices: Number of devices of "mirrored"; 0 takes all.
        deterministic: Whether TensorFlow must choose operations that give the
            same bits every time, which can be slower.
        backup_steps: Steps after which a backup is written inside an epoch;
            0 writes one at the end of each epoch.
        data: See `Data`.
        optimizer: See `Optimizer`.
        schedule: See `Schedule`.
        transfer: See `Transfer`; `None` starts from fresh weights, or from
            `initial_weights`.
        projection: See `Projection`; `None` does not project.
        stream: See `Stream`; `None` holds the data in memory.
        adversarial: See `Adversarial`; `None` trains on the images.
        jacobian: See `Jacobian`; `None` has no such penalty.
        augmentation: See `Augmentation`.
        evaluation: See `Evaluation`.
        name: What the recipe was loaded as; no part of the recipe.

    Raises:
        TypeError: If a value has the wrong type.
        ValueError: If a key is unknown or a value out of range.

    Example:

    >>> recipe = keras_polynets.recipes.load("pn4.fashion_mnist")
    >>> recipe = recipe.replace({"epochs": 3, "projection.max_value": 2.0})
    """

    model: str
    overrides: dict = dataclasses.field(default_factory=dict)
    seed: int = 0
    epochs: int = 1
    batch_size: int = 64
    initial_weights: str = ""
    strategy: str = "default"
    devices: int = 0
    deterministic: bool = False
    backup_steps: int = 0
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    transfer: Transfer | None = None
    projection: Projection | None = None
    stream: Stream | None = None
    adversarial: Adversarial | None = None
    jacobian: Jacobian | None = None
    augmentation: Augmentation = Augmentation()
    evaluation: Evaluation = Evaluation()
    name: str = dataclasses.field(default="", compare=False)

    def __post_init__(self):
        require(self.model, "model", self.model, "a name")
        for key in ("seed", "devices", "backup_steps"):
            value = getattr(self, key)
            require(value >= 0, key, value, "at least 0")
        for key in ("epochs", "batch_size"):
            value = getattr(self, key)
            require(value >= 1, key, value, "at least 1")
        if self.strategy not in STRATEGIES:
            raise unknown_name("strategy", self.strategy, STRATEGIES)
        require(
            not self.devices or self.strategy == "mirrored",
            "devices",
            self.devices,
            "0 without strategy = 'mirrored'",
        )
        require(
            self.schedule.final_rate < self.learning_rate,
            "schedule.final_rate",
            self.schedule.final_rate,
            f"below the learning rate, {self.learning_rate}",
        )
        require(
            not (self.initial_weights and self.transfer),
            "initial_weights",
            self.initial_weights,
            "absent beside [transfer], which sets the weights too",
        )
        require(
            not (self.evaluation.test_curve and self.holds_out),
            "evaluation.test_curve",
            self.evaluation.test_curve,
            "false where data.validation holds images out, which give a curve",
        )
        watches_validation = (
            self.schedule.name == "plateau"
            and self.schedule.monitor.startswith("val_")
        )
        require(
            self.holds_out or not watches_validation,
            "schedule.monitor",
            self.schedule.monitor,
            "a training metric such as 'loss' where data.validation = 0",
        )
        require(
            self.stream is not None or self.evaluation.crops == 1,
            "evaluation.crops",
            self.evaluation.crops,
            "1 without [stream]",
        )
        require(
            self.stream is None or not self.evaluation.attacked_examples,
            "evaluation.attacked_examples",
            self.evaluation.attacked_examples,
            "0 with [stream]",
        )
        require(
            self.stream is None or not (self.holds_out or self.data.split),
            "stream",
            self.data,
            "absent where examples are held out: a stream has none in memory",
        )

    @property
    def holds_out(self):
        """Whether examples are held out that select the model."""
        return bool(self.data.validation or self.data.own_validation)

    @property
    def learning_rate(self):
        """The rate of the optimizer at the recipe's batch size."""
        reference = self.optimizer.reference_batch_size
        scale = self.batch_size / reference if reference else 1
        return self.optimizer.learning_rate * scale

    @property
    def settled_epoch(self):
        """The first epoch that trains as the recipe wants to end."""
        parts = self.projection, self.adversarial
        first = ("start_epoch", "warmup_epochs")
        pairs = zip(parts, first, strict=True)
        return max(getattr(p, key) if p else 0 for p, key in pairs)

    @classmethod
    def from_dict(cls, values, name=""):
        """Returns the recipe of a tree of dictionaries, as TOML gives it."""
        return dataclasses.replace(_build(cls, values, ""), name=name)

    def to_dict(self):
        """Returns a tree of dictionaries; keys that are `None` are absent."""
        values = dataclasses.asdict(self)
        del values["name"]
        return _without_none(values)

    def to_toml(self, defaults=True):
        """Returns the recipe as TOML that `load` reads.

        Args:
            defaults: Boolean, whether keys that have their default are written
                too. The name of the data and that of the optimizer and its
                rate are written either way.
        """
        values = self.to_dict()
        if not defaults:
            values = _without_defaults(values, type(self))
        return toml.dumps(values)

    def portable(self):
        """Returns the recipe without the folders of this machine.

        Of a path to the data its last part is kept.
        """
        name = self.data.name
        if is_path(name):
            name = pathlib.PurePath(name).name
        return self.replace({"data.name": name, "data.archives": None})

    def replace(self, overrides):
        """Returns the recipe with some keys changed.

        Args:
            overrides: Dictionary from a dotted key to its value, such as
                `{"epochs": 3, "projection.max_value": 2.0}`. `None` drops a
                key, so that it has its default; `{"projection": None}` drops
                the projection.
        """
        values = self.to_dict()
        for key, value in overrides.items():
            *sections, last = key.split(".")
            table = values
            for section in sections:
                table = table.setdefault(section, {})
                require(isinstance(table, dict), key, value, "absent")
            if value is None:
                table.pop(last, None)
            else:
                table[last] = value
        return type(self).from_dict(values, self.name)


def parse_override(text):
    """Returns the dotted key and the value of `"key=value"`.

    Values are TOML, and a bare word is a string: `epochs=3`,
    `schedule.epochs=[1, 2]`, `data.name=mnist`. An empty value is `None`.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key:
        raise ValueError(
            f"An override has the form key=value, for example epochs=3. "
            f"Received: {text!r}"
        )
    if not value:
        return key, None
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def load(name_or_path, overrides=()):
    """Loads a recipe.

    Args:
        name_or_path: `NAME.TAG` of the zoo, such as `"pn4.fashion_mnist"`, or
            the path of a `.toml` file.
        overrides: Changes: strings such as `"epochs=3"`, or a dictionary from
            a dotted key to its value.

    Returns:
        A `Recipe`.

    Raises:
        FileNotFoundError: If the file does not exist.
        TypeError: If a value has the wrong type.
        ValueError: If the name or a key is unknown, the file is no TOML, or a
            value is out of range.

    Example:

    >>> keras_polynets.recipes.load("pn4.fashion_mnist", ["epochs=3"])
    """
    path = pathlib.Path(name_or_path)
    if path.suffix != ".toml":
        path = _find(str(name_or_path))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{str(path)!r} is not valid TOML: {error}") from error
    if not isinstance(overrides, dict):
        overrides = dict(map(parse_override, overrides))
    tag = path.stem
    name = tag if path == pathlib.Path(name_or_path) else str(name_or_path)
    return Recipe.from_dict(values, name).replace(overrides)


def _find(name):
    from keras_polynets import zoo

    folder = zoo.data_directory()
    known = {
        f"{path.parent.name}.{path.stem}": path
        for path in sorted(folder.glob("*/*.toml"))
        if path.name != "model.toml"
    }
    if name not in known:
        raise unknown_name("recipe", name, known)
    return known[name]


def _build(kind, values, prefix):
    """Makes the dataclass `kind` from a dictionary, checking every key."""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.compare}
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in fields:
            raise unknown_name(
                "recipe key", prefix + key, [prefix + f for f in fields]
            )
    if kind is Recipe and "model" not in values:
        raise ValueError("A recipe must say `model = ...`, a registered name.")
    return kind(
        **{
            key: _convert(hints[key], value, prefix + key)
            for key, value in values.items()
        }
    )


def _convert(hint, value, key):
    hint = _without_none_type(hint)
    if dataclasses.is_dataclass(hint):
        _check_type(isinstance(value, dict), key, "a table", value)
        return _build(hint, value, f"{key}.")
    if typing.get_origin(hint) is tuple:
        _check_type(isinstance(value, (list, tuple)), key, "an array", value)
        item = typing.get_args(hint)[0]
        return tuple(
            _convert(item, v, f"{key}[{i}]") for i, v in enumerate(value)
        )
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        _check_type(number and math.isfinite(value), key, "a number", value)
        return float(value)
    exact = type(value) is hint
    names = {int: "an integer", str: "a string", bool: "true or false"}
    _check_type(exact, key, names.get(hint, "a table"), value)
    return value


def _without_none_type(hint):
    if isinstance(hint, types.UnionType):
        return next(h for h in hint.__args__ if h is not types.NoneType)
    return hint


def _check_type(condition, key, expected, value):
    if not condition:
        raise TypeError(
            f"Recipe key {key!r} must be {expected}. Received: {value!r} "
            f"({type(value).__name__})"
        )


def _without_defaults(values, kind, prefix=""):
    """Returns the keys of the dataclass `kind` that a reader has to know."""
    defaults = {
        field.name: field.default
        if field.default_factory is dataclasses.MISSING
        else field.default_factory()
        for field in dataclasses.fields(kind)
    }
    hints = typing.get_type_hints(kind)
    kept = {}
    for key, value in values.items():
        section = _without_none_type(hints[key])
        if dataclasses.is_dataclass(section):
            value = _without_defaults(value, section, f"{key}.")
            # That a section is there says something.
            if value or defaults[key] is None:
                kept[key] = value
        elif prefix + key in TOLD or value != _without_none(defaults[key]):
            kept[key] = value
    return kept


def _without_none(values):
    if isinstance(values, dict):
        return {
            key: _without_none(value)
            for key, value in values.items()
            if value is not None
        }
    return list(values) if isinstance(values, tuple) else values
