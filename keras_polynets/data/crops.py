"""Decoded crops of streamed images, as ImageNet is trained and tested."""

import os

import numpy as np

from keras_polynets._errors import check_positive_integer
from keras_polynets.data.batches import Order
from keras_polynets.data.batches import untuned

# The crops of one image in an evaluation.
CROPS = (1, 10)


class CroppedBatches(Order):
    """An endless stream of random crops that can start at any step.

    Training images as for ImageNet: a random part of the image, of a share of
    its area and an aspect ratio that are drawn for each image, is resized to a
    square (RandomResizedCrop). What a batch holds and where an image is cut
    are functions of the seed and of the global step alone, so that a run that
    was interrupted goes on with the same data. Files are read by index: a
    stream begins at any step at once.

    Args:
        source: The images, for example `data.stream(...).train`.
        batch_size: Images a batch, integer of at least 1.
        seed: Integer from 0 to 2**64 - 1.
        first_step: Global step (from 0, across epochs) at which `dataset`
            starts.
        size: Integer, height and width of a crop.
        area: Pair of floats, the range of the share of an image's area.
        aspect: Pair of floats, the range of width by height.

    Raises:
        ValueError: If the source is empty or a number is out of range.

    Example:

    >>> imagenet = keras_polynets.data.stream("imagenet2012")
    >>> batches = CroppedBatches(imagenet.train, batch_size=256, seed=0)
    >>> images, labels = next(iter(batches.dataset()))
    >>> images.shape
    (256, 224, 224, 3)

    Reference:

    - Szegedy et al., "Going Deeper with Convolutions" (2015), section 6.
    """

    def __init__(
        self,
        source,
        batch_size,
        seed,
        first_step=0,
        size=224,
        area=(0.08, 1.0),
        aspect=(3 / 4, 4 / 3),
    ):
        if not len(source):
            raise ValueError("Argument `source` holds no images.")
        super().__init__(len(source), batch_size, seed, first_step)
        check_positive_integer("size", size)
        for name, (low, high) in (("area", area), ("aspect", aspect)):
            if not 0 < low <= high:
                raise ValueError(
                    f"Argument `{name}` must be a pair (low, high) with 0 < "
                    f"low <= high. Received: {name}={(low, high)}"
                )
        self.source = source
        self.image_size = size
        self.area, self.aspect = tuple(area), tuple(aspect)

    def dataset(self):
        """Returns the endless stream of batches from `first_step`.

        Returns:
            A `tf.data.Dataset` of pairs of uint8 images
            `(batch, size, size, 3)` and int32 labels. It feeds every backend
            where TensorFlow is installed.

        Raises:
            ImportError: If TensorFlow is not installed.
        """
        tf = _import_tensorflow()
        end = np.iinfo("int64").max
        steps = tf.data.Dataset.range(self.first_step, end)
        threads = _threads()
        decoded = steps.map(self._read, threads).map(self._crop, threads)
        return untuned(decoded.prefetch(2), threads)

    def _read(self, step):
        import tensorflow as tf

        def read(step):
            step = int(step)
            contents, labels = self.source.read(self.indices(step))
            places = step * self.batch_size + np.arange(len(labels))
            # The seed of an image; the key of Philox has no sign.
            seed = np.full(len(labels), self.seed, "uint64").view("int64")
            seeds = np.stack([seed, places], axis=1)
            return np.array(contents, object), labels, seeds

        contents, labels, seeds = tf.numpy_function(
            read, [step], (tf.string, tf.int32, tf.int64)
        )
        return (
            tf.ensure_shape(contents, (None,)),
            tf.ensure_shape(labels, (None,)),
            tf.ensure_shape(seeds, (None, 2)),
        )

    def _crop(self, contents, labels, seeds):
        import tensorflow as tf

        images = tf.map_fn(
            lambda pair: self._random_crop(*pair),
            (contents, seeds),
            fn_output_signature=tf.uint8,
        )
        shape = (None, self.image_size, self.image_size, 3)
        return tf.ensure_shape(images, shape), labels

    def _random_crop(self, content, seed):
        import tensorflow as tf

        # Of a JPEG only the part that is wanted is decoded.
        is_jpeg = tf.io.is_jpeg(content)
        shape = tf.cond(
            is_jpeg,
            lambda: tf.io.extract_jpeg_shape(content),
            lambda: tf.shape(_decoded(content)),
        )
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            tf.zeros((1, 0, 4)),
            seed=seed,
            min_object_covered=0.0,
            aspect_ratio_range=self.aspect,
            area_range=self.area,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], axis=0)
        part = tf.cond(
            is_jpeg,
            lambda: tf.image.decode_and_crop_jpeg(content, window, channels=3),
            lambda: tf.slice(_decoded(content), begin, size),
        )
        return _resized(part, (self.image_size, self.image_size))


def evaluation_batches(source, batch_size, size=224, resize=256, crops=1):
    """Returns the images of a source once, in their order, for a test.

    The shorter side is resized to `resize`. Of that the square in the middle
    is taken or, as in the papers that say "10-crop", the four corners, the
    middle, and all of these mirrored.

    Args:
        source: The images, for example `data.stream(...).test`.
        batch_size: Images a batch, integer of at least 1.
        size: Integer, height and width of a crop.
        resize: Integer of at least `size`.
        crops: 1 or 10, the crops of an image.

    Returns:
        A `tf.data.Dataset` of pairs of uint8 images and int32 labels. The
        images have the shape `(batch, size, size, 3)`, with ten crops
        `(batch, 10, size, size, 3)`.

    Raises:
        ImportError: If TensorFlow is not installed.
        ValueError: If a number is out of range.

    Example:

    >>> test = keras_polynets.data.stream("imagenet2012").test
    >>> batches = evaluation_batches(test, 100, crops=10)
    """
    check_positive_integer("batch_size", batch_size)
    check_positive_integer("size", size)
    if crops not in CROPS or resize < size:
        raise ValueError(
            "Argument `crops` must be 1 or 10, and `resize` at least `size`. "
            f"Received: crops={crops}, resize={resize}, size={size}"
        )
    tf = _import_tensorflow()

    def read(index):
        contents, labels = source.read(np.array([index]))
        return np.array(contents[0], object), labels[0]

    def decode(index):
        content, label = tf.numpy_function(read, [index], (tf.string, tf.int32))
        image = _shorter_side(_decoded(tf.reshape(content, ())), resize)
        image = _center(image, size) if crops == 1 else _ten(image, size)
        return image, tf.reshape(label, ())

    indices = tf.data.Dataset.range(len(source))
    threads = _threads()
    decoded = indices.map(decode, threads).batch(batch_size)
    return untuned(decoded.prefetch(2), threads)


def _threads():
    # Each holds a batch of images or two.
    return min(os.cpu_count() or 1, 16)


def _import_tensorflow():
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "Streamed images are decoded by tf.data, whatever the backend, and "
            "TensorFlow is not installed. Install it with `pip install "
            "keras_polynets[tensorflow]`."
        ) from error
    return tf


def _decoded(content):
    import tensorflow as tf

    return tf.io.decode_image(content, channels=3, expand_animations=False)


def _resized(image, size):
    import tensorflow as tf

    image = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), tf.uint8)


def _shorter_side(image, resize):
    import tensorflow as tf

    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = resize / tf.reduce_min(shape)
    return _resized(image, tf.cast(tf.round(shape * scale), tf.int32))


def _corners(image, size):
    """Returns the last row and column at which a crop can begin."""
    import tensorflow as tf

    return tf.unstack(tf.shape(image)[:2] - size)


def _center(image, size):
    bottom, right = _corners(image, size)
    return _cut(image, bottom // 2, right // 2, size)


def _ten(image, size):
    import tensorflow as tf

    bottom, right = _corners(image, size)
    crops = [
        *(_cut(image, y, x, size) for y in (0, bottom) for x in (0, right)),
        _center(image, size),
    ]
    crops = tf.stack(crops)
    return tf.concat([crops, tf.reverse(crops, axis=[2])], axis=0)


def _cut(image, y, x, size):
    import tensorflow as tf

    crop = tf.slice(image, tf.stack([y, x, 0]), (size, size, 3))
    return tf.ensure_shape(crop, (size, size, 3))
