"""How the networks of a table were run, in words."""

from training.tables.robustness.study import SELECTING
from training.tables.robustness.study import WEAK

BEST_EPOCH = (
    "the weights of a run are those of its best epoch, once a projection or "
    "attacks have begun, by the clean accuracy on the validation images"
)
# What chooses among the values of a method.
SELECTIONS = {
    SELECTING: "under FGSM-0.1 alone",
    WEAK: "under FGSM-0.01 alone",
    None: "by their clean accuracy",
}


def length(study, network):
    """Returns how often and how long a network was trained.

    Args:
        study: The `Study` that runs it.
        network: A `Network`.
    """
    epochs = _recipe(study, network).epochs
    return f"{_count(study.seeds(network), 'seed')}, {_count(epochs, 'epoch')}"


def attacked_images(study, network):
    """Returns which test images attacks see, `""` where they see all.

    Args:
        study: As in `length`.
        network: As in `length`.
    """
    images = _recipe(study, network).evaluation.attacked_examples
    return f"attacks see {images:,} test images, evenly taken" if images else ""


def choice(study, network, attack):
    """Returns how the values of a network's methods were found.

    Args:
        study: As in `length`.
        network: As in `length`.
        attack: What chooses, a key of `SELECTIONS`.
    """
    methods = [m for m in network.methods if len(m.trials()) > 1]
    if not methods:
        return ""
    if not study.arguments.tune:
        return "nothing is tuned, the values are those of the recipes"
    tried = ", ".join(_tried(study, network, method) for method in methods)
    images = _recipe(study, network).data.validation or "the set's own"
    images = f"{images:,}" if isinstance(images, int) else images
    return (
        f"the first seed tries {tried}, and chooses by {images} validation "
        f"images {SELECTIONS[attack]}"
    )


def _tried(study, network, method):
    trials, share = method.trials(), method.tuning_share
    words = f"{len(trials)} values of {method.name}"
    if share == 1:
        return words
    epochs = study.recipe(network, method, trials[0], share=share).epochs
    return f"{words} for {_count(epochs, 'epoch')}"


def _recipe(study, network):
    return study.recipe(network, network.methods[0], {})


def _count(number, noun):
    return f"{number} {noun}{'s' * (number != 1)}"
