"""What a layer keeps for the backward pass: growth of the peak RSS a layer.

In activation sizes; every peak is that of a fresh process with a chain of equal
3 × 3 convolutions with ReLU. A first-order layer keeps its input (what the ReLU
before it keeps); a full quadratic one the values of both factors besides.
"""

import json
import statistics
import sys

from benchmarks import measuring

# One activation has 42 MB: the C library gives such blocks back when freed.
BATCH, SIZE, CHANNELS = 40, 128, 16
SHALLOW, DEEP = 3, 11
KINDS = ("first-order", "quadratic")
# What a quadratic layer keeps beside that of a first-order one.
FACTORS = 2
# 5 % for what is not the layers': plain convolutions do not measure 1 either.
TARGET = 1.05


def main(argv=None):
    title = __doc__.split("\n")[0]
    options = measuring.options(title, argv)
    growths = {kind: [] for kind in KINDS}
    for _ in range(min(options.rounds, 3)):
        for kind in KINDS:
            shallow, deep = (peak(kind, depth) for depth in (SHALLOW, DEEP))
            growths[kind].append((deep - shallow) / (DEEP - SHALLOW))
    rows = [
        measuring.row(f"{kind} layer", values, "activations")
        for kind, values in growths.items()
    ]
    first, second = (statistics.median(growths[kind]) for kind in KINDS)
    what = "quadratic / (first-order + the two factors)"
    value = second / (first + FACTORS)
    if promised():
        rows.append(measuring.ratio(what, value, TARGET, at_least=False))
    else:
        rows.append({"what": what, "median": value, "unit": ""})
    name = "quadratic_memory" if promised() else f"quadratic_memory_{backend()}"
    measuring.report(name, title, rows)


def promised():
    """Says whether the square is computed again, as on TensorFlow."""
    return backend() == "tensorflow"


def backend():
    import keras

    return keras.backend.backend()


def peak(kind, depth):
    """Returns the peak RSS of a training step, in activation sizes."""
    return measuring.run_json(
        sys.executable, "benchmarks.quadratic_memory", "--child", kind, depth
    )


def child(kind, depth):
    """Prints the peak of this process after two training steps."""
    step = training_step(chain(kind, depth))
    for _ in range(2):
        step()
    peak = measuring.peak_memory()
    print(json.dumps(peak / (4 * BATCH * SIZE * SIZE * CHANNELS)))


def chain(kind, depth):
    """Returns a model of equal convolutions, one behind the other."""
    import keras

    from keras_polynets import layers

    convolution = {
        "first-order": keras.layers.Conv2D,
        "quadratic": layers.QuadraticConv2D,
    }[kind]
    return keras.Sequential(
        [keras.Input((SIZE, SIZE, CHANNELS))]
        + [
            convolution(CHANNELS, 3, padding="same", activation="relu")
            for _ in range(depth)
        ]
    )


def training_step(model):
    """Returns a function that computes all gradients of a model once."""
    import keras
    from keras import ops

    x = keras.random.normal((BATCH, SIZE, SIZE, CHANNELS), seed=0)
    if keras.backend.backend() == "jax":
        import jax

        def loss(trainable, fixed, x):
            outputs, _ = model.stateless_call(
                trainable, fixed, x, training=True
            )
            return ops.mean(outputs**2)

        gradient = jax.jit(jax.grad(loss))
        trainable = [v.value for v in model.trainable_variables]
        fixed = [v.value for v in model.non_trainable_variables]
        return lambda: jax.block_until_ready(gradient(trainable, fixed, x))
    import tensorflow as tf

    variables = [v.value for v in model.trainable_variables]

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = ops.mean(model(x, training=True) ** 2)
        return tape.gradient(loss, variables)

    return lambda: gradient(x)[0].numpy()


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
