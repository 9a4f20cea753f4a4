"""Derivatives by the input against formulas, on every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets.regularizers import JacobianPenalty
from keras_polynets.train_steps import derivatives

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(6, 3)).astype("float32")
X = RNG.normal(size=(5, 6)).astype("float32")


def square_logits(x):
    # J_ck = 2 w_kc x_k.
    return ops.matmul(ops.square(x), ops.convert_to_tensor(WEIGHTS))


def numpy(value):
    return keras.ops.convert_to_numpy(value)


def test_products_and_what_comes_with_them():
    vectors = [np.eye(3, dtype="float32")[[c] * 5] for c in range(3)]
    outputs, aux, products = derivatives.vector_jacobian_products(
        lambda x: (square_logits(x), {"x": x + 1}),
        ops.convert_to_tensor(X),
        [ops.convert_to_tensor(v) for v in vectors],
    )
    np.testing.assert_allclose(numpy(outputs), X**2 @ WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose(numpy(aux["x"]), X + 1)
    for c, product in enumerate(products):
        np.testing.assert_allclose(
            numpy(product), 2 * X * WEIGHTS[:, c], rtol=1e-5
        )


def test_losses_and_gradient():
    losses, _, gradient = derivatives.losses_and_gradient(
        lambda x: (ops.sum(x**3, axis=-1), ()), ops.convert_to_tensor(X)
    )
    np.testing.assert_allclose(numpy(losses), (X**3).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(numpy(gradient), 3 * X**2, rtol=1e-5)


def frobenius():
    jacobians = 2 * X[:, None, :].astype("float64") * WEIGHTS.T
    return np.mean((jacobians**2).sum(axis=(1, 2)))


def test_exact_penalty_is_the_formula():
    penalty = JacobianPenalty(0.5, projections=None)
    value = penalty(square_logits, ops.convert_to_tensor(X), 3)
    assert float(value) == pytest.approx(0.25 * frobenius(), rel=1e-5)


@pytest.mark.parametrize("projections", [1, 4])
def test_estimate_is_unbiased(projections):
    seed = keras.random.SeedGenerator(0)
    penalty = JacobianPenalty(2.0, projections)
    x = ops.convert_to_tensor(X)
    values = [
        float(penalty(square_logits, x, 3, seed))
        for _ in range(800 // projections)
    ]
    assert np.std(values) > 0
    error = np.std(values) / np.sqrt(len(values))
    assert np.mean(values) == pytest.approx(frobenius(), abs=4 * error)
    assert error < 0.05 * frobenius()


def test_images_with_channels():
    x = RNG.normal(size=(4, 2, 3, 2)).astype("float32")
    kernel = RNG.normal(size=(12, 3)).astype("float32")

    def logits(x):
        flat = ops.reshape(x, (-1, 12))
        return ops.matmul(flat, ops.convert_to_tensor(kernel))

    penalty = JacobianPenalty(2.0, projections=None)
    value = penalty(logits, ops.convert_to_tensor(x), 3)
    assert float(value) == pytest.approx((kernel**2).sum(), rel=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"weight": -1}, "a finite number of at least 0. Received: weight=-1"),
        ({"weight": "a"}, "`weight` must be a finite number of at least 0"),
        ({"weight": float("inf")}, "`weight` must be a finite number"),
        ({"weight": True}, "`weight` must be a finite number"),
        ({"projections": 0}, "`projections` must be an integer of at least 1"),
    ],
)
def test_bad_arguments_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        JacobianPenalty(**arguments)


def test_config_round_trip():
    penalty = JacobianPenalty(0.25, projections=None)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(penalty)
    )
    assert isinstance(again, JacobianPenalty)
    assert again.get_config() == {"weight": 0.25, "projections": None}


def test_weight_may_be_any_number():
    assert JacobianPenalty(np.float32(0.25)).get_config()["weight"] == 0.25
