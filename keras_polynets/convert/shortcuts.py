"""Telling the residual branch of a sum from its shortcut."""

import math

import keras
from keras import layers

from keras_polynets.analysis import graphs
from keras_polynets.analysis.work import has_matrix


class NoShortcut(Exception):
    """Says why a sum is not that of a residual branch and its shortcut."""


def is_sum(operation):
    """Says whether an operation is a sum: a layer `Add`, or `x + y`.

    Args:
        operation: A layer or another operation.
    """
    plain = not isinstance(operation, keras.Layer)
    return type(operation) is layers.Add or (
        plain
        and type(operation).__name__ == "Add"
        and type(operation).__module__.startswith("keras.")
    )


def branch_and_shortcut(terms):
    """Returns the residual branch and the shortcut among two symbolic tensors.

    Both come from a common tensor. The shortcut is the one with fewer layers
    with matrices on its way from there, at most one; where both have one, the
    one with the smaller window, as a 1 × 1 convolution has.

    Args:
        terms: List of what is summed.

    Returns:
        Tuple of the tensor of the branch, that of the shortcut, and the layers
        with matrices on the way of the branch, the last one first.

    Raises:
        NoShortcut: If the sum is another one.
    """
    if not all(isinstance(x, keras.KerasTensor) for x in terms):
        raise NoShortcut("it adds a constant")
    if len(terms) != 2:
        has_it = "; with its second-order term it has three"
        raise NoShortcut(
            f"it adds {len(terms)} tensors{has_it if len(terms) == 3 else ''}"
        )
    shapes = [tuple(x.shape) for x in terms]
    if shapes[0] != shapes[1]:
        raise NoShortcut(f"it adds tensors of the shapes {shapes}")
    ways = [_way(x) for x in terms]
    if not ways[0].keys() & ways[1].keys():
        raise NoShortcut("it adds tensors that come from different inputs")
    maps = [
        _maps([ways[i][key] for key in ways[i] if key not in ways[1 - i]])
        for i in range(2)
    ]
    keys = [(len(found), sum(map(_window, found))) for found in maps]
    short = keys.index(min(keys))
    if keys[0] == keys[1] or keys[short][0] > 1:
        raise NoShortcut(
            "neither of the tensors that it adds is a shortcut beside the "
            "other: fewer layers with matrices, at most one"
        )
    return terms[1 - short], terms[short], maps[1 - short]


def _way(tensor):
    """Returns all calls behind a tensor, the last one first."""
    found, stack = {}, [tensor]
    while stack:
        history = stack.pop()._keras_history
        key = (id(history.operation), history.node_index)
        if key not in found:
            found[key] = history.operation
            node = history.operation._inbound_nodes[history.node_index]
            stack += node.input_tensors
    return found


def _maps(operations):
    """Returns the layers with matrices, also those in nested models."""
    found = []
    for operation in operations:
        inside = [operation]
        if graphs.is_graph(operation):
            inside = reversed(graphs.leaves(operation).values())
        found += [layer for layer in inside if has_matrix(layer)]
    return found


def _window(layer):
    """Returns the number of places that a map takes its inputs from."""
    return math.prod(getattr(layer, "kernel_size", ()))
