"""Products of feature maps that are summed, and layers of several maps."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import lipschitz_bound
from tests.unit.robustness.bound_examples import apply
from tests.unit.robustness.bound_examples import randomize

L, ops = keras.layers, keras.ops
RNG = np.random.default_rng(0)
SQUARE, WIDE, STACK = (
    RNG.normal(size=shape).astype("float32")
    for shape in ((4, 3), (3, 5), (2, 4, 5))
)


# By name: the shape of an example, and what is made of a batch, new each time.
PARTS = {
    "separable": (
        (6, 6, 2),
        lambda x: L.SeparableConv2D(
            3, (3, 2), (2, 2), depth_multiplier=2, padding="same"
        )(x),
    ),
    "separable, squared": (
        (6, 2),
        lambda x: L.SeparableConv1D(3, 3, activation=layers.square)(x),
    ),
    "depthwise": (
        (5, 3),
        lambda x: L.DepthwiseConv1D(3, depth_multiplier=2)(x),
    ),
    "depthwise, dilated": (
        (6, 5, 2),
        lambda x: L.DepthwiseConv2D((2, 3), dilation_rate=2, padding="same")(x),
    ),
    "steps": ((4, 5), lambda x: L.TimeDistributed(layers.CCP(2, 3, 3))(x)),
    "steps, separable": (
        (2, 5, 2),
        lambda x: L.TimeDistributed(L.SeparableConv1D(2, 3))(x),
    ),
    "steps, squared": (
        (3, 4),
        lambda x: L.TimeDistributed(L.Dense(3, activation=layers.square))(x),
    ),
    "steps of images": (
        (2, 5, 4, 1),
        lambda x: L.TimeDistributed(L.Conv2D(2, 3))(x),
    ),
    "steps of models": (
        (3, 5),
        lambda x: L.TimeDistributed(
            keras.Sequential([keras.Input((5,)), layers.CCP(2, 3, 2)])
        )(x),
    ),
    "dot": ((4, 5), lambda x: L.Dot(2)([L.Dense(3)(x), L.Dense(3)(x)])),
    "dot, axes": (
        (4, 5),
        lambda x: L.Dot((1, -1))([L.Dense(3)(x), L.Dense(4)(x)]),
    ),
    "dot of vectors": ((5,), lambda x: L.Dot(-1)([L.Dense(5)(x), x])),
    "gram": ((4, 5), lambda x: x @ ops.transpose(x, (0, 2, 1))),
    "broadcast": (
        (2, 3, 4),
        lambda x: x[:, :1] @ ops.transpose(x, (0, 1, 3, 2)),
    ),
    "matrix behind": ((4,), lambda x: ops.matmul(x, SQUARE)),
    "vector behind": ((2, 4), lambda x: ops.matmul(x, SQUARE[:, 0])),
    "batch of one": ((5, 4), lambda x: ops.matmul(x, SQUARE[None])),
    "stack behind": ((2, 3, 4), lambda x: ops.matmul(x, STACK)),
    "matrix before": ((5, 4), lambda x: ops.matmul(WIDE, x)),
    "einsum": (
        (4, 5),
        lambda x: ops.einsum("bij,bkj->bki", x, L.Dense(5)(x)),
    ),
    "einsum, diagonal": ((4, 4), lambda x: ops.einsum("bii,bij->bj", x, x)),
    "einsum, constant": (
        (3, 4),
        lambda x: ops.einsum("jk,bij->bki", SQUARE, x),
    ),
}


def model_of(shape, part):
    inputs = keras.Input(shape)
    hidden = part(inputs)
    if len(hidden.shape) > 2:
        hidden = L.Flatten()(hidden)
    return keras.Model(inputs, L.Dense(3)(hidden))


@pytest.mark.parametrize("name", PARTS)
def test_no_point_leaves_its_bounds(name):
    shape, part = PARTS[name]
    model, rng = model_of(shape, part), np.random.default_rng(1)
    randomize(model, rng, 0.5)
    x = rng.uniform(-0.9, 0.9, (3, *shape)).astype("float32")
    certifier, found = Certifier(model, (-1.0, 1.0)), []
    for method in ("interval", "affine"):
        lower, upper = certifier.bounds(x, 0.0, method)
        # What is left of a ball of one point is rounding.
        np.testing.assert_allclose(lower, upper, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(
            apply(model, x), (lower + upper) / 2, rtol=1e-4, atol=1e-4
        )
        found.append(certifier.bounds(x, 0.05, method))
    points = [
        apply(model, x + rng.choice([-0.05, 0.02, 0.05], size=x.shape))
        for _ in range(30)
    ]
    for lower, upper in found:
        assert (lower <= points).all() and (points <= upper).all()
    # Bounds that know how terms correlate are near to what is reached.
    reached = np.ptp(points, axis=0).mean()
    assert (upper - lower).mean() < 8 * reached


def test_steps_of_another_dtype_than_the_layer_inside():
    pooling = L.GlobalAveragePooling1D(dtype="float32")
    inputs = keras.Input((2, 4, 3))
    steps = L.TimeDistributed(pooling, dtype="float16")(inputs)
    model = keras.Model(inputs, L.Flatten()(steps))
    with pytest.raises(NotImplementedError, match="Give both the same"):
        Certifier(model).bounds(np.zeros((1, 2, 4, 3), "float32"), 0.1)


def test_many_steps_of_a_linear_layer():
    model = model_of((200, 12), L.TimeDistributed(L.Dense(16)))
    x = np.random.default_rng(0).normal(size=(2, 200, 12)).astype("float32")
    lower, upper = Certifier(model).bounds(x, 0.01)
    outputs = apply(model, x)
    assert (lower <= outputs).all() and (outputs <= upper).all()


def test_the_product_of_a_vector_with_itself_is_a_square():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, L.Dot(1)([inputs, inputs]))
    lower, upper = Certifier(model).bounds(np.zeros((1, 5), "float32"), 0.5)
    np.testing.assert_allclose([lower[0, 0], upper[0, 0]], [0, 1.25], atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "part", "words"),
    [
        ((4,), lambda x: ops.einsum("bi,ci->bc", x, x), "(Einsum)"),
        ((4,), lambda x: ops.einsum("bi,bj->ij", x, x), "(Einsum)"),
        ((4,), lambda x: ops.einsum("bi,bi,bi->bi", x, x, x), "(Einsum)"),
        ((4, 5), lambda x: ops.einsum("b...,b...->b...", x, x), "(Einsum)"),
        (
            (4,),
            lambda x: ops.einsum("bi,j->bi", x, SQUARE[:, 0]),
            "of one operand alone",
        ),
        (
            (2, 4),
            lambda x: ops.matmul(L.Reshape((1, 2, 4))(x), L.Permute((2, 1))(x)),
            "(Matmul)",
        ),
        ((4,), lambda x: L.Dot(1, normalize=True)([x, x]), "normalize=True"),
    ],
)
def test_products_that_are_refused(shape, part, words):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, part(inputs))
    x = np.zeros((2, *shape), "float32")
    with pytest.raises(NotImplementedError) as error:
        Certifier(model, (-1.0, 1.0)).bounds(x, 0.1)
    assert words in str(error.value)


GLOBAL = ("separable", "depthwise, dilated", "steps", "steps of models")


@pytest.mark.parametrize("p", [1, 2, np.inf])
@pytest.mark.parametrize("name", GLOBAL)
def test_no_slope_exceeds_the_global_bound(name, p):
    shape, part = PARTS[name]
    model, rng = model_of(shape, part), np.random.default_rng(2)
    randomize(model, rng, 0.5)
    bound = lipschitz_bound(model, p)
    x = rng.normal(size=(400, *shape))
    moved = x + rng.choice([-0.3, 0.3], size=x.shape)
    inside = [z / norms(z, p).max() for z in (x, moved)]
    outputs = [apply(model, z.astype("float32")) for z in inside]
    slopes = [norms(np.subtract(*z), p).ravel() for z in (outputs, inside)]
    slopes = np.divide(*slopes)
    assert 1e-3 * bound < slopes.max() <= bound


def norms(x, p):
    flat = x.reshape(len(x), -1)
    return np.linalg.norm(flat, p, axis=1).reshape(-1, *[1] * (x.ndim - 1))
