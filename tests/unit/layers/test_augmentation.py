"""Random crops, one offset an image."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets.layers.augmentation import RandomPadCrop

IMAGES = np.random.default_rng(0).integers(1, 256, (64, 7, 9, 3), np.uint8)


def crops_of(image, padding):
    """Every crop of one padded image, by NumPy: `{offset: crop}`."""
    border = ((padding, padding), (padding, padding), (0, 0))
    padded = np.pad(image, border)
    height, width, _ = image.shape
    return {
        (i, j): padded[i : i + height, j : j + width]
        for i in range(2 * padding + 1)
        for j in range(2 * padding + 1)
    }


def offsets_of(moved, images, padding):
    """The offset that each image was moved by; every pixel is compared."""
    found = []
    for image, crop in zip(images, moved, strict=True):
        matches = [
            offset
            for offset, expected in crops_of(image, padding).items()
            if np.array_equal(expected, crop)
        ]
        assert len(matches) == 1
        found.append(matches[0])
    return np.array(found)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_each_image_is_a_crop_of_its_padded_self(dtype):
    images = IMAGES.astype(dtype)
    layer = RandomPadCrop(2, seed=0)
    moved = layer(images, training=True)
    assert keras.backend.standardize_dtype(moved.dtype) == dtype
    offsets = offsets_of(ops.convert_to_numpy(moved), images, 2)
    # One offset an image, rows and columns apart, over the whole range.
    assert len(set(map(tuple, offsets))) > 15
    assert offsets.min(0).tolist() == [0, 0]
    assert offsets.max(0).tolist() == [4, 4]
    assert not np.array_equal(offsets[:, 0], offsets[:, 1])


def test_offsets_are_uniform():
    images = np.tile(IMAGES[:1], (5000, 1, 1, 1))
    moved = RandomPadCrop(1, seed=1)(images, training=True)
    moved = ops.convert_to_numpy(moved)
    counts = [
        np.all(moved == crop, axis=(1, 2, 3)).sum()
        for crop in crops_of(images[0], 1).values()
    ]
    assert sum(counts) == 5000
    # Chi-squared with 8 degrees of freedom: 26.1 at one in a thousand.
    assert np.sum((np.array(counts) - 5000 / 9) ** 2 / (5000 / 9)) < 26.1


@pytest.mark.parametrize("arguments", [{}, {"training": False}])
def test_acts_in_training_only(arguments):
    images = IMAGES[:4]
    same = RandomPadCrop(4, seed=0)(images, **arguments)
    np.testing.assert_array_equal(ops.convert_to_numpy(same), images)


def test_draws_differ_between_calls_and_repeat_with_the_state():
    layer = RandomPadCrop(3, seed=5)
    state = layer.variables[0]
    before = ops.convert_to_numpy(state.value)
    first = ops.convert_to_numpy(layer(IMAGES, training=True))
    second = ops.convert_to_numpy(layer(IMAGES, training=True))
    assert not np.array_equal(first, second)
    state.assign(before)
    again = ops.convert_to_numpy(layer(IMAGES, training=True))
    np.testing.assert_array_equal(first, again)
    other = RandomPadCrop(3, seed=5)(IMAGES, training=True)
    np.testing.assert_array_equal(first, ops.convert_to_numpy(other))


def test_input_keeps_its_dtype_under_mixed_precision():
    layer = RandomPadCrop(1, dtype="mixed_bfloat16")
    moved = layer(IMAGES.astype("float32"), training=True)
    assert keras.backend.standardize_dtype(moved.dtype) == "float32"


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_the_compiled_step(jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ compiler")
    model = keras.Sequential(
        [
            keras.Input((7, 9, 3), dtype="uint8"),
            RandomPadCrop(2, seed=0),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    state = model.layers[0].seed_generator.state
    assert any(state is v for v in model.variables)
    model.fit(IMAGES, np.arange(64) % 2, batch_size=24, epochs=2, verbose=0)
    assert ops.convert_to_numpy(state.value)[1] >= 6
    assert model.predict(IMAGES, verbose=0).shape == (64, 2)


def test_round_trip(tmp_path):
    layer = RandomPadCrop(3, seed=2, name="crop")
    again = RandomPadCrop.from_config(layer.get_config())
    assert (again.padding, again.seed, again.name) == (3, 2, "crop")
    model = keras.Sequential([keras.Input((7, 9, 3)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].padding == 3
    assert loaded.output_shape == (None, 7, 9, 3)


def test_unknown_sizes():
    outputs = RandomPadCrop(2)(keras.Input((None, None, 3)))
    assert outputs.shape == (None, None, None, 3)


def test_bad_arguments():
    for padding in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="`padding` must be an integer"):
            RandomPadCrop(padding)
    with pytest.raises(ValueError, match=r"Received: shape \(7, 9, 3\)"):
        RandomPadCrop(1)(IMAGES[0], training=True)


REPLICAS = """
    import numpy as np
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    from keras_polynets.layers.augmentation import RandomPadCrop

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = RandomPadCrop(4, seed=0)
    images = tf.constant(
        np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), np.uint8)
    )
    run = tf.function(
        lambda: strategy.run(lambda: layer(images, training=True))
    )
    seen = []
    for _ in range(2):
        seen += [t.numpy() for t in strategy.experimental_local_results(run())]
    for i in range(4):
        for j in range(i):
            assert not np.array_equal(seen[i], seen[j]), (i, j)
    alone = RandomPadCrop(4, seed=0)(images, training=True)
    assert np.array_equal(seen[0], alone)
    print("replicas draw apart")
"""


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="needs tf.distribute"
)
def test_replicas_draw_other_offsets():
    # Several strategies in one process disturb each other.
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REPLICAS)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "replicas draw apart" in run.stdout, run.stderr
