"""Tables and figures of the robustness paper, on few images."""

import csv
import json

import keras
import numpy as np
import pytest

from keras_polynets import data
from keras_polynets import recipes
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.recipes.examples import spread
from training import defences
from training import reproduce
from training.tables import TABLES
from training.tables.robustness import defences as defence_table
from training.tables.robustness import registry
from training.tables.robustness.accuracies import CLEAN
from training.tables.robustness.accuracies import BoundsFigure
from training.tables.robustness.accuracies import RobustnessTable
from training.tables.robustness.accuracies import accuracy
from training.tables.robustness.defences import DefenceTable
from training.tables.robustness.layer_bounds import LayerBoundsTable
from training.tables.robustness.registry import PLAIN
from training.tables.robustness.registry import SETS
from training.tables.robustness.strong import StrongTable
from training.tables.robustness.study import MAIN_ATTACKS
from training.tables.robustness.study import Method
from training.tables.robustness.study import Network
from training.tables.robustness.study import Study

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="attacks need the TensorFlow backend",
)

KEY = "projection.max_value"
PROJECTION = Method("projection", "_projected", KEY, (0.5, 5.0))
DECAY = Method("decay", "_l2", "optimizer.weight_decay", (0.1, 0.01), 0.5)
NETWORK = Network(
    "PN-4",
    "pn4.fashion_mnist",
    (PLAIN, PROJECTION, DECAY),
    {"evaluation.attacked_examples": 300},
)
OTHER = Network("NCP-4", "ncp4.fashion_mnist", (PLAIN, PROJECTION))
ATTACKS = {None: CLEAN, "fgsm:0.1": "FGSM"}
TABLE = RobustnessTable(
    title="A table",
    claims=("a claim",),
    notes=("a note",),
    networks=(NETWORK, OTHER),
    attacks=ATTACKS,
)
FIGURE = BoundsFigure(
    title="A figure",
    claims=("a claim",),
    networks=(
        Network("PN-4", NETWORK.recipe, (PLAIN, PROJECTION), NETWORK.changes),
    ),
    attacks=ATTACKS,
)
SETTINGS = (
    "data.name=fashion_mnist_sample",
    "data.validation=500",
    "overrides={rank=2}",
    "batch_size=200",
    "optimizer.learning_rate=0.01",
)


def run(name, output, runs, *more):
    words = [name, "--epochs", "2", "--seeds", "2", "--output", str(output)]
    words += ["--runs", str(runs), *more]
    for setting in SETTINGS:
        words += ["--set", setting]
    status = reproduce.main(words)
    report = output / "table.json"
    return status, json.loads(report.read_text()) if report.exists() else None


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The folder of the runs and the report of the table."""
    folder = tmp_path_factory.mktemp("robustness")
    patch = pytest.MonkeyPatch()
    patch.setitem(TABLES, "table", TABLE)
    patch.setitem(TABLES, "figure", FIGURE)
    status, report = run(
        "table", folder / "table", folder / "runs", "--rows", "PN-4"
    )
    assert status == 0
    yield folder, report
    patch.undo()


def records(report, method, tested):
    return [
        r
        for r in report["records"]
        if r["method"] == method and (r["test"] is not None) == tested
    ]


def test_the_first_seed_chooses_by_validation(reported):
    _, report = reported
    chosen = report["rows"][0]["chosen"]
    assert chosen["No proj."] == {}
    for method in (PROJECTION, DECAY):
        trials = {
            record["changes"][method.key]: record["validation"]
            for record in report["records"]
            if record["method"] == method.name
            and record["validation"] is not None
            and record["recipe"]["seed"] == 0
            # Trials of the decay last for half of the epochs.
            and (method is PROJECTION or record["epochs"] == 1)
        }
        assert set(trials) == set(method.values)
        assert all(len(v["attacks"]) == 2 for v in trials.values())
        robust = {k: v["attacks"]["fgsm:0.1"] for k, v in trials.items()}
        best = max(method.values, key=robust.get)
        assert chosen[method.name] == {method.key: best}
    # Only the chosen one is looked at with the test images.
    tested = records(report, "projection", True)
    assert [r["recipe"]["seed"] for r in tested] == [0, 1]
    assert len(records(report, "projection", False)) == 1


def test_cells_are_what_the_weights_reach(reported):
    folder, report = reported
    rows = {row["attack"]: row for row in report["rows"]}
    assert {row["network"] for row in report["rows"]} == {"PN-4"}
    assert report["missing"] == ["NCP-4"]
    assert (
        "PN-4: 2 seeds, 2 epochs; attacks see 300 test images, evenly taken; "
        "the first seed tries 2 values of projection, 2 values of decay for "
        "1 epoch, and chooses by 500 validation images under FGSM-0.1 alone"
    ) in report["notes"]
    cell = rows["FGSM"]["cells"]["projection"]
    assert cell["seeds"] == 2 and cell["diverged"] == 0
    assert cell["mean"] == pytest.approx(np.mean(cell["values"]))
    assert cell["deviation"] == pytest.approx(np.std(cell["values"], ddof=1))
    bound = rows["FGSM"]["chosen"]["projection"][KEY]
    (path,) = (
        config.parent
        for config in (folder / "runs").glob("*/*/config.toml")
        if (recipe := recipes.load(config)).seed == 1
        and recipe.projection
        and recipe.projection.max_value == bound
    )
    model = zoo.load("pn4", weights=None, rank=2, class_names=None)
    zoo.weights.load_into(model, path / "best.weights.h5")
    sample = data.load("fashion_mnist_sample")
    some = spread((sample.x_test, sample.y_test), 300)
    for attack, examples, name in (
        (None, (sample.x_test, sample.y_test), CLEAN),
        ("fgsm:0.1", some, "FGSM"),
    ):
        found = robustness.robust_accuracy(model, examples, attack, verbose=0)
        values = rows[name]["cells"]["projection"]["values"]
        assert values[1] == pytest.approx(found, abs=1e-6)


def test_runs_share_the_epochs_before_the_projection(reported):
    folder, report = reported
    histories = [
        config.with_name("history.csv").read_text().splitlines()
        for config in (folder / "runs" / "pn4").glob("*/config.toml")
        if (recipe := recipes.load(config)).seed == 0
        and not recipe.optimizer.weight_decay
    ]
    whole = [lines for lines in histories if len(lines) == 3]
    # Seed 0: one without a projection, two bounds, and what they begin with.
    assert len(whole) == 3 and len(histories) >= 4
    assert len({lines[1].rpartition(",")[0] for lines in histories}) == 1
    assert len({lines[2] for lines in whole}) == 3


def test_nothing_is_run_twice(reported, tmp_path, capsys):
    folder, report = reported
    _, again = run("table", tmp_path / "a", folder / "runs", "--rows", "PN-4")
    assert again["rows"] == report["rows"]
    assert "training for" not in capsys.readouterr().out
    known = folder / "table" / "table.json"
    _, known = run(
        "table",
        tmp_path / "b",
        tmp_path / "empty",
        *("--rows", "PN-4", "--known", str(known)),
    )
    assert known["rows"] == report["rows"]
    assert not (tmp_path / "empty").exists()


def test_a_figure_takes_the_runs_of_a_table(reported, tmp_path, capsys):
    folder, report = reported
    status, drawn = run("figure", tmp_path, folder / "runs")
    assert status == 0 and (tmp_path / "figure.png").stat().st_size > 5_000
    text = capsys.readouterr().out
    assert "A figure" in text and "- a claim" in text
    rows = {row["bound"]: row["accuracies"] for row in drawn["rows"]}
    assert list(rows) == [None, 0.5, 5.0]
    bound = report["rows"][0]["chosen"]["projection"][KEY]
    for row in report["rows"]:
        for key, method in ((None, "No proj."), (bound, "projection")):
            assert rows[key][row["attack"]] == row["cells"][method]
    assert all(
        found["seeds"] == 2 for r in rows.values() for found in r.values()
    )


def test_files_of_a_table(reported):
    folder, report = reported
    with open(folder / "table" / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3
    cell = report["rows"][1]["cells"]["decay"]
    (row,) = (
        r for r in rows if (r["attack"], r["method"]) == ("FGSM", "decay")
    )
    assert float(row["mean"]) == cell["mean"] and row["seeds"] == "2"
    assert row["diverged"] == "0"
    text = (folder / "table" / "table.md").read_text()
    assert f"{cell['mean']:.4f} ± {cell['deviation']:.4f}" in text
    assert "- not run: NCP-4" in text


def test_diverged_and_missing_runs():
    tests = [
        {"accuracy": value, "attacks": {"fgsm:0.1": value / 2}}
        for value in (0.5, 0.7)
    ]
    runs = [{"test": test} for test in tests]
    found = accuracy([*runs, {"diverged": "at step 3"}], "fgsm:0.1")
    assert found["values"] == [0.25, 0.35]
    assert (found["seeds"], found["diverged"]) == (2, 1)
    assert accuracy([*runs, {"missing": True}], None) is None
    nothing = accuracy([{"diverged": "at once"}], None)
    assert nothing["mean"] is None and nothing["seeds"] == 0


def test_attacks_on_the_first_images(reported, monkeypatch):
    folder, weak = reported
    strong = StrongTable(
        title="strong",
        claims=(),
        networks=TABLE.networks,
        attacks={"fgsm:0.2": "FGSM-0.2"},
        images=50,
    )
    monkeypatch.setitem(TABLES, "strong", strong)
    where = folder / "strong", folder / "runs", "--rows", "PN-4"
    status, report = run("strong", *where)
    assert status == 0
    (row,) = report["rows"]
    assert row["chosen"] == weak["rows"][0]["chosen"]
    for found in row["cells"].values():
        assert len(found["values"]) == 2
        assert all((50 * v) % 1 == pytest.approx(0) for v in found["values"])
    assert report["rows"][0]["cells"] != weak["rows"][0]["cells"]

    def measure(*args, **kwargs):
        raise AssertionError("It is known.")

    monkeypatch.setattr(robustness, "robust_accuracy", measure)
    assert run("strong", *where)[1]["rows"] == report["rows"]
    where = folder / "again", folder / "none", "--rows", "PN-4"
    known = "--known", str(folder / "strong" / "table.json")
    _, again = run("strong", *where, *known)
    assert again["rows"] == report["rows"]


RUN = sorted(set(registry.TABLES) - {"robustness-figure9"})


@pytest.mark.parametrize("name", RUN)
def test_every_network_has_its_recipes(name, tmp_path):
    table = TABLES[name]
    arguments = reproduce.make_parser().parse_args([name])
    study = Study(tmp_path, arguments)
    assert table.networks
    for network in table.networks:
        title = network.name.partition(" on ")[2]
        assert title in SETS.values()
        for method in network.methods:
            recipe = study.recipe(network, method, method.trials()[0])
            assert recipe.holds_out
            assert "fgsm:0.1" in recipe.evaluation.selecting_attacks
            assert set(MAIN_ATTACKS) <= set(recipe.evaluation.attacks)
            if method.key is not None:
                section, _, key = method.key.partition(".")
                assert getattr(getattr(recipe, section), key) in method.values
    assert not list(tmp_path.iterdir())


QUICK = "robustness-table14", "robustness-figure9"
OWN_SETS = [
    f"robustness-{name}"
    for name in ("table11", "table12", "table13", "table14")
    + ("figure9", "figure10", "figure11", "figure13")
]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in OWN_SETS
    ],
)
def test_sets_that_a_user_brings(name, tmp_path):
    """The whole program on stand-ins for the sets."""
    tfds = pytest.importorskip("tensorflow_datasets")
    words = [name, "--output", str(tmp_path)]
    if name != "robustness-figure9":
        words += ["--epochs", "2", "--seeds", "1", "--set", "batch_size=20"]
    if "14" not in name and "figure11" not in name and "figure9" not in name:
        words += ["--set", "data.validation=62"]
    if "table" in name:
        words.append("--no-tuning")
    with tfds.testing.mock_data(num_examples=100):
        assert reproduce.main(words) == 0
    report = json.loads((tmp_path / "table.json").read_text())
    assert report["rows"] and not report.get("missing")


def test_bounds_of_layers_and_defences(tmp_path, monkeypatch, capsys):
    """Tables 16 and 17, from the same runs."""
    few = Method("Projection", "_projected", KEY, (2.0,))
    network = Network("PN-4", NETWORK.recipe, (PLAIN, few))
    attacks = registry.FGSM
    candidates = ((5.0,), (1.0, 2.0), (5.0,), (5.0,), (0.5, 2.0))
    for name, kind in (("layers", LayerBoundsTable), ("all", DefenceTable)):
        table = kind(
            title=name,
            claims=(),
            networks=(network,),
            attacks=attacks,
            candidates=candidates,
        )
        monkeypatch.setitem(TABLES, name, table)
    monkeypatch.setattr(defence_table, "VALIDATION", 100)
    monkeypatch.setattr(defences, "GAUSSIAN", ((3, 1.0),))
    monkeypatch.setattr(defences, "MEDIAN", (3,))
    _, report = run("layers", tmp_path / "a", tmp_path / "runs")
    found = report["search"]
    assert found["attack"] == "fgsm:0.01" and found["all_members"] == 4
    (best, *_) = found["members"]
    assert best["layers"] == found["chosen"]
    layers = report["rows"][0]["chosen"]["Layer-wise bound"]
    assert layers == {"projection.layers": found["chosen"]}
    # The run with these bounds is the member of the grid.
    (trained,) = (
        r
        for r in report["records"]
        if r["method"] == "Layer-wise bound" and r["recipe"]["seed"] == 0
    )
    accuracy = trained["validation"]["attacks"]["fgsm:0.01"]
    assert accuracy == pytest.approx(best["robust_accuracy"], abs=0.021)
    text = (tmp_path / "a" / "table.md").read_text()
    assert f"output_map {found['chosen']['output_map']:g}" in text
    _, again = run(
        "layers",
        tmp_path / "b",
        tmp_path / "empty",
        *("--known", str(tmp_path / "a" / "table.json")),
    )
    assert again["rows"] == report["rows"]
    assert not (tmp_path / "empty").exists()
    # What was searched with other settings is no answer.
    stale = json.loads((tmp_path / "a" / "table.json").read_text())
    stale["search"]["recipe"]["epochs"] = 100
    stale["search"]["chosen"]["output_map"] = 77.0
    (tmp_path / "stale.json").write_text(json.dumps(stale))
    one_seed = "--seeds", "1", "--known", str(tmp_path / "stale.json")
    _, report = run("all", tmp_path / "c", tmp_path / "runs", *one_seed)
    assert report["search"]["chosen"] == layers["projection.layers"]
    cells = report["rows"][1]["cells"]
    for column in defence_table.COLUMNS:
        assert len(cells[column]["values"]) == 1
    (found,) = report["defences"]
    assert found["Median denoising"]["defence"] == "median filter, 3 × 3"
    accuracies = found["Median denoising"]["accuracies"]
    assert cells["Median denoising"]["values"] == [accuracies["fgsm:0.1"]]
    known = "--seeds", "1", "--known", str(tmp_path / "c" / "table.json")
    _, again = run("all", tmp_path / "d", tmp_path / "empty", *known)
    assert again["rows"] == report["rows"]
    assert not (tmp_path / "empty").exists()
    # Without the weights there is nothing to measure a second seed with.
    known = "--known", str(tmp_path / "a" / "table.json")
    status, _ = run("all", tmp_path / "e", tmp_path / "empty", *known)
    assert status == 1
    assert "weights of a finished run" in capsys.readouterr().err
