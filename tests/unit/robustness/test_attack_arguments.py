"""Attacks explain bad arguments; texts name attacks."""

import keras
import numpy as np
import pytest

from keras_polynets.robustness import apgd
from keras_polynets.robustness import apgd_t
from keras_polynets.robustness import fgsm
from keras_polynets.robustness import parse_attack
from keras_polynets.robustness import pgd
from keras_polynets.robustness import tpgd
from tests.unit.robustness.attack_examples import Ranged
from tests.unit.robustness.attack_examples import make_images
from tests.unit.robustness.attack_examples import make_labels
from tests.unit.robustness.attack_examples import make_model
from tests.unit.robustness.attack_examples import shared_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)


def attacked(attack=pgd, **changes):
    arguments = {
        "model": shared_model(),
        "images": make_images(),
        "labels": make_labels(),
        "epsilon": 0.1,
        **changes,
    }
    return attack(**arguments)


@pytest.mark.parametrize("attack", [fgsm, tpgd, apgd, apgd_t])
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epsilon": -0.1}, "`epsilon` must be a number of at least 0.*-0.1"),
        ({"images": make_images() * 2}, r"valid range \[-1.0, 1.0\]. Received"),
        ({"labels": make_labels() + 1}, "from 0 to 4, as the model has 5"),
    ],
)
def test_every_attack_explains_bad_values(attack, changes, message):
    with pytest.raises(ValueError, match=message):
        attacked(attack, **changes)


@pytest.mark.parametrize("attack", [tpgd, apgd, apgd_t])
def test_every_attack_refuses_softmax_and_divergence(attack):
    model = Ranged([make_model(), keras.layers.Softmax()])
    with pytest.raises(ValueError, match="mask the gradients. Use the logits"):
        attacked(attack, model=model)
    model = make_model()
    model.set_weights([w * np.nan for w in model.get_weights()])
    with pytest.raises(ValueError, match="gradient of model .* is not finite"):
        attacked(attack, model=model)


@pytest.mark.parametrize(
    "attack, changes, message",
    [
        (apgd, {"loss": "margin"}, "Unknown loss of APGD 'margin'.*'dlr'"),
        (apgd, {"restarts": 0}, "`restarts` must be an integer of at least 1"),
        (apgd, {"steps": 0}, "`steps` must be an integer of at least 1"),
        (apgd_t, {"targets": 0}, "`targets` must be an integer of at least 1"),
        (apgd, {"seed": -1}, "`seed` must be an integer from 0"),
        (tpgd, {"seed": 0.5}, "`seed` must be an integer from 0"),
        (
            apgd_t,
            {"model": make_model(classes=3), "labels": make_labels(12, 3)},
            "needs at least 4 classes, and the model has 3. Use `apgd`",
        ),
        (
            apgd,
            {
                "model": make_model(classes=2),
                "labels": make_labels(12, 2),
                "loss": "dlr",
            },
            "'dlr' needs at least 3 classes, and the model has 2",
        ),
    ],
)
def test_bad_settings_of_apgd_and_tpgd(attack, changes, message):
    with pytest.raises(ValueError, match=message):
        attacked(attack, **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epsilon": -0.1}, "`epsilon` must be a number of at least 0.*-0.1"),
        ({"epsilon": float("nan")}, "`epsilon` must be a number"),
        ({"epsilon": "0.1"}, "`epsilon` must be a number"),
        ({"steps": 0}, "`steps` must be an integer of at least 1"),
        ({"steps": 2.5}, "`steps` must be an integer of at least 1"),
        ({"step_size": 0}, "`step_size` must be a positive number"),
        ({"step_size": -1.0}, "`step_size` must be a positive number"),
        ({"images": make_images() * 2}, r"valid range \[-1.0, 1.0\]. Received"),
        ({"images": make_images() * np.nan}, "must be finite. Received NaN"),
        (
            {"images": make_images(shape=(5, 5, 1))},
            r"input shape \(None, 4, 4, 1\). Received: shape \(12, 5, 5, 1\)",
        ),
        ({"images": make_images()[0]}, "must have the model's input shape"),
        ({"labels": make_labels(11)}, r"classes of shape \(12,\), one an imag"),
        ({"labels": np.eye(12)}, "One-hot labels become classes"),
        ({"labels": make_labels() + 1}, "from 0 to 4, as the model has 5"),
        ({"labels": make_labels() - 1}, "Received labels from -1 to 3"),
        ({"clip": (1.0, -1.0)}, "must be a tuple `.low, high.` with low < hig"),
        ({"clip": 1.0}, "must be a tuple `.low, high.` with low < high"),
        (
            {"clip": ((-1.0,) * 3, (1.0,) * 3)},
            r"one a channel of inputs of shape \(None, 4, 4, 1\)",
        ),
        ({"seed": -1}, "`seed` must be an integer from"),
        ({"random_start": True, "seed": 0.5}, "`seed` must be an integer from"),
        ({"labels": None, "targeted": True}, "targeted attack needs `labels`"),
    ],
)
def test_bad_values_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        attacked(**changes)


def test_integer_images_are_sent_to_the_preprocessor():
    with pytest.raises(TypeError, match="uint8. Call model.preprocessor first"):
        attacked(images=np.zeros((12, 4, 4, 1), "uint8"))


@pytest.mark.parametrize("model", [None, "pn4"])
def test_only_models_are_attacked(model):
    with pytest.raises(TypeError, match="Expected a Keras model.*Received: "):
        attacked(model=model)


def test_float_labels_are_refused():
    with pytest.raises(
        TypeError, match="must be integers: .* Received: dtype fl"
    ):
        attacked(labels=make_labels().astype("float32"))


def test_model_without_range_must_be_given_one():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    images, labels = np.zeros((3, 2)), np.zeros(3, int)
    with pytest.raises(ValueError, match="has no `input_range`.*clip=.low"):
        fgsm(model, images, labels, 0.1)
    assert fgsm(model, images, labels, 0.1, clip=(0, 1)).min() >= 0


def of_subclass(model):
    """A model whose graph is not known."""

    class Subclass(keras.Model):
        input_range = (-1.0, 1.0)

        def call(self, x, training=None):
            return model(x)

    return Subclass()


def in_graph(model):
    inputs = keras.Input((4, 4, 1))
    return keras.Model(inputs, keras.ops.sigmoid(model(inputs)))


@pytest.mark.parametrize(
    "change, activation",
    [
        (lambda m: Ranged([m, keras.layers.Softmax()]), "softmax"),
        (
            lambda m: of_subclass(Ranged([m, keras.layers.Softmax()])),
            "softmax",
        ),
        (
            lambda m: Ranged([m, keras.layers.Activation("hard_sigmoid")]),
            "hard_sigmoid",
        ),
        (
            lambda m: Ranged([m, keras.layers.Dense(5, "sigmoid")]),
            "sigmoid",
        ),
        (
            lambda m: Ranged([in_graph(m), keras.layers.Activation("linear")]),
            "sigmoid",
        ),
    ],
)
def test_what_saturates_is_refused(change, activation):
    message = f"its {activation} mask the gradients. Use the logits: .* before"
    with pytest.raises(ValueError, match=message):
        attacked(model=change(make_model()))


def test_what_saturates_inside_or_is_log_softmax_is_attacked():
    for layers in (
        [keras.layers.Dense(5, "sigmoid"), keras.layers.Dense(5)],
        [keras.layers.Activation("log_softmax")],
    ):
        attacked(model=Ranged([make_model(), *layers]))


def test_softmax_is_refused_after_a_batch_without_images():
    model = Ranged([make_model(), keras.layers.Softmax()])
    for _ in range(2):
        with pytest.raises(ValueError, match="mask the gradients"):
            attacked(
                model=model, images=make_images()[:0], labels=np.zeros(0, int)
            )


def test_regression_is_refused():
    with pytest.raises(
        ValueError, match=r"Received outputs of shape \(12, 1\)"
    ):
        attacked(model=make_model(classes=1), labels=np.zeros(12, int))


def test_diverged_model_is_explained():
    model = make_model()
    model.set_weights([w * np.nan for w in model.get_weights()])
    with pytest.raises(ValueError, match="gradient of model .* is not finite"):
        attacked(model=model)


def test_other_backend_is_explained(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(NotImplementedError, match="KERAS_BACKEND=jax"):
        attacked()


def test_missing_cleverhans_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cleverhans", None)
    with pytest.raises(ImportError, match=r"keras_polynets\[attacks\]"):
        attacked()


def test_texts_are_attacks():
    model, images, labels = shared_model(), make_images(), make_labels()
    np.testing.assert_array_equal(
        parse_attack("fgsm:0.1")(model, images, labels),
        fgsm(model, images, labels, 0.1),
    )
    attack = parse_attack("pgd: 0.3, 20, 0.03")
    assert attack.name == "pgd:0.3,20,0.03"
    assert repr(attack) == "Attack(name='pgd:0.3,20,0.03')"
    np.testing.assert_array_equal(
        attack(model, images, labels),
        pgd(model, images, labels, 0.3, 20, 0.03),
    )


@pytest.mark.parametrize(
    "text, function, settings",
    [
        ("fgsm:0.1,random_start=true", fgsm, {"random_start": True, "seed": 0}),
        ("pgd:0.1,20,0.01,seed=4", pgd, {"seed": 4, "steps": 20}),
        ("tpgd:0.1,5,0.02", tpgd, {"step_size": 0.02, "seed": 0}),
        ("apgd:0.1,50,loss=dlr,restarts=2", apgd, {"loss": "dlr"}),
        ("apgd_t:0.1,50,targets=3", apgd_t, {"targets": 3, "steps": 50}),
        (
            "pgd:0.1,20,0.01,reference_compatible=true",
            pgd,
            {"reference_compatible": True},
        ),
    ],
)
def test_texts_with_options(text, function, settings):
    attack = parse_attack(text)
    assert attack.function is function
    assert settings.items() <= attack.settings.items()
    assert parse_attack(attack.name) == attack


@pytest.mark.parametrize(
    "text, message",
    [
        ("fgms:0.1", "Unknown attack 'fgms'. Did you mean 'fgsm'"),
        ("", "Unknown attack ''. Known: 'apgd', 'apgd_t', 'fgsm', 'pgd', 'tp"),
        ("fgsm", "is written fgsm:EPSILON, with 1 number. Received: 'fgsm'"),
        ("fgsm:a", "is written fgsm:EPSILON"),
        ("fgsm:0.1,3", "is written fgsm:EPSILON"),
        ("pgd:0.1", "is written pgd:EPSILON,STEPS,STEP_SIZE, with 3 numbers"),
        ("pgd:0.1,2.5,0.01", "is written pgd:EPSILON,STEPS,STEP_SIZE"),
        ("pgd:-0.1,20,0.01", "`epsilon` must be a number of at least 0"),
        ("pgd:0.1,0,0.01", "`steps` must be an integer of at least 1"),
        ("pgd:0.1,20,0", "`step_size` must be a positive number"),
        ("fgsm:nan", "`epsilon` must be a number of at least 0"),
        ("tpgd:0.1", "is written tpgd:EPSILON,STEPS,STEP_SIZE"),
        ("apgd:0.1", "is written apgd:EPSILON,STEPS, with 2 numbers"),
        ("apgd_t:0.1,100,0.01", "is written apgd_t:EPSILON,STEPS, with 2"),
        ("apgd:0.1,9,loss=margin", "Unknown loss of APGD 'margin'"),
        ("apgd:0.1,9,restarts=0", "`restarts` must be an integer of at lea"),
        ("apgd_t:0.1,9,targets=0", "`targets` must be an integer of at leas"),
        ("apgd:0.1,9,start=1", "Unknown option of the attack 'apgd' 'start'"),
        (
            "fgsm:0.1,random_start=yes",
            "'random_start' of the attack 'fgsm' must be true or false. "
            "Received: random_start=yes",
        ),
        ("pgd:0.1,2,0.1,seed=-1", "'seed' .* an integer from 0 to 2"),
        ("apgd:0.1,9,restarts=x", "'restarts' .* must be an integer. Received"),
    ],
)
def test_malformed_texts_are_explained(text, message):
    with pytest.raises(ValueError, match=message):
        parse_attack(text)
