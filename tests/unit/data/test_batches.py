"""Batches addressed by (seed, global step)."""

import gc
import itertools
import os
import pathlib

import keras
import numpy as np
import pytest

from keras_polynets.data import Batches
from keras_polynets.data import batches as batches_module
from keras_polynets.data.batches import ordered

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="a tf.data.Dataset"
)

X = np.random.default_rng(0).integers(0, 256, (103, 4, 4, 1), np.uint8)
Y = np.arange(103, dtype="int32")


def take(batches, count):
    return [
        (np.asarray(x), np.asarray(y))
        for x, y in itertools.islice(iter(batches.dataset()), count)
    ]


def assert_same(actual, expected):
    for (x, y), (expected_x, expected_y) in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)
        assert (x.dtype, y.dtype) == (expected_x.dtype, expected_y.dtype)


@pytest.mark.parametrize(
    "step,epoch,first", [(0, 0, 0), (10, 1, 0), (27, 2, 7)]
)
def test_indices_follow_the_documented_formula(step, epoch, first):
    order = np.random.Generator(np.random.Philox(key=[5, epoch])).permutation(
        103
    )
    batches = Batches(X, Y, 11, seed=5)
    assert batches.steps_per_epoch == 10
    np.testing.assert_array_equal(
        batches.indices(step), order[first * 11 : (first + 1) * 11]
    )


def test_an_epoch_holds_every_example_once_with_a_short_last_batch():
    batches = Batches(X, Y, 25, seed=0)
    epoch = take(batches, 5)
    assert [len(y) for _, y in epoch] == [25, 25, 25, 25, 3]
    np.testing.assert_array_equal(
        np.sort(np.concatenate([y for _, y in epoch])), Y
    )
    for x, y in epoch:
        np.testing.assert_array_equal(x, X[y])


@pytest.mark.parametrize("first_step", [0, 1, 9, 10, 23])
def test_starts_at_any_step_with_the_batches_of_the_whole_stream(first_step):
    whole = take(Batches(X, Y, 11, seed=2), 45)
    rest = Batches(X, Y, 11, seed=2, first_step=first_step)
    assert_same(take(rest, 45 - first_step), whole[first_step:])


def test_starting_late_does_not_draw_the_batches_before(monkeypatch):
    drawn = []
    permutation = batches_module.permutation

    def noted(size, seed, epoch):
        drawn.append(int(epoch))
        return permutation(size, seed, epoch)

    monkeypatch.setattr(batches_module, "permutation", noted)
    take(Batches(X, Y, 11, seed=2, first_step=10**9 + 3), 2)
    assert min(drawn) == 10**8


@pytest.mark.parametrize("first_step", [0, 17])
def test_same_batches_on_every_backend(monkeypatch, first_step):
    batches = Batches(X, Y, 10, seed=7, first_step=first_step)
    tensors = take(batches, 40)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    generator = batches.dataset()
    assert isinstance(next(generator)[0], np.ndarray)
    assert_same(take(batches, 40), tensors)


def test_memory_map_gives_the_same_batches(tmp_path):
    mapped = np.memmap(tmp_path / "x", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    assert_same(
        take(Batches(mapped, Y, 10, seed=7, first_step=8), 20),
        take(Batches(X, Y, 10, seed=7, first_step=8), 20),
    )


def test_any_targets_and_a_second_stream():
    targets = np.random.default_rng(1).random((103, 3), "float32")
    batches = Batches(X, targets, 10, seed=1)
    for _ in range(2):
        x, y = next(iter(batches.dataset()))
        np.testing.assert_array_equal(y, targets[batches.indices(0)])
        np.testing.assert_array_equal(x, X[batches.indices(0)])


@on_tensorflow
def test_dataset_is_infinite_typed_and_deterministic():
    import tensorflow as tf

    dataset = Batches(X, Y, 10, seed=0).dataset()
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY or (
        dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    )
    assert dataset.options().deterministic is True
    images, labels = dataset.element_spec
    assert images.dtype == tf.uint8 and images.shape[1:] == (4, 4, 1)
    assert labels.dtype == tf.int32


def test_trains_a_model():
    model = keras.Sequential(
        [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    several = 1 if keras.backend.backend() == "torch" else 3
    model.compile("sgd", "mse", steps_per_execution=several)
    batches = Batches(X, Y % 2, 10, seed=0, first_step=5)
    history = model.fit(
        batches.dataset(),
        steps_per_epoch=batches.steps_per_epoch,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    assert len(history.history["loss"]) == 2


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(y=Y[:5]), "same number of examples.*103 and 5"),
        (dict(x=X[:0], y=Y[:0]), "at least one.*0 and 0"),
        (dict(batch_size=0), "`batch_size` must be an integer of at least 1"),
        (dict(batch_size=2.5), "batch_size=2.5"),
        (dict(seed=-1), "`seed` must be an integer of at least 0"),
        (dict(seed=2**64), "below 18446744073709551616"),
        (dict(first_step=-1), "`first_step` must be"),
        (dict(first_step=1.0), "first_step=1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batches(**{"x": X, "y": Y, "batch_size": 10, "seed": 0, **arguments})


def test_bad_step():
    with pytest.raises(ValueError, match="`step` must be"):
        Batches(X, Y, 10, seed=0).indices(-1)


@pytest.mark.parametrize("first_step", [0, 3, 12])
@on_tensorflow
def test_blocks_are_the_batches_of_one_epoch_joined(first_step):
    batches = Batches(X, Y, 11, seed=2, first_step=first_step)
    left = 10 - first_step % 10
    single = take(batches, left + 10)
    blocks = list(itertools.islice(iter(batches.dataset(4)), -(-left // 4) + 3))
    for kind in (0, 1):
        np.testing.assert_array_equal(
            np.concatenate([b[kind] for b in blocks]),
            np.concatenate([b[kind] for b in single]),
        )
    assert len(blocks[0][1]) == min(
        44, len(np.concatenate([y for _, y in single[:left]]))
    )


def shuffled(x, y):
    return Batches(x, y, 8, seed=0).dataset(2)


def in_order(x, y):
    return ordered((x, y), 8)


@on_tensorflow
@pytest.mark.parametrize("make", [shuffled, in_order])
def test_data_are_freed_with_their_dataset(make):
    statm = pathlib.Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("reads the memory that is in use from Linux")

    def megabytes():
        pages = int(statm.read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def read():
        x = np.ones((5_000, 1_000), "float32")
        next(iter(make(x, np.zeros(len(x), "int32"))))

    gc.collect()
    gc.disable()
    try:
        read()
        before = megabytes()
        for _ in range(8):
            read()
        # An array has 20 MB.
        assert megabytes() - before < 60
    finally:
        gc.enable()
