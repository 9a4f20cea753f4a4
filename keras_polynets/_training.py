"""Training of small models: many steps as one XLA computation.

A step of a small network takes a tenth of a millisecond, less than the work
around it: reading a batch and entering a step cost as much. Here `fit` reads
blocks of batches, and one compiled loop steps through each. Arrays are read by
`keras_polynets.data` on TensorFlow: its iterators end without waiting.
"""

import keras
import numpy as np
from keras import ops

from keras_polynets._blocks import block_function
from keras_polynets.data.batches import Batches
from keras_polynets.data.batches import ordered

# XLA compiles for seconds and saves a tenth of a millisecond a step.
WORTHWHILE_STEPS = 10_000


class BlockTraining:
    """Mixin for `keras.Model` whose `fit` also takes `data.Batches`.

    On TensorFlow and JAX, on one device, with XLA and `steps_per_execution`
    above 1, the steps of an execution are one XLA computation. Batches,
    updates, callbacks and logs are those of Keras. `jit_compile="auto"` chooses
    this where there is an accelerator, and on CPUs for models without
    convolutions, which XLA slows down there; on TensorFlow, which runs without
    XLA too, for at least 10,000 steps.
    """

    _block_batch_size = None
    _block_train_function = (None, None)
    _jit_requested = "auto"

    def compile(self, *args, jit_compile="auto", **kwargs):
        """Configures training, see `keras.Model.compile`."""
        self.__dict__["_jit_requested"] = jit_compile
        self.__dict__.pop("_block_train_function", None)
        super().compile(*args, jit_compile=jit_compile, **kwargs)

    def compile_from_config(self, config):
        """Compiles as a saved model was, see `keras.Model`."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        **kwargs,
    ):
        """Trains the model, see `keras.Model.fit`.

        Args:
            x: As in Keras, or `keras_polynets.data.Batches`.
            y: As in Keras.
            batch_size: As in Keras.
            epochs: As in Keras.
            verbose: As in Keras.
            callbacks: As in Keras.
            **kwargs: As in Keras.
        """
        kwargs |= {"epochs": epochs, "verbose": verbose, "callbacks": callbacks}
        self._order_validation(batch_size, kwargs)
        if isinstance(x, Batches):
            if y is not None or batch_size is not None:
                raise ValueError(
                    "`Batches` hold the targets and the batch size. Leave the "
                    "arguments `y` and `batch_size` out."
                )
            return self._fit_batches(x, kwargs)
        if are_arrays(x, y) and len(x) and _is_plain(kwargs):
            size = batch_size or 32
            steps = -(-len(x) // size)
            if self._takes_blocks(epochs * steps) or self._takes_batches(steps):
                if kwargs.get("validation_batch_size") is None:
                    kwargs["validation_batch_size"] = batch_size
                batches = Batches(x, y, size, _drawn_seed())
                return self._fit_batches(batches, kwargs)
        return super().fit(x, y, batch_size, **kwargs)

    def evaluate(
        self,
        x=None,
        y=None,
        batch_size=None,
        verbose="auto",
        sample_weight=None,
        steps=None,
        callbacks=None,
        return_dict=False,
        **kwargs,
    ):
        """Returns the loss and the metrics, see `keras.Model.evaluate`."""
        # In `fit` Keras has made an iterator of the data already.
        cached = kwargs.get("_use_cached_eval_dataset")
        if sample_weight is None and not cached:
            x, y, batch_size = self._ordered(x, y, batch_size, steps)
        return super().evaluate(
            x,
            y,
            batch_size,
            verbose,
            sample_weight,
            steps,
            callbacks,
            return_dict,
            **kwargs,
        )

    def predict(
        self, x, batch_size=None, verbose="auto", steps=None, callbacks=None
    ):
        """Returns the outputs as arrays, see `keras.Model.predict`."""
        x, _, batch_size = self._ordered(x, None, batch_size, steps)
        return super().predict(x, batch_size, verbose, steps, callbacks)

    def make_train_function(self, force=False):
        """Makes the function that trains for one execution, as in Keras."""
        if self._block_batch_size is None:
            return super().make_train_function(force)
        if self.train_function is None or force:
            self.train_function = block_function(self, self._block_batch_size)
        return self.train_function

    def _fit_batches(self, batches, kwargs):
        first = batches.first_step % batches.steps_per_epoch
        if not kwargs.get("steps_per_epoch"):
            whole = batches.steps_per_epoch
            if first:
                raise ValueError(
                    f"The batches begin at step {first} of an epoch of "
                    f"{whole}. Train to the end of that epoch first: "
                    f"steps_per_epoch={whole - first}."
                )
            kwargs["steps_per_epoch"] = whole
        kwargs["shuffle"] = False
        epochs = kwargs["epochs"] - kwargs.get("initial_epoch", 0)
        steps = kwargs["steps_per_epoch"]
        in_step = _blocks_are_executions(
            batches, steps, epochs, self.steps_per_execution
        )
        if not in_step or not self._takes_blocks(epochs * steps):
            return super().fit(batches.dataset(), **kwargs)
        plain, size = self.train_function, batches.batch_size
        known_size, known = self._block_train_function
        self.train_function = known if known_size == size else None
        self.__dict__["_block_batch_size"] = size
        # What a callback makes of the step is gone with it, unless it breaks.
        self.__dict__.pop("_block_train_function", None)
        try:
            history = super().fit(
                batches.dataset(self.steps_per_execution), **kwargs
            )
            self.__dict__["_block_train_function"] = size, self.train_function
            return history
        finally:
            self.__dict__["_block_batch_size"] = None
            self.train_function = plain

    def _order_validation(self, batch_size, kwargs):
        """Replaces arrays to validate on by their batches."""
        known = kwargs.get("validation_data")
        if isinstance(known, tuple) and len(known) == 2:
            size = kwargs.get("validation_batch_size") or batch_size
            steps = kwargs.get("validation_steps")
            x, y, _ = self._ordered(*known, size, steps)
            kwargs["validation_data"] = (x, y) if x is known[0] else x

    def _ordered(self, x, y, batch_size, steps):
        """Returns `x`, `y` and `batch_size`, arrays replaced by a dataset."""
        arrays = (x,) if y is None else (x, y)
        if (
            self._reads_itself()
            and steps is None
            and (batch_size is None or batch_size > 0)
            and are_arrays(*arrays)
            and len({len(a) for a in arrays}) == 1
        ):
            return ordered(arrays, batch_size or 32), None, None
        return x, y, batch_size

    def _reads_itself(self):
        return (
            keras.backend.backend() == "tensorflow"
            and self.distribute_strategy.num_replicas_in_sync == 1
        )

    def _steps_itself(self):
        if keras.backend.backend() == "jax":
            return keras.distribution.distribution() is None
        return self._reads_itself()

    def _takes_batches(self, steps_per_epoch):
        """Whether Keras ends the epochs of an endless stream where they end."""
        return (
            self._reads_itself()
            and self.compiled
            and steps_per_epoch % self.steps_per_execution == 0
        )

    def _takes_blocks(self, steps):
        """Whether executions are XLA computations in a fit of `steps`."""
        return (
            self._steps_itself()
            and self.compiled
            and not self.run_eagerly
            and self.steps_per_execution > 1
            and self._compiles_with_xla(steps)
        )

    def _compiles_with_xla(self, steps):
        given = self._jit_requested != "auto"
        if given or self.jit_compile and not _is_jax_on_cpu():
            return self.jit_compile
        worthwhile = self.jit_compile or steps >= WORTHWHILE_STEPS
        return worthwhile and all(
            len(v.shape) <= 2 for v in self.trainable_variables
        )


def _blocks_are_executions(batches, steps, epochs, steps_per_execution):
    """Whether executions end with the blocks, which end with the data.

    Args:
        batches: The `Batches`.
        steps: Integer, the steps of an epoch of `fit`.
        epochs: Integer, how many of them.
        steps_per_execution: Positive integer, the steps of a block.
    """
    whole = batches.steps_per_epoch
    left = whole - batches.first_step % whole
    if steps == left and (epochs == 1 or left == whole):
        return True
    parts = (steps,) if epochs == 1 and steps < left else (steps, left, whole)
    return all(part % steps_per_execution == 0 for part in parts)


def are_arrays(*values):
    """Whether values are arrays: not variables, sparse or ragged ones.

    Args:
        *values: What `fit` is given.
    """
    return all(
        (isinstance(v, np.ndarray) and v.dtype != object or ops.is_tensor(v))
        and not hasattr(v, "todense")
        and hasattr(v, "__len__")
        and len(v.shape)
        for v in values
    )


def _drawn_seed():
    """Returns a seed from the generator that Keras shuffles with."""
    if keras.backend.backend() != "tensorflow":
        return int(np.random.randint(2**31 - 1))
    import tensorflow as tf

    return int(tf.random.uniform((), maxval=2**31 - 1, dtype="int32"))


def _is_jax_on_cpu():
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


def _is_plain(kwargs):
    """Whether `fit` is to shuffle whole, unweighted arrays."""
    weights = (kwargs.get(k) for k in ("class_weight", "sample_weight"))
    return (
        kwargs.get("shuffle", True) is True
        and not kwargs.get("validation_split")
        and not kwargs.get("steps_per_epoch")
        and all(w is None for w in weights)
    )
