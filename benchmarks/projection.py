"""The projection of a 512 × 4608 matrix, beside a sort-based one in PyTorch."""

import statistics

import numpy as np

from benchmarks import measuring

UNITS, FAN_IN = 512, 4608
TARGET = 8
# The rows' norms are about 3,700: cut a little, and to almost nothing.
BOUNDS = (1000.0, 1.0)
TURNS = 3
OURS = "compiled (XLA), as in the step"


def main(argv=None):
    options = measuring.options(__doc__, argv)
    rows = []
    for bound in BOUNDS:
        rows += compare(bound, options)
    python = options.torch_python
    measuring.report("projection", __doc__, rows, python)


def compare(bound, options):
    """Returns the rows of one bound, PyTorch and ours in turn."""
    times, torch_times = [], []
    functions = {OURS: projection(bound)}
    for _ in range(TURNS):
        times += measuring.alternate(functions, options.rounds)[OURS]
        if options.torch_python:
            torch_times += measuring.run_json(
                options.torch_python,
                "benchmarks.torch_projection",
                bound,
                options.rounds,
                options.threads,
            )
    rows = [measuring.row(f"bound {bound:g}: {OURS}", times, "ms", 1e3)]
    if torch_times:
        rows.append(
            measuring.row(
                f"bound {bound:g}: PyTorch, sort", torch_times, "ms", 1e3
            )
        )
        quotient = statistics.median(torch_times) / statistics.median(times)
        rows.append(
            measuring.ratio(f"bound {bound:g}: times faster", quotient, TARGET)
        )
    return rows


def projection(bound):
    """Returns our projection, which XLA compiles as in the training step."""
    import tensorflow as tf

    from keras_polynets import constraints

    generator = np.random.default_rng(0)
    kernel = tf.constant(generator.normal(size=(FAN_IN, UNITS)), "float32")
    return lambda: constraints.project(kernel, bound).numpy()


if __name__ == "__main__":
    main()
