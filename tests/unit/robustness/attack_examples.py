"""A small model with images, to be attacked."""

import functools

import keras
import numpy as np

from keras_polynets import layers


class Ranged(keras.Sequential):
    """A model with a valid range, as those of the zoo have."""

    input_range = (-1.0, 1.0)


def make_model(seed=0, shape=(4, 4, 1), classes=5, order=3):
    keras.utils.set_random_seed(seed)
    return Ranged(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            layers.CCP(classes, rank=6, order=order),
        ]
    )


# Compiled once, for the tests that change nothing in the model.
shared_model = functools.cache(make_model)


def make_images(count=12, shape=(4, 4, 1), seed=0):
    rng = np.random.default_rng(seed)
    images = rng.uniform(-1, 1, size=(count, *shape)).astype("float32")
    # Corners of the valid range are where clipping goes wrong.
    images[: count // 3] = np.sign(images[: count // 3])
    return images


def make_labels(count=12, classes=5):
    return np.arange(count) % classes


def losses(model, images, labels):
    logits = keras.ops.convert_to_numpy(model(images)).astype("float64")
    logits -= logits.max(axis=1, keepdims=True)
    chosen = logits[np.arange(len(labels)), labels]
    return np.log(np.exp(logits).sum(axis=1)) - chosen


def linear_model(kernel):
    model = Ranged([keras.Input((2,)), keras.layers.Dense(2)])
    model.layers[-1].set_weights([np.array(kernel), np.zeros(2)])
    return model


def counting(inner):
    """Returns a model that computes `inner` and counts its tracings."""

    class Counting(keras.Model):
        traced = 0
        input_range = (-1.0, 1.0)

        def call(self, x, training=None):
            assert training is False
            self.traced += 1
            return inner(x, training=training)

    return Counting()
