"""What a finished run reports of its model."""

import os
import platform

import keras
import numpy as np

from keras_polynets import robustness
from keras_polynets._version import __version__


def accuracies(model, examples, recipe, verbose):
    """Returns the clean accuracy and that under each attack of the recipe.

    Args:
        model: The network.
        examples: Pair of stored images and labels.
        recipe: The `Recipe`, which names the attacks.
        verbose: 0 for no progress bars.

    Returns:
        Dictionary with `examples` (their number), `accuracy` and `attacks`, a
        dictionary from an attack to the accuracy, or to `None` where the
        backend cannot run it; `skipped` then says why.
    """
    report = {"examples": len(examples[1]), "accuracy": None, "attacks": {}}
    for attack in (None, *recipe.evaluation.attacks):
        if verbose:
            print(f"Accuracy under {attack}:" if attack else "Accuracy:")
        try:
            accuracy = robustness.robust_accuracy(
                model,
                examples,
                attack,
                batch_size=recipe.evaluation.batch_size,
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


def bounds(model, num_samples):
    """Returns the model's bounds for the ∞-norm, `None` where undefined."""
    return {
        "lipschitz_bound": _defined(robustness.lipschitz_bound, model),
        "rademacher_bound": _defined(
            robustness.rademacher_bound, model, num_samples
        ),
    }


def _defined(bound, *arguments):
    try:
        value = float(bound(*arguments))
    except (NotImplementedError, ValueError):
        return None
    # JSON has no infinity.
    return value if np.isfinite(value) else None


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
