"""One call that chooses the `tf.distribute` strategy of a process."""

import logging

import keras

from keras_polynets._errors import check_positive_integer
from keras_polynets._errors import unknown_name

KINDS = ("auto", "default", "mirrored")

_chosen = {}


def strategy(kind="auto", devices=None):
    """Returns the `tf.distribute` strategy to build and train a model under.

    For training on several GPUs, or on several logical devices of one CPU,
    which shows that a model trains under replicas on any machine.

    Several strategies in one process disturb each other, so the first call
    decides: the same call again returns the same strategy, and another one is
    an error.

    Args:
        kind: `"auto"` mirrors the model on every GPU where there are two or
            more, and is the default strategy elsewhere; `"default"` is one
            device; `"mirrored"` is `tf.distribute.MirroredStrategy`.
        devices: Number of replicas of `"mirrored"`: that many GPUs or, on a
            machine without any, that many logical CPU devices. `None` takes
            every GPU, or the one CPU.

    Returns:
        A `tf.distribute.Strategy`. Build and compile the model in its
        `scope()`. With several CPU replicas Keras runs neither XLA nor more
        than one step an execution: a note says so, and `zoo.load` compiles
        accordingly.

    Raises:
        ValueError: An unknown kind, more devices than there are GPUs, or
            `devices` with a kind that has none.
        RuntimeError: The backend is not TensorFlow, TensorFlow has started
            already and cannot divide the CPU any more, or the process
            already has another strategy.

    Example:

    ```python
    strategy = keras_polynets.distribute.strategy("mirrored", devices=2)
    with strategy.scope():
        model = keras_polynets.zoo.load("pn4", weights=None)
    model.fit(dataset)
    ```
    """
    if kind not in KINDS:
        raise unknown_name("kind of strategy", kind, KINDS)
    if devices is not None:
        check_positive_integer("devices", devices)
        if kind != "mirrored":
            raise ValueError(
                "Argument `devices` belongs to kind='mirrored'. "
                f"Received: kind={kind!r}, devices={devices}"
            )
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "tf.distribute needs the TensorFlow backend, and the backend is "
            f"{keras.backend.backend()!r}. On JAX, use "
            "`keras.distribution.DataParallel`."
        )
    if not _chosen:
        _chosen[kind, devices] = _make(kind, devices)
    if (kind, devices) not in _chosen:
        first = next(iter(_chosen))
        raise RuntimeError(
            "A process has one strategy, and this one already has "
            f"strategy(kind={first[0]!r}, devices={first[1]}). "
            f"Received: kind={kind!r}, devices={devices}. Use the first one, "
            "or another process."
        )
    return _chosen[kind, devices]


def _make(kind, devices):
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if kind == "default" or (kind == "auto" and len(gpus) < 2):
        return tf.distribute.get_strategy()
    if gpus:
        return tf.distribute.MirroredStrategy(_gpu_names(gpus, devices))
    return tf.distribute.MirroredStrategy(_cpu_names(tf, devices or 1))


def _gpu_names(gpus, devices):
    devices = devices or len(gpus)
    if devices > len(gpus):
        raise ValueError(
            f"Argument `devices` asks for {devices} GPUs, and there are "
            f"{len(gpus)}."
        )
    return [f"GPU:{index}" for index in range(devices)]


def _cpu_names(tf, devices):
    """Divides the CPU into logical devices and returns their names."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    divided = tf.config.get_logical_device_configuration(cpu) or [None]
    if len(divided) != devices:
        part = tf.config.LogicalDeviceConfiguration()
        try:
            tf.config.set_logical_device_configuration(cpu, [part] * devices)
        except RuntimeError as error:
            raise RuntimeError(
                f"The CPU cannot be divided into {devices} devices any more, "
                "because TensorFlow has started. Call `strategy` first, "
                "before any model or tensor is made."
            ) from error
    if devices > 1:
        logging.getLogger(__name__).warning(
            "%d CPU replicas: Keras runs neither XLA nor several steps an "
            "execution on them, so training is slower than on one.",
            devices,
        )
    return [f"CPU:{index}" for index in range(devices)]
