"""Compiles a model the way its recipe says and the device likes."""

import warnings

import keras

from keras_polynets import optimizers
from keras_polynets._backend import number_of_replicas
from keras_polynets.models import ZooModel

# Enough to hide the cost of entering the compiled function; callbacks still
# hear from a run several times a second.
STEPS_PER_EXECUTION = 50
# The arguments of Keras's optimizers that clip gradients.
CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")


def compile_model(
    model, optimizer, *, steps_per_execution="auto", jit_compile="auto"
):
    """Compiles a model with the loss and the metrics of its task.

    Args:
        model: A `keras_polynets.models.ZooModel`, which says them, or another
            `keras.Model`, which is taken for a classifier that gives logits.
        optimizer: A `keras.optimizers.Optimizer`, or a table such as
            `{"name": "sgd", "learning_rate": 0.001, "momentum": 0.9}`. The key
            `weight_decay` adds coupled weight decay, and `relinear` wraps it
            in `optimizers.ReLinear` with the arguments of that table.
        steps_per_execution: Integer, or `"auto"` for 50 where Keras can run
            several steps in one execution: not with several replicas and not
            on PyTorch.
        jit_compile: Boolean, or `"auto"` for XLA on accelerators and, on
            CPUs, for several steps an execution of models of the zoo without
            convolutions.

    Returns:
        The model. With several replicas on CPUs, where Keras runs neither
        several steps an execution nor XLA, a warning says that both are off.

    Raises:
        ValueError: For an unknown optimizer or an argument it does not have.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer = make_optimizer(optimizer)
    replicas = number_of_replicas()
    if replicas > 1 and model.dtype_policy.name == "mixed_float16":
        optimizer = optimizers.LossScaleOptimizer(optimizer)
    if steps_per_execution == "auto":
        single = replicas > 1 or keras.backend.backend() == "torch"
        steps_per_execution = 1 if single else STEPS_PER_EXECUTION
    if replicas > 1 and not _has_gpu():
        if steps_per_execution > 1 or jit_compile is True:
            warnings.warn(
                f"Keras runs neither several steps an execution nor XLA on "
                f"{replicas} CPU replicas. Compiled with steps_per_execution=1 "
                f"and jit_compile=False instead of {steps_per_execution} and "
                f"{jit_compile}.",
                stacklevel=2,
            )
            steps_per_execution, jit_compile = 1, False
    task = type(model) if isinstance(model, ZooModel) else ZooModel
    model.compile(
        optimizer,
        loss=task.make_loss(model),
        metrics=task.make_metrics(model),
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    return model


def make_optimizer(table):
    """Returns the optimizer that a table describes.

    Args:
        table: Dictionary with the `name` of a Keras optimizer and its
            arguments. `weight_decay` is coupled: it is added to the gradient
            of all variables, as the papers do. `relinear` is a dictionary of
            the arguments of `optimizers.ReLinear`, which then wraps it all.
            `reference_batch_size`, for which the rate is, is passed over: a
            recipe scales the rate by it.

    Raises:
        TypeError: For an argument that `optimizers.ReLinear` does not have.
        ValueError: For an unknown name or argument.
    """
    table = dict(table)
    name = table.pop("name", "adam")
    weight_decay = table.pop("weight_decay", 0.0)
    relinear = table.pop("relinear", None)
    table.pop("reference_batch_size", None)
    try:
        optimizer = keras.optimizers.get({"class_name": name, "config": table})
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"Cannot make the optimizer {name!r} with {table}: {error}"
        ) from error
    if weight_decay or any(table.get(limit) for limit in CLIPPING):
        # It clips right on several replicas too.
        optimizer = optimizers.CoupledWeightDecay(optimizer, weight_decay)
    if relinear is not None:
        optimizer = optimizers.ReLinear(optimizer, **relinear)
    return optimizer


def _has_gpu():
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))
