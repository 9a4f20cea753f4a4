"""The weights that Keras has trained on ImageNet, in networks of the zoo."""

import warnings

import keras

from keras_polynets.convert.assignments import assign
from keras_polynets.convert.transfer import assignments_of_models

TAG = "imagenet"
# Names of the zoo whose first-order part is a network of keras.applications.
SOURCES = {"prodpoly_resnet50": "ResNet50", "resnet50": "ResNet50"}
_CLASSES = 1000


def load_into(model, name):
    """Gives a network the weights that Keras has trained on ImageNet.

    Keras downloads them once, into `~/.keras/models`. The second-order terms
    become zero, so that the network gives the logits of Keras's. Its head
    keeps its own weights where it has another number of classes, with a
    warning.

    Args:
        model: A `keras_polynets.models.ZooModel` of that name.
        name: One of `SOURCES`.

    Raises:
        ValueError: If they do not fit, naming the layers.
        OSError: If they cannot be downloaded.
    """
    head = model.head is not None
    same_head = head and model.head.units == _CLASSES
    _check(model, name, include_top=same_head)
    source = _network(SOURCES[name], TAG, include_top=same_head)
    assign(assignments_of_models(source, model, head=same_head))
    if head and not same_head:
        warnings.warn(
            f"The weights 'imagenet' of {name!r} are for {_CLASSES} classes: "
            f"with {model.head.units} the head starts with fresh weights. "
            "Train it before use.",
            stacklevel=3,
        )


def _check(model, name, include_top):
    """Raises where the weights would not fit, before they are downloaded."""
    fresh = _network(SOURCES[name], None, include_top)
    try:
        assignments_of_models(fresh, model, head=include_top)
    except ValueError as error:
        raise ValueError(
            f"The weights 'imagenet' of {name!r} are those of "
            f"keras.applications.{SOURCES[name]}, for images of 3 channels: "
            "leave out the arguments that change the network, or pass "
            f"weights=None. {error}"
        ) from error


def _network(name, weights, include_top):
    """Returns Keras's network; it downloads the weights that have a name."""
    network = getattr(keras.applications, name)
    try:
        return network(
            weights=weights,
            include_top=include_top,
            classifier_activation=None,
        )
    except Exception as error:
        # Keras raises a plain Exception where the server cannot be reached.
        raise OSError(
            f"The weights 'imagenet' are those of keras.applications.{name}, "
            "which Keras downloads into ~/.keras/models. That failed: "
            f"{error}. Connect this machine to the network; or run "
            f"`keras.applications.{name}()` on another one and copy its "
            "~/.keras/models here; or pass weights=None for fresh weights."
        ) from error
