"""A whole data set as arrays in memory."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class ArrayDataset:
    """A classification set held in memory, as `data.load` returns it.

    Args:
        name: What the set is called.
        x_train: Training images as they are stored, uint8 of shape
            `(n, height, width, channels)`, values 0 to 255; or recordings,
            int16 of shape `(n, samples)`.
        y_train: Training labels, int32 of shape `(n,)`, from 0.
        x_test: Test examples, as `x_train`.
        y_test: Test labels, as `y_train`.
        class_names: The name of each label, a tuple of strings.
        source: One sentence that says where the data came from.
        x_validation: The examples that the set itself holds out to select
            models, as `x_train`, or `None`.
        y_validation: Their labels, or `None`.
        noise: Recorded noise that comes with a set of recordings, an int16
            vector, or `None`.
        sampling_rate: Samples a second of recordings, `None` for images.

    Example:

    >>> sample = keras_polynets.data.load("fashion_mnist_sample")
    >>> sample.x_train.shape
    (10000, 28, 28, 1)
    >>> sample.class_names[sample.y_train[0]]
    """

    name: str
    x_train: np.ndarray = dataclasses.field(repr=False)
    y_train: np.ndarray = dataclasses.field(repr=False)
    x_test: np.ndarray = dataclasses.field(repr=False)
    y_test: np.ndarray = dataclasses.field(repr=False)
    class_names: tuple
    source: str
    x_validation: np.ndarray | None = dataclasses.field(
        default=None, repr=False
    )
    y_validation: np.ndarray | None = dataclasses.field(
        default=None, repr=False
    )
    noise: np.ndarray | None = dataclasses.field(default=None, repr=False)
    sampling_rate: int | None = None
