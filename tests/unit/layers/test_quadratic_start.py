"""Where quadratic layers start, and what their variables are called."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers
from keras_polynets.layers.neurons import NEURONS


def array(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize(
    "neuron", [n for n, found in NEURONS.items() if found.first_order]
)
@pytest.mark.parametrize("activation", [None, "relu"])
def test_starts_as_the_conventional_layer(neuron, activation):
    layer = layers.QuadraticDense(
        6,
        neuron=neuron,
        activation=activation,
        kernel_initializer=keras.initializers.GlorotUniform(seed=3),
        bias_initializer=keras.initializers.RandomNormal(seed=4),
    )
    plain = keras.layers.Dense(
        6,
        activation,
        kernel_initializer=keras.initializers.GlorotUniform(seed=3),
        bias_initializer=(
            "zeros"
            if neuron == "poly"
            else keras.initializers.RandomNormal(seed=4)
        ),
    )
    x = np.random.default_rng(0).normal(size=(9, 5)).astype("float32")
    np.testing.assert_array_equal(array(layer(x)), array(plain(x)))
    assert layer.first_order == NEURONS[neuron].first_order
    for role, (kernel, bias) in layer.first_order.items():
        branch = layer.branches()[role]
        np.testing.assert_array_equal(array(branch.kernel), kernel)
        assert branch.bias is None or np.all(array(branch.bias) == bias)


@pytest.mark.parametrize(
    "arguments",
    [
        {"neuron": "type4"},
        {"neuron": "type2_4"},
        {"neuron": "full", "use_bias": False},
        {"neuron": "quadralib", "branch_normalization": True},
    ],
)
@pytest.mark.parametrize("seed", [None, 5])
def test_without_first_order_point_each_map_is_drawn(arguments, seed):
    layer = layers.QuadraticDense(
        4,
        kernel_initializer=keras.initializers.HeNormal(seed=seed),
        **arguments,
    )
    layer.build((None, 6))
    assert layer.first_order is None
    kernels = [array(branch.kernel) for branch in layer.branches().values()]
    for i, kernel in enumerate(kernels):
        assert 0.1 < kernel.std() < 1.5
        assert not any(np.array_equal(kernel, k) for k in kernels[:i])


def test_initializers_of_the_roles():
    names = [
        f"{role}_{part}_initializer"
        for role in ("gate", "power")
        for part in ("kernel", "bias")
    ]
    layer = layers.QuadraticDense(
        2,
        **{
            name: keras.initializers.Constant(value)
            for value, name in enumerate(names, start=1)
        },
    )
    layer.build((None, 3))
    values = [float(array(w).flat[0]) for w in layer.weights[2:]]
    assert values == [1.0, 2.0, 3.0, 4.0]
    assert np.all(array(layer.weights[1]) == 0)


def test_variables_know_their_roles(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.QuadraticDense(2, neuron="quadralib"),
            layers.QuadraticDense(2, neuron="full"),
            layers.QuadraticDense(2, neuron="qres"),
        ]
    )
    model.save(tmp_path / "model.keras")
    for copy in (
        model,
        keras.models.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
    ):
        roles = [[v.quadratic_role for v in la.variables] for la in copy.layers]
        assert roles == [
            ["linear"] * 2 + ["gate"] * 2 + ["addend"] * 2,
            ["linear"] * 2 + ["gate"] * 2 + ["power"] * 2,
            # The bias of the whole neuron, and the two kernels.
            ["linear", "linear", "gate"],
        ]
