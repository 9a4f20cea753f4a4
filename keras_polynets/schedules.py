"""Learning rate schedules that Keras lacks."""

import keras
from keras import ops

from keras_polynets._errors import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_polynets")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Raises the learning rate linearly at the beginning of a training.

    At step `s` (from 0) the rate is that of the schedule times
    `min(1, (s + 1) / warmup_steps)`. The schedule's own steps are counted from
    the beginning, not from the end of the warm-up.

    Keras can not set the learning rate of an optimizer that has a schedule, so
    a warm-up cannot be combined with `keras.callbacks.ReduceLROnPlateau`.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule`, or a
            float for a constant rate.
        warmup_steps: Positive integer, the number of steps of the warm-up.
        name: String, or `None`.

    Raises:
        ValueError: If `warmup_steps` is not a positive integer, or a constant
            rate is not above 0.

    Example:

    >>> rate = keras_polynets.schedules.WarmUp(0.1, warmup_steps=500)
    >>> optimizer = keras.optimizers.SGD(rate, momentum=0.9)

    Reference:
        - Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1
          Hour", 2017, section 2.2.
    """

    def __init__(self, schedule, warmup_steps, name=None):
        super().__init__()
        check_positive_integer("warmup_steps", warmup_steps)
        constant = isinstance(schedule, (int, float))
        if constant and not schedule > 0:
            raise ValueError(
                "Argument `schedule`, as a constant rate, must be above 0. "
                f"Received: schedule={schedule}"
            )
        self.schedule = schedule
        self.warmup_steps = warmup_steps
        self.name = name

    def __call__(self, step):
        rate = self.schedule
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = rate(step)
        done = (ops.cast(step, "float32") + 1) / self.warmup_steps
        return rate * ops.minimum(done, 1.0)

    def get_config(self):
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "warmup_steps": self.warmup_steps,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        schedule = keras.saving.deserialize_keras_object(config.pop("schedule"))
        return cls(schedule, **config)


def step_decay(learning_rate, factor, epochs, steps_per_epoch):
    """Returns the schedule that multiplies the rate at the given epochs.

    Args:
        learning_rate: Float, the rate of the first epoch.
        factor: Float, what the rate is multiplied by at each of `epochs`.
        epochs: Increasing integers of at least 1: the first epochs (from 0)
            that have the new rate.
        steps_per_epoch: Positive integer, the optimizer steps of an epoch.

    Returns:
        A `keras.optimizers.schedules.PiecewiseConstantDecay`.

    Raises:
        ValueError: If `epochs` is not increasing or begins below 1.

    Example:

    The rate .001 for epochs 0 to 24, 2e-4 to 74 and 4e-5 after:

    >>> rate = keras_polynets.schedules.step_decay(0.001, 0.2, [25, 75], 938)
    """
    epochs = list(epochs)
    if any(b <= a for a, b in zip([0, *epochs], epochs, strict=False)):
        raise ValueError(
            "Argument `epochs` must be increasing integers of at least 1. "
            f"Received: epochs={epochs}"
        )
    check_positive_integer("steps_per_epoch", steps_per_epoch)
    # Keras keeps the old rate at the boundary itself (step <= boundary).
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        boundaries=[epoch * steps_per_epoch - 1 for epoch in epochs],
        values=[learning_rate * factor**i for i in range(len(epochs) + 1)],
    )
