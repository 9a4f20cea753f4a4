"""Arguments that several commands of the command line share."""

import argparse
import math

from keras_polynets import data


def add_model(command):
    """Adds the arguments that name a model and its weights."""
    command.add_argument("model", metavar="MODEL", help="NAME or NAME.TAG")
    command.add_argument(
        "--weights",
        default="auto",
        help="a tag, a file, a folder or a URL#sha256=HASH",
    )


def add_data(command):
    """Adds the arguments that name the examples to classify."""
    command.add_argument(
        "--data",
        default="fashion_mnist_sample",
        metavar="DATA",
        help="a set of TFDS, or a folder or archive of class folders or of "
        "recordings (default: %(default)s, inside the package)",
    )
    command.add_argument(
        "--split",
        help="what spoken digits hold out for the test, as in data.load "
        "(default: that of the recipe of the weights; '' for none)",
    )
    command.add_argument(
        "--archives", metavar="DIR", help="local archives of a set of TFDS"
    )
    command.add_argument("--data-dir", metavar="DIR", help="TFDS's data folder")
    command.add_argument(
        "--batch-size",
        type=positive,
        default=500,
        help="examples at once (default: %(default)s)",
    )
    command.add_argument(
        "--limit", type=positive, help="only the first examples of the test set"
    )


def load_examples(arguments):
    """Reads the examples that the arguments of `add_data` name.

    Args:
        arguments: What the parser found.

    Returns:
        Tuple of what a command reports of them, a dictionary, of the test
        examples and of their labels.
    """
    dataset = data.load(
        arguments.data,
        archives=arguments.archives,
        data_dir=arguments.data_dir,
        split=arguments.split,
    )
    x, y = (a[: arguments.limit] for a in (dataset.x_test, dataset.y_test))
    about = {
        "data": dataset.name,
        "source": dataset.source,
        "kind": "recordings" if dataset.sampling_rate else "images",
        "split": arguments.split,
        "examples": len(y),
    }
    return about, x, y


def title(result):
    """Returns what examples a result of a command is of, in words."""
    text = "{examples:,} test {kind} of {data}".format_map(result)
    return text + (f", split {result['split']!r}" if result["split"] else "")


def positive(text):
    """Returns the positive integer that a word stands for."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"expected an integer of at least 1, received {text!r}"
        )
    return int(text)


def norm(text):
    """Returns the order of a norm that a word stands for."""
    if text not in ("1", "2", "inf"):
        raise argparse.ArgumentTypeError(
            f"expected 1, 2 or inf, received {text!r}"
        )
    return math.inf if text == "inf" else int(text)
