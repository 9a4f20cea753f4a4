"""Stops a run at the first loss that is not finite, and says where it began."""

import contextlib

import keras
import numpy as np


class TerminateOnNonFinite(keras.callbacks.Callback):
    """Raises an error as soon as the training loss is NaN or infinite.

    `keras.callbacks.TerminateOnNaN` ends `fit` as if it had succeeded. This
    one cannot be overlooked. Put it before the callbacks that save weights.
    With several steps an execution the loss is looked at once an execution.

    Raises:
        FloatingPointError: When the loss is not finite.

    Example:

    >>> stop = keras_polynets.callbacks.TerminateOnNonFinite()
    >>> model.fit(images, labels, callbacks=[stop])
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not np.isfinite(loss):
            raise FloatingPointError(
                f"The mean loss of epoch {self._epoch} (from 0) is "
                f"{float(loss)} after step {batch}."
            )


def first_non_finite(model, inputs=None):
    """Says where in a model the first value lies that is not finite.

    Args:
        model: A built Keras model.
        inputs: Batch of inputs, for the layers' outputs; `None` looks at the
            weights alone.

    Returns:
        A string such as `"the output of the layer 'polynomial' (CCP)"`, the
        first in the order of the computation, or `None` where all is finite.
        Weights come before outputs.

    Example:

    >>> keras_polynets.callbacks.first_non_finite(model, images)
    "the weight 'polynomial/factors/kernel'"
    """
    for variable in model.weights:
        if not _is_finite(variable):
            return f"the weight {variable.path!r}"
    if inputs is None:
        return None
    found = []
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers(include_self=False):
            stack.enter_context(_watched(layer, found))
        outputs = model(inputs, training=False)
    if found:
        return found[0]
    return None if _is_finite(outputs) else "the output of the model"


@contextlib.contextmanager
def _watched(layer, found):
    """Appends a sentence to `found` when the layer's output is not finite."""
    call = layer.call

    def watched_call(*args, **kwargs):
        outputs = call(*args, **kwargs)
        if not _is_finite(outputs):
            kind = type(layer).__name__
            found.append(f"the output of the layer {layer.name!r} ({kind})")
        return outputs

    # Not `setattr`, which Keras observes.
    layer.__dict__["call"] = watched_call
    try:
        yield
    finally:
        del layer.__dict__["call"]


def _is_finite(values):
    return all(
        bool(keras.ops.all(keras.ops.isfinite(value)))
        for value in keras.tree.flatten(values)
    )
