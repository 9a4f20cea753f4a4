"""Weights of one model in another of the same architecture."""

from keras_polynets.analysis import graphs
from keras_polynets.convert import resnet50
from keras_polynets.convert import second_order
from keras_polynets.convert.assignments import Mismatch
from keras_polynets.convert.assignments import assign
from keras_polynets.convert.assignments import assignments


def transfer_weights(source, target):
    """Copies the weights of a model to one of the same architecture.

    The target may have quadratic layers where the source has linear ones. They
    take the weights into their linear branch, and their second-order terms
    become those at which they add nothing: the target then gives the outputs
    of the source. So a quadratic network starts from a conventional one that
    was trained; and a Prodpoly network of the zoo from its first-order twin,
    such as `prodpoly_resnet50` from `resnet50`: its second-order terms become
    zero. Layers with weights are paired by their names, or, where the
    models name them differently, in the order of the graph.

    From `keras.applications.ResNet50`, 101 or 152 the weights also go to a
    `keras_polynets.models.ResNet` with its blocks, such as `resnet50` and
    `prodpoly_resnet50`, which then gives its logits: the biases of Keras's
    convolutions become part of the moving means of the normalisations, and
    the second-order terms become zero.

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
    >>> source = keras.applications.ResNet50(weights="imagenet")
    >>> target = keras_polynets.zoo.load("prodpoly_resnet50", weights=None)
    >>> keras_polynets.convert.transfer_weights(source, target)

    Reference:
        - Fan et al., "Expressivity and Trainability of Quadratic Networks",
          IEEE TNNLS 2023, Section IV, weight transfer.
    """
    assign(assignments_of_models(source, target))


def assignments_of_models(source, target, head=True):
    """Returns the values that make a model compute what another one does.

    Args:
        source: As in `transfer_weights`.
        target: As in `transfer_weights`.
        head: Boolean, whether a ResNet50 of Keras has to give the weights of
            the target's head.

    Returns:
        List of pairs of a variable of `target` and an array.

    Raises:
        ValueError: As in `transfer_weights`.
    """
    leaves = graphs.leaves(source), graphs.leaves(target)
    if resnet50.is_transfer(*leaves):
        pairs, errors = resnet50.transfers(*leaves, head)
    else:
        pairs, errors = _same_architecture(*leaves)
    if errors:
        raise ValueError(
            f"The weights of {source.name!r} do not fit {target.name!r}, which "
            "is unchanged:\n  " + "\n  ".join(errors) + "\nBuild the target "
            "with the arguments of the source."
        )
    return pairs


def _same_architecture(source, target):
    """As `resnet50.transfers`, for networks whose layers are the same.

    The second-order terms that the target alone has become zero.
    """
    pairs, errors = [], []
    if second_order.are_added(source, target):
        pairs, errors = second_order.zeros(target)
        target = second_order.without(target)
    old, new = (
        {path: layer for path, layer in network.items() if layer.weights}
        for network in (source, target)
    )
    if len(old) != len(new):
        return pairs, [*errors, _difference(old, new)]
    paths = new if old.keys() == new.keys() else old
    for theirs, ours in zip(paths, new, strict=True):
        try:
            pairs += assignments(old[theirs], new[ours])
        except Mismatch as error:
            errors.append(
                f"{_say(ours, new[ours])} from {_say(theirs, old[theirs])}: "
                f"{error}"
            )
    return pairs, errors


def _difference(old, new):
    """Returns the words for networks of other numbers of layers."""
    missing = [_say(p, x) for p, x in new.items() if p not in old]
    surplus = [_say(p, x) for p, x in old.items() if p not in new]
    return (
        f"the source has {len(old)} layers with weights, the target has "
        f"{len(new)}. Without a layer of the same name in the source: "
        f"{', '.join(missing) or 'none'}; in the target: "
        f"{', '.join(surplus) or 'none'}"
    )


def _say(path, layer):
    shapes = ", ".join(str(tuple(w.shape)) for w in layer.weights)
    return f"{path!r} ({type(layer).__name__}: {shapes})"
