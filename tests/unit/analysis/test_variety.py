import keras
import numpy as np
import pytest
from keras import layers

from keras_polynets import analysis
from keras_polynets import zoo
from keras_polynets.analysis.jacobian import weight_jacobian
from keras_polynets.layers import QuadraticDense
from keras_polynets.layers import square

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no float64 there"
)


def activated(widths, use_bias=True):
    """Dense layers with the square between them, equation 17."""
    stack = [keras.Input((widths[0],))]
    for units in widths[1:]:
        last = len(stack) == len(widths) - 1
        stack.append(
            layers.Dense(
                units,
                activation=None if last else square,
                use_bias=use_bias,
            )
        )
    return keras.Sequential(stack)


def quadratic(widths, neuron="full"):
    """Quadratic layers without activation, equation 18."""
    stack = [QuadraticDense(units, neuron=neuron) for units in widths[1:]]
    return keras.Sequential([keras.Input((widths[0],)), *stack])


@pytest.mark.parametrize("widths", [[2, 2, 2], [2, 3, 2]])
def test_quadratic_networks_are_above_quadratic_activation(widths):
    """Proposition 2, also where the activation ends the network."""
    ours = analysis.variety_dimension(quadratic(widths))
    theirs = activated(widths)
    ended = keras.Sequential([*theirs.layers, layers.Activation(square)])
    ended.build((None, 2))
    assert ours > analysis.variety_dimension(theirs)
    assert ours > analysis.variety_dimension(ended)


@pytest.mark.parametrize(
    ("widths", "use_bias", "dimension"),
    [
        # Two or three squares of linear forms in 2 variables fill the pairs of
        # quadratic forms, 2 * 3 coefficients: Kileel et al., where the weights
        # are 8 and 12.
        ([2, 2, 2], False, 6),
        ([2, 3, 2], False, 6),
        # 12 weights; the scale of each hidden unit is free.
        ([2, 2, 2], True, 10),
        # 17 weights fill the pairs of quadratic polynomials, 2 * 6.
        ([2, 3, 2], True, 12),
        # No hidden layer: 2 * 3 + 2 weights of linear maps.
        ([3, 2], True, 8),
    ],
)
def test_dimensions_that_can_be_counted(widths, use_bias, dimension):
    model = activated(widths, use_bias)
    assert analysis.variety_dimension(model) == dimension
    assert analysis.variety_dimension(model, seed=7) == dimension


@pytest.mark.parametrize(
    ("neuron", "dimension"),
    # All quadratic polynomials of 3 variables have 10 coefficients. A product
    # of affine maps has 8 weights, one of them the common scale; a sum of
    # squares and an affine map 8 weights, one of them the second constant.
    [("full", 10), ("parabolic", 7), ("compact", 7), ("type3", 3)],
)
def test_single_neurons(neuron, dimension):
    assert analysis.variety_dimension(quadratic([3, 1], neuron)) == dimension


def test_the_jacobian_by_finite_differences():
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="float64"),
            QuadraticDense(2, neuron="quadralib", dtype="float64"),
            QuadraticDense(1, neuron="compact", dtype="float64"),
        ]
    )
    rng = np.random.default_rng(0)
    for w in model.weights:
        w.assign(rng.normal(size=w.shape))
    x = rng.normal(size=(5, 2))
    columns = []
    for w in model.trainable_variables:
        value = keras.ops.convert_to_numpy(w)
        for index in np.ndindex(value.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = value.copy()
                moved[index] += step
                w.assign(moved)
                sides.append(keras.ops.convert_to_numpy(model(x)).ravel())
            w.assign(value)
            columns.append((sides[0] - sides[1]) / 2e-6)
    np.testing.assert_allclose(
        weight_jacobian(model, x), np.transpose(columns), atol=1e-7
    )


def test_the_model_is_not_changed():
    model = quadratic([2, 2])
    model.compile("sgd", "mse")
    before = model.get_weights()
    # With fewer points than weights the points are what limits the rank.
    assert analysis.variety_dimension(model, points=3) == 6
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_models_of_the_zoo():
    model = zoo.load("test_pn", weights=None)
    dimension = analysis.variety_dimension(model)
    assert 3 <= dimension < model.count_params() == 207


def test_what_has_no_dimension():
    with pytest.raises(ValueError, match="no trainable weights"):
        analysis.variety_dimension(
            keras.Sequential([keras.Input((2,)), layers.ReLU()])
        )
    with pytest.raises(ValueError, match="known sizes. .*input shape"):
        analysis.variety_dimension(
            keras.Sequential([keras.Input((None, 2)), layers.Dense(2)])
        )
    with pytest.raises(ValueError, match="`points` must be an integer"):
        analysis.variety_dimension(quadratic([2, 1]), points=0)
    with pytest.raises(ValueError, match="Expected a functional or sequential"):
        analysis.variety_dimension("pn4")
