"""The U-Net of guided denoising."""

import keras
import numpy as np
import pytest

from keras_polynets.models import GuidedDenoiser


def test_parameters():
    """By hand: kernels of 3 × 3, two numbers a normalised filter, the end."""
    down = [(1, 12), (12, 12), (12, 24), (24, 24), (24, 48), (48, 48)]
    up = [(48 + 24, 24), (24, 24), (24 + 12, 12), (12, 12)]
    expected = sum(9 * a * b + 2 * b for a, b in down + up) + 12 + 1
    model = GuidedDenoiser()
    trainable = sum(np.prod(w.shape) for w in model.trainable_variables)
    assert trainable == expected == 66_697


def test_begins_nearly_as_the_identity():
    x = np.random.default_rng(0).uniform(-1, 1, (4, 8, 12, 3))
    denoised = GuidedDenoiser((8, 12, 3)).predict(x, verbose=0)
    assert 0 < np.abs(denoised - x).max() < 0.3
    assert np.abs(denoised - x).mean() < 0.05


def test_adds_the_negative_noise_and_does_not_clip():
    model = GuidedDenoiser((8, 8, 1), filters=(4, 4))
    layer = model.get_layer("negative_noise")
    layer.kernel.assign(np.zeros(layer.kernel.shape))
    layer.bias.assign([0.5])
    x = np.random.default_rng(0).uniform(0.6, 1, (4, 8, 8, 1))
    np.testing.assert_allclose(model.predict(x, verbose=0), x + 0.5, atol=1e-6)


def test_size_may_be_free():
    keras.utils.set_random_seed(0)
    free = GuidedDenoiser((None, None, 1), filters=(3, 4), blocks=1)
    fixed = GuidedDenoiser((8, 12, 1), filters=(3, 4), blocks=1)
    fixed.set_weights(free.get_weights())
    x = np.random.default_rng(0).uniform(-1, 1, (2, 8, 12, 1))
    np.testing.assert_allclose(
        free.predict(x, verbose=0), fixed.predict(x, verbose=0), atol=1e-6
    )


def test_data_range_is_the_inverse_of_the_preprocessor():
    model = GuidedDenoiser((4, 4, 1), filters=(2,))
    stored = np.arange(256, dtype="uint8")
    back = model.to_data_range(model.preprocessor(stored))
    np.testing.assert_allclose(back, stored, atol=1e-4)


def test_errors():
    with pytest.raises(
        ValueError, match=r"multiples of 4, as a U-Net of 3 levels .* fewer"
    ):
        GuidedDenoiser((28, 30, 1))
    with pytest.raises(ValueError, match="`filters` must hold a number for"):
        GuidedDenoiser(filters=())
    with pytest.raises(ValueError, match="`blocks` must be an integer of"):
        GuidedDenoiser(blocks=0)
    with pytest.raises(ValueError, match="`filters` must be an integer of"):
        GuidedDenoiser(filters=(4, 0))
