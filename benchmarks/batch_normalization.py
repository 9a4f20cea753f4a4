"""A training step of batch normalisation, fused and composed by Keras."""

import functools
import statistics

from benchmarks import measuring

# Batch, height and width, channels: those of resnet20 and resnet18.
SHAPES = ((128, 32, 16), (128, 16, 32), (128, 8, 64), (64, 32, 64))


def main(argv=None):
    options = measuring.options(__doc__, argv)
    rows = []
    for shape in SHAPES:
        batch, size, channels = shape
        label = f"{batch} × {size}² × {channels}"
        times = measuring.alternate(steps(shape), options.rounds, warm_up=3)
        rows += [
            measuring.row(f"{label}: {kind}", values, "ms", 1e3)
            for kind, values in times.items()
        ]
        keras_time, ours = map(statistics.median, times.values())
        rows.append(
            {
                "what": f"{label}: Keras / keras_polynets",
                "median": keras_time / ours,
                "unit": "",
            }
        )
    measuring.report("batch_normalization", __doc__, rows)


def steps(shape):
    """Returns the steps to time: dictionary from a kind to a function."""
    import keras
    import tensorflow as tf

    from keras_polynets import layers

    batch, size, channels = shape
    generator = tf.random.Generator.from_seed(0)
    x, upstream = (
        generator.normal((batch, size, size, channels)) for _ in range(2)
    )

    def step(layer):
        layer.build(x.shape)
        return measuring.gradient_step(
            [functools.partial(layer, training=True)],
            layer.trainable_variables,
            x,
            upstream,
        )

    return {
        "Keras": step(keras.layers.BatchNormalization()),
        "keras_polynets": step(layers.BatchNormalization()),
    }


if __name__ == "__main__":
    main()
