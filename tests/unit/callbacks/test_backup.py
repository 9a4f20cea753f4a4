"""Backups: what is saved comes back, and a wrong or damaged file is told."""

import json

import keras
import numpy as np
import pytest

from keras_polynets.callbacks import Backup
from keras_polynets.data import Batches

STEPS = 8


class Count(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = [0, np.zeros(2, "float32")]

    def on_epoch_end(self, epoch, logs=None):
        self.seen = [self.seen[0] + 1, self.seen[1] + 0.5]

    def get_state(self):
        return {"seen": self.seen, "best": -np.inf, "none": None}

    def set_state(self, state):
        assert state["best"] == -np.inf and state["none"] is None
        self.seen = state["seen"]


class Kill(Exception):
    pass


class KillAt(keras.callbacks.Callback):
    """Raises after the given batch of the given epoch, as a kill would."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = epoch, batch

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise Kill


def make_model(units=6, optimizer=None, steps_per_execution=1):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(units, activation="tanh"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
    )
    return model


def make_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5)).astype("float32")
    return x, rng.integers(0, 3, 60).astype("int32")


def fit(model, backup, epochs, extra=(), history=None):
    """Goes on from the backup to the end of `epochs`."""
    x, y = make_data()

    def segment(start, end):
        batches = Batches(x, y, 8, seed=1, first_step=start.global_step)
        logs = model.fit(
            batches.dataset(),
            initial_epoch=start.epoch,
            epochs=end,
            steps_per_epoch=STEPS - start.step,
            validation_data=(x[:20], y[:20]),
            shuffle=False,
            verbose=0,
            callbacks=[*extra, *backup.callbacks, backup],
        )
        if history is not None:
            rows = zip(*logs.history.values(), strict=True)
            history.extend(map(list, rows))

    if (start := backup.position()).step:
        model.evaluate(x[:2], y[:2], verbose=0)
        segment(start, start.epoch + 1)
    if (start := backup.position()).epoch < epochs:
        segment(start, epochs)


def final_state(model):
    variables = model.variables + model.optimizer.variables
    return [keras.ops.convert_to_numpy(keras.ops.copy(v)) for v in variables]


@pytest.mark.parametrize(
    ("steps_per_execution", "kill_at"), [(1, (0, 6)), (4, (1, 3)), (2, (2, 7))]
)
def test_killed_run_ends_like_one_that_was_not(
    tmp_path, steps_per_execution, kill_at
):
    def run(folder, *kills):
        model = make_model(steps_per_execution=steps_per_execution)
        plateau = keras.callbacks.ReduceLROnPlateau(
            patience=1, min_delta=1, factor=0.5
        )
        backup = Backup(
            tmp_path / folder / "backup.npz",
            save_freq=2,
            callbacks=[plateau, Count()],
        )
        history = []
        fit(model, backup, 4, kills, history)
        return model, backup, history

    whole, _, whole_history = run("whole")
    with pytest.raises(Kill):
        run("killed", KillAt(*kill_at))
    # The process is gone: everything is made anew.
    model, backup, history = run("killed")
    for ours, theirs in zip(
        final_state(model), final_state(whole), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    # The rows of whole epochs, although the first one was entered midway.
    assert history == whole_history[-len(history) :]
    plateau, count = backup.callbacks
    assert count.seen[0] == 4
    np.testing.assert_array_equal(count.seen[1], [2.0, 2.0])
    assert float(model.optimizer.learning_rate) < 0.01


def test_position_counts_steps_of_executions(tmp_path):
    backup = Backup(tmp_path / "b.npz", save_freq=3)
    assert backup.position() == (0, 0, 0)
    with pytest.raises(Kill):
        fit(make_model(steps_per_execution=2), backup, 3, [KillAt(1, 5)])
    # Due at step 3, saved at the end of the execution that reaches it.
    assert backup.position() == (1, 4, 12)
    fit(make_model(steps_per_execution=2), backup, 3)
    assert backup.position() == (3, 0, 24)


def test_finite_dataset_with_a_short_last_execution(tmp_path):
    x, y = make_data()
    backup = Backup(tmp_path / "b.npz", save_freq=5)
    model = make_model(steps_per_execution=3)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[backup])
    assert int(model.optimizer.iterations) == 16
    assert backup.position() == (2, 0, 16)


def test_early_stopping_state_returns(tmp_path):
    def callbacks():
        stop = keras.callbacks.EarlyStopping(
            patience=10, restore_best_weights=True
        )
        return stop, keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5",
            save_best_only=True,
            save_weights_only=True,
        )

    stop, checkpoint = callbacks()
    model = make_model(optimizer=keras.optimizers.SGD(0.5))
    fit(model, Backup(tmp_path / "b.npz", callbacks=[stop, checkpoint]), 3)
    again, checkpoint_again = callbacks()
    backup = Backup(tmp_path / "b.npz", callbacks=[again, checkpoint_again])
    model = make_model(optimizer=keras.optimizers.SGD(0.5))
    backup.set_params({"steps": STEPS})
    backup.set_model(model)
    backup.on_train_begin()
    assert (again.best, again.wait) == (stop.best, stop.wait)
    assert checkpoint_again.best == checkpoint.best
    for ours, theirs in zip(again.best_weights, stop.best_weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_damaged_file_falls_back_to_the_previous(tmp_path):
    path = tmp_path / "b.npz"
    fit(make_model(), Backup(path), 2)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.warns(UserWarning, match="b.npz' is damaged .* going on from"):
        assert Backup(path).position() == (1, 0, 8)
    previous = tmp_path / "b.npz.previous"
    previous.write_bytes(b"PK nonsense")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(ValueError, match="and there is none before it"),
    ):
        Backup(path).position()


def test_one_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "b.npz"
    fit(make_model(), Backup(path, keep_previous=False), 1)
    assert not (tmp_path / "b.npz.previous").exists()
    with np.load(path) as file:
        kernel = file["array_0"].tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(kernel) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        make_model_restored(path)


def make_model_restored(path):
    model = make_model()
    assert Backup(path).restore(model)
    return model


def test_previous_stands_in_for_a_missing_file(tmp_path):
    # A kill between the two renames leaves this.
    path = tmp_path / "b.npz"
    fit(make_model(), Backup(path), 2)
    path.unlink()
    assert Backup(path).position() == (1, 0, 8)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: make_model(units=7), r"kernel' of shape \(5, 6\) where"),
        (
            lambda: make_model(optimizer=keras.optimizers.SGD(0.1)),
            r"holds \d+ variables of the optimizer, and this one has 2",
        ),
    ],
)
def test_backup_of_another_model_is_refused(tmp_path, model, message):
    fit(make_model(), Backup(tmp_path / "b.npz"), 1)
    model = model()
    before = final_state(model)[0]
    with pytest.raises(ValueError, match=message):
        Backup(tmp_path / "b.npz").restore(model)
    np.testing.assert_array_equal(final_state(model)[0], before)


def test_fit_must_begin_where_the_backup_stands(tmp_path):
    x, y = make_data()
    fit(make_model(), Backup(tmp_path / "b.npz"), 2)
    with pytest.raises(ValueError, match="Pass initial_epoch=2, or remove"):
        make_model().fit(
            x,
            y,
            batch_size=8,
            verbose=0,
            callbacks=[Backup(tmp_path / "b.npz")],
        )
    backup = Backup(tmp_path / "c.npz", save_freq=2)
    with pytest.raises(Kill):
        fit(make_model(), backup, 2, [KillAt(1, 5)])
    with pytest.raises(
        ValueError,
        match="4 steps are left .* Pass steps_per_epoch=4 and epochs=2",
    ):
        make_model().fit(
            x, y, batch_size=8, initial_epoch=1, epochs=2, callbacks=[backup]
        )


def test_unbuilt_metrics_are_explained(tmp_path):
    x, y = make_data()
    backup = Backup(tmp_path / "b.npz", save_freq=2)
    with pytest.raises(Kill):
        fit(make_model(), backup, 2, [KillAt(0, 5)])
    if keras.backend.backend() == "jax":
        pytest.skip("fit builds the metrics first")
    with pytest.raises(ValueError, match="Call `model.evaluate` on one batch"):
        make_model().fit(x[:32], y[:32], batch_size=8, callbacks=[backup])


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    model, backup = make_model(), Backup(tmp_path / "b.npz")
    fit(model, backup, 1)
    good = (tmp_path / "b.npz").read_bytes()
    model.layers[0].bias.assign([np.nan] * 6)
    with pytest.warns(UserWarning, match="epoch 1 is not written"):
        assert not backup.save()
    assert (tmp_path / "b.npz").read_bytes() == good


def test_file_holds_no_pickle_and_leaves_nothing_behind(tmp_path):
    fit(make_model(), Backup(tmp_path / "b.npz"), 2)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["b.npz", "b.npz.previous"]
    with np.load(tmp_path / "b.npz", allow_pickle=False) as file:
        metadata = json.loads(str(file["metadata"]))
        assert all(file[name].dtype != object for name in file.files)
    paths = [path for _, path, _ in metadata["variables"]["model"]]
    assert any("seed_generator_state" in path for path in paths)


def test_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_polynets.callbacks.backup.FORMAT", 2)
    fit(make_model(), Backup(tmp_path / "b.npz"), 1)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 2, and this version"):
        Backup(tmp_path / "b.npz").position()


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="`save_freq` must be an integer"):
        Backup("b.npz", save_freq=0)


def test_bfloat16_variables_return_exactly(tmp_path):
    def make():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(2, dtype="bfloat16")]
        )
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
        return model

    model, backup = make(), Backup(tmp_path / "b.npz")
    x = np.ones((4, 4), "float32")
    model.fit(x, x[:, :2], verbose=0, callbacks=[backup])
    again = make()
    Backup(tmp_path / "b.npz").restore(again)
    for ours, theirs in zip(again.variables, model.variables, strict=True):
        assert keras.ops.all(ours.value == theirs.value)
