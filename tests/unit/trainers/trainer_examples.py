"""A small classifier, its data, and one step of training by hand."""

import keras
import numpy as np

from keras_polynets import layers


class Ranged(keras.Sequential):
    """A model with a valid range, as those of the zoo have."""

    input_range = (-1.0, 1.0)


RATE = 0.1


def make_model(seed=0, dtype=None):
    keras.utils.set_random_seed(seed)
    return Ranged(
        [
            keras.Input((3, 3, 1)),
            keras.layers.Flatten(dtype=dtype),
            layers.CCP(4, rank=5, order=3, dtype=dtype),
        ]
    )


def make_data(count=32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, size=(count, 3, 3, 1)).astype("float32")
    return x, rng.integers(0, 4, size=count)


def compiled(trainer, **kwargs):
    trainer.compile(
        keras.optimizers.SGD(RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **kwargs,
    )
    return trainer


def fit(trainer, epochs=1, callbacks=(), batch_size=8):
    x, y = make_data()
    return trainer.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    ).history


def assert_same_weights(ours, theirs, atol=1e-6):
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def differ(ours, theirs):
    pairs = zip(ours.get_weights(), theirs.get_weights(), strict=True)
    return any(np.abs(a - b).max() > 1e-4 for a, b in pairs)
