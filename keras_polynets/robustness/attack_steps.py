"""The iterations of the attacks, for inside a compiled function.

They use `keras.ops` alone, so that a training step can hold an attack on every
backend. `logits` is a callable `x -> logits` of shape `(batch_size, classes)`;
`lower` and `upper` are the ends of the set that adversarial images stay in.
"""

import collections
import math

from keras import ops

from keras_polynets.robustness import attack_losses
from keras_polynets.train_steps.derivatives import losses_and_gradient

# The constants of APGD: the share of steps that must raise the loss, and the
# weight of the new direction against the last change (its momentum).
_RISING_SHARE = 0.75
_NEW_WEIGHT = 0.75


def ascend(move, start, lower, upper, steps):
    """Takes steps and goes back into the set after each.

    Args:
        move: A callable `x -> change of x`.
        start: Float tensor of shape `(batch_size, ...)`.
        lower: Float tensor of the same shape.
        upper: Float tensor of the same shape.
        steps: Integer, or integer tensor.
    """

    def step(_, x):
        return ops.clip(x + move(x), lower, upper)

    return ops.fori_loop(0, steps, step, start)


def signed_move(loss, step_size):
    """Returns the move of `ascend` along the sign of the gradient.

    Args:
        loss: A callable `x -> losses` of shape `(batch_size,)`.
        step_size: Float or float tensor.
    """

    def move(x):
        _, _, gradient = losses_and_gradient(lambda x: (loss(x), ()), x)
        return step_size * ops.sign(gradient)

    return move


def cross_entropy_loss(logits, labels):
    """Returns the loss that FGSM and PGD raise, a callable of `x`."""
    return lambda x: attack_losses.cross_entropy(logits(x), labels)


def kl_loss(logits, images):
    """Returns the loss that TPGD raises, a callable of `x`."""
    clean = logits(images)
    return lambda x: attack_losses.kl_divergence(clean, logits(x))


def checkpoints(steps):
    """Returns the numbers of steps between the checkpoints of APGD.

    The checkpoints are `w_j = ceil(p_j N)` with `p_0 = 0`, `p_1 = 0.22` and
    `p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)`.

    Args:
        steps: Positive integer `N`.

    Returns:
        List of positive integers, whose sum is `steps`.

    Reference:
        - Croce, Hein, "Reliable evaluation of adversarial robustness with an
          ensemble of diverse parameter-free attacks", ICML 2020, Section 3.1.
    """
    # In hundredths: sums of 0.06 would not meet their ceilings.
    ends, before, now = [0], 0, 22
    while now < 100:
        ends.append(math.ceil(now * steps / 100))
        before, now = now, now + max(now - before - 3, 6)
    ends.append(steps)
    lengths = (b - a for a, b in zip(ends, ends[1:], strict=False))
    return [length for length in lengths if length]


# What APGD remembers of every image. `found` is the first point that was
# classified wrongly, where `broken`; `halved` says whether the last checkpoint
# halved the step size, `checked_loss` is the best loss there.
AutoState = collections.namedtuple(
    "AutoState",
    (
        "x",
        "previous",
        "gradient",
        "loss",
        "best",
        "best_gradient",
        "best_loss",
        "size",
        "rises",
        "checked_loss",
        "halved",
        "broken",
        "found",
    ),
)


def auto_objective(logits, loss, labels):
    """Returns the callable `x -> (losses, gradient, broken)` of APGD.

    Args:
        logits: See the module.
        loss: A callable `(logits, labels) -> losses`.
        labels: Integer tensor of shape `(batch_size,)`.
    """

    def evaluate(x):
        outputs = logits(x)
        wrong = attack_losses.is_wrong(outputs, labels)
        return ops.cast(loss(outputs, labels), x.dtype), wrong

    def objective(x):
        losses, wrong, gradient = losses_and_gradient(evaluate, x)
        return losses, gradient, wrong

    return objective


def auto_begin(objective, start, epsilon):
    """Returns the `AutoState` at the start of a run of APGD.

    Args:
        objective: See `auto_objective`.
        start: Float tensor of shape `(batch_size, ...)`.
        epsilon: Float or float tensor; the first step size is twice that.
    """
    loss, gradient, broken = objective(start)
    return AutoState(
        x=start,
        previous=start,
        gradient=gradient,
        loss=loss,
        best=start,
        best_gradient=gradient,
        best_loss=loss,
        size=2 * epsilon * ops.ones_like(loss),
        rises=ops.zeros_like(loss),
        checked_loss=loss,
        halved=ops.zeros_like(broken),
        broken=broken,
        found=start,
    )


def auto_segment(objective, state, lower, upper, first, length):
    """Takes the steps of APGD up to the next checkpoint, and checks there.

    A step is `z = P(x + size * sign(gradient))` and
    `x' = P(x + 0.75 (z - x) + 0.25 (x - previous))`, the very first one
    `x' = z`, with `P` the projection onto the set. At the checkpoint the step
    size is halved, and the search goes on from the best point, where the loss
    rose in less than three quarters of the steps, or where neither step size
    nor best loss changed since the last checkpoint.

    Args:
        objective: See `auto_objective`.
        state: The `AutoState`.
        lower: See `ascend`.
        upper: See `ascend`.
        first: Boolean or boolean tensor, whether this is the first segment.
        length: Integer or integer tensor, the number of steps.

    Returns:
        The `AutoState` behind the checkpoint.

    Reference:
        - Croce, Hein, "Reliable evaluation of adversarial robustness with an
          ensemble of diverse parameter-free attacks", ICML 2020, Algorithm 1.
    """

    def step(number, state):
        is_first = ops.logical_and(first, ops.equal(number, 0))
        weight = ops.where(is_first, 1.0, _NEW_WEIGHT)
        size = _per_image(state.size, state.x)
        z = state.x + size * ops.sign(state.gradient)
        z = ops.clip(z, lower, upper)
        x = state.x + weight * (z - state.x)
        x = x + (1 - weight) * (state.x - state.previous)
        x = ops.clip(x, lower, upper)
        return _after_step(state, x, *objective(x))

    return _check(ops.fori_loop(0, length, step, state), length)


def _after_step(state, x, loss, gradient, broken):
    better = loss > state.best_loss
    is_new = ops.logical_and(broken, ops.logical_not(state.broken))
    rises = ops.cast(loss > state.loss, state.rises.dtype)
    return state._replace(
        x=x,
        previous=state.x,
        gradient=gradient,
        loss=loss,
        best=choose(better, x, state.best),
        best_gradient=choose(better, gradient, state.best_gradient),
        best_loss=ops.where(better, loss, state.best_loss),
        rises=state.rises + rises,
        broken=ops.logical_or(broken, state.broken),
        found=choose(is_new, x, state.found),
    )


def _check(state, length):
    """Halves the step sizes at a checkpoint, where that is due."""
    needed = _RISING_SHARE * ops.cast(length, state.rises.dtype)
    unchanged = ops.logical_and(
        ops.logical_not(state.halved), state.best_loss <= state.checked_loss
    )
    halved = ops.logical_or(state.rises < needed, unchanged)
    return state._replace(
        x=choose(halved, state.best, state.x),
        gradient=choose(halved, state.best_gradient, state.gradient),
        loss=ops.where(halved, state.best_loss, state.loss),
        size=ops.where(halved, state.size / 2, state.size),
        rises=ops.zeros_like(state.rises),
        checked_loss=state.best_loss,
        halved=halved,
    )


def likely_targets(logits, labels, count):
    """Returns the wrong classes of each example, the most likely first.

    Args:
        logits: Float tensor of shape `(batch_size, classes)`.
        labels: Integer tensor of shape `(batch_size,)`.
        count: The number of classes wanted.

    Returns:
        Integer tensor of shape `(batch_size, count)`.
    """
    is_label = ops.one_hot(labels, logits.shape[-1]) > 0
    lowest = ops.full_like(logits, -float("inf"))
    return ops.top_k(ops.where(is_label, lowest, logits), count)[1]


def auto_run(logits, loss, start, labels, lower, upper, epsilon, steps):
    """Runs APGD once, on all images to the end.

    Args:
        logits: See the module.
        loss: A callable `(logits, labels) -> losses`.
        start: Float tensor of shape `(batch_size, ...)`.
        labels: Integer tensor of shape `(batch_size,)`.
        lower: See `ascend`.
        upper: See `ascend`.
        epsilon: Float.
        steps: Positive integer.

    Returns:
        The `AutoState` at the end.
    """
    objective = auto_objective(logits, loss, labels)
    state = auto_begin(objective, start, epsilon)
    for number, length in enumerate(checkpoints(steps)):
        state = auto_segment(
            objective, state, lower, upper, number == 0, length
        )
    return state


def _per_image(values, like):
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))


def choose(mask, x, y):
    """Returns `x` for the examples of a mask, `y` for the others."""
    return ops.where(_per_image(mask, x), x, y)
