"""The base class of all models of the zoo."""

from inspect import signature

import keras
import numpy as np

from keras_polynets._errors import check_floats
from keras_polynets._errors import unknown_name
from keras_polynets._training import BlockTraining
from keras_polynets.export import _classifier_outputs
from keras_polynets.export import saved_model


class ZooModel(BlockTraining, keras.Model):
    """A functional Keras model that comes back from `.keras` as itself.

    Subclasses build the graph in `__init__` out of flat arguments and hand
    them over as `config`. What a user needs beside the network travels with
    it: the range of its input, the layer that takes stored data there and the
    names of the classes. Models for another task than classification override
    `make_loss`, `make_metrics` and `served_outputs`.

    Args:
        inputs: The `keras.Input` of the graph, floats in `input_range`.
        outputs: The output of the graph, logits for a classifier.
        config: Dictionary of the arguments of the subclass.
        input_range: Pair `(low, high)`, each a number or one value a channel:
            the range that the preprocessor yields and in which every ε of an
            attack or certificate is measured.
        data_range: Pair `(low, high)`, the range of stored data.
        class_names: Optional sequence of strings, one an output.
        dtype: The dtype policy of the layers.
        name: String, the name of the model.
        trainable: Boolean, whether the weights are trained.
        **unknown: Refused, naming the arguments that are nearest.
    """

    def __init__(
        self,
        inputs,
        outputs,
        *,
        config,
        input_range=(-1.0, 1.0),
        data_range=(0.0, 255.0),
        class_names=None,
        dtype=None,
        name=None,
        trainable=True,
        **unknown,
    ):
        # Keras would take unknown keywords in silence.
        for key in unknown:
            raise unknown_name("argument", key, _arguments(type(self)))
        super().__init__(
            inputs=inputs, outputs=outputs, name=name, trainable=trainable
        )
        # A functional model takes no policy at construction; `compile` asks
        # for it to decide on loss scaling.
        self.dtype_policy = keras.dtype_policies.get(dtype)
        self.input_range = _plain_range("input_range", input_range)
        self.data_range = _plain_range("data_range", data_range)
        self.class_names = class_names
        self._arguments = config
        # Not an attribute that Keras tracks: the preprocessor is no part of
        # the network.
        self.__dict__["_preprocessor"] = self.make_preprocessor()

    @property
    def class_names(self):
        """Tuple with the name of every output, or `None`."""
        return self.__dict__.get("_class_names")

    @class_names.setter
    def class_names(self, names):
        if names is not None:
            names = tuple(map(str, names))
            if len(names) != self.output_shape[-1]:
                raise ValueError(
                    f"Expected {self.output_shape[-1]} class names, one an "
                    f"output. Received {len(names)}: {names}"
                )
        self.__dict__["_class_names"] = names

    @property
    def head(self):
        """The layer whose shape depends on the classes, `None` without top.

        That is the layer named `"head"`; a subclass may have another one.
        """
        return next((x for x in self.layers if x.name == "head"), None)

    @property
    def preprocessor(self):
        """Keras layer from stored data to floats in `input_range`."""
        return self.__dict__["_preprocessor"]

    @property
    def stored_shape(self):
        """Shape of one stored example, which the preprocessor takes."""
        return tuple(self.input_shape[1:])

    @property
    def stored_dtype(self):
        """Dtype of the integers that examples are stored in."""
        return "uint8"

    def make_preprocessor(self):
        """Returns the layer that takes stored data to `input_range`."""
        low, high = map(np.asarray, self.input_range)
        data_low, data_high = map(np.asarray, self.data_range)
        scale = (high - low) / (data_high - data_low)
        return keras.layers.Rescaling(
            scale.tolist(),
            offset=(low - scale * data_low).tolist(),
            dtype="float32",
            name="preprocessor",
        )

    def make_loss(self):
        """Returns the loss that the model is trained with."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def make_metrics(self):
        """Returns the list of metrics that `fit` reports."""
        return ["accuracy"]

    def served_outputs(self, outputs):
        """Names what an exported model gives.

        Args:
            outputs: Float32 tensor, what the model gives.

        Returns:
            Dictionary from a name to a tensor.
        """
        return _classifier_outputs(outputs)

    def __call__(self, inputs, *args, **kwargs):
        # Before Keras casts: stored images would pass as floats out of range.
        check_floats(self, inputs)
        return super().__call__(inputs, *args, **kwargs)

    def export(self, filepath, **kwargs):
        """Writes a SavedModel that takes stored data, preprocessing inside.

        The same as `keras_polynets.export.saved_model(model, filepath)`. Other
        formats of `keras.Model.export` are passed on to Keras.

        Args:
            filepath: The folder to write.
            **kwargs: Arguments of `keras_polynets.export.saved_model`, or of
                `keras.Model.export` where `format` names another format.
                `verbose` is taken too: a SavedModel is written silently.
        """
        if kwargs.get("format", "tf_saved_model") != "tf_saved_model":
            return super().export(filepath, **kwargs)
        for key in ("format", "verbose"):
            kwargs.pop(key, None)
        return saved_model(self, filepath, **kwargs)

    def get_config(self):
        return {
            **self._arguments,
            "input_range": self.input_range,
            "data_range": self.data_range,
            "class_names": self.class_names,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


def float32_logits(x, policy, activation=None):
    """Ends a graph in float32, with an activation where one is wanted.

    Args:
        x: Symbolic tensor, the logits.
        policy: The dtype policy of the model.
        activation: `None` for logits, or an activation such as `"softmax"`.
    """
    if activation is None and policy.compute_dtype == "float32":
        return x
    return keras.layers.Activation(
        activation,
        dtype="float32" if policy.compute_dtype != "float64" else "float64",
        name="logits" if activation is None else "predictions",
    )(x)


def _arguments(cls):
    """Returns the names of the arguments that a model and its bases take."""
    bases = cls.__mro__[: cls.__mro__.index(ZooModel) + 1]
    known = {p for base in bases for p in signature(base.__init__).parameters}
    return known - {"self", "inputs", "outputs", "config", "kwargs", "unknown"}


def _plain_range(name, value):
    low, high = (np.asarray(v, dtype="float64") for v in value)
    if not np.all(low < high):
        raise ValueError(
            f"Argument `{name}` must be a pair (low, high) with low < high. "
            f"Received: {name}={value}"
        )
    return (low.tolist(), high.tolist())
