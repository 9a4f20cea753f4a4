import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_polynets.analysis import graphs
from keras_polynets.analysis import work
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.layers import QuadraticDense
from keras_polynets.layers import square


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Dense(5), (3, 4), 3 * 4 * 5),
        (layers.Conv1D(6, 3, padding="same"), (8, 2), 8 * 6 * 3 * 2),
        (layers.Conv2D(6, 3, strides=2, groups=2), (7, 7, 4), 9 * 6 * 9 * 2),
        (layers.Conv3D(2, 2), (3, 3, 3, 1), 8 * 2 * 8),
        # Each of 4 * 4 * 3 inputs meets 9 * 2 weights.
        (layers.Conv2DTranspose(2, 3, strides=2), (4, 4, 3), 48 * 18),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (5, 5, 4), 9 * 9 * 8),
        (
            layers.SeparableConv2D(6, 3, depth_multiplier=2),
            (5, 5, 4),
            9 * (9 * 8 + 8 * 6),
        ),
        (layers.BatchNormalization(), (5,), 0),
        (layers.Embedding(9, 3), (5,), 0),
        (layers.LSTM(3), (5, 2), None),
        (layers.Activation(square), (3, 5), 15),
        (layers.Dense(5, activation=square), (4,), 20 + 5),
        (layers.Activation("relu"), (3, 5), 0),
        (QuadraticDense(5), (4,), 3 * 20 + 5 + 4),
        (QuadraticDense(5, neuron="compact"), (4,), 2 * 20 + 4),
        (QuadraticDense(5, neuron="type3"), (4,), 20 + 5),
        (
            QuadraticConv2D(2, 3, neuron="quadralib"),
            (5, 5, 1),
            3 * 9 * 2 * 9 + 9 * 2,
        ),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_multiply_adds(layer, shape, expected):
    model = keras.Sequential([keras.Input(shape), layer])
    assert work.work_by_layer(model) == {layer.name: expected}


def test_hadamard_products_and_shared_layers():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), shared], name="inner")
    x = layers.Multiply(name="product")([inner(inputs), inputs, inputs])
    x = layers.Add(name="sum")([shared(x) * 2.0, x])
    model = keras.Model(inputs, x * x)
    found = work.work_by_layer(model)
    products = [v for k, v in found.items() if k.startswith("multiply")]
    # Scaling by 2 is none, the square of the output is one an element.
    assert sorted(products) == [0, 4]
    assert found["product"] == 8 and found["sum"] == 0
    assert found["inner/shared"] == 32 and "shared" not in found
    assert work.total(found) == 44


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (ops.square, 6),
        # How often these multiply is not known here.
        (lambda x: x**2, None),
        (lambda x: ops.einsum("bij,bik->bjk", x, x), None),
        (lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2)), 3 * 4),
        (layers.Dot(2), 3 * 4),
        (layers.Dot((-2, 1)), 2 * 9),
        (lambda x: x * 2.0, 0),
    ],
)
def test_operations_that_multiply(operation, expected):
    inputs = keras.Input((2, 3))
    is_dot = isinstance(operation, layers.Dot)
    outputs = operation([inputs, inputs] if is_dot else inputs)
    found = work.work_by_layer(keras.Model(inputs, outputs)).values()
    assert [w for w in found if w != 0] == [expected] * (expected != 0)


def test_calls_have_the_sizes_that_are_given():
    inputs = keras.Input((None, None, 1))
    block = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")],
        name="block",
    )
    model = keras.Model(inputs, layers.ReLU(name="relu")(block(inputs)))
    open_, given = (
        {call.path: call for call in graphs.calls(model, shape)}
        for shape in (None, (None, 6, 7, 1))
    )
    assert open_["relu"].inputs == [(None, None, 2)]
    assert given["block/conv"].inputs == [(6, 7, 1)]
    assert given["relu"].outputs == [(4, 5, 2)]
    assert list(given) == list(graphs.leaves(model))
    assert work.work_by_layer(model)["block/conv"] is None
    assert work.work_by_layer(model, (None, 6, 7, 1))["block/conv"] == 360


def test_the_work_of_a_known_network():
    """ResNet50 at 224 × 224 takes 3.86 billion, as its paper says: 3.8."""
    model = keras.applications.ResNet50(weights=None)
    total = work.total(work.work_by_layer(model))
    np.testing.assert_allclose(total, 3.86e9, rtol=0.01)
