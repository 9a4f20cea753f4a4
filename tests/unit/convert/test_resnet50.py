"""The weights of keras.applications.ResNet50 in networks of the zoo."""

import keras
import numpy as np
import pytest

from keras_polynets import convert
from keras_polynets import models
from keras_polynets import zoo

SHAPE = (32, 32, 3)


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


def randomize(model, seed=0):
    """Draws all variables, biases and those of normalisations among them."""
    rng = np.random.default_rng(seed)
    for w in model.weights:
        shape = tuple(w.shape)
        if w.name in ("gamma", "moving_variance"):
            w.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) > 1:
            fan_in = np.prod(shape[:-1])
            w.assign(rng.normal(0, np.sqrt(2 / fan_in), shape))
        else:
            w.assign(rng.normal(0, 0.2, shape))


def small(blocks=(2, 1), classes=5, top=True):
    """As `keras.applications.ResNet50`, with fewer blocks and filters."""
    conv, norm = keras.layers.Conv2D, keras.layers.BatchNormalization

    def unit(x, name, number, *args, **kwargs):
        x = conv(*args, name=f"{name}_{number}_conv", **kwargs)(x)
        return norm(epsilon=1.001e-5, name=f"{name}_{number}_bn")(x)

    inputs = keras.Input((None, None, 3))
    x = keras.layers.ZeroPadding2D(3)(inputs)
    x = conv(8, 7, 2, name="conv1_conv")(x)
    x = norm(epsilon=1.001e-5, name="conv1_bn")(x)
    x = keras.layers.ZeroPadding2D(1)(keras.layers.ReLU()(x))
    x = keras.layers.MaxPooling2D(3, 2)(x)
    for i, count in enumerate(blocks):
        for j in range(count):
            name, filters = f"conv{i + 2}_block{j + 1}", 8 * 2**i
            strides = 2 if i and not j else 1
            s = x if j else unit(x, name, 0, 4 * filters, 1, strides)
            f = keras.layers.ReLU()(unit(x, name, 1, filters, 1, strides))
            f = unit(f, name, 2, filters, 3, padding="same")
            f = unit(keras.layers.ReLU()(f), name, 3, 4 * filters, 1)
            x = keras.layers.ReLU()(s + f)
    if top:
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dense(classes, name="predictions")(x)
    return keras.Model(inputs, x, name="small")


def twin(name="prodpoly_resnet50", classes=5, **kwargs):
    small_one = {"blocks": (2, 1), "width": 8, "input_shape": SHAPE}
    arguments = {"classes": classes, **small_one, **kwargs}
    return zoo.load(name, weights=None, **arguments)


def compare(source, target, shape=SHAPE):
    images = np.random.default_rng(1).integers(0, 256, (3, *shape))
    images = images.astype("float32")
    theirs = value(
        source(keras.applications.resnet50.preprocess_input(images.copy()))
    )
    ours = value(target(target.preprocessor(images)))
    largest = np.abs(theirs).max()
    assert theirs.std() > 1e-2 * largest > 0
    np.testing.assert_allclose(ours / largest, theirs / largest, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"name": "resnet50"},
        {"order": 3},
        {"gate": True},
        {"product_normalization": "batch", "product_map": "all"},
        {"product_map": "all", "operand_map": None},
        {"include_top": False},
    ],
    ids=lambda x: "_".join(map(str, x)) or "prodpoly_resnet50",
)
def test_logits_of_keras(arguments):
    source, target = (
        small(top=arguments.get("include_top", True)),
        twin(**arguments),
    )
    randomize(source)
    # Trained before: second-order terms have to go back to zero.
    randomize(target, 1)
    convert.transfer_weights(source, target)
    compare(source, target)


@pytest.mark.parametrize(
    "name, twin_name, arguments",
    [
        ("resnet50", "prodpoly_resnet50", {}),
        ("resnet50", "prodpoly_resnet50", {"order": 3, "gate": True}),
        ("resnet18", "prodpoly_resnet18", {}),
        (
            "resnet18_linear",
            "prodpoly_resnet18_linear",
            {"product_normalization": "batch"},
        ),
    ],
)
def test_logits_of_the_first_order_twin(name, twin_name, arguments):
    source, target = twin(name), twin(twin_name, **arguments)
    randomize(source)
    randomize(target, 1)
    convert.transfer_weights(source, target)
    x = np.random.default_rng(2).normal(size=(3, *SHAPE)).astype("float32")
    theirs, ours = value(source(x)), value(target(x))
    largest = np.abs(theirs).max()
    assert theirs.std() > 1e-2 * largest > 0
    np.testing.assert_allclose(ours / largest, theirs / largest, atol=1e-5)


def test_second_order_terms_can_still_move():
    source, target = small(), twin()
    randomize(source)
    convert.transfer_weights(source, target)
    kernels = [w for w in target.weights if "operand2" in w.path]
    assert len(kernels) == 3
    assert not any(np.any(value(w)) for w in kernels)
    target.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    images = np.random.default_rng(0).normal(size=(4, *SHAPE))
    target.train_on_batch(images, np.arange(4))
    assert all(np.any(value(w)) for w in kernels)


def test_weights_that_do_not_fit():
    def message(source, target):
        before = [value(w) for w in target.weights]
        with pytest.raises(ValueError, match="is unchanged") as error:
            convert.transfer_weights(source, target)
        for old, w in zip(before, target.weights, strict=True):
            np.testing.assert_array_equal(old, value(w))
        return str(error.value)

    source = small()
    text = message(source, twin(classes=7))
    assert "'head' from 'predictions'" in text
    assert "expected the shapes [(64, 7), (7,)]" in text
    assert "received [(64, 5), (5,)]" in text
    text = message(source, twin(width=4))
    assert "'stem_conv' from 'conv1_conv': expected the shape (7, 7, 3, 4)" in (
        text
    )
    text = message(source, twin(blocks=(1, 1)))
    assert (
        "'conv2_block2_1_conv' of the source: the target has no layer "
        "'stage1_block2_conv1'"
    ) in text
    text = message(small(top=False), twin())
    assert "'head': the source has no such layer" in text
    text = message(source, twin(epsilon=1e-3))
    assert "expected the epsilon 1.001e-05, received 0.001" in text
    bare = {"operand_map": None, "product_activation": None}
    for network in (source, twin("resnet50")):
        text = message(network, twin(**bare))
        assert "no part of the second-order term could be zero" in text
    text = message(twin("resnet50"), twin(blocks=(1, 1)))
    assert "in the target: 'stage1_block2_conv1' (Conv2D: " in text


@pytest.fixture
def keras_resnet50(monkeypatch):
    """Stands in for `keras.applications.ResNet50`, small and random."""
    asked = []

    def network(weights, include_top, classifier_activation):
        asked.append((weights, include_top, classifier_activation))
        model = small(classes=1000, top=include_top)
        randomize(model)
        return model

    monkeypatch.setattr(keras.applications, "ResNet50", network)
    return asked


@pytest.mark.parametrize("name", ["prodpoly_resnet50", "resnet50"])
def test_load_with_the_weights_of_imagenet(keras_resnet50, name):
    arguments = {"blocks": (2, 1), "width": 8, "input_shape": SHAPE}
    model = zoo.load(name, weights="imagenet", **arguments)
    assert isinstance(model, models.ResNet) and model.compiled
    assert keras_resnet50 == [(None, True, None), ("imagenet", True, None)]
    source = small(classes=1000)
    randomize(source)
    compare(source, model)
    again = zoo.load(f"{name}.imagenet", **arguments)
    for a, b in zip(model.weights, again.weights, strict=True):
        if "operand1" not in a.path:
            np.testing.assert_array_equal(value(a), value(b))


def test_another_head_starts_fresh(keras_resnet50):
    arguments = {"blocks": (2, 1), "width": 8, "input_shape": SHAPE}
    with pytest.warns(UserWarning, match="with 7 the head starts with fresh"):
        model = zoo.load(
            "prodpoly_resnet50", weights="imagenet", classes=7, **arguments
        )
    assert model.output_shape == (None, 7)
    model = zoo.load(
        "resnet50", weights="imagenet", include_top=False, **arguments
    )
    assert not any(top for _, top, _ in keras_resnet50)
    source = small(top=False)
    randomize(source)
    compare(source, model)


def test_the_weights_of_imagenet_that_do_not_fit(keras_resnet50):
    with pytest.raises(ValueError, match="'stem_conv' from 'conv1_conv'"):
        zoo.load(
            "prodpoly_resnet50",
            weights="imagenet",
            blocks=(2, 1),
            width=8,
            input_shape=(32, 32, 4),
        )
    assert keras_resnet50 == [(None, True, None)]
    with pytest.raises(ValueError, match="Unknown weights of 'pn4' 'imagenet'"):
        zoo.load("pn4", weights="imagenet")


def test_a_download_that_fails(monkeypatch):
    def get_file(*args, **kwargs):
        raise Exception("URL fetch failure on https://x: None -- unreachable")

    module = "keras.src.applications.resnet.file_utils.get_file"
    monkeypatch.setattr(module, get_file)
    with pytest.raises(OSError, match="unreachable") as error:
        zoo.load(
            "prodpoly_resnet50",
            weights="imagenet",
            include_top=False,
            input_shape=(32, 32, 3),
        )
    text = str(error.value)
    assert "keras.applications.ResNet50" in text and "~/.keras/models" in text
    assert "pass weights=None" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"input_shape": (32, 32, 1)}, "of 3 channels.* 'stem_conv' from"),
        ({"width": 2}, "'stem_conv' from 'conv1_conv'"),
        ({"blocks": (1, 1)}, "no layer 'stage1_block2_conv1'"),
    ],
)
def test_what_cannot_fit_is_not_downloaded(monkeypatch, arguments, message):
    module = "keras.src.applications.resnet.file_utils.get_file"
    monkeypatch.setattr(module, lambda *args, **kwargs: pytest.fail("network"))
    arguments = {"input_shape": (32, 32, 3), **arguments}
    with pytest.raises(ValueError, match=f"(?s){message}"):
        zoo.load("resnet50", weights="imagenet", **arguments)


def test_imagenet_is_never_a_default():
    with pytest.warns(UserWarning, match="No trained weights"):
        zoo.load(
            "prodpoly_resnet50", blocks=(1,), width=2, input_shape=(32, 32, 3)
        )


@pytest.mark.parametrize(
    "name", ["ResNet50", pytest.param("ResNet101", marks=pytest.mark.slow)]
)
def test_the_whole_networks(name):
    shape = (64, 64, 3)
    arguments = {"input_shape": shape, "classes": 10}
    source = getattr(keras.applications, name)(
        weights=None, classifier_activation=None, **arguments
    )
    randomize(source)
    blocks = {"ResNet50": (3, 4, 6, 3), "ResNet101": (3, 4, 23, 3)}[name]
    target = zoo.load(
        "prodpoly_resnet50", weights=None, blocks=blocks, **arguments
    )
    convert.transfer_weights(source, target)
    compare(source, target, shape)
