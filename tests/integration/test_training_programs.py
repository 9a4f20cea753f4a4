"""The programs of training/, on real images, from a recipe to the zoo."""

import csv
import functools
import json

import keras
import numpy as np
import pytest

from keras_polynets import recipes
from keras_polynets import zoo
from keras_polynets.callbacks import Backup
from keras_polynets.recipes import building
from keras_polynets.recipes.directory import RunDirectory
from training import publish
from training import reproduce
from training import train
from training.tables import TABLES
from training.tables import prodpoly
from training.tables.comparison import ComparisonTable
from training.tables.comparison import Figure
from training.tables.comparison import Measure
from training.tables.comparison import Row

RECIPE = """
model = "pn4"
epochs = 2
batch_size = 200
[overrides]
rank = 4
[data]
name = "fashion_mnist_sample"
validation = 1000
[optimizer]
learning_rate = 0.002
[schedule]
name = "step"
epochs = [1]
factor = 0.2
[projection]
max_value = 2.0
start_epoch = 1
[evaluation]
attacks = ["fgsm:0.1"]
top_k = [3]
"""

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="attacks need the TensorFlow backend",
)


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(recipe_path, tmp_path_factory):
    """The folder of a finished run, and what the program printed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    recipes.run(recipes.load(recipe_path), folder, verbose=0)
    return folder


def test_train_prints_the_result(recipe_path, finished, capsys):
    arguments = [str(recipe_path), "--run-directory", str(finished)]
    assert train.main(arguments) == 0
    text = capsys.readouterr().out
    result = json.loads((finished / "result.json").read_text())
    assert f"test accuracy {result['test']['accuracy']:.4f}" in text
    assert f"top 3 accuracy {result['test']['top_3_accuracy']:.4f}" in text
    assert train.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_train_explains_mistakes(recipe_path, finished, capsys):
    assert train.main([str(recipe_path), "--set", "epoch=3"]) == 1
    assert "Did you mean 'epochs'?" in capsys.readouterr().err
    arguments = [str(recipe_path), "--run-directory", str(finished)]
    assert train.main([*arguments, "--set", "seed=7"]) == 1
    assert "seed: 0 there, 7 asked for" in capsys.readouterr().err
    assert train.main([str(recipe_path.parent / "none.toml")]) == 1
    assert "none.toml" in capsys.readouterr().err


def test_train_says_how_to_go_on(recipe_path, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "run", interrupted)
    assert train.main([str(recipe_path), "--set", "epochs=3"]) == 130
    text = capsys.readouterr().err
    assert f"python -m training.train {recipe_path} --set epochs=3" in text


def test_run_directory_holds_what_it_should(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "backup.npz",
        "best.weights.h5",
        "config.toml",
        "history.csv",
        "last.weights.h5",
        "log.txt",
        "result.json",
    }
    if keras.backend.backend() == "tensorflow":
        assert any((finished / "tensorboard").rglob("events*"))


@on_tensorflow
def test_publish_makes_a_tag_that_loads(finished, tmp_path, monkeypatch):
    (tmp_path / "pn4").mkdir()
    (tmp_path / "pn4" / "card.md").write_text("# PN-4\n\nProse.\n")
    monkeypatch.setenv("KERAS_POLYNETS_ZOO", str(tmp_path))
    for tag, options in (
        ("sample", []),
        ("other", []),
        ("sample", ["--default"]),
    ):
        # A variant, here of rank 2, is no default unless it is asked for.
        assert zoo.info("pn4")["default"] is None
        arguments = [str(finished), f"pn4.{tag}", "--zoo", str(tmp_path)]
        arguments += ["--paper", "not available", *options]
        assert publish.main(arguments) == 0
    model = zoo.load("pn4")
    assert zoo.info("pn4")["default"] == "sample"
    with np.load(tmp_path / "pn4" / "sample.reference.npz") as reference:
        images, logits = reference["images"], reference["logits"]
    assert images.dtype == np.uint8 and logits.shape == (8, 10)
    np.testing.assert_allclose(
        model(model.preprocessor(images)), logits, atol=1e-5
    )
    assert model.class_names[9] == "Ankle boot"
    result = json.loads((finished / "result.json").read_text())
    assert zoo.info("pn4.sample")["tags"]["sample"]["results"] == {
        "tag": "sample",
        **result,
    }
    assert recipes.load("pn4.sample") == recipes.load(finished / "config.toml")
    with open(tmp_path / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["tag"] for row in rows] == ["other", "sample"]
    assert (
        float(rows[0]["test fgsm:0.1"])
        == (result["test"]["attacks"]["fgsm:0.1"])
    )
    card = (tmp_path / "pn4" / "card.md").read_text()
    assert card.startswith("# PN-4\n\nProse.\n")
    assert card.count("| `sample` |") == card.count("| `other` |") == 1
    left = [p.name for p in (tmp_path / "pn4").iterdir()]
    assert not [name for name in left if name.startswith(".")]


@on_tensorflow
def test_train_sweeps_the_bound(recipe_path, tmp_path, capsys, monkeypatch):
    few = functools.partial(recipes.sweep, bounds=(5.0, 0.5))
    monkeypatch.setattr(recipes, "sweep", few)
    arguments = [str(recipe_path), "--sweep", "--run-directory", str(tmp_path)]
    assert train.main(arguments) == 0
    text = capsys.readouterr().out
    chosen = json.loads((tmp_path / "sweep.json").read_text())["chosen"]
    for line in ("bound none: ", "bound 5.0: ", "bound 0.5: "):
        assert line + "validation accuracy 0." in text
    assert f"chosen: bound {chosen:g}\npn4: " in text
    assert "test accuracy 0." in text


def test_publish_explains_mistakes(finished, tmp_path, capsys):
    zoo_folder = ["--zoo", str(tmp_path)]
    for folder, name, message in (
        (finished, "pn4", "published as MODEL.TAG"),
        (finished, "pn10.sample", "one of 'pn4', and cannot be published"),
        (tmp_path, "pn4.sample", "is not finished: result.json is missing"),
    ):
        assert publish.main([str(folder), name, *zoo_folder]) == 1
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_reproduce_compares_recipes(recipe_path, tmp_path, capsys, monkeypatch):
    rates = [{"optimizer.learning_rate": rate} for rate in (1e-4, 1e-2)]
    table = ComparisonTable(
        title="Rates",
        rows=(
            Row("tuned", str(recipe_path), tuple(rates), paper="8.75"),
            Row("trials", str(recipe_path), tuple(rates), runs=False),
        ),
        measures=(Measure("test error (%)", error=True), Measure()),
        claims=("a claim",),
        figures={
            "trials": Figure("Trials", ("tuned", "trials"), "trials"),
            "runs": Figure("Runs", ("tuned",), "runs"),
        },
        tuning_share=0.5,
    )
    monkeypatch.setitem(TABLES, "rates", table)
    arguments = ["rates", "--seeds", "2", "--output", str(tmp_path)]
    arguments += ["--set", "projection=", "--set", "evaluation="]
    assert reproduce.main([*arguments, "--rows", "trials"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["tuned", "learning_rate", "0.0001", "not", "run"] in lines
    assert ["trials", "learning_rate", "0.0001", "not", "run"] not in lines
    assert "tuned" in {line[0] for line in lines if line[1:3] == ["not", "run"]}
    assert reproduce.main(arguments) == 0
    text = capsys.readouterr().out
    report = json.loads((tmp_path / "table.json").read_text())
    runs = [run["test"] for run in report["rows"]["tuned"]["runs"]]
    deviation = f" ± {100 * np.std(runs, ddof=1):.2f}"
    assert f"{100 - 100 * np.mean(runs):.2f}{deviation}" in text
    expected = f"{100 * np.mean(runs):.2f}{deviation}"
    assert expected in text and expected in (tmp_path / "table.md").read_text()
    assert "8.75" in text and "learning_rate 0.01" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "trials.png",
        "runs.png",
    }
    # Elsewhere the report stands for the runs.
    known = ["--known", str(tmp_path / "table.json"), "--rows", "trials"]
    arguments[4] = str(tmp_path / "elsewhere")
    assert reproduce.main([*arguments, *known]) == 0
    assert expected in capsys.readouterr().out
    (tmp_path / "table.json").write_text('{"rows": [1], "records": []}')
    assert reproduce.main([*arguments, *known]) == 1
    assert "table.json of a table of this kind" in capsys.readouterr().err


def test_every_table_names_recipes_that_take_its_trials():
    for table in TABLES.values():
        if isinstance(table, ComparisonTable):
            run = [row for row in table.rows if row.runs]
            assert len({len(row.trials) for row in run}) == 1
            for row in table.rows:
                names = row.trial_names or row.trials
                assert len(names) == len(row.trials)
                if "data.validation" in (row.held_out or table.held_out):
                    recipe = table.tuned(row, ["data.validation=100"])
                    assert recipe.data.validation == 100
                recipe = table.tuned(row, ())
                assert recipe.holds_out or len(row.trials) == 1
                for changes in (*row.trials, *row.folds):
                    recipe.replace(changes)
            names = {row.name for row in table.rows}
            for figure in table.figures.values():
                assert set(figure.rows) <= names


def test_tables_print_the_numbers_that_recipes_cite():
    for name, table in prodpoly.TABLES.items():
        for row in table.rows:
            model, tag = row.recipe.split(".")
            path = zoo.data_directory() / model / f"{tag}.toml"
            lines = path.read_text(encoding="utf-8").splitlines()
            cited = " ".join(x[2:] for x in lines if x.startswith("#"))
            numbers = row.paper or ()
            numbers = [numbers] if isinstance(numbers, str) else numbers
            assert all(x in cited for x in numbers), (name, row.name)
            assert not numbers or len(numbers) == len(table.measures)


def test_no_speaker_who_selects_tests():
    table = TABLES["prodpoly-fsdd"]
    rows = table.rows
    assert all(row.trials == rows[0].trials for row in rows)
    by_speaker = [row for row in rows if "speaker" in row.recipe]
    assert len(by_speaker) == 2
    for row in by_speaker:
        split = table.tuned(row, ()).data.split
        tested, selects = split.removeprefix("speaker:").split(",")
        folds = [fold["data.split"] for fold in row.folds]
        assert folds[0] == f"speaker:{tested}"
        assert f"speaker:{selects}" not in folds and len(set(folds)) == 5


def test_reproduce_explains_mistakes(capsys):
    assert reproduce.main(["robustness-tabel1"]) == 1
    assert "Did you mean 'robustness-table1'" in capsys.readouterr().err
    assert reproduce.main(["robustness-table1", "--rows", "a"]) == 1
    message = "Unknown row 'a'. Known: 'PN-10 on E-MNIST', "
    assert message in capsys.readouterr().err
    for words, option in (
        (["robustness-figure2", "--no-tuning"], "--no-tuning"),
        (["qresnet20-cifar10-jpeg", "--runs", "a"], "--runs"),
        (["robustness-figure9", "--rows", "a", "--seeds", "1"], "--seeds, --r"),
        (["robustness-table1", "--ranks", "3"], "--ranks"),
    ):
        assert reproduce.main(words) == 1
        assert f"takes no {option}" in capsys.readouterr().err


def test_divergence_names_the_layer_and_keeps_the_backup(
    recipe_path, tmp_path, monkeypatch
):
    recipe = recipes.load(
        recipe_path,
        {"batch_size": 100, "backup_steps": 20, "projection": None},
    )

    def wild(recipe, steps_per_epoch):
        assert steps_per_epoch == 90
        # From step 51 of the second epoch on the products overflow.
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [140], [0.001, 1e6]
        )

    monkeypatch.setattr(building, "learning_rate", wild)
    with pytest.raises(
        FloatingPointError,
        match="The first value that is not finite appeared in the output of "
        r"the layer '.*, at epoch 1, step 5[123]\.",
    ) as error:
        recipes.run(recipe, tmp_path, verbose=0)
    directory = RunDirectory(tmp_path)
    assert str(error.value) in directory.log.read_text()
    assert not directory.result.exists() and not directory.last.exists()
    assert Backup(directory.backup).position() == (1, 45, 135)
    model = zoo.load("pn4", weights=directory.best, rank=4)
    assert all(np.isfinite(w).all() for w in model.get_weights())
