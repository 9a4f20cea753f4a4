"""Checkpoints of QuadraLib, against the networks written in NumPy."""

import re
import sys

import keras
import numpy as np
import pytest

from keras_polynets import convert
from keras_polynets import zoo
from keras_polynets.convert.torch_quadralib import load_into
from keras_polynets.layers import QuadraticConv2D

VGG = (64, 64, "M", 128, 128, "M", 256, "M", 512, "M", 512, "M")


class State:
    """A random state dict in PyTorch's layout, made as it is described."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.tensors = {}

    def add(self, name, *shape, scale=0.3, shift=0.0):
        values = self.rng.normal(shift, scale, shape)
        self.tensors[name] = values.astype("float32")

    def conv(self, name, inputs, outputs, kernel=3, bias=True):
        scale = 1 / np.sqrt(inputs * kernel**2)
        self.add(f"{name}.weight", outputs, inputs, kernel, kernel, scale=scale)
        if bias:
            self.add(f"{name}.bias", outputs)

    def norm(self, name, size):
        for key in ("weight", "bias", "running_mean"):
            self.add(f"{name}.{key}", size)
        self.tensors[f"{name}.running_var"] = self.rng.uniform(
            0.5, 1.5, size
        ).astype("float32")
        self.tensors[f"{name}.num_batches_tracked"] = np.array(7)

    def unit(self, name, inputs, outputs):
        for i in (1, 2, 3):
            self.conv(f"{name}.conv{i}", inputs, outputs)
            self.norm(f"{name}.bn{i}", outputs)

    def linear(self, name, inputs, outputs):
        self.add(f"{name}.weight", outputs, inputs)
        self.add(f"{name}.bias", outputs)


def resnet14(classes=10):
    state = State()
    state.conv("conv1", 3, 16, bias=False)
    state.norm("bn1", 16)
    inputs = 16
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        for block in (0, 1):
            name = f"layer{stage}.{block}"
            for i in (1, 2):
                state.unit(
                    f"{name}.conv{i}", inputs if i == 1 else width, width
                )
                state.norm(f"{name}.bn{i}", width)
            if inputs != width:
                state.conv(f"{name}.shortcut.0", inputs, width, 1, bias=False)
                state.norm(f"{name}.shortcut.1", width)
            inputs = width
    state.linear("linear", 64, classes)
    return state.tensors


def vgg7():
    state, i, inputs = State(), 0, 3
    for width in VGG:
        if width == "M":
            i += 1
            continue
        state.unit(f"features.{i}", inputs, width)
        state.norm(f"features.{i + 1}", width)
        inputs, i = width, i + 3
    state.linear("classifier", 512, 10)
    return state.tensors


class Network:
    """PyTorch's layers in float64, images in the order batch, channel, y, x."""

    def __init__(self, tensors):
        self.tensors = {k: v.astype("float64") for k, v in tensors.items()}

    def conv(self, name, x, stride=1):
        w = self.tensors[f"{name}.weight"]
        pad = w.shape[-1] // 2
        x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
        windows = np.lib.stride_tricks.sliding_window_view(
            x, w.shape[2:], axis=(2, 3)
        )[:, :, ::stride, ::stride]
        y = np.tensordot(windows, w, ([1, 4, 5], [1, 2, 3]))
        y = y + self.tensors.get(f"{name}.bias", 0)
        return y.transpose(0, 3, 1, 2)

    def norm(self, name, x):
        weight, bias, mean, variance = (
            self.tensors[f"{name}.{key}"][:, None, None]
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    def unit(self, name, x, stride=1):
        a, b, c = (
            self.norm(f"{name}.bn{i}", self.conv(f"{name}.conv{i}", x, stride))
            for i in (1, 2, 3)
        )
        return a * b + c

    def linear(self, name, x):
        weight, bias = (self.tensors[f"{name}.{k}"] for k in ("weight", "bias"))
        return x @ weight.T + bias

    def resnet14(self, x):
        x = np.maximum(self.norm("bn1", self.conv("conv1", x)), 0)
        for stage in (1, 2, 3):
            for block in (0, 1):
                name = f"layer{stage}.{block}"
                stride = 2 if stage > 1 and block == 0 else 1
                y = self.unit(f"{name}.conv1", x, stride)
                y = np.maximum(self.norm(f"{name}.bn1", y), 0)
                y = self.norm(f"{name}.bn2", self.unit(f"{name}.conv2", y))
                if f"{name}.shortcut.0.weight" in self.tensors:
                    x = self.conv(f"{name}.shortcut.0", x, stride)
                    x = self.norm(f"{name}.shortcut.1", x)
                x = np.maximum(x + y, 0)
        return self.linear("linear", x.mean(axis=(2, 3)))

    def vgg7(self, x):
        i = 0
        for width in VGG:
            if width == "M":
                n, c, h, w = x.shape
                x = x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
                i += 1
            else:
                x = self.norm(
                    f"features.{i + 1}", self.unit(f"features.{i}", x)
                )
                x, i = np.maximum(x, 0), i + 3
        return self.linear("classifier", x.reshape(len(x), -1))


def images():
    return np.random.default_rng(1).normal(size=(2, 32, 32, 3))


def check(model, network):
    expected = network(images().transpose(0, 3, 1, 2))
    assert np.std(expected) > 0.1
    received = model.predict(images().astype("float32"), verbose=0)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-4 * scale)


def test_resnet14():
    tensors = resnet14()
    count = sum(
        v.size
        for k, v in tensors.items()
        if not re.search("running|tracked", k)
    )
    assert count == 520_282
    model = convert.from_torch_quadralib(
        {"net": {f"module.{k}": v for k, v in tensors.items()}, "acc": 93.2}
    )
    assert model.name == "quadratic_resnet14" and model.compiled
    check(model, Network(tensors).resnet14)


def test_the_layers_of_vgg7():
    """Its modules are taken in order, whatever the layers are called."""
    x = inputs = keras.Input((32, 32, 3))
    for width in VGG:
        if width == "M":
            x = keras.layers.MaxPooling2D()(x)
            continue
        x = QuadraticConv2D(
            width,
            3,
            neuron="quadralib",
            branch_normalization=True,
            padding="same",
        )(x)
        x = keras.layers.BatchNormalization(epsilon=1e-5)(x)
        x = keras.layers.ReLU()(x)
    x = keras.layers.Dense(10)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    assert sum(np.prod(w.shape) for w in model.trainable_variables) == (
        12_304_330
    )
    tensors = vgg7()
    load_into(model, tensors)
    check(model, Network(tensors).vgg7)
    del tensors["classifier.bias"]
    with pytest.raises(ValueError, match="missing: classifier.bias"):
        load_into(model, tensors)
    unit = {k: v for k, v in tensors.items() if k[:11] != "features.23"}
    with pytest.raises(ValueError, match="expected 15 modules .* received 14"):
        load_into(model, unit)


@pytest.mark.skipif(
    "quadratic_vgg7" not in zoo.list_models(),
    reason="quadratic_vgg7 is not registered",
)
def test_vgg7():
    tensors = vgg7()
    model = convert.from_torch_quadralib(tensors)
    assert model.name == "quadratic_vgg7"
    check(model, Network(tensors).vgg7)


def test_another_number_of_classes():
    model = convert.from_torch_quadralib(resnet14(classes=100))
    assert model.output_shape == (None, 100)


def test_files(tmp_path):
    tensors = resnet14()
    np.savez(tmp_path / "net.npz", **tensors)
    model = convert.from_torch_quadralib(tmp_path / "net.npz")
    expected = convert.from_torch_quadralib(tensors)
    for a, b in zip(model.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="or the path of a.*Received: list"):
        convert.from_torch_quadralib([1, 2])
    with pytest.raises(FileNotFoundError, match="There is no checkpoint"):
        convert.from_torch_quadralib(str(tmp_path / "none.pth"))
    np.savez(tmp_path / "code.npz", net=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="not one of tensors only"):
        convert.from_torch_quadralib(tmp_path / "code.npz")


def test_files_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {k: torch.tensor(v) for k, v in resnet14().items()}
    path = tmp_path / "net.pth"
    torch.save({"net": tensors, "acc": 93.23, "epoch": 199}, path)
    check(convert.from_torch_quadralib(path), Network(resnet14()).resnet14)
    check(convert.from_torch_quadralib(tensors), Network(resnet14()).resnet14)
    torch.save({"net": tensors, "run": print}, path)
    with pytest.raises(ValueError, match="not one of tensors only"):
        convert.from_torch_quadralib(path)


def test_a_library_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "net.pth").write_bytes(b"")
    with pytest.raises(
        ImportError, match="takes the library 'torch'. Install it, or pass"
    ):
        convert.from_torch_quadralib(tmp_path / "net.pth")


def test_tensors_that_do_not_fit(monkeypatch):
    models = []
    load = zoo.load
    monkeypatch.setattr(
        zoo, "load", lambda *a, **k: models.append(load(*a, **k)) or models[-1]
    )
    tensors = resnet14()
    del tensors["layer2.0.conv1.bn3.weight"]
    tensors["layer2.0.conv1.conv4.weight"] = np.zeros((1, 1, 1, 1))
    tensors["bn1.bias"] = np.zeros(3)
    tensors["layer3.0.shortcut.0.weight"] = np.zeros((64, 32, 3, 3))
    keras.utils.set_random_seed(0)
    before = load("quadratic_resnet14", weights=None).get_weights()
    keras.utils.set_random_seed(0)
    with pytest.raises(ValueError) as error:
        convert.from_torch_quadralib(tensors)
    assert str(error.value) == (
        "The checkpoint does not fit 'quadratic_resnet14', which is unchanged:"
        "\n  bn1.bias: expected (16,), received (3,)"
        "\n  layer3.0.shortcut.0.weight: expected (64, 32, 1, 1), received "
        "(64, 32, 3, 3)"
        "\n  left over: layer2.0.conv1.conv4.weight"
        "\n  missing: layer2.0.conv1.bn3.weight"
    )
    for a, b in zip(before, models[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "QuadraLib's ResNet-14 .* Received: none"),
        ({"fc.weight": np.zeros(2)}, "Received: fc.weight"),
        ({"net": 3}, "Expected a dictionary from names to tensors"),
    ],
)
def test_other_networks(state, message):
    with pytest.raises(ValueError, match=message):
        convert.from_torch_quadralib(state)
