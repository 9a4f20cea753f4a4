"""What PeriodicProjection adds to a training step of pn10 (batch 64, XLA)."""

import statistics

import numpy as np

from benchmarks import measuring

BATCH_SIZE, EXAMPLES, STEPS = 64, 12_800, 2_000
STEPS_PER_EXECUTION = 50
# No row comes near the first bound; the second cuts every row of the start.
FEASIBLE, CUT = 1e6, 0.05
KINDS = {
    "every step, nothing to cut": (FEASIBLE, 1, 0.25),
    "every step, all rows cut": (CUT, 1, 0.50),
    "every 10 steps, nothing to cut": (FEASIBLE, 10, 0.05),
    "every 10 steps, all rows cut": (CUT, 10, 0.05),
}


def main(argv=None):
    options = measuring.options(__doc__, argv)
    plain = "without projection"
    # Twice the same: how far two models differ without any cause.
    epochs = {plain: epoch(None, 1), f"{plain}, again": epoch(None, 1)}
    for label, (bound, every, _) in KINDS.items():
        epochs[label] = epoch(bound, every)
    times = measuring.alternate(epochs, max(options.rounds, 9), warm_up=1)
    rows = [
        measuring.row(label, values, "ms a step", 1e3 / STEPS)
        for label, values in times.items()
    ]
    base = [
        (a + b) / 2
        for a, b in zip(times[plain], times[f"{plain}, again"], strict=True)
    ]
    for label in epochs:
        if label != plain:
            # Neighbours in time are compared, then their median is taken.
            added = statistics.median(
                t / b - 1 for t, b in zip(times[label], base, strict=True)
            )
            target = KINDS.get(label, (0, 0, 0.05))[2]
            rows.append(
                measuring.ratio(
                    f"added: {label}", added, target, at_least=False
                )
            )
    measuring.report("projection_cost", __doc__, rows)


def epoch(bound, every):
    """Returns a function that trains a model of its own for one epoch.

    It calls what `fit` calls, without leaving the epoch between two measures:
    a new `fit` would compile the step again.
    """
    from keras_polynets import callbacks
    from keras_polynets import data
    from keras_polynets import zoo

    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (EXAMPLES, 28, 28, 1)).astype("float32")
    y = generator.integers(0, 10, EXAMPLES, dtype="int32")
    model = zoo.load("pn10", weights=None)
    zoo.compile_model(
        model,
        {"name": "sgd", "learning_rate": 1e-4},
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile=True,
    )
    # What `fit` does with `Batches`: a block of steps is one computation.
    model.__dict__["_block_batch_size"] = BATCH_SIZE
    model.make_train_function()
    if bound is not None:
        callback = callbacks.PeriodicProjection(bound, every=every)
        callback.set_model(model)
        callback.set_params({"steps": STEPS})
        callback.on_train_begin()
        callback.on_epoch_begin(0)
    batches = data.Batches(x, y, BATCH_SIZE, seed=0)
    blocks = iter(batches.dataset(STEPS_PER_EXECUTION))
    function = model.train_function

    def run():
        for _ in range(STEPS // STEPS_PER_EXECUTION):
            logs = function(blocks)
        float(logs["loss"])

    return run


if __name__ == "__main__":
    main()
