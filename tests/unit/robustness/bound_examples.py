"""Polynomials with known weights, and slopes to compare bounds with."""

import itertools

import keras
import numpy as np

from keras_polynets import layers

INF = float("inf")
P = [1, 2, INF]
FORMS = ["auto", "theorem", "recursion"]


def w(n, rows, columns):
    """H1's deterministic weights."""
    i, j = np.mgrid[:rows, :columns]
    return 0.5 * np.sin(1 + 3 * i + 7 * j + 11 * n)


def h1_layer(kind, biases=True, **kwargs):
    """The layers of H1 in float64: d=3, k=4, o=2, N=3."""
    layer = kind(2, 4, 3, dtype="float64", **kwargs)
    layer.build((None, 3))
    layer.factors.kernel.assign(np.hstack([w(n, 3, 4) for n in (1, 2, 3)]))
    layer.output_map.kernel.assign(w(20, 2, 4).T)
    layer.output_map.bias.assign([0.1, -0.2] if biases else [0.0, 0.0])
    if isinstance(layer, layers.NCP):
        b = [w(40 + n, 2, 4).T @ w(50 + n, 2, 1)[:, 0] for n in (1, 2, 3)]
        layer.state_maps[0].kernel.assign(b[0][None])
        for n in (2, 3):
            # S_n and V_n act on the state from the left.
            layer.state_maps[n - 1].kernel.assign(w(30 + n, 4, 4))
            layer.state_maps[n - 1].bias.assign(b[n - 1] * biases)
    return layer


def random_layer(kind, seed, p=INF, order=None, inputs=4, scale=0.7):
    """A layer with random weights everywhere, biases included."""
    rng = np.random.default_rng([seed, 7])
    order = order or int(rng.integers(1, 6))
    skip = {}
    if kind is layers.NCPSkip:
        skip = {"skip": ["identity", "learned"][seed % 2]}
    layer = kind(
        3,
        5,
        order,
        use_factor_bias=bool(seed % 3),
        use_bias=bool(seed % 4),
        dtype="float64",
        **skip,
    )
    layer.build((None, inputs))
    randomize(layer, rng, scale)
    return layer


def randomize(layer, rng, scale=0.7):
    layer.set_weights(
        [rng.normal(size=v.shape, scale=scale) for v in layer.get_weights()]
    )


def apply(model, z):
    return keras.ops.convert_to_numpy(model(z, training=False))


def jacobian(model, z):
    """Jacobians of shape (points, outputs, inputs), by finite differences
    that are exact enough in float64 and need no backend."""
    step = 1e-6
    shape = z.shape[1:]
    size = int(np.prod(shape))
    eye = np.eye(size).reshape(size, *shape) * step
    columns = [
        (apply(model, z + e) - apply(model, z - e)).reshape(len(z), -1)
        / (2 * step)
        for e in eye
    ]
    return np.stack(columns, axis=-1)


def points_of_ball(p, inputs, radius, rng, count=100):
    z = rng.normal(size=(count, inputs))
    z /= np.linalg.norm(z, p, axis=1, keepdims=True)
    z[: count // 2] *= rng.uniform(size=(count // 2, 1))
    if p == INF:
        z = np.vstack([z, list(itertools.product([-1.0, 1.0], repeat=inputs))])
    if p == 1:
        z = np.vstack([z, np.eye(inputs), -np.eye(inputs)])
    return radius * z


def largest_slope(model, z, p):
    """The largest ratio over pairs of points, and the largest norm of the
    Jacobian at the points."""
    y = apply(model, z).reshape(len(z), -1)
    flat = z.reshape(len(z), -1)
    i, j = np.triu_indices(len(z), k=1)
    change = np.linalg.norm(y[i] - y[j], p, axis=1)
    ratios = change / np.maximum(
        np.linalg.norm(flat[i] - flat[j], p, axis=1), 1e-9
    )
    norms = [np.linalg.norm(matrix, p) for matrix in jacobian(model, z)]
    return max(ratios.max(), max(norms))


def norm(matrix, p=INF):
    return np.linalg.norm(matrix, p)


def conv_model(seed, order=3):
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(2, 3, padding="same", dtype="float64"),
            layers.CCPConv2D(
                2,
                3,
                order,
                pool_after=(2, 3),
                use_factor_bias=True,
                dtype="float64",
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(3, dtype="float64"),
        ]
    )
    randomize(model, rng, scale=0.3)
    return model
