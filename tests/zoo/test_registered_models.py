"""Every registered model, tested the day it is registered."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import zoo

MEMBERS = zoo.list_models("test_*")
NAMES = zoo.list_models()
WITHOUT_RECIPE = {
    "guided_denoiser": "training.denoiser trains it for a classifier",
    "quadratic_autoencoder": "recipes train classifiers",
}
# Building it takes a quarter of a minute.
DEEPEST = ["resnet1202"]


# It multiplies the shortcut, whose mean over an image is 0: it is
# instance-normalised, and a global average follows the last block.
WITHOUT_GRADIENT = {"ncp_prodpoly_cifar10": "stage4_block1_norm1/beta"}
# With two blocks a stage they are the shallower ones of their kind.
DEEPER = [
    *("resnet32", "resnet34", "resnet56", "resnet110", "resnet1202"),
    *("qresnet32", "qresnet34", "qresnet56", "qresnet110"),
]


def slow_if(condition, names=NAMES):
    """Returns the names; those that meet it run in `make test-all` only."""
    return [
        pytest.param(name, marks=[pytest.mark.slow] if condition(name) else [])
        for name in names
    ]


def is_large(name):
    return zoo.info(name)["parameters"] > 250_000


ABILITIES = slow_if(lambda name: name not in MEMBERS)
ABILITIES_OF_SHRUNK = slow_if(
    lambda name: name not in MEMBERS,
    [name for name in NAMES if name not in DEEPER],
)
# Two replicas train one of each kind of layer; the others take a minute more.
REPLICATED = slow_if(
    lambda name: name not in ("test_pn", "test_pn_conv", "test_qresnet"),
    [name for name in NAMES if name not in DEEPER],
)
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's ability"
)


def load(name, **kwargs):
    """Loads a model, those for large images for small ones."""
    model = zoo.load(name, weights=None, **kwargs)
    *sizes, channels = model.input_shape[1:]
    if max(sizes) <= 64:
        return model
    shape = (*(min(size, 64) for size in sizes), channels)
    return zoo.load(name, weights=None, input_shape=shape, **kwargs)


def shrunk(name, **kwargs):
    """Loads a model with at most two blocks a stage, of few filters.

    A ResNet begins with at most 8, each convolution of a VGG has at most 8.
    Training in float16 or on replicas is slow on a CPU, and the block that
    may fail is the same.
    """
    config = load(name, **kwargs).get_config()
    if "layout" in config:
        kwargs["layout"] = [
            size if size == "M" else min(size, 8) for size in config["layout"]
        ]
    if "width" in config:
        kwargs["width"] = min(config["width"], 8)
        kwargs["blocks"] = [min(number, 2) for number in config["blocks"]]
    return load(name, **kwargs)


def images(model, size=4):
    rng = np.random.default_rng(0)
    return rng.uniform(*model.input_range, (size, *model.input_shape[1:]))


def classifies(name):
    """Says whether a model gives logits, and not images."""
    return zoo.info(name)["task"] != "image denoising"


def targets(model, size):
    """Returns what a model is trained with: labels or images."""
    if classifies(model.name):
        return np.arange(size) % model.output_shape[-1]
    return images(model, size)


def perturb(model):
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        noise = rng.normal(size=weight.shape, scale=0.01)
        weight.assign(ops.convert_to_numpy(weight) + noise)


@pytest.mark.parametrize("name", slow_if(lambda name: name in DEEPEST))
def test_parameters(name):
    model = zoo.load(name, weights=None)
    trainable = sum(np.prod(w.shape) for w in model.trainable_variables)
    assert trainable == zoo.info(name)["parameters"]


def test_parameters_of_other_shapes():
    model = zoo.load("pn_conv", weights=None, input_shape=(32, 32, 3))
    assert model.count_params() == 60_874
    for name, parameters in (("pn4", 196_778), ("pn10", 491_690)):
        model = zoo.load(name, weights=None, input_shape=(32, 32, 3))
        assert model.count_params() == parameters


@pytest.mark.parametrize("name", slow_if(is_large))
def test_outputs(name):
    model = load(name)
    expected = model.input_shape[1:]
    if classifies(name):
        model, expected = load(name, classes=7), (7,)
    # As in training: with the statistics that batch normalisations begin with,
    # deep networks without a first-order point overflow.
    outputs = ops.convert_to_numpy(model(images(model), training=True))
    assert outputs.shape == (4, *expected) and np.isfinite(outputs).all()
    assert outputs.std() > 0
    assert model.name == name
    assert [x.name for x in model.inputs] == ["images"]


def settle(model, x):
    """Gives batch normalisations the statistics of a batch of images.

    With those that they begin with, deep networks of squares overflow.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(x, training=True)


@pytest.mark.parametrize("name", NAMES)
def test_info_and_card(name):
    info = zoo.info(name)
    for key in ("description", "family", "task", "paper", "parameters"):
        assert info[key], key
    assert zoo.card(name).startswith("# ")
    assert bool(info["recipes"]) != (name in {*MEMBERS, *WITHOUT_RECIPE})


@pytest.mark.parametrize("name", ABILITIES)
@tensorflow_only
def test_a_gradient_reaches_every_parameter(name):
    import tensorflow as tf

    model = load(name, dtype="float64")
    if model.get_config().get("activation") == "relu":
        # Rectified units may be dead from the start.
        model = load(name, dtype="float64", activation="leaky_relu")
    perturb(model)
    x = ops.convert_to_tensor(images(model, 16), "float64")
    settle(model, x)
    weights = np.random.default_rng(1).normal(size=model.output_shape[1:])
    reached = {w.path: 0 for w in model.trainable_variables}
    # In training a normalisation takes away what a bias before it adds.
    for training in (False, True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=training) * weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        for path, gradient in zip(reached, gradients, strict=True):
            reached[path] |= np.abs(gradient) > 1e-12
    if name in WITHOUT_GRADIENT:
        assert not reached.pop(WITHOUT_GRADIENT[name]).any()
    missed = [path for path, where in reached.items() if not where.all()]
    assert missed == []


@pytest.mark.parametrize("name", ABILITIES)
def test_keras_file(name, tmp_path):
    model = load(name)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    x = images(model)
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert loaded.get_config() == model.get_config()


@pytest.mark.parametrize("name", ABILITIES)
@tensorflow_only
def test_serves_without_this_package(name, tmp_path):
    # Sixteen squares, one after another, amplify what is rounded.
    squares = name == "vgg16_quadratic_activation"
    model = load(name, dtype="float64" if squares else "float32")
    stored = np.random.default_rng(0).integers(
        0,
        np.iinfo(model.stored_dtype).max,
        (5, *(size or 9000 for size in model.stored_shape)),
        model.stored_dtype,
    )
    settle(model, model.preprocessor(stored))
    model.export(tmp_path / "saved")
    np.save(tmp_path / "stored.npy", stored)
    program = f"""
        import sys
        sys.modules["keras"] = sys.modules["keras_polynets"] = None
        import numpy as np, tensorflow as tf
        served = tf.saved_model.load({str(tmp_path / "saved")!r})
        x = np.load({str(tmp_path / "stored.npy")!r})
        outputs = {{
            f"{{key}}-{{n}}": value.numpy()
            for n in (1, 5)
            for key, value in served.serve_raw(x[:n]).items()
        }}
        np.savez({str(tmp_path / "outputs.npz")!r}, **outputs)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    expected = ops.convert_to_numpy(model(model.preprocessor(stored)))
    key, scale = "logits", 1
    if not classifies(name):
        key, scale = "denoised", 255
        expected = model.to_data_range(expected) / scale
    assert np.isfinite(expected).all()
    # Convolutions of one image and of five are rounded differently.
    tolerance = 1e-4 * max(1, np.abs(expected).max())
    with np.load(tmp_path / "outputs.npz") as outputs:
        for n in (1, 5):
            np.testing.assert_allclose(
                outputs[f"{key}-{n}"] / scale, expected[:n], atol=tolerance
            )


@pytest.mark.parametrize("name", REPLICATED)
@tensorflow_only
def test_two_replicas_train_like_one(name, tmp_path):
    """Runs in a process of its own: logical devices are set up once.

    Batch normalisations take the statistics of all replicas together. In
    float64 and few steps, because those of deep networks amplify what is
    rounded, a hundredfold each.
    """
    size = 64 if name in MEMBERS else 16
    dtype = "float64" if classifies(name) else "float32"
    config = shrunk(name, dtype=dtype).get_config()
    changed = ("input_shape", "width", "blocks", "layout", "dtype")
    config = {key: config[key] for key in changed if key in config}
    program = f"""
        import contextlib
        import keras, numpy as np
        from keras_polynets import callbacks, constraints, distribute, zoo

        def train(scope):
            with scope:
                keras.utils.set_random_seed(0)
                model = zoo.load({name!r}, weights=None, **{config})
            for layer in model._flatten_layers():
                if hasattr(layer, "synchronized"):
                    layer.synchronized = True
            rng = np.random.default_rng(0)
            model.set_weights([
                rng.normal(size=w.shape, scale=0.1) for w in model.weights
            ])
            x = rng.uniform(-1, 1, ({size}, *model.input_shape[1:]))
            y = rng.integers(0, model.output_shape[-1], {size})
            if {not classifies(name)}:
                y = abs(x)
            # All but transposed convolutions, which are not projected.
            kernels = [m.kernel for m in constraints.linear_maps(model)]
            bounds = {{k.path.rpartition("/")[0]: 0.5 for k in kernels}}
            projection = callbacks.PeriodicProjection(bounds, every=3)
            model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0,
                      callbacks=[projection])
            for kernel in kernels:
                assert constraints.row_norms(kernel).max() < 0.5 + 1e-4
            return model.get_weights()

        two = train(distribute.strategy("mirrored", devices=2).scope())
        one = train(contextlib.nullcontext())
        for a, b in zip(one, two):
            np.testing.assert_allclose(a, b, atol=1e-5)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ABILITIES_OF_SHRUNK)
def test_trains_in_mixed_precision(name, policy):
    keras.utils.set_random_seed(0)
    model = shrunk(name, dtype=policy)
    # Networks of bare products diverge at larger ones.
    model.optimizer.learning_rate = 0.001
    x, y = images(model, 4), targets(model, 4)
    before = model.get_weights()
    # The first steps of float16 look for the scale of the loss, and a gate
    # that begins at zero lets nothing through.
    history = model.fit(x, y, epochs=12, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    after = model.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)
    paths = [weight.path for weight in model.weights]
    stuck = [
        path
        for path, a, b in zip(paths, before, after, strict=True)
        if np.array_equal(a, b)
    ]
    # At the start it is a factor, which a normalisation behind takes out.
    still = "gate/bias", WITHOUT_GRADIENT.get(name, "gate/bias")
    assert [path for path in stuck if not path.endswith(still)] == []


@pytest.mark.parametrize(
    "name",
    [f"{name}.{tag}" for name in NAMES for tag in zoo.info(name)["tags"]],
)
def test_stored_outputs_are_reproduced(name):
    model = zoo.load(name)
    model_name, tag = name.split(".")
    path = zoo.data_directory() / model_name / f"{tag}.reference.npz"
    with np.load(path, allow_pickle=False) as reference:
        key = "logits" if classifies(name) else "outputs"
        stored, outputs = reference["images"], reference[key]
    ours = ops.convert_to_numpy(model(model.preprocessor(stored)))
    np.testing.assert_allclose(
        ours, outputs, rtol=1e-4, atol=1e-4 * np.abs(outputs).max()
    )


def test_all_weights_are_small():
    files = list(zoo.data_directory().rglob("*.weights.h5"))
    sizes = [path.stat().st_size for path in files]
    assert max(sizes, default=0) < 16e6
    assert sum(sizes) < 60e6


def test_members_are_small():
    for name in MEMBERS:
        assert zoo.info(name)["parameters"] < 500_000
