"""The losses of attacks against their formulas in NumPy."""

import keras
import numpy as np
import pytest

from keras_polynets.robustness import attack_losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3, size=(40, 6)).astype("float32")
LABELS = np.arange(40) % 6
TARGETS = (LABELS + 1 + np.arange(40) % 5) % 6


def value(loss, *arguments):
    return keras.ops.convert_to_numpy(loss(*arguments))


def test_dlr_is_its_formula():
    expected = []
    for z, y in zip(LOGITS.astype("float64"), LABELS, strict=True):
        ordered = np.sort(z)
        other = max(np.delete(z, y))
        expected.append(-(z[y] - other) / (ordered[-1] - ordered[-3]))
    found = value(attack_losses.dlr, LOGITS, LABELS)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_targeted_dlr_is_its_formula():
    expected = []
    rows = zip(LOGITS.astype("float64"), LABELS, TARGETS, strict=True)
    for z, y, t in rows:
        ordered = np.sort(z)
        spread = ordered[-1] - (ordered[-3] + ordered[-4]) / 2
        expected.append(-(z[y] - z[t]) / spread)
    found = value(attack_losses.targeted_dlr, LOGITS, LABELS, TARGETS)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_ratios_do_not_depend_on_the_scale():
    for loss, rest in (
        (attack_losses.dlr, ()),
        (attack_losses.targeted_dlr, (TARGETS,)),
    ):
        np.testing.assert_allclose(
            value(loss, 1000 * LOGITS, LABELS, *rest),
            value(loss, LOGITS, LABELS, *rest),
            rtol=1e-4,
        )


def test_signs_say_what_is_classified_wrongly():
    wrong = np.argmax(LOGITS, axis=1) != LABELS
    assert 0 < wrong.sum() < 40
    margin = value(attack_losses.margin, LOGITS, LABELS)
    np.testing.assert_array_equal(margin < 0, wrong)
    dlr = value(attack_losses.dlr, LOGITS, LABELS)
    np.testing.assert_array_equal(dlr > 0, wrong)
    found = value(attack_losses.is_wrong, LOGITS, LABELS)
    np.testing.assert_array_equal(found, wrong)


def test_kl_divergence_is_its_formula():
    def softmax(z):
        e = np.exp(z.astype("float64"))
        return e / e.sum(axis=1, keepdims=True)

    p, q = softmax(LOGITS), softmax(LOGITS[::-1])
    found = value(attack_losses.kl_divergence, LOGITS, LOGITS[::-1].copy())
    expected = (p * np.log(p / q)).sum(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        value(attack_losses.kl_divergence, LOGITS, LOGITS), 0, atol=1e-6
    )


def test_tied_logits_stay_finite():
    ties = np.zeros((2, 5), "float32")
    labels = np.array([0, 1])
    assert np.isfinite(value(attack_losses.dlr, ties, labels)).all()
    found = value(attack_losses.targeted_dlr, ties, labels, labels[::-1].copy())
    assert found == pytest.approx(0)
