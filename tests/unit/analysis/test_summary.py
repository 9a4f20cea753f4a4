"""What layers cost, counted by hand."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_polynets import analysis
from keras_polynets import layers as own
from keras_polynets import zoo
from keras_polynets.analysis import work


def row(layer, shape, dtype="float32"):
    inputs = keras.Input(shape, dtype=dtype)
    rows = analysis.summary(keras.Model(inputs, layer(inputs))).layers
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize(
    ("layer", "shape", "multiply_adds", "numbers"),
    [
        # Maps of the input, Hadamard products, the output's map.
        (own.CCP(5, 3, 4), (7,), 4 * 7 * 3 + 3 * 3 + 3 * 5, 4 * 3 + 5),
        (own.CCP(5, 3, 1), (2, 7), 2 * (7 * 3 + 3 * 5), 2 * (3 + 5)),
        # And the product with b_1, and the maps of the state.
        (
            own.NCP(5, 3, 4),
            (7,),
            4 * 7 * 3 + 4 * 3 + 3 * 9 + 3 * 5,
            4 * 3 + 3 * 3 + 5,
        ),
        (
            own.NCPSkip(5, 3, 4, skip="learned"),
            (7,),
            4 * 7 * 3 + 4 * 3 + 2 * 3 * 9 + 3 * 5,
            4 * 3 + 2 * 3 * 3 + 5,
        ),
        (
            own.NCPSkip(5, 3, 4),
            (7,),
            4 * 7 * 3 + 4 * 3 + 3 * 9 + 3 * 5,
            4 * 3 + 3 * 3 + 5,
        ),
        # Two orders at 8 × 8; two at 4 × 4, whose windows of 4 × 4 hold those
        # of 3 × 3 and of the pooling.
        (
            own.CCPConv2D(2, 3, 4, pool_after=(2,)),
            (8, 8, 3),
            2 * 64 * (2 * 9 * 3 + 1) + 2 * 16 * (2 * 16 * 3 + 2),
            2 * (2 * 64 + 2 * 16) + 16 * 2,
        ),
        (
            own.ProdPoly([own.CCP(4, 3, 2), own.CCP(5, 2, 3)]),
            (7,),
            (2 * 7 * 3 + 3 + 3 * 4) + (3 * 4 * 2 + 2 * 2 + 2 * 5),
            2 * 3 + 4 + 3 * 2 + 5,
        ),
        (own.QuadraticDense(5), (7,), 3 * 35 + 5 + 7, 4 * 5),
        (own.QuadraticDense(5, neuron="compact"), (7,), 2 * 35 + 7, 3 * 5),
        (
            own.QuadraticConv2D(2, 3, neuron="parabolic"),
            (6, 6, 3),
            2 * 16 * 27 * 2 + 16 * 2,
            3 * 16 * 2,
        ),
        (layers.Dense(5), (7,), 35, 5),
        (layers.Conv2D(4, 3, padding="same"), (6, 6, 2), 36 * 18 * 4, 36 * 4),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_work_and_memory_of_a_layer(layer, shape, multiply_adds, numbers):
    found = row(layer, shape)
    assert found.multiply_adds == multiply_adds
    assert found.activation_bytes == 4 * numbers
    assert found.parameters == sum(int(np.prod(w.shape)) for w in layer.weights)
    assert found.outputs == [list(layer.output.shape[1:])]


def small():
    inner_inputs = keras.Input((4, 4, 2), name="map")
    x = layers.Conv2D(2, 3, padding="same", use_bias=False, name="conv")(
        inner_inputs
    )
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Multiply(name="product")([x, inner_inputs])
    inner = keras.Model(inner_inputs, x, name="block")
    inputs = keras.Input((4, 4, 2), name="images")
    x = inner(inner(inputs))
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(3, "relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x), name="small")


def test_the_rows_of_a_model():
    summary = analysis.summary(small())
    names = ["block/conv", "block/norm", "block/product", "flatten", "hidden"]
    assert [x.name for x in summary.layers] == [*names, "head"]
    by_name = {x.name: x for x in summary.layers}
    # Called twice.
    conv, product = by_name["block/conv"], by_name["block/product"]
    assert (conv.layer, conv.parameters) == ("Conv2D", 36)
    assert conv.multiply_adds == 2 * 16 * 18 * 2
    assert product.multiply_adds == product.activation_bytes // 4 == 2 * 32
    assert (conv.degree, product.degree, by_name["flatten"].degree) == (2, 4, 4)
    assert by_name["hidden"].degree is by_name["head"].degree is None
    assert summary.parameters == 36 + 8 + 99 + 8
    assert summary.trainable_parameters == summary.parameters - 4
    assert summary.multiply_adds == 1152 + 64 + 96 + 6
    assert summary.activation_bytes == 4 * (6 * 32 + 32 + 3 + 2)
    assert summary.degree is None
    assert summary.obstacle == "hidden: its activation is 'relu'"


def test_text_markdown_and_json():
    summary = analysis.summary(small())
    text = str(summary)
    assert text == summary.to_text()
    lines = text.split("\n")
    assert lines[0] == "small"
    assert lines[2].split() == [
        *("layer", "class", "output", "parameters", "multiply-adds"),
        *("activation", "bytes", "degree"),
    ]
    assert lines[4].split() == [
        *("block/conv", "Conv2D", "(4,", "4,", "2)", "36", "1,152", "256", "2")
    ]
    assert lines[8].split()[-1] == "-"
    assert "parameters: 151, 4 of them not trainable" in lines
    assert "degree: - (hidden: its activation is 'relu')" in lines
    assert "multiply-adds count, for one example, the products inside" in text

    rows = [x for x in summary.to_markdown().split("\n") if x[:1] == "|"]
    assert len(rows) == 2 + len(summary.layers)
    assert {row.count("|") for row in rows} == {8}
    assert rows[2] == (
        "| block/conv | Conv2D | (4, 4, 2) | 36 | 1,152 | 256 | 2 |"
    )

    read = json.loads(summary.to_json(indent=1))
    assert read["multiply_adds"] == summary.multiply_adds
    assert read["layers"][0] == {
        "name": "block/conv",
        "layer": "Conv2D",
        "outputs": [[4, 4, 2]],
        "parameters": 36,
        "multiply_adds": 1152,
        "activation_bytes": 256,
        "degree": 2,
    }
    assert set(read["rules"]) == {
        "multiply_adds",
        "activation_bytes",
        "degree",
    }


def test_what_is_not_known_is_said():
    inputs = keras.Input((None, None, 2))
    x = layers.Conv2D(2, 3, name="conv")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(4, name="head")(x)
    model = keras.Model(inputs, x)
    summary = analysis.summary(model)
    assert summary.layers[0].multiply_adds is None
    assert summary.layers[0].activation_bytes is None
    assert summary.multiply_adds == 8
    text = str(summary)
    assert "multiply-adds not known, not in the sum: conv" in text
    assert "activation bytes not known, not in the sum: conv" in text
    summary = analysis.summary(model, (None, 5, 6, 2))
    assert summary.multiply_adds == 3 * 4 * 18 * 2 + 8
    assert summary.activation_bytes == 4 * (24 + 2 + 4)
    assert "not known" not in str(summary)
    for shape in ((5, 6, 2), (None, 5, 6, 3), [(1, 5, 6, 2)], 5):
        with pytest.raises(
            ValueError,
            match=r"`input_shapes` must .* with the batch is \(None, None, "
            r"None, 2\). Received: ",
        ):
            analysis.summary(model, shape)
    recurrent = row(layers.LSTM(3), (5, 2))
    assert (recurrent.multiply_adds, recurrent.degree) == (None, None)


def test_half_precision_takes_half_the_memory():
    layer = layers.Dense(3, dtype="mixed_bfloat16", name="half")
    assert row(layer, (4,)).activation_bytes == 2 * 3


def test_models_of_the_zoo():
    summary = analysis.summary(zoo.load("pn4", weights=None))
    assert summary.degree == 4 and summary.obstacle is None
    assert summary.parameters == summary.trainable_parameters == 50_346
    assert summary.multiply_adds == 784 * 4 * 16 + 3 * 16 + 16 * 10
    small = {"input_shape": (8, 8, 1), "width": 2, "blocks": (9, 9, 9)}
    model = zoo.load("prodpoly_resnet18_linear", weights=None, order=8, **small)
    summary = analysis.summary(model)
    # More than a float can hold exactly; JSON holds it.
    assert json.loads(summary.to_json())["degree"] == 8**27
    assert "degree: 2.418e+24" in str(summary)
    found = work.work_by_layer(model)
    assert summary.multiply_adds == work.total(found)


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="is a subclassed model"):
        analysis.summary(Own(name="own"))
