"""Data that would ruin the weights in silence are refused."""

import keras
import numpy as np
import pytest

from keras_polynets import models
from keras_polynets import trainers
from keras_polynets.data import Batches
from keras_polynets.trainers import wrapper
from tests.unit.trainers.trainer_examples import compiled
from tests.unit.trainers.trainer_examples import make_data

X, Y = make_data()
STORED = np.round((X + 1) * 127.5).astype("uint8")


def batches(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


class Sequence(keras.utils.PyDataset):
    """Batches by their number."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 8

    def __getitem__(self, index):
        part = slice(8 * index, 8 * index + 8)
        return self.x[part], self.y[part]


def make_model():
    return models.PolynomialNet((3, 3, 1), 4, rank=5, order=3)


def make_trainer(kind):
    model = make_model()
    if kind != "GuidedDenoising":
        return compiled(getattr(trainers, kind)(model))
    denoiser = models.GuidedDenoiser((3, 3, 1), filters=(4,), blocks=1)
    trainer = trainers.GuidedDenoising(denoiser, model)
    trainer.compile("sgd")
    return trainer


@pytest.mark.parametrize(
    "kind", ["AdversarialTraining", "JacobianTraining", "GuidedDenoising"]
)
def test_data_are_checked(kind):
    trainer = make_trainer(kind)
    before = trainer.get_weights()
    for x, y, message in (
        (STORED, Y, r"values from \d to 2.*Call model.preprocessor first"),
        (2 * X, Y, r"in the valid range \[-1.0, 1.0\]"),
        (X * np.nan, Y, "must be finite"),
        (X, Y + 4, "Labels must be classes from 0 to 3.*to 7"),
    ):
        for data in ((x, y), (batches(x, y),), (Sequence(x, y),)):
            with pytest.raises(ValueError, match=message):
                trainer.fit(*data, verbose=0)
            with pytest.raises(ValueError, match=message):
                trainer.evaluate(*data, verbose=0)
        with pytest.raises(ValueError, match=message):
            trainer.fit(Batches(x, y, 8, seed=0), verbose=0)
        for data in ((x, y), batches(x, y)):
            with pytest.raises(ValueError, match=message):
                trainer.fit(X, Y, validation_data=data, verbose=0)
    for ours, theirs in zip(before, trainer.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # These fail in the step, where Keras on JAX has taken the weights away.
    with pytest.raises(ValueError, match="expected floats.*dtype uint8"):
        make_trainer(kind).evaluate(STORED % 2, Y, verbose=0)
    with pytest.raises(ValueError, match="expected floats.*dtype uint8"):
        trainer.fit(batches(STORED % 2, Y), verbose=0)


def test_a_look_takes_nothing_away():
    trainer = make_trainer("JacobianTraining")
    trainer.fit(X[:8], Y[:8], verbose=0)
    taken = []

    def generator():
        for start in range(0, len(X), 8):
            taken.append(start)
            yield X[start : start + 8], Y[start : start + 8]

    trainer.fit(generator(), verbose=0)
    assert taken == list(range(0, len(X), 8))
    tf = pytest.importorskip("tensorflow")
    ragged = tf.data.Dataset.from_tensors(tf.ragged.constant([[1.0], []]))
    assert wrapper._first_batch(ragged).dtype == object
    trainer._check_data(ragged)


def test_the_range_of_the_model_is_not_that_before_the_preprocessing():
    model = make_model()
    trainer = compiled(
        trainers.AdversarialTraining(model, preprocessing=model.preprocessor)
    )
    trainer.fit(STORED, Y[:, None], verbose=0)
    with pytest.raises(ValueError, match="from 0 to 3"):
        trainer.fit(STORED, Y - 1, verbose=0)
