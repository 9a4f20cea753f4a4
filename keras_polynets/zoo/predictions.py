"""From logits to the names of classes."""

import numpy as np
from keras import ops

from keras_polynets._errors import check_positive_integer


def decode_predictions(logits, model, top=5):
    """Names the most probable classes of each prediction.

    Args:
        logits: Float array or tensor of shape `(batch_size, classes)`, the
            output of the model.
        model: The model that gave them. Its `class_names` are used; without
            them a class is named by its number.
        top: Integer, how many classes to name. More than there are means all.

    Returns:
        For each prediction a list of pairs of a name and a probability, most
        probable first.

    Raises:
        ValueError: If the logits are not of shape `(batch_size, classes)`, or
            `top` is not an integer of at least 1.

    Example:

    >>> logits = model.predict(model.preprocessor(images))
    >>> keras_polynets.zoo.decode_predictions(logits, model, top=1)[0]
    [('Ankle boot', 0.97)]
    """
    check_positive_integer("top", top)
    logits = np.asarray(ops.convert_to_numpy(logits))
    classes = model.output_shape[-1]
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise ValueError(
            f"Argument `logits` must be of shape (batch_size, {classes}). "
            f"Received: shape {logits.shape}"
        )
    probabilities = ops.convert_to_numpy(ops.softmax(logits))
    names = model.class_names or [str(i) for i in range(classes)]
    return [
        [(names[i], float(row[i])) for i in np.argsort(-row)[:top]]
        for row in probabilities
    ]
