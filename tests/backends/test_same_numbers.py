"""Every backend trains pn4 to the numbers of a reference in NumPy.

The reference is float64 and knows neither Keras nor the package: the forward
pass of CCP, its gradients, SGD with momentum and the projection by sorting.
Weights and the order of the batches are drawn by NumPy.
"""

import keras
import numpy as np
import pytest

from keras_polynets import callbacks
from keras_polynets import data
from keras_polynets import zoo

ORDER, RANK, CLASSES, STEPS, BATCH = 4, 16, 10, 100, 64
RATE, MOMENTUM, BOUND, EVERY = 0.002, 0.9, 2.0, 10
TOLERANCE = 1e-4 / 2


def project(weights, bound):
    """Projects each column onto the l1 ball, by sorting (Duchi et al.)."""
    size = np.abs(weights)
    descending = -np.sort(-size, axis=0)
    count = np.arange(1, len(weights) + 1)[:, None]
    thresholds = (np.cumsum(descending, axis=0) - bound) / count
    last = (descending > thresholds).sum(axis=0) - 1
    threshold = np.take_along_axis(thresholds, last[None], axis=0)
    cut = np.sign(weights) * np.maximum(size - threshold, 0)
    return np.where(size.sum(axis=0) <= bound, weights, cut)


def step(factors, output, bias, z, labels):
    """Returns the mean cross-entropy of a batch and its gradients."""
    u = np.split(z @ factors, ORDER, axis=1)
    x = [u[0]]
    for factor in u[1:]:
        x.append(factor * x[-1] + x[-1])
    logits = x[-1] @ output + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(z))
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    d_logits = p / len(z)
    d_x = d_logits @ output.T
    d_u = [None] * ORDER
    for n in range(ORDER - 1, 0, -1):
        d_u[n] = d_x * x[n - 1]
        d_x = d_x * (1 + u[n])
    d_u[0] = d_x
    return loss, (
        z.T @ np.concatenate(d_u, axis=1),
        x[-1].T @ d_logits,
        d_logits.sum(axis=0),
    )


def reference(weights, images, labels, projected):
    weights = [w.astype("float64") for w in weights]
    velocities = [np.zeros_like(w) for w in weights]
    losses = []
    for number in range(STEPS):
        part = slice(number * BATCH, (number + 1) * BATCH)
        loss, gradients = step(*weights, images[part], labels[part])
        losses.append(loss)
        for w, v, gradient in zip(weights, velocities, gradients, strict=True):
            v *= MOMENTUM
            v -= RATE * gradient
            w += v
        if projected and (number + 1) % EVERY == 0:
            factors, output, bias = weights
            joint = project(np.vstack([output, bias]), BOUND)
            weights = [project(factors, BOUND), joint[:-1], joint[-1]]
    return np.mean(losses), weights


@pytest.fixture(scope="module")
def batches():
    sample = data.load("fashion_mnist_sample")
    generator = np.random.default_rng(0)
    order = generator.permutation(len(sample.y_train))[: STEPS * BATCH]
    images = sample.x_train[order].reshape(len(order), -1) / 127.5 - 1
    return images, sample.y_train[order]


@pytest.mark.parametrize("projected", [False, True])
def test_a_hundred_steps(batches, projected):
    images, labels = batches
    generator = np.random.default_rng(1)
    weights = [
        generator.uniform(-1, 1, (784, ORDER * RANK)) / 28,
        generator.uniform(-1, 1, (RANK, CLASSES)) / 4,
        generator.uniform(-1, 1, CLASSES) / 4,
    ]
    weights = [w.astype("float32") for w in weights]
    expected_loss, expected = reference(weights, images, labels, projected)

    model = zoo.load("pn4", weights=None)
    optimizer = {"name": "sgd", "learning_rate": RATE, "momentum": MOMENTUM}
    zoo.compile_model(model, optimizer)
    model.set_weights(weights)
    history = model.fit(
        images.reshape(-1, 28, 28, 1).astype("float32"),
        labels,
        batch_size=BATCH,
        shuffle=False,
        verbose=0,
        callbacks=[callbacks.PeriodicProjection(BOUND, every=EVERY)]
        if projected
        else [],
    )
    assert abs(history.history["loss"][0] - expected_loss) < TOLERANCE
    for found, wanted in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)
    if projected:
        norms = np.abs(model.get_weights()[0]).sum(axis=0)
        assert norms.max() <= BOUND * (1 + 1e-6)


def test_projection_of_the_reference():
    np.testing.assert_allclose(
        project(np.array([[3.0, 1.0], [-1.0, -1.0], [0.5, 0.5]]), 1.0),
        [[1, 0.5], [0, -0.5], [0, 0]],
    )


def test_gradients_of_the_reference(batches):
    images, labels = batches[0][:8], batches[1][:8]
    generator = np.random.default_rng(2)
    weights = [
        generator.normal(size=(784, ORDER * RANK)) / 28,
        generator.normal(size=(RANK, CLASSES)),
        generator.normal(size=CLASSES),
    ]
    _, gradients = step(*weights, images, labels)
    for index, gradient in enumerate(gradients):
        direction = generator.normal(size=gradient.shape)
        sides = []
        for sign in (1, -1):
            moved = list(weights)
            moved[index] = weights[index] + sign * 1e-6 * direction
            sides.append(step(*moved, images, labels)[0])
        slope = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(
            (gradient * direction).sum(), slope, rtol=1e-6
        )


def test_the_backend_is_the_one_asked_for():
    import os

    assert keras.backend.backend() == os.environ.get(
        "KERAS_BACKEND", "tensorflow"
    )
