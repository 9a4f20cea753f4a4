"""Auto-PGD: gradient attacks that choose their step size themselves."""

import functools

import numpy as np

from keras_polynets._errors import unknown_name
from keras_polynets.robustness import attack_losses
from keras_polynets.robustness import attack_steps
from keras_polynets.robustness import inputs
from keras_polynets.robustness.attack_functions import Problem
from keras_polynets.robustness.attack_functions import check_settings

# Name → loss, and the classes that it needs.
LOSSES = {
    "cross_entropy": (attack_losses.cross_entropy, 2),
    "dlr": (attack_losses.dlr, 3),
}
_TARGETED_CLASSES = 4

# The number of target classes by default, that of the attack's authors.
TARGETS = 9


def apgd(
    model,
    images,
    labels=None,
    epsilon=0.1,
    steps=100,
    *,
    loss="cross_entropy",
    restarts=1,
    seed=None,
    clip=None,
    reference_compatible=False,
):
    """Auto-PGD in the ball of radius `epsilon` (ℓ∞).

    Projected gradient ascent with momentum and a step size of its own for
    each image: it begins at `2 * epsilon` and is halved at checkpoints, where
    the search goes on from the best point so far, when the loss stopped
    rising. Each run begins at a random point of the ball.

    Images that are classified wrongly are not attacked (again): neither those
    that are wrong without an attack, which are returned as they are, nor those
    that a run has broken. The model runs as in inference. The attack is
    compiled once for a model. It needs the TensorFlow backend.

    Args:
        model: See `pgd`.
        images: See `pgd`.
        labels: Integer classes of shape `(batch_size,)`, the true ones. By
            default the model's own predictions.
        epsilon: See `pgd`.
        steps: Positive integer, the steps of a run.
        loss: `"cross_entropy"`, or `"dlr"` for the difference of logits
            ratio, which does not saturate where logits are far apart and needs
            3 classes.
        restarts: Positive integer, the number of runs.
        seed: Integer of the random starts, see `pgd`.
        clip: See `pgd`.
        reference_compatible: See `pgd`.

    Returns:
        The adversarial images, as in `pgd`: of each image the first point
        found that is classified wrongly, else the one among the best of each
        run with the smallest logit margin.

    Raises:
        NotImplementedError, TypeError: As in `pgd`.
        ValueError: As in `pgd`; if `loss` is not known or needs more classes,
            or if `restarts` is not a positive integer.

    Example:

    >>> model = keras_polynets.zoo.load("pn10.fashion_mnist")
    >>> x = model.preprocessor(images)
    >>> adversarial = keras_polynets.robustness.apgd(
    ...     model, x, labels, epsilon=0.1, loss="dlr", restarts=3
    ... )

    Reference:
        - Croce, Hein, "Reliable evaluation of adversarial robustness with an
          ensemble of diverse parameter-free attacks", ICML 2020, Algorithm 1
          and equation 6.
    """
    check_settings(epsilon=epsilon, steps=steps, restarts=restarts)
    check_loss(loss)
    seed = inputs.as_seed(seed)
    problem = Problem(
        model, images, labels, epsilon, clip, reference_compatible
    )
    check_classes(problem.functions.classes, loss)
    search = _Search(problem, loss, epsilon, steps, seed)
    for _ in range(restarts):
        search.run()
    return problem.finish(search.found)


def apgd_t(
    model,
    images,
    labels=None,
    epsilon=0.1,
    steps=100,
    *,
    targets=TARGETS,
    restarts=1,
    seed=None,
    clip=None,
    reference_compatible=False,
):
    """Targeted Auto-PGD (APGD-T) in the ball of radius `epsilon` (ℓ∞).

    Runs `apgd` once for each of the `targets` wrong classes with the largest
    logits of the image, the most likely one first, and raises the targeted
    difference of logits ratio, which has no plateau where the softmax
    saturates. An image counts as broken as soon as it is classified wrongly,
    as whatever class, and is not attacked again.

    Args:
        model: See `pgd`. It needs 4 classes.
        images: See `pgd`.
        labels: See `apgd`.
        epsilon: See `pgd`.
        steps: Positive integer, the steps of a run.
        targets: Positive integer, the number of target classes an image; all
            wrong classes where there are fewer.
        restarts: Positive integer, the runs a target class.
        seed: Integer of the random starts, see `pgd`.
        clip: See `pgd`.
        reference_compatible: See `pgd`.

    Returns:
        The adversarial images, as in `apgd`.

    Raises:
        NotImplementedError, TypeError: As in `pgd`.
        ValueError: As in `apgd`.

    Example:

    >>> model = keras_polynets.zoo.load("pn10.fashion_mnist")
    >>> x = model.preprocessor(images)
    >>> adversarial = keras_polynets.robustness.apgd_t(model, x, labels, 0.1)

    Reference:
        - Croce, Hein, "Reliable evaluation of adversarial robustness with an
          ensemble of diverse parameter-free attacks", ICML 2020, Algorithm 1
          and equation 7.
    """
    check_settings(
        epsilon=epsilon, steps=steps, targets=targets, restarts=restarts
    )
    seed = inputs.as_seed(seed)
    problem = Problem(
        model, images, labels, epsilon, clip, reference_compatible
    )
    check_classes(problem.functions.classes)
    search = _Search(problem, "targeted_dlr", epsilon, steps, seed)
    classes = attack_steps.likely_targets(
        search.clean_logits,
        problem.labels,
        min(targets, problem.functions.classes - 1),
    )
    for column in np.asarray(classes).T:
        for _ in range(restarts):
            search.run(column)
    return problem.finish(search.found)


def check_loss(loss):
    """Raises a `ValueError` unless APGD knows the loss."""
    if loss not in LOSSES:
        raise unknown_name("loss of APGD", loss, LOSSES)


def check_classes(classes, loss=None):
    """Raises a `ValueError` where a loss needs more classes than there are.

    Args:
        classes: The number of classes of the model.
        loss: Name of the loss of `apgd`, `None` for that of `apgd_t`.
    """
    what, needed = "The targeted loss", _TARGETED_CLASSES
    if loss is not None:
        what, needed = f"The loss {loss!r}", LOSSES[loss][1]
    if classes < needed:
        raise ValueError(
            f"{what} needs at least {needed} classes, and the model has "
            f"{classes}. Use `apgd` with loss='cross_entropy', or `pgd`."
        )


class _Search:
    """The runs of APGD on one batch of images.

    Args:
        problem: The `Problem`.
        loss: Name of the loss.
        epsilon: The radius of the ball.
        steps: The steps of a run.
        seed: Integer of the random starts.
    """

    def __init__(self, problem, loss, epsilon, steps, seed):
        self.problem, self.steps, self.seed = problem, steps, seed
        self.epsilon, self.runs = epsilon, 0
        ends = inputs.ball(problem.x, *problem.limits)
        self.lower, self.upper = map(np.asarray, ends)
        functions = problem.functions
        make = functools.partial(_make_begin, loss)
        self.begin = functions.compiled(("apgd begin", loss), make)
        make = functools.partial(_make_segment, loss)
        self.segment = functions.compiled(("apgd segment", loss), make)
        self.clean_logits = np.asarray(functions.predict(problem.x))
        self.found = problem.x.copy()
        self.margin = _margin(self.clean_logits, problem.labels)
        self.right = np.argmax(self.clean_logits, axis=1) == problem.labels

    def run(self, targets=None):
        """Attacks all images that are still right, once.

        Args:
            targets: The target class of each image of the batch, for the
                targeted loss.
        """
        problem, rows = self.problem, np.flatnonzero(self.right)
        if not len(rows):
            return
        start = inputs.random_points(
            problem.x[rows], self.epsilon, self.seed, self.runs
        )
        self.runs += 1
        lower, upper = self.lower[rows], self.upper[rows]
        labels = problem.labels[rows]
        classes = [labels, labels if targets is None else targets[rows]]
        fixed = [*classes, lower, upper]
        start = np.clip(start, lower, upper)
        state = self.begin(start, *classes, self.epsilon)
        problem.check_finite(state.loss, state.gradient)
        rows = self._keep(rows, state)
        for number, length in enumerate(attack_steps.checkpoints(self.steps)):
            state, fixed = self._unbroken(state, fixed)
            if not len(rows):
                return
            state = self.segment(state, *fixed, number == 0, length)
            problem.check_finite(state.x)
            rows = self._keep(rows, state)
        if len(rows):
            self._remember_best(rows, state)

    def _keep(self, rows, state):
        """Notes what is broken and returns the rows that are left."""
        broken = state.broken.numpy()
        done = rows[broken]
        self.found[done] = state.found.numpy()[broken]
        self.right[done] = False
        return rows[~broken]

    def _unbroken(self, state, fixed):
        """Returns the state and the arrays of the images that are left."""
        import tensorflow as tf

        left = np.flatnonzero(~state.broken.numpy())
        if len(left) == len(state.loss):
            return state, fixed
        state, fixed = tf.nest.map_structure(
            lambda values: tf.gather(values, left), (state, fixed)
        )
        return state, fixed

    def _remember_best(self, rows, state):
        best = state.best.numpy()[~state.broken.numpy()]
        logits = np.asarray(self.problem.functions.predict(best))
        margin = _margin(logits, self.problem.labels[rows])
        # The first run counts whatever it has found.
        nearer = (margin < self.margin[rows]) | (self.runs == 1)
        self.found[rows[nearer]] = best[nearer]
        self.margin[rows[nearer]] = margin[nearer]


def _margin(logits, labels):
    if not len(labels):
        # Keras takes no maximum of nothing.
        return np.zeros(0, "float32")
    return np.array(attack_losses.margin(logits, labels))


def _loss(name, targets):
    if name == "targeted_dlr":
        return functools.partial(attack_losses.targeted_dlr, targets=targets)
    return LOSSES[name][0]


def _make_begin(loss, logits, batch):
    import tensorflow as tf

    def begin(start, labels, targets, epsilon):
        objective = attack_steps.auto_objective(
            logits, _loss(loss, targets), labels
        )
        return attack_steps.auto_begin(objective, start, epsilon)

    classes = tf.TensorSpec((None,), "int32")
    size = tf.TensorSpec((), "float32")
    return begin, [batch, classes, classes, size]


def _make_segment(loss, logits, batch):
    import tensorflow as tf

    def segment(state, labels, targets, lower, upper, first, length):
        objective = attack_steps.auto_objective(
            logits, _loss(loss, targets), labels
        )
        return attack_steps.auto_segment(
            objective, state, lower, upper, first, length
        )

    numbers = tf.TensorSpec((None,), "float32")
    flags = tf.TensorSpec((None,), "bool")
    classes = tf.TensorSpec((None,), "int32")
    kinds = dict.fromkeys(attack_steps.AutoState._fields, numbers)
    kinds |= dict.fromkeys(("halved", "broken"), flags)
    images = ("x", "previous", "gradient", "best", "best_gradient", "found")
    kinds |= dict.fromkeys(images, batch)
    return segment, [
        attack_steps.AutoState(**kinds),
        classes,
        classes,
        batch,
        batch,
        tf.TensorSpec((), "bool"),
        tf.TensorSpec((), "int32"),
    ]
