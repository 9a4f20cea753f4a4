"""Training of convolutional networks by `fit`, beside plain PyTorch."""

import statistics

from benchmarks import measuring

BATCH_SIZE = 128
# Of one epoch, all of them one execution.
STEPS = 4
TURNS = 3
# The name, the times that PyTorch's images a second are asked for, and the
# network of first order that is timed beside it.
MODELS = {
    "qresnet20": (1.5, "resnet20", {}),
    "quadratic_vgg7": (1.5, "quadratic_vgg7", {"neuron": None}),
    "prodpoly_resnet18": (
        1.0,
        "prodpoly_resnet18",
        {"order": 1, "operand_map": None, "product_map": None},
    ),
}


def main(argv=None):
    options = measuring.options(__doc__, argv)
    rows = [peak(options)]
    for name, (target, twin, changes) in MODELS.items():
        rows += compare(name, target, (twin, changes), rows[0], options)
    measuring.report("convolutional_throughput", __doc__, rows)


def compare(name, target, twin, products, options):
    """Returns the rows of one network: ours, its twin and PyTorch in turn."""
    epochs = -(-options.rounds // TURNS)
    trainers = {"ours": trainer(name, {}), "twin": trainer(*twin)}
    ours, first_order, torch_times = [], [], {}
    for _ in range(TURNS):
        ours += trainers["ours"](epochs)
        first_order += trainers["twin"](epochs)
        if options.torch_python:
            found = measuring.run_json(
                options.torch_python,
                "benchmarks.torch_convolutional",
                name,
                BATCH_SIZE,
                epochs,
                options.threads,
                "cuda" if options.gpu else "cpu",
            )
            if found.pop("parameters") != trainers["ours"].parameters:
                raise ValueError(f"PyTorch's {name} is another network.")
            for layout, part in found.items():
                torch_times.setdefault(layout, []).extend(part)
    step = statistics.median(ours) / STEPS
    rows = [
        rate(f"{name}: keras_polynets, fit", ours, STEPS),
        rate(f"{name}: its first-order twin", first_order, STEPS),
        {
            "what": f"{name}: seconds a step, times its twin's",
            "median": step * STEPS / statistics.median(first_order),
            "unit": "",
        },
        {
            "what": f"{name}: share of the products' multiply-adds a second",
            "median": 3
            * trainers["ours"].work
            * BATCH_SIZE
            / step
            / (products["median"] * 1e9),
            "unit": "",
        },
    ]
    for layout, times in torch_times.items():
        rows.append(rate(f"{name}: PyTorch, {layout}", times))
    if torch_times:
        best = min(map(statistics.median, torch_times.values()))
        label = f"{name}: times PyTorch's images a second, better layout"
        rows.append(measuring.ratio(label, best / step, target))
    return rows


def rate(what, times, steps=1):
    """Returns a row in images a second."""
    values = [steps * BATCH_SIZE / t for t in times]
    return measuring.row(what, values, "images/s")


def trainer(name, changes):
    """Returns a function from a number of epochs to the seconds of each."""
    import numpy as np

    from keras_polynets import analysis
    from keras_polynets import zoo

    model = zoo.load(name, weights=None, **changes)
    model.compile(
        model.optimizer,
        model.make_loss(),
        steps_per_execution=STEPS,
        jit_compile=False,
    )
    generator = np.random.default_rng(0)
    shape = (STEPS * BATCH_SIZE, *model.input_shape[1:])
    x = generator.uniform(-1, 1, shape).astype("float32")
    y = generator.integers(0, model.output_shape[-1], len(x))

    def train(epochs):
        return measuring.epoch_seconds(
            model, x, epochs, y=y, batch_size=BATCH_SIZE
        )

    train.parameters = sum(
        w.size for w in map(np.array, model.trainable_weights)
    )
    train.work = analysis.summary(model).multiply_adds
    return train


def peak(options, size=2048):
    """Returns the multiply-adds a second of a large matrix product."""
    import tensorflow as tf

    x = tf.random.normal((size, size))
    product = tf.function(lambda: tf.matmul(x, x))
    times = measuring.alternate(
        {"product": lambda: product().numpy()}, options.rounds
    )["product"]
    return measuring.row(
        f"matrix product of {size} × {size}, float32",
        [size**3 / t / 1e9 for t in times],
        "10⁹ multiply-adds/s",
    )


if __name__ == "__main__":
    main()
