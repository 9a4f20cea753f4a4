"""The callbacks that keep a run's history, weights and interruptions."""

import contextlib
import csv
import signal
import threading
import time

import keras

from keras_polynets._files import atomic_write


class History(keras.callbacks.Callback):
    """Writes one CSV row an epoch, and a line of the log.

    The rows are part of the backup, so the file never has a row twice, or
    none, after a kill.

    Args:
        directory: The `RunDirectory`.
        monitored: What stands before the metrics of the set that is measured
            after every epoch, `"val"` as in Keras or `"test"`.
        measure: Callable that takes the model and returns a dictionary of
            further columns.
    """

    def __init__(self, directory, monitored="val", measure=lambda _: {}):
        super().__init__()
        self.measure = measure
        self.directory = directory
        self.monitored = monitored
        self.rows = []
        self.seconds = 0.0
        self.rate = (None, None)

    def get_state(self):
        return {
            "rows": self.rows,
            "seconds": self._seconds_so_far(),
            "rate": self.rate,
        }

    def set_state(self, state):
        self.rows = list(state["rows"])
        self.seconds = state["seconds"]
        self.rate = tuple(state["rate"])
        self._started = time.monotonic()

    def on_train_begin(self, logs=None):
        self._started = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        # An epoch that goes on has the rate with which it began.
        if self.rate[0] != epoch:
            rate = self.model.optimizer.learning_rate
            self.rate = epoch, float(keras.ops.convert_to_numpy(rate))

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch, **(logs or {}), "learning_rate": self.rate[1]}
        # On JAX, `self.model` brings the weights up to date.
        row |= self.measure(self.model)
        self.rows.append(
            {self._name(key): _plain(value) for key, value in row.items()}
        )
        with atomic_write(self.directory.history, "w") as file:
            writer = csv.DictWriter(file, self.rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        values = (f"{k} {v:.6g}" for k, v in self.rows[-1].items())
        self.directory.write_log(", ".join(values))

    def _name(self, key):
        if not key.startswith("val_"):
            return key
        return f"{self.monitored}_{key.removeprefix('val_')}"

    def on_train_end(self, logs=None):
        self.seconds = self._seconds_so_far()
        self._started = time.monotonic()

    def _seconds_so_far(self):
        return self.seconds + time.monotonic() - self._started


def _plain(value):
    return value if isinstance(value, int) else float(value)


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best validation accuracy.

    Epochs before `first_epoch` do not count, and of equal ones the first wins.
    Where it is not `enabled`, what Keras calls validation is another set.
    """

    def __init__(self, path, save, first_epoch=0, enabled=True):
        super().__init__()
        self.enabled = enabled
        self.path = path
        self.save = save
        self.first_epoch = first_epoch
        self.best = None
        self.best_epoch = None

    def get_state(self):
        return {"best": self.best, "best_epoch": self.best_epoch}

    def set_state(self, state):
        epoch = state["best_epoch"]
        if epoch is not None and epoch >= self.first_epoch:
            self.best, self.best_epoch = state["best"], epoch

    def on_epoch_end(self, epoch, logs=None):
        accuracy = (logs or {}).get("val_accuracy")
        if not self.enabled or accuracy is None or epoch < self.first_epoch:
            return
        if self.best is None or accuracy > self.best:
            self.best, self.best_epoch = float(accuracy), epoch
            # On JAX, `self.model` brings the weights up to date.
            self.save(self.model, self.path)


class Interruption(keras.callbacks.Callback):
    """Turns the first Ctrl-C into a backup and a `KeyboardInterrupt`.

    A `KeyboardInterrupt` in the middle of a step would leave weights that are
    ahead of the position in the data; so the signal waits for the end of the
    execution. A second Ctrl-C does not wait. Put it after the backup.
    """

    def __init__(self, backup):
        super().__init__()
        self.backup = backup
        self.requested = False

    @contextlib.contextmanager
    def handling(self):
        """Handles Ctrl-C inside the block, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._request)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _request(self, number, frame):
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def on_train_batch_end(self, batch, logs=None):
        # The last step of an epoch is saved after the validation.
        if self.requested and batch + 1 < self.params["steps"]:
            self.backup.save()
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if self.requested:
            raise KeyboardInterrupt
