"""Weights of one model in another of the same architecture."""

from keras_polynets.analysis import graphs
from keras_polynets.convert.assignments import Mismatch
from keras_polynets.convert.assignments import assign
from keras_polynets.convert.assignments import assignments


def transfer_weights(source, target):
    """Copies the weights of a model to one of the same architecture.

    The target may have quadratic layers where the source has linear ones. They
    take the weights into their linear branch, and their second-order terms
    become those at which they add nothing: the target then gives the outputs
    of the source. So a quadratic network starts from a conventional one that
    was trained. Layers with weights are paired by their names, or, where the
    models name them differently, in the order of the graph.

    Args:
        source: A functional or sequential `keras.Model` with the weights.
        target: A functional or sequential `keras.Model` that receives them.
            After an error its weights are those it had.

    Raises:
        ValueError: If a model is subclassed or not built, or if the models do
            not match: each layer that does not, with the shapes.

    Example:

    >>> source = keras_polynets.zoo.load("resnet20", weights=None)
    >>> target = keras_polynets.zoo.load("qresnet20", weights=None)
    >>> keras_polynets.convert.transfer_weights(source, target)

    Reference:
        - Fan et al., "Expressivity and Trainability of Quadratic Networks",
          IEEE TNNLS 2023, Section IV, weight transfer.
    """
    pairs, errors = [], []
    for old, new in _layer_pairs(source, target):
        try:
            pairs += assignments(old[1], new[1])
        except Mismatch as error:
            errors.append(f"{_say(*new)} from {_say(*old)}: {error}")
    if errors:
        raise ValueError(
            f"The weights of {source.name!r} do not fit {target.name!r}, which "
            "is unchanged:\n  " + "\n  ".join(errors) + "\nBuild the target "
            "with the arguments of the source."
        )
    assign(pairs)


def _layer_pairs(source, target):
    """Returns the pairs of `(path, layer)` of the source and the target."""
    old, new = (
        {p: x for p, x in graphs.leaves(model).items() if x.weights}
        for model in (source, target)
    )
    if old.keys() == new.keys():
        return [((path, old[path]), (path, new[path])) for path in new]
    if len(old) == len(new):
        return list(zip(old.items(), new.items(), strict=True))
    missing = [_say(p, x) for p, x in new.items() if p not in old]
    surplus = [_say(p, x) for p, x in old.items() if p not in new]
    raise ValueError(
        f"The models do not match: {source.name!r} has {len(old)} layers with "
        f"weights, {target.name!r} has {len(new)}. Without a layer of the same "
        f"name in the source: {', '.join(missing) or 'none'}; in the target: "
        f"{', '.join(surplus) or 'none'}. The target is unchanged."
    )


def _say(path, layer):
    shapes = ", ".join(str(tuple(w.shape)) for w in layer.weights)
    return f"{path!r} ({type(layer).__name__}: {shapes})"
