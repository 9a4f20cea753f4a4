"""Small polynomial models of every kind of layer, and searches of a ball."""

import keras
import numpy as np

from keras_polynets import layers
from keras_polynets.layers.residual import PadShortcut
from keras_polynets.layers.residual import ScalarGate
from keras_polynets.robustness import Certifier
from tests.unit.robustness.bound_examples import apply
from tests.unit.robustness.bound_examples import randomize

L = keras.layers


def sequential(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def of_input(shape, function):
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs))


def check_inside(model, x):
    """What the model computes lies within the bounds of a ball of a point."""
    outputs = model.predict(x, verbose=0).astype("float64")
    for method in ("interval", "affine"):
        lower, upper = Certifier(model).bounds(x, 0.0, method)
        assert (lower <= outputs).all() and (outputs <= upper).all()


def residual(shape=(6, 6, 2)):
    """Branches that meet in sums, products and concatenations."""
    inputs = keras.Input(shape)
    x = L.Conv2D(3, 3, padding="same")(inputs)
    x = L.BatchNormalization()(x)
    y = L.Conv2D(3, 3, padding="same")(x)
    gated = ScalarGate(initializer="ones")(L.Multiply()([x, y]))
    x = L.Add()([x, y, gated])
    x = L.Concatenate()([x, L.Subtract()([x, y]), L.Average()([x, y])])
    x = PadShortcut(10, strides=2)(x)
    x = L.AveragePooling2D(2, strides=1, padding="same")(x)
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, L.Dense(3)(x))


def operations():
    """Plain operations on tensors."""
    x = inputs = keras.Input((6,))
    x = keras.ops.square(x) - 2.0 * x + np.linspace(-1, 1, 6, dtype="float32")
    x = x[:, :4] * keras.ops.power(inputs[:, 1:5], 3)
    x = keras.ops.concatenate([-x / 2.0, keras.ops.reshape(x, (-1, 4))], -1)
    return keras.Model(inputs, L.Dense(3)(x))


def nested():
    inputs = keras.Input((5,))
    inner = sequential((5,), layers.CCP(4, 3, 2), L.Dropout(0.5))
    return keras.Model(inputs, L.Dense(3)(inner(L.Rescaling(0.5)(inputs))))


def quadratic(neuron):
    return sequential(
        (5, 5, 1),
        layers.QuadraticConv2D(
            2, 3, neuron=neuron, branch_normalization=neuron == "type2_4"
        ),
        L.Flatten(),
        layers.QuadraticDense(3, neuron=neuron),
    )


MODELS = {
    "ccp": lambda: sequential((5,), layers.CCP(3, 4, 4, use_factor_bias=True)),
    "ccp of order 1": lambda: sequential((5,), layers.CCP(3, 4, 1)),
    "ncp": lambda: sequential((5,), layers.NCP(3, 4, 3, use_factor_bias=True)),
    "ncp skip": lambda: sequential((5,), layers.NCPSkip(3, 4, 3)),
    "ncp learned skip": lambda: sequential(
        (5,), layers.NCPSkip(3, 4, 3, skip="learned")
    ),
    "prodpoly": lambda: sequential(
        (5,),
        layers.ProdPoly([layers.CCP(4, 3, 2), layers.NCPSkip(3, 4, 2)]),
    ),
    "convolutional": lambda: sequential(
        (8, 8, 1),
        L.Conv2D(2, 3, padding="same"),
        layers.CCPConv2D(2, 3, 4, pool_after=(2, 3), use_factor_bias=True),
        L.Flatten(),
        L.Dense(3),
    ),
    "residual": residual,
    "operations": operations,
    "nested": nested,
    "square": lambda: sequential(
        (5,), L.Dense(4, activation=layers.square), L.Dense(3)
    ),
    "positions": lambda: sequential(
        (3, 2), L.Dense(3), layers.CCP(2, 3, 2), L.Flatten(), L.Dense(3)
    ),
    "transposed": lambda: sequential(
        (3, 3, 1),
        L.Conv2DTranspose(2, 3, strides=2),
        L.Activation(layers.square),
        L.UpSampling2D(2),
        L.Flatten(),
        L.Dense(3),
    ),
    **{
        f"quadratic {neuron}": lambda neuron=neuron: quadratic(neuron)
        for neuron in ("full", "qres", "quadralib", "type3", "type2_4")
    },
}


def made(name, seed=0, scale=0.4):
    """The model with random weights everywhere."""
    model = MODELS[name]()
    randomize(model, np.random.default_rng([seed, 3]), scale)
    for variable in model.weights:
        if "variance" in variable.path:
            variable.assign(np.abs(variable.numpy()) + 0.5)
    return model


def images(model, count=6, seed=0):
    """Points of the valid range, some with components at its ends."""
    rng = np.random.default_rng([seed, 5])
    x = rng.uniform(-1, 1, size=(count, *model.input_shape[1:]))
    x[::2] = np.where(rng.uniform(size=x[::2].shape) < 0.4, -1.0, x[::2])
    return x.astype("float32")


def points_of_balls(x, epsilon, rng, clip=(-1.0, 1.0)):
    """A point of each ball: inside, or at a corner."""
    kind = rng.integers(3)
    if kind == 0:
        step = rng.uniform(-1, 1, size=x.shape)
    else:
        step = rng.choice([-1.0, 1.0], size=x.shape)
    if kind == 2:
        step *= rng.uniform(size=(len(x), *[1] * (x.ndim - 1)))
    return np.clip(x + epsilon * step, *clip).astype("float32")


def worst_points(model, x, epsilon, objective, steps=8, clip=(-1.0, 1.0)):
    """Points of the balls that a gradient ascent of an objective finds."""
    import tensorflow as tf

    lower = np.maximum(x - epsilon, clip[0]).astype("float32")
    upper = np.minimum(x + epsilon, clip[1]).astype("float32")
    points = tf.constant(x)
    for step in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(points)
            value = objective(model(points, training=False))
        rate = epsilon * (1.0 if step < steps // 2 else 0.3)
        points = points + rate * tf.sign(tape.gradient(value, points))
        points = tf.clip_by_value(points, lower, upper)
    return points.numpy()


def outputs(model, x):
    return apply(model, x).astype("float64")
