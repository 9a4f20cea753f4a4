"""Lipschitz constants around images, and the accuracy that is certified."""

import keras
import numpy as np

from keras_polynets._errors import check_positive_integer
from keras_polynets.robustness import evaluation
from keras_polynets.robustness.certifier import Certifier
from keras_polynets.robustness.certifier import check_epsilon
from keras_polynets.robustness.certifier import check_method


def local_lipschitz_bound(model, images, epsilon, batch_size=16, clip=None):
    """Upper bound of the Lipschitz constant on the ball around each image.

    The constant is that from the ℓ∞ norm of the input to the ℓ∞ norm of the
    outputs: the largest ℓ1 norm of the gradient of an output, anywhere in the
    part of the ball that lies within the valid range. The gradient at its
    centre is computed exactly; how far it can bend away is bounded by affine
    arithmetic through the recursion, which the global bound of
    `lipschitz_bound` knows nothing of.

    Args:
        model: As in `certified_accuracy`.
        images: Floats of the model's input shape, in its input units and
            within its valid range.
        epsilon: Non-negative float, the ℓ∞ radius of the ball.
        batch_size: Positive integer, how many images are bounded at once.
        clip: As in `Certifier`.

    Returns:
        Float64 array of shape `(number of images,)`.

    Raises:
        ValueError: If `epsilon` is negative, if images have another shape or
            lie outside the valid range, or if the graph of the model is not
            known.
        TypeError: If the images are not floats.
        NotImplementedError: If a layer has no rule; the message names it.

    Example:

    >>> model = keras_polynets.zoo.load("pn_conv.fashion_mnist")
    >>> x = model.preprocessor(images)
    >>> keras_polynets.robustness.local_lipschitz_bound(model, x, 0.01)

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Lemma 4, on a ball.
    """
    check_positive_integer("batch_size", batch_size)
    certifier = Certifier(model, clip)
    images = keras.ops.convert_to_numpy(images)
    starts = range(0, len(images), batch_size)
    parts = [
        certifier.slopes(images[n : n + batch_size], epsilon)[1] for n in starts
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def certified_accuracy(
    model,
    dataset,
    epsilon,
    method="auto",
    batch_size=16,
    clip=None,
    verbose="auto",
):
    """Share of images whose right classification no small change can undo.

    An image counts if for every input within `epsilon` of it (ℓ∞) and within
    the valid range the logit of its true class is the largest. No attack of
    that size can fool the model there. The certificate speaks of the model as
    it is computed, in float32 or whatever the layers' dtype is: the margin
    has to exceed a bound of the rounding errors of both logits, for sums in
    any order. That is not so for convolutions by the algorithms of Winograd or
    by Fourier transforms, which libraries for GPUs may choose, nor for reduced
    precision inside of products, such as TF32.

    - `"global"`: the margin at the image, less `epsilon` times the Lipschitz
      constant of each difference of two logits, by the theorems or the
      recursion as in `lipschitz_bound`, for chains of layers.
    - `"interval"`: interval arithmetic through the network on the ball.
    - `"affine"`: the first-order Taylor form at the centre of the ball, its
      gradient exact, its remainder bounded through the recursion by interval
      arithmetic; with `"interval"` wherever that is tighter.
    - `"quadratic"`: the second-order Taylor form, gradient and Hessian exact,
      the Hessian bounded by its largest eigenvalue, what is left by the sizes
      of its terms; for networks that are one dense polynomial layer.
    - `"auto"`: the best of all of them, for each image; the quadratic one for
      images that no other certifies, unless the corner of the ball to which
      the gradient points is classified wrongly.

    Args:
        model: A built functional or sequential classifier that yields logits
            and is a polynomial of its input: convolutions, dense layers,
            poolings, batch normalisations, sums, products, `square`, `Dot`,
            `TimeDistributed`, the layers of keras_polynets, and operations
            such as `keras.ops.matmul`. Layers of your own are taught by
            `keras_polynets.robustness.enclose.register`.
        dataset: Tuple `(images, labels)` of arrays, or an iterable of such
            batches. Images as they are stored (integers) go through
            `model.preprocessor`; floats are taken to be in the model's input
            units. Labels are integer classes.
        epsilon: Non-negative float, in the model's input units.
        method: `"auto"`, `"global"`, `"interval"`, `"affine"` or
            `"quadratic"`.
        batch_size: Positive integer, how many images are bounded at once, on
            which memory depends. A dataset of batches keeps its own.
        clip: Tuple `(low, high)`, the valid range, by default
            `model.input_range`.
        verbose: As in `robust_accuracy`.

    Returns:
        Float in [0, 1].

    Raises:
        ValueError: If an argument is out of its range, if labels are not
            classes of the model or images not within the valid range, if the
            dataset is empty, or if the graph of the model is not known or
            holds an activation.
        TypeError: If labels are not integers.
        NotImplementedError: If a layer has no rule, or the model no bound by
            the method; the message says which.

    Example:

    >>> model = keras_polynets.zoo.load("pn4.fashion_mnist_projected")
    >>> keras_polynets.robustness.certified_accuracy(
    ...     model, (images, labels), epsilon=0.01
    ... )

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Theorems 2 and 4, for
          `"global"`.
        - Zhang et al., "Efficient Neural Network Robustness Certification
          with General Activation Functions", NeurIPS 2018, of which
          `"affine"` is the counterpart for products.
    """
    check_epsilon(epsilon)
    check_method(method)
    certifier = Certifier(model, clip)

    def certified(images, labels):
        return certifier.margins(images, labels, epsilon, method) > 0

    return evaluation.share(
        model, dataset, certified, batch_size, verbose, "certified"
    )
