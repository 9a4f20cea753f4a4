"""What a network for spectrograms needs, so that it takes wave forms."""

from keras_polynets.layers.log_mel import LogMelSpectrogram

# A second at 16 kHz is 32 moments; another width is another length.
RATE, STRIDE, MOMENTS = 16_000, 512, 32


def check_shape(input_shape):
    """Raises a `ValueError` unless spectrograms can have that shape.

    Args:
        input_shape: Tuple (bands, moments, channels).
    """
    if None in input_shape or input_shape[-1] != 1:
        raise ValueError(
            "preprocessing='log_mel' needs an input_shape of (bands, moments, "
            f"1), all of them fixed. Received: input_shape={input_shape}"
        )


def make_preprocessor(input_shape, sampling_rate, output_range):
    """Returns the layer from wave forms to spectrograms of a shape.

    Args:
        input_shape: Tuple (bands, moments, 1).
        sampling_rate: Integer, samples a second of the stored waves.
        output_range: Pair of floats, what -80 and 0 decibels become.
    """
    bands, moments, _ = input_shape
    return LogMelSpectrogram(
        num_mel_bins=bands,
        num_samples=RATE + (moments - MOMENTS) * STRIDE,
        sampling_rate=RATE,
        input_rate=sampling_rate,
        sequence_stride=STRIDE,
        output_range=output_range,
        dtype="float32",
        name="preprocessor",
    )
