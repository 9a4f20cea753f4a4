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
