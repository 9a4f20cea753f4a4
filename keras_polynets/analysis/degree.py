"""The degree of a network as a polynomial of its input."""

import dataclasses

import keras
from keras import tree

from keras_polynets.analysis import degree_rules
from keras_polynets.analysis import graphs
from keras_polynets.analysis.degree_rules import Degree
from keras_polynets.analysis.degree_rules import Obstacle


class NotPolynomialError(ValueError):
    """A network is no polynomial of its input.

    Args:
        message: String.
        layer: String, the path of the first layer that breaks it: the names of
            the nested models around it and its own, joined by `/`.
        reason: String, why it breaks it.
    """

    def __init__(self, message, layer, reason):
        super().__init__(message)
        self.layer = layer
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Step:
    """One call of an operation in the graph of a model.

    Args:
        path: String, as in `graphs.Call`.
        operation: A layer, or a plain operation such as an addition.
        degree: Integer, the degree of what it yields in the input of the
            model; `None` where that is no polynomial.
        obstacle: String, why the operation itself breaks the polynomial, or
            `None`.
    """

    path: str
    operation: keras.Operation
    degree: int | None
    obstacle: str | None = None


def polynomial_degree(model):
    """Returns the degree of a network as a polynomial of its input.

    A network of linear maps, normalisations in inference, sums, Hadamard
    products, average pooling and polynomial activations, such as
    `keras_polynets.layers.square`, is a polynomial. Its degree is that for
    weights in general position: weights at zero can make it lower. In several
    inputs it is the degree in all of them together.

    A layer of another class says its degree by a method
    `polynomial_degree(degrees)`: it takes the list of the degrees of its input
    tensors and returns that of its output (a list for several outputs), or
    `None` where it is no polynomial. All layers of this package have one. A
    custom layer without it counts as no polynomial. An activation that is a
    function of the user's can carry an attribute of this name.

    Args:
        model: A functional or sequential `keras.Model` that is built, with
            models nested in it or not.

    Returns:
        Integer; for a model with several outputs, a structure of integers
        like them.

    Raises:
        NotPolynomialError: If the network is no polynomial, or not known as
            one. It is a `ValueError` that names the first layer which breaks
            it, also as its attributes `layer`, the path of it, and `reason`.
        ValueError: If the model is subclassed or not built.

    Example:

    >>> model = keras_polynets.zoo.load("pn4", weights=None)
    >>> keras_polynets.analysis.polynomial_degree(model)
    4
    >>> model = keras_polynets.zoo.load(
    ...     "prodpoly_resnet18_linear", weights=None, order=3
    ... )
    >>> keras_polynets.analysis.polynomial_degree(model)
    6561

    Reference:
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR
          2020, Section 3.3: the degree of a product of polynomials.
    """
    outputs, found = steps(model)
    if None in tree.flatten(tree.map_structure(_value, outputs)):
        first = next(step for step in found if step.obstacle)
        raise NotPolynomialError(
            f"Model {model.name!r} is no polynomial of its input: layer "
            f"{first.path!r} ({type(first.operation).__name__}) breaks it "
            f"({first.obstacle}). Build the model without it: polynomial "
            "networks have no activation, or `keras_polynets.layers.square`.",
            first.path,
            first.obstacle,
        )
    return tree.map_structure(_value, outputs)


def steps(model):
    """Returns the degree of what each call in the graph of a model yields.

    Args:
        model: A functional or sequential model that is built.

    Returns:
        Pair of the structure of the outputs, a `Degree` each, and a list of
        `Step` in the order of the graph.
    """
    graphs.check_graph(model)
    found = []

    def visit(path, operation, args, kwargs):
        degree, obstacle = _degree(operation, args, kwargs)
        several = isinstance(degree, list | tuple)
        found.append(
            Step(path, operation, max(degree) if several else degree, obstacle)
        )
        if several:
            return [Degree(value) for value in degree]
        return [Degree(degree)] * graphs.count_outputs(operation)

    inputs = tree.map_structure(
        lambda _: Degree(1), graphs.functional(model)._inputs_struct
    )
    return graphs.run(model, inputs, visit), found


def _degree(operation, args, kwargs):
    """Returns the degree of a call and why it breaks the polynomial."""
    degrees = degree_rules.tensors((args, kwargs))
    if None in degrees:
        return None, None
    if not any(degrees):
        return 0, None
    try:
        if not isinstance(operation, keras.Layer):
            return degree_rules.of_operation(operation, args, kwargs), None
        inside = degree_rules.unwrap(operation)
        if graphs.is_graph(inside):
            return polynomial_degree(inside) * max(degrees), None
        return degree_rules.of_layer(inside, degrees), None
    except Obstacle as obstacle:
        return None, str(obstacle)
    except NotPolynomialError as error:
        return None, f"layer {error.layer!r} inside it: {error.reason}"


def _value(degree):
    return degree.value
