"""The graph rewriter: the same model, with other layers in some places."""

import dataclasses
import inspect
import tempfile

import keras
from keras import tree

from keras_polynets._recursion import recursion_to
from keras_polynets.analysis.graphs import check_graph
from keras_polynets.analysis.graphs import is_graph
from keras_polynets.analysis.graphs import leaves
from keras_polynets.convert.converted_model import in_class_of


@dataclasses.dataclass(frozen=True)
class Pair:
    """A layer of the source and the one in its place.

    Args:
        path: String, the names of the nested models around the layer and its
            own, joined by `/`.
        source: The layer of the source.
        target: The layer of the new model.
        replaced: Boolean, whether `target` is another layer than a copy.
    """

    path: str
    source: keras.Layer
    target: keras.Layer
    replaced: bool


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """What `rewrite` returns.

    Args:
        model: The new model.
        pairs: List of `Pair`, one a layer that is not a model itself, in the
            order of the graph; a shared layer once.
        notes: List of strings, what could not be kept as it was.
    """

    model: keras.Model
    pairs: list
    notes: list


def rewrite(model, replace, call=None):
    """Builds a model again, with other layers in some places.

    The graph, the nested models, the layers that are shared, all names, the
    frozen layers, the weights of the layers that stay, and the arguments of
    `compile` are those of the source, which is not changed. Layers inside
    wrappers, such as `keras.layers.TimeDistributed`, belong to the wrapper and
    are copied with it.

    Args:
        model: A functional or sequential `keras.Model` that is built. Models
            nested in it are rewritten too where they are of these kinds, and
            copied as layers where they are not.
        replace: Callable `(path, layer) -> layer or None`. A layer that it
            returns takes the place of the one that it was given, `None` stands
            for a copy. It is asked once for each layer. The weights of what it
            returns are left to the caller.
        call: Optional callable `(source, target, *args, **kwargs)` that
            returns the outputs of an operation in the new graph, by default
            `target(*args, **kwargs)`. It may add further layers there. In
            sequential models, which are lists of layers, it is not called.

    Returns:
        A `Rewritten`.

    Raises:
        ValueError: If the model is subclassed or has no weights yet, or a
            layer cannot be built again from its config.
    """
    check_graph(model)
    rewriter = _Rewriter(replace, call)
    # Keras takes a frame or two for each operation in a row.
    with recursion_to(4 * len(leaves(model))):
        new = rewriter.model(model, ())
    return Rewritten(new, rewriter.pairs, rewriter.notes)


class _Rewriter:
    """One run of `rewrite`: what it has built so far."""

    def __init__(self, replace, call):
        self._replace = replace
        self._call = call or (
            lambda source, target, *args, **kwargs: target(*args, **kwargs)
        )
        self._built = {}
        self.pairs = []
        self.notes = []

    def model(self, model, path):
        """Returns the new model for a model at the end of `path`."""
        first = len(self.pairs)
        if isinstance(model, keras.Sequential):
            graph = self._sequential(model, path)
        else:
            graph = self._functional(model, path)
        # Once the graph stands all layers are built.
        for pair in self.pairs[first:]:
            if not pair.replaced and pair.target.built:
                copy_state(pair.source, pair.target)
        new, note = in_class_of(model, graph)
        self.notes += [note] if note else []
        self._follow(graph, new, first, len(path))
        self._compile(model, new)
        return new

    def _follow(self, graph, new, first, depth):
        """Where a class has built the layers again, goes on with those."""
        if new.layers == graph.layers:
            return
        copy_state(graph, new)
        for i, pair in enumerate(self.pairs[first:], start=first):
            layer = new
            for name in pair.path.split("/")[depth:]:
                layer = layer.get_layer(name)
            self.pairs[i] = dataclasses.replace(pair, target=layer)

    def _functional(self, model, path):
        inputs = tree.map_structure(
            lambda x: _copy_input(x, path), model._inputs_struct
        )
        outputs = model._run_through_graph(
            inputs,
            operation_fn=lambda source: (
                lambda *args, **kwargs: self._call(
                    source, self._operation(source, path), *args, **kwargs
                )
            ),
        )
        return keras.Model(
            inputs, outputs, name=model.name, trainable=model.trainable
        )

    def _sequential(self, model, path):
        inputs = _copy_input(model.inputs[0], path)
        layers = [self._operation(layer, path) for layer in model.layers]
        return keras.Sequential(
            [inputs, *layers], name=model.name, trainable=model.trainable
        )

    def _operation(self, source, path):
        """Returns the operation in the place of `source`, always the same."""
        if id(source) not in self._built:
            self._built[id(source)] = self._new(source, (*path, source.name))
        return self._built[id(source)]

    def _new(self, source, path):
        if not isinstance(source, keras.Layer):
            return _copy(source, path)
        if is_graph(source):
            return self.model(source, path)
        target = self._replace("/".join(path), source)
        replaced = target is not None
        if not replaced:
            target = _copy(source, path)
        self.pairs.append(Pair("/".join(path), source, target, replaced))
        return target

    def _compile(self, model, new):
        if not model.compiled:
            return
        try:
            config = model.get_compile_config()
            new.compile(**keras.saving.deserialize_keras_object(config))
        except Exception as error:
            self.notes.append(
                f"{model.name!r} is not compiled: its arguments of `compile` "
                f"cannot be built again ({_first_sentence(error)}). Compile it "
                "before it is trained."
            )


def _copy(operation, path):
    """Returns an operation with the same config and fresh weights."""
    if type(operation) is keras.layers.Lambda:
        return _copy_lambda(operation)
    try:
        return type(operation).from_config(_config(operation))
    except Exception as error:
        raise ValueError(
            f"Layer {'/'.join(path)!r} of class {type(operation).__name__} "
            "cannot be built again from its config, so that the model cannot "
            f"be converted: {_first_sentence(error)}. Give the class a "
            "`get_config` that holds all arguments of its `__init__`."
        ) from error


def _config(operation):
    """Returns the config of an operation, also where Keras finds none.

    It finds none for layers without a `get_config` of their own, such as
    `Identity`, that were given a policy and not its name.
    """
    try:
        return operation.get_config()
    except NotImplementedError:
        arguments = inspect.signature(type(operation)).parameters
        if not isinstance(operation, keras.Layer) or [*arguments] != ["kwargs"]:
            raise
        return {
            "name": operation.name,
            "trainable": operation.trainable,
            "dtype": keras.dtype_policies.serialize(operation.dtype_policy),
        }


def _copy_input(tensor, path):
    """Returns the tensor of a copied input layer; its name is its own."""
    layer = tensor._keras_history.operation
    copy = _copy(layer, (*path, layer.name)).output
    copy.name = tensor.name
    return copy


def _copy_lambda(layer):
    """Returns a Lambda with the same function, not one read from bytecode."""
    return keras.layers.Lambda(
        layer.function,
        output_shape=layer._output_shape,
        mask=layer.mask,
        arguments=layer.arguments,
        name=layer.name,
        trainable=layer.trainable,
        dtype=layer.dtype_policy,
    )


def copy_state(source, target):
    """Copies all that a layer has learnt to a layer of the same config.

    These are the weights, what `adapt` computed and vocabularies.

    Args:
        source: A built layer.
        target: A built layer with the same config.
    """
    layers = source._flatten_layers(), target._flatten_layers()
    for old, new in zip(*layers, strict=True):
        store = {}
        old.save_own_variables(store)
        if store:
            new.load_own_variables(store)
        if hasattr(old, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)


def _first_sentence(error):
    text = " ".join(str(error).split()) or type(error).__name__
    return text.partition(". ")[0].removesuffix(".")
