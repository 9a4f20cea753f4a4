"""What a study of the robustness paper runs, says and draws, untrained."""

import numpy as np
import pytest

from training import reproduce
from training.tables import TABLES
from training.tables.robustness import plots
from training.tables.robustness import registry
from training.tables.robustness.accuracies import CLEAN
from training.tables.robustness.accuracies import RobustnessTable
from training.tables.robustness.registry import PLAIN
from training.tables.robustness.study import Method
from training.tables.robustness.study import Network
from training.tables.robustness.study import Study

KEY = "projection.max_value"
PROJECTION = Method("projection", "_projected", KEY, (0.5, 5.0))
NETWORK = Network("PN-4", "pn4.fashion_mnist", (PLAIN, PROJECTION))
TABLE = RobustnessTable(
    title="A table",
    claims=(),
    networks=(NETWORK,),
    attacks={None: CLEAN, "fgsm:0.1": "FGSM"},
)
RUN = sorted(set(registry.TABLES) - {"robustness-figure9"})


def study(tmp_path, *words):
    arguments = reproduce.make_parser().parse_args(["table", *words])
    return Study(tmp_path, arguments)


def test_where_all_trials_diverged_so_does_the_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Study, "_record", lambda *args, **kwargs: {"diverged": "at once"}
    )
    measured = TABLE.measured(study(tmp_path), [NETWORK])
    assert measured["rows"][0]["chosen"]["projection"] == {KEY: 0.5}
    words = {row[1]: row for row in TABLE.table(measured)}
    assert words["FGSM"][2:] == ["diverged"] * 2


def test_changes_of_a_projection_are_for_those_that_have_one(tmp_path):
    found = study(
        tmp_path, "--set", "projection.every=7", "--set", "batch_size=9"
    )
    plain = found.recipe(NETWORK, PLAIN, {})
    assert plain.projection is None and plain.batch_size == 9
    projected = found.recipe(NETWORK, PROJECTION, {KEY: 0.5})
    assert projected.projection.every == 7
    with pytest.raises(ValueError, match="recipe key"):
        study(tmp_path, "--set", "projektion.every=7").recipe(
            NETWORK, PLAIN, {}
        )


def test_a_method_has_its_color_in_every_panel():
    pytest.importorskip("matplotlib")

    def record(network, method, value, epochs, accuracy):
        attacks = {"fgsm:0.1": accuracy / 2}
        return {
            "network": network,
            "method": method,
            "changes": {"key": value},
            "recipe": {"seed": 0},
            "epochs": epochs,
            "validation": {"accuracy": accuracy, "attacks": attacks},
        }

    report = {
        "rows": [
            {"network": name, "chosen": {"a": {}, "b": {"key": 1}}}
            for name in ("first", "second")
        ],
        "records": [
            record("first", "b", 3, 5, 0.35),
            record("first", "b", 1, 5, 0.4),
            record("first", "b", 2, 5, 0.3),
            record("first", "b", 1, 20, 0.8),
            record("second", "a", 1, 20, 0.5),
            record("second", "b", 1, 20, 0.6),
        ],
    }
    canvas = plots.draw_trials(report, "fgsm:0.1")
    first, second = canvas.axes[:2]
    lines = {line.get_label(): line for line in first.lines}
    assert {"a", "b"} <= set(lines)
    for line in second.lines:
        if line.get_label() in lines:
            assert line.get_color() == lines[line.get_label()].get_color()
    # A line joins the short trials by their value, without the run that
    # followed.
    np.testing.assert_allclose(lines["b"].get_xdata(), [0.4, 0.3, 0.35])
    (run,) = (x for x in first.lines if x.get_label().startswith("_"))
    assert run.get_xdata() == [0.8]


def test_a_network_without_a_bound_yet_has_no_panel():
    pytest.importorskip("matplotlib")
    figure = TABLES["robustness-figure2"]

    def row(network, bound, *values):
        found = {"values": values, "mean": None, "deviation": None}
        if values:
            found |= {"mean": np.mean(values), "deviation": np.std(values)}
        accuracies = {"Clean": found if bound != 2 else None}
        return {"network": network, "bound": bound, "accuracies": accuracies}

    waiting = [row("waiting", None, 0.9), row("waiting", 1), row("waiting", 2)]
    assert not figure.draw({"rows": []})
    assert not figure.draw({"rows": waiting})
    found = [row("found", None, 0.9), row("found", 1, 0.7, 0.8)]
    canvas = figure.draw({"rows": waiting + found})["figure"]
    assert [axes.get_title("left") for axes in canvas.axes] == ["found"]
    (line,) = canvas.axes[0].containers
    np.testing.assert_allclose(line[0].get_xydata(), [[1, 0.75]])


def test_every_attack_of_a_figure_is_drawn():
    pytest.importorskip("matplotlib")
    figure = TABLES["robustness-figure14"]
    found = {"values": [0.5], "mean": 0.5, "deviation": None}
    names = list(figure.attacks.values())
    assert len(names) == 7
    rows = [
        {"network": "a", "bound": 1, "accuracies": dict.fromkeys(names, found)}
    ]
    canvas = figure.draw({"rows": rows})["figure"]
    lines = [container[0] for container in canvas.axes[0].containers]
    assert [c.get_label() for c in canvas.axes[0].containers] == names
    looks = {(line.get_color(), line.get_marker()) for line in lines}
    assert len(looks) == 7


@pytest.mark.parametrize(
    "number, words",
    [
        (1, "5,000 validation images under FGSM-0.1 alone"),
        (10, "5,000 validation images by their clean accuracy"),
        (14, "the set's own validation images under FGSM-0.1 alone"),
        (16, "5,000 validation images under FGSM-0.01 alone"),
        (17, "5,000 validation images under FGSM-0.01 alone"),
    ],
)
def test_notes_say_what_chooses(number, words, tmp_path):
    table = TABLES[f"robustness-table{number}"]
    found = table.run_words(study(tmp_path), table.networks[0])
    assert found[-1].endswith(words)


def test_notes_are_of_what_was_run(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Study, "_record", lambda *args, **kwargs: {"diverged": "at once"}
    )

    def notes(name, model, *words):
        networks = [registry.network(model, "fashion_mnist")]
        report = TABLES[name].measured(study(tmp_path, *words), networks)
        return [n for n in report["notes"] if not n.startswith("not run")]

    short = "--no-tuning", "--epochs", "2", "--seeds", "1"
    *_, last = notes("robustness-table1", "pn4", *short)
    assert last == (
        "PN-4 on Fashion-MNIST: 1 seed, 2 epochs; nothing is tuned, the values "
        "are those of the recipes"
    )
    found = "\n".join(notes("robustness-table1", "pn_conv"))
    assert (
        "PN-Conv on Fashion-MNIST: 1 seed, 20 epochs; attacks see 2,000 test "
        "images, evenly taken; the first seed tries 7 values of Projection, 5 "
        "values of Jacobian for 5 epochs, 3 values of ℓ2 for 5 epochs, and "
        "chooses by 5,000 validation images under FGSM-0.1 alone"
    ) in found
    strong = "\n".join(notes("robustness-apgd", "pn_conv"))
    assert "attacks see the first 1,000 test images; the first" in strong


def test_convolutional_networks_have_one_seed_everywhere():
    for name in RUN:
        table = TABLES[name]
        found = [n for n in table.networks if n.recipe.startswith("pn_conv")]
        assert {network.seeds for network in found} <= {1}


def test_a_figure_of_samples_has_no_recipe(tmp_path, capsys):
    words = ["--output", str(tmp_path), "--set", "epochs=3"]
    assert reproduce.main(["robustness-figure9", *words]) == 1
    assert "data.archives alone. Received: epochs" in capsys.readouterr().err
