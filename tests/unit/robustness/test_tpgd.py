"""TPGD against its recursion, and the released code's clamp."""

import keras
import numpy as np
import pytest

from keras_polynets.robustness import apgd_t
from keras_polynets.robustness import fgsm
from keras_polynets.robustness import inputs
from keras_polynets.robustness import pgd
from keras_polynets.robustness import tpgd
from tests.unit.robustness.attack_examples import make_images
from tests.unit.robustness.attack_examples import make_labels
from tests.unit.robustness.attack_examples import shared_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)


def ascend(start, images, loss, epsilon, steps, step_size, valid):
    """The released code's loop: the ball first, then the clamp."""
    import tensorflow as tf

    x = start
    for _ in range(steps):
        z = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(z)
            value = loss(z)
        x = x + step_size * np.sign(tape.gradient(value, z).numpy())
        x = images + np.clip(x - images, -epsilon, epsilon)
        x = np.clip(x, *valid).astype("float32")
    return x


def kl(model, images):
    import tensorflow as tf

    p = tf.nn.softmax(model(images))
    return lambda z: tf.reduce_sum(
        p * (tf.math.log(p) - tf.nn.log_softmax(model(z)))
    )


def test_tpgd_equals_the_recursion_in_numpy():
    model, images = shared_model(), make_images()
    start = inputs.nearby_points(images, 7, 1e-3)
    assert 0.0005 < (start - images).std() < 0.0015
    expected = ascend(
        start, images, kl(model, images), 0.1, 6, 0.03, (-1.0, 1.0)
    )
    found = tpgd(model, images, None, 0.1, 6, 0.03, seed=7)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found.astype("float64") - images).max() <= 0.1


def test_tpgd_needs_no_labels_and_is_seeded():
    model, images = shared_model(), make_images()
    found = tpgd(model, images, make_labels(), seed=1)
    np.testing.assert_array_equal(found, tpgd(model, images, seed=1))
    assert (found != tpgd(model, images, steps=1, seed=2)).any()


def test_tpgd_raises_the_divergence():
    model, images = shared_model(), make_images()
    divergence = kl(model, images)
    few = divergence(tpgd(model, images, None, 0.1, 1, 0.01, seed=0))
    many = divergence(tpgd(model, images, None, 0.1, 20, 0.02, seed=0))
    assert many > few > 0


def test_reference_compatible_is_the_released_clamp():
    import tensorflow as tf

    model, images, labels = shared_model(), make_images(), make_labels()

    def loss(z):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(z))

    expected = ascend(images, images, loss, 0.1, 7, 0.03, (0.0, 1.0))
    found = pgd(model, images, labels, 0.1, 7, 0.03, reference_compatible=True)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # Black pixels turn grey, whatever the radius.
    assert found.min() >= 0
    assert np.abs(found - images).max() == pytest.approx(1.0)
    ours = pgd(model, images, labels, 0.1, 7, 0.03)
    assert np.abs(ours - images).max() <= 0.1 + 1e-6


@pytest.mark.parametrize("attack", [fgsm, tpgd, apgd_t])
def test_every_attack_knows_the_released_clamp(attack):
    model, images = shared_model(), make_images()
    labels = np.argmax(model.predict(images, verbose=0), axis=1)
    found = attack(
        model, images, labels, epsilon=0.1, reference_compatible=True
    )
    assert found.min() >= 0 and found.max() <= 1
