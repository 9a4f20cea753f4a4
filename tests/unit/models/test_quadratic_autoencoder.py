import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import models
from keras_polynets import zoo

SMALL = {"input_shape": (7, 6, 2), "filters": 3, "kernel_size": 3, "depth": 3}


def randomised(**kwargs):
    """Returns a model whose weights are all drawn at random."""
    model = models.DenoisingAutoencoder(**kwargs)
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.normal(size=w.shape, scale=0.3) for w in model.weights]
    )
    return model


def images(model, size=2, seed=1):
    rng = np.random.default_rng(seed)
    shape = (size, *model.input_shape[1:])
    return rng.normal(size=shape).astype(model.dtype_policy.compute_dtype)


def correlate(x, kernel, padding):
    """Slides a kernel of shape (k, k, inputs, outputs) over images."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(
        x, kernel.shape[:2], axis=(1, 2)
    )
    return np.einsum("bhwikl,klio->bhwo", windows, kernel)


def linear(x, kernel, bias, transposed, bottleneck):
    """A convolution, or the transpose of one, that Keras writes alike."""
    half = len(kernel) // 2
    if not transposed:
        return correlate(x, kernel, 0 if bottleneck else half) + bias
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return correlate(x, turned, 2 * half if bottleneck else half) + bias


def quadratic(x, layer, **kwargs):
    """Fan et al.'s neuron, or the first-order one."""
    if not hasattr(layer, "branches"):
        return linear(x, *map(np.asarray, layer.weights), **kwargs)
    r, g, b = (
        linear(z, *map(np.asarray, branch.weights), **kwargs)
        for z, branch in zip((x, x, x * x), layer.branches().values(), strict=1)
    )
    return r * g + b


def relu(x):
    return np.maximum(x, 0)


@pytest.mark.parametrize("neuron", ["full", None])
def test_outputs_are_those_of_the_formula(neuron):
    model = randomised(neuron=neuron, dtype="float64", **SMALL)
    x = images(model)

    def layer(name, z, bottleneck=False):
        return quadratic(
            z,
            model.get_layer(name),
            transposed=name.startswith("t"),
            bottleneck=bottleneck,
        )

    c1 = relu(layer("conv1", x))
    c2 = relu(layer("conv2", c1))
    c3 = relu(layer("conv3", c2, True))
    assert c3.shape == (2, 5, 4, 3)
    t1 = relu(layer("transposed1", c3, True) + c2)
    t2 = relu(layer("transposed2", t1))
    expected = relu(layer("transposed3", t2) + x)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)), expected, rtol=1e-9, atol=1e-12
    )


def test_connections_of_the_paper_at_depth_5():
    model = models.DenoisingAutoencoder()
    sums = {
        layer.name: [x._keras_history.operation.name for x in layer.input]
        for layer in model.layers
        if isinstance(layer, keras.layers.Add)
    }
    assert sums == {
        "residual1": ["transposed1", "encoder4"],
        "residual3": ["transposed3", "encoder2"],
        "residual": ["transposed5", "images"],
    }
    assert model.get_layer("conv5").output.shape == (None, 24, 24, 15)
    assert model.get_layer("transposed1").output.shape == (None, 28, 28, 15)


@pytest.mark.parametrize(
    "kwargs, parameters",
    [
        # 3 (25·15 + 8·25·15² + 25·15 + 9·15 + 1), and a third of it.
        ({}, 137_658),
        ({"neuron": None}, 45_886),
        ({"neuron": None, "filters": 26}, 136_735),
        ({"input_shape": (None, None, 3)}, 142_164),
        ({"neuron": "compact"}, 91_772),
    ],
)
def test_parameters(kwargs, parameters):
    model = models.DenoisingAutoencoder(**kwargs)
    assert model.count_params() == parameters


def test_starts_as_its_conventional_twin_and_nearly_as_the_identity():
    keras.utils.set_random_seed(0)
    model = models.DenoisingAutoencoder()
    twin = models.DenoisingAutoencoder(neuron=None)
    for layer in twin.layers:
        if layer.weights:
            linear_branch = model.get_layer(layer.name).linear
            layer.set_weights(linear_branch.get_weights())
    x = np.random.default_rng(0).uniform(0, 1, (2, 28, 28, 1))
    outputs = ops.convert_to_numpy(model(x))
    np.testing.assert_array_equal(outputs, ops.convert_to_numpy(twin(x)))
    assert 0 < np.abs(outputs - x).max() < 0.1


def test_kernels_start_with_the_deviation_of_their_inputs():
    keras.utils.set_random_seed(0)
    model = models.DenoisingAutoencoder(neuron=None, filters=32)
    for name, fan_in, factor in (
        ("conv1", 25, 1),
        ("conv3", 800, 1),
        ("transposed2", 800, 1),
        ("transposed5", 800, 0.01),
    ):
        kernel = np.asarray(model.get_layer(name).kernel)
        expected = factor * np.sqrt(2 / fan_in)
        assert kernel.std() == pytest.approx(expected, rel=0.1), name


def test_any_size_of_image():
    model = randomised(**SMALL | {"input_shape": (None, None, 1)})
    for size in ((3, 3), (9, 4)):
        assert model(np.zeros((1, *size, 1))).shape == (1, *size, 1)


def test_activations():
    model = randomised(activation=None, output_activation=None, **SMALL)
    assert ops.convert_to_numpy(model(images(model))).min() < 0
    rectified = randomised(activation=None, **SMALL)
    np.testing.assert_allclose(
        ops.convert_to_numpy(rectified(images(model))),
        relu(ops.convert_to_numpy(model(images(model)))),
        rtol=1e-5,
    )


def test_low_precision_gives_images_in_float32():
    model = models.DenoisingAutoencoder(dtype="mixed_bfloat16", **SMALL)
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
    # Nothing but the small correction is rounded.
    x = np.random.default_rng(0).uniform(0, 1, (2, 7, 6, 2))
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), x, atol=0.05)


def test_loaded_model_is_compiled_as_a_denoiser():
    model = zoo.load("test_denoiser", weights=None)
    assert isinstance(model.loss, keras.losses.MeanSquaredError)
    clean = np.random.default_rng(0).uniform(0, 1, (6, 8, 8, 1))
    noisy = clean + 0.1
    found = model.evaluate(noisy, clean, verbose=0, return_dict=True)
    errors = ((model.predict(noisy, verbose=0) - clean) ** 2).mean((1, 2, 3))
    assert found["loss"] == pytest.approx(errors.mean(), rel=1e-4)
    assert found["psnr"] == pytest.approx(
        -10 * np.log10(errors).mean(), rel=1e-4
    )


def test_data_range_is_the_inverse_of_the_preprocessor():
    model = models.DenoisingAutoencoder(
        input_range=([0, -1], [1, 3]), data_range=(10, 250), **SMALL
    )
    stored = np.random.default_rng(0).uniform(10, 250, (2, 7, 6, 2))
    there = ops.convert_to_numpy(model.preprocessor(stored))
    assert there[..., 1].min() < -0.9 and there[..., 1].max() > 2.9
    np.testing.assert_allclose(model.to_data_range(there), stored, rtol=1e-4)
    # The widest channel is the unit of the signal-to-noise ratio.
    (metric,) = model.make_metrics()
    assert metric.get_config()["max_value"] == 4


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="a SavedModel is written on the TensorFlow backend only",
)
def test_export_takes_and_gives_stored_images(tmp_path):
    import tensorflow as tf

    model = randomised(neuron=None, **SMALL)
    model.export(tmp_path / "1")
    served = tf.saved_model.load(tmp_path / "1")
    stored = np.random.default_rng(0).integers(0, 256, (3, 7, 6, 2), "uint8")
    outputs = served.serve_raw(stored)
    assert list(outputs) == ["denoised"]
    expected = 255 * ops.convert_to_numpy(model(stored.astype("float32") / 255))
    np.testing.assert_allclose(outputs["denoised"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"neuron": "ful"}, "Unknown neuron 'ful'. Did you mean 'full'"),
        ({"filters": 0}, "`filters` must be an integer of at least 1"),
        ({"kernel_size": 2.5}, "`kernel_size` must be an integer"),
        ({"depth": 0}, "`depth` must be an integer of at least 1"),
        ({"input_shape": (28, 4, 1)}, r"as large as the window.*\(28, 4, 1\)"),
    ],
)
def test_bad_arguments_are_told(kwargs, message):
    with pytest.raises(ValueError, match=message):
        models.DenoisingAutoencoder(**kwargs)


def test_classes_are_refused():
    with pytest.raises(ValueError, match="Unknown argument 'classes'"):
        zoo.load("test_denoiser", weights=None, classes=3)
