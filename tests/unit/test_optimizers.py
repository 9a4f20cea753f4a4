"""Coupled weight decay and loss scaling on several replicas."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_polynets.optimizers import CoupledWeightDecay
from keras_polynets.optimizers import LossScaleOptimizer


def torch_sgd(weights, gradient, steps, rate, momentum, decay):
    """PyTorch's SGD, written down: v = m v + (g + d w); w = w - rate v."""
    velocity = np.zeros_like(weights)
    for _ in range(steps):
        velocity = momentum * velocity + gradient(weights) + decay * weights
        weights = weights - rate * velocity
    return weights


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(1, bias_initializer="ones"),
        ]
    )
    return model


@pytest.mark.parametrize("jit_compile", [False, True])
def test_equals_pytorch_sgd_with_momentum(jit_compile):
    model = make_model()
    x = np.array([[1.0, -2.0, 0.5], [0.3, 0.7, -1.0]], "float32")
    y = np.array([[1.0], [-1.0]], "float32")
    lifted = np.concatenate([x, np.ones((2, 1))], axis=1)

    def gradient(w):
        return 2 / 2 * lifted.T @ (lifted @ w - y)

    start = np.concatenate([w.numpy().reshape(-1, 1) for w in model.weights])
    expected = torch_sgd(start, gradient, 5, 0.1, 0.9, 0.05)
    model.compile(
        CoupledWeightDecay(keras.optimizers.SGD(0.1, momentum=0.9), 0.05),
        "mse",
        jit_compile=jit_compile,
    )
    model.fit(x, y, batch_size=2, epochs=5, verbose=0)
    received = np.concatenate([w.numpy().reshape(-1, 1) for w in model.weights])
    np.testing.assert_allclose(received, expected, rtol=1e-5)


def test_adam_adapts_the_decay_too():
    # With no other gradient, Adam's first step is the rate, whatever the decay.
    variable = keras.Variable([2.0, -3.0])
    optimizer = CoupledWeightDecay(keras.optimizers.Adam(0.1), 0.01)
    optimizer.apply([keras.ops.zeros(2)], [variable])
    np.testing.assert_allclose(variable.value, [1.9, -2.9], rtol=1e-5)


def test_missing_gradients_stay_missing():
    first, second = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = CoupledWeightDecay(keras.optimizers.SGD(1.0), 0.5)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([keras.ops.zeros(1), None], [first, second])
    np.testing.assert_allclose(first.value, [0.5])
    np.testing.assert_allclose(second.value, [1.0])


def test_static_loss_scale_leaves_the_decay_alone():
    variable = keras.Variable([1.0])
    inner = keras.optimizers.SGD(1.0, loss_scale_factor=8.0)
    optimizer = CoupledWeightDecay(inner, 0.5)
    assert optimizer.scale_loss(1.0) == 8.0
    optimizer.apply([keras.ops.ones(1) * 0.8], [variable])
    np.testing.assert_allclose(variable.value, [1 - 0.1 - 0.5], rtol=1e-6)


def test_dynamic_loss_scale_around_the_decay():
    variable = keras.Variable([1.0])
    optimizer = LossScaleOptimizer(
        CoupledWeightDecay(keras.optimizers.SGD(1.0), 0.5), initial_scale=16.0
    )
    optimizer.build([variable])
    if keras.backend.backend() == "jax":
        pytest.skip("Keras applies it statelessly there")
    optimizer.apply([keras.ops.ones(1) * 1.6], [variable])
    np.testing.assert_allclose(variable.value, [1 - 0.1 - 0.5], rtol=1e-6)


def test_learning_rate_can_be_read_and_set():
    optimizer = CoupledWeightDecay(keras.optimizers.SGD(0.5), 0.1)
    optimizer.learning_rate = 0.25
    assert float(optimizer.inner_optimizer.learning_rate) == 0.25
    assert float(optimizer.learning_rate) == 0.25


@pytest.mark.parametrize("kind", [CoupledWeightDecay, LossScaleOptimizer])
def test_saved_model_brings_the_optimizer_back(tmp_path, kind):
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    options = {"weight_decay": 0.05} if kind is CoupledWeightDecay else {}
    model = make_model()
    model.compile(kind(inner, **options), "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer) is kind
    for m in (model, again):
        m.fit(x, y, verbose=0, epochs=2)
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-6)


def test_arguments_are_checked():
    sgd = keras.optimizers.SGD(0.1)
    with pytest.raises(ValueError, match="`weight_decay` must be at least 0"):
        CoupledWeightDecay(sgd, -1e-4)
    with pytest.raises(ValueError, match="a decoupled weight decay of its own"):
        CoupledWeightDecay(keras.optimizers.SGD(0.1, weight_decay=0.1), 0.1)
    with pytest.raises(ValueError, match="Wrap the other way round"):
        CoupledWeightDecay(LossScaleOptimizer(sgd), 0.1)


REPLICAS = """
import sys
import numpy as np, tensorflow as tf, keras
from keras_polynets import optimizers
cpu = tf.config.list_physical_devices("CPU")[0]
part = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [part] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""

OVERFLOW = """
kind = getattr(sys.modules[sys.argv[1]].optimizers, "LossScaleOptimizer")
with strategy.scope():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, dtype="mixed_float16")])
    optimizer = kind(keras.optimizers.SGD(0.01), initial_scale=4.0)
    model.compile(optimizer, "mse", auto_scale_loss=False)
# The second replica's half of the batch overflows float16, the first's not.
x = np.ones((8, 2), "float32")
x[4:] = 3e4
before = [np.array(w.numpy()) for w in model.weights]
model.fit(x, np.ones((8, 1)), batch_size=8, shuffle=False, verbose=0)
weights = [w.numpy() for w in model.weights]
finite = all(np.isfinite(w).all() for w in weights)
same = finite and all((a == b).all() for a, b in zip(before, weights))
print("RESULT", finite, same, float(optimizer.dynamic_scale.numpy()))
x[4:] = 1
model.fit(x, np.ones((8, 1)), batch_size=8, shuffle=False, verbose=0)
print("AFTER", all(np.isfinite(w.numpy()).all() for w in model.weights),
      int(np.array(optimizer.iterations.value)))
"""

DECAY = """
with strategy.scope():
    model = keras.Sequential([keras.Input((3,)),
        keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(optimizers.CoupledWeightDecay(
        keras.optimizers.SGD(0.1, momentum=0.9), 0.05), "mse")
x = np.arange(12, dtype="float32").reshape(4, 3) / 10
model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0)
print("RESULT", *model.weights[0].numpy().ravel())
"""


def run_on_replicas(code, *arguments):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute is TensorFlow's")
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS + code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert "RESULT" in done.stdout, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    return {w[0]: w[1:] for w in map(str.split, lines) if w}


def test_overflow_on_one_replica_skips_the_step_on_all():
    lines = run_on_replicas(OVERFLOW, "keras_polynets")
    assert lines["RESULT"] == ["True", "True", "2.0"]
    assert lines["AFTER"] == ["True", "1"]


def test_keras_still_needs_the_mend():
    # When this fails, `optimizers.LossScaleOptimizer` has become needless.
    assert run_on_replicas(OVERFLOW, "keras")["RESULT"][0] == "False"


def test_decay_does_not_depend_on_the_number_of_replicas():
    received = np.array(run_on_replicas(DECAY)["RESULT"], "float64")
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")]
    )
    model.compile(
        CoupledWeightDecay(keras.optimizers.SGD(0.1, momentum=0.9), 0.05), "mse"
    )
    x = np.arange(12, dtype="float32").reshape(4, 3) / 10
    model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0)
    expected = model.weights[0].numpy().ravel()
    np.testing.assert_allclose(received, expected, rtol=1e-5)
