"""Gradient attacks, over cleverhans: fast gradient sign and projected."""

import dataclasses
import math
import numbers
import weakref

import keras
import numpy as np

from keras_polynets._errors import check_positive_integer
from keras_polynets._errors import unknown_name
from keras_polynets.robustness import inputs

_compiled = weakref.WeakKeyDictionary()


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
    _check_settings(epsilon)
    return _attack(
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
):
    """Projected gradient descent in the ball of radius `epsilon` (ℓ∞).

    Takes `steps` steps of fast gradient sign, each of size `step_size`, and
    after each goes back to the nearest point that is within `epsilon` of the
    image and in the valid range. The result never leaves either, not even by
    a rounding error: the ball is rounded inwards to float32.

    The model runs as in inference, and its weights are not touched. The attack
    is compiled once for a model, so that a loop over batches of any size does
    not compile again. It needs the TensorFlow backend and cleverhans
    (`pip install keras_polynets[attacks]`).

    Args:
        model: A model that yields logits of shape `(batch_size, classes)`.
            Probabilities are refused: where a softmax saturates, its gradient
            vanishes, and the attack would look weaker than it is.
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
    _check_settings(epsilon, steps, step_size)
    return _attack(
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
    )


def _check_settings(epsilon, steps=1, step_size=1.0):
    if not (_is_finite(epsilon) and epsilon >= 0):
        raise ValueError(
            "Argument `epsilon` must be a number of at least 0, in the model's "
            f"input units. Received: epsilon={epsilon!r}"
        )
    check_positive_integer("steps", steps)
    if not (_is_finite(step_size) and step_size > 0):
        raise ValueError(
            "Argument `step_size` must be a positive number, in the model's "
            f"input units. Received: step_size={step_size!r}"
        )


def _is_finite(value):
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _attack(
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
):
    _check_installed()
    import tensorflow as tf

    if targeted and labels is None:
        raise ValueError(
            "A targeted attack needs `labels`, the classes that the model is "
            "to be led to. Received: labels=None"
        )
    low, high = inputs.valid_range(model, clip)
    x = inputs.as_images(model, images, low, high)
    functions = _compile(model, x)
    if labels is None:
        labels = np.argmax(functions.predict(x), axis=-1)
    labels = inputs.as_labels(labels, len(x), functions.classes)
    lower, upper = inputs.ball(x, epsilon, low, high)
    if random_start:
        points = inputs.random_points(x, epsilon, seed)
        x = np.clip(points, lower, upper)
    if targeted:
        step_size = -step_size
    outputs = functions.perturb(x, labels, lower, upper, step_size, steps)
    outputs = outputs.numpy()
    if not np.isfinite(outputs).all():
        raise ValueError(
            f"The gradient of model {model.name!r} is not finite on these "
            "images. Its weights hold NaN or the products overflow: evaluate "
            "weights from before the training diverged, in float32."
        )
    return tf.constant(outputs) if tf.is_tensor(images) else outputs


def _check_installed():
    if keras.backend.backend() != "tensorflow":
        raise NotImplementedError(
            "Attacks need the TensorFlow backend. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}. Save the model as "
            "`.keras` and attack it in a process with "
            "KERAS_BACKEND=tensorflow."
        )
    try:
        import cleverhans  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Attacks need cleverhans. Install it with "
            "`pip install keras_polynets[attacks]`."
        ) from error


class _Functions:
    """The compiled functions of one model and one shape of images.

    They do not hold the model, so that it can be freed while they are kept.
    """

    def __init__(self, model, images):
        import tensorflow as tf
        from cleverhans.tf2.utils import compute_gradient
        from cleverhans.tf2.utils import optimize_linear

        reference = weakref.ref(model)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits
        batch = tf.TensorSpec((None, *images.shape[1:]), "float32")
        classes = tf.TensorSpec((None,), "int32")
        size = tf.TensorSpec((), "float32")
        count = tf.TensorSpec((), "int32")

        def logits(x):
            return tf.cast(reference()(x, training=False), "float32")

        def perturb(x, labels, lower, upper, step_size, steps):
            for _ in tf.range(steps):
                # The plain function: the compiled one of cleverhans would
                # hold the weights of every model that was ever attacked.
                gradient = compute_gradient.python_function(
                    logits, loss, x, labels, targeted=False
                )
                x = x + optimize_linear(gradient, step_size, np.inf)
                x = tf.clip_by_value(x, lower, upper)
            return x

        self.predict = tf.function(logits, input_signature=[batch])
        self.perturb = tf.function(
            perturb, input_signature=[batch, classes, batch, batch, size, count]
        )
        outputs = self.predict(images).numpy()
        _check_logits(model, outputs)
        self.classes = outputs.shape[1]


def _compile(model, images):
    functions = _compiled.setdefault(model, {})
    shape = images.shape[1:]
    if shape not in functions:
        functions[shape] = _Functions(model, images)
    return functions[shape]


def _check_logits(model, outputs):
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        raise ValueError(
            "Attacks need a classifier with logits of shape (batch_size, "
            f"classes). Received outputs of shape {outputs.shape} from model "
            f"{model.name!r}."
        )
    sums = outputs.sum(axis=1)
    if (
        len(outputs)
        and np.all(outputs >= 0)
        and np.allclose(sums, 1, atol=1e-2)
    ):
        raise ValueError(
            f"Model {model.name!r} yields probabilities (softmax), which mask "
            "the gradients. Attack its logits: build it with "
            "`classifier_activation=None`, or up to the layer before the "
            "softmax, `keras.Model(model.input, logits)`."
        )


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack with its settings: what `parse_attack` returns.

    Args:
        name: The text that describes it, for example `"fgsm:0.1"`.
        function: `fgsm` or `pgd`.
        settings: Dictionary of its arguments.
    """

    name: str
    function: object = dataclasses.field(repr=False)
    settings: dict = dataclasses.field(repr=False)

    def __call__(self, model, images, labels=None):
        """Returns the adversarial images.

        Args:
            model: A model that yields logits.
            images: Floats in the model's input units.
            labels: Integer classes, or `None` for the model's predictions.
        """
        return self.function(model, images, labels, **self.settings)


# Name → function, and the settings in the order of the text.
_FORMS = {
    "fgsm": (fgsm, {"epsilon": float}),
    "pgd": (pgd, {"epsilon": float, "steps": int, "step_size": float}),
}


def parse_attack(text):
    """Returns the attack that a text describes.

    Args:
        text: `"fgsm:EPSILON"` or `"pgd:EPSILON,STEPS,STEP_SIZE"`, in the
            model's input units.

    Returns:
        A callable `attack(model, images, labels)` with the text as its
        `name`.

    Raises:
        ValueError: If the name is not known, or if the numbers do not fit.

    Example:

    >>> attack = keras_polynets.robustness.parse_attack("pgd:0.1,20,0.01")
    >>> attack.name
    'pgd:0.1,20,0.01'
    """
    name, _, values = str(text).replace(" ", "").partition(":")
    if name not in _FORMS:
        raise unknown_name("attack", name, _FORMS)
    function, kinds = _FORMS[name]
    words = values.split(",")
    try:
        settings = {
            key: kind(word)
            for (key, kind), word in zip(kinds.items(), words, strict=True)
        }
    except ValueError:
        raise ValueError(
            f"An attack {name!r} is written {name}:{','.join(kinds).upper()}, "
            f"with {len(kinds)} numbers. Received: {text!r}"
        ) from None
    _check_settings(**settings)
    return Attack(f"{name}:{values}", function, settings)
