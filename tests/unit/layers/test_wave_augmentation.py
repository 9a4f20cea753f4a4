"""Random changes of recordings."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets.layers import RandomGain
from keras_polynets.layers import RandomNoise
from keras_polynets.layers import RandomShift
from keras_polynets.layers import RandomSpeed

WAVES = np.random.default_rng(0).uniform(-0.5, 0.5, (64, 50)).astype("float32")
ALWAYS = {"probability": 1.0, "seed": 0}
LAYERS = [RandomGain, RandomSpeed, RandomShift, RandomNoise]


def changed(layer, waves=WAVES):
    return ops.convert_to_numpy(layer(waves, training=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_some_waves_are_changed_in_training_only(kind):
    layer = kind(seed=0)
    same = ops.convert_to_numpy(layer(WAVES))
    np.testing.assert_array_equal(same, WAVES)
    moved = np.any(changed(layer) != WAVES, axis=1)
    assert 18 < moved.sum() < 46
    again = np.any(changed(layer) != WAVES, axis=1)
    assert not np.array_equal(moved, again)
    assert kind(probability=1.0).probability == 1.0
    rare = np.any(changed(kind(probability=0.05, seed=0)) != WAVES, axis=1)
    assert rare.sum() < 12


@pytest.mark.parametrize("kind", LAYERS)
def test_integers_become_floats_of_full_scale(kind):
    waves = (WAVES * 32768).astype("int16")
    layer = kind(seed=0)
    for training in (False, True):
        outputs = layer(waves, training=training)
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    assert np.abs(ops.convert_to_numpy(layer(waves))).max() <= 0.5
    symbolic = layer(keras.KerasTensor((None, 50), "int16"))
    assert (symbolic.shape, symbolic.dtype) == ((None, 50), "float32")


def test_gain():
    gains = changed(RandomGain(0.7, 1.1, **ALWAYS)) / WAVES
    np.testing.assert_allclose(gains, gains[:, :1].repeat(50, 1), rtol=1e-4)
    assert 0.7 <= gains.min() < 0.73 and 1.07 < gains.max() <= 1.1


def test_shift():
    moves = []
    for wave, found in zip(
        WAVES, changed(RandomShift(3, **ALWAYS)), strict=True
    ):
        expected = {
            move: np.pad(wave, 3)[3 + move : 53 + move] for move in range(-3, 4)
        }
        (move,) = (m for m, e in expected.items() if np.array_equal(e, found))
        moves.append(move)
    assert set(moves) == set(range(-3, 4))


def test_speed():
    # A straight line is read exactly between its samples.
    line = np.linspace(0, 49, 50, dtype="float32")[np.newaxis].repeat(64, 0)
    found = changed(RandomSpeed(0.2, **ALWAYS), line)
    speeds = found[:, 1]
    assert 0.8 <= speeds.min() < 0.83 and 1.17 < speeds.max() <= 1.2
    expected = speeds[:, np.newaxis] * np.arange(50)
    whole = expected <= 49
    np.testing.assert_allclose(found[whole], expected[whole], rtol=1e-4)
    assert np.all(found[expected >= 50] == 0)


def test_recorded_noise():
    noise = np.arange(200) / 1000 + 1
    found = changed(RandomNoise(0.4, noise, **ALWAYS), np.zeros((64, 50)))
    # The share a of a ramp with the slope .001: share and place by a fit.
    share = (found[:, -1] - found[:, 0]) / 49 * 1000
    assert 0 <= share.min() < 0.05 and 0.35 < share.max() <= 0.4
    first = (found[:, 0] / share - 1) * 1000
    assert first.min() < 30 and first.max() > 120
    np.testing.assert_allclose(first, np.rint(first), atol=0.5)
    kept = changed(RandomNoise(1.0, np.zeros(7), **ALWAYS)) / WAVES
    assert kept.min() < 0.1 and 0.9 < kept.max() <= 1


def test_white_noise_is_as_loud_as_the_wave():
    waves = np.ones((400, 50), "float32") * [[0.1]]
    found = changed(RandomNoise(0.5, **ALWAYS), waves.astype("float32"))
    share = 1 - found.mean(1) / 0.1
    # With a share uniform in (0, .5) the deviation is .1 times its root mean
    # square, .5 / √3.
    deviation = np.sqrt(found.var(1).mean())
    assert deviation == pytest.approx(0.1 * 0.5 / 3**0.5, rel=0.1)
    assert share.mean() == pytest.approx(0.25, abs=0.03)


def test_recorded_noise_is_saved(tmp_path):
    layer = RandomNoise(0.3, np.arange(9, dtype="int16"), seed=1)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").layers[0]
    np.testing.assert_array_equal(loaded.noise, np.arange(9))
    assert loaded.factor == 0.3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RandomGain(probability=0), r"in \(0, 1\].*probability=0"),
        (lambda: RandomGain(1.1, 0.7), "low=1.1, high=0.7"),
        (lambda: RandomSpeed(1.0), r"`factor` must be in \(0, 1\)"),
        (lambda: RandomShift(0), "`samples` must be an integer of at least 1"),
        (lambda: RandomNoise(0), r"`factor` must be in \(0, 1\]"),
        (lambda: RandomNoise(0.1, [[1.0]]), r"vector.*shape \(1, 1\)"),
        (lambda: RandomNoise(0.1, []), r"not empty.*shape \(0,\)"),
        (lambda: RandomGain()(WAVES[0]), r"one channel.*shape \(50,\)"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
