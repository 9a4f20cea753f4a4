"""The main job, end to end: `make demo`, or `python -m training.demo`.

Trains pn4 of the zoo on real Fashion-MNIST images with and without the
projection, attacks both, bounds both, draws figures, and serves the result.
Under 5 minutes on two cores. Everything is written to `demo-output/`.
"""

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

EPOCHS = 20
BATCH_SIZE = 64
BOUND = 2.0
EPSILONS = (0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
ATTACKS = {"FGSM": "fgsm:0.1", "PGD": "pgd:0.1,20,0.01"}
CLASSIFIED = 8

# What a client of the served model runs: TensorFlow and nothing else of ours.
CLIENT = """
import json, pathlib, sys
sys.modules["keras"] = sys.modules["keras_polynets"] = None
import numpy as np
import tensorflow as tf

served = tf.saved_model.load(sys.argv[1])
about = pathlib.Path(sys.argv[1], "assets.extra", "keras_polynets.json")
names = json.loads(about.read_text())["class_names"]
images = np.load(sys.argv[2], allow_pickle=False)
for row in served.serve_raw(images)["probabilities"].numpy():
    print(f"{names[row.argmax()]},{row.max():.3f}")
"""


def main(argv=None):
    """Runs the demonstration.

    Args:
        argv: List of the words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default="demo-output")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args(argv)
    begin = time.monotonic()
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)

    announce("Starting TensorFlow, with the CPU as two devices")
    with quiet_start():
        import keras_polynets

        strategy = keras_polynets.distribute.strategy("mirrored", devices=2)
    print(f"MirroredStrategy on {strategy.num_replicas_in_sync} CPU devices")

    announce("Loading the images")
    dataset = keras_polynets.data.load("fashion_mnist_sample")
    print(dataset.source)

    histories, models = {}, {}
    for label, bound in (
        ("without projection", None),
        (f"with projection (bound {BOUND:g})", BOUND),
    ):
        announce(f"Training pn4 {label}")
        models[label], histories[label] = train(
            strategy, dataset, bound, arguments.epochs
        )

    announce("Attacking both models")
    results = {label: attack(m, dataset, label) for label, m in models.items()}
    print_results(results, len(dataset.y_test))

    announce("Drawing the figures")
    figures = draw(output, dataset, models, histories)

    announce("Exporting the projected model and serving it")
    served = serve(output, dataset, models[label])

    seconds = time.monotonic() - begin
    announce(f"Done in {seconds:.0f} s. The results are in {output.resolve()}")
    for path in (*figures, served):
        print(f"  {path}")


def train(strategy, dataset, bound, epochs):
    """Trains pn4 under the strategy and returns it with its history."""
    import keras

    from keras_polynets import callbacks
    from keras_polynets import data
    from keras_polynets import schedules
    from keras_polynets import zoo

    keras.utils.set_random_seed(0)
    kept, held_out = data.stratified_split(dataset.y_train, 1000, seed=0)
    rate = schedules.step_decay(
        0.0015,
        factor=0.2,
        epochs=[epochs // 2, epochs * 3 // 4] if epochs > 3 else [],
        steps_per_epoch=-(-len(kept) // BATCH_SIZE),
    )
    with strategy.scope():
        model = zoo.load(
            "pn4", weights=None, class_names=list(dataset.class_names)
        )
        zoo.compile_model(
            model, {"name": "sgd", "learning_rate": rate, "momentum": 0.9}
        )
    projection = (
        [callbacks.PeriodicProjection(bound, every=10)] if bound else []
    )
    history = model.fit(
        prepared(model, dataset.x_train[kept]),
        dataset.y_train[kept],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=(
            prepared(model, dataset.x_train[held_out]),
            dataset.y_train[held_out],
        ),
        validation_batch_size=500,
        callbacks=projection,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    # The attacks and the export want one copy of the weights, on one device.
    single = zoo.load(
        "pn4", weights=None, class_names=list(dataset.class_names)
    )
    single.set_weights(model.get_weights())
    return single, history


def attack(model, dataset, label):
    """Returns the accuracies on all test images and the Lipschitz bound."""
    from keras_polynets import robustness

    test = dataset.x_test, dataset.y_test
    results = {}
    for name, text in {"clean": None, **ATTACKS}.items():
        print(f"{name}, {label}: {len(dataset.y_test):,} test images")
        results[name] = robustness.robust_accuracy(model, test, text)
    results["bound"] = robustness.lipschitz_bound(model)
    return results


def print_results(results, count):
    """Prints a table with a column a model."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column(f"all {count:,} test images")
    for label in results:
        table.add_column(f"pn4 {label}", justify="right")
    names = {"clean": "clean accuracy"} | {
        key: f"accuracy under {key} ({text})" for key, text in ATTACKS.items()
    }
    for key, name in names.items():
        values = (f"{100 * result[key]:.2f} %" for result in results.values())
        table.add_row(name, *values)
    table.add_row(
        "Lipschitz bound (ℓ∞)",
        *(f"{result['bound']:,.0f}" for result in results.values()),
    )
    Console(width=100, highlight=False).print(table)


def draw(output, dataset, models, histories):
    """Writes the three figures and returns their paths."""
    from keras_polynets import plots
    from keras_polynets import robustness

    test = dataset.x_test, dataset.y_test
    curves = output / "training_curves.png"
    plots.training_curves(histories, curves)

    accuracies = {
        label: {
            epsilon: robustness.robust_accuracy(
                model, test, f"fgsm:{epsilon}" if epsilon else None, verbose=0
            )
            for epsilon in EPSILONS
        }
        for label, model in models.items()
    }
    against_epsilon = output / "accuracy_against_epsilon.png"
    plots.accuracy_against_epsilon(
        accuracies, against_epsilon, attack="FGSM attack"
    )

    model = next(iter(models.values()))
    images = prepared(model, dataset.x_test[:CLASSIFIED])
    labels = dataset.y_test[:CLASSIFIED]
    adversarial = robustness.parse_attack(ATTACKS["PGD"])(model, images, labels)
    grid = output / "adversarial_images.png"
    plots.adversarial_grid(
        images,
        adversarial,
        labels,
        model.predict(adversarial, verbose=0),
        dataset.class_names,
        grid,
    )
    return curves, against_epsilon, grid


def serve(output, dataset, model):
    """Exports the model and classifies images with it in a new process."""
    import numpy as np

    from keras_polynets import export

    served = export.saved_model(model, output / "pn4" / "1", overwrite=True)
    images = output / "images.npy"
    np.save(images, dataset.x_test[:CLASSIFIED])
    client = subprocess.run(
        [sys.executable, "-c", CLIENT, str(served), str(images)],
        capture_output=True,
        text=True,
    )
    if client.returncode:
        raise RuntimeError(f"The served model failed:\n{client.stderr}")
    print("A process that cannot import keras or keras_polynets says:")
    for line, label in zip(
        client.stdout.split("\n"), dataset.y_test[:CLASSIFIED], strict=False
    ):
        name, probability = line.rsplit(",", 1)
        print(
            f"  {name:<12} {100 * float(probability):5.1f} %   "
            f"(label: {dataset.class_names[label]})"
        )
    return served


def prepared(model, images):
    """Returns stored images in the model's input range, as NumPy."""
    import keras

    return keras.ops.convert_to_numpy(model.preprocessor(images))


def announce(phase):
    """Prints the head of a phase."""
    print(f"\n=== {phase}", flush=True)


@contextlib.contextmanager
def quiet_start():
    """Silences the notes that TensorFlow writes as it starts."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)


if __name__ == "__main__":
    main()
