"""The files of a run."""

import contextlib
import csv
import datetime
import json
import pathlib
import shutil

from keras_polynets._files import atomic_path
from keras_polynets._files import atomic_write
from keras_polynets.recipes.recipe import load


class RunDirectory:
    """The folder of one run of one recipe.

    Args:
        path: The folder; it is made by `claim`.

    Attributes:
        config: The resolved recipe, TOML.
        log: What happened and when, text.
        history: One row an epoch, CSV.
        backup: The backup from which the run goes on.
        best: Weights of the epoch with the best validation accuracy.
        last: Weights of the last epoch.
        tensorboard: Folder of TensorBoard's logs.
        source: Folder of the run whose weights this one starts from.
        result: The result, JSON; it exists when the run is finished.
        divergence: Why the run cannot go on, text; see `attempting`.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.toml"
        self.log = self.path / "log.txt"
        self.history = self.path / "history.csv"
        self.backup = self.path / "backup.npz"
        self.best = self.path / "best.weights.h5"
        self.last = self.path / "last.weights.h5"
        self.tensorboard = self.path / "tensorboard"
        self.source = self.path / "source"
        self.result = self.path / "result.json"
        self.divergence = self.path / "diverged.txt"

    def claim(self, recipe):
        """Makes the folder for `recipe`, or checks that it is that recipe's.

        Raises:
            ValueError: If the folder holds a run of another recipe.
        """
        if self.config.exists():
            self.check(recipe)
            return
        with atomic_write(self.config, "w") as file:
            file.write(recipe.to_toml())

    @contextlib.contextmanager
    def held(self):
        """Keeps other processes out while this one trains.

        Where there are no locks, as on Windows, it does nothing.

        Raises:
            RuntimeError: If another process trains in the folder.
        """
        with open(self.config, encoding="utf-8") as file:
            try:
                _lock(file)
            except BlockingIOError:
                raise RuntimeError(
                    f"Another process trains in {str(self.path)!r}. Wait until "
                    "it is finished, or give another run directory."
                ) from None
            yield

    def start_from(self, trunk):
        """Gives a new run another's backup, and its best weights so far.

        Nothing is changed where this run has begun.

        Args:
            trunk: The `RunDirectory` of a run of the first epochs.
        """
        if self.config.exists() or self.backup.exists():
            return
        # The backup last: where it is, all is.
        for name in ("best", "history", "backup"):
            source, target = getattr(trunk, name), getattr(self, name)
            if source.exists():
                with atomic_path(target) as aside:
                    shutil.copyfile(source, aside)

    def read_divergence(self):
        """Returns why the run diverged, or `None`."""
        if not self.divergence.exists():
            return None
        return self.divergence.read_text(encoding="utf-8")

    def write_divergence(self, message):
        with atomic_write(self.divergence, "w") as file:
            file.write(message)

    def read_result(self):
        """Returns the result of the finished run, or `None`."""
        if not self.result.exists():
            return None
        return json.loads(self.result.read_text(encoding="utf-8"))

    def read_history(self):
        """Returns the history: a list of values an epoch for each column."""
        with open(self.history, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {key: [float(row[key]) for row in rows] for key in rows[0]}

    def write_result(self, result):
        with atomic_write(self.result, "w") as file:
            json.dump(result, file, indent=2)
            file.write("\n")

    def write_log(self, message):
        now = datetime.datetime.now().isoformat(" ", timespec="seconds")
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{now}  {message}\n")

    def check(self, recipe):
        """Raises a `ValueError` if the folder holds another recipe's run."""
        if not self.config.exists():
            return
        theirs, ours = (flat(r.to_dict()) for r in (load(self.config), recipe))
        changed = [
            f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} asked for"
            for key in sorted(theirs.keys() | ours.keys())
            if theirs.get(key) != ours.get(key)
        ]
        if changed:
            raise ValueError(
                f"The folder {str(self.path)!r} holds a run of another recipe "
                f"({'; '.join(changed)}). Give another run directory, or "
                "remove that one."
            )


def _lock(file):
    """Locks a file until it is closed, or the process ends."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        # Some file systems of networks have none.
        return


def flat(values, prefix=""):
    """Returns a tree of dictionaries as one, from dotted keys to values."""
    found = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found
