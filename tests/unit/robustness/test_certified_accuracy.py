"""The certified accuracy, and what is refused with which words."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets import zoo
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import certified_accuracy
from keras_polynets.robustness import enclose
from keras_polynets.robustness import linear_parts
from keras_polynets.robustness import lipschitz_bound
from keras_polynets.robustness import local_lipschitz_bound
from keras_polynets.robustness import robust_accuracy
from tests.unit.robustness import certificate_examples as examples
from tests.unit.robustness.test_evaluation import IMAGES
from tests.unit.robustness.test_evaluation import LABELS
from tests.unit.robustness.test_evaluation import Threshold

METHODS = ("global", "interval", "affine", "auto")


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_model_is_certified_exactly(method):
    # Only images that are right and farther than epsilon from 0 count. With
    # one input the global bound is exact too.
    for epsilon, expected in ((0.0, 0.8), (0.04, 0.8), (0.06, 0.4), (0.3, 0.2)):
        accuracy = certified_accuracy(
            Threshold(), (IMAGES, LABELS), epsilon, method, verbose=0
        )
        assert accuracy == expected


def test_stored_images_and_batches():
    stored = np.array([[0], [127], [128], [255]], "uint8")
    labels = np.array([0, 0, 1, 1])
    batches = [(stored[n : n + 2], labels[n : n + 2]) for n in (0, 2)]
    for dataset in ((stored, labels), iter(batches)):
        accuracy = certified_accuracy(Threshold(), dataset, 0.1, verbose=0)
        assert accuracy == 0.5


@pytest.fixture(scope="module")
def projected():
    from keras_polynets import data

    dataset = data.load("fashion_mnist_sample")
    model = zoo.load("pn4.fashion_mnist_projected")
    return model, (dataset.x_test[:100], dataset.y_test[:100])


def test_projected_pn4_is_certified_above_one_half(projected):
    model, dataset = projected
    shares = [
        certified_accuracy(model, dataset, 0.01, method, verbose=0)
        for method in METHODS
    ]
    clean = robust_accuracy(model, dataset, verbose=0)
    assert 0.5 < shares[0] <= shares[1] <= shares[2] <= shares[3] <= clean
    shares = [
        certified_accuracy(model, dataset, epsilon, verbose=0)
        for epsilon in (0.0, 0.01, 0.03, 0.1, 0.5)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == clean


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)
@pytest.mark.parametrize("epsilon", [0.01, 0.1])
def test_no_attack_passes_the_certified_accuracy(projected, epsilon):
    from keras_polynets.robustness import pgd

    model, (images, labels) = projected
    x = model.preprocessor(images).numpy()
    certified = Certifier(model).margins(x, labels, epsilon) > 0
    for start in (False, True):
        adversarial = pgd(
            model,
            x,
            labels,
            epsilon,
            steps=20,
            step_size=epsilon / 5,
            random_start=start,
            seed=0,
        )
        right = np.argmax(model.predict(adversarial, verbose=0), 1) == labels
        assert right[certified].all()


def test_local_bound_is_below_the_global_one(projected):
    model, (images, _) = projected
    x = model.preprocessor(images[:20])
    assert (
        local_lipschitz_bound(model, x, 0.01) < lipschitz_bound(model)
    ).all()


def test_local_bound_of_pn_conv_is_100_times_below_the_global_one(
    monkeypatch,
):
    from keras_polynets import data

    # Without the Jacobians that serve many images, which take a while.
    monkeypatch.setattr(linear_parts, "SHARED_LIMIT", 0)
    images = data.load("fashion_mnist_sample").x_test[:2]
    model = zoo.load("pn_conv.fashion_mnist")
    x = model.preprocessor(images)
    local = local_lipschitz_bound(model, x, 0.01)
    assert (local < lipschitz_bound(model) / 100).all()


def test_branching_models_have_local_bounds_only():
    model = examples.made("residual")
    x = examples.images(model)
    labels = np.argmax(examples.outputs(model, x), axis=1)
    certifier = Certifier(model, (-1.0, 1.0))
    local = certifier.margins(x, labels, 0.001, "affine")
    np.testing.assert_array_equal(certifier.margins(x, labels, 0.001), local)
    with pytest.raises(ValueError, match="not a chain of layers: it branches"):
        certifier.margins(x, labels, 0.001, "global")


def test_a_global_bound_that_overflows_certifies_nothing():
    # At zero every product vanishes, and the bias alone decides.
    layer = layers.CCP(3, 2, 12)
    model = keras.Sequential([keras.Input((2,)), layer])
    factors = layer.factors.kernel
    factors.assign(factors * 1e36)
    layer.output_map.bias.assign([1.0, 0.0, 0.0])
    x = np.zeros((1, 2), "float32")
    certifier = Certifier(model, (-1.0, 1.0))
    assert lipschitz_bound(model) == np.inf
    assert not certifier.margins(x, [0], 1e-30, "global") > 0
    # Less what factors so large make of inputs that are flushed to zero.
    margin = certifier.margins(x, [0], 0.0, "global")
    assert 1.0 - margin < 1e36 * 2**-126 * 24 and margin < 1.0


def test_rule_can_be_registered():
    @keras.saving.register_keras_serializable(package="test")
    class Cube(keras.layers.Layer):
        def call(self, x):
            return x * x * x

    model = keras.Sequential([keras.Input((2,)), Cube()])
    x = np.array([[0.5, -0.5]], "float32")
    with pytest.raises(NotImplementedError, match="bound for 'cube', a C"):
        Certifier(model).bounds(x, 0.1)

    @enclose.register
    def _(layer: Cube, x, affine):
        return x * x * x

    lower, upper = Certifier(model).bounds(x, 0.1)
    np.testing.assert_allclose(upper[0], [0.216, -0.064], rtol=0.1)
    assert lower[0, 0] <= 0.064 and upper[0, 0] >= 0.216


# What is refused -------------------------------------------------------------


def small(**kwargs):
    layer = layers.CCP(3, 2, 2, name="polynomial", **kwargs)
    model = keras.Sequential([keras.Input((2,)), layer])
    model.input_range = (-1.0, 1.0)
    return model


X = np.zeros((2, 2), "float32")
Y = np.array([0, 2])


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf"), "1"])
def test_epsilon_must_not_be_negative(epsilon):
    with pytest.raises(ValueError, match="`epsilon` must be a finite"):
        certified_accuracy(small(), (X, Y), epsilon, verbose=0)
    with pytest.raises(ValueError, match="`epsilon` must be a finite"):
        local_lipschitz_bound(small(), X, epsilon)


def test_unknown_method():
    with pytest.raises(ValueError, match="Unknown method 'afine'. Did"):
        certified_accuracy(small(), (X, Y), 0.1, "afine", verbose=0)
    with pytest.raises(ValueError, match="Unknown method 'global'"):
        Certifier(small()).bounds(X, 0.1, "global")


def test_labels_out_of_range():
    with pytest.raises(ValueError, match="from 0 to 2, as the model has 3"):
        certified_accuracy(small(), (X, np.array([0, 3])), 0.1, verbose=0)
    with pytest.raises(TypeError, match="Labels must be integers"):
        certified_accuracy(small(), (X, np.array([0.0, 1.0])), 0.1, verbose=0)


def test_images_outside_the_range():
    with pytest.raises(ValueError, match="must lie in the valid range .-1"):
        certified_accuracy(small(), (X + 2, Y), 0.1, verbose=0)
    with pytest.raises(ValueError, match="must be finite"):
        del_range = small()
        del del_range.input_range
        Certifier(del_range).bounds(X * np.nan, 0.1)
    with pytest.raises(TypeError, match="Bounds take floats.*dtype int64"):
        Certifier(small()).bounds(X.astype("int64"), 0.1)
    with pytest.raises(ValueError, match="must have the model's input shape"):
        Certifier(small()).bounds(X[:, :1], 0.1)


def test_no_images():
    with pytest.raises(ValueError, match="has no images to classify"):
        certified_accuracy(small(), (X[:0], Y[:0]), 0.1, verbose=0)


def test_layer_without_a_rule_is_named():
    model = small()
    model.add(keras.layers.LayerNormalization(name="odd"))
    with pytest.raises(
        NotImplementedError, match="'odd', a LayerNorm.*enclose.register"
    ):
        certified_accuracy(model, (X, Y), 0.1, verbose=0)
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.ops.exp(inputs))
    with pytest.raises(NotImplementedError, match="operation.*an? Exp"):
        Certifier(model).bounds(X, 0.1)


def test_activations_are_named():
    model = small()
    model.add(keras.layers.Dense(3, "softmax", name="top"))
    with pytest.raises(ValueError, match="'top' has the activation 'softmax'"):
        certified_accuracy(model, (X, Y), 0.1, verbose=0)


def test_models_without_a_graph_and_classes():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="subclassed model"):
        Certifier(Mine())
    with pytest.raises(ValueError, match="no weights yet"):
        Certifier(keras.Sequential([keras.layers.Dense(2)]))
    model = keras.Sequential([keras.Input((2,)), layers.CCP(1, 2, 2)])
    with pytest.raises(ValueError, match="logits of shape .batch_size"):
        Certifier(model).margins(X, Y, 0.1)


def test_broken_weights_are_named():
    model = small()
    factors = model.layers[0].factors
    factors.kernel.assign(factors.kernel * np.nan)
    with pytest.raises(ValueError, match="holds NaN"):
        certified_accuracy(model, (X, Y), 0.1, verbose=0)
