"""A small model, and what saving it with its optimizer must keep."""

import keras
import numpy as np


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(1, bias_initializer="ones"),
        ]
    )
    return model


def check_saved_model_brings_back(optimizer, path):
    """Both models go on alike: the optimizer's state is in the file."""
    model = make_model()
    model.compile(optimizer, "mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 1), "float32")
    model.fit(x, y, verbose=0)
    model.save(path)
    again = keras.models.load_model(path)
    assert type(again.optimizer) is type(optimizer)
    for m in (model, again):
        m.fit(x, y, verbose=0, epochs=2)
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(ours),
            keras.ops.convert_to_numpy(theirs),
            rtol=1e-6,
        )
