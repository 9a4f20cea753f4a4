import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="differences need float64"
)
def test_orders_multiply():
    ones = {
        "factor_initializer": "ones",
        "kernel_initializer": "ones",
        "dtype": "float64",
    }
    layer = layers.ProdPoly(
        [
            layers.CCP(1, 1, 2, **ones),
            layers.NCP(1, 1, 3, state_initializer="ones", **ones),
            layers.NCPSkip(1, 1, 2, state_initializer="ones", **ones),
        ],
        dtype="float64",
    )
    assert layer.order == 12
    # Integers, so that the differences are exact.
    line = ops.convert_to_tensor(np.arange(-7.0, 8)[:, None], "float64")
    values = ops.convert_to_numpy(layer(line))[:, 0]
    np.testing.assert_array_equal(np.diff(values, n=13), 0)
    np.testing.assert_array_equal(np.diff(values, n=12), math.factorial(12))


def test_is_the_chain_of_its_polynomials():
    first, second = layers.CCP(4, 5, 2), layers.NCP(2, 5, 3)
    layer = layers.ProdPoly([first, second])
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)),
        ops.convert_to_numpy(second(first(x))),
        rtol=1e-6,
    )
    assert layer.compute_output_shape((None, 3)) == (None, 2)
    assert len(layer.trainable_variables) == len(
        first.trainable_variables
    ) + len(second.trainable_variables)


def test_products_of_products():
    inner = layers.ProdPoly([layers.CCP(3, 2, 2), layers.CCP(3, 2, 2)])
    assert layers.ProdPoly([inner, layers.CCP(3, 2, 3)]).order == 12


@pytest.mark.parametrize("polynomials", [[], [lambda x: x], ["ccp"]])
def test_needs_polynomials(polynomials):
    with pytest.raises(ValueError, match="list of one or more polynomial"):
        layers.ProdPoly(polynomials)
