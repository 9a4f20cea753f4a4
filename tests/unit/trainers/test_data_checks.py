"""Data that would ruin the weights in silence are refused."""

import numpy as np
import pytest

from keras_polynets import models
from keras_polynets import trainers
from tests.unit.trainers.trainer_examples import compiled
from tests.unit.trainers.trainer_examples import make_data

X, Y = make_data()
STORED = np.round((X + 1) * 127.5).astype("uint8")


def batches(x, y):
    tf = pytest.importorskip("tensorflow")
    return (tf.data.Dataset.from_tensor_slices((x, y)).batch(8),)


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
    for data, message in (
        ((STORED, Y), "values from 0 to 2.*Call model.preprocessor first"),
        (batches(STORED, Y), "expected floats.*dtype uint8"),
        ((2 * X, Y), r"in the valid range \[-1.0, 1.0\]"),
        ((X * np.nan, Y), "must be finite"),
        ((X, Y + 2), "Labels must be classes from 0 to 3.*from 2 to 5"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.fit(*data, verbose=0)
    with pytest.raises(ValueError, match="expected floats.*dtype uint8"):
        trainer.evaluate(STORED, Y, verbose=0)
    for ours, theirs in zip(before, trainer.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_range_of_the_model_is_not_that_before_the_preprocessing():
    model = make_model()
    trainer = compiled(
        trainers.AdversarialTraining(model, preprocessing=model.preprocessor)
    )
    trainer.fit(STORED, Y[:, None], verbose=0)
    with pytest.raises(ValueError, match="from 0 to 3"):
        trainer.fit(STORED, Y - 1, verbose=0)
