"""The quadratic neurons, in dense layers."""

import pathlib
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers
from keras_polynets.layers import neurons
from keras_polynets.layers.neurons import NEURONS

# PyTorch is given float32, and batch normalisation on JAX computes in it.
BACKEND = keras.backend.backend()
TORCH = BACKEND == "torch"
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5} if TORCH else {"rtol": 1e-12}

# Of what the maps yield: r, g, p, a for linear, gate, power and addend.
FORMULAS = {
    "full": lambda r, g, p: r * g + p,
    "compact": lambda r, p: r + p,
    "parabolic": lambda r, g: r * g,
    "poly": lambda r, g: g * r + r,
    "qres": lambda r, g: g * r + r,
    "quadralib": lambda r, g, a: r * g + a,
    "goyal": lambda p: p,
    "type2": lambda p: p,
    "type3": lambda r: r**2,
    "type4": lambda r, g: r * g,
    "type2_4": lambda r, g, p: r * g + p,
}
# Parameters (of n, and constant) as the papers count them, multiplications.
COUNTS = {
    "full": ((3, 3), (4, 1)),
    "compact": ((2, 2), (3, 0)),
    "parabolic": ((2, 2), (2, 1)),
    "poly": ((2, 0), (2, 1)),
    "qres": ((2, 1), (2, 1)),
    "quadralib": ((3, 3), (3, 1)),
    "goyal": ((1, 1), (2, 0)),
    "type2": ((1, 0), (2, 0)),
    "type3": ((1, 0), (1, 1)),
    "type4": ((2, 0), (2, 1)),
    "type2_4": ((3, 0), (4, 1)),
}


def array(x):
    return ops.convert_to_numpy(x)


def tensor(x, dtype="float64"):
    return ops.convert_to_tensor(x, dtype)


def draw(layer, seed=0, scale=0.5):
    """Gives a built layer weights without zeros."""
    rng = np.random.default_rng(seed)
    layer.set_weights(
        [rng.normal(size=w.shape, scale=scale) for w in layer.get_weights()]
    )


def expected(layer, x):
    """The layer in NumPy."""
    maps = []
    for role, branch in layer.branches().items():
        value = (x**2 if role == "power" else x) @ array(branch.kernel)
        maps.append(value + (0 if branch.bias is None else array(branch.bias)))
    outer = 0 if layer.bias is None else array(layer.bias)
    return FORMULAS[layer.neuron](*maps) + outer


@pytest.mark.parametrize("use_bias", [None, True, False])
@pytest.mark.parametrize("neuron", FORMULAS)
def test_equals_the_formula(neuron, use_bias):
    layer = layers.QuadraticDense(
        3, neuron=neuron, use_bias=use_bias, dtype="float64"
    )
    x = np.random.default_rng(1).normal(size=(5, 4))
    layer.build(x.shape)
    draw(layer)
    np.testing.assert_allclose(
        array(layer(tensor(x))), expected(layer, x), **TOLERANCE
    )
    assert all(np.all(w != 0) for w in layer.get_weights())


def test_values_of_one_neuron():
    x = np.array([[0.5, -1.0, 2.0]])
    r, g, b = [0.3, -0.2, 0.1], [-0.4, 0.5, 0.2], [0.05, 0.1, -0.2]
    values = {"linear": (r, 0.1), "gate": (g, 1.0), "power": (b, -0.3)}
    for neuron, value in (("full", -0.5325), ("compact", -0.3375)):
        layer = layers.QuadraticDense(1, neuron=neuron, dtype="float64")
        layer.build(x.shape)
        for role, branch in layer.branches().items():
            kernel, bias = values[role]
            branch.kernel.assign(np.reshape(kernel, (3, 1)))
            branch.bias.assign([bias])
        np.testing.assert_allclose(
            array(layer(tensor(x))), [[value]], atol=1e-12
        )


@pytest.mark.parametrize("neuron", NEURONS)
def test_parameters(neuron):
    (slope, constant), _ = COUNTS[neuron]
    layer = layers.QuadraticDense(1, neuron=neuron)
    layer.build((None, 7))
    assert layer.count_params() == 7 * slope + constant
    assert NEURONS[neuron].parameters == text(slope, constant)


class Counter(float):
    """A number that counts the products it takes part in."""

    products = 0

    def __mul__(self, other):
        Counter.products += 1
        return Counter(float(self) * float(other))

    def __add__(self, other):
        return Counter(float(self) + float(other))


@pytest.mark.parametrize("neuron", NEURONS)
def test_multiplications(neuron):
    """Counts them: n a map, n squares, and the products of the formula."""
    found = NEURONS[neuron]
    slope = len(found.branches) + ("power" in found.branches)
    Counter.products = 0
    found.combine({role: Counter(2.0) for role in found.branches})
    assert COUNTS[neuron][1] == (slope, Counter.products)
    assert found.multiplications == text(slope, Counter.products)


def text(slope, constant):
    return ("" if slope == 1 else str(slope)) + (
        f"n + {constant}" if constant else "n"
    )


def test_the_table_of_the_documentation():
    path = pathlib.Path(__file__).parents[3] / "docs" / "neurons.md"
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\| `", line)
    ]
    assert rows == [
        [
            f"`{neuron.name}`",
            f"`{neuron.formula}`",
            neuron.paper,
            neuron.parameters,
            neuron.multiplications,
        ]
        for neuron in NEURONS.values()
    ]


def test_poly_and_qres_are_one_neuron():
    for name in ("poly", "qres"):
        for use_bias, canonical in (
            (None, name),
            (True, "qres"),
            (False, "poly"),
        ):
            layer = layers.QuadraticDense(1, neuron=name, use_bias=use_bias)
            assert layer.neuron == canonical
            assert layer.use_bias == (canonical == "qres")


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.skipif(TORCH, reason="differences need float64")
def test_degree_doubles_with_every_layer(depth):
    model = keras.Sequential(
        [keras.Input((2,), dtype="float64")]
        + [layers.QuadraticDense(3, dtype="float64") for _ in range(depth)]
    )
    draw(model, seed=depth)
    line = np.linspace(-1, 1, 2**depth + 2)[:, None] * [[1.0, -0.5]]
    values = array(model(tensor(line)))
    size = np.abs(values).max()
    assert np.abs(np.diff(values, n=2**depth, axis=0)).max() > 1e-4 * size
    assert np.abs(np.diff(values, n=2**depth + 1, axis=0)).max() < 1e-9 * size


def test_type3_is_type4_with_equal_maps():
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    one = layers.QuadraticDense(3, neuron="type3")
    two = layers.QuadraticDense(3, neuron="type4")
    expected = array(one(x))
    two.build(x.shape)
    two.set_weights(one.get_weights() * 2)
    np.testing.assert_array_equal(array(two(x)), expected)


def test_branch_normalization():
    """(BN(W_a x)) * (BN(W_b x)) + BN(W_c x), in training and in inference."""
    layer = layers.QuadraticDense(
        3, neuron="quadralib", branch_normalization=True, dtype="float64"
    )
    x = np.random.default_rng(0).normal(size=(8, 4))
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    for branch in layer.branches().values():
        branch.kernel.assign(rng.normal(size=(4, 3)))
    assert len(layer.trainable_variables) == 12
    assert layer.count_params() == 3 * (4 * 3 + 3 + 4 * 3)
    maps = [
        x @ array(b.kernel) + array(b.bias) for b in layer.branches().values()
    ]
    normal = [
        (m - m.mean(axis=0)) / np.sqrt(m.var(axis=0) + 1e-5) for m in maps
    ]
    ours = array(layer(tensor(x), training=True))
    rtol = 1e-12 if BACKEND == "tensorflow" else 1e-5
    np.testing.assert_allclose(
        ours, normal[0] * normal[1] + normal[2], rtol=rtol, atol=rtol
    )
    moving = [
        (m - 0.1 * m.mean(axis=0)) / np.sqrt(0.9 + 0.1 * m.var(axis=0) + 1e-5)
        for m in maps
    ]
    np.testing.assert_allclose(
        array(layer(tensor(x))),
        moving[0] * moving[1] + moving[2],
        rtol=rtol,
        atol=rtol,
    )


@pytest.mark.parametrize(
    "neuron, value",
    [("goyal", -0.4 * 300**2), ("full", 300 * 301 - 0.4 * 300**2)],
)
def test_products_do_not_overflow_float16(neuron, value):
    """300² is too large for float16, the value of the neuron is not."""
    layer = layers.QuadraticDense(2, neuron=neuron, dtype="mixed_float16")
    layer.build((None, 4))
    sizes = {"linear": 0.25, "gate": 0.25, "power": -0.1}
    for role, branch in layer.branches().items():
        branch.kernel.assign(np.full((4, 2), sizes[role]))
    outputs = layer(tensor(np.full((1, 4), 300.0), "float16"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    np.testing.assert_allclose(
        array(ops.cast(outputs, "float32")), [[value, value]], rtol=2e-3
    )


def test_regularizers_and_constraints_reach_every_map():
    layer = layers.QuadraticDense(
        2,
        kernel_initializer="ones",
        gate_kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L1(1.0),
        bias_regularizer=keras.regularizers.L1(10.0),
        kernel_constraint="non_neg",
    )
    layer.build((None, 3))
    total = sum(float(array(loss)) for loss in layer.losses)
    assert total == 6 + 6 + 10 * 2
    assert all(
        isinstance(b.kernel.constraint, keras.constraints.NonNeg)
        for b in layer.branches().values()
    )


def test_the_quadratic_activation(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2, activation=layers.square),
            layers.QuadraticDense(2, neuron="goyal", activation=layers.square),
        ]
    )
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    (a, b), (c, d) = [la.get_weights() for la in model.layers]
    y = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        y, ((x @ a + b) ** 4 @ c + d) ** 2, rtol=1e-5, atol=1e-6
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), y)


@pytest.mark.parametrize(
    "name, message",
    [
        ("ful", "Unknown neuron 'ful'. Did you mean 'full'?"),
        ("cubic", "Unknown neuron 'cubic'. Known: 'compact', 'full', 'goyal'"),
        (4, "Unknown neuron 4."),
    ],
)
def test_unknown_neurons(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        layers.QuadraticDense(3, neuron=name)
    with pytest.raises(ValueError, match=re.escape(message)):
        neurons.get(name)
