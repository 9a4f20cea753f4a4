"""Training of pn4 and pn10 by `fit`, beside a plain loop in PyTorch."""

import statistics

from benchmarks import measuring

BATCH_SIZE, EXAMPLES, TARGET = 64, 60_000, 5
TURNS = 3
# Long enough for `fit` to choose XLA.
EPOCHS = 11


def main(argv=None):
    options = measuring.options(__doc__, argv)
    rows = []
    for name, order in (("pn4", 4), ("pn10", 10)):
        rows += compare(name, order, options)
    python = options.torch_python
    measuring.report("training_throughput", __doc__, rows, python)


def compare(name, order, options):
    """Returns the rows of one model: ours, its products and PyTorch in turn."""
    ours, products, torch_times = [], [], {"tensors": [], "loader": []}
    epochs = -(-options.rounds // TURNS)
    for _ in range(TURNS):
        ours += fit_epochs(name, max(epochs, EPOCHS))
        products += products_epochs(order, epochs)
        if options.torch_python:
            found = measuring.run_json(
                options.torch_python,
                "benchmarks.torch_training",
                order,
                epochs,
                options.threads,
                "cuda" if options.gpu else "cpu",
            )
            for kind, part in found.items():
                torch_times[kind] += part
    rows = [rate(f"{name}: keras_polynets, fit", ours)]
    rows.append(rate(f"{name}: its two matrix products alone", products))
    for kind, label in (
        ("tensors", "PyTorch, loop over tensors in memory"),
        ("loader", "PyTorch, loop over a DataLoader"),
    ):
        if torch_times[kind]:
            rows.append(rate(f"{name}: {label}", torch_times[kind]))
            quotient = statistics.median(torch_times[kind])
            quotient /= statistics.median(ours)
            rows.append(
                measuring.ratio(f"{name}: times {label}", quotient, TARGET)
            )
            most = statistics.median(torch_times[kind])
            most /= statistics.median(products)
            rows.append(
                {
                    "what": f"{name}: times {label}, products alone",
                    "median": most,
                    "unit": "",
                }
            )
    return rows


def rate(what, times):
    """Returns a row in images a second."""
    values = [EXAMPLES / t for t in times]
    return measuring.row(what, values, "images/s")


def fit_epochs(name, epochs):
    """Returns the seconds of each epoch of one `fit`, after a warm-up."""
    import numpy as np

    from keras_polynets import data
    from keras_polynets import zoo

    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (EXAMPLES, 28, 28, 1)).astype("float32")
    y = generator.integers(0, 10, EXAMPLES, dtype="int32")
    model = zoo.load(name, weights=None)
    batches = data.Batches(x, y, BATCH_SIZE, seed=0)
    return measuring.epoch_seconds(model, batches, epochs)


def products_epochs(order, rounds, rank=16, pixels=784):
    """Returns the seconds that an epoch's matrix products alone take.

    One product with the images forward, one backward, and the update: what
    remains when all else of a step costs nothing.
    """
    import tensorflow as tf

    steps = EXAMPLES // BATCH_SIZE

    @tf.function(jit_compile=True)
    def epoch(x, kernel):
        def step(index, kernel):
            batch = x[index]
            gradient = tf.matmul(batch, batch @ kernel, transpose_a=True)
            return index + 1, kernel - 1e-6 * gradient

        return tf.while_loop(
            lambda index, _: index < steps, step, (tf.constant(0), kernel)
        )[1]

    generator = tf.random.Generator.from_seed(0)
    x = generator.uniform((steps, BATCH_SIZE, pixels), -1, 1)
    kernel = generator.normal((pixels, order * rank))
    times = measuring.alternate(
        {"products": lambda: epoch(x, kernel).numpy()}, rounds
    )["products"]
    # Of the short batch that ends an epoch, half as much.
    return [t * EXAMPLES / (steps * BATCH_SIZE) for t in times]


if __name__ == "__main__":
    main()
