"""The projection onto balls of the spectral norm."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import callbacks
from keras_polynets import constraints
from keras_polynets import zoo
from keras_polynets.constraints import SpectralNorm

# JAX has no float64 by default, and Keras on PyTorch few.
TOLERANCE = 1e-6 if keras.backend.backend() == "tensorflow" else 1e-4


def clipped(matrix, radius):
    """Clips the singular values, by NumPy in float64."""
    u, s, vt = np.linalg.svd(matrix.astype("float64"), full_matrices=False)
    return u * np.minimum(s, radius) @ vt


def project(kernel, bound, bias=None):
    parts = constraints.project_spectral(
        ops.convert_to_tensor(kernel),
        bound,
        None if bias is None else ops.convert_to_tensor(bias),
    )
    if bias is None:
        return ops.convert_to_numpy(parts)
    return tuple(map(ops.convert_to_numpy, parts))


def make(shape, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=shape)).astype("float32")


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (12, 12), (7, 1), (1, 5)])
@pytest.mark.parametrize("radius", [0.3, 2.0, 100.0])
def test_equals_the_clipped_decomposition(shape, radius):
    kernel = make(shape)
    np.testing.assert_allclose(
        project(kernel, radius), clipped(kernel, radius), atol=10 * TOLERANCE
    )


def test_a_single_row_is_cut_to_the_bound_and_not_to_one():
    # The code released with the paper divides such a row by its norm.
    column = np.array([[3.0], [4.0]], "float32")
    np.testing.assert_allclose(
        project(column, 2.0), [[1.2], [1.6]], atol=TOLERANCE
    )
    np.testing.assert_array_equal(project(column, 6.0), column)


def test_kernels_inside_keep_their_bits():
    kernel = make((20, 6))
    norm = np.linalg.norm(kernel.astype("float64"), 2)
    np.testing.assert_array_equal(project(kernel, float(norm)), kernel)
    once = project(kernel, norm / 2)
    np.testing.assert_array_equal(project(once, norm / 2), once)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="has no float64 by default"
)
def test_large_norms_lose_no_digits():
    kernel = make((50, 6), scale=1e3)
    np.testing.assert_allclose(
        project(kernel, 0.01), clipped(kernel, 0.01), atol=1e-7
    )


def test_is_the_nearest_point_of_the_ball():
    kernel = make((10, 4))
    nearest = project(kernel, 1.0)
    distance = np.linalg.norm(nearest - kernel)
    for seed in range(20):
        other = nearest + make((10, 4), 0.05, seed)
        other = clipped(other, 1.0)
        assert np.linalg.norm(other - kernel) >= distance - 1e-5


def test_blocks_are_matrices_of_their_own():
    kernel = make((9, 12))
    found = project(kernel, (0.5, 1.0, 20.0))
    for block, radius in enumerate((0.5, 1.0, 20.0)):
        part = slice(4 * block, 4 * block + 4)
        np.testing.assert_allclose(
            found[:, part], clipped(kernel[:, part], radius), atol=TOLERANCE * 5
        )
    with pytest.raises(
        ValueError, match="Received 5 bounds for a kernel of 12"
    ):
        project(kernel, (1.0,) * 5)


def test_convolutions_and_joint_biases():
    kernel, bias = make((3, 3, 2, 5)), make((5,), seed=1)
    found_kernel, found_bias = project(kernel, 1.0, bias)
    whole = clipped(np.vstack([kernel.reshape(18, 5), bias]), 1.0)
    np.testing.assert_allclose(
        found_kernel.reshape(18, 5), whole[:-1], atol=TOLERANCE * 5
    )
    np.testing.assert_allclose(found_bias, whole[-1], atol=TOLERANCE * 5)


def test_values_that_are_not_finite_become_nan_in_their_block():
    kernel = make((6, 4))
    kernel[2, 0] = np.inf
    found = project(kernel, (1.0, 1.0))
    assert np.isnan(found[:, :2]).all() and np.isfinite(found[:, 2:]).all()


def test_constraint_of_a_layer():
    layer = keras.layers.Dense(4, kernel_constraint=SpectralNorm(0.5))
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(make((8, 6)), make((8, 4), seed=1))
    kernel = ops.convert_to_numpy(layer.kernel)
    assert np.linalg.norm(kernel, 2) <= 0.5 + 1e-5
    again = keras.constraints.get(
        keras.constraints.serialize(SpectralNorm([1.0, 2.0]))
    )
    assert type(again) is SpectralNorm
    assert again.get_config() == {"max_value": (1.0, 2.0)}
    with pytest.raises(ValueError, match="must be a number above 0"):
        SpectralNorm(0.0)
    with pytest.raises(ValueError, match="are NaN or infinite"):
        SpectralNorm(1.0)(np.full((2, 2), np.nan))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_periodic_projection_bounds_every_order(jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs single steps")
    model = zoo.load("test_pn", weights=None)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape) for w in model.weights])
    model.compile(
        keras.optimizers.SGD(1e-9), model.loss, jit_compile=jit_compile
    )
    before = {
        layer.name: ops.convert_to_numpy(layer.kernel).copy()
        for layer in constraints.linear_maps(model)
    }
    x = rng.uniform(-1, 1, (12, 4, 4, 1)).astype("float32")
    projection = callbacks.PeriodicProjection(
        1.5, every=2, norm="spectral", joint_bias=False
    )
    model.fit(x, np.arange(12) % 3, verbose=0, callbacks=[projection])
    for layer in constraints.linear_maps(model):
        orders = 3 if layer.name == "factors" else 1
        kernel = ops.convert_to_numpy(layer.kernel)
        parts = np.split(kernel, orders, axis=1)
        for part, old in zip(
            parts, np.split(before[layer.name], orders, axis=1), strict=True
        ):
            np.testing.assert_allclose(part, clipped(old, 1.5), atol=1e-5)


def test_unknown_norms_are_explained():
    with pytest.raises(ValueError, match="norm of a projection 'l2'.*'linf'"):
        callbacks.PeriodicProjection(1.0, norm="l2")
