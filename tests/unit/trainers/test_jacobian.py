"""Training with a Jacobian penalty."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets.trainers import JacobianTraining
from tests.unit.trainers.trainer_examples import RATE
from tests.unit.trainers.trainer_examples import Ranged
from tests.unit.trainers.trainer_examples import assert_same_weights
from tests.unit.trainers.trainer_examples import compiled
from tests.unit.trainers.trainer_examples import fit
from tests.unit.trainers.trainer_examples import make_data
from tests.unit.trainers.trainer_examples import make_model


def frobenius(model, x):
    """Returns the mean of ||J||_F^2 by differences in float64."""
    total = 0.0
    step = 1e-2
    for k in range(x[0].size):
        shift = np.zeros(x[0].size, "float32")
        shift[k] = step
        shift = shift.reshape(x.shape[1:])
        up, down = (
            ops.convert_to_numpy(model(x + sign * shift)).astype("float64")
            for sign in (1, -1)
        )
        total += np.mean((((up - down) / (2 * step)) ** 2).sum(axis=1))
    return total


def test_a_step_of_a_linear_model_is_the_formula():
    # J = W, so that the penalty's gradient is weight * W.
    def linear():
        keras.utils.set_random_seed(0)
        return Ranged(
            [
                keras.Input((3, 3, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(4),
            ]
        )

    model, plain, (x, y) = linear(), linear(), make_data()
    kernel = model.get_weights()[0]
    trainer = compiled(JacobianTraining(model, 0.7, projections=None))
    trainer.train_on_batch(x, y)
    compiled(plain).train_on_batch(x, y)
    expected = plain.get_weights()[0] - RATE * 0.7 * kernel
    np.testing.assert_allclose(model.get_weights()[0], expected, atol=1e-6)


def test_loss_holds_the_norm_of_the_jacobian():
    model, (x, y) = make_model(), make_data()
    loss, _ = compiled(make_model()).train_on_batch(x, y)
    expected = 0.3 / 2 * frobenius(model, x)
    trainer = compiled(JacobianTraining(model, 0.3, projections=None))
    found = trainer.train_on_batch(x, y)[0] - loss
    assert float(found) == pytest.approx(expected, rel=0.02)


def test_the_norm_falls():
    norms = []
    for weight in (0.0, 0.1):
        model = make_model()
        fit(compiled(JacobianTraining(model, weight)), epochs=8)
        norms.append(frobenius(model, make_data()[0]))
    assert norms[1] < 0.8 * norms[0]


def test_weight_zero_is_plain_training():
    model, plain = make_model(), make_model()
    fit(compiled(JacobianTraining(model, 0.0)), epochs=2)
    fit(compiled(plain), epochs=2)
    assert_same_weights(model, plain)


def test_evaluation_has_no_penalty():
    model, (x, y) = make_model(), make_data()
    trainer = compiled(JacobianTraining(model, 10.0))
    compiled(model)
    assert trainer.evaluate(x, y, verbose=0) == pytest.approx(
        model.evaluate(x, y, verbose=0), rel=1e-5
    )


def test_directions_are_seeded():
    runs = []
    for seed in (1, 1, 2):
        model = make_model()
        fit(compiled(JacobianTraining(model, 1.0, seed=seed)))
        runs.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(runs[0], runs[1], atol=1e-6)
    assert np.abs(runs[0] - runs[2]).max() > 1e-4


def test_saving_and_loading(tmp_path):
    model = make_model()
    model = keras.Model(model.inputs, model.outputs)
    trainer = compiled(JacobianTraining(model, 0.4, projections=None))
    trainer.save(tmp_path / "trainer.keras")
    again = keras.saving.load_model(tmp_path / "trainer.keras")
    assert again.jacobian.get_config() == {"weight": 0.4, "projections": None}
    x, _ = make_data()
    np.testing.assert_allclose(
        again.predict(x, verbose=0), trainer.predict(x, verbose=0), atol=1e-6
    )


def test_probabilities_are_refused():
    model = make_model()
    model.add(keras.layers.Softmax())
    with pytest.raises(ValueError, match="its softmax mask .* Use the logits"):
        JacobianTraining(model)
