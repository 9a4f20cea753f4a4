import json
import warnings

import keras
import numpy as np
import pytest

from keras_polynets import _certify
from keras_polynets import cli
from keras_polynets import data
from keras_polynets import recipes
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.robustness import certifier


def run(capsys, *words):
    """Runs a command and returns its exit code, output and errors."""
    code = cli.main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys, *words):
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def weights(tmp_path):
    """A weights file of pn4 and the model that it came from."""
    keras.utils.set_random_seed(0)
    model = zoo.load("pn4", weights=None)
    path = tmp_path / "pn4.weights.h5"
    zoo.weights.save(model, path)
    return str(path), model


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


def test_certify(capsys, weights):
    path, model = weights
    result = run_json(
        capsys, "certify", "pn4", "--weights", path, "--samples", "500"
    )
    assert result["lipschitz_bound"] == robustness.lipschitz_bound(model)
    assert result["rademacher_bound"] == robustness.rademacher_bound(model, 500)
    assert result["p"] == "inf"
    result = run_json(capsys, "certify", "pn4", "--weights", path, "--p", "1")
    assert result["lipschitz_bound"] == robustness.lipschitz_bound(model, 1)
    assert result["rademacher_bound"] is None
    code, out, _ = run(capsys, "certify", "pn4", "--weights", path)
    assert code == 0 and "Lipschitz" in out and "Rademacher" in out


def test_certify_images(capsys, weights):
    path, model = weights
    words = "certify", "pn4", "--weights", path, "--limit", "20"
    result = run_json(capsys, *words, "--epsilon", "0", "0.01")
    exact, row = result["certificates"]
    assert result["examples"] == 20 and row["epsilon"] == 0.01
    assert exact["auto"] == result["accuracy"]
    assert row["global"] <= row["interval"] <= row["affine"] <= row["auto"]
    assert row["auto"] <= result["accuracy"]
    assert row["local_lipschitz_bound"] <= result["lipschitz_bound"]
    dataset = data.load("fashion_mnist_sample")
    images = dataset.x_test[:20], dataset.y_test[:20]
    assert row["affine"] == robustness.certified_accuracy(
        model, images, 0.01, "affine", verbose=0
    )
    code, out, _ = run(capsys, *words, "--epsilon", "0.01")
    assert code == 0 and "Certified accuracy" in out and "interval" in out


def test_certificates_fit_into_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    certificate = dict.fromkeys((*certifier.METHODS, "attacked"), 1.0)
    certificate |= {"epsilon": 1.2345678e-5, "local_lipschitz_bound": 12.3456}
    _certify.show(
        {
            "model": "pn4",
            "p": "inf",
            "lipschitz_bound": 20.0,
            "rademacher_bound": 0.5,
            "samples": 60_000,
            "examples": 2_000,
            "kind": "images",
            "data": "fashion_mnist_sample",
            "split": None,
            "accuracy": 1.0,
            "certificates": [certificate],
        }
    )
    out = capsys.readouterr().out
    assert "…" not in out and out.count("100.00 %") == 7
    assert "local Lipschitz (ℓ∞, ε = 1.235e-05), median │ 12.3456" in out
    assert max(map(len, out.splitlines())) <= 80


def test_certify_takes_a_batch_size(capsys, weights, monkeypatch):
    sizes = set()
    margins, slopes = certifier.Certifier.margins, certifier.Certifier.slopes

    def counted(method):
        def counting(self, images, *rest):
            sizes.add(len(images))
            return method(self, images, *rest)

        return counting

    monkeypatch.setattr(certifier.Certifier, "margins", counted(margins))
    monkeypatch.setattr(certifier.Certifier, "slopes", counted(slopes))
    words = "certify", "pn4", "--weights", weights[0], "--epsilon", "0.01"
    run_json(capsys, *words, "--limit", "6", "--batch-size", "3")
    assert sizes == {3}


def test_certify_attacks_by_epsilon_only(capsys):
    code, _, err = run(capsys, "certify", "pn4", "--attack")
    assert code == 2 and "Received no --epsilon. Pass one" in err


def test_certify_refuses_a_negative_epsilon(capsys):
    code, _, err = run(capsys, "certify", "pn4", "--epsilon=-0.1")
    assert code == 2 and "`epsilon` must be a finite number of at least" in err


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("--radius=-1", "`radius` must be a positive finite number"),
        ("--samples=0", "`samples` must be an integer of at least 1"),
    ],
)
def test_certify_refuses_other_arguments_beside_epsilon(capsys, word, words):
    code, _, err = run(
        capsys, "certify", "pn4", word, "--epsilon", "0.01", "--limit", "2"
    )
    assert code == 2 and words in " ".join(err.split())


def test_certificates_do_not_depend_on_the_norm_of_the_bound(
    capsys, monkeypatch
):
    # A layer at several positions has no bound of the complexity for p = 2.
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Dense(2)(keras.layers.Reshape((28, 28))(inputs))
    x = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    model.preprocessor = keras.layers.Rescaling(1 / 127.5, offset=-1.0)
    monkeypatch.setattr(zoo, "load", lambda *_, **__: model)
    words = "certify", "mine", "--limit", "2", "--epsilon", "0.001"
    row = run_json(capsys, *words)["certificates"][0]
    result = run_json(capsys, *words, "--p", "2")
    assert result["rademacher_bound"] is None
    assert result["certificates"] == [row] and "global" in row


def test_certify_a_branching_model(capsys, monkeypatch):
    # It has local certificates, but neither of the global bounds.
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(inputs)
    left, right = (keras.layers.Dense(10)(x) for _ in range(2))
    model = keras.Model(inputs, keras.layers.Multiply()([left, right]))
    model.preprocessor = keras.layers.Rescaling(1 / 127.5, offset=-1.0)
    monkeypatch.setattr(zoo, "load", lambda *_, **__: model)
    words = "certify", "mine", "--limit", "4", "--epsilon", "0.001"
    result = run_json(capsys, *words)
    assert result["lipschitz_bound"] is None
    assert result["rademacher_bound"] is None
    assert "global" not in result["certificates"][0]
    assert result["certificates"][0]["auto"] <= result["accuracy"]
    code, out, _ = run(capsys, *words)
    assert code == 0 and "not defined" in out


@pytest.mark.parametrize("words", [[], ["--epsilon", "0.01"]])
def test_certify_names_what_is_no_polynomial(capsys, monkeypatch, words):
    model = zoo.load("resnet20", weights=None)
    monkeypatch.setattr(zoo, "load", lambda *_, **__: model)
    code, _, err = run(capsys, "certify", "mine", *words)
    err = " ".join(err.split())
    assert code == 2 and "is no polynomial of its input: layer 'stem" in err
    assert "Build the model without it: polynomial networks have no" in err


def test_certify_names_data_that_do_not_fit(capsys, monkeypatch):
    model = zoo.load("pn4", weights=None, input_shape=(32, 32, 3))
    monkeypatch.setattr(zoo, "load", lambda *_, **__: model)
    code, _, err = run(capsys, "certify", "mine", "--epsilon", "0.01")
    assert code == 2 and "Pass --data with a set that fits" in err


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
