import keras
import numpy as np
import pytest
from keras import layers

from keras_polynets import convert
from keras_polynets import zoo
from keras_polynets.layers import QuadraticDense


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


def randomize(model, seed=0):
    rng = np.random.default_rng(seed)
    for w in model.weights:
        w.assign(rng.uniform(0.2, 1, tuple(w.shape)))


def images(shape=(4, 8, 8, 3)):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("neuron", ["full", "compact", "parabolic", "poly"])
def test_a_quadratic_network_starts_from_a_conventional_one(neuron):
    arguments = {"weights": None, "input_shape": (8, 8, 3), "width": 2}
    source = zoo.load("resnet20", **arguments)
    target = zoo.load("qresnet20", neuron=neuron, **arguments)
    randomize(source)
    # Trained before: the second-order terms have to go back to where they
    # add nothing.
    randomize(target, 1)
    convert.transfer_weights(source, target)
    expected = value(source(images()))
    assert np.std(expected) > 0
    np.testing.assert_allclose(
        value(target(images())), expected, atol=1e-5 * np.abs(expected).max()
    )
    conv = target.get_layer("stage1_block1_conv1")
    for role, (kernel, bias) in conv.first_order.items():
        branch = conv.branches()[role]
        assert np.all(value(branch.kernel) == kernel)
        assert branch.bias is None or np.all(value(branch.bias) == bias)


def test_between_quadratic_networks_all_is_copied():
    arguments = {"weights": None, "input_shape": (8, 8, 3), "width": 2}
    source, target = (zoo.load("qresnet20", **arguments) for _ in range(2))
    randomize(source)
    convert.transfer_weights(source, target)
    for a, b in zip(source.weights, target.weights, strict=True):
        np.testing.assert_array_equal(value(a), value(b))


def chain(*stack, name=None):
    return keras.Sequential([keras.Input((3,)), *stack], name=name)


def test_other_names_are_paired_in_order():
    source = chain(layers.Dense(4, name="a"), layers.Dense(2, name="b"))
    target = chain(
        QuadraticDense(4, name="c"), layers.ReLU(), QuadraticDense(2, name="d")
    )
    convert.transfer_weights(source, target)
    np.testing.assert_array_equal(
        value(target.layers[0].linear.kernel), value(source.layers[0].kernel)
    )
    np.testing.assert_array_equal(
        value(target.layers[2].linear.kernel), value(source.layers[1].kernel)
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            [QuadraticDense(4, name="a"), QuadraticDense(3, name="b")],
            r"do not fit 'target', which is unchanged:\n  'b' \(QuadraticDense"
            r": .*\) from 'b' \(Dense: \(4, 2\), \(2,\)\): expected the shape "
            r"\(4, 3\) of 'kernel', received \(4, 2\)",
        ),
        (
            [layers.Dense(4, name="a"), layers.Dense(3, name="b")],
            r"expected the shapes \[\(4, 3\), \(3,\)\], received "
            r"\[\(4, 2\), \(2,\)\]",
        ),
        (
            [
                QuadraticDense(4, name="a"),
                QuadraticDense(2, neuron="type4", name="b"),
            ],
            "'b' .* a layer of 'type4' neurons without bias equals a linear "
            "one for no values",
        ),
        (
            [
                layers.Dense(4, name="a"),
                layers.Dense(2, name="b"),
                layers.PReLU(name="c"),
            ],
            r"the source has 2 layers with weights, the target has 3. Without "
            r"a layer of the same name in the source: 'c' \(PReLU: \(2,\)\); "
            r"in the target: none\nBuild the target with the arguments of the",
        ),
        (
            [
                QuadraticDense(4, name="a"),
                QuadraticDense(2, neuron="poly", name="b"),
            ],
            "'b' .* expected no bias, received one",
        ),
    ],
)
def test_models_that_do_not_match(target, message):
    source = chain(
        layers.Dense(4, name="a"), layers.Dense(2, name="b"), name="source"
    )
    target = chain(*target, name="target")
    before = target.get_weights()
    with pytest.raises(ValueError, match=message):
        convert.transfer_weights(source, target)
    for a, b in zip(before, target.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
