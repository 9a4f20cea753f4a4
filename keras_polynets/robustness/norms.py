"""What all bounds check of a layer first: its weights, and the norm."""

import inspect

import keras
import numpy as np

CONVOLUTIONS = keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D
AFFINE = keras.layers.Dense | CONVOLUTIONS
WINDOW_POOLINGS = (
    keras.layers.AveragePooling1D
    | keras.layers.AveragePooling2D
    | keras.layers.AveragePooling3D
)
GLOBAL_POOLINGS = (
    keras.layers.GlobalAveragePooling1D
    | keras.layers.GlobalAveragePooling2D
    | keras.layers.GlobalAveragePooling3D
)
POOLINGS = WINDOW_POOLINGS | GLOBAL_POOLINGS
# What a call consists of, in layers of Keras and of ours.
_METHODS = (
    "__call__",
    "call",
    "combine",
    "convolution_op",
    "_jit_compiled_convolution_op",
    "_merge_function",
)


def check_p(p):
    """Returns `p` as 1, 2 or infinity, or raises a `ValueError`."""
    if p not in (1, 2, np.inf):
        raise ValueError(
            "Argument `p`, the order of the norm, must be 1, 2 or "
            f"`float('inf')`. Received: p={p!r}"
        )
    return p


def values(variable):
    """Returns a variable as a float64 array, after a check that it is finite.

    Args:
        variable: A Keras variable.
    """
    array = keras.ops.convert_to_numpy(variable).astype("float64")
    if not np.isfinite(array).all():
        raise ValueError(
            f"Variable {variable.path!r} holds NaN or infinite values, for "
            "which no norm exists. Load weights from before the training "
            "diverged."
        )
    return array


def check_built(layer):
    """Raises a `ValueError` if a layer has no weights yet, or quantised ones.

    Args:
        layer: A layer of any kind.
    """
    mode = getattr(layer, "quantization_mode", None)
    if mode:
        raise ValueError(
            f"Layer {layer.name!r} is quantised ({mode}): it rounds its inputs "
            "and weights to few values, for which no bound exists here. Bound "
            "the model before `quantize`."
        )
    if getattr(layer, "lora_enabled", False):
        raise ValueError(
            f"Layer {layer.name!r} has LoRA weights, which are added to its "
            "kernel at every call, with rounding errors that no bound knows. "
            "Merge them: `save_weights` of this model writes the sum, and "
            "`load_weights` reads it into a model without `enable_lora`."
        )
    if not layer.built:
        raise ValueError(
            f"Layer {layer.name!r} has no weights yet. Build it first: call "
            "it once, or `layer.build(input_shape)`."
        )


def is_bounded_by(layer, rules):
    """Returns whether the rule for the class of a layer is one for its `call`.

    A subclass that has a `call` of its own, or another method that a call
    consists of, computes something else than the class that it comes from.

    Args:
        layer: A layer or another operation.
        rules: The `functools.singledispatch` of the rules.
    """
    classes = type(layer).__mro__
    rule = next(c for c in classes if c in rules.registry)
    for method in _METHODS:
        owner = next((c for c in classes if method in vars(c)), object)
        package = owner.__module__.partition(".")[0]
        is_known = package in ("builtins", "keras", "keras_polynets")
        if not (is_known or rule is object or issubclass(rule, owner)):
            return False
    return True


def check_call(layer, rules, public=None):
    """Raises a `NotImplementedError` where a rule is that of another class.

    Args:
        layer: A layer or another operation.
        rules: `propagate`, `enclose` or other rules.
        public: Which of the first two a user may register a rule of.
    """
    if is_bounded_by(layer, rules):
        return
    name, public = type(layer).__name__, public or rules
    raise NotImplementedError(
        f"Layer {layer.name!r}, a {name}, has a `call` of its own, for which "
        "the bound of the class that it comes from is none. Register a rule "
        f"with `keras_polynets.robustness.{public.__name__}.register({name})`."
    )


def check_arguments(layer, args, kwargs):
    """Returns the input of a layer that is called as in inference.

    Args:
        layer: A layer.
        args: Tuple of the arguments of the call.
        kwargs: Dictionary of those that are named.

    Raises:
        NotImplementedError: If it is called with anything else.
    """
    given = [value for value in args if value is not None]
    unknown = [
        name
        for name, value in kwargs.items()
        if any(part is not None for part in keras.tree.flatten(value))
        and not (name == "training" and value in (False, _default(layer)))
    ]
    if len(given) == 1 and not unknown:
        return given[0]
    words = unknown or ["several arguments"]
    raise NotImplementedError(
        f"Layer {layer.name!r} ({type(layer).__name__}) is called with "
        f"{', '.join(words)}. Bounds exist for layers that are called in "
        "inference with their input, or a list of them, as the first argument, "
        "and with nothing else."
    )


def _default(layer):
    """Returns the `training` that a layer is called with by default."""
    found = inspect.signature(layer.call).parameters.get("training")
    return found and found.default


def check_addition(layer, first, second):
    """Raises a `NotImplementedError` where Keras adds along another axis.

    On TensorFlow `keras.ops.add(x, y)` takes a `y` with one axis that is
    longer than 1 for a bias: of the last axis of `x` where the sizes agree,
    else of the first one behind the batch. The batch can be that axis.

    Args:
        layer: The layer or operation that adds.
        first: Tuple, the shape of `x`, with `None` for the batch.
        second: Tuple, that of `y`.
    """
    if keras.backend.backend() != "tensorflow" or len(first) < 2:
        return
    long = [
        n - len(second)
        for n, size in enumerate(second)
        if size not in (1, None)
    ]
    if not long and None in second:
        long = [-len(second)]
    if len(long) != 1:
        return
    size = second[long[0]]
    sizes = {axis: first[axis] for axis in (1 - len(first), -1)}
    fits = [
        n for n in sizes if sizes[n] == size or (size is None and sizes[n] != 1)
    ]
    if not fits or fits[-1] == long[0]:
        return
    raise NotImplementedError(
        f"{layer.name!r} ({type(layer).__name__}) adds values of shape "
        f"{second} to those of shape {first}, which Keras on TensorFlow does "
        f"along axis {fits[-1]} instead of {long[0]}, for some batches. Move "
        "the axis to the end (channels_last), or repeat the values to the full "
        "shape, as `keras.ops.broadcast_to` does."
    )


def example_shape(layer):
    """Returns the shape of an example that a layer takes, as it is used.

    Args:
        layer: A layer.

    Returns:
        Tuple with `None` for sizes that are open, or that differ between the
        models in which the layer is and what it was built for; `(None,)` where
        nothing is known.
    """
    found = [
        tuple(node.input_tensors[0].shape)
        for node in layer._inbound_nodes
        if node.input_tensors
    ]
    config = layer.get_build_config() if layer.built else None
    if (config or {}).get("input_shape") is not None:
        found.append(tuple(config["input_shape"]))
    if len({len(shape) for shape in found}) != 1:
        return (None,)
    return tuple(
        sizes[0] if len(set(sizes)) == 1 else None
        for sizes in zip(*found, strict=True)
    )[1:]


def check_one_shape(layer):
    """Raises a `NotImplementedError` where a layer is used on other shapes.

    Args:
        layer: A layer whose inner layers were built with it.
    """
    check_built(layer)
    built = tuple(layer.get_build_config()["input_shape"][1:])
    used = example_shape(layer)
    if used != built:
        raise NotImplementedError(
            f"Layer {layer.name!r} was built for inputs of shape {built}, and "
            "is used on others, for which no bound over a whole set is known. "
            "Clone the model with `keras.models.clone_model`, and give the "
            "clone its weights with `set_weights`."
        )


def rescaling_values(layer):
    """Returns scale and offset of a `Rescaling` layer, as it computes them.

    Args:
        layer: A `keras.layers.Rescaling`.
    """
    # TensorFlow makes numbers of Python single precision, whatever the dtype.
    with np.errstate(over="ignore"):
        found = [
            np.asarray(x, "float32").astype("float64")
            for x in (layer.scale, layer.offset)
        ]
    if not all(np.isfinite(x).all() for x in found):
        raise ValueError(
            f"Layer {layer.name!r} has a scale or an offset that is not a "
            f"finite number in float32. Received: scale={layer.scale}, "
            f"offset={layer.offset}"
        )
    return found


def rescaling(layer, p):
    """Returns the largest absolute scale and offset of a `Rescaling` layer.

    Args:
        layer: A `keras.layers.Rescaling`.
        p: The order of the norm for which they are meant.
    """
    scale, offset = rescaling_values(layer)
    if p != np.inf and offset.any():
        raise ValueError(
            f"Layer {layer.name!r} has an offset, which is bounded for "
            f"p=float('inf'). Received: p={p}. Bound the model behind it, and "
            "multiply by the largest absolute scale."
        )
    return float(np.max(np.abs(scale))), float(np.max(np.abs(offset)))
