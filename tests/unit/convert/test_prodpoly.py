"""Residual Keras models get second-order terms and compute the same."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_polynets import analysis
from keras_polynets import convert
from keras_polynets import models
from keras_polynets import zoo
from tests.unit.convert.prodpoly_checks import check_all_move
from tests.unit.convert.prodpoly_checks import convert_and_check
from tests.unit.convert.prodpoly_checks import inputs_of
from tests.unit.convert.prodpoly_checks import last_kernels
from tests.unit.convert.prodpoly_checks import new_layers
from tests.unit.convert.prodpoly_checks import randomize
from tests.unit.convert.prodpoly_checks import value


def block(x, filters=4, strides=1, name="block", activation="relu"):
    def conv(x, number, strides=1):
        x = layers.Conv2D(
            filters, 3, strides, "same", name=f"{name}_conv{number}"
        )(x)
        return layers.BatchNormalization(name=f"{name}_norm{number}")(x)

    shortcut = x
    if strides > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(
            filters, 1, strides, name=f"{name}_shortcut_conv"
        )(x)
        shortcut = layers.BatchNormalization(name=f"{name}_shortcut")(shortcut)
    f = layers.Activation(activation, name=f"{name}_act1")(conv(x, 1, strides))
    x = layers.Add(name=f"{name}_sum")([conv(f, 2), shortcut])
    return layers.Activation(activation, name=name)(x)


def residual(activation="relu", **kwargs):
    inputs = keras.Input((6, 6, 3), name="images", **kwargs)
    x = block(inputs, 4, 1, "block1", activation)
    x = block(x, 4, 1, "block2", activation)
    x = block(x, 8, 2, "block3", activation)
    x = layers.GlobalAveragePooling2D(name="pooling")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x), name="res")


@pytest.mark.parametrize("operand_map", [None, "conv", "factorized"])
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_the_maps(operand_map, activation):
    model = residual()
    new = convert_and_check(
        model, operand_map=operand_map, product_activation=activation
    )
    rows = new.conversion_report.replaced
    assert [row.name for row in rows] == [f"block{i}_sum" for i in (1, 2, 3)]
    each = {None: [1, 1, 1], "conv": [16, 16, 64], "factorized": [8, 8, 32]}
    assert [r.parameters for r in rows] == [(0, n) for n in each[operand_map]]
    # Maps and products, at 6 × 6 and 3 × 3.
    maps = {None: [0] * 3, "conv": [16, 16, 64], "factorized": [8, 8, 32]}
    work = [
        (m + c) * n
        for m, c, n in zip(
            maps[operand_map], (4, 4, 8), (36, 36, 9), strict=True
        )
    ]
    assert [row.multiply_adds for row in rows] == [(0, w) for w in work]
    report = new.conversion_report
    assert report.parameters[1] - report.parameters[0] == sum(each[operand_map])
    assert report.multiply_adds[1] - report.multiply_adds[0] == sum(work)
    assert "block1_sum: Add -> NCP-Skip" in str(report)
    check_all_move(model, new, 3)


def test_a_gate_takes_any_activation():
    model = residual()
    new = convert_and_check(
        model, operand_map=None, product_activation="sigmoid"
    )
    check_all_move(model, new, 3)


@pytest.mark.parametrize("kind", ["conv", "factorized", None])
def test_the_formula(kind):
    """s + F + tanh(F * X s), where F is the branch and s the shortcut."""
    model = residual()
    new = convert_and_check(model, operand_map=kind, product_activation="tanh")
    randomize(new, 1)
    names = ["block3_norm2", "block3_shortcut", "block3_sum"]
    part = keras.Model(new.input, [new.get_layer(n).output for n in names])
    f, s, total = map(value, part(inputs_of(model)))
    if kind == "conv":
        kernels = [new.get_layer("block3_sum_operand").kernel]
    elif kind == "factorized":
        kernels = [
            new.get_layer(f"block3_sum_operand{i}").kernel for i in (1, 2)
        ]
    else:
        kernels = []
    x = s
    for kernel in kernels:
        x = x @ value(kernel)[0, 0]
    gate = 1.0 if kind else value(new.get_layer("block3_sum_gate").alpha)
    expected = s + f + gate * np.tanh(f * x)
    np.testing.assert_allclose(total, expected, atol=1e-5 * np.abs(total).max())


def test_an_activation_free_network_becomes_a_polynomial():
    model = residual("linear")
    assert analysis.polynomial_degree(model) == 1
    assert analysis.polynomial_degree(convert.to_prodpoly(model)) == 2**3
    with pytest.raises(analysis.NotPolynomialError, match="block1_sum_act"):
        analysis.polynomial_degree(
            convert.to_prodpoly(model, product_activation="tanh")
        )


def dense_block(units=4, name="inner"):
    inputs = keras.Input((units,), name="features")
    x = layers.Dense(units, "relu", name="hidden")(inputs)
    x = layers.Dense(units, name="out")(x)
    return keras.Model(inputs, layers.Add(name="sum")([inputs, x]), name=name)


def test_nested_sequential_and_shared_models():
    shared = dense_block()
    model = keras.Sequential(
        [
            keras.Input((4,), name="x"),
            layers.Dense(4, name="stem"),
            shared,
            keras.Sequential([dense_block(name="deep")], name="stack"),
            layers.Dense(3, name="head"),
        ],
        name="sequential",
    )
    new = convert_and_check(model)
    assert type(new) is keras.Sequential
    rows = new.conversion_report.replaced
    assert [row.name for row in rows] == ["inner/sum", "stack/deep/sum"]
    assert [row.parameters for row in rows] == [(0, 8), (0, 8)]
    assert [row.multiply_adds for row in rows] == [(0, 12), (0, 12)]
    check_all_move(model, new, 3)

    inputs = keras.Input((4,))
    twice = keras.Model(inputs, layers.Dense(3)(shared(shared(inputs))))
    new = convert_and_check(twice, operand_map="conv")
    assert len(new.conversion_report.replaced) == 1
    assert len(new.layers) == len(twice.layers)
    check_all_move(twice, new, 3)


def test_a_branch_that_is_a_model():
    inputs = keras.Input((5, 5, 4), name="images")
    branch = keras.Sequential(
        [
            keras.Input((5, 5, 4)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="norm"),
        ],
        name="branch",
    )
    x = layers.Add(name="sum")([branch(inputs), inputs])
    x = layers.Flatten(name="flatten")(x)
    model = keras.Model(inputs, layers.Dense(3, name="head")(x))
    new = convert_and_check(model, operand_map="conv")
    assert type(new.get_layer("sum_operand")) is layers.Conv2D
    check_all_move(model, new, 3)


def test_sums_that_are_operations():
    inputs = keras.Input((5, 4), name="signal")
    x = inputs + layers.Conv1D(4, 3, padding="same", name="conv1")(inputs)
    x = layers.Conv1D(4, 3, padding="same", name="conv2")(x) + x
    x = layers.GlobalAveragePooling1D()(x + 1.0)
    model = keras.Model(inputs, layers.Dense(3, name="head")(x))
    new = convert_and_check(model, operand_map="conv")
    report = new.conversion_report
    assert len(report.replaced) == 2
    assert [row.reason for row in report.left_alone] == ["it adds a constant"]
    kernel = last_kernels(model, new)[0]
    assert tuple(kernel.shape) == (1, 4, 4)
    check_all_move(model, new, 3)


@keras.saving.register_keras_serializable(package="test")
class OwnSum(layers.Layer):
    """A residual sum inside a custom layer."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]))

    def call(self, x):
        return x + keras.ops.matmul(x, self.kernel)


def test_custom_layers_are_left_alone_and_reported():
    inputs = keras.Input((4,), name="x")
    x = OwnSum(name="own")(inputs)
    x = layers.Lambda(lambda x: 2 * x, name="double")(x)
    x = layers.Add(name="sum")([x, layers.Dense(4, name="branch")(x)])
    model = keras.Model(inputs, layers.Dense(3, name="head")(x))
    new = convert_and_check(model)
    assert type(new.get_layer("own")) is OwnSum
    report = new.conversion_report
    assert [(row.name, row.reason) for row in report.left_alone] == [
        ("own", "a custom layer, whose formula is not known"),
        ("double", "a Lambda layer, whose function is not known"),
    ]
    assert "own: OwnSum left alone: a custom layer" in str(report)
    # In a branch a custom layer is as good as another.
    x = layers.Add(name="sum")([inputs, OwnSum(name="own")(inputs)])
    new = convert_and_check(keras.Model(inputs, x), operand_map=None)
    assert [row.name for row in new.conversion_report.replaced] == ["sum"]


def test_models_of_the_zoo_keep_what_the_zoo_adds():
    model = zoo.load(
        "resnet18", weights=None, width=2, blocks=(1, 1), classes=3
    )
    new = convert_and_check(model)
    assert isinstance(new, models.ZooModel)
    assert new.input_range == model.input_range and new.head.name == "head"
    assert any("ConvertedModel" in note for note in new.conversion_report.notes)
    check_all_move(model, new, 3)


def test_it_comes_back_from_a_file(tmp_path):
    new = convert.to_prodpoly(residual(), product_activation="tanh")
    randomize(new)
    new.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = inputs_of(new)
    np.testing.assert_allclose(value(again(x)), value(new(x)), rtol=1e-6)


def test_names_that_are_taken():
    inputs = keras.Input((4,), name="x")
    x = layers.Dense(4, name="sum_product")(inputs)
    shared = layers.Add(name="sum")
    x = shared([inputs, x])
    x = shared([x, layers.Dense(4, name="second")(x)])
    model = keras.Model(inputs, x)
    new = convert_and_check(model, operand_map="conv")
    assert set(new_layers(model, new)) == {
        "sum_operand",
        "sum_product_2",
        "sum_operand_2",
        "sum_product_3",
    }


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow has no such convolution on the CPU",
)
def test_channels_first_is_computed():
    convert_and_check(channels_first())


def channels_first():
    inputs = keras.Input((3, 5, 5), name="images")
    x = layers.Conv2D(
        3, 3, padding="same", data_format="channels_first", name="conv"
    )(inputs)
    x = layers.Add(name="sum")([inputs, x])
    return keras.Model(inputs, layers.Flatten(name="flatten")(x))


def test_channels_first():
    new = convert.to_prodpoly(channels_first(), operand_map="conv")
    operand = new.get_layer("sum_operand")
    assert operand.data_format == "channels_first"
    assert tuple(operand.kernel.shape) == (1, 1, 3, 3)


def test_precision():
    policy = keras.DTypePolicy("mixed_float16")
    inputs = keras.Input((4,), name="x")
    x = layers.Dense(4, name="branch", dtype=policy)(inputs)
    x = layers.Add(name="sum", dtype=policy)([x, inputs])
    new = convert.to_prodpoly(keras.Model(inputs, x), operand_map="conv")
    assert new.get_layer("sum_operand").compute_dtype == "float16"
    # 256 × 256 overflows float16.
    assert new.get_layer("sum_product").compute_dtype == "float32"
    assert new.get_layer("sum").compute_dtype == "float16"


def test_what_cannot_be_converted():
    inputs = keras.Input((4,))
    plain = keras.Model(inputs, layers.Dense(3)(inputs), name="plain")
    with pytest.raises(ValueError) as error:
        convert.to_prodpoly(plain)
    assert str(error.value) == (
        "Model 'plain' has no residual sum to convert. Expected a layer `Add`, "
        "or `x + y`, of a residual branch and its shortcut. Received: no sum "
        "of two tensors."
    )
    once = convert.to_prodpoly(residual())
    with pytest.raises(
        ValueError, match=r"block1_sum \(it adds 3 tensors; with its second-o"
    ):
        convert.to_prodpoly(once)
    with pytest.raises(ValueError, match="Unknown operand_map 'convolution'"):
        convert.to_prodpoly(residual(), operand_map="convolution")

    for activation, message in (
        ("sigmoid", "must be 0 at 0 .*'sigmoid', which is 0.5 at 0"),
        ("relu", "slope on both sides .* with slopes of 0 and 1"),
        ("tahn", "Unknown product_activation 'tahn'. Did you mean 'tanh'"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.to_prodpoly(residual(), product_activation=activation)

    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="is a subclassed model"):
        convert.to_prodpoly(Own(name="own"))
