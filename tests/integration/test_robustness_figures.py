"""The figures of `training.reproduce`, on tiny data."""

import json

import keras
import numpy as np
import pytest

from keras_polynets import data
from keras_polynets import recipes
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.models import PolynomialNet
from tests import weight_files
from training import reproduce
from training.tables import TABLES
from training.tables import figure_curves
from training.tables.robustness import appendix
from training.tables.robustness.lifted_bounds import Networks
from training.tables.robustness.lifted_bounds import RandomFigure
from training.tables.robustness.ranks import RankFigure
from training.tables.robustness.steps import Attacked
from training.tables.robustness.steps import StepsFigure

SAMPLE = ["--set", "data.name=fashion_mnist_sample"]
WORDS = {"title": "A title", "claims": ("a claim",), "notes": ("a note",)}

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="attacks need the TensorFlow backend",
)


def run(name, folder, *options):
    """Runs the program and returns its report."""
    assert reproduce.main([name, "--output", str(folder), *options]) == 0
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    return json.loads((folder / "table.json").read_text())


def weights_of(path):
    """Returns the factors of a PN-N, a matrix an order, and its output map."""
    found = weight_files.read(path).items()
    layers = (v for name, v in found if name.startswith("layers/"))
    bias, output, factors = sorted(layers, key=np.size)
    rank = len(output)
    return np.split(factors, factors.shape[1] // rank, axis=1), output, bias


def test_ratio_of_every_epoch(tmp_path, capsys):
    options = [*SAMPLE, "--set", "data.validation=1000", "--epochs", "3"]
    options += ["--set", "overrides.rank=4", "--bounds", "2"]
    report = run("robustness-figure4", tmp_path, *options, "--seeds", "2")
    plain, bounded = report["curves"].values()
    assert report["start_epoch"] == 2 and report["epochs"] == 3
    assert list(report["curves"]) == ["without projection", "bound 2"]
    for key in ("ratio", "algorithmic"):
        values = np.array(plain[key]["values"])
        assert values.shape == (2, 3) and len(np.unique(values)) == 6
        np.testing.assert_allclose(plain[key]["mean"], values.mean(axis=0))
        deviation = values.std(axis=0, ddof=1)
        np.testing.assert_allclose(plain[key]["deviation"], deviation)
        # The projection begins with the third epoch.
        np.testing.assert_allclose(
            np.array(bounded[key]["values"])[:, :2], values[:, :2], rtol=1e-4
        )
    assert max(bounded["algorithmic"]["mean"][2:]) <= 2 * 3**3 * (1 + 1e-5)
    for name, found in report["curves"].items():
        for seed in (0, 1):
            folder = tmp_path / name.replace(" ", "-") / f"seed-{seed}"
            factors, _, _ = weights_of(folder / "last.weights.h5")
            rows = np.abs(np.array(factors, "float64")).sum(axis=1)
            ratio = rows.prod(axis=0).max() / rows.max(axis=1).prod()
            ours = found["ratio_without_constant"]["values"][seed][-1]
            assert ours == pytest.approx(ratio, rel=1e-6)
            # The skip is the constant's column of every factor but the first.
            rows[1:] += 1
            ratio = rows.prod(axis=0).max() / rows.max(axis=1).prod()
            ours = found["ratio"]["values"][seed][-1]
            assert ours == pytest.approx(ratio, rel=1e-6)
    text = capsys.readouterr().out
    mean, deviation = (plain["ratio"][k][2] for k in ("mean", "deviation"))
    cell = f"{mean:.4f} ± {deviation:.4f}"
    assert cell in text and cell in (tmp_path / "table.md").read_text()
    # What is finished is printed again without training.
    assert run("robustness-figure4", tmp_path, *options, "--seeds", "2") == (
        report
    )
    assert "training for" not in capsys.readouterr().out


def face_splitting(a, b):
    """Returns the matrix of the Kronecker products of the rows."""
    return np.array([np.kron(*rows) for rows in zip(a, b, strict=True)])


def norm(matrix):
    return np.abs(matrix).sum(axis=1).max()


def expected_ratio(decomposition, order, rank, seed):
    """Returns the ratio without the constant, of the whole lifted matrix."""
    keras.utils.set_random_seed(seed)
    net = PolynomialNet(
        input_shape=(3,), decomposition=decomposition, order=order, rank=rank
    )
    layer = net.get_layer("polynomial")

    def matrix(variable):
        return np.array(variable, "float64").T

    factors = np.split(matrix(layer.factors.kernel), order)
    lifted, bound = factors[0], np.prod([norm(a) for a in factors])
    if decomposition == "ccp":
        for factor in factors[1:]:
            lifted = face_splitting(lifted, factor)
        return norm(lifted) / bound
    first, *states = (matrix(s.kernel) for s in layer.state_maps)
    bound *= np.abs(first).max() * np.prod([norm(s) for s in states])
    lifted = face_splitting(factors[0], first)
    for factor, state in zip(factors[1:], states, strict=True):
        lifted = face_splitting(factor, state) @ np.kron(np.eye(3), lifted)
    return norm(lifted) / bound


def test_ratio_of_random_networks(tmp_path, monkeypatch):
    panels = (
        Networks("CCP", "ccp", 3, (2, 3)),
        Networks("NCP", "ncp", 3, (2, 3), "log"),
    )
    table = RandomFigure(**WORDS, panels=panels, ranks=(2, 4), draws=9)
    monkeypatch.setitem(TABLES, "random", table)
    report = run("random", tmp_path, "--draws", "3")
    assert report["ranks"] == [2, 4] and report["draws"] == 3
    for panel, found in zip(panels, report["panels"], strict=True):
        for order in panel.orders:
            curve = found["curves"][f"order {order}"]
            for index, rank in enumerate(report["ranks"]):
                ratios = [
                    expected_ratio(panel.decomposition, order, rank, seed)
                    for seed in range(3)
                ]
                ours = curve["ratio_without_constant"]
                assert ours["mean"][index] == pytest.approx(np.mean(ratios))
                assert ours["deviation"][index] == pytest.approx(
                    np.std(ratios, ddof=1)
                )
                assert 0 < curve["ratio"]["mean"][index] < 1
    known = json.loads((tmp_path / "ratios.json").read_text())
    assert len(known) == 8
    # What is known is not drawn again; another number of draws is.
    known[0]["ratio"]["mean"] = 0.125
    (tmp_path / "ratios.json").write_text(json.dumps(known))
    report = run("random", tmp_path, "--draws", "3")
    first = report["panels"][0]["curves"]["order 2"]["ratio"]
    assert first["mean"][0] == 0.125
    run("random", tmp_path, "--draws", "2", "--ranks", "2")
    assert len(json.loads((tmp_path / "ratios.json").read_text())) == 12


def test_accuracy_by_rank(tmp_path, capsys, monkeypatch):
    table = RankFigure(
        **WORDS,
        models={"PN-4": "pn4.fashion_mnist", "PN-10": "pn10.fashion_mnist"},
        ranks=(2, 4),
    )
    monkeypatch.setitem(TABLES, "ranks", table)
    options = [*SAMPLE, "--epochs", "1"]
    few = [*options, "--ranks", "4", "--seeds", "1"]
    report = run("ranks", tmp_path, *few)
    assert list(report["curves"]) == ["PN-4", "PN-10"]
    sample = data.load("fashion_mnist_sample")
    sets = {
        "training": (sample.x_train, sample.y_train),
        "test": (sample.x_test, sample.y_test),
    }
    for name, curves in report["curves"].items():
        folder = tmp_path / f"{name.lower()}-rank-4" / "seed-0"
        factors, output, bias = weights_of(folder / "last.weights.h5")
        assert len(factors) == int(name.removeprefix("PN-"))
        for part, (images, labels) in sets.items():
            z = images.reshape(len(images), -1) / 127.5 - 1
            x = z @ factors[0]
            for factor in factors[1:]:
                x = (z @ factor) * x + x
            right = (x @ output + bias).argmax(axis=1) == labels
            (ours,) = curves[part]["mean"]
            # Images between two classes may fall on either side.
            assert ours == pytest.approx(right.mean(), abs=5e-4)
    capsys.readouterr()
    assert run("ranks", tmp_path, *few) == report
    assert "training for" not in capsys.readouterr().out
    # One run more diverges, and of PN-10 what is finished is reported.
    diverged = tmp_path / "pn-4-rank-2" / "seed-1"
    diverged.mkdir(parents=True)
    (diverged / "diverged.txt").write_text("The loss is not finite.")
    report = run("ranks", tmp_path, *options, "--seeds", "2", "--rows", "PN-4")
    curves = report["curves"]
    assert curves["PN-4"]["states"] == ["1 done, 1 diverged", "2 done"]
    assert curves["PN-4"]["parameters"] == [6302, 12594]
    assert curves["PN-4"]["test"]["mean"][0] is None
    values = np.array(curves["PN-4"]["test"]["values"], "float64")[:, 1]
    assert curves["PN-4"]["test"]["mean"][1] == pytest.approx(values.mean())
    assert curves["PN-10"]["states"] == ["2 not run", "1 done, 1 not run"]


@on_tensorflow
def test_accuracy_by_steps(tmp_path, monkeypatch):
    table = StepsFigure(
        **WORDS,
        attacked=(
            Attacked("PN-4", False, "pn4.fashion_mnist", images=40),
            Attacked("PN-4", True, "pn4.fashion_mnist_projected", 40, 1),
        ),
        steps=(1, 4, 20),
    )
    monkeypatch.setitem(TABLES, "steps", table)
    options = ["--seeds", "1"]
    report = run("steps", tmp_path, *options, "--rows", "PN-4")
    assert [row["name"] for row in report["rows"]] == ["PN-4"]
    report = run("steps", tmp_path, *options)
    sample = data.load("fashion_mnist_sample")
    examples = sample.x_test[:40], sample.y_test[:40]
    assert len(report["rows"]) == 2
    for row in report["rows"]:
        assert row["published"] == [True] and row["images"] == 40
        model = zoo.load(row["recipe"])
        attacks = {
            "0.01": ["pgd:0.1,1,0.01", "pgd:0.1,4,0.01", "pgd:0.1,20,0.01"],
            "2.5 ε / steps": [
                "pgd:0.1,1,0.25",
                "pgd:0.1,4,0.0625",
                "pgd:0.1,20,0.0125",
            ],
        }
        for words, texts in attacks.items():
            expected = [
                robustness.robust_accuracy(model, examples, text, verbose=0)
                for text in texts
            ]
            assert row["curves"][words]["mean"] == expected
        clean = robustness.robust_accuracy(model, examples, verbose=0)
        assert row["clean"]["mean"] == clean
        assert clean > max(expected)
    monkeypatch.setattr(robustness, "robust_accuracy", None)
    assert run("steps", tmp_path, *options) == report
    # Where the data lie does not matter.
    options += ["--set", f"data.archives={tmp_path}"]
    assert run("steps", tmp_path, *options) == report


@on_tensorflow
def test_more_seeds_are_trained(tmp_path, monkeypatch):
    rows = (
        Attacked("PN-4", True, "pn4.fashion_mnist_projected", 40),
        Attacked("PN-4", False, "pn4.fashion_mnist", 40, most_seeds=1),
    )
    table = StepsFigure(**WORDS, attacked=rows, steps=(1, 20))
    monkeypatch.setitem(TABLES, "steps", table)
    options = [*SAMPLE, "--set", "data.validation=1000", "--epochs", "2"]
    report = run("steps", tmp_path, *options, "--seeds", "2")
    assert [row["seeds"] for row in report["rows"]] == [[0, 1], [0]]
    row = report["rows"][0]
    assert row["published"] == [False, False]
    folder = tmp_path / "pn-4-projection" / "seed-1"
    assert recipes.load(folder / "config.toml").seed == 1
    model = zoo.load("pn4", weights=folder / "best.weights.h5")
    sample = data.load("fashion_mnist_sample")
    accuracy = robustness.robust_accuracy(
        model, (sample.x_test[:40], sample.y_test[:40]), "pgd:0.1,20,0.01"
    )
    assert row["curves"]["0.01"]["values"][1][1] == accuracy


def test_figures_name_recipes_and_rows():
    figures = appendix.TABLES
    assert list(figures) == [f"robustness-figure{n}" for n in (4, 5, 6, 7)]
    assert figures.items() <= TABLES.items()
    assert recipes.load(figures["robustness-figure4"].projected).projection
    for name in figures["robustness-figure6"].models.values():
        assert recipes.load(name).data.name == "fashion_mnist"
    for row in figures["robustness-figure7"].attacked:
        assert bool(recipes.load(row.recipe).projection) == row.projected
        assert zoo.info(row.recipe)["tags"]


def test_curves_keep_gaps():
    found = figure_curves.spread_of_curves([[1.0, None], [3.0, 4.0]])
    assert found["mean"] == [2.0, None]
    assert found["deviation"] == [pytest.approx(2**0.5), None]
    assert figure_curves.point(found, 1) is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("robustness-figure4 --images 5 --ranks 2", "no --images, --ranks. L"),
        ("robustness-figure5 --seeds 2 --no-tuning", "no --seeds, --no-tuning"),
        ("robustness-figure5 --draws 0", "at least 1 draw. Received: 0"),
        ("robustness-figure6 --rows PN4", "Did you mean 'PN-4' or"),
        ("robustness-figure7 --bounds 1", "takes no --bounds"),
        ("robustness-figure7 --images 3000 --seeds 1", "has 2,000 images"),
        ("robustness-table1 --draws 2", "takes no --draws. Leave that out"),
    ],
)
def test_mistakes_are_explained(arguments, message, tmp_path, capsys):
    words = [*arguments.split(), "--output", str(tmp_path)]
    assert reproduce.main(words) == 1
    assert message in capsys.readouterr().err
