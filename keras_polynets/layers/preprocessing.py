"""Preprocessing of stored data that Keras has no layer for."""

import keras
from keras import ops

# Means of ImageNet's blue, green and red, in grey levels.
CAFFE_MEAN = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable(package="keras_polynets")
class CaffePreprocessing(keras.layers.Layer):
    """Turns RGB into BGR and subtracts ImageNet's mean colour.

    The same as `keras.applications.resnet.preprocess_input`, as a layer that
    is saved and exported with a model. The values stay grey levels.

    Args:
        mean: Three numbers, the mean of blue, green and red.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`.

    Input shape:
        Images of shape `(..., 3)` in 0 to 255, integers or floats.

    Output shape:
        Floats of the same shape.

    Example:

    >>> layer = CaffePreprocessing()
    >>> layer(np.array([[123.68, 116.779, 255.0]]))
    [[151.061, 0.0, 0.0]]
    """

    def __init__(self, mean=CAFFE_MEAN, **kwargs):
        super().__init__(**kwargs)
        self.mean = tuple(map(float, mean))

    def call(self, inputs):
        images = ops.cast(inputs, self.compute_dtype)
        return ops.flip(images, axis=-1) - ops.convert_to_tensor(
            self.mean, self.compute_dtype
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def polynomial_degree(self, degrees):
        """Returns the degree of the output, given those of the inputs."""
        return degrees[0]

    def get_config(self):
        return {**super().get_config(), "mean": self.mean}
