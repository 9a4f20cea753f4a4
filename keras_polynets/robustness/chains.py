"""The layers of a model one behind the other."""

import keras

from keras_polynets import layers
from keras_polynets.analysis import degree
from keras_polynets.analysis import graphs
from keras_polynets.robustness import floats
from keras_polynets.robustness import norms

LOCAL = (
    "Around images there is a bound of models with it: "
    "`keras_polynets.robustness.local_lipschitz_bound`, and "
    "`certified_accuracy`."
)


def chain(model, rules):
    """Returns the operations of a model, in order, if they form a chain.

    Args:
        model: A built functional or sequential model.
        rules: The `functools.singledispatch` of the rules for its layers.

    Raises:
        NotPolynomialError: If its graph branches and has activations; a
            `ValueError`.
        ValueError: If the model is subclassed or not built, or if its graph
            branches.
        NotImplementedError: If a layer has a `call` of its own and no rule.
    """
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ValueError(
                f"Model {model.name!r} has no weights yet. Build it first: "
                "call it once, or start it with `keras.Input(shape)`."
            )
    if not graphs.is_graph(model):
        raise ValueError(
            f"Model {model.name!r} is a subclassed model, whose graph is not "
            "known. Bound its layers one by one, or register a rule with "
            "`keras_polynets.robustness.propagate.register("
            f"{type(model).__name__})`."
        )
    graphs.check_graph(model)
    graph = graphs.functional(model)
    for x in graph.inputs:
        floats.roundoff_of(x.dtype, f"Model {model.name!r} with inputs")
    if len(graph.outputs) != 1:
        raise ValueError(
            "Bounds over a whole set are those of one output. Received: "
            f"{model.name!r} with {len(graph.outputs)} outputs. Build a model "
            "of the one that is meant, "
            "`keras.Model(model.inputs, model.outputs[0])`."
        )
    operations = []
    for _, nodes in sorted(graph._nodes_by_depth.items(), reverse=True):
        inputs = [
            len(node.input_tensors) for node in nodes if not node.is_input
        ]
        if len(nodes) > 1 or inputs not in ([], [1]):
            # No layer with a rule would help a network with activations.
            degree.polynomial_degree(model)
            names = ", ".join(repr(node.operation.name) for node in nodes)
            raise ValueError(
                f"Model {model.name!r} is not a chain of layers: it branches "
                f"at {names}. {LOCAL} Or write the branches as one layer and "
                "register a rule for it with "
                "`keras_polynets.robustness.propagate.register`."
            )
        (node,) = nodes
        if isinstance(node.operation, keras.Layer) and not node.is_input:
            arguments = node.arguments
            norms.check_arguments(
                node.operation, arguments.args, arguments.kwargs
            )
        operations.append(node.operation)
    _check_calls(operations, rules)
    return operations


def polynomials(product, rules):
    """Returns the polynomials that a `ProdPoly` is made of.

    Args:
        product: The `ProdPoly`, built.
        rules: As of `chain`.
    """
    norms.check_one_shape(product)
    _check_calls(product.polynomials, rules)
    return product.polynomials


def _check_calls(operations, rules):
    for operation in operations:
        norms.check_call(operation, rules)


def leaves(model, rules):
    """Yields the layers of a chain, those inside of models and products too.

    Args:
        model: A built model, or a layer, which is its own leaf.
        rules: As of `chain`.

    Raises:
        ValueError, NotImplementedError: As `chain`.
    """
    if isinstance(model, keras.Model):
        for operation in chain(model, rules):
            yield from leaves(operation, rules)
    elif isinstance(model, layers.ProdPoly):
        for polynomial in polynomials(model, rules):
            yield from leaves(polynomial, rules)
    else:
        yield model
