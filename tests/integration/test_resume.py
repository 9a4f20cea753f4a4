"""A run that is killed ends like one that was not."""

import json
import os
import random
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_polynets import recipes
from tests import weight_files

RECIPE = """
model = "pn4"
epochs = 3
batch_size = 96
deterministic = true
backup_steps = 10
seed = 5
[overrides]
rank = 4
[data]
name = "fashion_mnist_sample"
validation = 400
[optimizer]
learning_rate = 0.001
momentum = 0.9
weight_decay = 1e-4
[schedule]
name = "plateau"
monitor = "val_loss"
patience = 1
factor = 0.5
[projection]
max_value = 2.0
start_epoch = 1
[augmentation]
crop_padding = 2
flip = true
"""

# Runs the recipe; with a number, dies by kill -9 after that many steps.
PROGRAM = """
import os, signal, sys
from keras_polynets import callbacks, recipes
recipe, folder, fatal = sys.argv[1], sys.argv[2], int(sys.argv[3])
on_train_batch_end = callbacks.Backup.on_train_batch_end
def dying(self, batch, logs=None):
    on_train_batch_end(self, batch, logs)
    if fatal and self._position.global_step >= fatal:
        os.kill(os.getpid(), signal.{signal})
callbacks.Backup.on_train_batch_end = dying
def size(model):
    return {"size": float(abs(model.get_weights()[0]).sum())}
recipes.run(recipes.load(recipe), folder, verbose=0, measure=size)
"""


def run(recipe, folder, fatal=0, kind="SIGKILL"):
    return subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM.replace("{signal}", kind),
            str(recipe),
            str(folder),
            str(fatal),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def assert_same_end(folder, whole):
    assert (folder / "history.csv").read_text() == (
        whole / "history.csv"
    ).read_text()
    for name in ("last", "best"):
        ours = weight_files.read(folder / f"{name}.weights.h5")
        theirs = weight_files.read(whole / f"{name}.weights.h5")
        assert ours.keys() == theirs.keys() and ours
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key])
    results = [
        json.loads((f / "result.json").read_text()) for f in (folder, whole)
    ]
    for result in results:
        del result["training_seconds"]
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.toml").write_text(RECIPE)
    done = run(folder / "recipe.toml", folder / "run")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_kill_at_a_random_step(whole, tmp_path):
    steps = 100  # An epoch of 9,600 images.
    fatal = random.randrange(12, 3 * steps)
    print(f"killed after step {fatal}")
    done = run(whole / "recipe.toml", tmp_path, fatal)
    assert done.returncode == -signal.SIGKILL
    # And once more, in the epoch that it goes on with or a later one.
    fatal = random.randrange(fatal, 3 * steps)
    run(whole / "recipe.toml", tmp_path, fatal)
    done = run(whole / "recipe.toml", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same_end(tmp_path, whole / "run")


def test_interruption_saves_and_resumes(whole, tmp_path):
    done = run(whole / "recipe.toml", tmp_path, 130, "SIGINT")
    assert "KeyboardInterrupt" in done.stderr
    assert "interrupted" in (tmp_path / "log.txt").read_text()
    done = run(whole / "recipe.toml", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "going on at epoch 1, step" in (tmp_path / "log.txt").read_text()
    assert_same_end(tmp_path, whole / "run")


def test_kill_under_two_replicas(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    text = RECIPE.replace("deterministic = true", "devices = 2")
    text = text.replace("epochs = 3", 'epochs = 2\nstrategy = "mirrored"')
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text)
    assert run(recipe, tmp_path / "a").returncode == 0
    fatal = random.randrange(101, 200)
    print(f"killed after step {fatal}")
    assert run(recipe, tmp_path / "b", fatal).returncode == -signal.SIGKILL
    assert run(recipe, tmp_path / "b").returncode == 0
    ours, theirs = (
        weight_files.read(tmp_path / name / "last.weights.h5") for name in "ba"
    )
    for key in theirs:
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5)


def test_finished_run_returns_its_result_at_once(whole):
    recipe = recipes.load(whole / "recipe.toml")
    before = (whole / "run" / "log.txt").read_text()
    result = recipes.run(recipe, whole / "run", verbose=0)
    stored = json.loads((whole / "run" / "result.json").read_text())
    assert result == stored
    assert (whole / "run" / "log.txt").read_text() == before
    with pytest.raises(ValueError, match="run of another recipe"):
        recipes.run(recipe.replace({"seed": 6}), whole / "run", verbose=0)


def test_result_and_files(whole):
    folder = whole / "run"
    result = json.loads((folder / "result.json").read_text())
    rows = (folder / "history.csv").read_text().splitlines()
    assert rows[0] == (
        "epoch,accuracy,loss,val_accuracy,val_loss,learning_rate,size"
    )
    last = weight_files.read(folder / "last.weights.h5")
    size = np.abs(max(last.values(), key=np.size)).sum()
    assert float(rows[-1].split(",")[-1]) == pytest.approx(size, rel=1e-6)
    assert [row.split(",")[0] for row in rows[1:]] == ["0", "1", "2"]
    # The best epoch is one that was projected, so the bound holds.
    assert result["weights"] == "best" and result["best_epoch"] >= 1
    assert 0 < result["lipschitz_bound"] <= 4 * 2 * 3**4
    best = float(rows[1 + result["best_epoch"]].split(",")[3])
    assert result["validation"]["accuracy"] == pytest.approx(best, abs=1e-6)
    assert result["test"]["examples"] == 2000
    assert result["parameters"] == 4 * 4 * 784 + 4 * 10 + 10
