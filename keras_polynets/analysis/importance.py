"""What the second-order terms of each layer cost, and what they are worth."""

import contextlib
import dataclasses
import math

import keras
import numpy as np

from keras_polynets.analysis import graphs
from keras_polynets.analysis import work
from keras_polynets.layers import QuadraticLayer
from keras_polynets.layers import neurons
from keras_polynets.robustness.evaluation import robust_accuracy


@dataclasses.dataclass(frozen=True)
class LayerImportance:
    """What one quadratic layer costs and is worth.

    Args:
        name: String, the path of the layer: the names of the nested models
            around it and its own, joined by `/`.
        parameters: Integer.
        parameter_share: Float, their share of those of the model.
        multiply_adds: Integer, for one example.
        work_share: Float, their share of those of the model.
        accuracy: Float, the model's accuracy without the second-order terms of
            this layer.
        accuracy_lost: Float, by how much that is below the accuracy with them.
            Negative where they do harm.
        redundancy: Float, QuadraLib's index RI: `parameter_share * work_share
            / accuracy_lost`, infinite where nothing is lost. A large one says
            that the layer is better of first order.
    """

    name: str
    parameters: int
    parameter_share: float
    multiply_adds: int
    work_share: float
    accuracy: float
    accuracy_lost: float
    redundancy: float


def layer_importance(model, data, batch_size=500):
    """Measures what the second-order terms of each quadratic layer are worth.

    One layer after the other has its second-order terms masked: the product
    and the power term are taken away, and what is left is the first-order part
    with its trained weights. After that the weights are those before, also
    where an error comes between. The rows, or those that are worth keeping,
    are a `filter` of `keras_polynets.convert.to_quadratic`.

    Args:
        model: A functional or sequential classifier with quadratic layers,
            which gives logits or probabilities.
        data: Tuple `(images, labels)` of arrays, or an iterable of such
            batches that can be gone through several times, for example a
            `tf.data.Dataset`. As in
            `keras_polynets.robustness.robust_accuracy`.
        batch_size: Positive integer, how many images are classified at once.

    Returns:
        List of `LayerImportance`, one a quadratic layer, in the order of the
        graph.

    Raises:
        ValueError: If the model is subclassed or not built, has no quadratic
            layer or one whose neurons have no first-order part, if the work of
            a layer is not known, or if `data` can be read once only.

    Example:

    >>> rows = keras_polynets.analysis.layer_importance(quadratic, data)
    >>> worth = [row for row in rows if row.accuracy_lost > 0.002]
    >>> smaller = keras_polynets.convert.to_quadratic(model, filter=worth)

    Reference:
        - Xu et al., "QuadraLib: A Performant Quadratic Neural Network Library
          for Architecture Optimization and Design Exploration", MLSys 2022,
          the auto-builder.
    """
    layers = {
        path: layer
        for path, layer in graphs.leaves(model).items()
        if isinstance(layer, QuadraticLayer)
    }
    if not layers:
        raise ValueError(
            f"Model {model.name!r} has no quadratic layer. Convert it with "
            "`keras_polynets.convert.to_quadratic` and train it first."
        )
    masks = {path: _mask(path, layer) for path, layer in layers.items()}
    if not isinstance(data, tuple | list) and iter(data) is data:
        raise ValueError(
            "Argument `data` is read once for each layer. Received an iterator "
            f"({type(data).__name__}), which can be read once only. Pass a "
            "tuple of arrays or a dataset."
        )
    costs = _work(model, data)

    def accuracy():
        return robust_accuracy(model, data, None, batch_size, verbose=0)

    whole, rows = accuracy(), []
    for path, layer in layers.items():
        with _masked(masks[path]):
            rest = accuracy()
        parameters = layer.count_params() / model.count_params()
        share = costs[path] / work.total(costs)
        lost = whole - rest
        rows.append(
            LayerImportance(
                path,
                layer.count_params(),
                parameters,
                costs[path],
                share,
                rest,
                lost,
                parameters * share / lost if lost > 0 else math.inf,
            )
        )
    return rows


def _work(model, data):
    """Returns the work of each layer, its sizes those of the data."""
    shapes = None
    if None in model.input_shape[1:]:
        images = data[0] if isinstance(data, tuple) else next(iter(data))[0]
        shapes = (None, *images.shape[1:])
    return work.work_by_layer(model, shapes)


def _mask(path, layer):
    """Returns pairs of a variable and the value that masks second order.

    A neuron with a further first-order term keeps that one, and its product
    becomes 0; in the others the gate becomes 1.
    """
    terms = neurons.get(layer.neuron).terms
    gate = 0.0 if "addend" in terms else 1.0
    pairs = []
    for role, constant in (("gate", gate), ("power", 0.0)):
        if terms.get(role) != role:
            continue
        if layer.branch_normalization:
            scale = getattr(layer, f"{role}_normalization").gamma
            shift = getattr(layer, f"{role}_normalization").beta
        else:
            scale = layer.branches()[role].kernel
            shift = layer.branches()[role].bias
        pairs.append((scale, np.zeros(scale.shape)))
        if shift is not None:
            pairs.append((shift, np.full(shift.shape, constant)))
    no_first_order = layer.linear is None or terms.get("gate") == "linear"
    if no_first_order or (shift is None and gate and "gate" in terms):
        raise ValueError(
            f"Layer {path!r} has {layer.neuron!r} neurons"
            f"{'' if layer.use_bias else ' without bias'}, which have no "
            "first-order part: nothing would be left of them without their "
            "second-order terms. Leave such layers out of the model."
        )
    return pairs


@contextlib.contextmanager
def _masked(pairs):
    before = [keras.ops.convert_to_numpy(v.value) for v, _ in pairs]
    try:
        for variable, value in pairs:
            variable.assign(value)
        yield
    finally:
        for (variable, _), value in zip(pairs, before, strict=True):
            variable.assign(value)
