"""Which sums join a residual branch and its shortcut."""

import keras
import numpy as np
from keras import layers

from keras_polynets import convert
from tests.unit.convert.prodpoly_checks import randomize
from tests.unit.convert.prodpoly_checks import value


def test_which_sums_are_residual():
    a, b = keras.Input((6, 6, 4), name="a"), keras.Input((6, 6, 4), name="b")

    def conv(x, size, name, **kwargs):
        return layers.Conv2D(4, size, padding="same", name=name, **kwargs)(x)

    def add(name, *terms):
        return layers.Add(name=name)(list(terms))

    x = add("towers", conv(a, 3, "tower_a"), conv(b, 3, "tower_b"))
    x = add("single", conv(x, 5, "wide"), conv(x, 1, "narrow"))
    x = add("equal", conv(x, 3, "left"), conv(x, 3, "right"))
    x = add("three", x, conv(x, 3, "one"), conv(x, 3, "two"))
    deep = conv(conv(conv(x, 3, "d1"), 3, "d2"), 3, "d3")
    x = add("deep", deep, conv(conv(x, 3, "e1"), 3, "e2"))
    x = add("no_map", layers.ReLU(name="relu")(x), x)
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = add("broadcast", x, conv(pooled, 1, "squeeze"))
    half = layers.MaxPooling2D(2, name="subsampled")(x)
    x = add("pooled", half, conv(x, 3, "strided", strides=2, activation="relu"))
    x = layers.Dense(3, name="head")(layers.Flatten(name="flatten")(x))
    model = keras.Model([a, b], x)
    randomize(model)
    new = convert.to_prodpoly(model)
    x = [np.random.default_rng(i).normal(size=(2, 6, 6, 4)) for i in (0, 1)]
    expected = value(model(x))
    np.testing.assert_allclose(
        value(new(x)), expected, atol=1e-5 * np.abs(expected).max()
    )
    report = new.conversion_report
    assert [row.name for row in report.replaced] == ["single", "pooled"]
    reasons = {row.name: row.reason for row in report.left_alone}
    assert sorted(reasons) == [
        "broadcast",
        "deep",
        "equal",
        "no_map",
        "three",
        "towers",
    ]
    assert reasons["three"] == (
        "it adds 3 tensors; with its second-order term it has three"
    )
    assert reasons["towers"] == (
        "it adds tensors that come from different inputs"
    )
    assert reasons["equal"].startswith("neither of the tensors")
    assert reasons["broadcast"].startswith("it adds tensors of the shapes")
    # The product is with the branch, the map on the shortcut.
    product = new.get_layer("single_product").input
    assert product[0]._keras_history.operation.name == "wide"
    operand = new.get_layer("single_operand1").input
    assert operand._keras_history.operation.name == "narrow"
