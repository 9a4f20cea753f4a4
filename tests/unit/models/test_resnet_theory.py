"""What the papers say of the residual networks before and after training."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import models

SMALL = {"input_shape": (4, 4, 2), "classes": 3, "blocks": (1, 1), "width": 4}
LINEAR = {**SMALL, "activation": None, "dtype": "float64"}

# Blocks whose second-order terms end in a map, a gate or a normalisation.
TERMS = {
    "two_maps": {"operand_map": "conv", "product_map": "all"},
    "operand_map": {"operand_map": "conv"},
    "speech": {"operand_map": "conv", "product_map": "identity"},
    "factorized": {"operand_map": "factorized", "product_activation": "tanh"},
    "gate": {"gate": True, "product_map": "all"},
    "batch": {"product_normalization": "batch", "product_map": "all"},
    "gated_instance": {
        "product_normalization": "instance",
        "product_map": "all",
        "gate": True,
    },
}
OTHERS = {
    "pinet": {
        "order": 2,
        "product_normalization": "batch",
        "product_map": "all",
        "zero_init_residual": True,
    },
    "ncp": {
        "activation": None,
        "branch": "single",
        "shortcut": "projection_always",
        "shortcut_normalization": "instance",
        "order": 2,
        "gate": True,
        "add_residual": False,
    },
    "full": {"neuron": "full", "shortcut": "pad"},
    "poly": {"neuron": "poly", "shortcut": "pad", "rezero": True},
    "quadralib": {"neuron": "quadralib", "branch_normalization": True},
}

exact = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="Keras normalises in single precision on other backends",
)


def tiny(**kwargs):
    keras.utils.set_random_seed(0)
    return models.ResNet(**{**SMALL, **kwargs})


def images(model, size=16):
    rng = np.random.default_rng(1)
    return rng.uniform(*model.input_range, (size, *model.input_shape[1:]))


def perturb(model, scale):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = rng.normal(size=weight.shape, scale=scale)
        noise = abs(noise) if "variance" in weight.path else noise
        weight.assign(ops.convert_to_numpy(weight) + noise)


def predict(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def outputs(model, layer, x):
    part = keras.Model(model.input, model.get_layer(layer).output)
    return predict(part, x)


def degree(model):
    """Returns the degree along a random line, by finite differences."""
    rng = np.random.default_rng(2)
    start, direction = rng.normal(size=(2, *model.input_shape[1:]))
    for order in range(33):
        steps = np.linspace(-1, 1, order + 2)[:, None, None, None]
        values = predict(model, start + steps * direction)
        scale = np.abs(values).max() * 2 ** (order + 1)
        if np.abs(np.diff(values, order + 1, axis=0)).max() < 1e-13 * scale:
            return order
    raise AssertionError("no polynomial of a degree below 33")


@exact
@pytest.mark.parametrize(
    "order, blocks",
    [
        (1, (2, 1)),
        (2, (1,)),
        (2, (1, 1)),
        (2, (2, 1)),
        (3, (1,)),
        (3, (1, 1)),
        (4, (1,)),
        (5, (1,)),
    ],
)
def test_degree_of_products(order, blocks):
    """Order i, L blocks, no activations: degree i ** L."""
    model = tiny(**LINEAR | {"blocks": blocks}, order=order)
    perturb(model, 0.3)
    assert degree(model) == order ** sum(blocks)


@exact
@pytest.mark.parametrize("neuron", ["full", "compact", "poly"])
def test_degree_of_quadratic_networks(neuron):
    """L quadratic layers without activations: degree 2 ** L."""
    for blocks in ((1,), (1, 1)):
        model = tiny(**LINEAR | {"blocks": blocks}, neuron=neuron)
        perturb(model, 0.3)
        assert degree(model) == 2 ** (2 * sum(blocks))


@exact
def test_without_products_it_is_affine():
    model = tiny(**LINEAR)
    perturb(model, 0.3)
    x = images(model)
    np.testing.assert_allclose(
        predict(model, x) + predict(model, -x),
        np.broadcast_to(2 * predict(model, 0 * x), (len(x), 3)),
        atol=1e-12,
    )
    product = tiny(**LINEAR, order=2)
    perturb(product, 0.3)
    sums = predict(product, x) + predict(product, -x)
    assert np.abs(sums - 2 * predict(product, 0 * x)).max() > 1e-3


def test_the_shortcut_is_the_identity_in_a_pinet():
    model = tiny(**LINEAR, **OTHERS["pinet"])
    x = images(model)
    np.testing.assert_array_equal(
        outputs(model, "stage1", x), outputs(model, "stem", x)
    )
    perturb(model, 0.1)
    assert not np.allclose(
        outputs(model, "stage1", x), outputs(model, "stem", x), atol=0.1
    )


def test_rezero_starts_as_the_rectified_shortcut():
    model = tiny(neuron="full", rezero=True, shortcut="pad")
    x = images(model)
    np.testing.assert_array_equal(
        outputs(model, "stage1", x), outputs(model, "stem", x)
    )
    stem = outputs(model, "stem", x)
    second = np.pad(stem[:, ::2, ::2], [(0, 0)] * 3 + [(2, 2)])
    np.testing.assert_array_equal(outputs(model, "stage2", x), second)


def test_the_gated_product_starts_as_the_shortcut():
    model = tiny(**LINEAR | OTHERS["ncp"])
    x = images(model)
    np.testing.assert_array_equal(
        outputs(model, "stage1", x),
        outputs(model, "stage1_block1_shortcut_norm", x),
    )


@pytest.mark.parametrize("term", TERMS)
def test_before_training_it_is_its_first_order_twin(term):
    blocks = (2, 1)
    if term == "speech":
        # Elsewhere the product has no map that could start at zero.
        blocks = (2,)
    first = tiny(blocks=blocks)
    second = tiny(blocks=blocks, order=3, **TERMS[term])
    perturb(first, 0.1)
    own = {w.path: w for w in second.weights}
    for weight in first.weights:
        own[weight.path].assign(weight)
    assert len(second.weights) > len(first.weights)
    x = images(first)
    np.testing.assert_array_equal(predict(second, x), predict(first, x))
    perturb(second, 0.1)
    assert np.abs(predict(second, x) - predict(first, x)).max() > 1e-3


@pytest.mark.parametrize("neuron", ["full", "compact", "parabolic", "poly"])
def test_quadratic_networks_start_as_the_conventional_one(neuron):
    conventional = tiny(shortcut="pad")
    quadratic = tiny(shortcut="pad", neuron=neuron)
    perturb(conventional, 0.1)
    own = {w.path: w for w in quadratic.weights}
    for weight in conventional.weights:
        path = weight.path
        if path not in own:
            path = path.replace("/kernel", "/linear/kernel")
        own[path].assign(weight)
    x = images(conventional)
    np.testing.assert_array_equal(
        predict(quadratic, x), predict(conventional, x)
    )


FORMS = {k: {"order": 3, **v} for k, v in TERMS.items()} | OTHERS


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_stuck_at_the_start(form):
    """Two zeros in a row, such as a gate's and a map's, would never move."""
    # In single precision the first steps of gates can be lost beside a weight.
    model = tiny(**FORMS[form], dtype="float64")
    model.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    before = [ops.convert_to_numpy(w) for w in model.trainable_variables]
    x = images(model)
    for _ in range(4):
        model.train_on_batch(x, np.arange(len(x)) % 3)
    stuck = [
        w.path
        for w, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(old, ops.convert_to_numpy(w))
    ]
    assert stuck == []


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tapes are TensorFlow's"
)
@pytest.mark.parametrize("form", FORMS)
def test_a_gradient_reaches_every_parameter(form):
    import tensorflow as tf

    # Rectified maps may be dead from the start.
    arguments = {"activation": "leaky_relu", "dtype": "float64", **FORMS[form]}
    model = tiny(**arguments)
    perturb(model, 0.01)
    x, weights = images(model), np.random.default_rng(1).normal(size=3)
    reached = {w.path: 0 for w in model.trainable_variables}
    # In training a normalisation takes away what the bias before it adds.
    for training in (False, True):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=training) * weights)
        gradients = tape.gradient(loss, model.trainable_variables)
        for path, gradient in zip(reached, gradients, strict=True):
            reached[path] |= np.abs(gradient) > 1e-12
    if form == "ncp":
        # It multiplies the shortcut, whose mean over an image is 0: it is
        # instance-normalised, and a global average follows the last block.
        assert not reached.pop("stage2_block1_norm1/beta").any()
    missed = [path for path, where in reached.items() if not where.all()]
    assert missed == []
