"""Comparisons of recipes: tuned alike, repeated over seeds."""

import dataclasses
import json

import numpy as np
import pytest

from keras_polynets import recipes
from keras_polynets.recipes import comparing
from keras_polynets.recipes.scaling import scaled

RATES = ({"optimizer.learning_rate": 1e-5}, {"optimizer.learning_rate": 0.01})


@pytest.fixture(scope="module")
def recipe():
    return recipes.Recipe.from_dict(
        {
            "model": "pn4",
            "overrides": {"rank": 2},
            "epochs": 2,
            "batch_size": 500,
            "data": {"validation": 1000},
        }
    )


@pytest.fixture(scope="module")
def compared(recipe, tmp_path_factory):
    contenders = [
        recipes.Contender("PN-4, tuned", recipe, RATES, tuning_share=0.5),
        recipes.Contender("as it is", recipe),
        recipes.Contender("trials alone", recipe, RATES, runs=False),
    ]
    folder = tmp_path_factory.mktemp("compared")
    report = recipes.compare(contenders, folder, seeds=2, verbose=0)
    return contenders, folder, report


def test_chooses_by_validation_and_measures_the_last_weights(compared):
    _, folder, report = compared
    found = report["PN-4, tuned"]
    low, high = (trial["validation"] for trial in found["trials"])
    assert low < high and found["chosen"] == RATES[1]
    for trial in found["trials"]:
        assert trial["epochs"] == 1 and trial["training_examples"] == 9000
        assert trial["test"] is None
        assert trial["history"]["val_accuracy"] == [
            pytest.approx(trial["validation"])
        ]
    for seed, run in enumerate(found["runs"]):
        assert run["seed"] == run["recipe"]["seed"] == seed
        assert run["epochs"] == 2 and run["training_examples"] == 10_000
        assert run["recipe"]["optimizer"]["learning_rate"] == 0.01
        # Of the last epoch, whatever the test accuracy was before.
        assert run["history"]["test_accuracy"][-1] == pytest.approx(run["test"])
        assert run["best_epoch"] is None and run["validation"] is None
    assert found["runs"][0]["test"] != found["runs"][1]["test"]
    assert not (folder / "pn-4--tuned" / "seed-0" / "best.weights.h5").exists()
    assert report["as it is"]["trials"] == []
    assert report["as it is"]["chosen"] == {}
    assert report["trials alone"]["runs"] == []


def test_reports_what_is_known_without_training(compared, tmp_path):
    contenders, _, report = compared
    report = json.loads(json.dumps(report))
    again = recipes.compare(
        contenders, tmp_path, seeds=2, known=report, verbose=0
    )
    assert again == report and not list(tmp_path.iterdir())


def test_trains_the_rows_asked_for_alone(compared, tmp_path):
    contenders, folder, report = compared
    kept = recipes.compare(contenders, folder, seeds=2, train=["as it is"])
    assert kept == report
    fresh = recipes.compare(contenders, tmp_path, seeds=2, train=[])
    assert not list(tmp_path.iterdir())
    assert fresh["PN-4, tuned"]["chosen"] is None
    assert [t["missing"] for t in fresh["PN-4, tuned"]["trials"]] == [True] * 2
    assert [r["missing"] for r in fresh["as it is"]["runs"]] == [True] * 2


def test_a_trial_that_diverges_is_not_chosen(recipe, tmp_path):
    trials = ({"optimizer.learning_rate": 1e6}, RATES[1])
    contender = recipes.Contender("wild", recipe, trials, runs=False)
    found = recipes.compare([contender], tmp_path, verbose=0)["wild"]
    assert "not finite" in found["trials"][0]["diverged"]
    assert found["chosen"] == RATES[1]
    # Who only reports knows of it, and nobody trains it again.
    for train in ([], None):
        again = recipes.compare([contender], tmp_path, train=train, verbose=0)
        assert again["wild"] == found


def test_mistakes_are_explained(recipe, tmp_path):
    contender = recipes.Contender("a", recipe)
    with pytest.raises(ValueError, match=r"must name rows of \['a'\]. .*'b'"):
        recipes.compare([contender], tmp_path, train=["b"])
    twins = [recipes.Contender(name, recipe) for name in ("a, b", "A- b")]
    with pytest.raises(ValueError, match="differ in letters or digits. .*a, b"):
        recipes.compare(twins, tmp_path)
    recipe = recipe.replace({"data.validation": 0})
    contender = recipes.Contender("a", recipe, RATES)
    with pytest.raises(ValueError, match="need a recipe with data.validation"):
        recipes.compare([contender], tmp_path)
    with pytest.raises(ValueError, match="false where data.validation holds"):
        recipe.replace({"data.validation": 10, "evaluation.test_curve": True})
    assert not list(tmp_path.iterdir())


def test_another_recipe_in_the_folder_is_no_result(compared):
    contenders, folder, _ = compared
    other = contenders[1].recipe.replace({"optimizer.learning_rate": 0.5})
    changed = recipes.Contender("as it is", other)
    with pytest.raises(ValueError, match="holds a run of another recipe"):
        recipes.compare([changed], folder, train=[])


def test_runs_train_on_what_chose():
    speech = recipes.load("resnet34_speech.speech_commands")
    assert speech.schedule.monitor.startswith("val_")
    # What the set itself holds out never trains.
    assert comparing._final(recipes.Contender("a", speech), {}) == speech
    ours = {"data.own_validation": False, "data.validation": 100}
    tuned = recipes.Contender("a", speech.replace(ours))
    final = comparing._final(tuned, {})
    assert not final.holds_out and final.evaluation.test_curve
    assert "val_" + final.schedule.monitor == speech.schedule.monitor
    digits = recipes.load("resnet34_speech.fsdd_w16_speaker")
    held_out = {
        "data.split": f"{digits.data.split},george",
        "data.own_validation": True,
    }
    tuned = comparing.holding_out(digits, held_out)
    assert tuned.holds_out and tuned.data.split == held_out["data.split"]
    assert comparing._final(recipes.Contender("a", tuned), {}) == digits


def test_another_fold_with_every_seed(recipe, tmp_path):
    folds = tuple({"data.validation_seed": fold} for fold in (7, 8))
    contender = recipes.Contender("a", recipe, RATES, folds=folds)
    found = recipes.compare([contender], tmp_path, train=[])["a"]
    for trial in found["trials"]:
        assert trial["recipe"]["data"]["validation_seed"] == 0
    contender = dataclasses.replace(contender, trials=({},))
    found = recipes.compare([contender], tmp_path, train=[])["a"]
    taken = [
        (run["seed"], run["recipe"]["data"]["validation_seed"])
        for run in found["runs"]
    ]
    assert taken == [(0, 7), (1, 8), (2, 7)]
    wrong = dataclasses.replace(contender, folds=({"data.splat": "x"},))
    with pytest.raises(ValueError, match="data.splat"):
        recipes.compare([wrong], tmp_path, train=[])


def test_a_share_moves_what_a_trial_has_changed():
    recipe = recipes.load("qresnet20.cifar10_jpeg_w8_transfer")
    changes = {"transfer.epochs": 8, "epochs": 4, "schedule": {}}
    final = comparing._final(
        recipes.Contender("a", recipe, (changes,), share=0.5), changes
    )
    assert (final.transfer.epochs, final.epochs) == (4, 2)


def test_records_name_no_folder(recipe):
    named = recipe.replace(
        {"data.name": "/somewhere/cifar10.zip", "data.archives": "/elsewhere"}
    )
    known = named.portable().to_dict()["data"]
    assert known["name"] == "cifar10.zip" and "archives" not in known
    assert (known["validation"], known["validation_seed"]) == (1000, 0)
    emnist = recipe.replace({"data.name": "emnist/letters"})
    assert emnist.portable().data.name == "emnist/letters"


def test_spread():
    found = comparing.spread([0.5, 0.7, 0.6])
    assert found["mean"] == pytest.approx(0.6)
    assert found["deviation"] == pytest.approx(np.std([5, 6, 7], ddof=1) / 10)
    assert comparing.spread([0.5])["deviation"] is None
    assert comparing.spread([0.5, None]) is None
    assert comparing.spread([]) is None


def test_scaling_moves_every_phase():
    recipe = recipes.load(
        "pn4.fashion_mnist_projected",
        {
            "epochs": 100,
            "schedule.epochs": [25, 75],
            "projection.start_epoch": 50,
        },
    )
    assert scaled(recipe, 1.0) == recipe
    tenth = scaled(recipe, 0.1)
    assert tenth.epochs == 10 and tenth.projection.start_epoch == 5
    assert tenth.schedule.epochs == (2, 8)
    least = scaled(recipe, 0.02)
    assert least.epochs == 2 and least.projection.start_epoch == 1
    assert least.schedule.epochs == (1,)
    single = scaled(recipe, 0.01)
    assert single.epochs == 1 and single.schedule.name == "constant"
    from_the_start = recipe.replace(
        {"projection.start_epoch": 0, "schedule.warmup_epochs": 4}
    )
    least = scaled(from_the_start, 0.02)
    assert least.projection.start_epoch == 0
    assert scaled(from_the_start, 0.5).schedule.warmup_epochs == 2
    assert scaled(from_the_start, 0.01).schedule.warmup_epochs == 0.04
    transfer = recipes.load("qresnet20.cifar10_jpeg_w8_transfer")
    half = scaled(transfer, 0.5)
    assert (half.epochs, half.transfer.epochs) == (2, 2)
