"""Pooled maps of `CCPConv2D`: one strided convolution, or two layers.

A training step has the gradients to the input and the kernel, a step of an
attack that to the input alone.
"""

import statistics

from benchmarks import measuring

# Batch, height and width, channels, window: PN-Conv on Fashion-MNIST, CIFAR-10.
SHAPES = ((128, 28, 16, 7), (128, 32, 16, 7))
ORDER, POOL_AFTER = 4, (2, 3)


def main(argv=None):
    options = measuring.options(__doc__, argv)
    rows = []
    for shape in SHAPES:
        batch, size, channels, window = shape
        label = f"{batch} × {size}² × {channels}, window {window}"
        for name, functions in steps(shape).items():
            times = measuring.alternate(functions, options.rounds, warm_up=3)
            rows += [
                measuring.row(f"{label}, {name}: {kind}", values, "ms", 1e3)
                for kind, values in times.items()
            ]
            two, one = map(statistics.median, times.values())
            what = f"{label}, {name}: two layers / one convolution"
            rows.append(measuring.ratio(what, two / one, 1.2))
    measuring.report("pooled_convolution", __doc__, rows)


def steps(shape):
    """Returns the steps to time: from a name and a kind to a function."""
    import tensorflow as tf

    from keras_polynets import layers

    batch, size, channels, window = shape
    layer = layers.CCPConv2D(channels, window, ORDER, pool_after=POOL_AFTER)
    generator = tf.random.Generator.from_seed(0)
    x = generator.normal((batch, size, size, channels))
    upstream = generator.normal(layer(x).shape)
    kinds = {
        "two layers": lambda x: convolved_and_pooled(layer, x),
        "one convolution": layer,
    }
    names = {"a training step": layer.trainable_variables, "an attack's": []}
    return {
        name: {
            kind: measuring.gradient_step([function], variables, x, upstream)
            for kind, function in kinds.items()
        }
        for name, variables in names.items()
    }


def convolved_and_pooled(layer, x):
    """Returns what the layer yields, by its convolution and its pooling."""
    from keras import ops

    from keras_polynets.layers import recursions

    factors = ops.split(layer.factors(x), layer.order, axis=-1)
    for n in layer.pool_after:
        factors[n:] = [layer.pooling(factor) for factor in factors[n:]]
    return recursions.ccp(
        factors,
        between=lambda n, y: layer.pooling(y) if n in layer.pool_after else y,
    )


if __name__ == "__main__":
    main()
