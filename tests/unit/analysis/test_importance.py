import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_polynets import analysis
from keras_polynets import convert
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.layers import QuadraticDense


def data():
    """The class is the sign of a product: nothing that a linear map sees."""
    x = np.random.default_rng(0).normal(size=(400, 2)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype("int32")


def solution(neuron="full"):
    """A network that classifies the data by the products of one layer."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            QuadraticDense(2, neuron=neuron, name="product"),
            layers.BatchNormalization(name="norm", epsilon=0),
            QuadraticDense(2, name="head"),
        ],
        name="solution",
    )
    product, head = model.get_layer("product"), model.get_layer("head")
    for branch in product.branches().values():
        branch.set_weights([np.zeros(w.shape) for w in branch.weights])
    product.linear.kernel.assign([[1, 1], [0, 0]])
    product.gate.kernel.assign([[0, 0], [1, 1]])
    head.linear.kernel.assign([[-1, 1], [0, 0]])
    return model


@pytest.mark.parametrize("neuron", ["full", "parabolic", "quadralib"])
def test_what_masking_a_layer_loses(neuron):
    model = solution(neuron)
    before = model.get_weights()
    x, y = data()
    product, head = analysis.layer_importance(model, (x, y))
    assert (product.name, head.name) == ("product", "head")
    # Without the product: the linear part x_0, or what is added, 0.
    rest = np.mean((x[:, 0] > 0) == y) if neuron != "quadralib" else None
    rest = np.mean(y == 0) if rest is None else rest
    assert product.accuracy == pytest.approx(rest)
    assert product.accuracy_lost == pytest.approx(1 - rest)
    assert head.accuracy == 1 and head.accuracy_lost == 0
    assert head.redundancy == math.inf
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_shares_of_parameters_and_work():
    product, head = analysis.layer_importance(solution(), data())
    # Three maps of 2 * 2 weights and 2 biases each; the norm has 8 numbers.
    assert product.parameters == head.parameters == 18
    assert product.parameter_share == 18 / 44
    # Three maps of 4, a product for each output, a square for each input.
    assert product.multiply_adds == 16 and product.work_share == 0.5
    assert product.redundancy == pytest.approx(
        18 / 44 * 0.5 / product.accuracy_lost
    )


def test_normalised_branches():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            QuadraticConv2D(
                2, 3, neuron="quadralib", branch_normalization=True, name="conv"
            ),
            layers.GlobalAveragePooling2D(),
        ]
    )
    rng = np.random.default_rng(0)
    for w in model.weights:
        w.assign(rng.uniform(0.5, 1.5, w.shape))
    x = rng.normal(size=(50, 4, 4, 1)).astype("float32")
    conv = model.get_layer("conv")
    addend = conv.addend_normalization(conv.addend(x), training=False)
    logits = keras.ops.convert_to_numpy(addend).mean(axis=(1, 2))
    labels = np.argmax(logits, axis=-1)
    (row,) = analysis.layer_importance(model, (x, labels))
    assert row.accuracy == 1


def test_open_sizes_are_those_of_the_data():
    inputs = keras.Input((None, None, 1))
    x = QuadraticConv2D(2, 3, use_bias=True, name="conv")(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    images = np.ones((4, 5, 5, 1), "float32")
    (row,) = analysis.layer_importance(model, (images, np.zeros(4, "int32")))
    assert row.multiply_adds == 3 * 9 * 2 * 9 + 25 + 18 and row.work_share == 1


def test_the_rows_are_a_filter():
    source = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(2, name="product"),
            layers.BatchNormalization(),
            layers.Dense(2, name="head"),
        ]
    )
    rows = analysis.layer_importance(solution(), data())
    worth = [row for row in rows if row.accuracy_lost > 0.1]
    smaller = convert.to_quadratic(source, filter=worth)
    assert isinstance(smaller.get_layer("product"), QuadraticDense)
    assert type(smaller.get_layer("head")) is layers.Dense


def test_weights_come_back_after_an_error():
    model = solution()
    before = model.get_weights()
    x, y = data()

    class Broken:
        reads = 0

        def __iter__(self):
            self.reads += 1
            if self.reads == 3:
                raise RuntimeError("no more data")
            return iter([(x, y)])

    with pytest.raises(RuntimeError, match="no more data"):
        analysis.layer_importance(model, Broken())
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_input():
    with pytest.raises(ValueError, match="'m' has no quadratic layer. Convert"):
        analysis.layer_importance(
            keras.Sequential([keras.Input((2,)), layers.Dense(2)], name="m"),
            data(),
        )
    for neuron in ("goyal", "type2", "type3", "type4", "type2_4"):
        model = keras.Sequential(
            [keras.Input((2,)), QuadraticDense(2, neuron=neuron, name="q")]
        )
        with pytest.raises(
            ValueError, match=f"'q' has '{neuron}' neurons.* no first-order"
        ):
            analysis.layer_importance(model, data())
    with pytest.raises(ValueError, match="Labels must be classes from 0 to 1"):
        x, y = data()
        analysis.layer_importance(solution(), (x, y + 50))
    with pytest.raises(ValueError, match="Received an iterator .*generator"):
        analysis.layer_importance(solution(), (batch for batch in [data()]))
