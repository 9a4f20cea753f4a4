"""Any Keras model with quadratic neurons in the place of its own."""

from keras import layers

from keras_polynets._errors import unknown_name
from keras_polynets.analysis import graphs
from keras_polynets.analysis.work import has_matrix
from keras_polynets.convert.assignments import assign
from keras_polynets.convert.assignments import assignments
from keras_polynets.convert.report import report
from keras_polynets.convert.rewriting import rewrite
from keras_polynets.layers import BatchNormalization
from keras_polynets.layers import QuadraticConv1D
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.layers import QuadraticConv2DTranspose
from keras_polynets.layers import QuadraticConv3D
from keras_polynets.layers import QuadraticDense
from keras_polynets.layers import QuadraticLayer
from keras_polynets.layers import neurons

# Only these classes themselves: what a subclass computes is not known.
QUADRATIC = {
    layers.Dense: QuadraticDense,
    layers.Conv1D: QuadraticConv1D,
    layers.Conv2D: QuadraticConv2D,
    layers.Conv3D: QuadraticConv3D,
    layers.Conv2DTranspose: QuadraticConv2DTranspose,
}
_DEPTHWISE = (
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)
# Arguments of the linear layers that quadratic ones do not have.
_DROPPED = ("quantization_config", "lora_rank", "lora_alpha")


def to_quadratic(model, neuron="full", filter=None):
    """Converts a Keras model to quadratic neurons that compute the same.

    Every `Dense`, `Conv1D`, `Conv2D`, `Conv3D` and `Conv2DTranspose` becomes
    the quadratic layer of its kind. Its weights are those of the linear branch,
    and the second-order terms start where they add nothing, ReLinear's
    initialisation, so that the new model gives the outputs of the old one
    until it is trained. Train it with `keras_polynets.optimizers.ReLinear`.

    All names, also those of the inputs, activations, initializers,
    regularizers, constraints, dtype policies, frozen layers, shared layers and
    the arguments of `compile` are kept; the optimizer starts anew. A subclass
    of functional models keeps its class where that can be built with another
    graph: from a config that holds the graph. Otherwise the model becomes a
    plain functional one, and a model of the zoo a `ConvertedModel`, which
    keeps its preprocessor; a note in the report says so. Layers of other
    classes, custom ones, those inside wrappers and Lambda layers are copied.

    Args:
        model: A functional or sequential `keras.Model` that is built, with
            models nested in it or not. It is not changed.
        neuron: String, a quadratic neuron that can start as a linear one:
            `"full"`, `"compact"`, `"parabolic"`, `"poly"`, `"qres"` or
            `"quadralib"`. A layer without bias gets biases where the neuron
            needs one to start: the gate of all but `"compact"`, `"poly"` and
            `"qres"`.
        filter: Which of these layers to convert: `None` for all, a callable
            `layer -> bool`, or a sequence of names, or of the rows of
            `keras_polynets.analysis.layer_importance`. A layer of a nested
            model is named by its path, `"backbone/conv1"`, or, for all layers
            of that name, by its own name.

    Returns:
        The new model. Its attribute `conversion_report` is a
        `ConversionReport`: what was replaced, what was left alone and why,
        parameters and multiply-adds before and after. It is not saved.

    Raises:
        ValueError: For an unknown neuron or one that cannot start as a linear
            one, for a subclassed model or one that is not built, if there is
            no layer to convert or the filter names one that is not there, or
            if a layer cannot be copied as its config does not describe it.

    Example:

    >>> model = keras.applications.ResNet50(weights="imagenet")
    >>> quadratic = keras_polynets.convert.to_quadratic(model)
    >>> print(quadratic.conversion_report)

    Reference:
        - Fan et al., "Expressivity and Trainability of Quadratic Networks",
          IEEE TNNLS 2023, Section IV: ReLinear and weight transfer.
    """
    check_can_start_linear(neuron)
    found = graphs.leaves(model)
    left_alone = {path: _obstacle(layer) for path, layer in found.items()}
    left_alone = {path: why for path, why in left_alone.items() if why}
    candidates = {
        path: layer
        for path, layer in found.items()
        if type(layer) in QUADRATIC and path not in left_alone
    }
    if not candidates:
        received = [f"{path} ({why})" for path, why in left_alone.items()]
        raise ValueError(
            f"Model {model.name!r} has no layer to convert. Expected a layer "
            f"of class {', '.join(c.__name__ for c in QUADRATIC)}. Received: "
            f"{', '.join(received) or 'no layer with matrices'}."
        )
    chosen = _chosen(candidates, filter)
    rewritten = rewrite(
        model,
        lambda path, layer: (
            quadratic_layer(layer, neuron) if path in chosen else None
        ),
    )
    for pair in rewritten.pairs:
        if pair.replaced:
            assign(assignments(pair.source, pair.target))
    skipped = candidates.keys() - chosen
    left_alone |= dict.fromkeys(skipped, "left out by the filter")
    new = rewritten.model
    new.conversion_report = report(model, rewritten, left_alone)
    return new


def quadratic_layer(layer, neuron="full"):
    """Returns the quadratic layer of the kind of a linear one, not yet built.

    Args:
        layer: A layer of one of the classes in `QUADRATIC`.
        neuron: String, the quadratic neuron.

    Returns:
        A `keras_polynets.layers.QuadraticLayer` with the layer's config. It
        has biases where the neuron cannot start as a linear one without.
    """
    config = layer.get_config()
    for name in _DROPPED:
        config.pop(name, None)
    cls = QUADRATIC[type(layer)]
    new = cls.from_config({**config, "neuron": neuron})
    if new.first_order is None:
        new = cls.from_config({**config, "neuron": neuron, "use_bias": True})
    return new


def check_can_start_linear(neuron):
    """Raises a `ValueError` unless a neuron can equal its linear branch.

    Args:
        neuron: String, the name of a quadratic neuron.
    """
    if neurons.get(neuron).first_order is None:
        able = [n.name for n in neurons.NEURONS.values() if n.first_order]
        raise ValueError(
            f"The neuron {neuron!r} ({neurons.get(neuron).formula}) equals its "
            "linear part for no values of its second-order terms, so that a "
            "model cannot be converted to it. Expected one of "
            f"{', '.join(map(repr, able))}."
        )


def _obstacle(layer):
    """Returns why a layer is not converted, `None` where nothing is to say.

    That is so for layers that can be, and for those without matrices.
    """
    if type(layer) in QUADRATIC:
        if layer.dtype_policy.quantization_mode:
            return "it is quantized"
        return "LoRA is on" if getattr(layer, "lora_enabled", 0) else None
    if isinstance(layer, layers.Lambda):
        return "a Lambda layer, whose function is not known"
    if isinstance(layer, layers.Wrapper):
        return "a wrapper, and the layer inside belongs to it"
    if isinstance(layer, QuadraticLayer):
        return "it is quadratic already"
    if isinstance(layer, _DEPTHWISE):
        return "depthwise convolutions have no quadratic form"
    if type(layer) is BatchNormalization:
        return None
    if not type(layer).__module__.startswith("keras."):
        return "a custom layer, whose formula is not known"
    if has_matrix(layer):
        return f"{type(layer).__name__} has no quadratic form"
    return None


def _chosen(candidates, filter):
    """Returns the set of the paths of the layers to convert."""
    if filter is None:
        return set(candidates)
    if callable(filter):
        return {path for path, layer in candidates.items() if filter(layer)}
    if isinstance(filter, str):
        raise ValueError(
            "Argument `filter` must be a callable `layer -> bool` or a "
            f"sequence of names. Received: filter={filter!r}. Pass "
            f"[{filter!r}]."
        )
    chosen = set()
    for row in filter:
        name = getattr(row, "name", row)
        found = {
            path
            for path, layer in candidates.items()
            if name in (path, layer.name)
        }
        if not found:
            raise unknown_name("layer to convert", name, candidates)
        chosen |= found
    return chosen
