"""Numbers near the ends of a dtype, and the exact ones of float64."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import lipschitz_bound
from keras_polynets.robustness import operator_norm
from keras_polynets.robustness.extents import Extent
from tests.unit.robustness.bound_examples import apply

L, ops = keras.layers, keras.ops


def sequential(shape, *parts, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *parts])


def pooled(dtype):
    return sequential(
        (2, 2, 2), L.AveragePooling2D(2, dtype=dtype), L.Flatten(dtype=dtype)
    )


def summed_products(dtype):
    inputs = keras.Input((2,))
    cast = L.Activation("linear", dtype=dtype)
    x, y = cast(inputs[:, :1]), cast(inputs[:, 1:])
    product = L.Multiply(dtype=dtype)([x, y])
    return keras.Model(inputs, L.Add(dtype=dtype)([product, y]))


def averaged():
    inputs = keras.Input((4,))
    return keras.Model(inputs, ops.mean(inputs, axis=1, keepdims=True))


def normalised(gamma):
    layer = L.BatchNormalization()
    model = sequential((2,), layer)
    layer.set_weights([np.full(2, v) for v in (gamma, 0.0, 0.0, 0.0)])
    return model


def shifted(mean, variance, dtype="float32"):
    return sequential(
        (2,), L.Normalization(mean=mean, variance=variance, dtype=dtype)
    )


OVERFLOWS = {
    "average in half precision": (pooled("float16"), 3e4),
    "average": (pooled("float32"), 3e38),
    "global average": (
        sequential((2, 2, 2), L.GlobalAveragePooling2D()),
        3e38,
    ),
    "mean": (averaged(), 3e38),
    "average of any size": (
        sequential((4, 4, 1), L.AdaptiveAveragePooling2D(2), L.Flatten()),
        2e38,
    ),
    "batch normalisation": (normalised(3e38), 1e-12),
    "normalisation in half precision": (shifted(-6e4, 6e4, "float16"), 6e4),
    "normalisation": (shifted(-3e38, 1e30), 3e38),
    "sum of products in half precision": (summed_products("float16"), 4e4),
    "sum of products": (summed_products("float32"), 2e38),
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_what_may_overflow_on_the_way_has_no_bounds(name):
    model, size = OVERFLOWS[name]
    x = np.full((1, *model.input_shape[1:]), size, "float32")
    if name.startswith("sum"):
        x[0, 0] = -2.0
    for method in ("interval", "affine"):
        lower, upper = Certifier(model).bounds(x, 0.0, method)
        assert np.isinf(lower).all() and np.isinf(upper).all()
    # Of moderate numbers there are some.
    lower, upper = Certifier(model).bounds(x * 0 + 1e-15, 0.0)
    outputs = apply(model, x * 0 + 1e-15)
    if np.isfinite(upper).all():
        assert (lower <= outputs).all() and (outputs <= upper).all()
    assert np.isfinite(upper).all() or name == "batch normalisation"


@pytest.mark.parametrize(
    "layer",
    [
        L.BatchNormalization(epsilon=0.0, moving_variance_initializer="zeros"),
        L.Normalization(mean=0.0, variance=float("inf")),
        L.Normalization(mean=0.0, variance=0.0, dtype="float16"),
    ],
)
def test_deviations_that_cannot_divide(layer):
    model = sequential((2,), layer)
    with pytest.raises(ValueError, match="divides by a deviation that is 0"):
        Certifier(model).bounds(np.zeros((1, 2), "float32"), 0.1)


def test_half_precision_is_normalised_in_single_precision():
    layer = L.BatchNormalization(epsilon=1e-5, dtype="mixed_float16")
    model = sequential((2,), layer)
    layer.moving_variance.assign([0.0, 1.0])
    lower, upper = Certifier(model).bounds(np.ones((1, 2), "float32"), 0.0)
    assert (lower <= apply(model, np.ones((1, 2)))).all()
    assert np.isfinite(upper).all()


def test_normalisation_of_images_of_any_size():
    layer = L.Normalization(mean=[0.4, 0.5], variance=[0.04, 0.25])
    model = sequential((None, None, 2), layer)
    assert lipschitz_bound(model) == pytest.approx(5.0, rel=1e-5)


def test_normalisation_of_either_direction():
    x = np.random.default_rng(0).normal(size=(5, 3, 2)).astype("float32")
    for invert in (False, True):
        layer = L.Normalization(
            axis=-1, mean=[1.0, -2.0], variance=[4.0, 0.25], invert=invert
        )
        model = sequential((3, 2), layer, L.Flatten())
        lower, upper = Certifier(model).bounds(x, 0.0)
        outputs = apply(model, x)
        assert (lower <= outputs).all() and (outputs <= upper).all()
        np.testing.assert_allclose(lower, upper, atol=1e-4)
        steepest = 2.0
        assert lipschitz_bound(model) == pytest.approx(steepest)
    whole = sequential((3,), L.Normalization(None, mean=2.0, variance=4.0))
    lower, _ = Certifier(whole).bounds(np.zeros((1, 3), "float32"), 0.0)
    np.testing.assert_allclose(lower, -1.0, atol=1e-5)


def test_a_large_bias_hides_no_weights():
    layer = L.Conv2DTranspose(1, 2, output_padding=0, strides=2)
    model = sequential((2, 2, 1), layer, L.Flatten())
    layer.set_weights([np.full((2, 2, 1, 1), 1e-8), np.full(1, 1e9)])
    assert operator_norm(layer, np.inf) == pytest.approx(1e-8)
    assert lipschitz_bound(model) == pytest.approx(1e-8)


def test_resizing_in_double_precision():
    rng = np.random.default_rng(0)
    for layer in (
        L.UpSampling2D(3, interpolation="bilinear", dtype="float64"),
        L.Resizing(5, 4, dtype="float64"),
        L.CenterCrop(5, 7, dtype="float64"),
        L.Rescaling(1 / 3, 0.1, dtype="float64"),
    ):
        flat = L.Flatten(dtype="float64")
        model = sequential((4, 4, 1), layer, flat, dtype="float64")
        x = rng.normal(size=(3, 4, 4, 1))
        lower, upper = Certifier(model).bounds(x, 0.0)
        outputs = apply(model, x)
        assert (lower <= outputs).all() and (outputs <= upper).all()
        assert (upper - lower).max() < 1e-4


def test_the_valid_range_of_double_precision():
    dense = L.Dense(2, use_bias=False, dtype="float64")
    model = sequential((1,), dense, dtype="float64")
    dense.set_weights([np.array([[1.0, -1.0]])])
    # The nearest number of single precision is larger than 0.1.
    certifier = Certifier(model, (0.1, 0.9))
    lower, upper = certifier.bounds(np.array([[0.1]]), 0.0)
    assert lower[0, 0] <= 0.1 <= upper[0, 0] < 0.1 + 1e-12


def test_scales_that_are_no_numbers():
    model = sequential((2,), L.Rescaling(float("nan")))
    x = np.zeros((1, 2), "float32")
    for bound in (lipschitz_bound, lambda m: Certifier(m).bounds(x, 0.1)):
        with pytest.raises(ValueError, match="not a finite number"):
            bound(model)


def test_a_bound_that_overflowed_is_no_smaller_one():
    found = Extent(1.0, np.nan, np.nan).meet(Extent(2.0, 3.0, np.nan))
    assert found == Extent(1.0, 3.0, np.inf)
    layer = layers.CCP(2, 2, 12)
    layer.build((None, 2))
    layer.factors.kernel.assign(np.full(layer.factors.kernel.shape, 1e37))
    layer.factors.kernel[:, -2:].numpy()
    assert not np.isnan(lipschitz_bound(layer, form="theorem"))
