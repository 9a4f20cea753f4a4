"""Measures the defences of the robustness paper and writes their page.

    python -m training.defences

For `pn4.fashion_mnist` alone, behind a Gaussian filter, a median filter and
the guided denoiser, and for its projected twin: the accuracy on the embedded
test images of Fashion-MNIST, clean, under attacks through the defence, and
under attacks on the bare network that do not see it; of some images also what
a stronger attack through the defence leaves. The windows of the filters, which
the paper leaves open, are those with the best accuracy under FGSM-0.1 through
the filter on the first validation images of the recipe.

Writes `docs/results/defences.json` and `docs/defences.md`. Takes three minutes
on two CPU cores.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_polynets import data
from keras_polynets import layers
from keras_polynets import recipes
from keras_polynets import zoo
from keras_polynets._files import atomic_write
from keras_polynets.recipes import examples
from keras_polynets.robustness import defend
from keras_polynets.robustness import parse_attack
from keras_polynets.robustness import robust_accuracy
from training.tables.text import markdown

ROOT = pathlib.Path(__file__).parents[1]
CLASSIFIER = "pn4.fashion_mnist"
PROJECTED = "pn4.fashion_mnist_projected"
DENOISER = "guided_denoiser.fashion_mnist_pn4"
UNPROTECTED, BOUNDED = "none", "none, projected weights"
PGD = "pgd:0.1,20,0.01"
ATTACKS = ("fgsm:0.01", "fgsm:0.1", PGD)
# On fewer images, beside PGD.
STRONGER = "apgd:0.1,40"
SELECTED_BY = "fgsm:0.1"
# Windows in pixels; standard deviations too.
GAUSSIAN = tuple((size, sigma) for size in (3, 5) for sigma in (0.5, 1.0, 2.0))
MEDIAN = (3, 5)


def filters():
    """Returns, for each kind of filter, the candidates by what they are."""
    return {
        "Gaussian": {
            f"{size} × {size}, σ = {sigma:g}": layers.GaussianFilter2D(
                size, sigma
            )
            for size, sigma in GAUSSIAN
        },
        "median": {
            f"{size} × {size}": layers.MedianFilter2D(size) for size in MEDIAN
        },
    }


def choose(model, validation):
    """Returns the chosen filters and the trials of all.

    Args:
        model: The classifier.
        validation: Pair of stored images and labels.
    """
    chosen, trials = {}, {}
    for kind, candidates in filters().items():
        trials[kind] = {
            words: robust_accuracy(
                defend(model, layer), validation, SELECTED_BY, verbose=0
            )
            for words, layer in candidates.items()
        }
        words = max(trials[kind], key=trials[kind].get)
        chosen[f"{kind} filter, {words}"] = candidates[words]
    return chosen, trials


def measure(model, defended, test):
    """Returns the accuracies of one model.

    Args:
        model: The classifier without a defence.
        defended: The classifier behind one, or the classifier itself.
        test: Pair of stored images and labels.
    """

    def unseen(attack):
        return lambda _, images, labels: attack(model, images, labels)

    row = {"clean": robust_accuracy(defended, test, verbose=0)}
    for text in ATTACKS:
        through = robust_accuracy(defended, test, text, verbose=0)
        row[text] = {"through": through}
        if defended is not model:
            attack = unseen(parse_attack(text))
            row[text]["unseen"] = robust_accuracy(
                defended, test, attack, verbose=0
            )
        print(f"  {text}: {row[text]}", flush=True)
    return row


def measure_stronger(models, test):
    """Returns what a stronger attack leaves of each model, beside PGD.

    Args:
        models: Dictionary from the names of the rows to the models.
        test: Pair of stored images and labels.
    """
    return {
        name: {
            text: robust_accuracy(model, test, text, verbose=0)
            for text in (PGD, STRONGER)
        }
        for name, model in models.items()
    }


def measure_all(arguments):
    """Returns everything that the page says.

    Args:
        arguments: Those of the command line.
    """
    model = zoo.load(CLASSIFIER)
    sample = data.load("fashion_mnist_sample")
    test = sample.x_test, sample.y_test
    all_images, some = (
        [part[:count] for part in test]
        for count in (arguments.limit, arguments.stronger)
    )
    recipe = recipes.load(CLASSIFIER, [f"data.name={arguments.data}"])
    held_out = examples.examples_of(recipe).validation
    held_out = [part[: arguments.validation] for part in held_out]
    chosen, trials = choose(model, held_out)
    chosen["guided denoiser"] = zoo.load(DENOISER)
    models = {
        UNPROTECTED: model,
        **{name: defend(model, layer) for name, layer in chosen.items()},
        BOUNDED: zoo.load(PROJECTED),
    }
    rows = {}
    for name, defended in models.items():
        print(name, flush=True)
        bare = defended if name == BOUNDED else model
        rows[name] = measure(bare, defended, all_images)
    return {
        "classifier": CLASSIFIER,
        "projected": PROJECTED,
        "denoiser": DENOISER,
        "images": len(all_images[1]),
        "validation": {
            "images": len(held_out[1]),
            "attack": SELECTED_BY,
            **trials,
        },
        "rows": rows,
        "stronger": {
            "images": len(some[1]),
            "rows": measure_stronger(models, some),
        },
    }


def table(found):
    """Returns the Markdown of the table."""
    header = ["defence", "clean"]
    for text in ATTACKS:
        header += [f"`{text}` through", "unseen"]
    lines = [header]
    for name, row in found["rows"].items():
        cells = [name, f"{row['clean']:.3f}"]
        for text in ATTACKS:
            cells += [
                f"{row[text][kind]:.3f}" if kind in row[text] else "–"
                for kind in ("through", "unseen")
            ]
        lines.append(cells)
    return markdown(lines)


def stronger_table(found):
    """Returns the Markdown of what the stronger attack leaves."""
    lines = [["defence", *(f"`{text}`" for text in (PGD, STRONGER))]]
    for name, row in found["stronger"]["rows"].items():
        lines.append([name, *(f"{value:.3f}" for value in row.values())])
    return markdown(lines)


def trials_of(found):
    """Returns the Markdown of the filters that were tried."""
    validation = found["validation"]
    return "\n".join(
        f"- {kind}: "
        + ", ".join(f"{k}: {v:.3f}" for k, v in validation[kind].items())
        for kind in filters()
    )


BLOCKS = {"table": table, "stronger": stronger_table, "trials": trials_of}


def write_page(path, found):
    """Replaces the numbers of the page, which stand between comments.

    Args:
        path: `pathlib.Path` of the page.
        found: What `measure_all` returned.
    """
    text = path.read_text(encoding="utf-8")
    for name, block in BLOCKS.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise ValueError(
                f"The page {str(path)!r} must hold the lines "
                f"{begin.strip()!r} and {end.strip()!r}, between which the "
                "numbers stand. Add them."
            )
        text = f"{before}{begin}\n{block(found)}\n\n{end}{after}"
    with atomic_write(path, "w") as file:
        file.write(text)


def main(argv=None):
    """Writes the results and the page.

    Args:
        argv: List of the words of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m training.defences", description=__doc__.split("\n")[0]
    )
    docs = ROOT / "docs"
    results = docs / "results" / "defences.json"
    parser.add_argument("--results", type=pathlib.Path, default=results)
    parser.add_argument(
        "--page", type=pathlib.Path, default=docs / "defences.md"
    )
    parser.add_argument("--data", default="fashion_mnist")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--stronger", type=int, default=500)
    parser.add_argument("--validation", type=int, default=1000)
    arguments = parser.parse_args(argv)
    found = measure_all(arguments)
    with atomic_write(arguments.results, "w") as file:
        json.dump(found, file, indent=1, ensure_ascii=False)
        file.write("\n")
    write_page(arguments.page, found)
    print(table(found))


if __name__ == "__main__":
    main()
