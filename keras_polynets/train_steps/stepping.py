"""Runs a part of a training step before Keras's own, on every backend."""

import keras


def step_on_changed_data(trainer, change, train_step, arguments):
    """Changes the data of a training step and runs the step on them.

    Args:
        trainer: The `keras.Model` that is trained.
        change: A callable `data -> data` that may use and update the model's
            variables.
        train_step: Keras's `train_step` of the model.
        arguments: The arguments of `train_step`: `(data,)`, or on JAX
            `(state, data)`.
    """
    if keras.backend.backend() != "jax":
        return train_step(change(*arguments))
    state, data = arguments
    trainable, fixed, *rest = state
    pairs = [
        *zip(trainer.trainable_variables, trainable, strict=True),
        *zip(trainer.non_trainable_variables, fixed, strict=True),
    ]
    with keras.StatelessScope(state_mapping=pairs) as scope:
        data = change(data)
    fixed = [
        scope.get_current_value(variable)
        for variable in trainer.non_trainable_variables
    ]
    return train_step((trainable, fixed, *rest), data)
