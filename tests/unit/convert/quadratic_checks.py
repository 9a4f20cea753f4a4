"""What is checked of a model that `to_quadratic` has converted."""

import keras
import numpy as np
from keras import layers


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


def randomize(model):
    rng = np.random.default_rng(1)
    for w in model.weights:
        w.assign(rng.uniform(0.3, 1, tuple(w.shape)))


def same(model, quadratic, *inputs):
    x = inputs[0] if len(inputs) == 1 else list(inputs)
    expected, received = (
        np.concatenate([np.ravel(value(y)) for y in keras.tree.flatten(m(x))])
        for m in (model, quadratic)
    )
    assert np.std(expected) > 0
    np.testing.assert_allclose(
        received, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def small():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2), name="images"),
            layers.Conv2D(4, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, activation="softmax", name="head"),
        ],
        name="small",
    )


def branching(across=False):
    """Nested, shared, with two named inputs and plain operations.

    `across` shares a layer between models; Keras cannot load that.
    """
    a, b = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    inputs, inner = {"left": a, "right": b}, keras.Input((4,), name="within")
    shared = layers.Dense(4, activation="tanh", name="shared")
    x = shared(shared(inner)) + layers.Dense(4, name="own")(inner)
    block = keras.Model(inner, x, name="block")
    if not across:
        shared = layers.Dense(4, name="last")
    chain = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="first"), shared], name="chain"
    )
    if not across:
        shared = layers.Dense(4, name="twice")
        a = a + shared(shared(b))
    x = block(a) * 2.0 + block(b)
    x = keras.ops.concatenate([chain(x), shared(b)[:, :2]], axis=-1)
    outputs = {
        "one": layers.Dense(2, name="one")(x),
        "two": layers.Dense(2, name="two")(keras.ops.relu(x)),
    }
    return keras.Model(inputs, outputs, name="branching")
