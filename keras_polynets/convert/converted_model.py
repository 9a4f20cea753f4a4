"""A rewritten graph in the class of the model that it came from."""

import keras

from keras_polynets._recursion import recursion_to
from keras_polynets.models.zoo_model import ZooModel

# What stands for the graph in the config of a functional model.
GRAPH_KEYS = {"layers", "input_layers", "output_layers"}


@keras.saving.register_keras_serializable(package="keras_polynets")
class ConvertedModel(ZooModel):
    """A model of the zoo whose graph was rewritten by `convert`.

    The classes of the zoo build their graph from a few arguments, which do not
    describe a rewritten one. This class holds any graph, and what a user of
    the zoo needs beside it: `preprocessor`, `input_range`, `class_names`,
    `head` and `export`.

    Args:
        *args: `inputs` and `outputs` of the graph, as in
            `keras.Model(inputs, outputs)`.
        head: Optional string, the name of the layer whose shape depends on the
            classes.
        preprocessor: Optional `keras.layers.Layer`, the preprocessor of the
            source; by default a linear map of the range of the data.
        stored: Optional pair of the shape and the dtype of stored examples.
        **kwargs: `input_range`, `data_range`, `class_names`, `name`, `dtype`
            and `trainable` of `keras_polynets.models.ZooModel`.

    Input shape:
        That of the graph.

    Output shape:
        That of the graph.

    Example:

    >>> model = keras_polynets.zoo.load("pn_conv", weights=None)
    >>> quadratic = keras_polynets.convert.to_quadratic(model)
    >>> type(quadratic).__name__, quadratic.input_range
    ('ConvertedModel', (-1.0, 1.0))
    """

    # Keras builds a functional model from its config where `__init__` takes
    # `*args` and `**kwargs`.
    def __init__(
        self, *args, head=None, preprocessor=None, stored=None, **kwargs
    ):
        if isinstance(preprocessor, dict):
            preprocessor = keras.saving.deserialize_keras_object(preprocessor)
        self.__dict__["_head"] = head
        self.__dict__["_given"] = preprocessor
        self.__dict__["_stored"] = stored
        inputs, outputs = (
            kwargs.pop(name, None) for name in ("inputs", "outputs")
        )
        graph = args or (inputs, outputs)
        config = {"head": head, "stored": stored}
        if preprocessor is not None:
            config["preprocessor"] = keras.saving.serialize_keras_object(
                preprocessor
            )
        super().__init__(*graph, config=config, **kwargs)

    @property
    def head(self):
        name = self.__dict__["_head"]
        return None if name is None else self.get_layer(name)

    @property
    def stored_shape(self):
        stored = self.__dict__["_stored"]
        return tuple(stored[0]) if stored else super().stored_shape

    @property
    def stored_dtype(self):
        stored = self.__dict__["_stored"]
        return stored[1] if stored else super().stored_dtype

    def make_preprocessor(self):
        given = self.__dict__["_given"]
        return super().make_preprocessor() if given is None else given

    def get_config(self):
        # The graph as Keras writes it, over what the zoo adds.
        return {**super().get_config(), **super(ZooModel, self).get_config()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Keras takes a frame or two for each layer in a row.
        with recursion_to(4 * len(config["layers"])):
            return super(ZooModel, cls).from_config(config, custom_objects)


def in_class_of(model, graph):
    """Returns a rewritten graph in the class of its source, where that can be.

    Args:
        model: The source.
        graph: Plain functional or sequential model.

    Returns:
        Pair of the model and `None`, or a string that says why the class is
        another one. The layers of the model may be copies of those of `graph`.
    """
    if type(model) is type(graph):
        return graph, None
    try:
        return _rebuilt(model, graph), None
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
    if type(model) is ConvertedModel:
        return _converted(model, graph), None
    new = _converted(model, graph) if isinstance(model, ZooModel) else graph
    return new, (
        f"{model.name!r} has become a {type(new).__name__}: its class "
        f"{type(model).__name__} cannot be built with another graph ({reason})."
    )


def _rebuilt(model, graph):
    cls = type(model)
    about = {"name": model.name, "trainable": model.trainable}
    if isinstance(model, keras.Sequential):
        inputs = graph.inputs[0]._keras_history.operation
        new = cls([inputs, *graph.layers], **about)
        if len(new.layers) != len(graph.layers):
            raise ValueError("its `__init__` adds layers of its own")
        return new
    config = model.get_config()
    if not GRAPH_KEYS <= config.keys():
        raise ValueError("its config does not hold its graph")
    if cls.from_config.__func__ is type(graph).from_config.__func__:
        others = {k: v for k, v in config.items() if k not in GRAPH_KEYS}
        return cls(
            inputs=graph._inputs_struct,
            outputs=graph._outputs_struct,
            **others,
        )
    ours = graph.get_config()
    new = cls.from_config(config | {key: ours[key] for key in GRAPH_KEYS})
    shapes = [[v.shape for v in m.variables] for m in (new, graph)]
    if shapes[0] != shapes[1]:
        raise ValueError("its `from_config` does not give back the graph")
    return new


def _converted(model, graph):
    return ConvertedModel(
        graph._inputs_struct,
        graph._outputs_struct,
        head=None if model.head is None else model.head.name,
        preprocessor=model.preprocessor,
        stored=(list(model.stored_shape), model.stored_dtype),
        input_range=model.input_range,
        data_range=model.data_range,
        class_names=model.class_names,
        dtype=model.dtype_policy,
        name=model.name,
        trainable=model.trainable,
    )
