"""Operator norms of linear layers, in float64."""

import math

import keras
import numpy as np

from keras_polynets._errors import check_layer
from keras_polynets._errors import check_positive_integer
from keras_polynets.robustness import layer_maps
from keras_polynets.robustness import norms
from keras_polynets.robustness import window_maps

# The largest matrix whose singular values are computed, in numbers.
SVD_LIMIT = 2**19
# Singular values are computed with errors: rounded outwards by this.
MARGIN = 1 + 1e-10


def operator_norm(layer, p=np.inf):
    """Operator norm of a linear layer, from the `p`-norm to the `p`-norm.

    The smallest `c` with `||W z||_p <= c ||z||_p` for every `z`, where `W` is
    the linear part of the layer: bias and activation are left out. Computed
    in float64, so that it can stand in a certificate.

    For a dense layer it is exact. For a convolution it is that of the operator
    on the image that the layer is built for, and exact for 1 and infinity,
    whatever the strides, the dilation, the padding and the size of the
    kernel: the largest sum of absolute weights that reach an output, or that
    leave an input. For `p = 2` it is a sound upper bound, the smallest of

    - the largest singular value, where the matrix of the operator is small;
    - the norm of the circular convolution on an image that is larger by the
      padding, of which the layer's operator is a part: the largest singular
      value of the kernel's Fourier transform;
    - `sqrt(norm_1 * norm_inf)`.

    The norm of the reshaped kernel is none for `p = 2`, and power iteration
    only gives a lower bound: `spectral_norm_estimate`. For images of open size
    the norm is bounded by that on an unbounded image.

    Args:
        layer: A built `keras.layers.Dense`, convolution, transposed
            convolution or average pooling.
        p: 1, 2 or `float("inf")`.

    Returns:
        Float.

    Raises:
        ValueError: If `p` is another number, if the layer is not built or
            holds NaN, or if `p` is finite and the norm depends on the size of
            the image, which the layer leaves open.
        TypeError: If the layer is not linear.

    Example:

    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 2))
    >>> layer.set_weights([np.array([[1.0, 3.0], [-2.0, 0.0]]), np.zeros(2)])
    >>> keras_polynets.robustness.operator_norm(layer)
    3.0

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Theorems 5, 10 and 11.
        - Sedghi et al., "The Singular Values of Convolutional Layers", ICLR
          2019, for the Fourier transform.
    """
    norms.check_p(p)
    shape = _example_shape(layer)
    if isinstance(layer, keras.layers.Dense):
        return float(np.linalg.norm(norms.values(layer.kernel).T, p))
    if None not in shape:
        return norm_of_map(layer_maps.affine(layer, shape).linear, p)
    if isinstance(layer, norms.POOLINGS):
        return _pooling_norm(layer, p)
    if isinstance(layer, norms.CONVOLUTIONS):
        kernel = norms.values(layer.kernel)
        return unbounded_norm(kernel, layer.groups, p)
    raise ValueError(
        f"The norm of {layer.name!r} depends on the size of its input, which "
        f"is open: {shape}. Build it with a fixed input shape."
    )


def spectral_norm_estimate(layer, iterations=100, seed=0):
    """Lower bound of the spectral norm of a linear layer, by power iteration.

    Iterates the operator itself, not the reshaped kernel. It approaches the
    norm from below, and is no bound that a certificate may use: that is
    `operator_norm(layer, 2)`.

    Args:
        layer: A built layer as in `operator_norm`, of a fixed input shape.
        iterations: Positive integer, how often the operator and its transpose
            are applied.
        seed: Integer, of the random start.

    Returns:
        Float.

    Raises:
        ValueError: If `iterations` is not a positive integer, if the layer is
            not built, or if its input shape is open.
        TypeError: If the layer is not linear.

    Example:

    >>> layer = keras.layers.Conv2D(16, 7, padding="same")
    >>> layer.build((None, 28, 28, 16))
    >>> keras_polynets.robustness.spectral_norm_estimate(layer)

    Reference:
        - Miyato et al., "Spectral Normalization for Generative Adversarial
          Networks", ICLR 2018, Algorithm 1.
    """
    check_positive_integer("iterations", iterations)
    shape = _example_shape(layer)
    if None in shape:
        raise ValueError(
            f"The operator of {layer.name!r} has an open input shape: {shape}. "
            "Build the layer with a fixed one."
        )
    linear = layer_maps.affine(layer, shape).linear
    z = np.random.default_rng(seed).normal(size=(1, *shape))
    estimate = 0.0
    for _ in range(iterations):
        size = np.linalg.norm(z)
        if size == 0:
            break
        outputs = linear.apply(z / size)
        estimate = max(estimate, float(np.linalg.norm(outputs)))
        z = linear.adjoint(outputs)
    return estimate


def norm_of_map(linear, p):
    """Returns the operator norm of a `LinearMap`, an upper bound for `p=2`.

    Args:
        linear: The map.
        p: 1, 2 or infinity.
    """
    absolute = linear.absolute()
    if p == np.inf:
        return float(absolute.apply(np.ones((1, *linear.input_shape))).max())
    if p == 1:
        ones = np.ones((1, *linear.output_shape))
        return float(absolute.adjoint(ones).max())
    bound = _between(norm_of_map(linear, 1), norm_of_map(linear, np.inf))
    size = math.prod(linear.input_shape) * math.prod(linear.output_shape)
    if size <= SVD_LIMIT:
        return min(bound, float(np.linalg.norm(linear.matrix(), 2)) * MARGIN)
    inner = getattr(linear, "inner", linear)
    if isinstance(inner, window_maps.Convolution):
        bound = min(bound, circular_norm(inner) * MARGIN)
    return bound


def circular_norm(convolution):
    """Returns the spectral norm of a convolution on a torus around its image.

    The torus is as large as the padded image, and at least as the window, so
    that nothing wraps around: the operator of the layer is that of the torus
    with some inputs at zero and some outputs left out, and its norm at most
    that of the torus.

    Args:
        convolution: A `window_maps.Convolution`.
    """
    windows, kernel = convolution.windows, convolution.kernel
    reaches = [
        (k - 1) * d + 1
        for k, d in zip(windows.window, windows.dilation, strict=True)
    ]
    sizes = [max(*ends) for ends in zip(windows.padded, reaches, strict=True)]
    spread = np.zeros((*reaches, *kernel.shape[-2:]))
    spread[tuple(slice(None, None, d) for d in windows.dilation)] = kernel
    axes = tuple(range(len(sizes)))
    largest = 0.0
    for group in np.split(spread, convolution.groups, axis=-1):
        transform = np.fft.rfftn(group, sizes, axes)
        values = np.linalg.svd(transform, compute_uv=False)
        largest = max(largest, float(values.max()))
    return largest


def unbounded_norm(kernel, groups, p):
    """Returns an upper bound of a convolution's norm on images of any size.

    Args:
        kernel: Array `(*window, channels, filters)`.
        groups: Integer.
        p: 1, 2 or infinity.
    """
    size = np.abs(kernel).reshape(-1, *kernel.shape[-2:]).sum(axis=0)
    if p == np.inf:
        return float(size.sum(axis=0).max())
    if p == 1:
        parts = np.split(size, groups, axis=1)
        return max(float(part.sum(axis=1).max()) for part in parts)
    return _between(*(unbounded_norm(kernel, groups, q) for q in (1, np.inf)))


def _between(norm_1, norm_inf):
    """Returns a bound of the norm for `p = 2`, by Riesz and Thorin."""
    # The product of both may underflow, or overflow.
    return math.sqrt(norm_1) * math.sqrt(norm_inf) * MARGIN


def _example_shape(layer):
    """Returns the shape of an example, with `None` where it is open."""
    check_layer(layer)
    is_linear = isinstance(
        layer, norms.POOLINGS | norms.AFFINE | layer_maps.TRANSPOSED
    )
    if not is_linear or not norms.is_bounded_by(layer, layer_maps.affine):
        raise TypeError(
            "An operator norm belongs to a linear layer: `Dense`, a "
            "convolution, a transposed convolution or an average pooling, "
            "without a `call` of a class of your own. "
            f"Received layer {layer.name!r} of class {type(layer).__name__}. "
            "For polynomials and models use "
            "`keras_polynets.robustness.lipschitz_bound`."
        )
    if not isinstance(layer, norms.POOLINGS):
        norms.check_built(layer)
    return norms.example_shape(layer)


def _pooling_norm(layer, p):
    if p == np.inf:
        return 1.0
    if isinstance(layer, norms.GLOBAL_POOLINGS):
        # At most 1 for every p; less for p < inf, by the size of the image.
        return 1.0
    overlapping = any(
        stride < size
        for stride, size in zip(layer.strides, layer.pool_size, strict=True)
    )
    if overlapping or layer.padding != "valid":
        raise ValueError(
            f"Layer {layer.name!r} pools windows that overlap or are padded, "
            f"whose operator norm for p={p} depends on the size of the image. "
            "Build it with a fixed input shape, or use p=float('inf')."
        )
    return float(np.prod(layer.pool_size)) ** (-1 / p)
