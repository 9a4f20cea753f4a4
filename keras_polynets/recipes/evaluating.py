"""What a finished run reports of its model."""

import os
import platform

import keras
import numpy as np

from keras_polynets import robustness
from keras_polynets._version import __version__
from keras_polynets.recipes.examples import count
from keras_polynets.recipes.examples import spread
from keras_polynets.robustness import rademacher


def validation_accuracies(model, examples, recipe, verbose):
    """Returns what selects among models; see `_accuracies`."""
    options = recipe.evaluation
    attacks = options.selecting_attacks or options.attacks
    return _accuracies(model, examples, options, attacks, 0, verbose)


def test_accuracies(model, examples, recipe, verbose):
    """Returns what the test set says of a model; see `_accuracies`."""
    options = recipe.evaluation
    return _accuracies(
        model,
        examples,
        options,
        options.attacks,
        options.attacked_examples,
        verbose,
    )


def _accuracies(model, examples, options, attacks, attacked, verbose):
    """Returns the clean accuracy and that under each attack.

    Args:
        model: The network.
        examples: Pair of stored inputs and labels, or batches of such pairs.
        options: The section `Evaluation` of a recipe.
        attacks: The attacks.
        attacked: How many of the examples are attacked; 0 for all.
        verbose: 0 for no progress bars.

    Returns:
        Dictionary with `examples` (their number), `accuracy` and `attacks`, a
        dictionary from an attack to the accuracy, or to `None` where the
        backend cannot run it; `skipped` then says why. Where not all examples
        are attacked, `attacked_examples` says how many are. With
        `evaluation.top_k`, `top_5_accuracy` and so on.
    """
    report = {"examples": count(examples), "accuracy": None, "attacks": {}}
    clean = (None,)
    if options.top_k or options.crops > 1:
        report |= top_accuracies(
            model, examples, options.top_k, options.batch_size
        )
        clean = ()
    some = examples
    if attacks and 0 < attacked < report["examples"]:
        some = spread(examples, attacked)
        report["attacked_examples"] = attacked
    for attack in (*clean, *attacks):
        if verbose:
            print(f"Accuracy under {attack}:" if attack else "Accuracy:")
        try:
            accuracy = robustness.robust_accuracy(
                model,
                some if attack else examples,
                attack,
                batch_size=options.batch_size,
                verbose=min(int(verbose), 1),
            )
        except (ImportError, NotImplementedError) as error:
            report["skipped"] = str(error)
            accuracy = None
        if attack is None:
            report["accuracy"] = accuracy
        else:
            report["attacks"][attack] = accuracy
    return report


def top_accuracies(model, examples, top_k, batch_size):
    """Returns the shares of examples whose class is among the first ones.

    Args:
        model: The network.
        examples: Pair of stored inputs and labels, or batches of such pairs.
            Images of rank 5 hold several crops of each: their probabilities
            are averaged.
        top_k: Numbers of classes.
        batch_size: Examples a batch, of a pair.

    Returns:
        Dictionary with `accuracy` and, for each number, `top_<k>_accuracy`.
    """
    if isinstance(examples, tuple):
        inputs, labels = examples
        starts = range(0, len(labels), batch_size)
        parts = (slice(start, start + batch_size) for start in starts)
        examples = ((inputs[p], labels[p]) for p in parts)
    ranks = [
        _rank(_scores(model, np.asarray(x)), np.asarray(y)) for x, y in examples
    ]
    ranks = np.concatenate(ranks)
    shares = {"accuracy": float(np.mean(ranks < 1))}
    return shares | {
        f"top_{k}_accuracy": float(np.mean(ranks < k)) for k in top_k
    }


def told_top_accuracies(report):
    """Returns the shares of `top_accuracies` in a report, named in words."""
    return {
        key.replace("_", " "): value
        for key, value in report.items()
        if key.startswith("top_")
    }


def _scores(model, inputs):
    """Returns logits, or the mean probabilities over several crops."""
    crops = inputs.shape[1] if inputs.ndim == 5 else 1
    if crops > 1:
        inputs = inputs.reshape((-1, *inputs.shape[2:]))
    logits = model.predict_on_batch(model.preprocessor(inputs))
    logits = np.asarray(logits, "float32")
    if crops == 1:
        return logits
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return probabilities.reshape((-1, crops, probabilities.shape[-1])).mean(1)


def _rank(scores, labels):
    """Returns how many classes come before the right one.

    Of equal ones the first does, as for `argmax`; a score that is not a number
    comes before all.
    """
    right = np.take_along_axis(scores, labels[:, np.newaxis], axis=1)
    classes = np.arange(scores.shape[1])
    later = (scores == right) & (classes >= labels[:, np.newaxis])
    return np.sum(~((scores < right) | later), axis=1)


def bounds(model, num_samples):
    """Returns the model's bounds for the ∞-norm, `None` where undefined."""
    found = rademacher.global_bounds(model, num_samples)
    # JSON has no infinity.
    return {
        name: value if value is not None and np.isfinite(value) else None
        for name, value in found.items()
    }


def environment():
    """Returns the versions and the hardware that a result depends on."""
    return {
        "versions": {
            "keras_polynets": __version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            keras.backend.backend(): _backend_version(),
        },
        "hardware": {
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "accelerators": _accelerators(),
        },
    }


def _backend_version():
    import importlib.metadata

    name = keras.backend.backend()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _accelerators():
    if keras.backend.backend() == "torch":
        import torch

        return torch.cuda.device_count()
    devices = keras.distribution.list_devices()
    return sum(not device.startswith("cpu") for device in devices)
