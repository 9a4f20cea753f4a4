"""What attacks ask of the outputs of a model: logits of several classes."""

import keras
import numpy as np

from keras_polynets.analysis import graphs

# Bounded activations, as Keras calls them less underscores.
_SATURATING = (
    "hardsigmoid",
    "hardtanh",
    "sigmoid",
    "softmax",
    "softsign",
    "sparsemax",
    "tanh",
)
# Layers that pass the values on.
_PASSING = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Reshape,
)


def check_classifier(model, shape, what):
    """Raises a `ValueError` unless outputs are those of several classes.

    Args:
        model: The model.
        shape: The shape of its outputs, with the batch.
        what: What needs a classifier, with the verb: `"Attacks need"`.
    """
    if len(shape) != 2 or shape[1] < 2:
        raise ValueError(
            f"{what} a classifier with logits of shape (batch_size, classes). "
            f"Received outputs of shape {shape} from model {model.name!r}."
        )


def check_logits(model, outputs):
    """Raises a `ValueError` unless a model yields logits.

    Args:
        model: The model.
        outputs: Array, what it yields for a batch.
    """
    check_classifier(model, outputs.shape, "Attacks need")
    check_unbounded(model)
    sums = outputs.sum(axis=1)
    if np.all(outputs >= 0) and np.allclose(sums, 1, atol=1e-2):
        raise _masked(model, "softmax")


def check_unbounded(model):
    """Raises a `ValueError` if a model ends in an activation that saturates.

    Args:
        model: The model. Of one without a graph nothing is known.
    """
    if not graphs.is_graph(model) or graphs.functional(model) is None:
        return
    for operation in graphs.makers(model, _passes):
        for name in _names(operation):
            if name.lower().replace("_", "") in _SATURATING:
                raise _masked(model, name.lower())


def _passes(operation):
    return isinstance(operation, _PASSING) or (
        isinstance(operation, keras.layers.Activation)
        and operation.activation is keras.activations.linear
    )


def _names(operation):
    """Returns the names of an operation and of its activation."""
    # What an activation of a user's layer acts on is not known.
    if type(operation).__module__.split(".")[0] not in (
        "keras",
        "keras_polynets",
    ):
        return []
    activation = getattr(operation, "activation", None)
    own = type(operation).__name__
    return [getattr(activation, "__name__", type(activation).__name__), own]


def _masked(model, name):
    return ValueError(
        f"Model {model.name!r} yields no logits: the outputs of its {name} "
        "mask the gradients. Use the logits: build it with "
        "`classifier_activation=None`, or up to the layer before the "
        f"{name}, `keras.Model(model.input, logits)`."
    )
