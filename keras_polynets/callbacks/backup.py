"""Backups from which a killed run goes on as if it had not been killed."""

import collections
import contextlib
import itertools
import json
import os
import pathlib
import re
import warnings
import zipfile

import keras
import numpy as np

from keras_polynets._errors import check_positive_integer
from keras_polynets._files import atomic_path
from keras_polynets.callbacks import _state

FORMAT = 1

Position = collections.namedtuple("Position", ("epoch", "step", "global_step"))


class Backup(keras.callbacks.Callback):
    """Saves the whole state of a run in one file and restores it.

    A run that is killed at any moment and started again goes on from its last
    backup and ends with the weights of a run that was not killed, if its data
    are addressed by the global step (as `keras_polynets.data.Batches` are).
    `keras.callbacks.BackupAndRestore` cannot do that: it begins the epoch
    again, and leaves out the random states, the metrics and the other
    callbacks.

    The file holds the weights, the states of the seed generators, the
    optimizer, the metrics of an unfinished epoch, the position in the run and
    the state of the other callbacks. It is written aside and renamed, and the
    one before is kept as `<path>.previous`; a damaged file is replaced by the
    one before, with a warning. Weights that are not finite are never saved.

    Every call of `fit` restores the file, where there is one. Put this
    callback last, so that it sees the others' state of the same epoch.

    With a dataset that repeats forever, Keras runs whole executions: choose
    `steps_per_execution` so that it divides the steps of an epoch.

    Args:
        path: Path of the file (`.npz`).
        save_freq: `"epoch"`, or a positive integer: the number of batches
            after which a backup is due inside an epoch. It is then written at
            the end of the execution (`steps_per_execution` batches) that
            reaches the number. Every end of an epoch is saved either way.
        keep_previous: Boolean, whether the backup before the last is kept.
        callbacks: The other callbacks of the run whose state is saved:
            those with the methods `get_state()` (a tree of dictionaries,
            lists, NumPy arrays, numbers, strings and `None`) and
            `set_state(state)`, and Keras's `ReduceLROnPlateau`,
            `EarlyStopping` and `ModelCheckpoint`. Others are left out.

    Raises:
        ValueError: If the backup does not fit the model, if `fit` does not
            start at the saved position, or if every backup is damaged.

    Example:

    ```python
    batches = keras_polynets.data.Batches(x, y, batch_size=64, seed=0)
    backup = keras_polynets.callbacks.Backup("run/backup.npz", save_freq=500)

    def fit(epochs, steps):
        start = backup.position()
        model.fit(
            batches.starting_at(start.global_step).dataset(),
            initial_epoch=start.epoch,
            epochs=epochs,
            steps_per_epoch=steps,
            shuffle=False,
            callbacks=[backup],
        )

    start = backup.position()
    if start.step:  # First finish the epoch that was interrupted.
        fit(start.epoch + 1, batches.steps_per_epoch - start.step)
    fit(100, batches.steps_per_epoch)
    ```
    """

    def __init__(
        self, path, save_freq="epoch", keep_previous=True, callbacks=()
    ):
        super().__init__()
        if save_freq != "epoch":
            check_positive_integer("save_freq", save_freq)
        self.path = pathlib.Path(path)
        self.save_freq = save_freq
        self.keep_previous = keep_previous
        self.callbacks = list(callbacks)
        self._restored = None
        self._position = Position(0, 0, 0)

    def position(self):
        """Returns where the run stands, from the file.

        Returns:
            A named tuple: `epoch` and `step`, the number of finished epochs
            and of finished steps of the epoch after them, and `global_step`.
            All are 0 where there is no backup.
        """
        read = self._read()
        return read[0]["position"] if read else Position(0, 0, 0)

    def callback_states(self):
        """Returns the saved states of the other callbacks, or an empty list."""
        read = self._read()
        return _state.unpack(read[0]["callbacks"], read[1]) if read else []

    def restore(self, model):
        """Gives `model` its state of the last backup.

        Args:
            model: A built and compiled model like the one that was saved.

        Returns:
            Boolean, whether there was a backup.
        """
        read = self._read()
        if read is None:
            return False
        metadata, arrays = read
        _build_optimizer(model)
        pairs = [
            _matched(_variables(model, group), metadata, group)
            for group in ("model", "optimizer")
        ]
        _assign(itertools.chain(*pairs), arrays)
        return True

    def save(self):
        """Saves the state of the run now.

        Returns:
            Boolean, whether it was saved: weights that are not finite are not.
        """
        # On JAX, reading `self.model` brings the state up to date.
        model = self.model
        groups = ["model", "optimizer"]
        if self._position.step:
            groups.append("metrics")
        arrays, described = {}, {}
        for group in groups:
            described[group] = _describe(_variables(model, group), arrays)
        if not _all_finite(arrays, described["model"]):
            warnings.warn(
                "The weights are not finite: the backup of "
                f"{self._describe_position()} is not written and the one "
                "before is kept.",
                stacklevel=2,
            )
            return False
        metadata = {
            "format": FORMAT,
            "position": self._position._asdict(),
            "steps_per_epoch": self._steps_per_epoch,
            "variables": described,
            "callbacks": [
                _state.pack(_state.get_state(c), arrays) for c in self.callbacks
            ],
        }
        self._write(arrays, metadata)
        return True

    def on_train_begin(self, logs=None):
        read = self._read()
        self._restored = read
        self._position = read[0]["position"] if read else Position(0, 0, 0)
        self._epoch_start = self._position
        self._since_save = 0
        steps = self.params.get("steps")
        self._steps_per_epoch = steps and steps + self._position.step
        if read is None:
            return
        self._check_start(read[0]["steps_per_epoch"])
        self.restore(self.model)
        states = _state.unpack(read[0]["callbacks"], read[1])
        for callback, state in zip(self.callbacks, states, strict=False):
            _state.set_state(callback, state)

    def on_epoch_begin(self, epoch, logs=None):
        if self._restored is None:
            self._position = self._position._replace(epoch=epoch)
        elif epoch != self._position.epoch:
            raise ValueError(
                f"The backup {str(self.path)!r} stands at epoch "
                f"{self._position.epoch}, and `fit` begins at epoch {epoch}. "
                f"Pass initial_epoch={self._position.epoch}, or remove the "
                "backup to begin again."
            )
        if self._position.step:
            self._restore_metrics()
        self._epoch_start = self._position
        # Only the first epoch of this call is a restored one.
        self._restored = None

    def on_train_batch_end(self, batch, logs=None):
        start = self._epoch_start
        done = batch + 1
        self._since_save += start.step + done - self._position.step
        self._position = start._replace(
            step=start.step + done, global_step=start.global_step + done
        )
        # The end of the epoch saves its last step, after the validation.
        if done >= (self.params.get("steps") or np.inf):
            return
        if self.save_freq != "epoch" and self._since_save >= self.save_freq:
            self.save()
            self._since_save = 0

    def on_epoch_end(self, epoch, logs=None):
        # With a finite dataset the last execution may have been shorter.
        steps, start = self.params.get("steps"), self._epoch_start
        done = steps or self._position.step - start.step
        self._steps_per_epoch = start.step + done
        self._position = Position(epoch + 1, 0, start.global_step + done)
        self._since_save = 0
        self.save()

    def _describe_position(self):
        epoch, step, _ = self._position
        return f"epoch {epoch}" + (f", step {step}" if step else "")

    def _check_start(self, saved_steps):
        steps = self._steps_per_epoch
        if saved_steps is None or steps is None or steps == saved_steps:
            return
        epoch, step, _ = self._position
        raise ValueError(
            f"The backup {str(self.path)!r} stands at epoch {epoch}, step "
            f"{step} of {saved_steps}, so that {saved_steps - step} steps are "
            f"left in that epoch. Received: {self.params['steps']} steps per "
            f"epoch. Pass steps_per_epoch={saved_steps - step} and "
            f"epochs={epoch + 1} to finish the epoch, then call `fit` for the "
            "rest."
        )

    def _restore_metrics(self):
        metadata, arrays = self._restored
        variables = _variables(self.model, "metrics")
        if len(variables) < len(metadata["variables"]["metrics"]):
            raise ValueError(
                "The model's metrics are not built yet, so those of the "
                "interrupted epoch cannot be restored. Call "
                "`model.evaluate` on one batch before `fit`."
            )
        _assign(_matched(variables, metadata, "metrics"), arrays)

    def _previous(self):
        return self.path.with_name(self.path.name + ".previous")

    def _write(self, arrays, metadata):
        with atomic_path(self.path) as aside:
            with open(aside, "wb") as file:
                np.savez(file, metadata=json.dumps(metadata), **arrays)
                file.flush()
                os.fsync(file.fileno())
            if self.keep_previous and self.path.exists():
                os.replace(self.path, self._previous())

    def _read(self):
        """Returns the metadata and the arrays of the newest sound file."""
        paths = [p for p in (self.path, self._previous()) if p.exists()]
        for number, path in enumerate(paths, 1):
            try:
                return _load(path)
            except (OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
                reason = error
            except ValueError as error:
                # A newer format is sound; damage also shows as a ValueError.
                if isinstance(error, _FormatError):
                    raise
                reason = error
            if number < len(paths):
                warnings.warn(
                    f"The backup {str(path)!r} is damaged ({reason}); going "
                    f"on from the one before, {str(paths[number])!r}.",
                    stacklevel=2,
                )
            else:
                raise ValueError(
                    f"The backup {str(path)!r} is damaged ({reason}), and "
                    "there is none before it. Remove it to begin again."
                ) from reason
        return None


class _FormatError(ValueError):
    pass


def _load(path):
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    metadata = json.loads(str(arrays.pop("metadata")))
    if metadata["format"] != FORMAT:
        raise _FormatError(
            f"The backup {str(path)!r} has format {metadata['format']}, and "
            f"this version of keras_polynets reads format {FORMAT}."
        )
    metadata["position"] = Position(**metadata["position"])
    return metadata, arrays


def _variables(model, group):
    if group == "model":
        variables = model.variables
    elif group == "optimizer":
        variables = model.optimizer.variables
    else:
        variables = model.metrics_variables
    return list({id(v): v for v in variables}.values())


def _build_optimizer(model):
    """Makes the optimizer's variables, which Keras makes at the first step."""
    if not model.built:
        raise ValueError(
            "A backup can only be restored to a model that is built. Give the "
            "model an input shape, or call it once, before `fit`."
        )
    if model.optimizer.built:
        return
    scope = contextlib.nullcontext()
    if keras.backend.backend() == "tensorflow":
        scope = model.distribute_strategy.scope()
    with scope:
        model.optimizer.build(model.trainable_variables)


def _describe(variables, arrays):
    """Adds the values to `arrays`; returns their names, paths and shapes."""
    described = []
    for variable in variables:
        name = f"array_{len(arrays)}"
        arrays[name] = _state.to_numpy(variable)
        described.append([name, variable.path, list(variable.shape)])
    return described


def _all_finite(arrays, described):
    values = [arrays[name] for name, _, _ in described]
    return all(np.isfinite(v).all() for v in values if v.dtype.kind == "f")


def _unnumbered(path):
    """Drops the numbers that Keras adds to repeated names in a process."""
    return re.sub(r"_\d+(?=[/_]|$)", "", path)


def _matched(variables, metadata, group):
    """Returns the pairs of a variable and the name of its saved array."""
    saved = metadata["variables"][group]
    if len(variables) != len(saved):
        raise ValueError(
            f"The backup holds {len(saved)} variables of the {group}, and "
            f"this one has {len(variables)}. The backup belongs to another "
            "model or optimizer; use another path, or remove it."
        )
    for variable, (_, path, shape) in zip(variables, saved, strict=True):
        same = _unnumbered(variable.path) == _unnumbered(path)
        if not same or list(variable.shape) != shape:
            raise ValueError(
                f"The backup holds the variable {path!r} of shape "
                f"{tuple(shape)} where the {group} has {variable.path!r} of "
                f"shape {tuple(variable.shape)}. The backup belongs to another "
                "model or optimizer; use another path, or remove it."
            )
    return [(v, name) for v, (name, _, _) in zip(variables, saved, strict=True)]


def _assign(pairs, arrays):
    for variable, name in pairs:
        variable.assign(arrays[name])
