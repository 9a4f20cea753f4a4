"""The fused batch normalisation is Keras's."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers


def pair(shape, **kwargs):
    """Returns this layer and Keras's, with the same drawn variables."""
    both = (
        layers.BatchNormalization(**kwargs),
        keras.layers.BatchNormalization(**kwargs),
    )
    for layer in both:
        layer.build(shape)
        rng = np.random.default_rng(0)
        layer.set_weights(
            [rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()]
        )
    return both


def images(shape=(5, 6, 7, 3), dtype="float32"):
    x = np.random.default_rng(1).normal(2, 3, shape)
    return ops.convert_to_tensor(x, dtype)


@pytest.mark.parametrize("kwargs", [{}, {"center": False, "scale": False}])
@pytest.mark.parametrize("shape", [(5, 6, 7, 3), (1, 1, 2, 3)])
@pytest.mark.parametrize("training", [False, True])
def test_equals_keras(kwargs, shape, training):
    ours, theirs = pair(shape, momentum=0.9, epsilon=1e-5, **kwargs)
    x = images(shape)
    got, expected = (
        ops.convert_to_numpy(layer(x, training=training))
        for layer in (ours, theirs)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_statistics_are_those_of_numpy():
    ours, _ = pair((None, 6, 7, 3), momentum=0.75)
    mean, variance = ours.get_weights()[2:]
    x = images()
    ours(x, training=True)
    x = ops.convert_to_numpy(x).astype("float64")
    np.testing.assert_allclose(
        ours.get_weights()[2:],
        [
            0.75 * mean + 0.25 * x.mean((0, 1, 2)),
            0.75 * variance + 0.25 * x.var((0, 1, 2)),
        ],
        rtol=1e-5,
    )


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="reads TensorFlow's graph"
)
class TestOnTensorFlow:
    def kinds(self, layer, shape=(2, 4, 4, 3), **kwargs):
        """Returns the kinds of the operations of a call in training."""
        import tensorflow as tf

        function = tf.function(lambda x: layer(x, training=True, **kwargs))
        graph = function.get_concrete_function(
            tf.TensorSpec(shape, layer.compute_dtype)
        ).graph
        return {operation.type for operation in graph.get_operations()}

    @pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
    def test_is_fused(self, dtype):
        layer = layers.BatchNormalization(dtype=dtype)
        assert "FusedBatchNormV3" in self.kinds(layer)

    @pytest.mark.parametrize(
        ("kwargs", "shape"),
        [
            ({"axis": 1}, (2, 4, 4, 3)),
            ({"dtype": "float64"}, (2, 4, 4, 3)),
            ({"synchronized": True}, (2, 4, 4, 3)),
            ({"trainable": False}, (2, 4, 4, 3)),
            ({}, (2, 3)),
        ],
    )
    def test_is_keras_where_the_kernel_does_other_things(self, kwargs, shape):
        layer = layers.BatchNormalization(**kwargs)
        assert "FusedBatchNormV3" not in self.kinds(layer, shape)

    def test_is_keras_with_a_mask(self):
        layer = layers.BatchNormalization()
        mask = ops.ones((2, 4, 4), "bool")
        assert "FusedBatchNormV3" not in self.kinds(layer, mask=mask)

    def test_first_and_second_derivatives_equal_those_of_keras(self):
        import tensorflow as tf

        x = images()
        weights = images((5, 6, 7, 3))
        found = []
        for layer in pair((None, 6, 7, 3)):
            gamma = layer.gamma.value
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    y = tf.reduce_sum(weights * layer(x, training=True) ** 2)
                first, of_gamma = inner.gradient(y, [x, gamma])
                penalty = tf.reduce_sum(first**2)
            found.append([first, of_gamma, outer.gradient(penalty, x)])
        for got, expected in zip(*found, strict=True):
            scale = np.max(np.abs(expected))
            np.testing.assert_allclose(got, expected, atol=1e-4 * scale)
