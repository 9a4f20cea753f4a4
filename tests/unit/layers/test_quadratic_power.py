"""What is kept for the backward pass, and that the gradients are right."""

import gc
import json
import subprocess
import sys
import textwrap
import weakref

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.layers import quadratic

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="the square is computed again on TensorFlow only",
)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    arguments = {
        "gate_kernel_initializer": "glorot_uniform",
        "power_kernel_initializer": "glorot_uniform",
        "dtype": "float64",
    }
    return keras.Sequential(
        [
            keras.Input((5, 5, 2), dtype="float64"),
            layers.QuadraticConv2D(3, 3, activation="tanh", **arguments),
            layers.QuadraticConv2D(2, 2, neuron="compact", **arguments),
            keras.layers.Flatten(dtype="float64"),
            layers.QuadraticDense(2, **arguments),
        ]
    )


@pytest.fixture
def x():
    import tensorflow as tf

    return tf.constant(np.random.default_rng(0).normal(size=(3, 5, 5, 2)))


def plain(monkeypatch):
    """Makes layers keep the square."""
    monkeypatch.setattr(quadratic, "recomputed", lambda f, x: f(x))


def derivatives(model, x):
    """Returns the gradients, and those of their squared norm."""
    import tensorflow as tf

    variables = [x, *(v.value for v in model.trainable_variables)]
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(tf.sin(model(x)))
        first = inner.gradient(loss, variables)
        size = tf.reduce_sum(first[0] ** 2)
    return first + outer.gradient(size, variables)


@pytest.mark.parametrize("kind", ["eager", "graph", "xla"])
def test_first_and_second_derivatives(model, x, kind, monkeypatch):
    import tensorflow as tf

    function = derivatives
    if kind != "eager":
        function = tf.function(derivatives, jit_compile=kind == "xla")
    ours = function(model, x)
    plain(monkeypatch)
    for a, b in zip(ours, derivatives(model, x), strict=True):
        assert np.abs(b).max() > 1e-3
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_gradient_of_a_product_of_two_maps(x):
    """Xu et al.: dX = (G * X W_1) W_2' + (G * X W_2) W_1', and so on."""
    import tensorflow as tf

    layer = layers.QuadraticDense(4, neuron="type4", dtype="float64")
    x = tf.reshape(x, [15, 10])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(tf.sin(y))
    kernels = [layer.linear.kernel.value, layer.gate.kernel.value]
    ours = tape.gradient(loss, [x, *kernels])
    z, (u, v), g = x.numpy(), (k.numpy() for k in kernels), np.cos(y)
    for a, b in zip(
        ours,
        [
            (g * (z @ u)) @ v.T + (g * (z @ v)) @ u.T,
            z.T @ (g * (z @ v)),
            z.T @ (g * (z @ u)),
        ],
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("keep", [False, True])
def test_the_square_is_not_kept(x, keep, monkeypatch):
    import tensorflow as tf

    squares = []
    square = quadratic.ops.square

    def watched(value):
        result = square(value)
        squares.append(weakref.ref(result))
        return result

    monkeypatch.setattr(quadratic.ops, "square", watched)
    if keep:
        plain(monkeypatch)
    layer = layers.QuadraticConv2D(3, 3, dtype="float64")
    with tf.GradientTape() as tape:
        y = layer(x)
        gc.collect()
        assert len(squares) == 1
        assert (squares[0]() is not None) == keep
    tape.gradient(y, layer.power.kernel.value)
    assert len(squares) == (1 if keep else 2)


def test_an_overflow_reaches_the_gradients(model, x):
    """So that loss scaling finds it; what is finite stays as it is."""
    import tensorflow as tf

    @tf.function
    def gradient(upstream):
        with tf.GradientTape() as tape:
            y = model(x)
        return tape.gradient(y, model.trainable_variables[0].value, upstream)

    upstream = np.ones((3, 2))
    assert np.isfinite(gradient(tf.constant(upstream))).all()
    upstream[0, 0] = np.nan
    assert not np.isfinite(gradient(tf.constant(upstream))).all()


def test_an_empty_batch(model):
    import tensorflow as tf

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x))
        return tape.gradient(loss, model.trainable_variables[0].value)

    assert np.all(gradient(tf.zeros((0, 5, 5, 2), tf.float64)) == 0)


def test_frozen_power(x):
    """A map that is not trained leaves the others their gradients."""
    import tensorflow as tf

    layer = layers.QuadraticConv2D(3, 3, dtype="float64")
    layer.build(x.shape)
    layer.power.trainable = False
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    gradients = tape.gradient(
        y, [x, *(v.value for v in layer.trainable_variables)]
    )
    assert len(gradients) == 5
    assert all(g is not None for g in gradients)


def test_two_replicas_and_xla_train_as_one():
    code = """
    import json
    import keras
    import numpy as np
    import tensorflow as tf
    from keras_polynets import layers

    cpu = tf.config.list_physical_devices("CPU")[0]
    part = tf.config.LogicalDeviceConfiguration()
    tf.config.set_logical_device_configuration(cpu, [part] * 2)

    def weights(scope, **arguments):
        keras.utils.set_random_seed(0)
        with scope:
            model = keras.Sequential(
                [
                    keras.Input((6, 6, 2)),
                    layers.QuadraticConv2D(3, 3, activation="relu"),
                    keras.layers.Flatten(),
                    layers.QuadraticDense(2, neuron="compact"),
                ]
            )
            model.compile(keras.optimizers.SGD(0.02), "mse", **arguments)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(8, 6, 6, 2)).astype("float32")
        y = rng.normal(size=(8, 2)).astype("float32")
        model.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    with tf.device("CPU:0"):
        one = weights(tf.device("CPU:0"))
        xla = weights(tf.device("CPU:0"), jit_compile=True)
    two = weights(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope())
    print(json.dumps([float(abs(w - one).max()) for w in (xla, two)]))
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    differences = json.loads(process.stdout.splitlines()[-1])
    assert max(differences) < 1e-5
