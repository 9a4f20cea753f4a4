"""How single layers and operations are enclosed, and which are refused."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets import zoo
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import layer_maps
from keras_polynets.robustness.networks import Network
from tests.unit.robustness.bound_examples import apply
from tests.unit.robustness.bound_examples import randomize

L = keras.layers
RANGE = (-1.0, 1.0)


def sequential(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def check_points(model, epsilon=0.1, count=20):
    """Checks that no random point of balls leaves their bounds."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.9, 0.9, (2, *model.input_shape[1:])).astype("float32")
    certifier = Certifier(model, RANGE)
    found = [certifier.bounds(x, epsilon, m) for m in ("interval", "affine")]
    for _ in range(count):
        step = rng.choice([-1.0, 0.3, 1.0], size=x.shape) * epsilon
        outputs = apply(model, (x + step).astype("float32"))
        for lower, upper in found:
            assert (lower <= outputs).all() and (outputs <= upper).all()
    return found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_bfloat16"])
def test_copies_in_half_precision_are_followed_exactly(dtype):
    # Numbers above 2,048 (float16) or 256 are not all known there.
    affine = layer_maps.affine(L.Flatten(dtype=dtype), (64, 64, 1))
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 1))
    np.testing.assert_array_equal(affine.linear.apply(x), x.reshape(1, -1))


def test_center_crop_of_larger_and_of_smaller_images():
    affine = layer_maps.affine(L.CenterCrop(2, 2), (4, 4, 1))
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(affine.linear.apply(x), x[:, 1:3, 1:3])
    # Smaller ones are resized.
    layer = L.CenterCrop(6, 6)
    layer.build((None, 4, 4, 1))
    try:
        affine = layer_maps.affine(layer, (4, 4, 1))
    except NotImplementedError as error:
        assert "needs float64" in str(error)
    else:
        expected = keras.ops.convert_to_numpy(layer(x.astype("float32")))
        outputs = affine.linear.apply(x)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("Flip", keras.ops.flip),
        ("Roll", lambda x: keras.ops.roll(x, 1)),
        ("Flip", lambda x: keras.ops.flip(x, axis=0)),
    ],
)
def test_operations_on_the_axis_of_the_batch_are_refused(name, function):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, function(inputs))
    words = f"a {name}, which changes their values or acts on the axis of"
    with pytest.raises(NotImplementedError, match=words):
        Certifier(model, RANGE).bounds(np.zeros((3, 4), "float32"), 0.1)


def test_flip_along_another_axis():
    inputs = keras.Input((4,))
    outputs = keras.ops.roll(keras.ops.flip(inputs, axis=1), 1, axis=-1)
    model = keras.Model(inputs, outputs)
    x = np.array([[0.1, 0.2, 0.3, 0.4]], "float32")
    lower, upper = Certifier(model, RANGE).bounds(x, 0.0)
    expected = [[0.1, 0.4, 0.3, 0.2]]
    np.testing.assert_allclose(lower, expected, rtol=1e-5)
    np.testing.assert_allclose(upper, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_overflow_has_no_bound(dtype):
    # The exact second logit is the larger one; both are infinite.
    largest = {"float16": 65504.0, "bfloat16": 3.38e38}[dtype]
    model = sequential(
        (1,),
        L.Dense(2, use_bias=False, dtype=dtype),
        L.Dense(2, use_bias=False, dtype=dtype),
    )
    scale = np.sqrt(largest)
    second = np.array([[1.2, 1.3], [0, 0]]) * scale
    model.set_weights([np.array([[scale, 0.0]]), second])
    x, labels = np.array([[0.9]], "float32"), np.array([1])
    certifier = Certifier(model, RANGE)
    for method in ("global", "interval", "affine", "auto"):
        assert not certifier.margins(x, labels, 0.001, method) > 0
    lower, upper = certifier.bounds(x, 0.001)
    assert (lower == -np.inf).all() and (upper == np.inf).all()
    model.set_weights([np.array([[scale, 0.0]]), second / 10])
    assert np.isfinite(Certifier(model, RANGE).bounds(x, 0.001)).all()


def test_partial_sums_and_weights_that_overflow_have_no_bound():
    kernels = [[[6e4], [6e4], [-6e4]], [[1e5], [0.0], [0.0]]]
    for kernel in kernels:
        dense = L.Dense(1, use_bias=False, dtype="mixed_float16")
        model = sequential((3,), dense)
        model.set_weights([np.array(kernel)])
        x = np.array([[0.0, 0.0, 0.0]], "float32")
        epsilon = 1.0 if kernel[1][0] else 0.0
        lower, upper = Certifier(model, RANGE).bounds(x, epsilon)
        assert lower == -np.inf and upper == np.inf


@pytest.mark.parametrize("method", ["interval", "affine"])
def test_products_that_are_flushed_to_zero_are_enclosed(method):
    """Arithmetic without subnormal numbers may yield 0 for all of these."""
    x = np.full((1, 256), 2.0**-8, "float32")
    dense = L.Dense(1, use_bias=False, dtype="float16")
    model = sequential((256,), dense)
    model.set_weights([np.full((256, 1), 2.0**-8)])
    lower, upper = Certifier(model, RANGE).bounds(x, 0.0, method)
    # 256 products of 2^-16, below the smallest normal number 2^-14.
    assert lower <= 0.0 and 2.0**-8 <= upper
    inputs = keras.Input((256,), dtype="float16")
    product = L.Multiply(dtype="float16")([inputs, inputs])
    model = keras.Model(inputs, product)
    lower, upper = Certifier(model, RANGE).bounds(x, 0.0, method)
    assert (lower <= 0.0).all() and (upper >= 2.0**-16).all()
    # In float32 nothing of that size is lost.
    model = sequential((256,), L.Dense(1, use_bias=False))
    model.set_weights([np.full((256, 1), 2.0**-8)])
    lower, upper = Certifier(model, RANGE).bounds(x, 0.0, method)
    np.testing.assert_allclose([lower, upper], 2.0**-8, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inputs_of_a_layer_that_overflow_have_no_bound(dtype):
    dense = L.Dense(1, use_bias=False, dtype="float16")
    model = sequential((1,), L.Rescaling(1e5, dtype=dtype), dense)
    dense.kernel.assign([[1e-3]])
    certifier = Certifier(model, RANGE)
    x = np.array([[0.8]], "float32")
    assert certifier.bounds(x, 0.0) == (-np.inf, np.inf)
    assert np.isfinite(certifier.bounds(x / 2, 0.0)).all()


@pytest.mark.parametrize(
    "function",
    [
        lambda x, c: x * c,
        lambda x, c: x + c,
        lambda x, c: x / c,
        lambda x, c: c - x,
    ],
)
def test_rounding_of_constants_is_counted(function):
    # A constant nearly half way between two numbers of float32.
    constant = 1 + 2.0**-23 + 0.98 * 2.0**-24
    inputs = keras.Input((20_000,))
    model = keras.Model(inputs, function(inputs, constant))
    x = np.random.default_rng(0).uniform(0, 2, (1, 20_000)).astype("float32")
    exact = x.astype("float64")
    values = Network(model).outputs(exact, exact, "interval").values
    error = np.abs(apply(model, x) - function(exact, constant))
    assert (error <= values.rounding).all()


def test_quantised_layers_are_refused():
    model = sequential((8,), L.Dense(3, name="top"))
    model.quantize("int8")
    x = np.zeros((1, 8), "float32")
    certifier = Certifier(model, RANGE)
    words = r"Layer 'top' is quantised \(int8\).*before `quantize`"
    for method in ("global", "affine", "auto"):
        with pytest.raises(ValueError, match=words):
            certifier.margins(x, np.array([0]), 0.1, method)


@pytest.mark.parametrize("padding", ["reflect", "symmetric", "constant"])
def test_gaussian_filter_is_known(padding):
    layer = layers.GaussianFilter2D((3, 5), (0.8, 1.5), padding)
    x = np.random.default_rng(0).normal(size=(2, 6, 7, 2))
    affine = layer_maps.affine(layer, (6, 7, 2))
    expected = keras.ops.convert_to_numpy(layer(x.astype("float32")))
    outputs = affine.linear.apply(x)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    y = np.random.default_rng(1).normal(size=outputs.shape)
    adjoint = affine.linear.adjoint(y)
    np.testing.assert_allclose((outputs * y).sum(), (x * adjoint).sum())
    model = sequential((6, 7, 2), layer, L.Flatten(), L.Dense(3))
    check_points(model)


def test_our_batch_normalization_is_known():
    model = sequential(
        (5, 5, 2),
        layers.BatchNormalization(),
        L.Activation(layers.square),
        L.Flatten(),
        L.Dense(3),
    )
    rng = np.random.default_rng(0)
    randomize(model, rng)
    variance = model.layers[0].moving_variance
    variance.assign(rng.uniform(0.5, 2, variance.shape))
    check_points(model)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        (
            "prodpoly_resnet18_linear",
            {"blocks": [1, 1], "width": 4, "input_shape": [8, 8, 3]},
        ),
        ("test_pn", {}),
    ],
)
def test_models_of_the_zoo_without_activations_are_bounded(name, overrides):
    model = zoo.load(name, weights=None, **overrides)
    for lower, upper in check_points(model, epsilon=0.001, count=3):
        assert np.isfinite(lower).all() and (lower < upper).all()


def test_tensors_that_broadcast_are_bounded():
    inputs = keras.Input((4, 4, 3))
    images = L.Conv2D(3, 3, padding="same")(inputs)
    means = L.GlobalAveragePooling2D(keepdims=True)(inputs)
    flat = L.GlobalAveragePooling2D()(inputs)
    x = L.Multiply()([means, images])
    x = x * means + means - np.linspace(-1, 1, 3, dtype="float32")
    x = L.Add()([x, flat])
    x = x + (means * np.ones((4, 4, 3), "float32") + np.ones((4, 4, 1)))
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))
    check_points(model)


def test_tensors_of_other_ranks_are_refused():
    inputs = keras.Input((4, 4))
    means = keras.ops.reshape(inputs[:, :, 0], (-1, 4))
    model = keras.Model(inputs, inputs * means)
    words = r"different ranks.*shapes \(4, 4\) and \(4,\). Reshape them"
    with pytest.raises(NotImplementedError, match=words):
        Certifier(model, RANGE).bounds(np.zeros((4, 4, 4), "float32"), 0.1)


def test_a_number_and_one_a_channel_are_a_valid_range():
    model = sequential((4, 4, 3), L.Flatten(), L.Dense(10))
    x, labels = np.full((1, 4, 4, 3), 0.5, "float32"), np.array([0])
    found, expected = (
        Certifier(model, (0.0, high)).margins(x, labels, 0.01, "global")
        for high in ([1.0, 1.0, 1.0], 1.0)
    )
    np.testing.assert_array_equal(found, expected)


def test_integer_inputs_are_refused():
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, L.Dense(2)(L.Rescaling(1 / 255)(inputs)))
    words = "inputs of dtype int32. Build it with floats, for example `keras.I"
    with pytest.raises(ValueError, match=words):
        Certifier(model, RANGE)
