"""`keras-polynets certify`: bounds and certificates in a terminal."""

import keras
import pytest

from keras_polynets import _certify
from keras_polynets import data
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.robustness import certifier
from tests.unit.cli_examples import run
from tests.unit.cli_examples import run_json
from tests.unit.cli_examples import saved_weights


@pytest.fixture
def weights(tmp_path):
    return saved_weights(tmp_path)


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
