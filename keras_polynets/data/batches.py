"""Shuffled batches that are addressed by (seed, global step)."""

import functools

import keras
import numpy as np

from keras_polynets._errors import check_positive_integer


class Order:
    """Which examples a global step holds: the shuffled order of every epoch.

    The order of epoch `e` is
    `np.random.Generator(np.random.Philox(key=[seed, e])).permutation(n)`.

    Args:
        size: The number of examples.
        batch_size: Examples a batch, integer of at least 1.
        seed: Integer from 0 to 2**64 - 1.
        first_step: Global step (from 0, across epochs) at which a stream of
            batches starts.

    Raises:
        ValueError: If an integer is out of range.
    """

    def __init__(self, size, batch_size, seed, first_step=0):
        check_positive_integer("batch_size", batch_size)
        _check_range("seed", seed, 2**64)
        _check_range("first_step", first_step)
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.first_step = first_step
        # Without `self`, which neither a cache nor TensorFlow is to hold.
        self._permutation = functools.partial(permutation, size, seed)
        self._order = functools.lru_cache(maxsize=1)(self._permutation)

    @property
    def steps_per_epoch(self):
        """The number of batches of an epoch, the last short one counted."""
        return -(-self.size // self.batch_size)

    def indices(self, step):
        """Returns the indices of the examples of a global step.

        Args:
            step: Global step, from 0, across epochs.

        Returns:
            An int64 array of at most `batch_size` indices of examples.

        Raises:
            ValueError: If the step is no integer of at least 0.
        """
        _check_range("step", step)
        epoch, step = divmod(step, self.steps_per_epoch)
        first = step * self.batch_size
        return self._order(epoch)[first : first + self.batch_size]


def permutation(size, seed, epoch):
    """Returns the order of an epoch, see `Order`."""
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    return np.random.Generator(bits).permutation(size)


class Batches(Order):
    """An endless stream of shuffled batches that can start at any step.

    The order of epoch `e` is
    `np.random.Generator(np.random.Philox(key=[seed, e])).permutation(n)`, so
    a batch is a function of the seed and of the global step alone: a run that
    was interrupted goes on with the batches that it would have seen, and every
    backend sees the same ones. The last batch of an epoch may be short.

    The models of the zoo take `Batches` in `fit`. Others take `dataset()`, an
    endless stream, of which Keras runs whole executions: compile them with a
    `steps_per_execution` that divides `steps_per_epoch`, or epochs run past
    their end. `keras_polynets.recipes` chooses one.

    Args:
        x: Examples, array (or `np.memmap`) of shape `(n, ...)`.
        y: Targets, array of shape `(n, ...)`.
        batch_size: Examples a batch, integer of at least 1.
        seed: Integer from 0 to 2**64 - 1.
        first_step: Global step (from 0, across epochs) at which `dataset`
            starts.

    Raises:
        ValueError: If `x` and `y` differ in length or are empty, or an
            integer is out of range.

    Example:

    >>> batches = Batches(x_train, y_train, batch_size=64, seed=0)
    >>> model.fit(batches, epochs=10)
    """

    def __init__(self, x, y, batch_size, seed, first_step=0):
        if len(x) != len(y) or not len(x):
            raise ValueError(
                "Arguments `x` and `y` must hold the same number of examples, "
                f"at least one. Received: {len(x)} and {len(y)}"
            )
        super().__init__(len(x), batch_size, seed, first_step)
        self.x = x if isinstance(x, np.ndarray) else np.asarray(x)
        self.y = y if isinstance(y, np.ndarray) else np.asarray(y)

    def dataset(self, block=1):
        """Returns the endless stream of batches `(x, y)` from `first_step`.

        Args:
            block: Positive integer: an element holds so many batches, one
                after the other, fewer at the end of an epoch.

        Returns:
            On the TensorFlow backend a `tf.data.Dataset` (the arrays are held
            as tensors, or read batch by batch where `x` is a memory map); on
            other backends a Python generator of NumPy arrays.
        """
        check_positive_integer("block", block)
        if keras.backend.backend() != "tensorflow":
            return self._generator(block)
        if isinstance(self.x, np.memmap):
            return self._generator_dataset(block)
        return self._tensor_dataset(block)

    def _generator(self, block):
        step = self.first_step
        while True:
            left = self.steps_per_epoch - step % self.steps_per_epoch
            steps = range(step, step + min(block, left))
            indices = np.concatenate([self.indices(s) for s in steps])
            yield self.x[indices], self.y[indices]
            step = steps.stop

    def _generator_dataset(self, block):
        import tensorflow as tf

        def signature(array):
            return tf.TensorSpec((None, *array.shape[1:]), array.dtype)

        dataset = tf.data.Dataset.from_generator(
            functools.partial(self._generator, block),
            output_signature=(signature(self.x), signature(self.y)),
        )
        return _prefetched(dataset, block)

    def _tensor_dataset(self, block):
        """Permutes once an epoch in NumPy and gathers in the graph."""
        import tensorflow as tf

        # On the host: an accelerator would gather there and copy back.
        with tf.device("CPU:0"):
            x, y = tf.constant(self.x), tf.constant(self.y)
        first_epoch, first_in_epoch = divmod(
            self.first_step, self.steps_per_epoch
        )

        def order(epoch):
            indices = tf.numpy_function(
                self._permutation, [epoch], tf.int64, stateful=False
            )
            return epoch, tf.ensure_shape(indices, (len(self.x),))

        def blocks_of_epoch(epoch, indices):
            first = tf.where(epoch == first_epoch, first_in_epoch, 0)
            steps = tf.data.Dataset.range(
                tf.cast(first, tf.int64), self.steps_per_epoch, block
            )
            return steps.map(lambda step: chosen(indices, step))

        def chosen(indices, step):
            first = step * self.batch_size
            return indices[first : first + block * self.batch_size]

        def batch(indices, tensors):
            return tuple(tf.gather(t, indices) for t in tensors)

        epochs = tf.data.Dataset.counter(first_epoch).map(order).prefetch(1)
        blocks = epochs.flat_map(blocks_of_epoch)
        return _prefetched(_of_tensors(blocks, (x, y), batch), block)


def ordered(arrays, batch_size):
    """Returns the batches of arrays in their order, as a `tf.data.Dataset`.

    Args:
        arrays: Tuple of arrays of equal length. Batches of floats have
            Keras's float type, as in `keras.Model.fit`.
        batch_size: Examples a batch, integer of at least 1.
    """
    import tensorflow as tf

    # On the host: an accelerator would slice there and copy back.
    with tf.device("CPU:0"):
        tensors = [tf.convert_to_tensor(a) for a in arrays]
        tensors = [
            tf.cast(t, keras.config.floatx()) if t.dtype.is_floating else t
            for t in tensors
        ]

    def batch(first, tensors):
        return tuple(t[first : first + batch_size] for t in tensors)

    firsts = tf.data.Dataset.range(0, len(arrays[0]), batch_size)
    return untuned(_of_tensors(firsts, tensors, batch).prefetch(2))


def _of_tensors(dataset, tensors, function):
    """Maps elements of a dataset together with tensors.

    A function that captured the tensors would hold them in a cycle of
    references, until Python looks for such.
    """
    import tensorflow as tf

    tensors = tf.data.Dataset.from_tensors(tuple(tensors)).repeat()
    return tf.data.Dataset.zip((dataset, tensors)).map(function)


def untuned(dataset, threads=1):
    """Returns the dataset, reading with a fixed number of threads.

    The thread with which `tf.data` tunes a pipeline may miss that its iterator
    has ended, and the iterator then waits for that thread's next look, at 10 ms
    · (2ⁿ - 1) after the start: an epoch of 43 seconds may last for 82.

    Args:
        dataset: A `tf.data.Dataset`.
        threads: Number of threads. One keeps ahead of a training step, which
            wants the others.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = threads
    options.autotune.enabled = False
    return dataset.with_options(options)


def _prefetched(dataset, block):
    return untuned(dataset.prefetch(max(2, 16 // block)))


def _check_range(name, value, end=2**63):
    if (
        isinstance(value, bool)
        or not hasattr(value, "__index__")
        or not 0 <= value < end
    ):
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 0 and below "
            f"{end}. Received: {name}={value!r}"
        )
