"""Attacks that a text describes, for recipes and the command line."""

import dataclasses

from keras_polynets._errors import unknown_name
from keras_polynets.robustness.attack_functions import check_settings
from keras_polynets.robustness.attacks import fgsm
from keras_polynets.robustness.attacks import pgd
from keras_polynets.robustness.attacks import tpgd
from keras_polynets.robustness.auto_attacks import apgd
from keras_polynets.robustness.auto_attacks import apgd_t
from keras_polynets.robustness.auto_attacks import check_classes
from keras_polynets.robustness.auto_attacks import check_loss


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack with its settings: what `parse_attack` returns.

    Args:
        name: The text that describes it, for example `"fgsm:0.1"`.
        function: `fgsm`, `pgd`, `tpgd`, `apgd` or `apgd_t`.
        settings: Dictionary of its arguments.
    """

    name: str
    function: object = dataclasses.field(repr=False)
    settings: dict = dataclasses.field(repr=False)

    def __call__(self, model, images, labels=None):
        """Returns the adversarial images.

        Args:
            model: A model that yields logits.
            images: Floats in the model's input units.
            labels: Integer classes, or `None` for the model's predictions.
        """
        return self.function(model, images, labels, **self.settings)

    def check_classes(self, classes):
        """Raises a `ValueError` where the attack needs more classes.

        Args:
            classes: The number of classes of a model.
        """
        if self.function is apgd:
            check_classes(classes, self.settings.get("loss", "cross_entropy"))
        elif self.function is apgd_t:
            check_classes(classes)


def as_attack(value, or_callable=False):
    """Returns an attack, parsed if it is a text.

    Args:
        value: A text, or what `parse_attack` returns.
        or_callable: Whether any other `attack(model, images, labels)` is one.

    Raises:
        TypeError: If it is none of these.
        ValueError: As in `parse_attack`.
    """
    if isinstance(value, str):
        return parse_attack(value)
    if isinstance(value, Attack) or (or_callable and callable(value)):
        return value
    other = ", or a callable `attack(model, images, labels)`"
    raise TypeError(
        "An attack must be a text such as 'fgsm:0.1', or what "
        f"`robustness.parse_attack` returns{other if or_callable else ''}. "
        f"Received: {value!r}"
    )


def _boolean(word):
    return {"true": True, "false": False}[word.lower()]


def _seed(word):
    if not 0 <= int(word) < 2**64:
        raise ValueError
    return int(word)


# What an option takes, for the error where it received something else.
_EXPECTED = {
    int: "an integer",
    _boolean: "true or false",
    _seed: "an integer from 0 to 2**64 - 1",
}
_COMMON = {"seed": _seed, "reference_compatible": _boolean}
_STARTS = {**_COMMON, "random_start": _boolean}
_SIGNED = {"epsilon": float, "steps": int, "step_size": float}
_AUTO = {"epsilon": float, "steps": int}

# Name → function, the settings in the order of the text, and its options.
_FORMS = {
    "fgsm": (fgsm, {"epsilon": float}, _STARTS),
    "pgd": (pgd, _SIGNED, _STARTS),
    "tpgd": (tpgd, _SIGNED, _COMMON),
    "apgd": (apgd, _AUTO, {**_COMMON, "loss": str, "restarts": int}),
    "apgd_t": (apgd_t, _AUTO, {**_COMMON, "targets": int, "restarts": int}),
}


def parse_attack(text):
    """Returns the attack that a text describes.

    The forms, with numbers in the model's input units:

    - `"fgsm:EPSILON"`
    - `"pgd:EPSILON,STEPS,STEP_SIZE"`, `"tpgd:EPSILON,STEPS,STEP_SIZE"`
    - `"apgd:EPSILON,STEPS"`, `"apgd_t:EPSILON,STEPS"`

    Other arguments of the attack follow by name: `seed` and
    `reference_compatible`; `random_start` of `fgsm` and `pgd`; `loss` and
    `restarts` of `apgd`; `targets` and `restarts` of `apgd_t`. The seed is 0
    where none is named, so that a text means the same images every time.

    Args:
        text: String such as `"pgd:0.1,20,0.01"`, `"apgd:0.1,100,loss=dlr"` or
            `"pgd:0.1,20,0.01,random_start=true,seed=3"`.

    Returns:
        A callable `attack(model, images, labels)` with the text as its
        `name`.

    Raises:
        ValueError: If the name is not known, or if the numbers do not fit.

    Example:

    >>> attack = keras_polynets.robustness.parse_attack("pgd:0.1,20,0.01")
    >>> attack.name
    'pgd:0.1,20,0.01'
    """
    name, _, values = str(text).replace(" ", "").partition(":")
    if name not in _FORMS:
        raise unknown_name("attack", name, _FORMS)
    function, kinds, options = _FORMS[name]
    words = values.split(",")
    numbers = [word for word in words if "=" not in word]
    named = [word.partition("=")[::2] for word in words if "=" in word]
    for key, _ in named:
        if key not in options:
            raise unknown_name(f"option of the attack {name!r}", key, options)
    try:
        settings = {
            key: kind(word)
            for (key, kind), word in zip(kinds.items(), numbers, strict=True)
        }
    except ValueError:
        raise ValueError(
            f"An attack {name!r} is written {name}:{','.join(kinds).upper()}, "
            f"with {len(kinds)} number{'s' * (len(kinds) > 1)}. Received: "
            f"{text!r}"
        ) from None
    settings |= {
        key: _option(name, key, options[key], word) for key, word in named
    }
    if "loss" in settings:
        check_loss(settings["loss"])
    check_settings(**settings)
    return Attack(f"{name}:{values}", function, {"seed": 0} | settings)


def _option(name, key, kind, word):
    try:
        return kind(word)
    except (KeyError, ValueError):
        raise ValueError(
            f"The option {key!r} of the attack {name!r} must be "
            f"{_EXPECTED[kind]}. Received: {key}={word}"
        ) from None
