"""Local certificates of pn4: seconds for 10,000 images, and peak memory."""

import json
import statistics
import sys
import time

from benchmarks import measuring

EPSILON, SECONDS, GROWTH = 0.01, 20, 1.1
FEW, MANY = 1_000, 10_000


def main(argv=None):
    options = measuring.options(__doc__, argv)
    found = {count: [] for count in (FEW, MANY)}
    for _ in range(min(options.rounds, 3)):
        for count, values in found.items():
            values.append(in_a_fresh_process(count))
    what = f"pn4, projected, ε = {EPSILON:g}"
    times = [x["seconds"] for x in found[MANY]]
    rows = [
        measuring.row(f"{what}: {MANY:,} images", times),
        measuring.ratio(
            f"{what}: seconds", statistics.median(times), SECONDS, False
        ),
    ]
    peaks = {
        count: statistics.median(x["peak"] for x in values)
        for count, values in found.items()
    }
    rows += [
        measuring.row(f"peak RSS, {count:,} images", [peak], "MiB", 2**-20)
        for count, peak in peaks.items()
    ]
    growth = peaks[MANY] / peaks[FEW]
    rows.append(
        measuring.ratio(f"peak RSS, {MANY:,} / {FEW:,}", growth, GROWTH, False)
    )
    measuring.report("certificates", __doc__, rows)


def in_a_fresh_process(count):
    """Returns the seconds and the peak of certificates of so many images."""
    return measuring.run_json(
        sys.executable, "benchmarks.certificates", "--child", count
    )


def child(count):
    """Prints what it took, compilation aside."""
    import numpy as np

    from keras_polynets import data
    from keras_polynets import robustness
    from keras_polynets import zoo

    model = zoo.load("pn4.fashion_mnist_projected")
    dataset = data.load("fashion_mnist_sample")
    # The embedded test images, as often as it takes.
    chosen = np.arange(count) % len(dataset.y_test)
    x, y = model.preprocessor(dataset.x_test), dataset.y_test
    certify = robustness.certified_accuracy
    certify(model, (x[:32], y[:32]), EPSILON, verbose=0)
    x = np.asarray(x)[chosen]
    start = time.perf_counter()
    certify(model, (x, y[chosen]), EPSILON, verbose=0)
    seconds = time.perf_counter() - start
    peak = measuring.peak_memory()
    print(json.dumps({"seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(int(sys.argv[-1]))
    else:
        main()
