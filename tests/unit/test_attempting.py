"""Runs that branch off another, diverge or are missing."""

import json
import shutil

import numpy as np
import pytest

from keras_polynets import data
from keras_polynets import recipes
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.recipes import attempting
from keras_polynets.recipes.attempting import attempt
from keras_polynets.recipes.attempting import first_epochs
from keras_polynets.recipes.attempting import trunk_of
from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.examples import spread


@pytest.fixture
def recipe():
    return recipes.Recipe.from_dict(
        {
            "model": "pn4",
            "overrides": {"rank": 2},
            "epochs": 2,
            "batch_size": 500,
            "data": {"validation": 1000},
            "optimizer": {"learning_rate": 0.002},
            "projection": {"max_value": 1.0, "start_epoch": 1},
        }
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adversarial.warmup_epochs": 1},
        {"adversarial.warmup_epochs": 1, "projection": None},
        {"adversarial.warmup_epochs": 1, "jacobian.weight": 0.1},
    ],
    ids=str,
)
def test_a_branch_ends_as_the_whole_run(recipe, tmp_path, changes):
    recipe = recipe.replace(changes)
    trunk = trunk_of(recipe)
    assert trunk.projection is None and trunk.epochs == 1
    attempt(trunk, tmp_path / "trunk", test=False, verbose=0)
    branch = attempt(
        recipe, tmp_path / "branch", trunk=tmp_path / "trunk", verbose=0
    )
    whole = attempt(recipe, tmp_path / "whole", verbose=0)
    assert branch["test"] == whole["test"]
    assert branch["validation"] == whole["validation"]
    ends = (
        np.load(tmp_path / name / "backup.npz") for name in ("branch", "whole")
    )
    for ours, theirs in zip(*map(_arrays, ends), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    text = (tmp_path / "branch" / "log.txt").read_text()
    assert "going on at epoch 1, step 0" in text
    # A finished run is not begun again from another trunk.
    again = attempt(
        recipe, tmp_path / "branch", trunk=tmp_path / "whole", verbose=0
    )
    assert again == branch


def _arrays(backup):
    """Returns the variables of a backup, in order."""
    return [backup[name] for name in backup.files if name != "metadata"]


def test_the_first_epochs(recipe):
    assert trunk_of(recipe.replace({"projection": None})) is None
    adversarial = recipe.replace(
        {"adversarial.warmup_epochs": 3, "epochs": 9, "jacobian.weight": 0.1}
    )
    trunk = trunk_of(adversarial.replace({"projection.start_epoch": 5}))
    assert trunk.epochs == 3 and trunk.adversarial == adversarial.adversarial
    assert trunk.jacobian == adversarial.jacobian
    assert first_epochs(recipe, 0) is first_epochs(recipe, 2) is None
    assert first_epochs(recipe, 1) == trunk_of(recipe)
    # Half a cosine ends with the last epoch.
    cosine = recipe.replace({"schedule.name": "cosine"})
    assert trunk_of(cosine) is None


def test_a_branch_that_is_killed_at_its_beginning(tmp_path, monkeypatch):
    trunk, branch = (RunDirectory(tmp_path / name) for name in ("a", "b"))
    trunk.path.mkdir()
    for path in (trunk.best, trunk.backup, trunk.history):
        path.write_text(path.name)
    copy, copies = shutil.copyfile, []

    def copy_or_die(source, target):
        copies.append(source)
        if len(copies) == 3:
            raise KeyboardInterrupt
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", copy_or_die)
    with pytest.raises(KeyboardInterrupt):
        branch.start_from(trunk)
    branch.start_from(trunk)
    for path in (branch.best, branch.backup, branch.history):
        assert path.read_text() == path.name


def test_what_is_not_trained_is_missing(recipe, tmp_path):
    assert attempt(recipe, tmp_path / "run", train=False) is None
    assert not list(tmp_path.iterdir())
    result = attempt(recipe, tmp_path / "run", test=False, verbose=0)
    assert attempt(recipe, tmp_path / "run", train=False) is None
    assert attempt(recipe, tmp_path / "run", train=False, test=False) == result
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        attempt(recipe.replace({"seed": 1}), tmp_path / "run", train=False)


def test_a_divergence_is_remembered(recipe, tmp_path, monkeypatch):
    wild = recipe.replace({"optimizer.learning_rate": 1e30})
    found = attempt(wild, tmp_path / "run", verbose=0)
    assert "in its folder is from before. Lower the l" in found["diverged"]
    assert str(tmp_path) not in found["diverged"]
    monkeypatch.setattr(attempting, "run", None)
    assert attempt(wild, tmp_path / "run", verbose=0) == found
    assert attempt(wild, tmp_path / "run", train=False) == found


def test_a_sweep_remembers_divergence(recipe, tmp_path, monkeypatch):
    wild = recipe.replace({"optimizer.learning_rate": 1e30})
    wild = wild.replace({"projection.start_epoch": 0})
    for _ in range(2):
        with pytest.raises(FloatingPointError, match="Every run of the sweep"):
            recipes.sweep(wild, (1.0,), tmp_path, verbose=0)
        monkeypatch.setattr(attempting, "run", None)


def test_validation_and_test_have_their_own_attacks(recipe, tmp_path):
    pytest.importorskip("tensorflow")
    attacks = {"attacks": ["fgsm:0.1", "fgsm:0.01"], "attacked_examples": 300}
    recipe = recipe.replace({"evaluation": attacks | {"batch_size": 128}})
    recipe = recipe.replace({"evaluation.selecting_attacks": ["fgsm:0.02"]})
    result = attempt(recipe, tmp_path / "run", verbose=0)
    assert list(result["validation"]["attacks"]) == ["fgsm:0.02"]
    assert "attacked_examples" not in result["validation"]
    test = result["test"]
    assert test["examples"] == 2000 and test["attacked_examples"] == 300
    model = zoo.load("pn4", weights=None, rank=2)
    zoo.weights.load_into(model, tmp_path / "run" / "best.weights.h5")
    sample = data.load("fashion_mnist_sample")
    for attack, size in ((None, 2000), ("fgsm:0.1", 300), ("fgsm:0.01", 300)):
        some = spread((sample.x_test, sample.y_test), size)
        expected = robustness.robust_accuracy(model, some, attack, verbose=0)
        found = test["attacks"][attack] if attack else test["accuracy"]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"evaluation.attacked_examples": -1}, "must be at least 0"),
        (
            {
                "evaluation.attacked_examples": 5,
                "stream.size": 8,
                "data.validation": 0,
            },
            r"must be 0 with \[stream\]",
        ),
    ],
)
def test_bad_settings_are_explained(recipe, changes, message):
    with pytest.raises(ValueError, match=message):
        recipe.replace(changes)


def test_an_unknown_attack_is_found_before_the_training(recipe, tmp_path):
    recipe = recipe.replace({"evaluation.selecting_attacks": ["fgms:1"]})
    with pytest.raises(ValueError, match="Did you mean 'fgsm'"):
        recipes.run(recipe, tmp_path / "run")
