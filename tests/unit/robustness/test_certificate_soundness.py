"""Certificates of the model as it is computed: rounding, range, layers."""

import keras
import numpy as np

from keras_polynets.robustness import Certifier

RANGE = (-1.0, 1.0)


def test_global_margin_knows_the_rounding_inside_the_ball():
    # Two columns that differ in one component, by one unit in the last place:
    # exact logits never change their order, but float32 loses the difference.
    rng = np.random.default_rng(0)
    column = (1e4 + rng.uniform(0, 1e3, 100)).astype("float32")
    kernel = np.stack([column, column], axis=1)
    kernel[0, 1] = np.nextafter(column[0], np.float32(np.inf))
    gap = float(kernel[0, 1]) - float(kernel[0, 0])
    epsilon = 0.1
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(2)])
    model.set_weights([kernel, np.array([0, 4 * epsilon * gap], "float32")])
    points = rng.uniform(-epsilon, epsilon, (200, 100)).astype("float32")
    found = np.argmax(model.predict(points, verbose=0), axis=-1)
    x, labels = np.zeros((1, 100), "float32"), np.array([1])
    for method in ("global", "auto"):
        margin = Certifier(model, RANGE).margins(x, labels, epsilon, method)
        assert (found == 1).all() or margin[0] <= 0
        # Each logit is a sum of 100 terms of up to 1,000.
        assert margin[0] < -1e-3


def test_a_last_map_at_several_positions_bounds_each_logit():
    # The logits are the same function of different inputs: their difference
    # moves although the rows of the matrix do not differ.
    model = keras.Sequential(
        [
            keras.Input((10, 4)),
            keras.layers.Dense(1),
            keras.layers.Flatten(),
        ]
    )
    kernel = np.array([[0.5], [-1.0], [2.0], [-0.25]], "float32")
    model.set_weights([kernel, np.zeros(1)])
    x = np.zeros((1, 10, 4), "float32")
    x[0, 0] = 0.05 * np.sign(kernel[:, 0])
    # The margin is 0.05 ||w||_1, and a change of epsilon takes 2 epsilon of it.
    certifier = Certifier(model, RANGE)
    for epsilon, sign in ((0.02, 1), (0.03, -1), (0.5, -1)):
        for method in ("global", "affine", "auto"):
            margins = certifier.margins(x, np.array([0]), epsilon, method)
            expected = (0.05 - 2 * epsilon) * 3.75
            np.testing.assert_allclose(margins, [expected], atol=1e-5)
            assert np.sign(margins[0]) == sign


def test_more_logits_than_rows_of_the_last_matrix():
    model = keras.Sequential(
        [keras.Input((2, 4)), keras.layers.Dense(5), keras.layers.Flatten()]
    )
    x, labels = np.zeros((3, 2, 4), "float32"), np.array([0, 1, 7])
    margins = Certifier(model, RANGE).margins(x, labels, 0.01, "global")
    largest = np.abs(model.get_weights()[0]).sum(axis=0).max()
    np.testing.assert_allclose(margins, [-0.02 * largest] * 3, rtol=1e-4)
