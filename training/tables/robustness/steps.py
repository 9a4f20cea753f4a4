"""The accuracy under attacks of more and more steps."""

import dataclasses
import functools
import itertools

from training.tables import figure_curves
from training.tables.paper_table import PaperTable
from training.tables.paper_table import check_rows
from training.tables.text import cell
from training.tables.text import share_of_epochs

STEPS = (1, 2, 5, 10, 20, 50, 100)
# "More than 20 steps change nothing" is measured from here on.
REFERENCE = 20
EPSILON = 0.1
# The step size of an attack, by the words for it. With the paper's, fewer than
# ten steps do not reach the sphere of radius epsilon; the other always does.
STEP_SIZES = {
    "0.01": lambda steps: 0.01,
    "2.5 ε / steps": lambda steps: 2.5 * EPSILON / steps,
}
# What is attacked where the recipe's own test set would have to be downloaded.
EMBEDDED = {"fashion_mnist": "fashion_mnist_sample"}


def attack(steps, words):
    """Returns the text of an attack.

    Args:
        steps: The number of steps.
        words: A key of `STEP_SIZES`.
    """
    return f"pgd:{EPSILON:g},{steps},{STEP_SIZES[words](steps):g}"


@dataclasses.dataclass(frozen=True)
class Attacked:
    """A row: a model as it was trained by a recipe.

    The first seed is the published one, where the recipe is not changed; the
    others are trained.

    Args:
        model: The panel of the figure, the name of the model.
        projected: Whether the recipe projects.
        recipe: Name of the recipe, and of the published weights.
        images: The number of test images.
        most_seeds: The most seeds to train and attack, or `None`.
    """

    model: str
    projected: bool
    recipe: str
    images: int = 2000
    most_seeds: int | None = None

    @property
    def name(self):
        return f"{self.model}, projection" if self.projected else self.model


@dataclasses.dataclass(frozen=True)
class StepsFigure(PaperTable):
    """The accuracy under PGD against the number of its steps.

    Args:
        attacked: Sequence of `Attacked`.
        steps: The numbers of steps.
    """

    attacked: tuple
    steps: tuple = STEPS

    options = ("epochs", "images", "overrides", "rows", "scale", "seeds")

    def run(self, arguments, folder):
        """Attacks, and returns the report.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the runs and of what is found.
        """
        names = [row.name for row in self.attacked]
        check_rows(arguments, names)
        rows = []
        for row in self.attacked:
            seeds = [
                _Seed(row, number, arguments, folder).report(self.steps)
                for number in range(
                    min(arguments.seeds, row.most_seeds or arguments.seeds)
                )
            ]
            seeds = [seed for seed in seeds if seed is not None]
            if seeds:
                rows.append(_row(row, seeds))
        return self.report(epsilon=EPSILON, steps=self.steps, rows=rows)

    def table(self, report):
        """Returns the table: a row for each model and step size."""
        steps = report["steps"]
        last = steps[-1]
        head = ["accuracy (%)", "step size", "images", "seeds", "clean"]
        head += [*map(str, steps), f"from {REFERENCE} to {last} steps"]
        rows = [head]
        for row in report["rows"]:
            for words, curves in row["curves"].items():
                first = [row["name"], words, f"{row['images']:,}"]
                first += [str(len(row["seeds"])), cell(row["clean"], 100, 2)]
                cells = [
                    cell(figure_curves.point(curves, index), 100, 2)
                    for index in range(len(steps))
                ]
                means = dict(zip(steps, curves["mean"], strict=True))
                change = 100 * (means[last] - means[REFERENCE])
                rows.append([*first, *cells, f"{change:+.2f}"])
        return rows

    def draw(self, report):
        """Returns the figure."""
        from keras_polynets import _figures

        models = list(dict.fromkeys(row["model"] for row in report["rows"]))
        canvas = _figures.figure(max(6.4, 4.2 * len(models)), 4.6)
        panels = canvas.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for axes, model in zip(panels, models, strict=True):
            axes.set_xscale("log")
            axes.set(xlabel="Steps of PGD", xticks=report["steps"])
            axes.set_xticklabels(report["steps"])
            axes.minorticks_off()
            axes.set_title(model, loc="left")
            for row in report["rows"]:
                if row["model"] == model:
                    _draw_row(axes, row, report["steps"])
        panels[0].set_ylabel(f"Accuracy (%), ε = {report['epsilon']:g}")
        panels[0].set_ylim(0, 100)
        _figures.legend_below(canvas, panels[0])
        return {"figure": canvas}


class _Seed:
    """The accuracies of one seed of a row, each measured once.

    Args:
        row: An `Attacked`.
        number: What is added to the recipe's seed.
        arguments: Those of `training.reproduce`.
        folder: `pathlib.Path` of all runs.
    """

    def __init__(self, row, number, arguments, folder):
        from keras_polynets import recipes
        from keras_polynets.recipes.directory import RunDirectory
        from keras_polynets.recipes.scaling import scaled

        original = recipes.load(row.recipe)
        recipe = recipes.load(row.recipe, arguments.overrides)
        recipe = scaled(recipe, share_of_epochs(recipe, arguments))
        recipe = recipe.replace({"seed": recipe.seed + number})
        anywhere = recipe.replace({"data.archives": None})
        self.row, self.published = row, anywhere == original
        self.recipe = recipe.replace({"evaluation.attacks": []})
        name = row.name.lower().replace(", ", "-")
        self.directory = RunDirectory(folder / name / f"seed-{recipe.seed}")
        # What is found of published weights is so wherever the data lie.
        self.directory.claim(
            self.recipe.replace({"data.archives": None})
            if self.published
            else self.recipe
        )
        self.measures = row.name in (arguments.rows or [row.name])
        given = arguments.images
        self.images = row.images if given is None else given

    @functools.cached_property
    def model(self):
        """The network, published or trained."""
        from keras_polynets import recipes
        from keras_polynets import zoo

        if self.published:
            return zoo.load(self.row.recipe)
        recipes.run(self.recipe, self.directory.path, test=False)
        return figure_curves.measured_model(self.directory)[0]

    @functools.cached_property
    def examples(self):
        """The test images that are attacked, and their labels."""
        from keras_polynets.recipes import examples

        source = self.recipe.replace(
            {"data.name": self._facts()["data"], "data.validation": 0}
        )
        x, y = examples.examples_of(source).test
        if not 1 <= self.images <= len(y):
            raise ValueError(
                f"The test set of {source.data.name!r} has {len(y):,} images "
                "to attack; --images has to be from 1 to that. Received: "
                f"{self.images}"
            )
        return x[: self.images], y[: self.images]

    def report(self, steps):
        """Returns the accuracies, or `None` where one is missing.

        Args:
            steps: The numbers of steps.
        """
        found = {
            "seed": self.recipe.seed,
            "published": self.published,
            **self._facts(),
            "clean": self.accuracy(None),
            "curves": {
                words: [self.accuracy(attack(n, words)) for n in steps]
                for words in STEP_SIZES
            },
        }
        values = [found["clean"], *itertools.chain(*found["curves"].values())]
        return None if None in values else found

    def accuracy(self, text):
        """Returns the accuracy under an attack.

        Args:
            text: The attack, or `None` for the clean accuracy.
        """
        from keras_polynets import robustness

        def measure():
            return {
                "accuracy": robustness.robust_accuracy(
                    self.model, self.examples, text, verbose=0
                )
            }

        record = figure_curves.remembered(
            self.directory.path / "accuracies.json",
            {**self._facts(), "attack": text},
            measure if self.measures else None,
        )
        return record and record["accuracy"]

    def _facts(self):
        """Returns on what, and of which weights, the accuracies are."""
        from keras_polynets import zoo

        name = self.recipe.data.name
        facts = {"data": EMBEDDED.get(name, name), "images": self.images}
        if self.published:
            (tag,) = zoo.info(self.row.recipe)["tags"].values()
            facts["weights"] = tag["sha256"]
        return facts


def _row(row, seeds):
    """Returns the part of the report on a row.

    Args:
        row: An `Attacked`.
        seeds: What the `_Seed`s of the row report.
    """
    from keras_polynets.recipes.comparing import spread

    return {
        "name": row.name,
        "model": row.model,
        "projected": row.projected,
        "recipe": row.recipe,
        "data": seeds[0]["data"],
        "images": seeds[0]["images"],
        "seeds": [seed["seed"] for seed in seeds],
        "published": [seed["published"] for seed in seeds],
        "clean": spread([seed["clean"] for seed in seeds]),
        "curves": {
            words: figure_curves.spread_of_curves(
                [seed["curves"][words] for seed in seeds]
            )
            for words in STEP_SIZES
        },
    }


def _draw_row(axes, row, steps):
    """Draws the curves of a row, and its clean accuracy."""
    from keras_polynets import _figures

    color = _figures.COLORS[row["projected"]]
    name = "projection" if row["projected"] else "no projection"
    styles = (
        {"marker": "o", "linestyle": "-"},
        {"marker": "s", "linestyle": "--", "markerfacecolor": "white"},
    )
    for style, (words, curves) in zip(
        styles, row["curves"].items(), strict=True
    ):
        label = f"{name}, step size {words}"
        line = {"color": color, "label": label, **style}
        figure_curves.plot(axes, steps, curves, scale=100, **line)
    axes.axhline(
        100 * row["clean"]["mean"],
        color=color,
        linestyle=":",
        label=f"{name}, clean",
    )
