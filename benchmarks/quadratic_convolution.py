"""A training step of a full quadratic convolution, beside plain ones."""

import statistics

from benchmarks import measuring

# Batch, height and width, channels in and out, window, stride.
SHAPES = (
    (64, 32, 16, 16, 3, 1),
    (64, 32, 16, 32, 3, 2),
    (64, 16, 32, 32, 3, 1),
    (64, 8, 64, 64, 3, 1),
    (32, 16, 128, 128, 3, 1),
    (16, 32, 15, 15, 5, 1),
    (32, 16, 128, 256, 1, 1),
)
ROLES = ("linear", "gate", "power")
# The work of three convolutions; the square, the product and the sums are
# what may come on top.
TARGET = 1.1


def main(argv=None):
    options = measuring.options(__doc__, argv)
    rows = []
    for shape in SHAPES:
        rows += compare(shape, max(options.rounds, 9))
    measuring.report("quadratic_convolution", __doc__, rows)


def compare(shape, rounds):
    """Returns the rows of one shape."""
    batch, size, channels, filters, window, stride = shape
    label = (
        f"{batch} × {size}² × {channels} → {filters}, "
        f"{window} × {window}, stride {stride}"
    )
    times = measuring.alternate(steps(shape), rounds, warm_up=3)
    rows = [
        measuring.row(f"{label}: {kind}", values, "ms", 1e3)
        for kind, values in times.items()
    ]
    medians = {kind: statistics.median(v) for kind, v in times.items()}
    alone = sum(medians[f"convolution {role}"] for role in ROLES)
    rows.append(
        measuring.ratio(
            f"{label}: quadratic / sum of three convolutions alone",
            medians["quadratic"] / alone,
            TARGET,
            at_least=False,
        )
    )
    together = medians["quadratic"] / medians["three in one graph"]
    rows.append(
        {
            "what": f"{label}: quadratic / three in one graph",
            "median": together,
            "unit": "",
        }
    )
    return rows


def steps(shape):
    """Returns the steps to time: dictionary from a kind to a function."""
    import keras
    import tensorflow as tf

    from keras_polynets import layers

    batch, size, channels, filters, window, stride = shape
    arguments = (filters, window, stride, "same")
    quadratic = layers.QuadraticConv2D(
        *arguments,
        gate_kernel_initializer="glorot_uniform",
        power_kernel_initializer="glorot_uniform",
    )
    plain = [keras.layers.Conv2D(*arguments) for _ in ROLES]
    generator = tf.random.Generator.from_seed(0)
    x = generator.normal((batch, size, size, channels))
    upstream = generator.normal(quadratic.compute_output_shape(x.shape))

    def step(*kind):
        """Forward, then the gradients to the input and to the weights."""
        for layer in kind:
            layer(x)
        variables = [v for layer in kind for v in layer.trainable_variables]
        return measuring.gradient_step(kind, variables, x, upstream)

    return {
        "quadratic": step(quadratic),
        **{
            f"convolution {role}": step(layer)
            for role, layer in zip(ROLES, plain, strict=True)
        },
        "three in one graph": step(*plain),
    }


if __name__ == "__main__":
    main()
