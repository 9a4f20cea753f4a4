"""The state of callbacks and variables, as a file can hold it."""

import keras
import numpy as np

# What these callbacks of Keras remember from one epoch to the next.
_KERAS_STATE = {
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.EarlyStopping: (
        "best",
        "best_epoch",
        "best_weights",
        "stopped_epoch",
        "wait",
    ),
    keras.callbacks.ModelCheckpoint: (
        "best",
        "_batches_seen_since_last_saving",
    ),
}


def to_numpy(variable):
    """Returns a value as an array that NumPy can write."""
    value = keras.ops.convert_to_numpy(keras.ops.copy(variable))
    # NumPy's files have no bfloat16; float32 holds all of its values.
    return value.astype("float32") if value.dtype.kind == "V" else value


def get_state(callback):
    """Returns what a callback remembers, a tree."""
    if hasattr(callback, "get_state"):
        return callback.get_state()
    return {name: getattr(callback, name) for name in _keras_names(callback)}


def set_state(callback, state):
    """Gives a callback what `get_state` returned."""
    if hasattr(callback, "set_state"):
        callback.set_state(state)
    else:
        for name in _keras_names(callback):
            setattr(callback, name, state[name])


def _keras_names(callback):
    for kind, names in _KERAS_STATE.items():
        if isinstance(callback, kind):
            return names
    return ()


def pack(state, arrays):
    """Returns a tree for JSON; its arrays go to `arrays`."""
    if isinstance(state, dict):
        return {key: pack(value, arrays) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [pack(value, arrays) for value in state]
    if isinstance(state, np.generic) and state.ndim == 0:
        return state.item()
    if hasattr(state, "shape"):
        name = f"array_{len(arrays)}"
        arrays[name] = to_numpy(state)
        return {"__array__": name}
    return state


def unpack(state, arrays):
    """Returns the tree that `pack` was given."""
    if isinstance(state, dict):
        if "__array__" in state:
            return arrays[state["__array__"]]
        return {key: unpack(value, arrays) for key, value in state.items()}
    if isinstance(state, list):
        return [unpack(value, arrays) for value in state]
    return state
