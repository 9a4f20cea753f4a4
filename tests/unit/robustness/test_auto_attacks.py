"""APGD against its algorithm in NumPy, and what it promises."""

import math

import keras
import numpy as np
import pytest

from keras_polynets import data
from keras_polynets import zoo
from keras_polynets.robustness import apgd
from keras_polynets.robustness import apgd_t
from keras_polynets.robustness import attack_losses
from keras_polynets.robustness import attack_steps
from keras_polynets.robustness import inputs
from keras_polynets.robustness import pgd
from keras_polynets.robustness import robust_accuracy
from tests.unit.robustness.attack_examples import Ranged
from tests.unit.robustness.attack_examples import counting
from tests.unit.robustness.attack_examples import linear_model
from tests.unit.robustness.attack_examples import make_images
from tests.unit.robustness.attack_examples import make_labels
from tests.unit.robustness.attack_examples import make_model
from tests.unit.robustness.attack_examples import shared_model

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)


def predictions(model, images):
    return np.argmax(model.predict(images, verbose=0), axis=1)


def gradient_of(model, loss):
    """Returns the callable `x -> (loss, gradient, wrong)` of one image."""
    import tensorflow as tf

    @tf.function
    def compute(x, label):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits = model(x)
            value = loss(logits, label)
        return value, tape.gradient(value, x), logits

    def evaluate(x, label):
        value, gradient, logits = compute(
            tf.constant(x[None]), tf.constant([label])
        )
        wrong = np.argmax(logits.numpy()) != label
        return float(value[0]), gradient.numpy()[0], wrong

    return evaluate


def apgd_of_one_image(evaluate, start, label, lower, upper, epsilon, steps):
    """Algorithm 1 of Croce and Hein, one image, as it is printed."""
    p = [0.0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    marks = sorted({math.ceil(round(q * steps, 9)) for q in p})
    marks = [w for w in marks if w < steps] + [steps]
    value, gradient, wrong = evaluate(start, label)
    if wrong:
        return start, True
    x = previous = best = start
    f = f_best = f_mark = value
    best_gradient, eta, eta_mark, rises = gradient, 2 * epsilon, None, 0
    last = 0
    for k in range(steps):
        z = np.clip(x + eta * np.sign(gradient), lower, upper)
        a = 0.75 if k else 1.0
        new = x + a * (z - x) + (1 - a) * (x - previous)
        new = np.clip(new, lower, upper).astype("float32")
        value, gradient, wrong = evaluate(new, label)
        if wrong:
            return new, True
        rises += value > f
        previous, x, f = x, new, value
        if value > f_best:
            best, f_best, best_gradient = new, value, gradient
        if k + 1 in marks:
            few = rises < 0.75 * (k + 1 - last)
            same = (eta_mark is None or eta_mark == eta) and f_mark == f_best
            eta_mark = eta
            if few or same:
                eta, x, f, gradient = eta / 2, best, f_best, best_gradient
            f_mark, rises, last = f_best, 0, k + 1
    return best, False


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
@pytest.mark.parametrize("epsilon", [0.02, 0.3])
def test_apgd_is_the_published_algorithm(loss, epsilon):
    model = shared_model(2, order=2)
    images = make_images(20, seed=3) * 0.9
    labels = predictions(model, images).astype("int32")
    function = getattr(attack_losses, loss)
    evaluate = gradient_of(model, function)
    lower, upper = inputs.ball(images, epsilon, -1.0, 1.0)
    starts = inputs.random_points(images, epsilon, 5)
    starts = np.clip(starts, lower, upper)
    expected, broken = zip(
        *(
            apgd_of_one_image(evaluate, *rows, epsilon, 40)
            for rows in zip(starts, labels, lower, upper, strict=True)
        ),
        strict=True,
    )
    found = apgd(model, images, labels, epsilon, 40, loss=loss, seed=5)
    wrong = predictions(model, found) != labels
    np.testing.assert_array_equal(wrong, broken)
    # A rounding of one backend's sum may turn a comparison, in few images.
    close = np.abs(found - np.array(expected)).reshape(20, -1).max(axis=1)
    assert np.sum(close < 1e-5) >= 18
    if epsilon == 0.3:
        assert any(broken)
    else:
        assert not all(broken)


@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_a_rough_loss_is_climbed_by_the_published_algorithm(epsilon):
    """Waves, on which steps are halved and the search goes back."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    frequencies = rng.uniform(2, 9, (1, 6)).astype("float32")
    coupling = rng.normal(size=(6, 6)).astype("float32")

    def wave(x):
        mixed = tf.sin(3 * tf.matmul(x, coupling))
        return tf.reduce_sum(tf.sin(frequencies * x) + 0.3 * mixed, axis=1)

    def logits(x):
        # Class 0 is always ahead: nothing is ever broken.
        return tf.stack([wave(x), wave(x) - 1.0], axis=1)

    def loss(outputs, labels):
        return outputs[:, 0]

    def evaluate(x, label):
        x = tf.constant(x[None])
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = wave(x)
        return float(value[0]), tape.gradient(value, x).numpy()[0], False

    images = rng.uniform(-0.5, 0.5, (24, 6)).astype("float32")
    lower, upper = images - epsilon, images + epsilon
    state = attack_steps.auto_run(
        logits,
        loss,
        tf.constant(images),
        tf.zeros(24, "int32"),
        tf.constant(lower),
        tf.constant(upper),
        epsilon,
        50,
    )
    expected = [
        apgd_of_one_image(evaluate, *rows, epsilon, 50)[0]
        for rows in zip(images, [0] * 24, lower, upper, strict=True)
    ]
    assert not state.broken.numpy().any()
    sizes = state.size.numpy()
    assert sizes.min() < epsilon / 2 and len(np.unique(sizes)) > 1
    close = np.abs(state.best.numpy() - np.array(expected)).max(axis=1)
    assert np.sum(close < 1e-4) >= 22


def test_a_size_is_halved_when_nothing_changed_since_the_last_checkpoint():
    """Condition 2 alone: no steps, so that none failed to rise."""
    import tensorflow as tf

    x = tf.zeros((2, 3))

    def objective(x):
        loss = tf.reduce_sum(x, axis=1)
        return loss, tf.ones_like(x), tf.zeros((2,), "bool")

    state = attack_steps.auto_begin(objective, x, 0.5)
    # The second image has found something better since.
    state = state._replace(best_loss=tf.constant([0.0, 1.0]))
    sizes = []
    for _ in range(4):
        state = attack_steps.auto_segment(objective, state, x, x, False, 0)
        sizes.append(state.size.numpy().tolist())
    assert sizes == [[0.5, 1.0], [0.5, 0.5], [0.25, 0.5], [0.25, 0.25]]


@pytest.mark.parametrize(
    "steps, lengths",
    [
        (100, [22, 19, 16, 13, 10, 7, 6, 6, 1]),
        (20, [5, 4, 3, 2, 2, 2, 1, 1]),
        (1, [1]),
        (2, [1, 1]),
    ],
)
def test_checkpoints_are_the_published_ones(steps, lengths):
    assert attack_steps.checkpoints(steps) == lengths


def test_targets_are_the_likely_wrong_classes():
    logits = np.array([[5.0, 1.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0]], "float32")
    targets = attack_steps.likely_targets(logits, np.array([0, 1]), 3)
    assert np.asarray(targets).tolist() == [[3, 2, 1], [3, 2, 0]]


@pytest.mark.parametrize("attack", [apgd, apgd_t])
@pytest.mark.parametrize("epsilon", [0.0, 1e-7, 0.1, 3.0])
def test_they_never_leave_the_ball_or_the_range(attack, epsilon):
    model = shared_model()
    images, labels = make_images(), make_labels()
    adversarial = attack(model, images, labels, epsilon, 7, seed=1)
    change = np.abs(adversarial.astype("float64") - images)
    assert change.max() <= epsilon
    assert np.abs(adversarial).max() <= 1
    assert adversarial.dtype == np.float32


@pytest.mark.parametrize("attack", [apgd, apgd_t])
def test_wrong_images_are_returned_as_they_are(attack):
    model, images = shared_model(), make_images()
    labels = predictions(model, images)
    labels[::2] = (labels[::2] + 1) % 5
    adversarial = attack(model, images, labels, 0.3, 5, seed=0)
    np.testing.assert_array_equal(adversarial[::2], images[::2])
    assert (adversarial[1::2] != images[1::2]).any(axis=(1, 2, 3)).all()


def test_broken_images_are_not_attacked_again():
    """The more runs are broken, the fewer images reach the model."""
    inner = make_model()
    seen = []

    class Counting(keras.Model):
        input_range = (-1.0, 1.0)

        def call(self, x, training=None):
            import tensorflow as tf

            tf.numpy_function(lambda n: seen.append(n), [tf.shape(x)[0]], [])
            return inner(x)

    images = make_images(60, seed=1)
    model = Counting()
    labels = predictions(inner, images)
    adversarial = apgd_t(model, images, labels, 0.2, 20, restarts=2, seed=0)
    left = np.mean(predictions(inner, adversarial) == labels)
    assert 0.1 < left < 0.8
    # 4 targets, 2 restarts, 20 steps and a start.
    assert sum(seen) < 0.8 * 4 * 2 * 21 * 60
    assert min(seen[-20:]) == round(left * 60)


def test_seeds_reproduce_and_batches_do_not_matter():
    model, images = shared_model(), make_images()
    labels = predictions(model, images)
    options = {"epsilon": 0.05, "steps": 6, "restarts": 2}
    whole = apgd(model, images, labels, seed=3, **options)
    again = apgd(model, images, labels, seed=3, **options)
    np.testing.assert_array_equal(whole, again)
    other = apgd(model, images, labels, seed=4, **options)
    assert np.abs(whole - other).max() > 0
    parts = [
        apgd(model, images[part], labels[part], seed=3, **options)
        for part in (slice(0, 5), slice(5, 12))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_restarts_find_no_less():
    model, images = shared_model(1, order=4), make_images(60, seed=2)
    labels = predictions(model, images)

    def left(restarts):
        adversarial = apgd(
            model, images, labels, 0.15, 3, restarts=restarts, seed=0
        )
        return np.sum(predictions(model, adversarial) == labels)

    assert left(5) <= left(1)


def test_a_loop_over_batches_traces_once():
    model = counting(make_model())
    apgd_t(model, make_images(3), make_labels(3), 0.1, 5, seed=0)
    after_first = model.traced
    assert after_first <= 5
    for count in (3, 12, 5, 1):
        images, labels = make_images(count), make_labels(count)
        apgd_t(model, images, labels, 0.05, count, targets=2, restarts=2)
    assert model.traced == after_first


def test_saturated_softmax_stops_cross_entropy_and_not_the_ratio():
    # Logits hundreds apart: the gradient of the cross-entropy is 0.
    kernel = 4000 * np.array([[1.0, -1.0, 0.0, 0.1], [0.3, 1.0, -1.0, 0.2]])
    model = Ranged([keras.Input((2,)), keras.layers.Dense(4)])
    model.layers[-1].set_weights([kernel, np.zeros(4)])
    images = np.array([[0.2, 0.0], [0.15, 0.02]], "float32")
    labels = predictions(model, images)
    stuck = pgd(model, images, labels, 0.3, 20, 0.05)
    np.testing.assert_array_equal(stuck, images)
    for attack in (apgd_t, lambda *a: apgd(*a, loss="dlr", seed=0)):
        adversarial = attack(model, images, labels, 0.3)
        assert (predictions(model, adversarial) != labels).all()


def test_pn10_is_not_robust_although_cross_entropy_says_so():
    """On 15 % of the images its cross-entropy gradient is exactly zero."""
    model = zoo.load("pn10.fashion_mnist")
    dataset = data.load("fashion_mnist_sample")
    images = np.asarray(model.preprocessor(dataset.x_test[:200]))
    examples = images, np.asarray(dataset.y_test[:200])
    accuracies = [
        robust_accuracy(model, examples, attack, verbose=0)
        for attack in ("pgd:0.3,20,0.03", "pgd:0.3,100,0.01", "apgd_t:0.3,40")
    ]
    assert accuracies[0] > 0.1 and accuracies[1] > 0.1
    assert accuracies[2] < 0.01


def test_a_linear_model_is_broken_where_it_can_be():
    model = Ranged([keras.Input((2,)), keras.layers.Dense(4)])
    kernel = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.1, -0.1]])
    model.layers[-1].set_weights([kernel, np.zeros(4)])
    # The margin of class 0 over class 1 is 2 z_1, an ε of 0.2 takes 0.4.
    images = np.array([[0.15, 0.0], [0.5, 0.0]], "float32")
    labels = np.zeros(2, "int32")
    adversarial = apgd_t(model, images, labels, 0.2, 10, seed=0)
    assert predictions(model, adversarial).tolist()[1] == 0
    assert predictions(model, adversarial).tolist()[0] != 0
    # And the one that holds is the nearest to falling.
    assert adversarial[1, 0] == pytest.approx(0.3)


def test_two_classes_are_enough_for_cross_entropy():
    model = linear_model([[1.0, 0.0], [0.0, -1.0]])
    images, labels = np.array([[0.1, 0.0]]), np.array([0])
    adversarial = apgd(model, images, labels, 0.25, 10, seed=0)
    assert predictions(model, adversarial) == [1]
