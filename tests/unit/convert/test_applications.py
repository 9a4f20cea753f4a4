"""Every model of keras.applications becomes quadratic and computes the same."""

import keras
import numpy as np
import pytest
from keras import applications

from keras_polynets import convert
from keras_polynets.analysis import graphs
from tests.unit.convert.prodpoly_checks import randomize
from tests.unit.convert.prodpoly_checks import value

# The families, by their smallest member and the smallest images that it takes.
FAMILIES = {
    "ConvNeXtTiny": 32,
    "DenseNet121": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "InceptionResNetV2": 75,
    "InceptionV3": 75,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "NASNetMobile": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "VGG16": 32,
    "Xception": 71,
}
# These take half of the time of all.
SLOW = {"ConvNeXtTiny", "InceptionResNetV2", "NASNetMobile"}
OTHERS = sorted(
    name
    for name in dir(applications)
    if name[0].isupper() and name not in FAMILIES
)


def check(name, size):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    arguments = {"input_shape": (size, size, 3), "classes": 5, "weights": None}
    model = getattr(applications, name)(classifier_activation=None, **arguments)
    randomize(model)
    for layer in graphs.leaves(model).values():
        if isinstance(layer, keras.layers.Dropout):
            # A block that is dropped for both images has no gradient.
            layer.rate = 0.0
    # So that the largest and its gradients fit into memory.
    neuron = "compact" if model.count_params() > 1.5e8 else "full"
    quadratic = convert.to_quadratic(model, neuron)

    rng = np.random.default_rng(1)
    images = rng.uniform(-1, 1, (2, size, size, 3)).astype("float32")
    expected = value(model(images))
    assert np.std(expected) > 0
    np.testing.assert_allclose(
        value(quadratic(images)), expected, atol=1e-5 * np.abs(expected).max()
    )
    assert [x.name for x in quadratic.layers] == [x.name for x in model.layers]
    assert quadratic.input.name == model.input.name
    linear = (keras.layers.Conv2D, keras.layers.Dense)
    leaves = graphs.leaves(model).values()
    count = sum(type(layer) in linear for layer in leaves)
    assert len(quadratic.conversion_report.replaced) == count > 0

    kernels = [
        w
        for w in quadratic.trainable_variables
        if w.name == "kernel"
        and getattr(w, "quadratic_role", "linear") != "linear"
    ]
    assert len(kernels) == (2 if neuron == "full" else 1) * count
    del model, leaves
    assert not any(np.any(value(w)) for w in kernels)
    quadratic.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    quadratic.train_on_batch(images, rng.integers(0, 5, 2))
    still = [w.path for w in kernels if not np.any(value(w))]
    assert still == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in FAMILIES
    ],
)
def test_one_of_each_family(name):
    check(name, FAMILIES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_all_others(name):
    check(name, 32)
