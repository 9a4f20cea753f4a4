"""What an attack is given: images, labels, valid range and the ball."""

import hashlib
import numbers
import random

import numpy as np

# Rounding in the preprocessing may pass the ends of the valid range.
RANGE_TOLERANCE = 1e-5


def as_images(model, images, low, high, dtype="float32"):
    """Returns images as an array within the valid range, checked.

    Args:
        model: The model that takes them.
        images: Array or tensor of floats.
        low: The lower end of the valid range.
        high: The upper end.
        dtype: The dtype of the array.
    """
    x = np.asarray(images)
    if x.dtype.kind in "biu":
        raise TypeError(
            "Expected images as floats in the model's input range. Received "
            f"images of dtype {x.dtype}. Call model.preprocessor first."
        )
    expected = getattr(model, "input_shape", (None,) * x.ndim)
    if isinstance(expected, tuple):
        # A model that was built by a call has the size of that batch.
        expected = None, *expected[1:]
    if not isinstance(expected, tuple) or not fits(x.shape, expected):
        raise ValueError(
            f"Images must have the model's input shape {expected}. Received: "
            f"shape {x.shape}"
        )
    x = x.astype(dtype)
    check_range(x, low, high)
    return np.clip(x, low, high)


def check_range(x, low, high):
    """Raises a `ValueError` unless images lie in the valid range.

    Args:
        x: Array of floats.
        low: The lower end of the valid range.
        high: The upper end.
    """
    if not np.isfinite(x).all():
        raise ValueError(
            "Images must be finite. Received NaN or infinite values."
        )
    slack = RANGE_TOLERANCE * (high - low)
    if not np.all((x >= low - slack) & (x <= high + slack)):
        raise ValueError(
            f"Images must lie in the valid range [{low}, {high}]. Received "
            f"values from {x.min()} to {x.max()}. Call model.preprocessor "
            "first, or pass the range as `clip=(low, high)`."
        )


def fits(shape, expected):
    """Returns whether a shape is the expected one, `None` being any size.

    Args:
        shape: Tuple of integers.
        expected: Tuple of integers or `None`.
    """
    return len(shape) == len(expected) and all(
        size in (None, given)
        for size, given in zip(expected, shape, strict=True)
    )


def valid_range(model, clip, dtype="float32"):
    """Returns `(low, high)` as arrays.

    Args:
        model: The model, whose `input_range` holds by default.
        clip: The range that a user gave, or `None`.
        dtype: The dtype of the arrays.
    """
    valid = getattr(model, "input_range", None) if clip is None else clip
    if valid is None:
        raise ValueError(
            f"Model {model.name!r} has no `input_range`, so that the attack "
            "does not know the valid range of its inputs. Pass it: "
            "`clip=(low, high)`."
        )
    try:
        sides = (np.asarray(side, dtype) for side in valid)
        low, high = map(np.array, np.broadcast_arrays(*sides))
    except (TypeError, ValueError):
        low, high = np.float32(1), np.float32(0)
    shape = getattr(model, "input_shape", None)
    known = isinstance(shape, tuple)
    if not np.all(low < high) or (known and not _broadcasts(low.shape, shape)):
        raise ValueError(
            "The valid range must be a tuple `(low, high)` with low < high, "
            "each a number or one a channel"
            f"{f' of inputs of shape {shape}' if known else ''}. "
            f"Received: {valid!r}"
        )
    return low, high


def _broadcasts(shape, batch_shape):
    """Says whether values of a shape leave that of a batch as it is."""
    return len(shape) < len(batch_shape) and all(
        own in (1, size) or size is None
        for own, size in zip(shape[::-1], batch_shape[::-1], strict=False)
    )


def as_labels(labels, count, classes):
    """Returns labels as an int32 array, checked.

    Args:
        labels: Array or tensor of integers.
        count: The number of images.
        classes: The number of classes.
    """
    labels = np.asarray(labels)
    check_one_an_image(labels, count)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"Labels must be integers: `labels.astype('int32')`. Received: "
            f"dtype {labels.dtype}"
        )
    if np.any((labels < 0) | (labels >= classes)):
        raise ValueError(
            f"Labels must be classes from 0 to {classes - 1}, as the model has "
            f"{classes} outputs. Received labels from {labels.min()} to "
            f"{labels.max()}."
        )
    return labels.astype("int32")


def check_one_an_image(labels, count):
    """Raises a `ValueError` unless there is one label an image.

    Args:
        labels: Array of labels.
        count: The number of images.
    """
    if labels.shape != (count,):
        raise ValueError(
            f"Labels must be classes of shape ({count},), one an image. "
            f"Received: shape {labels.shape}. One-hot labels become classes "
            "by `argmax(axis=-1)`."
        )


def ball(x, epsilon, low, high):
    """Returns the ends of the ball within the valid range, float32 tensors.

    They are rounded inwards, so that no point between them is farther than
    `epsilon` from the image in exact arithmetic. Of a ball outside the range
    remains the nearest point of the range.

    Args:
        x: Float32 array or tensor of images.
        epsilon: The radius, a float or a float64 tensor.
        low: The lower end of the valid range.
        high: The upper end.
    """
    import tensorflow as tf

    exact = tf.cast(x, "float64")
    ends = _rounded_up(exact - epsilon), -_rounded_up(-(exact + epsilon))
    ends = (tf.clip_by_value(end, low, high) for end in ends)
    # That of a range of unknown shape is unknown.
    return tuple(tf.ensure_shape(end, x.shape) for end in ends)


def _rounded_up(exact):
    import tensorflow as tf

    nearest = tf.cast(exact, "float32")
    # The next float: the bits of floats of one sign are in order, away from
    # zero.
    bits = tf.bitcast(nearest, "int32")
    above = tf.bitcast(bits + tf.where(bits < 0, -1, 1), "float32")
    return tf.where(tf.cast(nearest, "float64") < exact, above, nearest)


def random_points(x, epsilon, seed, run=0):
    """Returns a uniform point of each image's ball, in float32.

    Args:
        x: Float32 array of images.
        epsilon: The radius of the ball.
        seed: See `_perturbed`.
        run: See `_perturbed`.
    """
    return _perturbed(
        x, seed, run, lambda g, shape: g.uniform(-epsilon, epsilon, shape)
    )


def nearby_points(x, seed, deviation):
    """Returns a normal point around each image, in float32.

    Args:
        x: Float32 array of images.
        seed: See `_perturbed`.
        deviation: The standard deviation.
    """
    return _perturbed(
        x, seed, 0, lambda g, shape: g.normal(0.0, deviation, shape)
    )


def as_seed(seed):
    """Returns a seed as an integer, checked; a random one for `None`."""
    seed = random.randrange(2**63) if seed is None else seed
    if not (isinstance(seed, numbers.Integral) and 0 <= seed < 2**64):
        raise ValueError(
            "Argument `seed` must be an integer from 0 to 2**64 - 1. "
            f"Received: seed={seed!r}"
        )
    return int(seed)


def _perturbed(x, seed, run, draw):
    """Adds noise to each image.

    Each is drawn with the seed and the image's bytes as the key, so that it
    depends on neither the batch nor the place in it. Of several runs with one
    seed each has noise of its own.
    """
    seed, salt = as_seed(seed), run.to_bytes(8, "little")
    points = np.empty_like(x)
    for point, image in zip(points, x, strict=True):
        digest = hashlib.blake2b(image.tobytes(), digest_size=8, salt=salt)
        key = [seed, int.from_bytes(digest.digest(), "little")]
        generator = np.random.Generator(
            np.random.Philox(key=np.array(key, "uint64"))
        )
        point[...] = image + draw(generator, image.shape)
    return points
