"""Attacks on trained networks, beside plain loops in PyTorch."""

import pathlib
import statistics
import tempfile

from benchmarks import measuring

TARGET = 3
PGD_SECONDS, APGD_SECONDS = 20, 180
TURNS = 3


def main(argv=None):
    options = measuring.options(__doc__, argv)
    tags = ("fashion_mnist", "fashion_mnist_projected")
    rows = pgd_rows(options, TURNS)
    for tag in tags:
        rows += apgd_rows(f"pn_conv.{tag}", options)
    python = options.torch_python
    measuring.report("attacks", __doc__, rows, python)


def pgd_rows(options, turns):
    """Returns the rows of PGD-20 on 10,000 images with pn4."""
    model, images, labels = prepare("pn4.fashion_mnist", 2_000)
    # The embedded test images, five times.
    images, labels = images.repeat(5, axis=0), labels.repeat(5, axis=0)
    ours, theirs = [], []
    attack = "pgd:0.1,20,0.01"
    accuracy(model, images[:500], labels[:500], attack)
    for _ in range(turns):
        times = [
            measuring.seconds(lambda: accuracy(model, images, labels, attack))
            for _ in range(-(-options.rounds // turns))
        ]
        ours += times
        theirs += in_torch(
            "pn4", "pgd", model, images, labels, len(times), options
        )
    what = "pn4, PGD-20 on 10,000 images"
    rows = [measuring.row(what, ours)]
    rows.append(
        measuring.ratio(
            f"{what}: seconds", statistics.median(ours), PGD_SECONDS, False
        )
    )
    return rows + compared(what, ours, theirs)


def apgd_rows(name, options):
    """Returns the rows of APGD-T with 100 steps and one target class."""
    attack = "apgd_t:0.1,100,targets=1"
    model, images, labels = prepare(name, 1_000)
    accuracy(model, images[:20], labels[:20], attack)
    ours = [measuring.seconds(lambda: accuracy(model, images, labels, attack))]
    what = f"{name}, APGD-T of 100 steps, a target class, 1,000 images"
    rows = [measuring.row(what, ours)]
    rows.append(
        measuring.ratio(f"{what}: seconds", ours[0], APGD_SECONDS, False)
    )
    theirs = in_torch("pn_conv", "apgd_t", model, images, labels, 1, options)
    return rows + compared(what, ours, theirs)


def compared(what, ours, theirs):
    """Returns the rows that compare with PyTorch, none without it."""
    if not theirs:
        return []
    quotient = statistics.median(theirs) / statistics.median(ours)
    return [
        measuring.row(f"{what}: PyTorch, plain loop", theirs),
        measuring.ratio(f"{what}: times PyTorch", quotient, TARGET),
    ]


def prepare(name, count):
    """Returns a model, real test images in its units, and their labels."""
    import numpy as np

    from keras_polynets import data
    from keras_polynets import zoo

    model = zoo.load(name)
    dataset = data.load("fashion_mnist_sample")
    images = np.asarray(model.preprocessor(dataset.x_test[:count]))
    return model, images, np.asarray(dataset.y_test[:count])


def accuracy(model, images, labels, attack):
    """Returns the accuracy under an attack."""
    from keras_polynets import robustness

    return robustness.robust_accuracy(
        model, (images, labels), attack, verbose=0
    )


def in_torch(name, attack, model, images, labels, rounds, options):
    """Returns the seconds of the same attack on the same weights in PyTorch."""
    if not options.torch_python:
        return []
    import numpy as np

    arrays = {"images": images, "labels": labels}
    for variable in model.variables:
        layer, kind = variable.path.split("/")[-2:]
        layer = "output" if layer in ("output_map", "head") else layer
        key = layer if kind == "kernel" else f"{layer}_bias"
        arrays[key] = np.array(variable.numpy())
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "problem.npz"
        np.savez(path, **arrays)
        found = measuring.run_json(
            options.torch_python,
            "benchmarks.torch_attacks",
            name,
            attack,
            path,
            rounds,
            options.threads,
        )
    print(f"{name}, {attack}: PyTorch leaves {found['accuracy']:.4f}")
    return found["seconds"]


if __name__ == "__main__":
    main()
