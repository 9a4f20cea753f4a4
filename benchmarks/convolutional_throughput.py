"""Training of convolutional networks by `fit`, beside plain PyTorch.

`--networks prodpoly_resnet18 --steps 2` measures one of them, in minutes.
"""

import statistics

from benchmarks import measuring

BATCH_SIZE = 128
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
# Networks whose products are layers, which can be left out; and how much longer
# a step with them may take.
PRODUCTS, PRODUCT_COST = ("prodpoly_resnet18",), 1.05


def main(argv=None):
    options = measuring.options(
        __doc__,
        argv,
        networks={
            "nargs": "+",
            "choices": MODELS,
            "default": list(MODELS),
            "help": "those to time (default: all)",
        },
        steps={
            "type": int,
            "default": 4,
            "help": "of one epoch, all of them one execution (default: 4)",
        },
    )
    rows = [peak(options)]
    for name in options.networks:
        rows += compare(name, rows[0], options)
    python = options.torch_python
    measuring.report("convolutional_throughput", __doc__, rows, python)


def compare(name, products, options):
    """Returns the rows of one network: ours, what it is made of, PyTorch."""
    target, *twin = MODELS[name]
    epochs = -(-options.rounds // TURNS)
    trainers = {
        "ours": trainer(name, {}, options.steps),
        "twin": trainer(*twin, options.steps),
    }
    if name in PRODUCTS:
        for label, change in (("bare", {}), ("linear", {"activation": None})):
            trainers[label] = trainer(name, change, options.steps, False)
    times, torch_times = {label: [] for label in trainers}, {}
    for _ in range(TURNS):
        for label, train in trainers.items():
            times[label] += [t / options.steps for t in train(epochs)]
        for layout, part in torch_steps(name, trainers, epochs, options):
            torch_times.setdefault(layout, []).extend(part)
    step = {label: statistics.median(found) for label, found in times.items()}
    work = 3 * trainers["ours"].work * BATCH_SIZE / step["ours"]
    rows = [
        rate(f"{name}: keras_polynets, fit", times["ours"]),
        rate(f"{name}: its first-order twin", times["twin"]),
        number(
            f"{name}: seconds a step, times its twin's",
            step["ours"] / step["twin"],
        ),
        number(
            f"{name}: share of the products' multiply-adds a second",
            work / (products["median"] * 1e9),
        ),
    ]
    if "bare" in trainers:
        rows += parts(name, times, step)
    for layout, found in torch_times.items():
        rows.append(rate(f"{name}: PyTorch, {layout}", found))
    if torch_times:
        best = min(map(statistics.median, torch_times.values()))
        label = f"{name}: times PyTorch's images a second, better layout"
        rows.append(measuring.ratio(label, best / step["ours"], target))
    return rows


def torch_steps(name, trainers, steps, options):
    """Returns pairs of a layout and PyTorch's seconds of each step."""
    if not options.torch_python:
        return ()
    found = measuring.run_json(
        options.torch_python,
        "benchmarks.torch_convolutional",
        name,
        BATCH_SIZE,
        steps,
        options.threads,
        "cuda" if options.gpu else "cpu",
    )
    if found.pop("parameters") != trainers["ours"].parameters:
        raise ValueError(f"PyTorch's {name} is another network.")
    return found.items()


def parts(name, times, step):
    """Returns the rows that say where a step's time goes.

    Without products a block is relu(s + F + L(X s)): every convolution and
    every normalisation is there, and no F * X s.
    """
    return [
        rate(f"{name}: without its products", times["bare"]),
        rate(f"{name}: without products and activations", times["linear"]),
        measuring.ratio(
            f"{name}: seconds a step, times those without its products",
            step["ours"] / step["bare"],
            PRODUCT_COST,
            at_least=False,
        ),
        number(
            f"{name}: times those without products and activations",
            step["ours"] / step["linear"],
        ),
    ]


def number(what, value):
    """Returns a row of one number."""
    return {"what": what, "median": value, "unit": ""}


def rate(what, times):
    """Returns a row in images a second, of the seconds of steps."""
    values = [BATCH_SIZE / t for t in times]
    return measuring.row(what, values, "images/s")


def trainer(name, changes, steps, with_products=True):
    """Returns a function from a number of epochs to the seconds of each.

    Args:
        name: The name of the network.
        changes: Arguments of `zoo.load`.
        steps: The steps of an epoch, one execution.
        with_products: Whether the network keeps its Hadamard products.
    """
    import numpy as np

    from keras_polynets import analysis
    from keras_polynets import data
    from keras_polynets import zoo

    model = source = zoo.load(name, weights=None, **changes)
    if not with_products:
        model = without_products(source)
    model.compile(
        source.optimizer,
        source.make_loss(),
        steps_per_execution=steps,
        jit_compile=False,
    )
    generator = np.random.default_rng(0)
    shape = (steps * BATCH_SIZE, *model.input_shape[1:])
    x = generator.uniform(-1, 1, shape).astype("float32")
    y = generator.integers(0, model.output_shape[-1], len(x))
    batches = data.Batches(x, y, BATCH_SIZE, seed=0).dataset()

    def train(epochs):
        return measuring.epoch_seconds(
            model, batches, epochs, steps_per_epoch=steps
        )

    train.parameters = sum(w.numpy().size for w in model.trainable_weights)
    train.work = analysis.summary(model).multiply_adds
    return train


def without_products(model):
    """Returns a network whose products are their second factor alone."""
    import keras

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.Multiply):
            return args[0][1]
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, call_function=call)


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
