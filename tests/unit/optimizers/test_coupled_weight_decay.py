"""Weight decay that is part of the gradient."""

import keras
import numpy as np
import pytest

from keras_polynets.optimizers import CoupledWeightDecay
from keras_polynets.optimizers import LossScaleOptimizer
from tests.unit.optimizers.saving import check_saved_model_brings_back
from tests.unit.optimizers.saving import make_model


def torch_sgd(weights, gradient, steps, rate, momentum, decay):
    """PyTorch's SGD, written down: v = m v + (g + d w); w = w - rate v."""
    velocity = np.zeros_like(weights)
    for _ in range(steps):
        velocity = momentum * velocity + gradient(weights) + decay * weights
        weights = weights - rate * velocity
    return weights


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
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(variable), [1.9, -2.9], rtol=1e-5
    )


def test_missing_gradients_stay_missing():
    first, second = keras.Variable([1.0]), keras.Variable([1.0])
    optimizer = CoupledWeightDecay(keras.optimizers.SGD(1.0), 0.5)
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([keras.ops.zeros(1), None], [first, second])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(first), [0.5])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(second), [1.0])


def test_static_loss_scale_leaves_the_decay_alone():
    variable = keras.Variable([1.0])
    inner = keras.optimizers.SGD(1.0, loss_scale_factor=8.0)
    optimizer = CoupledWeightDecay(inner, 0.5)
    assert optimizer.scale_loss(1.0) == 8.0
    optimizer.apply([keras.ops.ones(1) * 0.8], [variable])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(variable), [1 - 0.1 - 0.5], rtol=1e-6
    )


def test_dynamic_loss_scale_around_the_decay():
    variable = keras.Variable([1.0])
    optimizer = LossScaleOptimizer(
        CoupledWeightDecay(keras.optimizers.SGD(1.0), 0.5), initial_scale=16.0
    )
    optimizer.build([variable])
    if keras.backend.backend() == "jax":
        pytest.skip("Keras applies it statelessly there")
    optimizer.apply([keras.ops.ones(1) * 1.6], [variable])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(variable), [1 - 0.1 - 0.5], rtol=1e-6
    )


def test_learning_rate_can_be_read_and_set():
    optimizer = CoupledWeightDecay(keras.optimizers.SGD(0.5), 0.1)
    optimizer.learning_rate = 0.25
    assert float(optimizer.inner_optimizer.learning_rate) == 0.25
    assert float(optimizer.learning_rate) == 0.25


def test_saved_model_brings_the_optimizer_back(tmp_path):
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    check_saved_model_brings_back(
        CoupledWeightDecay(inner, 0.05), tmp_path / "model.keras"
    )


def test_arguments_are_checked():
    sgd = keras.optimizers.SGD(0.1)
    with pytest.raises(ValueError, match="`weight_decay` must be at least 0"):
        CoupledWeightDecay(sgd, -1e-4)
    with pytest.raises(ValueError, match="a decoupled weight decay of its own"):
        CoupledWeightDecay(keras.optimizers.SGD(0.1, weight_decay=0.1), 0.1)
    with pytest.raises(ValueError, match="Wrap the other way round"):
        CoupledWeightDecay(LossScaleOptimizer(sgd), 0.1)


CLIPPED = {}, {"clipnorm": 0.1}, {"clipvalue": 0.1}, {"global_clipnorm": 0.1}
DECAY = f"""
x = np.arange(12, dtype="float32").reshape(4, 3) / 10
found = []
for clipped in {CLIPPED}:
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)),
            keras.layers.Dense(1, kernel_initializer="ones")])
        model.compile(optimizers.CoupledWeightDecay(
            keras.optimizers.SGD(0.1, momentum=0.9, **clipped), 0.05), "mse")
    model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0)
    found += [*model.weights[0].numpy().ravel()]
print("RESULT", *found)
"""


def test_steps_do_not_depend_on_the_number_of_replicas(run_on_replicas):
    received = np.array(run_on_replicas(DECAY)["RESULT"], "float64")
    x, expected = np.arange(12, dtype="float32").reshape(4, 3) / 10, []
    for clipped in CLIPPED:
        model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(1, kernel_initializer="ones"),
            ]
        )
        sgd = keras.optimizers.SGD(0.1, momentum=0.9, **clipped)
        model.compile(CoupledWeightDecay(sgd, 0.05), "mse")
        model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0)
        expected.append(model.weights[0].numpy().ravel())
    np.testing.assert_allclose(received, np.concatenate(expected), rtol=1e-5)
    # All are clipped, each in its way.
    assert np.abs(np.diff(expected, axis=0)).max(axis=1).min() > 1e-3
