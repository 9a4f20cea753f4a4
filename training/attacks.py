"""What attacks leave of the trained networks.

    python -m training.attacks --output FOLDER

Attacks the first test images of Fashion-MNIST that are embedded in the
package, and writes `attacks.json`, whose numbers docs/attacks.md shows, and
`attacks.md`, their table. What the folder knows already is not measured
again. Twenty minutes on two cores, nearly all of them for pn_conv.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_polynets import data
from keras_polynets import zoo
from keras_polynets._files import atomic_write
from keras_polynets.robustness import robust_accuracy
from training.certificates import all_models
from training.tables.figure_curves import remembered
from training.tables.text import markdown

PGD, APGD_T = "pgd:0.1,20,0.01", "apgd_t:0.1,100"
ATTACKS = {
    "clean": None,
    "PGD": PGD,
    "PGD, random start": f"{PGD},random_start=true",
    "APGD-T, one class": f"{APGD_T},targets=1",
    "APGD-T": APGD_T,
    "PGD, released clamp": f"{PGD},reference_compatible=true",
}
# A convolutional network costs a hundred times as much.
IMAGES, FEW_IMAGES = 2000, 1000


def measure(path, name, images):
    """Returns the row of a model: words.

    Args:
        path: `pathlib.Path` of what is known.
        name: String, `NAME.TAG`.
        images: Integer, how many images are attacked, or `None`.
    """
    count = images or (FEW_IMAGES if name.startswith("pn_conv.") else IMAGES)
    model, sample = zoo.load(name), data.load("fashion_mnist_sample")
    examples = sample.x_test[:count], sample.y_test[:count]
    (tag,) = zoo.info(name)["tags"].values()
    facts = {
        "model": name,
        "weights": tag["sha256"],
        "images": len(examples[1]),
    }
    row = [f"`{name}`", f"{facts['images']:,}"]
    for attack in ATTACKS.values():
        record = remembered(
            path,
            facts | {"attack": attack},
            lambda attack=attack: {
                "accuracy": robust_accuracy(model, examples, attack, verbose=0)
            },
        )
        print(f"{name}, {attack}: {record['accuracy']:.3f}", flush=True)
        row.append(f"{record['accuracy']:.3f}")
    return row


def main(argv=None):
    """Writes the results and their table.

    Args:
        argv: List of the words of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training.attacks", description=__doc__.split("\n")[0]
    )
    folder = pathlib.Path("runs", "attacks")
    parser.add_argument("--output", type=pathlib.Path, default=folder)
    parser.add_argument("--models", nargs="+", default=list(all_models()))
    parser.add_argument("--images", type=int, help="of every model")
    arguments = parser.parse_args(argv)
    folder = arguments.output
    rows = [["weights", "images", *ATTACKS]]
    for name in arguments.models:
        rows.append(measure(folder / "attacks.json", name, arguments.images))
    with atomic_write(folder / "attacks.md", "w") as file:
        file.write(f"{markdown(rows)}\n")
    print(f"{folder / 'attacks.json'}\n{folder / 'attacks.md'}")


if __name__ == "__main__":
    main()
