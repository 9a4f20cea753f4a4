"""Second-order forms of dense polynomial layers, against the layers."""

import keras
import numpy as np
import pytest

from keras_polynets import data
from keras_polynets import layers
from keras_polynets import zoo
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import enclosures
from keras_polynets.robustness import fgsm
from keras_polynets.robustness.intervals import evaluated
from keras_polynets.robustness.networks import Maps
from keras_polynets.robustness.quadratic_forms import Directions
from keras_polynets.robustness.quadratic_forms import QuadraticForms
from keras_polynets.robustness.quadratic_forms import polynomial_of
from tests.unit.robustness import certificate_examples as examples
from tests.unit.robustness.bound_examples import apply
from tests.unit.robustness.bound_examples import randomize

POLYNOMIALS = ["ccp", "ccp of order 1", "ncp", "ncp skip", "ncp learned skip"]


def boxes(rng, count, size):
    centre = rng.uniform(-1, 1, (count, size))
    # Some components do not move.
    radius = 0.2 * rng.uniform(size=(count, size))
    radius[:, 0] = 0.0
    return centre - radius, centre + radius


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_forms_enclose_the_hidden_map(name):
    rng = np.random.default_rng(0)
    model = examples.made(name, scale=1.0)
    layer = polynomial_of(model)
    lower, upper = boxes(rng, 4, 5)
    forms = QuadraticForms(model, Maps())
    form = evaluated(
        enclosures.hidden(layer, forms._factors(lower, upper), forms._affine)
    )
    # The hidden map itself, by an output map that is the identity.
    layer.output_map.kernel.assign(np.eye(4)[:, :3])
    layer.output_map.bias.assign(np.zeros(3))
    remainders = []
    for corner in (False, True):
        step = rng.uniform(-1, 1, (500, 4, 5))
        step = np.sign(step) if corner else step
        moved = step * (upper - lower) / 2
        points = ((lower + upper) / 2 + moved).astype("float32")
        found = apply(model, points.reshape(-1, 5)).reshape(500, 4, 3)
        along = moved @ form.directions.rows.T
        second = np.einsum("sbi,buij,sbj->sbu", along, form.quadratic, along)
        linear = np.einsum("sbi,bui->sbu", along, form.linear)
        assert (np.abs(linear) <= form.linear_size + 1e-9).all()
        assert (np.abs(second) <= form.quadratic_size + 1e-9).all()
        expected = (form.centre + linear + second)[..., :3]
        remainder = np.abs(found - expected)
        assert (remainder <= form.rest[:, :3] + 1e-5).all()
        remainders.append(remainder.max())
    # Second-order terms are exact, and others are there.
    assert (form.rest == 0).all() if layer.order <= 2 else form.rest.min() > 0
    assert layer.order <= 2 or max(remainders) > 1e-3


def test_bounds_of_quadratic_functions():
    rng = np.random.default_rng(0)
    lower, upper = boxes(rng, 3, 40)
    directions = Directions(rng.normal(size=(6, 40)), (upper - lower) / 2)
    matrices = rng.normal(size=(3, 4, 6, 6))
    # Units that know some directions only, and one that knows none.
    matrices[:, 1, 2:] = matrices[:, 1, :, 2:] = 0.0
    matrices[:, 2] = 0.0
    signs = np.sign(rng.normal(size=(2000, 3, 40)))
    along = signs * (upper - lower) / 2 @ directions.rows.T
    values = np.einsum("sbi,buij,sbj->sbu", along, matrices, along)
    largest = directions.largest(matrices)
    assert (np.abs(values) <= largest).all()
    assert (largest[:, 2] == 0).all()
    assert (largest <= directions.one_by_one(matrices) * (1 + 1e-9)).all()
    images = np.arange(3)
    highest = directions.highest(matrices[:, 0], images)
    assert (values[..., 0] <= highest).all()
    lowest = -directions.highest(-matrices[:, 0], images)
    assert (values[..., 0] >= lowest).all() and (lowest < highest).all()
    # They are no looser than the numbers of components allow.
    square = np.zeros((3, 6, 6))
    square[:, 0, 0] = 1.0
    moved = directions.rows[0] * (upper - lower) / 2
    expected = 39 * (moved**2).sum(axis=1)
    np.testing.assert_allclose(
        directions.highest(square, images), expected, rtol=1e-6
    )


def test_it_certifies_more():
    model = zoo.load("ncp4.fashion_mnist")
    dataset = data.load("fashion_mnist_sample")
    x = np.asarray(model.preprocessor(dataset.x_test[:24]))
    certifier, labels = Certifier(model), dataset.y_test[:24]
    affine, quadratic, best = (
        certifier.margins(x, labels, 0.03, method) > 0
        for method in ("affine", "quadratic", "auto")
    )
    assert quadratic.sum() > 3 * affine.sum() > 0
    assert best[affine | quadratic].all()


def test_images_that_no_bound_certifies_are_skipped(monkeypatch):
    model = zoo.load("pn4.fashion_mnist")
    dataset = data.load("fashion_mnist_sample")
    x, y = model.preprocessor(dataset.x_test[:60]), dataset.y_test[:60]
    x, certifier, seen = np.asarray(x), Certifier(model), []
    margins = QuadraticForms.margins

    def watched(self, lower, upper, labels, needed):
        seen.append((lower + upper) / 2)
        return margins(self, lower, upper, labels, needed)

    monkeypatch.setattr(QuadraticForms, "margins", watched)
    affine = certifier.margins(x, y, 0.03, "affine") > 0
    certifier.margins(x, y, 0.03)
    (looked_at,) = seen
    right = model.predict(x, verbose=0).argmax(axis=1) == y
    broken = fgsm(model, x, y, 0.03)
    broken = model.predict(broken, verbose=0).argmax(axis=1) != y
    left = right & ~affine
    assert (broken & left).sum() > 5
    assert len(looked_at) <= (left & ~broken).sum() + 1


def test_which_models_have_one():
    flat = keras.layers.Flatten()
    one = examples.sequential((2, 2, 1), flat, layers.CCP(3, 4, 2))
    assert Certifier(one).methods[-2:] == ("quadratic", "auto")
    others = [
        examples.sequential((5,), layers.CCP(3, 4, 2), keras.layers.Dense(3)),
        examples.sequential((2, 3), layers.CCP(3, 4, 2), flat),
        examples.sequential(
            (2, 2, 2),
            keras.layers.Flatten(data_format="channels_first"),
            layers.CCP(3, 4, 2),
        ),
        examples.made("convolutional"),
    ]
    for model in others:
        certifier = Certifier(model, (-1.0, 1.0))
        assert "quadratic" not in certifier.methods
        x = np.zeros((1, *model.input_shape[1:]), "float32")
        randomize(model, np.random.default_rng(0), 0.1)
        label = apply(model, x).argmax(axis=1)
        with pytest.raises(NotImplementedError, match="one dense polynomial"):
            certifier.margins(x, label, 0.01, "quadratic")


@pytest.mark.parametrize("weight", [1e20, 3e38])
def test_weights_that_overflow_certify_nothing(weight):
    model = examples.made("ncp")
    kernel = model.layers[0].factors.kernel
    kernel.assign(np.full(kernel.shape, weight))
    certifier, x = Certifier(model, (-1.0, 1.0)), np.ones((3, 5), "float32")
    with np.errstate(all="ignore"):
        for label in range(3):
            margins = certifier.margins(x, np.full(3, label), 0.1, "quadratic")
            assert not (margins > 0).any()
