"""What has no bound is named."""

import keras
import pytest

from keras_polynets import layers
from keras_polynets.analysis import NotPolynomialError
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import lipschitz_bound
from keras_polynets.robustness import operator_norm
from keras_polynets.robustness import propagate
from keras_polynets.robustness import rademacher_bound
from keras_polynets.robustness import robust_accuracy
from keras_polynets.robustness import spectral_norm_estimate
from tests.unit.robustness.bound_examples import INF
from tests.unit.robustness.bound_examples import h1_layer


def test_layer_without_rule_is_named():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.LayerNormalization(name="odd")]
    )
    with pytest.raises(NotImplementedError, match="'odd', a LayerNormalizat"):
        lipschitz_bound(model)


def test_rule_can_be_registered():
    @keras.saving.register_keras_serializable(package="test")
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    @propagate.register
    def _(layer: Twice, extent, p, form):
        return extent + extent

    model = keras.Sequential([keras.Input((3,)), Twice()])
    assert lipschitz_bound(model) == 2.0


def test_branching_model_is_refused():
    inputs = keras.Input((3,))
    left = keras.layers.Dense(2, name="left")(inputs)
    right = keras.layers.Dense(2, name="right")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([left, right]))
    with pytest.raises(
        ValueError, match="not a chain of layers: it branches.*local_lipschitz"
    ):
        lipschitz_bound(model)


def test_a_branching_model_with_activations_is_no_polynomial():
    inputs = keras.Input((3,))
    left = keras.layers.Dense(2)(inputs)
    right = keras.layers.ReLU(name="kink")(keras.layers.Dense(2)(inputs))
    model = keras.Model(inputs, keras.layers.Add()([left, right]))
    with pytest.raises(NotPolynomialError, match="layer 'kink' .ReLU. breaks"):
        lipschitz_bound(model)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Multiply(),
        keras.layers.Concatenate(),
        keras.layers.SpectralNormalization(keras.layers.Dense(2)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_polynomials_without_a_global_bound_have_a_local_one(layer):
    with pytest.raises(
        NotImplementedError, match="Around images there is a bound of models"
    ):
        lipschitz_bound(layer)


@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchNormalization(),
        layers.QuadraticDense(2),
        layers.GaussianFilter2D(3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_further_layers_have_to_be_built(layer):
    with pytest.raises(ValueError, match="Build|its input, which is open"):
        lipschitz_bound(layer)


def test_operation_on_tensors_is_named():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.square(inputs))
    with pytest.raises(NotImplementedError, match="a Square"):
        lipschitz_bound(model)


def test_activation_is_refused():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, "softmax", name="top")]
    )
    with pytest.raises(ValueError, match="'top' has the activation 'softmax'"):
        lipschitz_bound(model)


def test_subclassed_and_unbuilt_models_are_refused():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="subclassed model"):
        lipschitz_bound(Mine())
    with pytest.raises(ValueError, match="no weights yet. Build it first"):
        lipschitz_bound(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="no weights yet. Build it first"):
        lipschitz_bound(layers.CCP(2, 2, 2))


@pytest.mark.parametrize(
    "bound",
    [
        lipschitz_bound,
        lambda name: rademacher_bound(name, 10),
        operator_norm,
        spectral_norm_estimate,
        Certifier,
        lambda name: robust_accuracy(name, ([[0.0]], [0]), verbose=0),
    ],
)
def test_a_name_is_no_model(bound):
    with pytest.raises(
        TypeError, match="or layer, .* Received: 'pn4' .of type"
    ):
        bound("pn4")


@pytest.mark.parametrize("radius", [0, -1.0, INF, "1"])
def test_radius_must_be_positive(radius):
    with pytest.raises(ValueError, match="`radius` must be a positive finite"):
        lipschitz_bound(h1_layer(layers.CCP), radius=radius)


def test_unknown_form_and_p():
    layer = h1_layer(layers.CCP)
    with pytest.raises(ValueError, match="Unknown form 'theorm'. Did you mean"):
        lipschitz_bound(layer, form="theorm")
    with pytest.raises(ValueError, match="must be 1, 2 or"):
        lipschitz_bound(layer, p=0)


def test_convolutions_of_open_size_for_finite_p():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), keras.layers.Conv2D(2, 3)]
    )
    assert lipschitz_bound(model, p=2) > 0
    model.layers[0].bias.assign([1.0, 0.0])
    with pytest.raises(ValueError, match="depends on the size of the image"):
        lipschitz_bound(model, p=2)


def test_rescaling_with_offset_for_finite_p():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Rescaling(2.0, offset=1.0)]
    )
    with pytest.raises(ValueError, match="has an offset"):
        lipschitz_bound(model, p=2)


def test_open_input_shape_for_finite_p():
    layer = layers.CCP(2, 2, 2)
    layer.build((None, None, 3))
    assert lipschitz_bound(layer) > 0
    with pytest.raises(ValueError, match="leaves open"):
        lipschitz_bound(layer, p=2)
