import numpy as np
import pytest

from keras_polynets import data

KINDS = [(data.gaussian_noise, 25.0), (data.poisson_noise, 30.0)]
IMAGES = np.random.default_rng(1).integers(0, 256, (6, 9, 8, 3), "uint8")


@pytest.mark.parametrize("noise, level", KINDS)
def test_noise_is_a_function_of_seed_and_index(noise, level):
    whole = noise(IMAGES, level, seed=3)
    assert whole.dtype == "float32" and whole.shape == IMAGES.shape
    some = [4, 0, 5]
    np.testing.assert_array_equal(
        noise(IMAGES[some], level, seed=3, indices=some), whole[some]
    )
    same = np.repeat(IMAGES[:1], 2, axis=0)
    first, second = noise(same, level, seed=3)
    assert (first != second).mean() > 0.5
    assert (noise(IMAGES, level, seed=4) != whole).mean() > 0.5
    assert IMAGES.dtype == "uint8"


def test_gaussian_noise_has_its_deviation():
    noise = data.gaussian_noise(np.full((4, 100, 100, 1), 7), 15, seed=0) - 7
    # Four standard errors of 40,000 draws.
    assert abs(noise.mean()) < 4 * 15 / 200
    assert abs(noise.std() - 15) < 4 * 15 / np.sqrt(2) / 200
    np.testing.assert_array_equal(
        data.gaussian_noise(IMAGES, 0, seed=0), IMAGES.astype("float32")
    )


@pytest.mark.parametrize("value", [20, 200])
def test_poisson_noise_has_the_moments_of_counts(value):
    peak = 30
    images = np.full((4, 100, 100, 1), value)
    noisy = data.poisson_noise(images, peak, seed=0)
    counts = noisy * peak / 255
    np.testing.assert_allclose(counts, counts.round(), atol=1e-4)
    rate = value * peak / 255
    assert abs(counts.mean() - rate) < 4 * np.sqrt(rate) / 200
    assert counts.var() == pytest.approx(rate, rel=0.05)


def test_poisson_noise_in_another_unit():
    stored = data.poisson_noise(IMAGES, 60, seed=0)
    floats = data.poisson_noise(
        IMAGES / np.float32(255), 60, seed=0, maximum=1.0
    )
    np.testing.assert_allclose(floats * 255, stored, atol=1e-3)
    dark = data.poisson_noise(np.zeros((1, 4, 4, 1)), 60, seed=0)
    assert not dark.any()


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="`deviation` must be at least 0"):
        data.gaussian_noise(IMAGES, -1, seed=0)
    with pytest.raises(ValueError, match="`peak` and `maximum`.*peak=0"):
        data.poisson_noise(IMAGES, 0, seed=0)
    with pytest.raises(ValueError, match="values of at least 0.*-2"):
        data.poisson_noise(np.full((1, 2, 2, 1), -2), 10, seed=0)
    for noise, level in KINDS:
        with pytest.raises(ValueError, match="one index an image, 6.*: 2"):
            noise(IMAGES, level, seed=0, indices=[0, 1])
