"""The projection of a 512 × 4608 matrix, beside a sort-based one in PyTorch."""

import statistics

import numpy as np

from benchmarks import measuring

UNITS, FAN_IN = 512, 4608
TARGET = 8
# The rows' norms are about 3,700: cut a little, and to almost nothing.
BOUNDS = (1000.0, 1.0)
TURNS = 3


def main(argv=None):
    options = measuring.options(__doc__, argv)
    rows = []
    for bound in BOUNDS:
        rows += compare(bound, options)
    measuring.report("projection", __doc__, rows)


def compare(bound, options):
    """Returns the rows of one bound, PyTorch and ours in turn."""
    times, torch_times = {}, []
    functions = projections(bound)
    for _ in range(TURNS):
        for label, part in measuring.alternate(
            functions, options.rounds
        ).items():
            times.setdefault(label, []).extend(part)
        if options.torch_python:
            torch_times += measuring.run_json(
                options.torch_python,
                "benchmarks.torch_projection",
                bound,
                options.rounds,
                options.threads,
            )
    rows = [
        measuring.row(f"bound {bound:g}: {label}", values, "ms", 1e3)
        for label, values in times.items()
    ]
    if torch_times:
        rows.append(
            measuring.row(
                f"bound {bound:g}: PyTorch, sort", torch_times, "ms", 1e3
            )
        )
        ours = statistics.median(times["compiled (XLA), as in the step"])
        quotient = statistics.median(torch_times) / ours
        rows.append(
            measuring.ratio(f"bound {bound:g}: times faster", quotient, TARGET)
        )
    return rows


def projections(bound):
    """Returns our projection, compiled with and without XLA."""
    import tensorflow as tf

    from keras_polynets import constraints

    generator = np.random.default_rng(0)
    kernel = tf.constant(generator.normal(size=(FAN_IN, UNITS)), "float32")

    def compiled(**options):
        function = tf.function(
            lambda w: constraints.project(w, bound), **options
        )
        return lambda: function(kernel).numpy()

    return {
        "compiled (XLA), as in the step": compiled(jit_compile=True),
        "tf.function without XLA": compiled(),
    }


if __name__ == "__main__":
    main()
