"""Guided denoising: the loss, what a step attacks, and what it moves."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import models
from keras_polynets import robustness
from keras_polynets.train_steps.guided import logit_guided_loss
from keras_polynets.trainers import GuidedDenoising

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)
SHAPE = (4, 4, 1)


def make_classifier(seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    return models.PolynomialNet(
        input_shape=SHAPE, classes=3, order=3, rank=4, **kwargs
    )


def make_denoiser():
    keras.utils.set_random_seed(1)
    return models.GuidedDenoiser(SHAPE, filters=(4, 6), blocks=1)


def make_data(count=48):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (count, *SHAPE)).astype("float32")
    return x, rng.integers(0, 3, count)


def make_trainer(attack, **kwargs):
    trainer = GuidedDenoising(
        make_denoiser(), make_classifier(), attack, **kwargs
    )
    trainer.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    return trainer


def expected_loss(trainer, attacked, x):
    """The formula in NumPy, on what the models predict."""
    logits = [
        trainer.classifier.predict(images, verbose=0)
        for images in (trainer.model.predict(attacked, verbose=0), x)
    ]
    return np.abs(logits[0] - logits[1]).sum(axis=1)


def test_loss_is_that_of_the_formula():
    rng = np.random.default_rng(0)
    logits, clean = rng.normal(size=(2, 5, 3)).astype("float32")
    expected = [
        sum(abs(a - b) for a, b in zip(*rows, strict=True))
        for rows in zip(logits, clean, strict=True)
    ]
    ours = logit_guided_loss(
        ops.convert_to_tensor(logits), ops.convert_to_tensor(clean)
    )
    np.testing.assert_allclose(ops.convert_to_numpy(ours), expected, rtol=1e-5)


@on_tensorflow
def test_evaluates_on_images_that_the_attack_makes():
    text = "pgd:0.2,5,0.05"
    trainer, (x, y) = make_trainer(text), make_data()
    attacked = robustness.parse_attack(text)(trainer.classifier, x, y)
    loss, accuracy = trainer.evaluate(x, y, batch_size=48, verbose=0)
    expected = expected_loss(trainer, attacked, x)
    assert loss == pytest.approx(expected.mean(), rel=1e-4)
    hits = trainer.predict(attacked, verbose=0).argmax(axis=1) == y
    assert accuracy == pytest.approx(hits.mean(), abs=1e-6)


@on_tensorflow
def test_each_attack_has_its_part_of_a_batch():
    texts = ["fgsm:0.2", "fgsm:0", "fgsm:0.4"]
    trainer, (x, y) = make_trainer(texts), make_data(50)
    losses, hits = [], []
    for n, text in enumerate(texts):
        part = x[n::3], y[n::3]
        attack = robustness.parse_attack(text)
        attacked = attack(trainer.classifier, *part)
        if text == "fgsm:0":
            np.testing.assert_array_equal(attacked, part[0])
        losses += expected_loss(trainer, attacked, part[0]).tolist()
        logits = trainer.predict(attacked, verbose=0)
        hits += (logits.argmax(axis=1) == part[1]).tolist()
    loss, accuracy = trainer.evaluate(x, y, batch_size=50, verbose=0)
    assert loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert accuracy == pytest.approx(np.mean(hits), abs=1e-6)
    # Weights go with their images.
    weights = np.arange(50) % 3 == 2
    weighted, _ = trainer.evaluate(
        x, y, batch_size=50, sample_weight=weights.astype("float32"), verbose=0
    )
    count = len(x[2::3])
    assert weighted == pytest.approx(np.sum(losses[-count:]) / 50, rel=1e-4)


def test_training_lowers_the_loss_and_leaves_the_classifier():
    trainer, (x, y) = make_trainer(["fgsm:0.1", "pgd:0.2,3,0.1"]), make_data()
    classifier = [w.copy() for w in trainer.classifier.get_weights()]
    denoiser = [w.copy() for w in trainer.model.get_weights()]
    before, _ = trainer.evaluate(x, y, batch_size=16, verbose=0)
    history = trainer.fit(
        x,
        y,
        batch_size=16,
        epochs=15,
        validation_data=(x, y),
        validation_batch_size=16,
        verbose=0,
    ).history
    after, _ = trainer.evaluate(x, y, batch_size=16, verbose=0)
    assert after < 0.8 * before
    assert after == pytest.approx(history["val_loss"][-1], rel=1e-4)
    for old, new in zip(
        classifier, trainer.classifier.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(denoiser, trainer.model.get_weights(), strict=True):
        assert not np.array_equal(old, new)
    assert all(v.trainable for v in trainer.classifier.trainable_variables)


def test_labels_may_be_absent_or_one_hot():
    x, _ = make_data()
    trainer = GuidedDenoising(make_denoiser(), make_classifier(), "fgsm:0.2")
    trainer.compile(keras.optimizers.Adam(0.01))
    predicted = trainer.classifier.predict(x, verbose=0).argmax(axis=1)
    losses = [
        trainer.evaluate(x, labels, verbose=0)
        for labels in (None, predicted, np.eye(3)[predicted])
    ]
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-5)
    other = trainer.evaluate(x, (predicted + 1) % 3, verbose=0)
    assert other != pytest.approx(losses[0], rel=1e-3)
    history = trainer.fit(x, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def test_preprocessing_takes_stored_images():
    classifier = make_classifier()
    stored = np.random.default_rng(0).integers(0, 256, (8, *SHAPE), "uint8")
    losses = []
    for layer in (classifier.preprocessor, None):
        trainer = GuidedDenoising(
            make_denoiser(), classifier, "fgsm:0.1", preprocessing=layer
        )
        trainer.compile("adam")
        x = stored if layer else classifier.preprocessor(stored)
        losses.append(
            trainer.evaluate(
                ops.convert_to_numpy(x), np.arange(8) % 3, verbose=0
            )
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_trainer_comes_back_from_its_file(tmp_path):
    trainer, (x, y) = make_trainer(["fgsm:0.1", "fgsm:0"], seed=3), make_data()
    trainer.train_on_batch(x, y)
    trainer.save(tmp_path / "trainer.keras")
    loaded = keras.models.load_model(tmp_path / "trainer.keras")
    assert [a.name for a in loaded.attacks] == ["fgsm:0.1", "fgsm:0"]
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), trainer.predict(x, verbose=0), atol=1e-6
    )
    np.testing.assert_allclose(
        loaded.evaluate(x, y, verbose=0),
        trainer.evaluate(x, y, verbose=0),
        rtol=1e-5,
    )


def test_errors():
    denoiser, classifier = make_denoiser(), make_classifier(name="net")
    with pytest.raises(ValueError, match="Unknown attack 'fgms'. Did you"):
        GuidedDenoising(denoiser, classifier, "fgms:0.1")
    with pytest.raises(ValueError, match="at least one attack, such as"):
        GuidedDenoising(denoiser, classifier, [])
    with pytest.raises(TypeError, match="must be a text .* Received: 0.1"):
        GuidedDenoising(denoiser, classifier, 0.1)
    with pytest.raises(TypeError, match="Expected a Keras model.*'net'"):
        GuidedDenoising(denoiser, "net")
    with pytest.raises(ValueError, match="4 classes, and the model has 3"):
        GuidedDenoising(denoiser, classifier, "apgd_t:0.1,3")
    with pytest.raises(
        ValueError,
        match=r"must take images of the classifier's input shape "
        r"\(None, 4, 4, 1\). That of 'wide': \(None, 8, 8, 1\)",
    ):
        wide = models.GuidedDenoiser((8, 8, 1), (2,), name="wide")
        GuidedDenoising(wide, classifier)
    with pytest.raises(ValueError, match="must yield images of the classifier"):
        GuidedDenoising(classifier, classifier)
    with pytest.raises(ValueError, match="'net' yields no logits"):
        softmax = make_classifier(classifier_activation="softmax", name="net")
        GuidedDenoising(denoiser, softmax)
    with pytest.raises(ValueError, match="Model 'bare' is not built"):
        bare = keras.Sequential([keras.layers.Dense(3)], name="bare")
        GuidedDenoising(denoiser, bare)
    trainer = GuidedDenoising(denoiser, classifier)
    with pytest.raises(
        ValueError, match="takes no other. Received: loss='mse'. Leave"
    ):
        trainer.compile("adam", loss="mse")
