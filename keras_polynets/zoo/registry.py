"""The table of the zoo: from a name to the function that builds a model."""

import dataclasses
import fnmatch
import typing

from keras_polynets._errors import unknown_name
from keras_polynets.zoo import directory

_ENTRIES = {}


@dataclasses.dataclass(frozen=True)
class Entry:
    """What the registry knows of a name.

    Args:
        name: The name, which stands for an architecture.
        builder: Function from keyword arguments to a
            `keras_polynets.models.ZooModel`.
        family: The family of architectures.
        task: What the model is for.
        paper: The publication that describes the system.
        parameters: Number of trainable parameters with default arguments.
        optimizer: Table of the optimizer of models with fresh weights.
    """

    name: str
    builder: typing.Callable
    family: str
    task: str
    paper: str
    parameters: int
    optimizer: dict

    @property
    def description(self):
        """The first line of the builder's docstring."""
        return (self.builder.__doc__ or "").strip().partition("\n")[0]


def register(
    name=None,
    *,
    family,
    task="image classification",
    paper="",
    parameters=None,
    optimizer=None,
):
    """Registers a function that builds a model, as a decorator.

    The function takes keyword arguments, `input_shape`, `classes` and `dtype`
    among them, and returns a `keras_polynets.models.ZooModel`. Afterwards
    `load`, `list_models`, `info`, recipes and the command line know the name.

    Args:
        name: The name; by default that of the function.
        family: The family of architectures, for `list_models`.
        task: What the model is for.
        paper: The publication that describes the system.
        parameters: Number of trainable parameters with default arguments. It
            is part of the contract: a test compares it.
        optimizer: Table of the optimizer that `load` compiles fresh weights
            with, such as `{"name": "sgd", "learning_rate": 0.001}`; Adam by
            default. Trained weights come with that of their recipe.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ValueError: If the name is taken, or holds a dot, which separates the
            name from a tag.

    Example:

    >>> @keras_polynets.zoo.register(family="polynomial nets")
    ... def my_net(**kwargs):
    ...     return keras_polynets.models.PolynomialNet(order=6, **kwargs)
    >>> model = keras_polynets.zoo.load("my_net")
    """

    def decorate(builder):
        key = name or builder.__name__
        if "." in key or "/" in key:
            raise ValueError(
                "The name of a model must hold no dot, which separates it "
                f"from a tag, and no slash. Received: name={key!r}"
            )
        if key in _ENTRIES:
            raise ValueError(
                f"The name {key!r} is registered already. Choose another."
            )
        _ENTRIES[key] = Entry(
            key,
            builder,
            family,
            task,
            paper,
            parameters,
            optimizer or {"name": "adam", "learning_rate": 0.001},
        )
        return builder

    return decorate


def entry(name):
    """Returns the `Entry` of a registered name.

    Args:
        name: The name, without a tag.

    Raises:
        ValueError: If the name is not registered.
    """
    if name not in _ENTRIES:
        raise unknown_name("model", name, _ENTRIES)
    return _ENTRIES[name]


def split_name(name):
    """Splits `"model.tag"` into the model's name and the tag or `None`.

    Args:
        name: A registered name, or one with a tag after a dot.
    """
    model, dot, tag = name.partition(".")
    entry(model)
    return model, tag if dot else None


def list_models(pattern="*", *, family=None, task=None, weights=None):
    """Lists the names of the zoo.

    Args:
        pattern: String with the wildcards of a shell, such as `"pn*"`.
        family: Only models of this family.
        task: Only models for this task.
        weights: `True` for models with trained weights only, `False` for those
            without, or the name of a tag that they must have.

    Returns:
        Sorted list of names.

    Raises:
        ValueError: If no model has the family or the task.

    Example:

    >>> keras_polynets.zoo.list_models("pn*", weights=True)
    ['pn10', 'pn4', 'pn_conv']
    """
    entries = list(_ENTRIES.values())
    for field, value in (("family", family), ("task", task)):
        known = {getattr(e, field) for e in entries}
        if value is not None and value not in known:
            raise unknown_name(field, value, known)
    return sorted(
        e.name
        for e in entries
        if fnmatch.fnmatchcase(e.name, pattern)
        and family in (None, e.family)
        and task in (None, e.task)
        and (weights is None or _has_weights(e.name, weights))
    )


def _has_weights(name, wanted):
    tags = directory.manifest(name)["tags"]
    if isinstance(wanted, bool):
        return bool(tags) == wanted
    return wanted in tags
