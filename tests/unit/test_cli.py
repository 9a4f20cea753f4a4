import json
import warnings

import keras
import numpy as np
import pytest

from keras_polynets import cli
from keras_polynets import data
from keras_polynets import recipes
from keras_polynets import zoo
from tests.unit.cli_examples import run
from tests.unit.cli_examples import run_json
from tests.unit.cli_examples import saved_weights


@pytest.fixture
def weights(tmp_path):
    return saved_weights(tmp_path)


def test_list(capsys):
    models = run_json(capsys, "list", "pn*")
    assert [model["name"] for model in models] == zoo.list_models("pn*")
    assert {"name", "parameters", "tags"} <= set(models[0])
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert "pn4" in out and "50,346" in out


def test_list_without_a_match_names_the_known(capsys):
    code, out, err = run(capsys, "list", "resnot*")
    assert (code, out) == (2, "")
    assert "error: No model matches 'resnot*'" in err and "pn4" in err


def test_info(capsys):
    assert run_json(capsys, "info", "pn10")["parameters"] == 125_610
    code, out, _ = run(capsys, "info", "pn10")
    assert code == 0 and "125,610" in out
    _, out, _ = run(capsys, "info", "resnet50")
    assert "weights imagenet" in out


def test_unknown_names_get_the_nearest_without_traceback(capsys):
    code, out, err = run(capsys, "info", "pn5")
    assert (code, out) == (2, "")
    assert err.startswith("error: Unknown model 'pn5'. Did you mean 'pn4'")
    assert "Traceback" not in err


def test_debug_raises(capsys):
    with pytest.raises(ValueError, match="Unknown model 'pn5'"):
        cli.main(["info", "pn5", "--debug"])


def test_wrong_words_exit_with_2(capsys):
    for words in (
        [],
        ["lst"],
        ["certify", "pn4", "--p", "3"],
        ["certify", "pn4", "--limit", "-5"],
        ["attack", "pn4", "--batch-size", "0"],
    ):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 2
    written = capsys.readouterr().err
    assert "expected 1, 2 or inf, received '3'" in written
    assert (
        "--limit: expected an integer of at least 1, received '-5'" in written
    )
    assert "--batch-size: expected an integer of at least 1" in written


def test_evaluate_counts_the_test_images(capsys, weights):
    path, model = weights
    result = run_json(
        capsys, "evaluate", "pn4", "--weights", path, "--limit", "300"
    )
    dataset = data.load("fashion_mnist_sample")
    images = model.preprocessor(dataset.x_test[:300])
    found = np.argmax(model.predict(images, verbose=0), axis=-1)
    assert result["examples"] == 300
    assert result["data"] == "fashion_mnist_sample"
    assert result["accuracy"] == {
        "clean": np.mean(found == dataset.y_test[:300])
    }


def test_evaluate_counts_the_first_classes(capsys, weights):
    words = "evaluate", "pn4", "--weights", weights[0], "--limit", "50"
    result = run_json(capsys, *words, "--top-k", "1", "10")
    assert result["top_1_accuracy"] == result["accuracy"]["clean"] < 1
    assert result["top_10_accuracy"] == 1
    code, out, _ = run(capsys, *words, "--top-k", "3")
    assert code == 0 and "top 3 accuracy" in out
    code, _, err = run(capsys, *words, "--top-k", "0")
    assert code == 2 and "`--top-k` must be an integer of at least 1" in err


@pytest.fixture
def spoken_digits(tmp_path):
    """A folder of digits, 1 by ann and 12 by theo, whom a tag left out."""
    wavfile = pytest.importorskip("scipy.io.wavfile")
    speakers = {"ann": (5,), "theo": range(6)}
    for digit in "37":
        for speaker, indices in speakers.items():
            for i in indices:
                path = tmp_path / f"{digit}_{speaker}_{i}.wav"
                wavfile.write(path, 16000, np.full(8, i, "int16"))
    return str(tmp_path)


@pytest.mark.parametrize("command", ["evaluate", "attack", "certify"])
@pytest.mark.parametrize(
    ("words", "split", "examples"),
    [
        (["resnet34_speech.fsdd_w16_speaker"], "speaker:theo", 12),
        (
            ["resnet34_speech", "--weights", "fsdd_w16_speaker"],
            "speaker:theo",
            12,
        ),
        (["resnet34_speech.fsdd_w16_index"], "index", 10),
        (
            ["resnet34_speech.fsdd_w16_index", "--split", "speaker:ann"],
            "speaker:ann",
            2,
        ),
        (["resnet34_speech.fsdd_w16_speaker", "--split", ""], "", 10),
        (["resnet34_speech.speech_commands"], None, 10),
    ],
)
def test_the_recipe_says_what_is_held_out(
    command, words, split, examples, spoken_digits
):
    parsed = cli._parser().parse_args(
        [command, *words, "--data", spoken_digits]
    )
    about, x, y = cli._arguments.load_examples(cli._completed(parsed))
    assert (about["split"], about["examples"]) == (split, examples)
    assert len(x) == len(y) == examples


def test_evaluate_says_what_was_held_out(capsys, monkeypatch, spoken_digits):
    model = keras.Sequential([keras.Input((16000,)), keras.layers.Dense(2)])
    model.preprocessor = keras.layers.Rescaling(1.0)
    monkeypatch.setattr(zoo, "load", lambda *_, **__: model)
    name = "resnet34_speech.fsdd_w16_speaker"
    _, out, err = run(capsys, "evaluate", name, "--data", spoken_digits)
    assert "12 test recordings of " in out and "images" not in out + err
    assert ", split 'speaker:theo'" in out


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="cleverhans's backend"
)
def test_attack(capsys, weights):
    pytest.importorskip("cleverhans")
    words = ["attack", "pn4", "fgsm:0.1", "--weights", weights[0]]
    code, out, _ = run(capsys, *words, "--limit", "50")
    assert code == 0
    assert "50 test images of fashion_mnist_sample" in out
    assert "clean" in out and "fgsm:0.1" in out and " %" in out
    accuracy = run_json(capsys, *words, "--limit", "50")["accuracy"]
    assert list(accuracy) == ["clean", "fgsm:0.1"]
    assert accuracy["fgsm:0.1"] <= accuracy["clean"]


def test_a_bad_attack_is_an_error_before_the_data_is_read(capsys):
    code, _, err = run(capsys, "attack", "pn4", "fgms:0.1", "--data", "nope")
    assert code == 2
    assert "Unknown attack 'fgms'. Did you mean 'fgsm'?" in err


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="writes a SavedModel"
)
def test_export(capsys, weights, tmp_path):
    folder = tmp_path / "serving"
    words = ["export", "pn4", str(folder), "--weights", weights[0]]
    assert run_json(capsys, *words)["path"] == str(folder)
    assert (folder / "saved_model.pb").exists()
    code, _, err = run(capsys, *words)
    assert code == 2 and "already something" in err
    assert run(capsys, *words, "--overwrite")[0] == 0


def test_train_hands_the_recipe_over(capsys, monkeypatch, tmp_path):
    seen = {}

    def fake_run(recipe, run_directory, verbose):
        seen.update(recipe=recipe, folder=run_directory, verbose=verbose)
        return {"model": recipe.model, "lipschitz_bound": float("inf")}

    monkeypatch.setattr(recipes, "run", fake_run)
    folder = str(tmp_path / "run")
    result = run_json(
        capsys,
        "train",
        "pn4.fashion_mnist",
        "--set",
        "epochs=3",
        "--set",
        "data.name=fashion_mnist_sample",
        "--run-directory",
        folder,
    )
    assert result == {"model": "pn4", "lipschitz_bound": None}
    assert seen["recipe"].epochs == 3
    assert seen["recipe"].data.name == "fashion_mnist_sample"
    assert (seen["folder"], seen["verbose"]) == (folder, 0)


def test_train_prints_the_result(capsys, tmp_path):
    recipe = tmp_path / "short.toml"
    recipe.write_text(
        'model = "pn4"\nbatch_size = 500\n'
        '[data]\nname = "fashion_mnist_sample"\nvalidation = 100\n'
        "[evaluation]\ntop_k = [3]\n"
        '[optimizer]\nname = "sgd"\nlearning_rate = 0.001\n'
    )
    code, out, err = run(
        capsys,
        "train",
        str(recipe),
        "--quiet",
        "--run-directory",
        str(tmp_path / "run"),
    )
    assert code == 0, err
    assert "top 3 accuracy, 2,000 test examples" in out
    assert "Lipschitz bound" in out


def test_train_names_an_unknown_key(capsys):
    code, _, err = run(capsys, "train", "pn4.fashion_mnist", "--set", "epoch=3")
    assert code == 2
    assert "Unknown recipe key 'epoch'. Did you mean 'epochs'?" in err


def test_interruption(capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "run", stop)
    code, _, err = run(capsys, "train", "pn4.fashion_mnist")
    assert code == 130
    assert "Run the same command to go on" in err


def test_a_defect_says_its_kind_and_how_to_see_more(capsys, monkeypatch):
    def fail(*_):
        raise KeyError("units")

    monkeypatch.setattr(zoo, "info", fail)
    code, _, err = run(capsys, "info", "pn4")
    assert code == 2
    assert "error: KeyError: 'units'" in err and "--debug" in err


def test_warnings_are_lines_on_stderr(capsys, monkeypatch):
    def warn(name):
        warnings.warn("the weights are fresh", stacklevel=2)
        return {"name": name}

    monkeypatch.setattr(zoo, "info", warn)
    code, out, err = run(capsys, "info", "pn4", "--json")
    assert json.loads(out) == {"name": "pn4"}
    assert err == "warning: the weights are fresh\n"
