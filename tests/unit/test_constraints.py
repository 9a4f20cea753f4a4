import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import constraints

# On PyTorch Keras keeps some float64 intermediates in float32.
TOLERANCE = 1e-6 if keras.backend.backend() == "torch" else 1e-13


def project_vector(vector, radius):
    """Projects one vector by sorting, as Duchi et al. (2008) do."""
    if np.abs(vector).sum() <= radius:
        return vector.copy()
    ordered = np.sort(np.abs(vector))[::-1]
    excess = np.cumsum(ordered) - radius
    counts = np.arange(1, len(vector) + 1)
    last = np.nonzero(ordered * counts > excess)[0][-1]
    threshold = excess[last] / counts[last]
    return np.sign(vector) * np.maximum(np.abs(vector) - threshold, 0)


def project_columns(matrix, radius):
    radii = np.broadcast_to(radius, matrix.shape[-1:])
    columns = [
        project_vector(c, r) for c, r in zip(matrix.T, radii, strict=True)
    ]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("radius", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("scale", [0.01, 0.3, 5.0])
def test_equals_projection_by_sorting(scale, radius):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(200, 16)) * rng.lognormal(sigma=2, size=16)
    matrix = (scale * matrix).astype("float64")
    ours = constraints.project(ops.convert_to_tensor(matrix, "float64"), radius)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours),
        project_columns(matrix, radius),
        # Newton's threshold carries the rounding of sums of large weights.
        atol=TOLERANCE * np.abs(matrix).max() / min(radius, 1),
    )


def test_ties_zeros_and_single_entries():
    matrix = np.array([[3.0, 1.0, 2.0, 0.0], [-1, -1, -2, 0], [0.5, 0.5, 2, 0]])
    ours = constraints.project(ops.convert_to_tensor(matrix, "float64"), 2.0)
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), project_columns(matrix, 2.0), atol=1e-7
    )
    np.testing.assert_allclose(ours[:, 0], [2, 0, 0], atol=1e-7)
    single = constraints.project(ops.convert_to_tensor([[5.0, -5, 0.5]]), 1.0)
    np.testing.assert_allclose(single, [[1, -1, 0.5]])


def test_published_examples():
    columns = np.array([[3.0], [-1.0], [0.5]])
    np.testing.assert_allclose(
        constraints.project(ops.convert_to_tensor(columns, "float64"), 2.0),
        [[2.0], [0.0], [0.0]],
    )
    columns = np.array([[1.0], [-1.0], [0.5]])
    np.testing.assert_allclose(
        constraints.project(ops.convert_to_tensor(columns, "float64"), 1.0),
        [[0.5], [-0.5], [0.0]],
    )


def test_units_inside_the_ball_keep_their_bits():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(30, 8)).astype("float32")
    kernel[:, ::2] /= np.abs(kernel[:, ::2]).sum(axis=0)
    ours = ops.convert_to_numpy(constraints.project(kernel, 1.0))
    np.testing.assert_array_equal(ours[:, ::2], kernel[:, ::2])
    assert (ours[:, 1::2] != kernel[:, 1::2]).all(axis=0).all()


def test_projects_once():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(784, 64)).astype("float32")
    once = constraints.project(kernel, 1.5)
    twice = constraints.project(once, 1.5)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(once), ops.convert_to_numpy(twice)
    )
    assert constraints.row_norms(once).max() <= 1.5 * (1 + 1e-6)


def test_large_bound_changes_nothing():
    kernel = np.random.default_rng(0).normal(size=(20, 5)).astype("float32")
    np.testing.assert_array_equal(constraints.project(kernel, 1e5), kernel)


def test_convolution_units_are_the_last_axis():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 6))
    ours = constraints.project(ops.convert_to_tensor(kernel, "float64"), 1.0)
    matrix = project_columns(kernel.reshape(36, 6), 1.0)
    np.testing.assert_allclose(ours, matrix.reshape(3, 3, 4, 6), atol=1e-12)


def test_bias_counts_as_one_more_weight():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(9, 4)), rng.normal(size=4)
    new_kernel, new_bias = constraints.project(
        ops.convert_to_tensor(kernel, "float64"),
        1.0,
        ops.convert_to_tensor(bias, "float64"),
    )
    joint = project_columns(np.vstack([kernel, bias]), 1.0)
    np.testing.assert_allclose(new_kernel, joint[:-1], atol=1e-12)
    np.testing.assert_allclose(new_bias, joint[-1], atol=1e-12)
    np.testing.assert_allclose(
        constraints.row_norms(new_kernel, new_bias), 1.0, atol=1e-12
    )


def test_one_bound_a_block_of_units():
    kernel = np.random.default_rng(0).normal(size=(50, 6))
    ours = constraints.LInfOperatorNorm([3.0, 2.0, 1.0])(
        ops.convert_to_tensor(kernel, "float64")
    )
    expected = project_columns(kernel, np.repeat([3.0, 2.0, 1.0], 2))
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_half_precision_is_summed_in_float32():
    kernel = ops.cast(ops.full((4096, 2), 0.01), "float16")
    ours = ops.convert_to_numpy(constraints.project(kernel, 20.48))
    assert ours.dtype == "float16"
    np.testing.assert_allclose(ours.astype("float64"), 0.005, rtol=1e-2)


def test_keras_applies_the_constraint():
    layer = keras.layers.Dense(
        3, kernel_constraint=constraints.LInfOperatorNorm(0.5)
    )
    model = keras.Sequential([keras.Input((7,)), layer])
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 7)), np.ones((8, 3)), verbose=0)
    assert constraints.row_norms(layer.kernel).max() <= 0.5 + 1e-6
    copy = keras.layers.Dense.from_config(layer.get_config())
    assert copy.kernel_constraint.max_value == 0.5


@pytest.mark.parametrize("bound", [0, -1.0, float("nan"), [1.0, 0.0], []])
def test_bounds_must_be_above_zero(bound):
    with pytest.raises(ValueError, match="must be a number above 0"):
        constraints.LInfOperatorNorm(bound)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_weights_are_named(value):
    values = np.ones((4, 2))
    values[1, 1] = value
    variable = keras.Variable(values, name="broken")
    with pytest.raises(ValueError, match="'broken': 1 of its 8 values"):
        constraints.LInfOperatorNorm(1.0)(variable)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_units_become_nan_when_compiled(value):
    kernel = np.full((4, 2), 0.1)
    kernel[1, 1] = value
    ours = ops.convert_to_numpy(constraints.project(kernel, 1.0))
    np.testing.assert_array_equal(ours[:, 0], kernel[:, 0])
    assert np.isnan(ours[:, 1]).all()


def test_linear_maps_reach_into_layers():
    dense = keras.layers.Dense(3, name="dense")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(2, 3, name="conv"),
            keras.Sequential(
                [keras.layers.Flatten(), dense, keras.layers.ReLU()]
            ),
        ]
    )
    names = [layer.name for layer in constraints.linear_maps(model)]
    assert names == ["conv", "dense"]
