"""The search of layer-wise bounds, against ordinary runs of the recipe."""

import itertools
import json
import re

import keras
import numpy as np
import pytest

from keras_polynets import recipes
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.recipes import searching
from keras_polynets.recipes.grid import Grid
from keras_polynets.recipes.grid import layers_of
from keras_polynets.recipes.searching import best_of
from keras_polynets.recipes.sweeping import trunk_of

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)

# 970 examples train, so that the last batch of an epoch is short.
TEXT = """
model = "pn4"
epochs = 4
batch_size = 50
overrides = {rank = 3}

[data]
name = "fashion_mnist_sample"
validation = 9030

[optimizer]
learning_rate = 0.02
weight_decay = 0.01

[schedule]
name = "step"
epochs = [1, 2]
factor = 0.5

[projection]
start_epoch = 1
every = 7
"""
MEMBERS = [
    (0.5, 2.0, 1.0, 3.0, 0.4),
    (5.0, 0.2, 5.0, 5.0, 5.0),
    (100.0, 100.0, 100.0, 100.0, 100.0),
]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(TEXT)
    return recipes.load(path)


@pytest.fixture
def small(recipe):
    """A recipe whose runs take a moment."""
    return recipe.replace({"data.validation": 9900, "epochs": 3})


def ordinary_run(recipe, bounds, folder):
    recipe = recipe.replace({"projection.layers": layers_of(bounds)})
    recipes.run(recipe, folder, verbose=0, test=False)
    return zoo.load("pn4", weights=folder / "last.weights.h5", rank=3)


def test_members_equal_ordinary_runs(recipe, tmp_path):
    recipes.run(trunk_of(recipe), tmp_path / "trunk", verbose=0, test=False)
    grid = Grid(recipe, "fgsm:0.01", verbose=0)
    grid.start_from(tmp_path / "trunk" / "last.weights.h5")
    alone = [
        ordinary_run(recipe, bounds, tmp_path / f"run-{number}")
        for number, bounds in enumerate(MEMBERS)
    ]
    for net, weights in zip(alone, grid.train(MEMBERS, 3), strict=True):
        for ours, theirs in zip(weights, net.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for net, pair in zip(alone, grid.measure(MEMBERS, 3).values(), strict=True):
        for attack, accuracy in zip((None, "fgsm:0.01"), pair, strict=True):
            expected = robustness.robust_accuracy(
                net, grid.validation, attack, verbose=0
            )
            assert accuracy == pytest.approx(expected, abs=3 / 9030)
    # The bounds of the first two bind, those of the third do not.
    free = ordinary_run(recipe, (1e6,) * 5, tmp_path / "free").get_weights()
    gaps = [np.abs(net.get_weights()[0] - free[0]).max() for net in alone]
    assert gaps[0] > 0.01 and gaps[1] > 0.01 and gaps[2] == 0
    assert np.abs(free[0] - grid.weights[0]).max() > 0.01


def test_a_member_that_diverges_is_the_worst(small, monkeypatch):
    grid = Grid(small, "fgsm:0.01", verbose=0)
    good = grid.network.get_weights()
    bad = [weight.copy() for weight in good]
    bad[-1][0] = np.nan
    monkeypatch.setattr(grid, "train", lambda members, epochs: [good, bad])
    found = grid.measure(MEMBERS[:2], 1)
    assert found[MEMBERS[0]][0] > 0 and found[MEMBERS[1]] == (0, 0)
    assert best_of(found, 1) == MEMBERS[:1]


def test_the_best_of_a_tiny_grid(small, tmp_path):
    grid = [(1e-3, 0.5), (5.0,), (0.02, 5.0), (5.0,), (5.0,)]
    found = recipes.search_layer_bounds(
        small,
        grid,
        tmp_path / "search",
        rounds=((1, 3), (2, 1)),
        block=3,
        verbose=0,
    )
    validation = Grid(small, "fgsm:0.01", verbose=0).validation
    expected = {}
    for number, bounds in enumerate(itertools.product(*grid)):
        net = ordinary_run(small, bounds, tmp_path / f"run-{number}")
        expected[bounds] = robustness.robust_accuracy(
            net, validation, "fgsm:0.01", verbose=0
        )
    best = max(expected, key=expected.get)
    assert found["chosen"] == layers_of(best)
    assert sorted(row["epochs"] for row in found["members"]) == [1, 2, 2, 2]
    for row in found["members"]:
        bounds = (*row["layers"]["factors"], row["layers"]["output_map"])
        if row["epochs"] == 2:
            assert row["robust_accuracy"] == pytest.approx(
                expected[bounds], abs=3 / 9900
            )
    written = json.loads((tmp_path / "search" / "search.json").read_text())
    assert written == found
    # The choice is a recipe.
    chosen = small.replace({"projection.layers": found["chosen"]})
    assert recipes.Recipe.from_dict(chosen.to_dict()) == chosen


class Scripted(Grid):
    """A grid whose accuracies are known without a training."""

    asked = []
    fatal = None

    def start_from(self, path):
        assert path.name == "last.weights.h5"

    def measure(self, members, epochs):
        if len(self.asked) == self.fatal:
            raise KeyboardInterrupt
        self.asked.append((len(members), epochs))
        return {m: (0.5, self.accuracy(m, epochs)) for m in members}

    @staticmethod
    def accuracy(bounds, epochs):
        """The sum of the bounds; (1, 1, 1, 1, 3) leads at first."""
        ahead = bounds == (1.0, 1.0, 1.0, 1.0, 3.0) and epochs < 2
        return 1.0 if ahead else sum(bounds) / 100


@pytest.fixture
def scripted(monkeypatch, small):
    monkeypatch.setattr(searching, "Grid", Scripted)
    monkeypatch.setattr(searching, "run", lambda *args, **kwargs: None)
    monkeypatch.setattr(Scripted, "asked", [])
    return small


def test_rounds_halve_the_grid(scripted, tmp_path):
    found = recipes.search_layer_bounds(
        scripted,
        (1, 2, 3),
        tmp_path,
        rounds=((1, 20), (2, 1)),
        block=100,
        verbose=0,
    )
    assert Scripted.asked == [(100, 1), (100, 1), (43, 1), (20, 2)]
    assert found["chosen"] == {"factors": [3.0] * 4, "output_map": 3.0}
    assert found["candidates"] == [[1.0, 2.0, 3.0]] * 5
    assert len(found["members"]) == 3**5
    second = [row for row in found["members"] if row["epochs"] == 2]
    assert len(second) == 20
    # The early leader took part, at the accuracy of the second round.
    slow = {"factors": [1.0] * 4, "output_map": 3.0}
    (row,) = [row for row in second if row["layers"] == slow]
    assert row["robust_accuracy"] == 0.07 and row["accuracy"] == 0.5
    others = [sum(r["layers"]["factors"]) for r in second if r is not row]
    assert min(others) >= 10


def test_ties_go_to_the_smaller_product():
    accuracies = {
        (1.0, 6.0): (0.9, 0.5),
        (2.0, 2.0): (0.1, 0.5),
        (4.0, 1.0): (0.2, 0.5),
        (0.1, 0.1): (0.9, 0.4),
        (9.0, 9.0): (0.1, 0.6),
    }
    order = [(9.0, 9.0), (2.0, 2.0), (4.0, 1.0), (1.0, 6.0), (0.1, 0.1)]
    assert best_of(accuracies, 5) == order
    assert best_of(dict(reversed(accuracies.items())), 3) == order[:3]


def test_a_killed_search_goes_on(scripted, tmp_path, monkeypatch):
    def search(folder, candidates=(1, 2), block=10):
        return recipes.search_layer_bounds(
            scripted,
            candidates,
            tmp_path / folder,
            rounds=((1, 15), (2, 1)),
            block=block,
            verbose=0,
        )

    whole = search("whole")
    blocks = [(10, 1), (10, 1), (10, 1), (2, 1), (10, 2), (5, 2)]
    assert Scripted.asked == blocks
    Scripted.asked.clear()
    for fatal in (2, 5):
        monkeypatch.setattr(Scripted, "fatal", fatal)
        with pytest.raises(KeyboardInterrupt):
            search("killed")
        assert Scripted.asked == blocks[:fatal]
        assert not (tmp_path / "killed" / "search.json").exists()
    monkeypatch.setattr(Scripted, "fatal", None)
    assert search("killed") == whole
    assert Scripted.asked == blocks
    # A finished one trains nothing, and another one is refused.
    assert search("killed", block=4) == whole
    assert Scripted.asked == blocks
    with pytest.raises(ValueError, match="holds a search with candidates="):
        search("killed", (1, 3))
    log = (tmp_path / "killed" / "log.txt").read_text()
    assert "round 2, 2 epochs: 15 of 15 members are trained" in log


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"projection": None}, "[projection] with 0 < start_epoch < epochs"),
        ({"projection.start_epoch": 0}, "[projection] with 0 < start_epoch"),
        ({"data.validation": 0}, "data.validation above 0"),
        ({"optimizer.momentum": 0.9}, "plain SGD: no momentum"),
        ({"optimizer.name": "adam"}, "plain SGD"),
        ({"schedule": {"name": "cosine"}}, "schedule.name 'constant' or"),
        ({"augmentation.flip": True}, "no [adversarial], [jacobian]"),
        ({"jacobian.weight": 0.1}, "no [adversarial], [jacobian]"),
        ({"model": "ncp4"}, "dense CCP layer, such as 'pn4' and 'pn10'. Rec"),
        ({"model": "pn_conv", "overrides": {}}, "Received the model 'pn_conv'"),
    ],
    ids=str,
)
def test_other_recipes_are_refused(small, tmp_path, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipes.search_layer_bounds(
            small.replace(changes),
            run_directory=tmp_path,
            rounds=((1, 1),),
            verbose=0,
        )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"candidates": (1.0, -1.0)}, "`candidates` must hold different"),
        ({"candidates": [(1.0,)] * 4}, "each of the 5 matrices"),
        ({"candidates": (1.0, 1.0)}, "`candidates` must hold different"),
        ({"candidates": ()}, "`candidates` must hold different"),
        ({"rounds": ((2, 9), (1, 1))}, "`rounds` must be pairs of integers"),
        ({"rounds": ((1, 2), (2, 2))}, "fewer and fewer survivors, 1 at last"),
        ({"rounds": ((3, 1),)}, "at most the recipe's 2 with projection"),
        ({"rounds": ()}, "`rounds` must be pairs of integers"),
        ({"block": 0}, "`block` must be an integer of at least 1"),
        ({"attack": "fgms:1"}, "Did you mean 'fgsm'"),
    ],
    ids=str,
)
def test_bad_arguments_are_explained(small, tmp_path, arguments, message):
    arguments = {"rounds": ((1, 1),), "candidates": (1.0, 2.0)} | arguments
    with pytest.raises(ValueError, match=re.escape(message)):
        recipes.search_layer_bounds(
            small, run_directory=tmp_path, verbose=0, **arguments
        )
    assert not (tmp_path / "progress.json").exists()
