"""Adversarial images inside a training step, on every backend."""

import functools

import keras
from keras import ops

from keras_polynets.robustness import attack_losses
from keras_polynets.robustness import attack_steps
from keras_polynets.robustness import attacks
from keras_polynets.robustness import auto_attacks
from keras_polynets.robustness.attack_functions import REFERENCE_RANGE


def is_plain(attack):
    """Says whether an attack starts at the image, so that it needs no noise.

    Args:
        attack: An attack of `robustness.parse_attack`.
    """
    is_signed = attack.function in (attacks.fgsm, attacks.pgd)
    return is_signed and not attack.settings.get("random_start", False)


def noise(attack, x, seed):
    """Draws what the random starts of an attack need.

    It is drawn apart from the attack, because a seed generator cannot move on
    inside a condition.

    Args:
        attack: An attack of `robustness.parse_attack`.
        x: Float tensor of images.
        seed: A `keras.random.SeedGenerator`.

    Returns:
        Float tensor of shape `(starts, *x.shape)`, or `None` where the attack
        starts at the image.
    """
    if is_plain(attack):
        return None
    settings = attack.settings
    starts = settings.get("restarts", 1)
    if attack.function is auto_attacks.apgd_t:
        starts *= settings.get("targets", auto_attacks.TARGETS)
    shape = (starts, *ops.shape(x))
    if attack.function is attacks.tpgd:
        return keras.random.normal(shape, dtype=x.dtype, seed=seed)
    return keras.random.uniform(shape, -1.0, 1.0, dtype=x.dtype, seed=seed)


def perturb(attack, logits, x, labels, valid_range, noise):
    """Returns the adversarial images of an attack, in the graph.

    They are those of the attack itself but for the ends of the ball, which
    are not rounded inwards, and for APGD, which looks for the largest loss
    and does not stop at the first image that is classified wrongly.

    Args:
        attack: An attack of `robustness.parse_attack`.
        logits: A callable `x -> logits` of shape `(batch_size, classes)`.
        x: Float tensor of images.
        labels: Integer tensor of shape `(batch_size,)`.
        valid_range: Pair `(low, high)` of numbers, or one value a channel.
        noise: What `noise` returned.
    """
    settings = dict(attack.settings)
    if settings.get("reference_compatible", False):
        valid_range = REFERENCE_RANGE
    low, high = (ops.convert_to_tensor(v, dtype=x.dtype) for v in valid_range)
    epsilon = settings["epsilon"]
    lower = ops.clip(x - epsilon, low, high)
    upper = ops.clip(x + epsilon, low, high)
    return _KINDS[attack.function](
        logits, x, labels, lower, upper, noise, settings
    )


def _signed(logits, x, labels, lower, upper, noise, settings):
    epsilon = settings["epsilon"]
    start = x
    if noise is not None:
        start = ops.clip(x + epsilon * noise[0], lower, upper)
    move = attack_steps.signed_move(
        attack_steps.cross_entropy_loss(logits, labels),
        settings.get("step_size", epsilon),
    )
    steps = settings.get("steps", 1)
    return attack_steps.ascend(move, start, lower, upper, steps)


def _trades(logits, x, labels, lower, upper, noise, settings):
    loss = attack_steps.kl_loss(logits, x)
    return attack_steps.ascend(
        attack_steps.signed_move(loss, settings["step_size"]),
        x + attacks.TPGD_DEVIATION * noise[0],
        lower,
        upper,
        settings["steps"],
    )


def _auto(logits, x, labels, lower, upper, noise, settings):
    loss, _ = auto_attacks.LOSSES[settings.get("loss", "cross_entropy")]
    runs = [(loss, noise[run]) for run in range(settings.get("restarts", 1))]
    return _best_of(logits, x, labels, lower, upper, runs, settings)


def _auto_targeted(logits, x, labels, lower, upper, noise, settings):
    clean = logits(x)
    count = min(
        settings.get("targets", auto_attacks.TARGETS), clean.shape[-1] - 1
    )
    targets = attack_steps.likely_targets(clean, labels, count)
    restarts = settings.get("restarts", 1)
    runs = [
        (
            functools.partial(
                attack_losses.targeted_dlr, targets=targets[:, n]
            ),
            noise[n * restarts + run],
        )
        for n in range(count)
        for run in range(restarts)
    ]
    return _best_of(logits, x, labels, lower, upper, runs, settings)


def _best_of(logits, x, labels, lower, upper, runs, settings):
    """Returns the points of the smallest margin among all runs of APGD."""
    epsilon, steps = settings["epsilon"], settings["steps"]
    found = margin = None
    for loss, unit in runs:
        start = ops.clip(x + epsilon * unit, lower, upper)
        state = attack_steps.auto_run(
            logits, loss, start, labels, lower, upper, epsilon, steps
        )
        left = attack_losses.margin(logits(state.best), labels)
        if found is None:
            found, margin = state.best, left
        else:
            found = attack_steps.choose(left < margin, state.best, found)
            margin = ops.minimum(left, margin)
    return found


_KINDS = {
    attacks.fgsm: _signed,
    attacks.pgd: _signed,
    attacks.tpgd: _trades,
    auto_attacks.apgd: _auto,
    auto_attacks.apgd_t: _auto_targeted,
}
