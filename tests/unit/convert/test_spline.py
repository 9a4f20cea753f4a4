import keras
import numpy as np
import pytest
from scipy import interpolate

from keras_polynets import convert
from keras_polynets.layers import QuadraticDense

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no float64 there"
)


def rng():
    return np.random.default_rng(0)


def points():
    return np.sort(rng().uniform(-3, 5, 12))


def runge(x):
    return 1 / (1 + 25 * x**2)


SPLINES = {
    "cubic": interpolate.CubicSpline(points(), rng().normal(size=12)),
    "quintic": interpolate.PPoly.from_spline(
        interpolate.make_interp_spline(points(), rng().normal(size=12), k=5)
    ),
    "pchip": interpolate.PchipInterpolator(points(), rng().normal(size=12)),
    "linear": interpolate.PPoly([[1.0, 2, -1], [0, 1, 3]], [0, 1, 2, 3]),
    "constant": interpolate.PPoly([[2.0, 2]], [0, 1, 2]),
    "one piece of degree 7": interpolate.PPoly(
        rng().normal(size=(8, 1)), [2, 3]
    ),
    # Written as a sum of truncated powers over all 100 pieces, the values
    # would grow as the cube of their number.
    "Runge": interpolate.CubicSpline(
        np.linspace(-1, 1, 101), runge(np.linspace(-1, 1, 101))
    ),
    "far from 0": interpolate.CubicSpline(
        np.linspace(100, 200, 201), np.sin(np.linspace(100, 200, 201))
    ),
}


@pytest.mark.parametrize("name", SPLINES)
def test_it_is_the_spline(name):
    spline = SPLINES[name]
    model = convert.from_spline(spline)
    width = spline.x[-1] - spline.x[0]
    x = np.linspace(spline.x[0] - width / 8, spline.x[-1] + width / 8, 3001)
    x = np.concatenate([x, spline.x])
    outputs = np.asarray(model(x[:, None]))
    assert outputs.dtype == "float64" and outputs.shape == (len(x), 1)
    np.testing.assert_allclose(outputs[:, 0], spline(x), atol=1e-10, rtol=0)


def test_it_is_a_quadratic_relu_network():
    model = convert.from_spline(SPLINES["quintic"])
    assert all(type(layer) is QuadraticDense for layer in model.layers)
    *hidden, last = [layer.activation.__name__ for layer in model.layers]
    assert set(hidden) == {"relu"} and last == "linear"
    # Powers double: 1, 2, 4, 5.
    assert len(model.layers) == 5


def test_it_needs_float64(monkeypatch):
    matmul = keras.ops.matmul
    monkeypatch.setattr(
        keras.ops,
        "matmul",
        lambda a, b: matmul(*(keras.ops.cast(x, "float32") for x in (a, b))),
    )
    with pytest.raises(ValueError, match="needs float64, .*jax_enable_x64"):
        convert.from_spline(SPLINES["cubic"])


@pytest.mark.parametrize(
    ("spline", "message"),
    [
        (
            interpolate.make_interp_spline([0, 1, 2, 3], [0, 1, 0, 1]),
            "Expected a `scipy.interpolate.PPoly`. Received: BSpline. A "
            "`BSpline` becomes one by `scipy.interpolate.PPoly.from_spline",
        ),
        (np.zeros(3), "Received: ndarray"),
        (
            interpolate.CubicSpline([0, 1, 2], np.eye(3)),
            r"one real value at a point. Received: coefficients of shape "
            r"\(4, 2, 3\) and dtype float64",
        ),
        (
            interpolate.CubicSpline([0, 1, 2], [0, 1j, 0]),
            "one real value at a point",
        ),
        (
            interpolate.CubicSpline([0, 1, 2], [0, 1, 0], bc_type="periodic"),
            "A network is not periodic",
        ),
        (
            interpolate.PPoly([[1.0, 1]], [2, 1, 0]),
            "Expected breakpoints that increase",
        ),
        (
            interpolate.PPoly([[1.0, 1], [0, 0.5]], [0, 1, 2]),
            "continuous, and this spline is not: it jumps by -0.5 at x = 1",
        ),
        (
            interpolate.PPoly([[np.nan]], [0, 1]),
            "finite coefficients",
        ),
    ],
)
def test_other_splines_are_refused(spline, message):
    with pytest.raises(ValueError, match=message):
        convert.from_spline(spline)
