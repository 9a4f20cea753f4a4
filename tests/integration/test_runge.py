"""The Runge experiment: the program, and the results that it has written."""

import dataclasses
import json
import pathlib

import keras
import numpy as np
import pytest

from training import runge

RESULTS = pathlib.Path(__file__).parents[2] / "docs" / "results" / "runge.json"

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="the program compiles its steps with TensorFlow",
)


def test_points_are_the_papers_and_apart():
    assert len(runge.TRAINING) == 33 and len(runge.TEST) == 100
    np.testing.assert_allclose(np.diff(runge.TEST), 2 / 101)
    every = np.concatenate([runge.TRAINING, runge.VALIDATION, runge.TEST])
    assert np.diff(np.sort(every)).min() > 1e-5
    assert runge.runge(np.array([0.0, -0.2])).tolist() == [1.0, 0.5]


def test_every_strategy_has_the_same_number_of_trials():
    assert {len(s.trials()) for s in runge.STRATEGIES.values()} == {9}
    trial = runge.STRATEGIES["sg"].trials()[0]
    assert trial == {"rate": 0.3, "gate_factor": 0.1, "power_factor": 0.1}


def test_comparison_is_exact():
    # One of the 8 sign flips has a sum as large as that of all three wins.
    better, worse = [0.1, 0.2, 0.3], [0.2, 0.4, 0.6]
    assert runge.comparison(better, worse) == {"wins": 3, "of": 3, "p": 1 / 8}
    assert runge.comparison(worse, better)["p"] == 1.0
    assert runge.comparison([0.1, 0.1], [None, 0.2])["wins"] == 2


def test_program_writes_results_and_figures(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    few = {
        name: dataclasses.replace(
            runge.STRATEGIES[name],
            rates=(0.1,),
            amounts=runge.STRATEGIES[name].amounts[:1],
        )
        for name in runge.ORDER
    }
    monkeypatch.setattr(runge, "STRATEGIES", few)
    arguments = ["--seeds=2", "--tuning-seeds=2", "--steps=30"]
    folders = [f"--output={tmp_path}", f"--figures={tmp_path}"]
    assert runge.main(arguments + folders) == 0
    results = json.loads((tmp_path / "runge.json").read_text())
    assert list(results["strategies"]) == list(runge.ORDER)
    sg = results["strategies"]["sg"]
    assert sg["chosen"]["gate_factor"] == 0.1
    assert np.mean(sg["test_rmse"]) == pytest.approx(sg["mean"])
    assert len(sg["coefficients"]) == 33
    for name in ("runge_fits", "runge_coefficients"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000


def test_too_few_seeds_are_refused(capsys):
    with pytest.raises(SystemExit):
        runge.main(["--seeds=1"])
    assert "at least 2 seeds" in capsys.readouterr().err


def test_written_summaries_are_those_of_the_written_seeds():
    results = json.loads(RESULTS.read_text())
    strategies = results["strategies"]
    assert set(strategies) == set(runge.STRATEGIES)
    for name, result in strategies.items():
        assert len(result["test_rmse"]) == 10, name
        whole = [e for e in result["test_rmse"] if e is not None]
        assert result["mean"] == pytest.approx(np.mean(whole)), name
        assert result["deviation"] == pytest.approx(np.std(whole, ddof=1))
        tried = [t for t in result["trials"] if t["validation_rmse"]]
        best = min(tried, key=lambda trial: trial["validation_rmse"])
        assert result["chosen"].items() <= best.items(), name
    for text, written in results["order"].items():
        better, worse = text.split(" better than ")
        assert written == runge.comparison(
            strategies[better]["test_rmse"], strategies[worse]["test_rmse"]
        )
    for row in results["equal_amounts"]:
        written = {key: row[key] for key in ("wins", "of", "p")}
        assert written == runge.comparison(row["sw_l2"], row["sw_l1"])


def test_written_results_say_what_the_paper_claims_and_what_not():
    """The order of Table II: sg first; of the others only at equal amounts."""
    results = json.loads(RESULTS.read_text())
    mean = {name: s["mean"] for name, s in results["strategies"].items()}
    assert mean["sg"] < min(mean["sw_l1"], mean["sw_l2"]) < mean["regular"]
    powers = {
        name: np.array(s["coefficients"])
        for name, s in results["strategies"].items()
    }
    assert powers["regular"][10:20].min() > 0.1
    for name in ("sg", "sw_l1", "sw_l2", "sw_l1_proximal"):
        assert powers[name][10:].max() < 1e-6


@pytest.mark.slow
def test_reported_seeds_come_out_again():
    results = json.loads(RESULTS.read_text())
    errors = {}
    for name in runge.ORDER:
        written = results["strategies"][name]
        model = runge.train(
            runge.STRATEGIES[name],
            written["chosen"],
            range(10),
            results["steps"],
        )
        errors[name] = runge.rmse(model, runge.TEST)
        # Descent amplifies the rounding of other machines.
        assert errors[name].mean() == pytest.approx(written["mean"], rel=0.3)
    for other in ("sw_l2", "sw_l1"):
        compared = runge.comparison(errors["sg"], errors[other])
        assert compared["wins"] >= 7, other
