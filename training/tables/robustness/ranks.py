"""The accuracy of networks of several hidden ranks."""

import dataclasses

from training.tables import figure_curves
from training.tables.paper_table import PaperTable
from training.tables.paper_table import check_rows
from training.tables.text import cell
from training.tables.text import share_of_epochs

PARTS = {"training": "training accuracy (%)", "test": "test accuracy (%)"}


@dataclasses.dataclass(frozen=True)
class RankFigure(PaperTable):
    """The accuracy on the training and the test set against the hidden rank.

    The runs are those of `recipes.compare`: on all training images, measured
    after the last epoch.

    Args:
        models: Dictionary from the name of a model to that of its recipe.
        ranks: The hidden ranks.
    """

    models: dict
    ranks: tuple

    options = ("epochs", "overrides", "ranks", "rows", "scale", "seeds")

    def run(self, arguments, folder):
        """Trains, and returns the report.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the runs.
        """
        from keras_polynets import recipes

        check_rows(arguments, self.models)
        ranks = arguments.ranks or list(self.ranks)
        chosen = arguments.rows or self.models
        contenders = {
            (name, rank): _contender(name, recipe, rank, arguments)
            for name, recipe in self.models.items()
            for rank in ranks
        }
        records = recipes.compare(
            contenders.values(),
            folder,
            seeds=arguments.seeds,
            train=[c.name for (m, _), c in contenders.items() if m in chosen],
        )
        curves = {}
        for name in self.models:
            runs = [
                _runs(folder, contenders[name, rank].name, records)
                for rank in ranks
            ]
            if any(run["test"] for at_rank in runs for run in at_rank):
                curves[name] = _curves(runs)
        return self.report(ranks=ranks, seeds=arguments.seeds, curves=curves)

    def table(self, report):
        """Returns the table: a row for each model and rank."""
        head = ["", "rank", "parameters", *PARTS.values(), "runs"]
        rows = [head]
        for name, found in report["curves"].items():
            for index, rank in enumerate(report["ranks"]):
                cells = [
                    cell(figure_curves.point(found[part], index), 100, 2)
                    for part in PARTS
                ]
                runs = found["states"][index]
                parameters = found["parameters"][index]
                parameters = f"{parameters:,}" if parameters else ""
                rows.append([name, str(rank), parameters, *cells, runs])
        return rows

    def draw(self, report):
        """Returns the figure."""
        from keras_polynets import _figures

        canvas = _figures.figure(7.6, 3.8)
        panels = canvas.subplots(1, 2, sharey=True)
        for axes, part in zip(panels, PARTS, strict=True):
            axes.set_xscale("log", base=2)
            axes.set(xlabel="Hidden rank", xticks=report["ranks"])
            axes.set_xticklabels(report["ranks"])
            axes.set_title(f"{part.capitalize()} set", loc="left")
            for look, (name, found) in zip(
                _figures.looks(), report["curves"].items(), strict=False
            ):
                figure_curves.plot(
                    axes,
                    report["ranks"],
                    found[part],
                    scale=100,
                    label=name,
                    **look,
                )
        panels[0].set_ylabel("Accuracy (%)")
        panels[0].legend()
        return {"figure": canvas}


def _contender(name, recipe, rank, arguments):
    """Returns the contender of a model with a rank."""
    from keras_polynets import recipes

    recipe = recipes.load(recipe, arguments.overrides)
    return recipes.Contender(
        f"{name.lower()}-rank-{rank}",
        recipe.replace({"overrides.rank": rank, "evaluation.attacks": []}),
        share=share_of_epochs(recipe, arguments),
    )


def _runs(folder, name, records):
    """Returns the runs of a contender, a dictionary a seed."""
    from keras_polynets.recipes.directory import RunDirectory

    found = []
    for record in records[name]["runs"]:
        directory = RunDirectory(folder / name / f"seed-{record['seed']}")
        done = record.get("test") is not None
        state = "diverged" if "diverged" in record else "not run"
        found.append(
            {
                "training": _training_accuracy(directory) if done else None,
                "test": record.get("test"),
                "parameters": record.get("parameters"),
                "state": "done" if done else state,
            }
        )
    return found


def _training_accuracy(directory):
    """Returns the accuracy of a finished run on the images that trained it."""

    def measure():
        from keras_polynets import robustness
        from keras_polynets.recipes import examples

        model, recipe = figure_curves.measured_model(directory)
        splits = examples.examples_of(recipe)
        accuracy = robustness.robust_accuracy(
            model, (splits.x, splits.y), verbose=0
        )
        return {"accuracy": accuracy}

    path = directory.path / "training_accuracy.json"
    return figure_curves.remembered(path, {}, measure)["accuracy"]


def _curves(runs):
    """Returns the curves over the ranks.

    Args:
        runs: For each rank a list of what `_runs` found, one a seed.
    """
    found = {
        part: figure_curves.spread_of_curves(
            [[run[part] for run in seed] for seed in zip(*runs, strict=True)]
        )
        for part in PARTS
    }
    for_ranks = [[run["state"] for run in at_rank] for at_rank in runs]
    return found | {
        "parameters": [
            next((r["parameters"] for r in at_rank if r["parameters"]), None)
            for at_rank in runs
        ],
        "states": [
            ", ".join(f"{s.count(k)} {k}" for k in dict.fromkeys(s))
            for s in for_ranks
        ],
    }
