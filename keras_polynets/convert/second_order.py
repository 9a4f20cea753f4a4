"""The second-order terms of the zoo's residual networks, and their zeros."""

import re

import numpy as np

# As `keras_polynets.models.ResNet` names the products of a block, and what
# else a second-order term adds to it.
_FIRST = "_product2"
_PART = re.compile(r"_(operand[12]?|product\d+_(conv|norm|gate))$")


def is_part(name):
    """Says whether a layer with weights belongs to a second-order term.

    Args:
        name: String, the name of the layer.
    """
    return _PART.search(name) is not None


def are_added(source, target):
    """Says whether a network has second-order terms and another one none.

    Args:
        source: Dictionary from names to layers, of the network without.
        target: The same of the network with them.
    """
    old, new = (
        any(name.endswith(_FIRST) for name in network)
        for network in (source, target)
    )
    return new and not old


def without(network):
    """Returns a network without the layers of its second-order terms.

    Args:
        network: Dictionary from names to layers.
    """
    return {n: layer for n, layer in network.items() if not is_part(n)}


def zeros(network):
    """Returns the values at which all second-order terms are zero.

    The last part of each (its gate, else the scale of its normalisation, else
    its last map) becomes zero, as it is before training.

    Args:
        network: Dictionary from names to layers.

    Returns:
        Pair of a list of pairs of a variable and an array, and a list of
        strings, the terms that cannot be zero.
    """
    pairs, errors = [], []
    for name in network:
        if not name.endswith(_FIRST):
            continue
        silent = _silenced(network, name.removesuffix(_FIRST))
        pairs += [(v, np.zeros(v.shape)) for v in silent]
        if not silent:
            errors.append(
                f"{name!r}: no part of the second-order term could be zero. "
                "Build the target with gate=True or with maps"
            )
    return pairs, errors


def _silenced(network, block):
    """Returns the variables that make the terms of a block zero."""
    products = [n for n in network if re.fullmatch(rf"{block}_product\d+", n)]
    for part in ("gate", "norm", "conv"):
        parts = [network.get(f"{name}_{part}") for name in products]
        found = [v for x in parts if x is not None for v in _trained(x)]
        if found:
            return found
    for name in (f"{block}_operand2", f"{block}_operand"):
        if name in network:
            return _trained(network[name])
    return []


def _trained(layer):
    """Returns the variables of a layer that make its output zero."""
    return [w for w in layer.weights if not w.name.startswith("moving_")]
