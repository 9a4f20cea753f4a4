"""A model around the model that is trained."""

from collections.abc import Iterable
from collections.abc import Iterator

import keras
from keras import ops

from keras_polynets._errors import check_floats
from keras_polynets._errors import check_layer
from keras_polynets._training import BlockTraining
from keras_polynets._training import are_arrays
from keras_polynets.data.batches import Batches
from keras_polynets.layers.augmentation import ReplicaSeedGenerator
from keras_polynets.regularizers import JacobianPenalty
from keras_polynets.robustness.inputs import as_labels
from keras_polynets.robustness.inputs import check_range
from keras_polynets.robustness.inputs import valid_range
from keras_polynets.train_steps.stepping import step_on_changed_data


class InputTraining(BlockTraining, keras.Model):
    """Trains a classifier with the help of gradients by its input.

    The base class of `AdversarialTraining` and `JacobianTraining`, which
    explain the arguments.
    """

    clip = None

    def __init__(
        self, model, *, preprocessing=None, jacobian=None, seed=None, **kwargs
    ):
        check_built(model)
        if not isinstance(jacobian, JacobianPenalty | None):
            raise TypeError(
                "Argument `jacobian` must be a penalty such as "
                "`keras_polynets.regularizers.JacobianPenalty(0.01)`. "
                f"Received: jacobian={jacobian!r}"
            )
        # Inputs keep their dtype: the ball is in float32 whatever the policy.
        super().__init__(autocast=False, **kwargs)
        self.dtype_policy = model.dtype_policy
        self.model = model
        self.preprocessing = preprocessing
        self.jacobian = jacobian
        self.seed = seed
        self.seed_generator = ReplicaSeedGenerator(seed)
        self.built = True

    @property
    def _classes(self):
        return self.model.output_shape[-1]

    def fit(self, x=None, y=None, *args, **kwargs):
        """Trains the model, see `keras.Model.fit`.

        Args:
            x: As in Keras, or `keras_polynets.data.Batches`.
            y: As in Keras.
            *args: As in Keras.
            **kwargs: As in Keras.

        Raises:
            ValueError: If arrays or the first batch of a dataset, those to
                validate on too, hold images outside of the model's valid
                range, or labels that are no classes of the model. An iterator
                is not looked at, as that would take a batch from it.
        """
        self._check_data(x, y)
        validation = kwargs.get("validation_data")
        self._check_data(*keras.utils.unpack_x_y_sample_weight(validation))
        return super().fit(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """Returns the loss and the metrics, see `keras.Model.evaluate`.

        Args:
            x: As in Keras.
            y: As in Keras.
            *args: As in Keras.
            **kwargs: As in Keras.

        Raises:
            ValueError: As in `fit`.
        """
        # In `fit` they have been looked at.
        if not kwargs.get("_use_cached_eval_dataset"):
            self._check_data(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def _check_data(self, x, y=None, weights=None):
        if not are_arrays(x):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(_first_batch(x))
        if are_arrays(x):
            self._check_arrays(x, y)

    def _check_arrays(self, x, y):
        known = self.clip or getattr(self.model, "input_range", None)
        if known and self.preprocessing is None:
            valid = valid_range(self.model, self.clip)
            check_range(ops.convert_to_numpy(x), *valid)
        if are_arrays(y) and self._classes > 1:
            labels = class_labels(y, self._classes)
            as_labels(ops.convert_to_numpy(labels), len(x), self._classes)

    def call(self, inputs, training=False):
        return self.model(self._prepared(inputs, training), training=training)

    def train_step(self, *args):
        return step_on_changed_data(
            self, self._training_data, super().train_step, args
        )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.jacobian is None or not training:
            return loss
        x = self._prepared(x, training)
        penalty = self.jacobian(
            self.logits, x, self._classes, self.seed_generator
        )
        return loss + self._aggregate_additional_loss(penalty)

    def logits(self, x):
        """Returns the model's logits in float32, layers as in inference.

        Args:
            x: Float tensor of inputs of the model.
        """
        return ops.cast(self.model(x, training=False), "float32")

    def change_images(self, x, y):
        """Returns the images that a step trains on.

        Args:
            x: Float tensor of inputs of the model.
            y: Tensor of labels.
        """
        return x

    def _training_data(self, data):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        x = self.change_images(self._prepared(x, True), y)
        # What `call` and `compute_loss` are not to preprocess again.
        return {"prepared": x}, y, weights

    def _prepared(self, inputs, training):
        if isinstance(inputs, dict):
            return inputs["prepared"]
        if self.preprocessing is not None:
            inputs = self.preprocessing(inputs, training=training)
        if getattr(self.model, "input_range", None) is not None:
            # The cast would hide stored images from the model.
            check_floats(self.model, inputs)
        return ops.cast(inputs, "float32")

    def export(self, filepath, *args, **kwargs):
        """Raises an error that says what to export instead.

        Args:
            filepath: As in Keras.
            *args: As in Keras.
            **kwargs: As in Keras.
        """
        raise NotImplementedError(
            f"{type(self).__name__} is for training and is not exported. "
            "Export what it trains, `trainer.model.export(filepath)`, or with "
            "preprocessing before it, `keras.Sequential([preprocessing, "
            "trainer.model])`."
        )

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "model": serialize(self.model),
            "preprocessing": serialize(self.preprocessing),
            "seed": self.seed,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = {
            key: keras.saving.deserialize_keras_object(
                value, custom_objects=custom_objects
            )
            if isinstance(value, dict)
            else value
            for key, value in config.items()
        }
        return cls(**config)


def _first_batch(dataset):
    """Returns the first batch, or `None` where a look would take it away.

    Args:
        dataset: What `fit` is given instead of arrays.
    """
    if isinstance(dataset, Batches):
        indices = dataset.indices(dataset.first_step)
        return dataset.x[indices], dataset.y[indices]
    if hasattr(dataset, "as_numpy_iterator"):
        return next(dataset.as_numpy_iterator(), None)
    structures = list | tuple | dict
    if isinstance(dataset, Iterable) and not isinstance(
        dataset, Iterator | structures
    ):
        return next(iter(dataset), None)
    return None


def check_built(model):
    """Raises an error unless something is a model that is built.

    Args:
        model: What a user passed as one.
    """
    check_layer(model)
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built. Give it an input shape, or "
            "call it once on a batch."
        )


def class_labels(y, classes):
    """Returns labels as integer classes of shape `(batch_size,)`.

    Args:
        y: Tensor of classes of shape `(batch_size,)` or `(batch_size, 1)`, or
            of one value a class, the largest at the true one.
        classes: Integer, the number of classes.
    """
    if len(y.shape) == 2 and y.shape[-1] == classes:
        return ops.argmax(y, axis=-1)
    return ops.cast(ops.reshape(y, (-1,)), "int32")
