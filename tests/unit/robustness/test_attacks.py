"""What attacks do, their random starts and their compilation."""

import gc
import weakref

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import apgd
from keras_polynets.robustness import apgd_t
from keras_polynets.robustness import attack_functions
from keras_polynets.robustness import fgsm
from keras_polynets.robustness import pgd
from keras_polynets.robustness import tpgd
from tests.unit.robustness.attack_examples import counting
from tests.unit.robustness.attack_examples import linear_model
from tests.unit.robustness.attack_examples import losses
from tests.unit.robustness.attack_examples import make_images
from tests.unit.robustness.attack_examples import make_labels
from tests.unit.robustness.attack_examples import make_model
from tests.unit.robustness.attack_examples import shared_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)


def test_fgsm_moves_against_the_label():
    # logits = (z_1, -z_2): class 0 is weakened by less z_1, more -z_2.
    model = linear_model([[1.0, 0.0], [0.0, -1.0]])
    adversarial = fgsm(model, np.zeros((1, 2)), np.array([0]), 0.25)
    assert adversarial.tolist() == [[-0.25, -0.25]]


def test_targeted_fgsm_moves_towards_the_label():
    model = linear_model([[1.0, 0.0], [0.0, -1.0]])
    adversarial = fgsm(
        model, np.zeros((1, 2)), np.array([0]), 0.25, targeted=True
    )
    assert adversarial.tolist() == [[0.25, 0.25]]


def test_pgd_equals_the_recursion_in_numpy():
    import tensorflow as tf

    model = shared_model()
    images, labels = make_images(), make_labels()
    x = images
    for _ in range(7):
        z = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, model(z)
            )
        x = x + 0.04 * np.sign(tape.gradient(loss, z).numpy())
        x = np.clip(x, images - 0.1, images + 0.1)
        x = np.clip(x, -1, 1).astype("float32")
    adversarial = pgd(model, images, labels, 0.1, steps=7, step_size=0.04)
    assert adversarial == pytest.approx(x, abs=1e-6)


def test_one_step_of_pgd_is_fgsm():
    model = shared_model()
    images, labels = make_images(), make_labels()
    one = pgd(model, images, labels, 0.1, steps=1, step_size=0.1)
    np.testing.assert_array_equal(one, fgsm(model, images, labels, 0.1))


def test_labels_default_to_the_predictions():
    model = shared_model()
    images = make_images()
    predictions = np.argmax(model.predict(images, verbose=0), axis=1)
    np.testing.assert_array_equal(
        fgsm(model, images, None, 0.1), fgsm(model, images, predictions, 0.1)
    )


@pytest.mark.parametrize("random_start", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 1e-7, 0.01, 0.1, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("clip", [None, (-1.0, 1.0), (-1.5, 1.25)])
def test_attacks_never_leave_the_ball_or_the_range(clip, epsilon, random_start):
    for seed in range(3):
        model = shared_model(seed, order=seed + 2)
        images, labels = make_images(seed=seed), make_labels()
        low, high = clip or (-1.0, 1.0)
        options = {"random_start": random_start, "seed": 1, "clip": clip}
        for adversarial in (
            fgsm(model, images, labels, epsilon, **options),
            pgd(model, images, labels, epsilon, 5, 0.07, **options),
        ):
            change = np.abs(adversarial.astype("float64") - images)
            assert change.max() <= epsilon
            assert adversarial.min() >= low and adversarial.max() <= high
            assert adversarial.dtype == np.float32
            if epsilon >= 0.01:
                assert change.max() > 0.9 * min(epsilon, 0.3)


def test_range_per_channel():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((2, 2, 2)), keras.layers.Flatten(), layers.CCP(3, 2, 2)]
    )
    images = np.zeros((4, 2, 2, 2), "float32")
    clip = ((-0.1, -0.2), (0.05, 0.3))
    adversarial = fgsm(model, images, make_labels(4, 3), 1.0, clip=clip)
    values = np.unique(adversarial.reshape(-1, 2), axis=0)
    expected = {np.float32(-0.1), np.float32(0.05)}
    assert set(values[:, 0]) == expected
    assert set(values[:, 1]) == {np.float32(-0.2), np.float32(0.3)}


def test_pgd_raises_the_loss_more_than_fgsm():
    gains = []
    for seed in range(5):
        model = make_model(seed, order=4)
        images, labels = make_images(seed=seed), make_labels()
        clean = losses(model, images, labels)
        step = losses(model, fgsm(model, images, labels, 0.3), labels)
        many = losses(model, pgd(model, images, labels, 0.3, 20, 0.05), labels)
        gains.append([step.mean() - clean.mean(), many.mean() - step.mean()])
    assert np.mean(gains, axis=0)[0] > 0
    assert np.mean(gains, axis=0)[1] > 0


def test_targeted_attack_lowers_the_loss_of_the_target():
    model = make_model(1, order=4)
    images, labels = make_images(), make_labels()
    adversarial = pgd(model, images, labels, 0.3, targeted=True)
    before, after = (losses(model, x, labels) for x in (images, adversarial))
    assert after.mean() < before.mean()


def test_zero_epsilon_returns_the_images():
    model, images = shared_model(), make_images()
    for random_start in (False, True):
        adversarial = pgd(
            model, images, make_labels(), 0, random_start=random_start
        )
        np.testing.assert_array_equal(adversarial, images)


def test_rounding_beyond_the_range_is_tolerated():
    model, images = shared_model(), make_images()
    images[0] = np.float32(1.0000001)
    adversarial = fgsm(model, images, make_labels(), 0.0)
    assert adversarial.max() == 1.0


# Random starts ---------------------------------------------------------------


def test_seed_reproduces_and_differs():
    model, images, labels = shared_model(), make_images(), make_labels()

    def attack(seed):
        # A step so small that the start shows.
        return pgd(
            model, images, labels, 0.1, 1, 1e-4, random_start=True, seed=seed
        )

    np.testing.assert_array_equal(attack(3), attack(3))
    assert np.abs(attack(3) - attack(4)).max() > 0.05
    keras.utils.set_random_seed(5)
    unseeded = attack(None)
    assert np.abs(attack(None) - unseeded).max() > 0.05
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(attack(None), unseeded)


def test_start_is_uniform_in_the_ball():
    model = shared_model()
    images = np.linspace(-0.5, 0.5, 200 * 16, dtype="float32")
    images = images.reshape(200, 4, 4, 1)
    start = fgsm(model, images, None, 0.2, random_start=True, seed=0)
    # FGSM with epsilon as its step ends at an end of the ball, mostly.
    assert np.abs(start - images).max() <= 0.2
    start = pgd(model, images, None, 0.2, 1, 1e-6, random_start=True, seed=0)
    change = (start - images).ravel() / 0.2
    assert abs(change.mean()) < 0.05
    assert change.var() == pytest.approx(1 / 3, rel=0.05)


def test_start_does_not_depend_on_the_batches():
    model, images, labels = shared_model(), make_images(), make_labels()
    options = {"random_start": True, "seed": 2}
    whole = pgd(model, images, labels, 0.1, 3, 0.05, **options)
    parts = [
        pgd(model, images[part], labels[part], 0.1, 3, 0.05, **options)
        for part in (slice(0, 5), slice(5, 6), slice(6, 12))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


# The compiled function -------------------------------------------------------


def test_a_loop_over_batches_traces_once():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            layers.CCP(5, rank=2, order=2),
        ]
    )

    counted = counting(model)
    fgsm(counted, make_images(3), make_labels(3), 0.1)
    after_first = counted.traced
    assert after_first <= 4
    for count in (3, 12, 5, 1, 12):
        images, labels = make_images(count), make_labels(count)
        fgsm(counted, images, labels, 0.05)
        fgsm(counted, images, None, 0.05)
        pgd(counted, images, labels, 0.1, steps=count, step_size=0.02)
        pgd(counted, images, labels, 0.1, targeted=True, random_start=True)
    assert counted.traced == after_first


@pytest.mark.parametrize(
    ("count", "cores"), [(1, None), (2, 2), (9, 1), (13, 2), (33, 7)]
)
@pytest.mark.parametrize("attack", [pgd, tpgd])
def test_batches_that_are_filled_up(attack, cores, count, monkeypatch):
    model = make_model(0, order=3)
    images, labels = make_images(40), make_labels(40)
    options = {"epsilon": 0.1, "steps": 5, "seed": 3, "clip": (-1.0, 0.8)}
    images = np.minimum(images, 0.8)
    plain = attack(model, images, labels, **options)
    monkeypatch.setattr(attack_functions, "WORTHWHILE", 1)
    monkeypatch.setattr(attack_functions, "PART", 4)
    monkeypatch.setattr(attack_functions.os, "cpu_count", lambda: cores)
    filled = attack(model, images[:count], labels[:count], **options)
    np.testing.assert_allclose(filled, plain[:count], atol=1e-6)
    change = np.abs(filled.astype("float64") - images[:count])
    assert 0.04 < change.max() <= 0.1 and filled.max() <= np.float32(0.8)


def test_batches_of_several_parts_and_of_one(monkeypatch):
    model = make_model(0, order=3)
    images, labels = make_images(40), make_labels(40)
    plain = pgd(model, images, labels, 0.1, 5)
    monkeypatch.setattr(attack_functions, "WORTHWHILE", 1)
    monkeypatch.setattr(attack_functions, "PART", 8)
    monkeypatch.setattr(attack_functions.os, "cpu_count", lambda: 4)
    for count in (4, 40, 6, 20, 40, 7):
        found = pgd(model, images[:count], labels[:count], 0.1, 5)
        np.testing.assert_allclose(found, plain[:count], atol=1e-6)


def test_sizes_of_batches_share_compiled_functions(monkeypatch):
    monkeypatch.setattr(attack_functions, "WORTHWHILE", 1)
    sizes, functions = set(), set()
    made = attack_functions.Functions._side_by_side

    def watched(self, *arguments):
        function = made(self, *arguments)
        functions.add(function)

        def run(extra, x, *others):
            sizes.add(len(x) + extra)
            return function(extra, x, *others)

        return run

    monkeypatch.setattr(attack_functions.Functions, "_side_by_side", watched)
    model, images = make_model(0, order=3), make_images(64)
    for count in range(33, 65):
        pgd(model, images[:count], make_labels(count), 0.1, 2)
    assert sizes == {40, 48, 56, 64} and len(functions) == 1


class Subclassed(keras.Model):
    """A model whose layers meet in Python code."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


def test_what_xla_compiles():
    assert attack_functions.is_dense(make_model(0, order=3))
    assert attack_functions.is_dense(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    )
    assert not attack_functions.is_dense(Subclassed())
    inputs = keras.Input((4, 4, 1))
    for layer in (
        keras.layers.Conv2D(1, 3),
        layers.MedianFilter2D(3),
        keras.layers.Lambda(lambda x: x),
    ):
        outputs = keras.layers.Flatten()(layer(inputs))
        outputs = layers.CCP(3, 2, 2)(outputs)
        assert not attack_functions.is_dense(keras.Model(inputs, outputs))


def test_weights_that_change_are_seen():
    model = linear_model([[1.0, 0.0], [0.0, -1.0]])
    images, labels = np.zeros((1, 2)), np.array([0])
    before = fgsm(model, images, labels, 0.25)
    model.layers[-1].set_weights([-np.diag([1.0, -1.0]), np.zeros(2)])
    np.testing.assert_array_equal(fgsm(model, images, labels, 0.25), -before)


def test_dead_models_and_their_weights_are_freed():
    model = make_model()
    fgsm(model, make_images(), make_labels(), 0.1)
    kernel = model.layers[-1].factors.kernel.value
    alive = [
        weakref.ref(model),
        weakref.ref(kernel),
        weakref.ref(kernel.handle),
    ]
    del model, kernel
    keras.backend.clear_session()
    gc.collect()
    assert [reference() is None for reference in alive] == [True] * 3


def test_training_state_is_left_alone():
    model = make_model()
    before = [v.copy() for v in model.get_weights()]
    trainable = [v.trainable for v in model.variables]
    pgd(model, make_images(), make_labels(), 0.1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [v.trainable for v in model.variables] == trainable


def test_tensors_give_tensors():
    import tensorflow as tf

    model, images, labels = shared_model(), make_images(), make_labels()
    outputs = fgsm(model, tf.constant(images), tf.constant(labels), 0.1)
    assert tf.is_tensor(outputs)
    np.testing.assert_array_equal(
        outputs.numpy(), fgsm(model, images, labels, 0.1)
    )


def test_other_float_types_become_float32():
    model, labels = shared_model(), make_labels()
    images = make_images().astype("float16")
    adversarial = fgsm(model, images.astype("float64"), labels, 0.1)
    assert adversarial.dtype == np.float32
    np.testing.assert_array_equal(adversarial, fgsm(model, images, labels, 0.1))


@pytest.mark.parametrize("attack", [fgsm, tpgd, apgd, apgd_t])
def test_an_empty_batch_stays_empty(attack):
    model = shared_model()
    images = make_images(0)
    for labels in (make_labels(0), None):
        assert attack(model, images, labels, 0.1).shape == images.shape
