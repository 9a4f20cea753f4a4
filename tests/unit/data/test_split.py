"""Stratified splits."""

import numpy as np
import pytest

from keras_polynets.data import stratified_split


def test_holds_out_each_class_in_proportion():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 7], 100))
    kept, held_out = stratified_split(labels, 30, seed=0)
    assert np.bincount(labels[held_out])[[0, 1, 7]].tolist() == [10, 10, 10]
    both = np.concatenate([kept, held_out])
    np.testing.assert_array_equal(np.sort(both), np.arange(300))
    assert (np.diff(kept) > 0).all() and (np.diff(held_out) > 0).all()


def test_rounds_by_largest_remainder():
    # Shares of 10 out of 15: 10/3, 10/3, 10/3 of 5 each; one place is left.
    _, held_out = stratified_split(np.repeat([0, 1, 2], 5), 10, seed=0)
    counts = np.bincount(np.repeat([0, 1, 2], 5)[held_out])
    assert counts.tolist() == [4, 3, 3]
    # Shares of 3 out of 10: 2.7 and 0.3.
    labels = np.array([0] * 9 + [1])
    _, held_out = stratified_split(labels, 3, seed=0)
    assert np.bincount(labels[held_out], minlength=2).tolist() == [3, 0]


def test_depends_on_the_seed_alone():
    labels = np.arange(1000) % 10
    first = stratified_split(labels, 100, seed=3)[1]
    np.testing.assert_array_equal(first, stratified_split(labels, 100, 3)[1])
    assert not np.array_equal(first, stratified_split(labels, 100, seed=4)[1])
    # Pinned: published validation sets must not move with a release.
    assert first[:5].tolist() == PINNED


PINNED = [11, 16, 20, 27, 32]


@pytest.mark.parametrize("size", [0, 10, 11, -1])
def test_size_out_of_range(size):
    with pytest.raises(ValueError, match="`size` must be from 1 to 9"):
        stratified_split(np.arange(10), size, seed=0)


def test_labels_must_be_a_vector_of_integers():
    with pytest.raises(ValueError, match="vector of integers.*float64"):
        stratified_split(np.zeros(10), 2, seed=0)
    with pytest.raises(ValueError, match=r"shape \(10, 2\)"):
        stratified_split(np.zeros((10, 2), int), 2, seed=0)
