"""The residual networks as Keras models: equation, shapes, errors."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers
from keras_polynets import models

# Keras normalises in single precision on other backends.
ATOL = 1e-9 if keras.backend.backend() == "tensorflow" else 1e-5

SMALL = {"input_shape": (8, 8, 3), "classes": 3, "blocks": (1, 1), "width": 4}

# The forms of the block, small.
FORMS = {
    "first_order": {},
    "prodpoly": {"order": 2, "operand_map": "conv", "product_map": "all"},
    "speech": {"order": 2, "product_map": "identity"},
    "resnet50": {
        "branch": "bottleneck",
        "order": 2,
        "operand_map": "factorized",
        "product_activation": "tanh",
    },
    "pinet": {
        "activation": None,
        "order": 2,
        "product_map": "all",
        "product_normalization": "batch",
        "zero_init_residual": True,
    },
    "normalized": {"order": 2, "product_normalization": "batch"},
    "ncp": {
        "branch": "single",
        "activation": None,
        "shortcut": "projection_always",
        "shortcut_normalization": "instance",
        "order": 2,
        "gate": True,
        "add_residual": False,
    },
    "gated": {
        "order": 3,
        "operand_map": "conv",
        "product_map": "all",
        "product_normalization": "instance",
        "gate": True,
    },
    "quadratic": {"neuron": "full", "shortcut": "pad"},
    "rezero": {"neuron": "compact", "shortcut": "pad", "rezero": True},
    "quadralib": {"neuron": "quadralib", "branch_normalization": True},
}


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    return models.ResNet(**{**SMALL, **kwargs})


def randomize(model, seed=0, scale=0.5):
    """Draws every variable, those of the normalisations too."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(size=weight.shape, scale=scale)
        weight.assign(abs(value) + 0.5 if "variance" in weight.path else value)


def images(model, size=4):
    rng = np.random.default_rng(1)
    shape = [8 if n is None else n for n in model.input_shape[1:]]
    return rng.uniform(*model.input_range, (size, *shape))


def predict(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def preprocess(model, x):
    return ops.convert_to_numpy(model.preprocessor(x))


def outputs(model, layer, x):
    part = keras.Model(model.input, model.get_layer(layer).output)
    return predict(part, x)


def convolve(x, kernel, strides):
    """Convolution in NumPy, padded evenly as PyTorch does."""
    size = kernel.shape[0]
    pad = size // 2
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(
        x, (size, size), axis=(1, 2)
    )[:, ::strides, ::strides]
    return np.einsum("nhwcij,ijcf->nhwf", windows, kernel)


class Reference:
    """The networks in NumPy, from the equation of the paper."""

    def __init__(self, model, epsilon=1e-5):
        self.weights = {w.path: ops.convert_to_numpy(w) for w in model.weights}
        self.epsilon = epsilon

    def conv(self, x, name, strides=1):
        return convolve(x, self.weights[f"{name}/kernel"], strides)

    def norm(self, x, name):
        gamma, beta, mean, variance = (
            self.weights[f"{name}/{key}"]
            for key in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (x - mean) / np.sqrt(variance + self.epsilon) + beta

    def shortcut(self, x, name, strides):
        if f"{name}_shortcut_conv/kernel" not in self.weights:
            return x
        x = self.conv(x, f"{name}_shortcut_conv", strides)
        return self.norm(x, f"{name}_shortcut_norm")


def test_the_block_is_the_equation():
    """y = relu(s + F + L2 tanh(F * X s) + L3 tanh(F * X s * X s))."""
    model = tiny(
        order=3,
        operand_map="conv",
        product_map="all",
        product_activation="tanh",
        product_normalization="batch",
        dtype="float64",
    )
    randomize(model)
    net = Reference(model)

    def relu(z):
        return np.maximum(z, 0)

    x = images(model)
    z = relu(net.norm(net.conv(x, "stem_conv"), "stem_norm"))
    for name, strides in (("stage1_block1", 1), ("stage2_block1", 2)):
        s = net.shortcut(z, name, strides)
        f = net.conv(z, f"{name}_conv1", strides)
        f = net.conv(relu(net.norm(f, f"{name}_norm1")), f"{name}_conv2")
        f = net.norm(f, f"{name}_norm2")
        operand = net.conv(s, f"{name}_operand")
        y, product = s + f, f
        for order in ("product2", "product3"):
            product = product * operand
            term = net.conv(np.tanh(product), f"{name}_{order}_conv")
            y = y + net.norm(term, f"{name}_{order}_norm")
        z = relu(y)
        np.testing.assert_allclose(outputs(model, name, x), z, atol=ATOL)
    logits = z.mean(axis=(1, 2)) @ net.weights["head/kernel"]
    logits = logits + net.weights["head/bias"]
    np.testing.assert_allclose(predict(model, x), logits, atol=ATOL)


def test_the_bottleneck_is_the_equation():
    """y = relu(s + F + tanh(F * A z)), the strides in the first 1 × 1."""
    form = FORMS["resnet50"]
    model = tiny(blocks=(1, 1), **form, epsilon=1e-3, dtype="float64")
    randomize(model)
    net = Reference(model, epsilon=1e-3)
    x = images(model)
    z, name = outputs(model, "stage1", x), "stage2_block1"
    f = net.norm(net.conv(z, f"{name}_conv1", 2), f"{name}_norm1")
    f = net.conv(np.maximum(f, 0), f"{name}_conv2")
    f = net.conv(np.maximum(net.norm(f, f"{name}_norm2"), 0), f"{name}_conv3")
    f = net.norm(f, f"{name}_norm3")
    a = net.conv(net.conv(z, f"{name}_operand1", 2), f"{name}_operand2")
    assert net.weights[f"{name}_operand1/kernel"].shape == (1, 1, 16, 8)
    y = np.maximum(net.shortcut(z, name, 2) + f + np.tanh(f * a), 0)
    np.testing.assert_allclose(outputs(model, "stage2", x), y, atol=ATOL)


def test_the_product_of_the_tutorial():
    """s + alpha (F * s), s behind an instance normalisation of PyTorch's."""
    model = tiny(**FORMS["ncp"], kernel_size=5, dtype="float64")
    randomize(model)
    net = Reference(model)
    x = images(model)
    z, name = outputs(model, "stage1", x), "stage2_block1"
    s = net.conv(z, f"{name}_shortcut_conv", 2)
    s = s - s.mean(axis=(1, 2), keepdims=True)
    s = s / np.sqrt((s * s).mean(axis=(1, 2), keepdims=True) + 1e-5)
    f = net.norm(net.conv(z, f"{name}_conv1", 2), f"{name}_norm1")
    alpha = net.weights[f"{name}_product2_gate/alpha"]
    np.testing.assert_allclose(
        outputs(model, name, x), s + alpha * f * s, atol=ATOL
    )


@pytest.mark.parametrize("activation", ["relu", None])
def test_the_imagenet_stem(activation):
    model = tiny(
        stem="imagenet",
        input_shape=(18, 16, 3),
        activation=activation,
        dtype="float64",
    )
    randomize(model)
    net = Reference(model)
    x = images(model)
    z = net.norm(net.conv(x, "stem_conv", 2), "stem_norm")
    z = z if activation is None else np.maximum(z, 0)
    pad = [(0, 0), (1, 1), (1, 1), (0, 0)]
    padded = np.pad(z, pad, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (3, 3), axis=(1, 2)
    )[:, ::2, ::2]
    np.testing.assert_allclose(
        outputs(model, "stem", x), windows.max(axis=(-2, -1)), atol=ATOL
    )


@pytest.mark.parametrize("channels", [3, 6, 7])
def test_the_padded_shortcut(channels):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype("float32")
    y = ops.convert_to_numpy(layers.residual.PadShortcut(channels, 2)(x))
    before = (channels - 3) // 2
    np.testing.assert_array_equal(y[..., before : before + 3], x[:, ::2, ::2])
    assert np.count_nonzero(y) == x[:, ::2, ::2].size
    assert y.shape == (2, 3, 3, channels)
    with pytest.raises(ValueError, match="padded to 2 channels.*with 3"):
        layers.residual.PadShortcut(2)(x)


def test_features_by_name():
    form = FORMS["resnet50"]
    model = tiny(**form)
    x = images(model)
    features = {
        name: outputs(model, name, x)
        for name in ("stem", "stage1", "stage2", "stage2_block1")
    }
    assert [f.shape[1:] for f in features.values()] == [
        (8, 8, 4),
        (8, 8, 16),
        (4, 4, 32),
        (4, 4, 32),
    ]
    np.testing.assert_array_equal(features["stage2"], features["stage2_block1"])
    bare = tiny(**form, include_top=False)
    assert bare.head is None
    np.testing.assert_allclose(predict(bare, x), features["stage2"], atol=1e-6)
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = tiny(**form, include_top=False, pooling=pooling)
        pooled.set_weights(bare.get_weights())
        np.testing.assert_allclose(
            predict(pooled, x),
            reduce(features["stage2"], axis=(1, 2)),
            atol=1e-5,
        )


def test_features_are_saved_and_cloned(tmp_path):
    model = tiny(**FORMS["prodpoly"], dtype="mixed_bfloat16")
    x = images(model)
    features = keras.Model(model.input, model.get_layer("stage1").output)
    features.save(tmp_path / "features.keras")
    loaded = keras.models.load_model(tmp_path / "features.keras")
    assert loaded.get_layer("stage1").compute_dtype == "bfloat16"
    clone = keras.models.clone_model(
        model, call_function=lambda layer, *args, **kw: layer(*args, **kw)
    )
    clone.set_weights(model.get_weights())
    for copy, original in ((loaded, features), (clone, model)):
        np.testing.assert_array_equal(
            copy.predict(x, verbose=0), original.predict(x, verbose=0)
        )


@pytest.mark.parametrize("form", FORMS)
def test_every_form_comes_back_from_its_config(form):
    model = tiny(**FORMS[form], input_shape=(8, 9, 2))
    copy = models.ResNet.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    paths = [w.path for w in model.weights]
    assert [w.path for w in copy.weights] == paths
    copy.set_weights(model.get_weights())
    x = images(model)
    np.testing.assert_array_equal(predict(copy, x), predict(model, x))


def test_files_and_servers(tmp_path):
    model = tiny(**FORMS["prodpoly"], preprocessing="caffe")
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is models.ResNet
    assert loaded.get_config() == model.get_config()
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    expected = model.predict(preprocess(model, x), verbose=0)
    np.testing.assert_array_equal(
        loaded.predict(preprocess(loaded, x), verbose=0), expected
    )
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        model.export(tmp_path / "saved")
        served = tf.saved_model.load(tmp_path / "saved")
        np.testing.assert_allclose(
            served.serve_raw(x)["logits"], expected, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("form", ["prodpoly", "quadratic"])
def test_mixed_precision(form, policy):
    model = tiny(**FORMS[form], dtype=policy)
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
    if form == "prodpoly":
        # Products overflow float16.
        product = model.get_layer("stage1_block1_product2").compute_dtype
        expected = {"mixed_float16": "float32", "mixed_bfloat16": "bfloat16"}
        assert product == expected[policy]
    reference = tiny(**FORMS[form])
    reference.set_weights(model.get_weights())
    x = images(model)
    np.testing.assert_allclose(
        predict(model, x), predict(reference, x), atol=0.1
    )


def test_free_sizes_and_any_channels():
    model = tiny(input_shape=(None, None, 5), **FORMS["prodpoly"])
    for size in (8, 13):
        assert model(np.zeros((2, size, size + 1, 5))).shape == (2, 3)


def test_softmax_and_head():
    model = tiny(classifier_activation="softmax")
    np.testing.assert_allclose(
        predict(model, images(model)).sum(axis=1), 1, rtol=1e-5
    )
    assert model.head.units == 3


def test_caffe_preprocessing_is_that_of_keras_applications():
    model = tiny(preprocessing="caffe")
    x = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    expected = keras.applications.resnet50.preprocess_input(x.astype("float32"))
    ours = preprocess(model, x)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    low, high = model.input_range
    extremes = np.stack([np.zeros((1, 1, 3)), np.full((1, 1, 3), 255.0)])
    np.testing.assert_allclose(
        preprocess(model, extremes)[:, 0, 0], [low, high], atol=1e-4
    )


def test_the_kernels_are_drawn_as_the_papers_do():
    def deviation(model, layer):
        kernel = ops.convert_to_numpy(model.get_layer(layer).kernel)
        return kernel.std(), np.abs(kernel).max()

    wide = {"width": 32, "blocks": (1, 1), "classes": 500}
    name = "stage2_block1_conv1"  # fan_in 9 · 32, fan_out 9 · 64
    model = tiny(**wide)
    assert abs(deviation(model, name)[0] / (2 / 576) ** 0.5 - 1) < 0.05
    assert deviation(model, name)[1] > 2.5 * (2 / 576) ** 0.5  # not truncated
    assert 0.98 < deviation(model, "head")[1] * 64**0.5 <= 1
    model = tiny(**wide, initialization="fan_in")
    assert abs(deviation(model, name)[0] / (2 / 288) ** 0.5 - 1) < 0.05
    model = tiny(**wide, initialization="fan_out_small_head")
    assert abs(deviation(model, "head")[0] / 0.01 - 1) < 0.05
    model = tiny(**wide, initialization="fan_in_blocks", neuron="full")
    assert 0.95 < deviation(model, "stem_conv")[1] * 27**0.5 <= 1
    branch = model.get_layer(name).branches()["linear"]
    kernel = ops.convert_to_numpy(branch.kernel)
    assert abs(kernel.std() / (2 / 288) ** 0.5 - 1) < 0.05


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"input_shape": (8, 1, 3)}, "height and width of at least 2"),
        (
            {"input_shape": (31, 31, 3), "stem": "imagenet", "blocks": [1] * 4},
            r"at least 32 for the strides.*\(31, 31, 3\)",
        ),
        (
            {"input_shape": (8, 8, None)},
            r"fixed number of channels. Received: input_shape=\(8, 8, None\)",
        ),
        ({"input_shape": (8, 8)}, r"must be \(height, width, channels\)"),
        ({"order": 0}, "`order` must be an integer of at least 1"),
        ({"order": 1.5}, "`order` must be an integer of at least 1"),
        ({"blocks": ()}, "`blocks` must hold"),
        ({"blocks": (1, 0)}, "`blocks` must be a tuple of integers of at le"),
        ({"blocks": 3}, r"such as \(2, 2, 2, 2\). Received: blocks=3"),
        ({"blok": (1, 1)}, "Unknown argument 'blok'. Did you mean .*'blocks'"),
        ({"kernel_size": 4}, "`kernel_size` must be odd"),
        ({"stem": "cifar10"}, "Unknown stem 'cifar10'. Did you mean 'cifar'"),
        ({"branch": "bottle"}, "Unknown branch 'bottle'"),
        ({"shortcut": "conv"}, "Unknown shortcut 'conv'"),
        ({"pooling": "mean"}, "Unknown pooling 'mean'"),
        ({"operand_map": True}, "Unknown operand_map True"),
        ({"neuron": "ful"}, "Unknown neuron 'ful'. Did you mean 'full'"),
        ({"add_residual": False}, "needs an order of at least 2"),
        ({"activation": "rleu"}, "Unknown activation 'rleu'. Did you mean"),
        (
            {"product_activation": "tahn"},
            "Unknown product_activation 'tahn'. Did you mean 'tanh'",
        ),
        (
            {
                "order": 2,
                "operand_map": "conv",
                "product_activation": "sigmoid",
            },
            "`product_activation` must be 0 at 0",
        ),
        (
            {"preprocessing": "caffe", "input_range": (0, 1)},
            "'caffe' fixes the input range",
        ),
        (
            {"preprocessing": "caffe", "input_shape": (8, 8, 1)},
            "images have 1 channels: `input_range` needs one number or 1",
        ),
        (
            {"input_range": ((0, 0), (1, 1))},
            "images have 3 channels: `input_range` needs one number or 3",
        ),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)
