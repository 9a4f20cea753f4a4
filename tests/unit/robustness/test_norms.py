import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import operator_norm

INF = float("inf")


def built(layer, shape, seed=0):
    layer.build((None, *shape))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def explicit_matrix(layer, shape):
    """The matrix of a linear layer, column by column."""
    size = int(np.prod(shape))
    basis = np.eye(size).reshape(size, *shape)
    outputs = keras.ops.convert_to_numpy(layer(basis))
    return outputs.reshape(size, -1).T.astype("float64")


@pytest.mark.parametrize("p", [1, 2, INF])
def test_dense_norm_is_that_of_its_matrix(p):
    layer = built(keras.layers.Dense(4, dtype="float64"), (5,))
    matrix = layer.get_weights()[0].T
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    expected = {
        1: np.abs(matrix).sum(axis=0).max(),
        2: singular_values[0],
        INF: np.abs(matrix).sum(axis=1).max(),
    }[p]
    assert operator_norm(layer, p) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("p", [1, 2, INF])
def test_dense_norm_bounds_and_is_reached(p):
    layer = built(keras.layers.Dense(3, use_bias=False), (4,), seed=1)
    matrix = layer.get_weights()[0].T
    rng = np.random.default_rng(0)
    points = rng.normal(size=(20_000, 4))
    if p == INF:
        points = np.sign(points)
    if p == 1:
        points = np.eye(4)
    ratios = np.linalg.norm(points @ matrix.T, p, axis=1)
    ratios /= np.linalg.norm(points, p, axis=1)
    assert ratios.max() <= operator_norm(layer, p) * (1 + 1e-6)
    assert ratios.max() >= operator_norm(layer, p) * 0.98


CONVOLUTIONS = {
    1: (keras.layers.Conv1D, (7,)),
    2: (keras.layers.Conv2D, (5, 6)),
    3: (keras.layers.Conv3D, (4, 3, 5)),
}


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution_norm_is_that_of_the_explicit_matrix(
    rank, padding, strides
):
    kind, size = CONVOLUTIONS[rank]
    shape = (*size, 2)
    layer = kind(
        3, 3, strides=strides, padding=padding, use_bias=False, dtype="float64"
    )
    built(layer, shape, seed=rank)
    matrix = explicit_matrix(layer, shape)
    bound = operator_norm(layer)
    # A strided grid can miss every inner position of a small image.
    rows = np.abs(matrix).sum(axis=1)
    if strides == 1 or padding == "valid" or min(size) > 3:
        assert bound == pytest.approx(rows.max(), rel=1e-12)
    assert bound >= rows.max() * (1 - 1e-12)


def test_kernel_larger_than_the_image_gives_an_upper_bound():
    layer = keras.layers.Conv2D(1, 7, padding="same", use_bias=False)
    built(layer, (3, 3, 1))
    exact = np.abs(explicit_matrix(layer, (3, 3, 1))).sum(axis=1).max()
    assert exact < operator_norm(layer)


def test_norm_of_the_reshaped_kernel_is_no_bound_for_p_2():
    # Facts on record: the reason for refusing p=2.
    layer = keras.layers.Conv2D(2, 3, padding="same", use_bias=False)
    built(layer, (8, 8, 2))
    spectral = np.linalg.norm(explicit_matrix(layer, (8, 8, 2)), 2)
    kernel = layer.get_weights()[0]
    assert spectral > np.linalg.norm(kernel.reshape(-1, 2), 2)
    with pytest.raises(ValueError, match="implemented for p=float"):
        operator_norm(layer, 2)


@pytest.mark.parametrize("p", [1, 2, INF])
@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.AveragePooling2D(2),
        keras.layers.AveragePooling2D((2, 1)),
        keras.layers.GlobalAveragePooling2D(),
    ],
)
def test_pooling_norm(layer, p):
    shape = (4, 4, 1)
    layer.build((None, *shape))
    exact = np.linalg.norm(explicit_matrix(layer, shape), p)
    assert exact <= operator_norm(layer, p) + 1e-6
    if isinstance(layer, keras.layers.AveragePooling2D) or p == INF:
        assert operator_norm(layer, p) == pytest.approx(exact, rel=1e-6)


def test_overlapping_pooling_has_norm_1_for_infinity_only():
    layer = keras.layers.AveragePooling2D(3, strides=1, padding="same")
    assert operator_norm(layer) == 1.0
    with pytest.raises(ValueError, match="overlap or are padded"):
        operator_norm(layer, 1)


def test_unbuilt_layer_is_refused():
    with pytest.raises(ValueError, match="has no weights yet. Build it first"):
        operator_norm(keras.layers.Dense(2, name="late"))


def test_unknown_p_is_refused():
    with pytest.raises(ValueError, match="must be 1, 2 or .*Received: p=3"):
        operator_norm(keras.layers.Dense(2), 3)


def test_polynomial_is_sent_to_lipschitz_bound():
    layer = built(layers.CCP(2, rank=2, order=2), (3,))
    with pytest.raises(TypeError, match="use `keras_polynets.robustness.lip"):
        operator_norm(layer)


def test_nan_weights_name_the_variable():
    layer = built(keras.layers.Dense(2, name="broken"), (2,))
    layer.kernel.assign(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="'broken/kernel' holds NaN"):
        operator_norm(layer)
