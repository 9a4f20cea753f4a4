"""Adversarial training: what a step trains on, and when."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import callbacks
from keras_polynets import constraints
from keras_polynets import robustness
from keras_polynets.regularizers import JacobianPenalty
from keras_polynets.train_steps import adversarial
from keras_polynets.trainers import AdversarialTraining
from tests.unit.trainers.trainer_examples import assert_same_weights
from tests.unit.trainers.trainer_examples import compiled
from tests.unit.trainers.trainer_examples import differ
from tests.unit.trainers.trainer_examples import fit
from tests.unit.trainers.trainer_examples import make_data
from tests.unit.trainers.trainer_examples import make_model

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)
TEXTS = (
    "fgsm:0.1",
    "pgd:0.1,4,0.04",
    "pgd:0.1,2,0.06,random_start=true",
    "tpgd:0.1,3,0.05",
    "apgd:0.1,4,loss=dlr,restarts=2",
    "apgd_t:0.1,3,targets=2",
)


def attacked_by(trainer, x, y):
    images = trainer.change_images(
        ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    )
    return ops.convert_to_numpy(images)


def plain_training(model, epochs, projection=()):
    """Trains on the images as they are."""
    fit(compiled(model), epochs, projection)
    return model


MIRRORED = """
    import keras, numpy as np
    from keras_polynets import callbacks, constraints, distribute
    from keras_polynets.trainers import AdversarialTraining
    from tests.unit.trainers.trainer_examples import compiled, fit, make_model

    scope = distribute.strategy("mirrored", devices=2).scope

    def train(text):
        model = make_model()
        trainer = compiled(AdversarialTraining(model, text, 1, seed=0))
        projection = callbacks.PeriodicProjection(0.9, every=3)
        fit(trainer, 2, [projection])
        return model, trainer

    expected, _ = train("fgsm:0.1")
    with scope():
        model, trainer = train("fgsm:0.1")
        noisy, noisy_trainer = train("pgd:0.1,2,0.001,random_start=true")
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for layer in constraints.linear_maps(noisy):
        assert constraints.row_norms(layer.kernel).max() < 0.9 + 1e-5

    # Replicas draw starts of their own.
    def starts():
        x = keras.ops.zeros((1, 3, 3, 1))
        return noisy_trainer.change_images(x, keras.ops.zeros((1,), "int32"))

    strategy = trainer.distribute_strategy
    found = strategy.run(starts)
    first, second = strategy.experimental_local_results(found)
    assert np.abs(first - second).max() > 0.01
"""


@on_tensorflow
def test_two_replicas_train_like_one():
    program = textwrap.dedent(MIRRORED)
    subprocess.run([sys.executable, "-c", program], check=True)


@on_tensorflow
def test_a_step_is_one_on_the_images_of_the_attack():
    model, other = make_model(), make_model()
    trainer = compiled(AdversarialTraining(model, "pgd:0.1,4,0.04"))
    compiled(other)
    x, y = make_data()
    for _ in range(3):
        attacked = robustness.pgd(other, x, y, 0.1, 4, 0.04)
        other.train_on_batch(attacked, y)
        trainer.train_on_batch(x, y)
    assert_same_weights(model, other, atol=1e-5)


@on_tensorflow
@pytest.mark.parametrize("text", ["fgsm:0.1", "pgd:0.2,5,0.05"])
def test_images_are_those_of_the_attack(text):
    model, (x, y) = make_model(), make_data()
    trainer = AdversarialTraining(model, text)
    inside = attacked_by(trainer, x, y)
    outside = robustness.parse_attack(text)(model, x, y)
    np.testing.assert_allclose(inside, outside, atol=1e-6)


@pytest.mark.parametrize("text", TEXTS)
def test_every_attack_raises_the_loss_within_the_ball(text):
    model, (x, y) = make_model(), make_data()
    trainer = compiled(AdversarialTraining(model, text, seed=1))
    attacked = attacked_by(trainer, x, y)
    assert 0.09 < np.abs(attacked - x).max() <= 0.1 + 1e-6
    assert np.abs(attacked).max() <= 1
    clean, _ = trainer.evaluate(x, y, verbose=0)
    hurt, _ = trainer.evaluate(attacked, y, verbose=0)
    assert hurt > clean
    history = fit(trainer, epochs=1)
    assert np.isfinite(history["loss"]).all()


def test_reported_accuracy_is_that_under_attack():
    model, (x, y) = make_model(), make_data()
    trainer = compiled(AdversarialTraining(model, "fgsm:0.5"))
    trainer.optimizer.learning_rate = 0.0
    history = fit(trainer)
    attacked = attacked_by(trainer, x, y)
    assert history["accuracy"][0] == pytest.approx(
        trainer.evaluate(attacked, y, verbose=0)[1], abs=1e-6
    )
    assert history["accuracy"][0] < trainer.evaluate(x, y, verbose=0)[1]


def test_warm_up_trains_on_the_images():
    model = make_model()
    trainer = compiled(AdversarialTraining(model, "fgsm:0.2", 2))
    fit(trainer, epochs=2)
    plain = plain_training(make_model(), epochs=2)
    assert_same_weights(model, plain)
    fit(trainer, epochs=1)
    # A new `fit` begins at epoch 0, and so with the warm-up.
    assert_same_weights(model, plain_training(make_model(), epochs=3), 1e-5)


def test_attacks_begin_after_the_warm_up():
    attacked = make_model()
    fit(compiled(AdversarialTraining(attacked, "fgsm:0.2", 1)), epochs=2)
    plain = plain_training(make_model(), epochs=2)
    assert differ(attacked, plain)
    # One epoch of each, as `train_on_batch` does them.
    other = make_model()
    clean, hurt = (
        compiled(AdversarialTraining(other, "fgsm:0.2", warm_up))
        for warm_up in (1, 0)
    )
    x, y = make_data()
    for trainer in (clean, hurt):
        for start in range(0, 32, 8):
            part = slice(start, start + 8)
            trainer.train_on_batch(x[part], y[part])
    assert_same_weights(attacked, other, atol=1e-5)


def test_projection_acts_inside():
    model = make_model()
    trainer = compiled(AdversarialTraining(model, "fgsm:0.1", 1))
    projection = callbacks.PeriodicProjection(0.4, every=3, start_epoch=1)
    fit(trainer, 1, [projection])
    before = [layer.kernel for layer in constraints.linear_maps(model)]
    assert max(constraints.row_norms(kernel).max() for kernel in before) > 0.5
    trainer.fit(
        *make_data(), initial_epoch=1, epochs=2, verbose=0, callbacks=projection
    )
    for layer in constraints.linear_maps(model):
        bias = layer.bias if layer.use_bias else None
        assert constraints.row_norms(layer.kernel, bias).max() < 0.4 + 1e-5


def test_random_starts_differ_from_step_to_step_and_are_seeded():
    model, (x, y) = make_model(), make_data()
    text = "pgd:0.1,1,0.001,random_start=true"
    trainer = AdversarialTraining(model, text, seed=3)
    first, second = (attacked_by(trainer, x, y) for _ in range(2))
    assert np.abs(first - second).max() > 0.05
    again = AdversarialTraining(model, text, seed=3)
    np.testing.assert_array_equal(attacked_by(again, x, y), first)
    assert any(v is trainer.seed_generator.state for v in trainer.variables)


def test_penalty_is_added_on_the_images_that_are_trained_on():
    x, y = make_data()
    trainers = [
        compiled(AdversarialTraining(make_model(), "fgsm:0.1", jacobian=j))
        for j in (None, JacobianPenalty(0.3, projections=None))
    ]
    losses = [t.train_on_batch(x, y)[0] for t in trainers]
    untrained = AdversarialTraining(make_model(), "fgsm:0.1")
    attacked = ops.convert_to_tensor(attacked_by(untrained, x, y))
    penalty = JacobianPenalty(0.3, projections=None)
    extra = float(penalty(untrained.logits, attacked, 4))
    assert float(losses[1] - losses[0]) == pytest.approx(extra, rel=1e-4)


def test_preprocessing_comes_before_the_attack():
    model = make_model()
    preprocessing = keras.layers.Rescaling(1 / 127.5, offset=-1.0)
    trainer = compiled(
        AdversarialTraining(model, "fgsm:0.1", preprocessing=preprocessing)
    )
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (32, 3, 3, 1)).astype("uint8")
    x, (_, y) = stored / 127.5 - 1, make_data()
    other = make_model()
    compiled(AdversarialTraining(other, "fgsm:0.1")).train_on_batch(x, y)
    trainer.train_on_batch(stored, y)
    assert_same_weights(model, other, atol=1e-5)
    np.testing.assert_allclose(
        trainer.predict(stored, verbose=0),
        model.predict(x, verbose=0),
        atol=1e-5,
    )


def test_labels_may_be_one_hot_or_a_column():
    model, (x, y) = make_model(), make_data()
    trainer = AdversarialTraining(model, "fgsm:0.1")
    expected = attacked_by(trainer, x, y)
    for labels in (np.eye(4, dtype="float32")[y], y[:, None]):
        np.testing.assert_array_equal(attacked_by(trainer, x, labels), expected)


def test_an_attack_may_be_any_function():
    model, (x, y) = make_model(), make_data()
    trainer = compiled(
        AdversarialTraining(model, lambda model, x, labels: ops.clip(-x, -1, 1))
    )
    other = compiled(make_model())
    other.train_on_batch(-x, y)
    trainer.train_on_batch(x, y)
    assert_same_weights(model, other)
    with pytest.raises(ValueError, match="Only attacks that a text describes"):
        trainer.get_config()


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs single steps"
)
def test_many_steps_an_execution_and_xla():
    expected = make_model()
    fit(compiled(AdversarialTraining(expected, "pgd:0.1,2,0.06", 1)), 2)
    for jit_compile in (False, True):
        model = make_model()
        trainer = AdversarialTraining(model, "pgd:0.1,2,0.06", 1)
        compiled(trainer, steps_per_execution=4, jit_compile=jit_compile)
        fit(trainer, 2)
        assert_same_weights(model, expected, atol=1e-4)


def test_half_precision_keeps_the_ball_in_float32():
    model, (x, y) = make_model(dtype="mixed_bfloat16"), make_data()
    trainer = compiled(AdversarialTraining(model, "fgsm:0.001"))
    attacked = attacked_by(trainer, x, y)
    inside = np.abs(x) < 0.99
    moved = np.abs(attacked - x)[inside]
    np.testing.assert_allclose(moved[moved > 0], 0.001, rtol=1e-3)
    assert np.isfinite(fit(trainer)["loss"]).all()


def test_saving_and_loading(tmp_path):
    model, (x, _) = make_model(), make_data()
    trainer = compiled(
        AdversarialTraining(
            functional(model),
            "pgd:0.1,2,0.06",
            warmup_epochs=3,
            jacobian=JacobianPenalty(0.2),
            preprocessing=keras.layers.Rescaling(0.5),
            clip=(-1, 1),
            seed=4,
        )
    )
    fit(trainer)
    trainer.save(tmp_path / "trainer.keras")
    again = keras.saving.load_model(tmp_path / "trainer.keras")
    assert again.attack == trainer.attack and again.clip == (-1.0, 1.0)
    assert again.warmup_epochs == 3 and again.jacobian.weight == 0.2
    np.testing.assert_allclose(
        again.predict(x, verbose=0), trainer.predict(x, verbose=0), atol=1e-6
    )


def test_what_is_frozen_stays_frozen():
    trainer = AdversarialTraining(
        functional(make_model()), clip=(-1, 1), trainable=False
    )
    again = AdversarialTraining.from_config(trainer.get_config())
    assert not again.trainable and again.model.trainable


def test_what_to_export_is_explained(tmp_path):
    trainer = AdversarialTraining(make_model())
    with pytest.raises(NotImplementedError, match="`trainer.model.export"):
        trainer.export(tmp_path / "trainer")


def functional(model):
    """The model as Keras saves it without custom objects."""
    return keras.Model(model.inputs, model.outputs)


def softmax_model():
    model = make_model()
    model.add(keras.layers.Softmax())
    return model


def bare_model():
    return keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2)], name="bare"
    )


@pytest.mark.parametrize(
    "model, changes, message",
    [
        (softmax_model, {}, "mask the gradients. Use the logits"),
        (bare_model, {}, "'bare' has no `input_range`.*clip=.low"),
        (make_model, {"attack": "fgms:0.1"}, "Did you mean 'fgsm'"),
        (make_model, {"attack": "fgsm:-1"}, "`epsilon` must be a number of at"),
        (make_model, {"warmup_epochs": -1}, "an integer of at least 0. Receiv"),
        (make_model, {"warmup_epochs": 1.5}, "an integer of at least 0"),
        (keras.Sequential, {}, "is not built. Give it an input shape"),
    ],
)
def test_bad_arguments_are_explained(model, changes, message):
    with pytest.raises(ValueError, match=message):
        AdversarialTraining(model(), **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": "pn4"}, "Expected a Keras model .*Received: 'pn4'"),
        ({"attack": None}, "a text .* or a callable .*Received: None"),
        ({"attack": 3}, "must be a text such as 'fgsm:0.1', .*Received: 3"),
        ({"jacobian": 0.1}, "a penalty such as .*JacobianPenalty.*=0.1"),
    ],
)
def test_arguments_of_another_type_are_explained(changes, message):
    with pytest.raises(TypeError, match=message):
        AdversarialTraining(**{"model": make_model(), **changes})


def test_an_attack_that_needs_more_classes_is_refused_at_once():
    for text in ("apgd_t:0.1,3", "apgd:0.1,3,loss=dlr"):
        with pytest.raises(ValueError, match="classes, and the model has 2"):
            AdversarialTraining(bare_model(), text, clip=(0, 1))


def test_noise_has_a_start_for_each_run():
    x, seed = ops.zeros((2, 3)), keras.random.SeedGenerator(0)
    for text, starts in (
        ("pgd:0.1,2,0.1,random_start=true", 1),
        ("apgd:0.1,2,restarts=3", 3),
        ("apgd_t:0.1,2,targets=2,restarts=3", 6),
        ("apgd_t:0.1,2", 9),
    ):
        noise = adversarial.noise(robustness.parse_attack(text), x, seed)
        assert tuple(noise.shape) == (starts, 2, 3)
        assert np.abs(ops.convert_to_numpy(noise)).max() <= 1
