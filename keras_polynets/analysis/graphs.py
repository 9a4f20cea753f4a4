"""Walking the graph of a model: its layers, and each call of one."""

import dataclasses
import functools
import math

import keras
from keras import tree


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of an operation in the graph of a model.

    Args:
        path: String, the names of the nested models around the operation and
            its own, joined by `/`.
        operation: A layer, or a plain operation such as an addition.
        inputs: List of the shapes of its input tensors, without the batch.
        outputs: List of the shapes of its output tensors, without the batch.
        dtypes: List of the dtypes of its output tensors.
    """

    path: str
    operation: keras.Operation
    inputs: list
    outputs: list
    dtypes: list


def calls(model, input_shapes=None):
    """Returns each call of an operation in a model, in the order of the graph.

    Nested models are entered. A shared layer appears once for each call.

    Args:
        model: A functional or sequential model that is built.
        input_shapes: Optional structure like the model's inputs of shapes,
            with the batch, that replace those of the model. A size that the
            model leaves open is `None` in the calls otherwise.

    Raises:
        ValueError: If the model is subclassed or not built, or a shape is not
            one of its input.
    """
    check_graph(model)
    inputs = functional(model)._inputs_struct
    if input_shapes is not None:
        inputs = tree.map_structure_up_to(
            inputs, _of_shape, inputs, input_shapes
        )
    found = []

    def visit(path, operation, args, kwargs):
        outputs = operation.compute_output_spec(*args, **kwargs)
        tensors = _tensors(outputs)
        found.append(
            Call(
                path,
                operation,
                [x.shape[1:] for x in _tensors((args, kwargs))],
                [x.shape[1:] for x in tensors],
                [x.dtype for x in tensors],
            )
        )
        return outputs

    run(model, inputs, visit)
    return found


def run(model, inputs, visit, path=(), enter=None):
    """Runs the graph of a model on anything that stands for its tensors.

    Nested models are entered.

    Args:
        model: A functional or sequential model that is built.
        inputs: What stands for the inputs, in their structure.
        visit: Callable `(path, operation, args, kwargs)` that returns what
            stands for the outputs of a call, in the order of its tensors; more
            than there are do no harm. `path` is as in `Call`.
        path: Tuple of strings, the names of the models around this one.
        enter: Callable `(model, inputs, args, kwargs)` that returns what each
            model, also the outermost, makes of its inputs before its graph
            begins, and knows the other arguments of its call.

    Returns:
        What stands for the outputs, in their structure.
    """
    return _run(model, (inputs,), {}, visit, path, enter)


def _run(model, args, kwargs, visit, path, enter):
    first, *others = args or [kwargs["inputs"]]
    inputs = _by_name(model, first)
    if enter is not None:
        inputs = enter(model, inputs, others, kwargs)

    def operation_fn(operation):
        where = (*path, operation.name)

        def call(*args, **kwargs):
            if is_graph(operation):
                return _run(operation, args, kwargs, visit, where, enter)
            return visit("/".join(where), operation, args, kwargs)

        return call

    return functional(model)._run_through_graph(inputs, operation_fn)


def _by_name(model, inputs):
    """Returns inputs in the structure of a model, a dictionary by its names."""
    own = functional(model)._inputs_struct
    if not isinstance(inputs, dict):
        return inputs
    if isinstance(own, dict):
        return {name: inputs[name] for name in own}
    return tree.map_structure(lambda x: inputs[x.name], own)


def count_outputs(operation):
    """Returns how many tensors an operation of a graph yields."""
    return max(len(node.outputs) for node in operation._inbound_nodes)


def makers(model, passes):
    """Returns the operations that make the values of a model's outputs.

    Args:
        model: A functional or sequential model that is built.
        passes: Callable that says of an operation whether it passes its input
            on, so that the operation before it is looked for.

    Returns:
        List of operations, one an output; `None` for an input of the model.
    """

    def visit(path, operation, args, kwargs):
        if args and passes(operation):
            return tree.flatten(args[0])
        return [operation] * count_outputs(operation)

    inputs = functional(model)._inputs_struct
    inputs = tree.map_structure(lambda _: None, inputs)
    return tree.flatten(run(model, inputs, visit))


def _of_shape(x, shape):
    """Returns a tensor like `x` whose open sizes are those of `shape`."""
    fits = (
        isinstance(shape, list | tuple)
        and len(shape) == len(x.shape)
        and all(
            None in (old, new) or old == new
            for old, new in zip(x.shape, shape, strict=True)
        )
    )
    if not fits:
        raise ValueError(
            "Argument `input_shapes` must fill in open sizes of the input "
            f"{x.name!r}, whose shape with the batch is {x.shape}. "
            f"Received: {shape}"
        )
    return keras.KerasTensor(tuple(shape), x.dtype)


def _tensors(structure):
    return [
        x for x in tree.flatten(structure) if isinstance(x, keras.KerasTensor)
    ]


def leaves(model):
    """Returns the layers of a model that are not models with a graph.

    Args:
        model: A functional or sequential model that is built.

    Returns:
        Dictionary from the path of each layer to the layer, in the order of
        the graph, a shared one once, under the path of its first call. Layers
        inside wrappers belong to the wrapper.

    Raises:
        ValueError: If the model is subclassed or not built.
    """
    check_graph(model)
    found = {}
    _collect(model, (), found, set())
    return found


def _collect(model, path, found, seen):
    # Deepest first, as the graph runs.
    for _, nodes in sorted(functional(model)._nodes_by_depth.items())[::-1]:
        for layer in (node.operation for node in nodes):
            if id(layer) in seen or not isinstance(layer, keras.Layer):
                continue
            seen.add(id(layer))
            where = (*path, layer.name)
            if is_graph(layer):
                _collect(layer, where, found, seen)
            elif not isinstance(layer, keras.layers.InputLayer):
                found["/".join(where)] = layer


def check_graph(model):
    """Raises a `ValueError` unless the graph of a model is known.

    Args:
        model: What a user passed as a model.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Expected a functional or sequential `keras.Model`. Received: "
            f"{model!r} (of type {type(model).__name__})"
        )
    if not is_graph(model):
        raise ValueError(
            f"Model {model.name!r} is a subclassed model "
            f"({type(model).__name__}): its layers meet in Python code, so "
            "that its graph is not known. Expected a functional or sequential "
            "model. Write it as `keras.Model(inputs, outputs)`, or pass the "
            "functional or sequential models inside it one by one."
        )
    if isinstance(model, keras.Sequential) and model._functional is None:
        raise ValueError(
            f"Model {model.name!r} has no weights yet. Build it first: call "
            "it once, or start it with `keras.Input(shape)`."
        )


def is_graph(model):
    """Says whether a layer is a model whose graph is its function.

    Args:
        model: A layer or another operation.
    """
    if isinstance(model, keras.Sequential):
        return type(model).call is keras.Sequential.call
    functional = functional_class()
    return isinstance(model, functional) and type(model).call is functional.call


@functools.cache
def functional_class():
    """Returns the class of plain functional models, which Keras keeps."""
    x = keras.Input((1,))
    return type(keras.Model(x, x))


def size(shape):
    """Returns the number of elements of a shape, `None` where it is open.

    Args:
        shape: Sequence of integers and `None`.
    """
    return None if None in shape else math.prod(shape)


def functional(model):
    """Returns the graph of a model: of a sequential one, that inside it.

    Args:
        model: A functional or sequential model that is built.
    """
    return model._functional if isinstance(model, keras.Sequential) else model
