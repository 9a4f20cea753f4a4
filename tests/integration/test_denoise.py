"""The comparison of denoisers: the program on a handful of images."""

import json

import numpy as np
import pytest

from keras_polynets import metrics
from training import denoise
from training import denoising_data
from training import denoising_report


@pytest.fixture
def small(monkeypatch):
    """One noise at two levels, two small models, three trials in all."""
    size = {"filters": 4, "kernel_size": 3, "depth": 1}
    monkeypatch.setattr(denoise, "LEVELS", {"poisson": (60, 10)})
    models = {"quadratic": size, "equal width": {"neuron": None, **size}}
    monkeypatch.setattr(denoise, "MODELS", models)
    trials = {
        "quadratic": ((1e-3, 0.1), (1e-3, 1.0)),
        "equal width": ((1e-3, None),),
    }
    monkeypatch.setattr(denoise, "TRIALS", trials)


def arguments(folder, **kwargs):
    options = {
        "fashion-mnist": "fashion_mnist_sample",
        "images": 64,
        "epochs": 1,
        "batch-size": 4,
        "validation": 20,
        "test": 6,
        "seeds": 2,
        "runs": folder / "runs",
        "output": folder,
        "figures": folder,
    } | kwargs
    return [f"--{name}={value}" for name, value in options.items()]


def test_program_from_images_to_table_and_figure(
    small, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("matplotlib")
    # Networks that hardly train have not died.
    monkeypatch.setattr(denoise, "NOTHING", 0.0)
    assert denoise.main(arguments(tmp_path)) == 0
    written = json.loads((tmp_path / "denoising.json").read_text())
    (condition,) = written["results"]
    for name, trials in condition["trials"].items():
        assert [t["rate"] for t in trials] == [
            rate for rate, _ in denoise.TRIALS[name]
        ]
        best = max(trials, key=lambda trial: trial["psnr"])
        for chosen in condition["chosen"].values():
            assert chosen[name] == [best["rate"], best["factor"]]
    first, second = written["summary"]
    assert first["noisy"]["psnr"] > second["noisy"]["psnr"] + 3
    runs = condition["levels"]["60"]
    psnrs = [run["psnr"] for run in runs["equal width"]]
    assert first["equal width"]["psnr"]["mean"] == pytest.approx(np.mean(psnrs))
    gains = np.subtract([run["psnr"] for run in runs["quadratic"]], psnrs)
    assert first["gain over equal width"]["mean"] == pytest.approx(gains.mean())
    assert len(set(psnrs)) == 2
    assert (tmp_path / "denoising.md").read_text().count("\n| ") == 3
    assert (tmp_path / "denoising.png").stat().st_size > 10_000

    # A finished part is not done again, and a missing one is.
    trained = []
    train = denoise.train

    def spy(*args):
        trained.append(args)
        return train(*args)

    monkeypatch.setattr(denoise, "train", spy)
    parts = sorted((tmp_path / "runs").glob("*seed-1.json"))
    parts[0].unlink()
    capsys.readouterr()
    assert denoise.main(arguments(tmp_path)) == 0
    assert len(trained) == 1 and trained[0][5] == 1
    again = json.loads((tmp_path / "denoising.json").read_text())
    for name in ("mean", "deviation"):
        assert again["summary"][0]["quadratic"]["psnr"][name] == pytest.approx(
            written["summary"][0]["quadratic"]["psnr"][name], rel=1e-4
        )
    assert "[13/13]" in capsys.readouterr().out
    with pytest.raises(ValueError, match="Give another folder: --runs"):
        denoise.main(arguments(tmp_path, epochs=2))


def test_every_model_has_as_many_trials_and_the_stated_size():
    assert {len(trials) for trials in denoise.TRIALS.values()} == {3}
    assert list(denoise.TRIALS) == list(denoise.MODELS)
    for channels, tolerance in ((1, 0.01), (3, 0.025)):
        counts = {
            name: denoise.DenoisingAutoencoder(
                (32, 32, channels), **options
            ).count_params()
            for name, options in denoise.MODELS.items()
        }
        assert counts["equal parameters"] == pytest.approx(
            counts["quadratic"], rel=tolerance
        )
        assert counts["equal width"] < counts["quadratic"] / 2.9


@pytest.mark.parametrize("noise", denoise.LEVELS)
def test_batches_have_new_noise_and_another_order_every_epoch(noise):
    images = np.random.default_rng(0).integers(1, 256, (10, 4, 4, 1), "uint8")
    level = denoise.LEVELS[noise][0]
    batches = denoise.NoisyBatches(images, noise, level, 7, 5)
    epochs = []
    for _ in range(2):
        noisy, clean = map(
            np.concatenate, zip(batches[0], batches[1], strict=True)
        )
        order = [
            next(i for i in range(10) if np.allclose(images[i] / 255, image))
            for image in clean
        ]
        assert sorted(order) == list(range(10))
        epochs.append((order, (noisy - clean)[np.argsort(order)]))
        batches.on_epoch_end()
    assert epochs[0][0] != epochs[1][0]
    assert (epochs[0][1] != epochs[1][1]).mean() > 0.5
    fresh = denoise.NoisyBatches(images, noise, level, 7, 5)
    np.testing.assert_array_equal(
        fresh[1][0], denoise.NoisyBatches(images, noise, level, 7, 5)[1][0]
    )


def test_held_out_images_are_apart_and_of_all_classes(monkeypatch):
    sample = denoising_data.data.load("fashion_mnist_sample")
    monkeypatch.setattr(denoising_data.data, "load", lambda name: sample)
    budget = denoise.Budget(200, 1, 4, 100, 50)
    images = denoise.Images("sample", budget)
    assert len(images.train) == 200 and len(images.validation) == 100
    assert len(images.test) == 50
    train = {image.tobytes() for image in images.train}
    assert not train & {image.tobytes() for image in images.validation}
    label = dict(
        zip(map(bytes, sample.x_train), sample.y_train.tolist(), strict=True)
    )
    classes = [label[image.tobytes()] for image in images.train]
    assert np.bincount(classes).tolist() == [20] * 10


def test_evaluation_without_a_model_is_that_of_the_noise():
    clean = np.full((2, 16, 16, 1), 100, "uint8")
    found, first = denoise.evaluate(None, clean, "gaussian", 15, seed=0)
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 15), abs=0.5)
    metric = metrics.PeakSignalToNoiseRatio()
    metric.update_state(clean[:1] / 255, first[None])
    assert float(metric.result()) == pytest.approx(found["psnr"], abs=0.5)


def test_diverged_runs_are_said():
    run = {"psnr": 20.0, "ssim": 0.5}
    lost = {"psnr": None, "ssim": None}
    levels = {"15": {"noisy": run, "a": [run, lost], "b": [lost, lost]}}
    results = [{"set": "s", "noise": "gaussian", "levels": levels}]
    rows = denoising_report.summary(results, "a", ["b"])
    assert rows[0]["a"]["psnr"]["diverged"] == 1
    table = denoising_report.markdown(rows, "a", ["b"])
    assert "20.00 (1 diverged)" in table and "| diverged, diverged |" in table


def test_bad_arguments_are_told(capsys):
    for wrong in (["--images=3"], ["--seeds=0"], ["--fashion-mnist="]):
        with pytest.raises(SystemExit):
            denoise.main(wrong)
    assert "a set of images is needed" in capsys.readouterr().err


def test_a_model_learns_to_remove_noise(small):
    """Images of one grey tell nothing but their mean."""
    rng = np.random.default_rng(0)
    clean = np.ones((24, 12, 12, 1), "uint8") * rng.integers(
        0, 256, (24, 1, 1, 1), "uint8"
    )
    budget = denoise.Budget(24, 40, 4, 1, 1)
    trial = (1e-2, 0.1)
    model = denoise.train("quadratic", clean, "gaussian", 25, trial, 0, budget)
    before, _ = denoise.evaluate(None, clean, "gaussian", 25, seed=99)
    after, _ = denoise.evaluate(model, clean, "gaussian", 25, seed=99)
    assert after["psnr"] > before["psnr"] + 3


def test_a_rate_at_which_a_seed_dies_is_passed_over(
    small, tmp_path, monkeypatch
):
    pytest.importorskip("matplotlib")
    best, second = denoise.TRIALS["quadratic"]

    class Constant:
        def __init__(self, value):
            self.value = value

        def predict(self, images, **kwargs):
            return np.full_like(images, self.value)

    class Dead:
        def predict(self, images, **kwargs):
            return images

    def train(name, images, noise, level, trial, seed, budget):
        if trial == best and seed == 1 and level == 60:
            return Dead()
        return Constant(0.3 if trial == best else 0.9)

    monkeypatch.setattr(denoise, "train", train)
    assert denoise.main(arguments(tmp_path)) == 0
    written = json.loads((tmp_path / "denoising.json").read_text())
    (condition,) = written["results"]
    assert condition["chosen"]["60"]["quadratic"] == list(second)
    assert condition["chosen"]["10"]["quadratic"] == list(best)
    runs, noisy = (
        condition["levels"]["60"][key] for key in ("quadratic", "noisy")
    )
    assert len({run["psnr"] for run in runs}) == 1
    assert abs(runs[0]["psnr"] - noisy["psnr"]) > 1
    names = {path.name for path in (tmp_path / "runs").glob("*60*seed-1.json")}
    assert "Fashion-MNIST-poisson-60-quadratic-choice-2-seed-1.json" in names
    assert "Fashion-MNIST-poisson-60-quadratic-seed-1.json" in names
