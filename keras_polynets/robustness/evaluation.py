"""Accuracy, clean and under attack."""

import keras
import numpy as np

from keras_polynets._errors import check_layer
from keras_polynets._errors import check_positive_integer
from keras_polynets.robustness.attack_texts import as_attack
from keras_polynets.robustness.inputs import as_images
from keras_polynets.robustness.inputs import as_labels
from keras_polynets.robustness.inputs import check_one_an_image
from keras_polynets.robustness.inputs import valid_range
from keras_polynets.robustness.logits import check_classifier


def robust_accuracy(
    model, dataset, attack=None, batch_size=500, verbose="auto"
):
    """Share of images that a model still classifies rightly under an attack.

    Args:
        model: A classifier that yields logits.
        dataset: Tuple `(images, labels)` of arrays, or an iterable of such
            batches, for example a `tf.data.Dataset`. Images as they are stored
            (integers) go through `model.preprocessor`; floats are taken to be
            in the model's input units. Labels are integer classes.
        attack: `None` for clean accuracy, which works on every backend; a text
            such as `"fgsm:0.1"` or `"apgd_t:0.1,100"`, see `parse_attack`;
            or a callable `attack(model, images, labels)` that returns
            adversarial images.
        batch_size: Positive integer, how many images are attacked at once. A
            dataset of batches keeps its own.
        verbose: `"auto"` or 1 for a progress bar, 2 for one line, 0 for
            silence.

    Returns:
        Float in [0, 1].

    Raises:
        ValueError: If the dataset is empty, if images and labels differ in
            number, if labels are no classes of the model or images not within
            its valid range, if integer images meet a model without
            preprocessor, or if logits are not finite.
        TypeError: If labels are not integers, or `attack` is no attack.

    Example:

    >>> model = keras_polynets.zoo.load("pn4.fashion_mnist")
    >>> keras_polynets.robustness.robust_accuracy(
    ...     model, (images, labels), "pgd:0.1,20,0.01"
    ... )
    """
    if attack is not None:
        attack = as_attack(attack, or_callable=True)

    def right(images, labels):
        if attack is not None:
            images = attack(model, images, labels)
        elif getattr(model, "input_range", None) is not None:
            images = as_images(model, images, *valid_range(model, None))
        logits = np.asarray(_logits(model, images))
        check_classifier(model, logits.shape, "Accuracies need")
        if not np.isfinite(logits).all():
            # The largest of NaN would be class 0.
            raise ValueError(
                f"Model {model.name!r} yields logits that are not finite. Its "
                "weights hold NaN, the products overflow, or the attack "
                "returned NaN: evaluate weights from before the training "
                "diverged, in float32."
            )
        labels = as_labels(labels, len(images), logits.shape[-1])
        return np.argmax(logits, axis=-1) == labels

    return share(model, dataset, right, batch_size, verbose, "accuracy")


def share(model, dataset, holds, batch_size, verbose, name):
    """Returns the share of images of a dataset of which something holds.

    Args:
        model: The model whose preprocessor takes stored images.
        dataset: As in `robust_accuracy`.
        holds: Callable `(images, labels)` that returns an array of booleans,
            for images in the model's input units.
        batch_size: As in `robust_accuracy`.
        verbose: As in `robust_accuracy`.
        name: String, how the progress bar calls the share.
    """
    check_layer(model)
    check_positive_integer("batch_size", batch_size)
    batches, count = _batches(dataset, batch_size)
    progress = keras.utils.Progbar(
        count,
        verbose=1 if verbose == "auto" else int(verbose),
        stateful_metrics=[name],
    )
    right = seen = 0
    for number, batch in enumerate(batches, start=1):
        images, labels = _pair(batch)
        images, labels = model_inputs(model, images), np.asarray(labels)
        check_one_an_image(labels, len(images))
        right += int(np.sum(holds(images, labels)))
        seen += len(labels)
        values = [(name, right / max(seen, 1))]
        progress.update(number, values, finalize=False)
    if not seen:
        raise ValueError("The dataset has no images to classify.")
    progress.target = number
    progress.update(number, values)
    return right / seen


def _batches(dataset, batch_size):
    """Returns the batches and, where it is known, their number."""
    if not isinstance(dataset, tuple | list) or all(map(_is_pair, dataset)):
        try:
            return dataset, len(dataset)
        except TypeError:
            return dataset, None
    lengths = [len(p) if hasattr(p, "__len__") else None for p in dataset]
    if len(lengths) != 2 or None in lengths or lengths[0] != lengths[1]:
        raise ValueError(
            "A dataset of arrays is a tuple `(images, labels)` with one label "
            f"an image. Received: {', '.join(map(_described, dataset))}"
        )
    images, labels = dataset
    starts = range(0, len(images), batch_size)
    ends = (slice(start, start + batch_size) for start in starts)
    return ((images[part], labels[part]) for part in ends), len(starts)


def _is_pair(part):
    """Says whether a part of a list is a batch, and no list of numbers."""
    return (
        isinstance(part, tuple | list)
        and len(part) == 2
        and all(hasattr(values, "__len__") for values in part)
    )


def _described(part):
    count = f" of {len(part)}" if hasattr(part, "__len__") else ""
    return str(getattr(part, "shape", f"{type(part).__name__}{count}"))


def _pair(batch):
    is_tuple = isinstance(batch, tuple | list)
    if not is_tuple or len(batch) != 2:
        parts = f" of {len(batch)} parts" if is_tuple else ""
        raise ValueError(
            "A dataset is a tuple `(images, labels)` of arrays, or an iterable "
            "of such batches. Received: a batch that is of type "
            f"{type(batch).__name__}{parts}. Pass images and labels."
        )
    return batch


def _logits(model, images):
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        # `predict_on_batch` would return the batch once for every replica.
        return model.predict(images, batch_size=len(images), verbose=0)
    return model.predict_on_batch(images)


def model_inputs(model, images):
    """Returns images in a model's input units; stored ones are prepared.

    Args:
        model: The model whose preprocessor takes integers.
        images: Array or tensor.
    """
    images = keras.ops.convert_to_numpy(images)
    if not np.issubdtype(images.dtype, np.integer):
        return images
    if getattr(model, "preprocessor", None) is None:
        raise ValueError(
            f"Images of dtype {images.dtype} need a preprocessor, which model "
            f"{model.name!r} does not have. Pass floats in its input range."
        )
    return keras.ops.convert_to_numpy(model.preprocessor(images))
