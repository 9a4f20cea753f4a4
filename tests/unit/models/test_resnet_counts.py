"""The variants in the table of registered residual networks, counted."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import convert
from keras_polynets import models
from keras_polynets import zoo

ONES = (1, 1, 1, 1)

# The default arguments are counted with every other name of the registry.
VARIANTS = [
    ("resnet18", {"stem": "imagenet"}, 11_689_512),
    ("prodpoly_resnet18", {"gate": True}, 6_009_936),
    ("resnet18_linear", {"blocks": ONES}, 4_903_242),
    ("prodpoly_resnet18_linear", {"order": 5, "blocks": ONES}, 4_903_242),
    ("pinet18", {"product_map": "all"}, 12_389_672),
    ("pinet18", {"product_map": "all", "activation": "relu"}, 12_389_672),
    ("resnet32", {"width": 24}, 1_041_826),
    ("resnet32", {"width": 40}, 2_888_370),
    ("qresnet20", {"rezero": True}, 806_275),
    ("qresnet20", {"neuron": "compact"}, 538_330),
    ("qresnet20", {"neuron": "parabolic"}, 538_330),
    ("qresnet20", {"neuron": "poly"}, 536_986),
    ("qresnet32", {"neuron": "compact"}, 927_194),
    ("qresnet32", {"neuron": "poly"}, 924_954),
    ("quadratic_resnet14", {"use_bias": False}, 518_938),
]
DEEP_VARIANTS = [
    ("resnet34", {"classes": 100}, 21_328_292),
    ("prodpoly_resnet18_linear", {"order": 3}, 11_173_962),
    ("resnet32", {"width": 32}, 1_849_898),
    ("resnet56", {"width": 24}, 1_915_426),
    ("resnet56", {"width": 32}, 3_401_770),
    ("resnet56", {"width": 40}, 5_312_050),
    ("qresnet32", {"neuron": "parabolic"}, 927_194),
    ("qresnet56", {"neuron": "compact"}, 1_704_922),
    ("qresnet56", {"neuron": "parabolic"}, 1_704_922),
    ("qresnet56", {"neuron": "poly"}, 1_700_890),
    ("qresnet110", {"neuron": "compact"}, 3_454_810),
    ("qresnet110", {"neuron": "parabolic"}, 3_454_810),
    ("qresnet18", {"neuron": "compact"}, 22_682_664),
    ("qresnet34", {"neuron": "compact"}, 42_898_984),
]


def identify(value):
    return value if isinstance(value, str) else None


@pytest.mark.parametrize(
    "name, arguments, parameters",
    VARIANTS
    + [pytest.param(*v, marks=pytest.mark.slow) for v in DEEP_VARIANTS],
    ids=identify,
)
def test_parameters_of_variants(name, arguments, parameters):
    model = zoo.load(name, weights=None, **arguments)
    trainable = sum(np.prod(w.shape) for w in model.trainable_variables)
    assert trainable == parameters


@pytest.mark.parametrize(
    "name, shape, classes",
    [
        ("prodpoly_resnet18", (64, 64, 3), 37),
        ("resnet20", (16, 12, 1), 3),
        ("pinet18", (32, 32, 4), 5),
        ("prodpoly_resnet34_speech", (32, 64, 1), 12),
    ],
)
def test_other_shapes_and_classes(name, shape, classes):
    model = zoo.load(
        name, weights=None, input_shape=shape, classes=classes, width=4
    )
    stored = [size or 9000 for size in model.stored_shape]
    images = np.random.default_rng(0).integers(0, 256, (2, *stored))
    logits = model(model.preprocessor(images.astype(model.stored_dtype)))
    assert logits.shape == (2, classes)


@pytest.mark.parametrize(
    "name, low, high",
    [
        ("prodpoly_resnet18", -1, 1),
        (
            "resnet20",
            np.divide((-0.485, -0.456, -0.406), (0.229, 0.224, 0.225)),
            np.divide((0.515, 0.544, 0.594), (0.229, 0.224, 0.225)),
        ),
        (
            "quadratic_resnet14",
            np.divide((-0.4914, -0.4822, -0.4465), (0.2023, 0.1994, 0.2010)),
            np.divide((0.5086, 0.5178, 0.5535), (0.2023, 0.1994, 0.2010)),
        ),
    ],
)
def test_images_are_standardised_as_the_papers_do(name, low, high):
    model = zoo.load(name, weights=None, width=4)
    black, white = np.zeros((1, 32, 32, 3)), np.full((1, 32, 32, 3), 255.0)
    for image, expected in ((black, low), (white, high)):
        pixel = ops.convert_to_numpy(model.preprocessor(image))[0, 5, 7]
        np.testing.assert_allclose(pixel, np.broadcast_to(expected, 3), 1e-5)


SPOKEN = {"weights": None, "width": 2, "blocks": (1,)}


def test_waves_of_speech_become_spectrograms():
    model = zoo.load("prodpoly_resnet34_speech", **SPOKEN)
    waves = np.random.default_rng(0).integers(-99, 99, (2, 9000), "int16")
    found = ops.convert_to_numpy(model.preprocessor(waves))
    assert found.shape == (2, 32, 32, 1)
    # The loudest band of each example, and silence behind the end.
    np.testing.assert_allclose(found.max((1, 2, 3)), 1)
    np.testing.assert_array_equal(found[:, :, -5:], -1)
    assert (model.stored_shape, model.stored_dtype) == ((None,), "int16")
    assert model(found).shape == (2, 35)


def test_speech_of_another_rate_and_size():
    arguments = {"input_shape": (16, 40, 1), "sampling_rate": 8000}
    model = zoo.load("resnet34_speech", **SPOKEN, **arguments)
    preprocessor = model.preprocessor
    assert preprocessor.input_rate == 8000
    assert preprocessor(np.zeros((1, 8000), "int16")).shape == (1, 16, 40, 1)
    with pytest.raises(
        ValueError, match=r"of \(bands, moments, 1\), all .*3\)"
    ):
        zoo.load("resnet34_speech", **SPOKEN, input_shape=(32, 32, 3))
    with pytest.raises(ValueError, match="`sampling_rate` must be an integer"):
        zoo.load("resnet34_speech", **SPOKEN, sampling_rate=0)


def test_converted_speech_still_takes_waves(tmp_path):
    model = zoo.load("resnet34_speech", **SPOKEN)
    converted = convert.to_prodpoly(model)
    waves = np.random.default_rng(0).integers(-99, 99, (2, 9000), "int16")
    path = tmp_path / "model.keras"
    converted.save(path)
    for other in (converted, keras.models.load_model(path)):
        assert (other.stored_shape, other.stored_dtype) == ((None,), "int16")
        np.testing.assert_allclose(
            ops.convert_to_numpy(other.preprocessor(waves)),
            ops.convert_to_numpy(model.preprocessor(waves)),
        )


@pytest.mark.parametrize("order", [2, 5])
def test_registered_arguments_reach_the_class(order):
    model = zoo.load(
        "prodpoly_resnet18_linear",
        weights=None,
        order=order,
        blocks=(1,),
        width=4,
    )
    assert isinstance(model, models.ResNet)
    assert model.get_config()["order"] == order
    products = [x.name for x in model.layers if "product" in x.name]
    assert len(products) == order - 1
