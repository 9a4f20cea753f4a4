"""From a recipe to the model, the optimizer and the data of its run."""

import contextlib
import dataclasses
import math

import keras
import numpy as np

from keras_polynets import distribute
from keras_polynets import layers
from keras_polynets import regularizers
from keras_polynets import trainers
from keras_polynets import zoo
from keras_polynets._training import BlockTraining
from keras_polynets.schedules import WarmUp
from keras_polynets.schedules import step_decay

# Long enough to hide Keras's work between executions, short enough for a
# progress bar and for Ctrl-C.
WANTED_STEPS_PER_EXECUTION = 50
MOST_STEPS_PER_EXECUTION = 250


class TrainingModel(BlockTraining, keras.Sequential):
    """A model with what is put before it for its training."""


def scope(recipe):
    """Returns the context in which the recipe's model is built."""
    if recipe.strategy == "default":
        return contextlib.nullcontext()
    return distribute.strategy(recipe.strategy, recipe.devices or None).scope()


def fix_seeds(recipe):
    """Makes everything random in the process a function of the recipe."""
    keras.utils.set_random_seed(recipe.seed)
    if recipe.deterministic and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def network(recipe, dataset):
    """Builds the network of the paper, with its initial weights."""
    arguments = {"classes": len(dataset.class_names), **recipe.overrides}
    images = getattr(dataset, "x_train", None)
    if recipe.stream is not None:
        size = recipe.stream.size
        arguments.setdefault("input_shape", (size, size, 3))
    elif images.ndim == 4:
        arguments.setdefault("input_shape", images.shape[1:])
    model = zoo.load(recipe.model, weights=None, **arguments)
    if model.class_names is None:
        model.class_names = dataset.class_names
    if recipe.initial_weights:
        zoo.weights.load_into(model, recipe.initial_weights)
    return model


def training_model(recipe, model, splits, steps_per_epoch, steps_per_execution):
    """Puts augmentation and preprocessing before `model` and compiles it.

    Both run inside the compiled step, on data as it is stored.
    """
    parts = [
        keras.Input(_stored_shape(model, splits), dtype=model.stored_dtype),
        *_augmentation(recipe, model, splits.dataset),
    ]
    outer = _wrapped(recipe, model, [*parts, model.preprocessor])
    # Keras chooses loss scaling by the policy of the model that is compiled.
    outer.dtype_policy = model.dtype_policy
    return zoo.compile_model(
        outer,
        optimizer_table(recipe, steps_per_epoch),
        steps_per_execution=steps_per_execution,
        # XLA draws and sums in an order of its own.
        jit_compile=False if recipe.deterministic else "auto",
    )


def _stored_shape(model, splits):
    """Returns the shape of a stored example, if the model takes it."""
    wanted = model.stored_shape
    if len(wanted) != len(splits.shape):
        kinds = {1: "recordings", 3: "images"}
        raise ValueError(
            f"The model {model.name!r} takes {kinds[len(wanted)]}, and the set "
            f"{splits.dataset.name!r} has {kinds[len(splits.shape)]}, of shape "
            f"{tuple(splits.shape)}."
        )
    # The shape of the data, whatever the network accepts.
    return tuple(
        n if m is None else m for m, n in zip(wanted, splits.shape, strict=True)
    )


def _augmentation(recipe, model, dataset):
    """Returns the layers that change stored training examples at random."""
    options = recipe.augmentation
    images, waves = [], []
    if options.crop_padding:
        images.append(layers.RandomPadCrop(options.crop_padding))
    if options.flip:
        images.append(keras.layers.RandomFlip("horizontal"))
    chance = {"probability": options.probability}
    if options.gain:
        waves.append(layers.RandomGain(*options.gain, **chance))
    if options.speed:
        waves.append(layers.RandomSpeed(options.speed, **chance))
    if options.shift:
        waves.append(layers.RandomShift(options.shift, **chance))
    if options.noise:
        noise = getattr(dataset, "noise", None)
        waves.append(layers.RandomNoise(options.noise, noise, **chance))
    takes_waves = len(model.stored_shape) == 1
    if images if takes_waves else waves:
        raise ValueError(
            f"Augmentation of {'images' if takes_waves else 'recordings'} does "
            f"not fit {recipe.data.name!r}. Recordings have gain, speed, shift "
            f"and noise, images crop_padding and flip. Received: {options}"
        )
    return waves if takes_waves else images


def _wrapped(recipe, model, parts):
    """Returns the model that is trained: `parts`, then `model`."""
    jacobian = None
    if recipe.jacobian is not None:
        jacobian = regularizers.JacobianPenalty(
            recipe.jacobian.weight, recipe.jacobian.projections or None
        )
    if recipe.adversarial is not None:
        return trainers.AdversarialTraining(
            model,
            recipe.adversarial.attack,
            recipe.adversarial.warmup_epochs,
            jacobian=jacobian,
            preprocessing=keras.Sequential(parts),
            seed=recipe.seed,
        )
    if jacobian is not None:
        return trainers.JacobianTraining(
            model,
            **jacobian.get_config(),
            preprocessing=keras.Sequential(parts),
            seed=recipe.seed,
        )
    return TrainingModel([*parts, model])


def learning_rate(recipe, steps_per_epoch):
    """Returns the recipe's rate: a float or a Keras schedule."""
    rate, schedule = recipe.learning_rate, recipe.schedule
    if schedule.name == "step":
        rate = step_decay(
            rate, schedule.factor, schedule.epochs, steps_per_epoch
        )
    elif schedule.name == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            rate,
            decay_steps=recipe.epochs * steps_per_epoch,
            alpha=schedule.final_rate / rate,
        )
    if schedule.warmup_epochs:
        steps = max(1, round(schedule.warmup_epochs * steps_per_epoch))
        rate = WarmUp(rate, steps)
    return rate


def optimizer_table(recipe, steps_per_epoch):
    """Returns the recipe's optimizer as `zoo.compile_model` takes it."""
    table = dataclasses.asdict(recipe.optimizer)
    table = {key: value for key, value in table.items() if value is not None}
    # In the rate already.
    del table["reference_batch_size"]
    return table | {"learning_rate": learning_rate(recipe, steps_per_epoch)}


def choose_steps_per_execution(recipe, steps_per_epoch, step):
    """Returns the steps an execution, so that epochs end with an execution.

    Keras runs whole executions: on an endless dataset a number that does not
    divide the epoch would run past its end.

    Args:
        recipe: The `Recipe`.
        steps_per_epoch: Positive integer.
        step: The step of the epoch at which the run begins.

    Returns:
        Integer, or `"auto"` where Keras runs one step an execution.
    """
    if recipe.strategy != "default" or keras.backend.backend() == "torch":
        return "auto"
    common = math.gcd(steps_per_epoch, step or steps_per_epoch)
    numbers = np.arange(1, MOST_STEPS_PER_EXECUTION + 1)
    divisors = numbers[common % numbers == 0]
    distance = np.abs(np.log(divisors / WANTED_STEPS_PER_EXECUTION))
    return int(divisors[np.argmin(distance)])
