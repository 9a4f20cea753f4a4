"""Learning rates at the very steps at which they change."""

import keras
import numpy as np
import pytest

from keras_polynets.schedules import WarmUp
from keras_polynets.schedules import step_decay


def rates(schedule, steps):
    return [float(schedule(step)) for step in steps]


def test_step_decay_changes_at_the_first_step_of_the_epoch():
    schedule = step_decay(0.001, 0.2, [25, 75], steps_per_epoch=938)
    steps = [0, 25 * 938 - 1, 25 * 938, 75 * 938 - 1, 75 * 938, 100 * 938]
    expected = [1e-3, 1e-3, 2e-4, 2e-4, 4e-5, 4e-5]
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-6)


def test_step_decay_in_training():
    # Plain SGD on a constant gradient of 1 moves by the learning rate.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    moves = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.before = float(self.model.weights[1].value[0])

        def on_train_batch_end(self, batch, logs=None):
            moves.append(self.before - float(self.model.weights[1].value[0]))

    schedule = step_decay(0.5, 0.5, [1, 2], steps_per_epoch=3)
    model.compile(keras.optimizers.SGD(schedule), loss=lambda y, p: p)
    x = np.zeros((6, 1), "float32")
    model.fit(x, x, batch_size=2, epochs=3, verbose=0, callbacks=[Record()])
    np.testing.assert_allclose(
        moves, [0.5] * 3 + [0.25] * 3 + [0.125] * 3, rtol=1e-5
    )


@pytest.mark.parametrize("epochs", [[0], [3, 3], [4, 2]])
def test_step_decay_refuses_epochs_that_do_not_increase(epochs):
    with pytest.raises(ValueError, match="must be increasing integers"):
        step_decay(0.1, 0.1, epochs, 10)


def test_warm_up_of_a_constant():
    schedule = WarmUp(0.8, 4)
    np.testing.assert_allclose(
        rates(schedule, range(6)), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8], rtol=1e-6
    )


def test_warm_up_of_a_schedule_counts_from_the_beginning():
    inner = step_decay(1.0, 0.1, [1], steps_per_epoch=3)
    np.testing.assert_allclose(
        rates(WarmUp(inner, 4), range(5)),
        [0.25, 0.5, 0.75, 0.1, 0.1],
        rtol=1e-6,
    )


@pytest.mark.parametrize("inner", [0.5, step_decay(1.0, 0.1, [2], 3)])
def test_warm_up_round_trip(inner):
    optimizer = keras.optimizers.SGD(WarmUp(inner, 5))
    config = keras.optimizers.serialize(optimizer)
    again = keras.optimizers.deserialize(config)._learning_rate
    assert type(again) is WarmUp
    steps = range(9)
    assert rates(again, steps) == rates(optimizer._learning_rate, steps)


def test_warm_up_checks_its_arguments():
    with pytest.raises(ValueError, match="`warmup_steps` must be an integer"):
        WarmUp(0.1, 0)
    with pytest.raises(ValueError, match="constant rate, must be above 0"):
        WarmUp(0.0, 5)
