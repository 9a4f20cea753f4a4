"""Finds the layer in which a diverging run first left the finite numbers."""

import keras
import numpy as np

from keras_polynets.callbacks import first_non_finite
from keras_polynets.recipes import running


def locate(recipe, directory):
    """Repeats the steps after the last backup and looks at each.

    Args:
        recipe: The `Recipe` of the run.
        directory: Its `RunDirectory`.

    Returns:
        One sentence for the user.
    """
    job = running.Job(recipe, directory, verbose=0, steps_per_execution=1)
    watch = _Watch()
    start = job.backup.position()
    # Only restored: the backup stays as it is.
    job.backup.save = lambda: False
    try:
        job.fit_epochs(start.epoch + 1, [watch, job.backup], validate=False)
    except _Found:
        pass
    if watch.step is None:
        return "Repeating the steps since the last backup did not show where."
    for variable, value in zip(
        job.training_model.variables, watch.before, strict=True
    ):
        variable.assign(value)
    step = start.global_step + watch.step
    images = job.splits.inputs_of(step)
    where = first_non_finite(job.training_model, images)
    where = where or f"the gradient, which reached {watch.weight}"
    step -= start.epoch * job.steps_per_epoch
    return (
        f"The first value that is not finite appeared in {where}, at epoch "
        f"{start.epoch}, step {step}."
    )


class _Found(Exception):
    pass


class _Watch(keras.callbacks.Callback):
    """Stops at the first step that leaves the finite numbers."""

    def __init__(self):
        super().__init__()
        self.before = self.step = self.weight = None

    def on_train_batch_begin(self, batch, logs=None):
        variables = self.model.variables
        self.before = [keras.ops.convert_to_numpy(v) for v in variables]
        self.before = [np.array(value) for value in self.before]

    def on_train_batch_end(self, batch, logs=None):
        self.weight = first_non_finite(self.model)
        if self.weight or not np.isfinite(logs["loss"]):
            self.step = batch
            raise _Found
