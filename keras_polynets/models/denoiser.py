"""The base class of models whose output is an image without its noise."""

import keras
import numpy as np

from keras_polynets.metrics import PeakSignalToNoiseRatio
from keras_polynets.models.zoo_model import ZooModel


class Denoiser(ZooModel):
    """A model of the zoo from noisy images to images without noise.

    The loss is the mean squared error and the metric the peak signal-to-noise
    ratio. An exported model gives images in the range of stored data. See
    `ZooModel` for the arguments.
    """

    def make_loss(self):
        """Returns the mean squared error."""
        return keras.losses.MeanSquaredError()

    def make_metrics(self):
        """Returns the peak signal-to-noise ratio of `input_range`."""
        low, high = map(np.asarray, self.input_range)
        return [PeakSignalToNoiseRatio(float(np.max(high - low)))]

    def served_outputs(self, outputs):
        """Names the outputs: `"denoised"`, images in `data_range`.

        Args:
            outputs: Float32 tensor, what the model gives.

        Returns:
            Dictionary from a name to a tensor.
        """
        return {"denoised": self.to_data_range(outputs)}

    def to_data_range(self, images):
        """Takes images from `input_range` to `data_range`.

        The inverse of the preprocessor, without rounding and clipping.

        Args:
            images: Float tensor or array of images in `input_range`.

        Returns:
            The images in `data_range`.
        """
        (low, high), (data_low, data_high) = (
            map(np.asarray, pair)
            for pair in (self.input_range, self.data_range)
        )
        scale = (data_high - data_low) / (high - low)
        return images * scale + (data_low - scale * low)
