"""Trains a guided denoiser for a classifier and publishes it.

    python -m training.denoiser

trains `guided_denoiser` by the logit-guided loss (Liao et al., 2018) before
`pn4.fashion_mnist` and writes the tag `fashion_mnist_pn4`: weights, manifest,
result (with the recipe, every argument of the run), reference outputs, the
results of the card and the row of results.csv. The images that select are those
that selected the classifier, and the training images are of those that trained
it: its recipe says which. Of every learning rate and epoch the weights with the
lowest logit-guided loss on the validation images are kept; the test images are
looked at once, at the end. Takes six minutes of training on two CPU cores and
three of attacks on the 10,000 test images.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from keras_polynets import recipes
from keras_polynets import robustness
from keras_polynets import trainers
from keras_polynets import zoo
from keras_polynets._console import plain
from keras_polynets._files import atomic_path
from keras_polynets._files import sha256
from keras_polynets.recipes import evaluating
from keras_polynets.recipes import examples
from keras_polynets.recipes import toml
from keras_polynets.trainers.guided import ATTACKS
from keras_polynets.zoo.cards import write_results
from training import publish

NAME = "guided_denoiser"
REFERENCES = 8


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that the result of a run depends on.

    Args:
        classifier: String, `NAME.TAG` of the classifier.
        data: String, what `data.load` takes; the classifier's set if empty.
        images: Integer, how many of the training images are used.
        validation: Integer, how many of the validation images are used.
        test: Integer, how many of the test images are used.
        epochs: Integer.
        batch_size: Integer.
        rates: Learning rates of Adam, of which validation chooses; each
            decays to 0 by a cosine.
        attacks: Attacks of the training images.
        evaluation: Attacks of the test images, through the denoiser.
        seed: Integer, of the weights and the order.
    """

    classifier: str
    data: str
    images: int
    validation: int
    test: int
    epochs: int
    batch_size: int
    rates: tuple
    attacks: tuple
    evaluation: tuple
    seed: int


class Best(keras.callbacks.Callback):
    """Keeps the denoiser's weights of the lowest validation loss."""

    def __init__(self):
        super().__init__()
        self.loss, self.weights, self.found = np.inf, None, {}
        self.rate = None

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.loss:
            self.loss = logs["val_loss"]
            self.weights = self.model.model.get_weights()
            self.found = {"rate": self.rate, "epoch": epoch}


def splits_of(recipe):
    """Returns the examples, split as they were for the classifier."""
    given = recipes.load(recipe.classifier)
    if recipe.data:
        given = given.replace({"data.name": recipe.data})
    return examples.examples_of(given)


def train(recipe, splits, classifier):
    """Trains a denoiser for every rate and keeps the best weights.

    Args:
        recipe: The `Recipe`.
        splits: What `splits_of` returned.
        classifier: The classifier, which stays as it is.

    Returns:
        The denoiser and a dictionary of what came out.
    """
    x, y = splits.x[: recipe.images], splits.y[: recipe.images]
    validation = [part[: recipe.validation] for part in splits.validation]
    best, trials, start = Best(), [], time.perf_counter()
    for rate in recipe.rates:
        keras.utils.set_random_seed(recipe.seed)
        denoiser = zoo.load(
            NAME,
            weights=None,
            input_shape=classifier.input_shape[1:],
            input_range=classifier.input_range,
            data_range=classifier.data_range,
        )
        trainer = trainers.GuidedDenoising(
            denoiser,
            classifier,
            recipe.attacks,
            preprocessing=classifier.preprocessor,
            seed=recipe.seed,
        )
        steps = recipe.epochs * -(-len(x) // recipe.batch_size)
        schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
        trainer.compile(keras.optimizers.Adam(schedule), metrics=["accuracy"])
        best.rate = rate
        history = trainer.fit(
            x,
            y,
            batch_size=recipe.batch_size,
            epochs=recipe.epochs,
            validation_data=tuple(validation),
            callbacks=[best],
            verbose=2,
        ).history
        trials.append({"rate": rate, **history})
    seconds = time.perf_counter() - start
    if best.weights is None:
        raise ArithmeticError(
            f"No rate of {recipe.rates} gave a finite loss. Give lower ones: "
            "--rates"
        )
    denoiser.set_weights(best.weights)
    return denoiser, {
        "training_examples": len(x),
        "training_seconds": round(seconds, 3),
        "validation": {
            "examples": len(validation[1]),
            "loss": float(best.loss),
            **best.found,
        },
        "trials": trials,
    }


def result_of(tag, recipe, denoiser, classifier, splits, found):
    """Returns the result of a run, with the accuracies on test images."""
    defended = robustness.defend(classifier, denoiser)
    test = splits.few_tested(recipe.test)
    accuracy = {
        attack: robustness.robust_accuracy(defended, test, attack, verbose=0)
        for attack in (None, *recipe.evaluation)
    }
    table = dataclasses.asdict(recipe)
    return plain(
        {
            "tag": tag,
            "model": NAME,
            "parameters": zoo.info(NAME)["parameters"],
            "recipe": table | {"data": {"name": splits.dataset.name}},
            "data": splits.dataset.source,
            "epochs": recipe.epochs,
            "seed": recipe.seed,
            # Of a denoiser the maps have no bound.
            "lipschitz_bound": None,
            **found,
            **evaluating.environment(),
            "test": {
                "examples": len(test[1]),
                "accuracy": accuracy.pop(None),
                "attacks": accuracy,
            },
        }
    )


def write(result, denoiser, splits, directory):
    """Writes a tag of the zoo and returns the paths of its files.

    Args:
        result: What `result_of` returned.
        denoiser: The denoiser.
        splits: What `splits_of` returned.
        directory: `pathlib.Path` of the zoo.
    """
    tag, folder = result["tag"], directory / NAME
    suffixes = (".weights.h5", ".json", ".reference.npz")
    paths = [folder / "model.toml", directory / "results.csv"]
    paths += [folder / (tag + suffix) for suffix in suffixes]
    with contextlib.ExitStack() as stack:
        # Renamed in reverse: the manifest, which names the others, is last.
        aside = [stack.enter_context(atomic_path(path)) for path in paths]
        manifest, table, weights, report, reference = aside
        denoiser.save_weights(weights, overwrite=True)
        report.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        images, _ = splits.few_tested(REFERENCES)
        outputs = denoiser.predict(denoiser.preprocessor(images), verbose=0)
        with open(reference, "wb") as file:
            np.savez_compressed(file, images=images, outputs=outputs)
        entry = {
            "weights": paths[2].name,
            "sha256": sha256(weights),
            "input_shape": list(denoiser.input_shape[1:]),
            "parameters": denoiser.count_params(),
            "data": splits.dataset.source,
            "overrides": {
                "input_range": denoiser.input_range,
                "data_range": denoiser.data_range,
            },
        }
        tags = publish.with_tag(publish.read_toml(paths[0]), tag, entry)
        manifest.write_text(toml.dumps(tags), "utf-8")
        publish.write_table(table, paths[1], result)
    write_results(folder / "card.md", publish.results_block(folder))
    return [*paths, folder / "card.md"]


def make_parser():
    parser = argparse.ArgumentParser(
        prog="python -m training.denoiser", description=__doc__.split("\n")[0]
    )
    evaluation = ("fgsm:0.1", "pgd:0.1,20,0.01")
    parser.add_argument("--classifier", default="pn4.fashion_mnist")
    parser.add_argument(
        "--data", default="", help="another set than the classifier's"
    )
    for name, default in (
        ("images", 20_000),
        ("validation", 5_000),
        ("test", 10_000),
        ("epochs", 4),
        ("batch-size", 96),
        ("seed", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-3, 1e-3])
    parser.add_argument("--attacks", nargs="+", default=ATTACKS)
    parser.add_argument("--evaluation", nargs="*", default=evaluation)
    parser.add_argument("--tag", default="fashion_mnist_pn4")
    parser.add_argument("--zoo", type=pathlib.Path, default=pathlib.Path("zoo"))
    return parser


def main(argv=None):
    """Runs the program and returns its exit status."""
    arguments = vars(make_parser().parse_args(argv))
    tag, directory = arguments.pop("tag"), arguments.pop("zoo")
    recipe = Recipe(**arguments)
    try:
        classifier = zoo.load(recipe.classifier)
        splits = splits_of(recipe)
        denoiser, found = train(recipe, splits, classifier)
        result = result_of(tag, recipe, denoiser, classifier, splits, found)
        written = write(result, denoiser, splits, directory)
    except (ArithmeticError, OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result["validation"]))
    print(json.dumps(result["test"]))
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
