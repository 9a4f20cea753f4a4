"""Explains a missing Keras backend, which is an extra of this package."""

import importlib.util
import json
import os
import pathlib
import sys

BACKENDS = ("tensorflow", "jax", "torch")


def chosen_backend():
    """Returns the backend that Keras will use, as Keras itself chooses it."""
    if "KERAS_BACKEND" in os.environ:
        return os.environ["KERAS_BACKEND"]
    home = os.environ.get("KERAS_HOME", os.path.expanduser("~/.keras"))
    config = pathlib.Path(home) / "keras.json"
    if config.exists():
        return json.loads(config.read_text()).get("backend", "tensorflow")
    return "tensorflow"


def check_backend():
    """Raises an `ImportError` where the chosen backend is not installed."""
    if "keras" in sys.modules:
        return
    backend = chosen_backend()
    if backend not in BACKENDS or importlib.util.find_spec(backend):
        return
    installed = [b for b in BACKENDS if importlib.util.find_spec(b)]
    other = "".join(f", or set KERAS_BACKEND={b}" for b in installed[:1])
    raise ImportError(
        f"keras_polynets needs a Keras backend, and the chosen one "
        f"({backend!r}) is not installed. Install it with "
        f"`pip install keras_polynets[{backend}]`{other}."
    )


def is_traced(tensor):
    """Says whether a tensor has no value yet, inside a compiled function.

    Args:
        tensor: A Keras variable or a tensor of the backend.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    if keras.backend.backend() == "jax":
        import jax

        value = getattr(tensor, "value", tensor)
        return isinstance(value, jax.core.Tracer)
    return False


def number_of_replicas():
    """Returns the number of replicas that one step is divided between."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync
