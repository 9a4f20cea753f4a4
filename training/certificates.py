"""The table of certificates: `python -m training.certificates`.

Bounds each trained tag by each method around the first test images that are
embedded in the package, attacks the same images, and writes the results and
the page docs/certificates.md. Models whose results exist are not run again.
"""

import argparse
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from keras_polynets import data
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.robustness import certifier as certifiers

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = ("pn4", "pn10", "ncp4", "pn_conv")
TAGS = ("fashion_mnist", "fashion_mnist_projected")
# The best of all of them comes last.
METHODS = (*certifiers.METHODS[1:], certifiers.METHODS[0])
SLOPES_AT = 0.01
HEAD = """# Certificates

Written by `python -m training.certificates` from `{results}`.

For each trained tag: the share of the first embedded test images of
Fashion-MNIST whose right class no change of at most ε (ℓ∞, in units of the
input, which lies in [-1, 1]) can undo, by method, beside the share that three
attacks leave one after the other: PGD (40 steps of ε / 10) with and without a
random start, and targeted APGD (100 steps for each of nine classes). The truth
lies between the best certificate and the attacks. The column *images* says how
many there were: `--limit 1000 --epsilon 0.01 0.03 0.1` for the dense networks,
and `--limit 200` for the convolutional ones.

- *global*: the margin less ε times the Lipschitz constant of each difference
  of logits, by the paper's theorems or the recursion, whichever is smaller.
- *interval*: interval arithmetic around each image.
- *affine*: the gradient at the centre of the ball and a bounded remainder.
- *quadratic*: gradient and Hessian at the centre, and a remainder of the third
  order; the Hessian by its largest eigenvalue. For networks that are one dense
  polynomial layer.

Certificates speak of the float32 model: the margin has to exceed a bound of the
rounding errors of both logits, for sums in any order (not for convolutions by
the algorithms of Winograd or by Fourier transforms, nor for TF32). They speak
of inference, `model.predict(x)` or `model(x, training=False)`; those of a
float64 model of the latter alone, because `predict` rounds inputs to float32.
"""
SLOPES = """
## Lipschitz constants

From ℓ∞ to ℓ∞: the bound over the whole valid range, the median of the bounds on
the balls of radius {epsilon:g} around the images, and the median of the
gradients' norms at the balls' centres, which no bound can be below.

| model | images | global bound | local bound | gradient | global / local \
| local / gradient |
|---|---:|---:|---:|---:|---:|---:|
"""
TAIL = """
The last column says how tight the local bounds are, and how much is left to
gain. Where the global bound is close to the gradient already, as after
projection, no local bound can be far below it.

Without projection it is the second order that the larger balls lose to:
bounded term by term it is ten to a hundred times as large as by the eigenvalues
of the Hessian, which know that most of its directions are at odds. So the
quadratic method certifies .413 of ncp4's images at ε = 0.03, and the affine one
.084. What is left there is the third order and beyond, bounded term by term: of
pn10, whose outputs are of order ten, next to nothing is certified at that
radius.

Deep networks are another matter. The bound of the rounding errors is carried
from layer to layer by the norms of the layers, whose product grows far faster
than what the network does: for 3 × 3 convolutions of 16 channels with batch
normalisation it is .3 after four layers and above 10⁸ after thirteen, where
the logits are .1 apart. So no certificate is found for residual networks, not
for an affine one (`resnet18_linear`) either: sound, and empty.
"""


def main(argv=None):
    """Writes the results and the page.

    Args:
        argv: List of the words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    results = ROOT / "docs" / "results" / "certificates.json"
    parser.add_argument("--results", type=pathlib.Path, default=results)
    page = ROOT / "docs" / "certificates.md"
    parser.add_argument("--page", type=pathlib.Path, default=page)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--slopes-limit", type=int, default=1000)
    parser.add_argument(
        "--epsilon", type=float, nargs="+", default=[0.01, 0.03]
    )
    parser.add_argument("--models", nargs="+", default=list(all_models()))
    parser.add_argument(
        "--attack-again",
        action="store_true",
        help="attack the images of stored results, and keep the certificates",
    )
    parser.add_argument(
        "--bound-again",
        action="store_true",
        help="bound the images of stored results, and keep what attacks leave",
    )
    arguments = parser.parse_args(argv)
    path = arguments.results
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    dataset = data.load("fashion_mnist_sample")
    for name in arguments.models:
        again = [attack_again] if arguments.attack_again else []
        again += [bound_again] if arguments.bound_again else []
        if name in found and not again:
            continue
        print(name, flush=True)
        if name in found:
            for update in again:
                update(name, found[name], dataset)
        else:
            found[name] = measure(name, dataset, arguments)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    order = [name for name in all_models() if name in found]
    found = {name: found[name] for name in order}
    shown = path.resolve()
    shown = shown.relative_to(ROOT) if ROOT in shown.parents else shown
    arguments.page.write_text(written(found, shown), "utf-8")
    print(f"{path}\n{arguments.page}")


def all_models():
    """Yields the names of the trained models, with their tags."""
    for name in NAMES:
        yield from (f"{name}.{tag}" for tag in TAGS)


def measure(name, dataset, arguments):
    """Returns the certificates of one model and what attacks leave.

    Args:
        name: String, `NAME.TAG`.
        dataset: The set whose test images are examined.
        arguments: Those of the command line.
    """
    model = zoo.load(name)
    certifier = robustness.Certifier(model)
    count = max(arguments.limit, arguments.slopes_limit)
    x = np.asarray(model.preprocessor(dataset.x_test[:count]))
    slopes = [
        certifier.slopes(x[part], SLOPES_AT)
        for part in parts(arguments.slopes_limit, 16)
    ]
    gradients, bounds = np.concatenate(slopes, axis=1)
    x, labels = x[: arguments.limit], dataset.y_test[: arguments.limit]
    clean = predictions(model, x) == labels
    return {
        "examples": len(labels),
        "clean": float(clean.mean()),
        "lipschitz_bound": robustness.lipschitz_bound(model),
        "slope_examples": len(bounds),
        "local_lipschitz_bound": float(np.median(bounds)),
        "gradient_norm": float(np.median(gradients)),
        "certificates": [
            certificates(model, certifier, x, labels, clean, epsilon)
            for epsilon in arguments.epsilon
        ],
    }


def certificates(model, certifier, x, labels, clean, epsilon):
    """Returns a row: the certified share by method, and the attacked one."""
    attacked = withstand(model, x, labels, clean, epsilon)
    margins = margins_by_method(certifier, x, labels, epsilon)
    broken = (margins["auto"] > 0) & ~attacked
    if broken.any():
        raise AssertionError(
            f"An attack broke {broken.sum()} certificates of {model.name!r} at "
            f"epsilon={epsilon}: the bounds are not sound."
        )
    return {
        "epsilon": epsilon,
        **shares(margins),
        "attacked": float(attacked.mean()),
    }


def margins_by_method(certifier, x, labels, epsilon):
    """Returns the margins of images, a dictionary from the method."""
    margins = {
        method: np.concatenate(
            [
                certifier.margins(x[part], labels[part], epsilon, method)
                for part in parts(len(x), 16)
            ]
        )
        for method in certifier.methods[:-1]
    }
    return {**margins, "auto": certifiers.best(list(margins.values()))}


def shares(margins):
    """Returns the certified share of images by method."""
    return {
        method: float(np.mean(values > 0)) for method, values in margins.items()
    }


def withstand(model, x, labels, clean, epsilon):
    """Returns which images no attack makes the model misclassify."""
    withstood = clean.copy()
    pgd = {"steps": 40, "step_size": epsilon / 10}
    for attack, options in (
        (robustness.pgd, pgd),
        (robustness.pgd, {**pgd, "random_start": True}),
        (robustness.apgd_t, {"steps": 100}),
    ):
        left = np.flatnonzero(withstood)
        adversarial = attack(
            model, x[left], labels[left], epsilon, seed=0, **options
        )
        withstood[left] = predictions(model, adversarial) == labels[left]
    return withstood


def attack_again(name, result, dataset):
    """Brings up to date what attacks leave of the images of a result."""
    model, x, labels = examined(name, result, dataset)
    clean = predictions(model, x) == labels
    for row in result["certificates"]:
        left = withstand(model, x, labels, clean, row["epsilon"])
        row["attacked"] = float(left.mean())


def bound_again(name, result, dataset):
    """Brings up to date which images of a result are certified."""
    model, x, labels = examined(name, result, dataset)
    certifier = robustness.Certifier(model)
    for row in result["certificates"]:
        margins = margins_by_method(certifier, x, labels, row["epsilon"])
        row |= shares(margins)


def examined(name, result, dataset):
    """Returns a model, and the images and labels of its result."""
    model, count = zoo.load(name), result["examples"]
    x = np.asarray(model.preprocessor(dataset.x_test[:count]))
    return model, x, dataset.y_test[:count]


def parts(count, size):
    """Yields the slices of batches."""
    starts = range(0, count, size)
    return (slice(n, min(n + size, count)) for n in starts)


def predictions(model, x):
    """Returns the predicted classes."""
    logits = model.predict(x, batch_size=500, verbose=0)
    return np.argmax(logits, axis=1)


def written(found, results):
    """Returns the page.

    Args:
        found: Dictionary from a model to what `measure` returned.
        results: The path of the results, as it is shown.
    """
    lines = [HEAD.format(results=results)]
    lines.append(
        "| model | images | ε | clean | global | interval | affine "
        "| quadratic | best | attacks leave |"
    )
    lines.append("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name, result in found.items():
        for row in result["certificates"]:
            shares = [row.get(key) for key in (*METHODS, "attacked")]
            shares = [
                "" if share is None else f"{share:.3f}"
                for share in [result["clean"], *shares]
            ]
            cells = [f"`{name}`", f"{result['examples']:,}"]
            cells += [f"{row['epsilon']:g}", *shares]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append(SLOPES.format(epsilon=SLOPES_AT).rstrip("\n"))
    for name, result in found.items():
        bound, local = (
            result["lipschitz_bound"],
            result["local_lipschitz_bound"],
        )
        slope = result["gradient_norm"]
        numbers = [bound, local, slope, bound / local, local / slope]
        cells = [f"`{name}`", f"{result['slope_examples']:,}"]
        cells += [f"{number:.3g}" for number in numbers]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    main()
