"""Noise that every image has from its number, whoever draws it and when."""

import numpy as np


def gaussian_noise(images, deviation, seed, indices=None):
    """Returns images with white Gaussian noise.

    The noise of an image is a function of `seed` and its index alone, so that
    batches, epochs and processes agree on it. Nothing is clipped.

    Args:
        images: Array of shape `(n, ...)`, floats or integers.
        deviation: Float of at least 0, the standard deviation of the noise in
            the unit of the images.
        seed: Integer of at least 0.
        indices: Integers of at least 0, the index of each image; by default
            0 to `n - 1`.

    Returns:
        Float32 array of the shape of `images`.

    Raises:
        ValueError: If `deviation` is negative, or there is not an index an
            image.

    Example:

    >>> noisy = keras_polynets.data.gaussian_noise(images, 25.0, seed=0)
    """
    if not deviation >= 0:
        raise ValueError(
            "Argument `deviation` must be at least 0. "
            f"Received: deviation={deviation}"
        )
    noisy = np.array(images, "float32")
    for image, generator in zip(
        noisy, _generators(len(noisy), seed, indices), strict=True
    ):
        image += deviation * generator.standard_normal(image.shape, "float32")
    return noisy


def poisson_noise(images, peak, seed, indices=None, maximum=255.0):
    """Returns images as counts of photons show them.

    A pixel of the value `v` counts `Poisson(peak * v / maximum)` photons, and
    shows them in the unit of the images, `maximum / peak` each: its mean is
    `v` and its variance `v * maximum / peak`. The counts of an image are a
    function of `seed` and its index alone. Nothing is clipped.

    Args:
        images: Array of shape `(n, ...)`, values of at least 0.
        peak: Float above 0, the photons that are expected at `maximum`.
        seed: Integer of at least 0.
        indices: Integers of at least 0, the index of each image; by default
            0 to `n - 1`.
        maximum: Float above 0, the value of the brightest pixel.

    Returns:
        Float32 array of the shape of `images`.

    Raises:
        ValueError: If `peak` or `maximum` is not above 0, a value is below 0,
            or there is not an index an image.

    Example:

    >>> noisy = keras_polynets.data.poisson_noise(images, 30.0, seed=0)
    """
    if not (peak > 0 and maximum > 0):
        raise ValueError(
            "Arguments `peak` and `maximum` must be above 0. "
            f"Received: peak={peak}, maximum={maximum}"
        )
    noisy = np.array(images, "float32")
    if noisy.min(initial=0) < 0:
        raise ValueError(
            "Counts of photons need values of at least 0. "
            f"Received: images with {noisy.min()}"
        )
    for image, generator in zip(
        noisy, _generators(len(noisy), seed, indices), strict=True
    ):
        image[...] = generator.poisson(image * (peak / maximum))
    noisy *= maximum / peak
    return noisy


def _generators(count, seed, indices):
    """Returns an iterator over the generators of the images."""
    indices = range(count) if indices is None else indices
    if len(indices) != count:
        raise ValueError(
            f"Argument `indices` must hold one index an image, {count}. "
            f"Received: {len(indices)}"
        )
    return (np.random.default_rng((seed, int(index))) for index in indices)
