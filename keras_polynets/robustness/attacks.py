"""Gradient attacks of a fixed step size: FGSM, PGD (over cleverhans), TPGD."""

import numpy as np

from keras_polynets.robustness import attack_steps
from keras_polynets.robustness import inputs
from keras_polynets.robustness.attack_functions import Problem
from keras_polynets.robustness.attack_functions import check_installed
from keras_polynets.robustness.attack_functions import check_settings

# The standard deviation around the image at which TPGD starts.
TPGD_DEVIATION = 1e-3


def fgsm(
    model,
    images,
    labels=None,
    epsilon=0.1,
    *,
    targeted=False,
    random_start=False,
    seed=None,
    clip=None,
    reference_compatible=False,
):
    """Fast gradient sign method: one step of size `epsilon`.

    Moves every component of an image by `epsilon` in the direction that raises
    the cross-entropy loss, and stays within the valid range. Equals `pgd` with
    `steps=1` and `step_size=epsilon`.

    Args:
        model: A model that yields logits of shape `(batch_size, classes)`.
        images: See `pgd`.
        labels: See `pgd`.
        epsilon: Non-negative float, the largest change of a component, in the
            model's input units.
        targeted: See `pgd`.
        random_start: See `pgd`.
        seed: See `pgd`.
        clip: See `pgd`.
        reference_compatible: See `pgd`.

    Returns:
        The adversarial images, as in `pgd`.

    Raises:
        ImportError, NotImplementedError, TypeError, ValueError: As in `pgd`.

    Example:

    >>> model = keras_polynets.zoo.load("pn4.fashion_mnist")
    >>> x = model.preprocessor(images)
    >>> adversarial = keras_polynets.robustness.fgsm(model, x, labels, 0.1)

    Reference:
        - Goodfellow et al., "Explaining and Harnessing Adversarial Examples",
          ICLR 2015.
    """
    check_settings(epsilon=epsilon)
    return _signed_ascent(
        model,
        images,
        labels,
        epsilon,
        steps=1,
        step_size=epsilon,
        targeted=targeted,
        random_start=random_start,
        seed=seed,
        clip=clip,
        reference_compatible=reference_compatible,
    )


def pgd(
    model,
    images,
    labels=None,
    epsilon=0.1,
    steps=20,
    step_size=0.01,
    *,
    targeted=False,
    random_start=False,
    seed=None,
    clip=None,
    reference_compatible=False,
):
    """Projected gradient descent in the ball of radius `epsilon` (ℓ∞).

    Takes `steps` steps of fast gradient sign, each of size `step_size`, and
    after each goes back to the nearest point that is within `epsilon` of the
    image and in the valid range. The result never leaves either, not even by
    a rounding error: the ball is rounded inwards to float32.

    The model runs as in inference, and its weights are not touched. The attack
    is compiled once for a model, for batches of any size. Many steps with many
    images of a dense network are compiled by XLA, for a few sizes of batches.
    It needs the TensorFlow backend and cleverhans
    (`pip install keras_polynets[attacks]`).

    Args:
        model: A model that yields logits of shape `(batch_size, classes)`.
            Outputs of a softmax or sigmoid are refused: where it saturates, its
            gradient vanishes, and the attack would look weaker than it is.
        images: NumPy array or tensor of floats of the model's input shape, in
            the model's input units and within the valid range.
        labels: Integer classes of shape `(batch_size,)`: the true ones, or
            with `targeted` those that the model is to be led to. By default
            the model's own predictions.
        epsilon: Non-negative float, the largest change of a component, in the
            model's input units.
        steps: Positive integer.
        step_size: Positive float, in the model's input units.
        targeted: Boolean, whether to lower the loss of `labels` instead.
        random_start: Boolean, whether to start from a random point of the
            ball instead of the image.
        seed: Integer of the random start. The start depends on the seed and
            the image alone, not on the batch or the place in it. By default
            drawn from Python's generator, which `keras.utils.set_random_seed`
            seeds.
        clip: Tuple `(low, high)`, the valid range, each a number or one a
            channel. By default `model.input_range`.
        reference_compatible: Boolean, whether to clamp adversarial images to
            [0, 1] whatever the valid range is, as the code does that was
            released with the paper on polynomial nets. Where inputs lie in
            [-1, 1] that sets every dark pixel to 0, far outside the ball: for
            comparison with numbers of that code only.

    Returns:
        The adversarial images in float32: an array for an array, a tensor for
        a tensor.

    Raises:
        ValueError: If an argument is out of its range, if images or labels
            have another shape, if images are outside the valid range, if the
            model has no range and `clip` is not given, or if it yields
            probabilities or gradients that are not finite.
        TypeError: If images or labels have another dtype.
        NotImplementedError: On another backend than TensorFlow.
        ImportError: If cleverhans is not installed.

    Example:

    >>> model = keras_polynets.zoo.load("pn4.fashion_mnist")
    >>> x = model.preprocessor(images)
    >>> adversarial = keras_polynets.robustness.pgd(
    ...     model, x, labels, epsilon=0.1, steps=20, step_size=0.01
    ... )

    Reference:
        - Madry et al., "Towards Deep Learning Models Resistant to Adversarial
          Attacks", ICLR 2018.
    """
    check_settings(epsilon=epsilon, steps=steps, step_size=step_size)
    return _signed_ascent(
        model,
        images,
        labels,
        epsilon,
        steps=steps,
        step_size=step_size,
        targeted=targeted,
        random_start=random_start,
        seed=seed,
        clip=clip,
        reference_compatible=reference_compatible,
    )


def tpgd(
    model,
    images,
    labels=None,
    epsilon=0.1,
    steps=20,
    step_size=0.01,
    *,
    seed=None,
    clip=None,
    reference_compatible=False,
):
    """Projected gradient descent on the loss of TRADES (ℓ∞).

    Like `pgd`, but what is raised is the Kullback-Leibler divergence between
    the model's probabilities of the image and of the adversarial image,
    `KL(p(x) || p(x'))`: the attack looks for a point that the model takes for
    something else, whatever the label. Its gradient is zero at the image, so
    that it starts nearby, at `x + 0.001 N(0, 1)`. It needs the TensorFlow
    backend.

    Args:
        model: See `pgd`.
        images: See `pgd`.
        labels: Not used, because the loss needs none: attacks are called with
            a model, images and labels. They are checked as in `pgd`.
        epsilon: See `pgd`.
        steps: See `pgd`.
        step_size: See `pgd`.
        seed: Integer of the start, see `pgd`.
        clip: See `pgd`.
        reference_compatible: See `pgd`.

    Returns:
        The adversarial images, as in `pgd`.

    Raises:
        NotImplementedError, TypeError, ValueError: As in `pgd`.

    Example:

    >>> model = keras_polynets.zoo.load("pn4.fashion_mnist")
    >>> x = model.preprocessor(images)
    >>> adversarial = keras_polynets.robustness.tpgd(model, x, epsilon=0.1)

    Reference:
        - Zhang et al., "Theoretically Principled Trade-off between Robustness
          and Accuracy", ICML 2019, equation 5 and Algorithm 1.
    """
    check_settings(epsilon=epsilon, steps=steps, step_size=step_size)
    problem = Problem(
        model, images, labels, epsilon, clip, reference_compatible
    )
    start = inputs.nearby_points(problem.x, seed, TPGD_DEVIATION)
    outputs = problem.functions.take_steps(
        "tpgd",
        _make_tpgd,
        (problem.x, start),
        *problem.limits,
        step_size,
        steps,
    )
    return problem.finish(outputs)


def _signed_ascent(
    model,
    images,
    labels,
    epsilon,
    *,
    steps,
    step_size,
    targeted,
    random_start,
    seed,
    clip,
    reference_compatible,
):
    check_installed("cleverhans")
    if targeted and labels is None:
        raise ValueError(
            "A targeted attack needs `labels`, the classes that the model is "
            "to be led to. Received: labels=None"
        )
    problem = Problem(
        model, images, labels, epsilon, clip, reference_compatible
    )
    if seed is not None:
        # One that nothing is drawn with is checked all the same.
        seed = inputs.as_seed(seed)
    x = start = problem.x
    if random_start:
        start = inputs.random_points(x, epsilon, seed)
        start = np.clip(start, *inputs.ball(x, *problem.limits))
    outputs = problem.functions.take_steps(
        "pgd",
        _make_pgd,
        (x, start, problem.labels),
        *problem.limits,
        -step_size if targeted else step_size,
        steps,
    )
    return problem.finish(outputs)


def _make_pgd(logits, batch):
    import tensorflow as tf
    from cleverhans.tf2.utils import compute_gradient
    from cleverhans.tf2.utils import optimize_linear

    loss = tf.nn.sparse_softmax_cross_entropy_with_logits

    def perturb(images, start, labels, epsilon, low, high, step_size, steps):
        lower, upper = inputs.ball(images, epsilon, low, high)

        def move(x):
            # The plain function: the compiled one of cleverhans would hold
            # the weights of every model that was ever attacked.
            gradient = compute_gradient.python_function(
                logits, loss, x, labels, targeted=False
            )
            return optimize_linear(gradient, step_size, np.inf)

        return attack_steps.ascend(move, start, lower, upper, steps)

    labels = tf.TensorSpec((None,), "int32")
    return perturb, [batch, batch, labels, *_setting_specs()]


def _make_tpgd(logits, batch):
    def perturb(images, start, epsilon, low, high, step_size, steps):
        lower, upper = inputs.ball(images, epsilon, low, high)
        loss = attack_steps.kl_loss(logits, images)
        move = attack_steps.signed_move(loss, step_size)
        return attack_steps.ascend(move, start, lower, upper, steps)

    return perturb, [batch, batch, *_setting_specs()]


def _setting_specs():
    """Returns the specs of `Problem.limits`, step size and steps."""
    import tensorflow as tf

    return [
        tf.TensorSpec((), "float64"),
        tf.TensorSpec(None, "float32"),
        tf.TensorSpec(None, "float32"),
        tf.TensorSpec((), "float32"),
        tf.TensorSpec((), "int32"),
    ]
