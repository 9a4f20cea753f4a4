"""Tables that compare recipes under the same budget, with their curves."""

import dataclasses

from training.tables.paper_table import PaperTable
from training.tables.text import cell
from training.tables.text import known_part
from training.tables.text import share_of_epochs

MISSING = "not run"


@dataclasses.dataclass(frozen=True)
class Measure:
    """What the runs are measured by.

    Args:
        name: What the column is called.
        paper: What the paper's numbers are; by default the same.
        top: The label among how many of the likeliest counts as right.
        error: Whether the share of wrong answers is told, not of right ones.
    """

    name: str = "test accuracy (%)"
    paper: str = ""
    top: int = 1
    error: bool = False


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: a recipe and the trials that tune it.

    Args:
        name: What the row is called.
        recipe: Name of the recipe.
        trials: Changes to choose from, each a dictionary of recipe keys.
        trial_names: What they are called; by default their keys and values.
        paper: The paper's number, as it prints it, or one for each measure of
            the table; `None` where it has none.
        runs: Whether the chosen trial is run and measured on the test set.
        tuning_share: The share of the epochs that the trials last; `None` for
            the table's.
        folds: Changes that the runs take in turn, a seed after another.
        held_out: Changes of the recipe, whose run holds nothing out, that
            hold out the examples which choose among the trials; without any
            the recipe says itself which do.
    """

    name: str
    recipe: str
    trials: tuple = ({},)
    paper: str | tuple | None = None
    trial_names: tuple = ()
    runs: bool = True
    tuning_share: float | None = None
    folds: tuple = ({},)
    held_out: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Figure:
    """Curves of one figure.

    Args:
        title: What it shows.
        rows: The names of the rows whose curves it has.
        part: `"trials"` for the validation accuracy of every trial, `"runs"`
            for the mean and the deviation of the test accuracy over seeds.
        metric: The metric of the runs' history. Where the test set is not
            measured after every epoch there is `"val_accuracy"`.
        error: Whether errors are drawn, not accuracies.
    """

    title: str
    rows: tuple
    part: str
    metric: str = "test_accuracy"
    error: bool = False


@dataclasses.dataclass(frozen=True)
class ComparisonTable(PaperTable):
    """A table that compares recipes, and one of the trials that tuned them.

    Args:
        rows: Sequence of `Row`.
        measures: Sequence of `Measure`, for each of which there is a column of
            the paper's numbers and one of ours.
        figures: Dictionary from the stem of a file to a `Figure`.
        tuning_share: The share of the epochs that trials last.
        held_out: `Row.held_out` of the rows that have none.
    """

    rows: tuple
    figures: dict
    measures: tuple = (Measure(),)
    tuning_share: float = 1.0
    held_out: dict = dataclasses.field(default_factory=dict)

    first_number = 2
    options = (
        "epochs",
        "known",
        "overrides",
        "rows",
        "scale",
        "seeds",
        "tune",
    )

    def run(self, arguments, folder):
        """Runs the table as the arguments of the program say.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the runs.

        Returns:
            The report, a dictionary.
        """
        from keras_polynets import recipes

        contenders = [self._contender(row, arguments) for row in self.rows]
        found = recipes.compare(
            contenders,
            folder,
            seeds=arguments.seeds,
            train=arguments.rows,
            known=known_part(arguments.known, "rows", dict),
        )
        return self.report(
            paper={row.name: row.paper for row in self.rows},
            trial_names={row.name: list(row.trial_names) for row in self.rows},
            rows=found,
        )

    def tuned(self, row, overrides):
        """Returns the recipe of a row as its trials begin with it.

        Args:
            row: One of the rows.
            overrides: Changes, sequence of strings such as `"epochs=3"`.
        """
        from keras_polynets import recipes
        from keras_polynets.recipes.recipe import parse_override

        recipe = recipes.load(row.recipe)
        held_out = row.held_out or self.held_out
        if held_out:
            recipe = recipes.comparing.holding_out(recipe, held_out)
        return recipe.replace(dict(map(parse_override, overrides)))

    def _contender(self, row, arguments):
        from keras_polynets import recipes

        recipe = self.tuned(row, arguments.overrides)
        return recipes.Contender(
            row.name,
            recipe,
            row.trials if arguments.tune else row.trials[:1],
            row.runs,
            row.tuning_share or self.tuning_share,
            share_of_epochs(recipe, arguments),
            row.folds,
        )

    def tables(self, report):
        """Returns the table of the rows, and that of their trials."""
        found = [self.table(report), trials(report)]
        return [rows for rows in found if len(rows) > 1]

    def table(self, report):
        """Returns what was measured on the test set as rows of words."""
        measures = self.measures
        rows = [
            [
                "",
                "chosen",
                "parameters",
                *(f"paper: {m.paper or m.name}" for m in measures),
                *(m.name for m in measures),
                "seeds",
                "seconds a run",
            ]
        ]
        for name, found in report["rows"].items():
            done = [run for run in found["runs"] if "missing" not in run]
            if found["runs"] or found["chosen"] is None:
                rows.append(
                    [
                        name,
                        _chosen(report, name),
                        _parameters(found),
                        *_papers(report["paper"][name], measures),
                        *(_measured(done, m) for m in measures),
                        str(len(done)),
                        _seconds(done),
                    ]
                )
        return rows

    def draw(self, report):
        """Returns the figures of which there are curves."""
        curves = {
            stem: collect(figure, report)
            for stem, figure in self.figures.items()
        }
        return {
            stem: draw(self.figures[stem], found)
            for stem, found in curves.items()
            if found
        }


def trials(report):
    """Returns what trials reached on the validation images, rows of words."""
    head = ["row", "trial", "epochs", "validation accuracy (%)"]
    return [head] + [
        [
            name,
            words,
            str(trial.get("epochs", "")),
            _outcome(trial, "validation"),
        ]
        for name in report["rows"]
        for words, trial in _named_trials(report, name)
    ]


def _parameters(found):
    for record in (*found["runs"], *found["trials"]):
        if "parameters" in record:
            return f"{record['parameters']:,}"
    return MISSING


def _papers(paper, measures):
    """Returns the paper's numbers, one for each measure."""
    known = paper if isinstance(paper, (list, tuple)) else [paper]
    known = [number or "not available" for number in known]
    return known + ["not available"] * (len(measures) - len(known))


def _measured(done, measure):
    from keras_polynets.recipes.comparing import accuracies
    from keras_polynets.recipes.comparing import spread

    values = accuracies(done, measure.top)
    found = spread([1 - x for x in values] if measure.error else values)
    failed = sum("diverged" in run for run in done)
    text = MISSING if found is None else cell(found, 100, 2)
    return text if not failed else f"{text} ({failed} diverged)"


def _seconds(done):
    times = [r["training_seconds"] for r in done if "training_seconds" in r]
    return f"{sum(times) / len(times):.0f}" if times else MISSING


def _outcome(record, part):
    if "missing" in record:
        return MISSING
    if "diverged" in record:
        return "diverged"
    return f"{100 * record[part]:.2f}"


def _named_trials(report, name):
    """Yields the words and the record of each trial of a row."""
    names = report.get("trial_names", {}).get(name)
    found = report["rows"][name]["trials"]
    names = names or [_changes(trial["changes"]) for trial in found]
    yield from zip(names, found, strict=False)


def _chosen(report, name):
    """Returns the words of the chosen trial of a row."""
    changes = report["rows"][name]["chosen"]
    for words, trial in _named_trials(report, name):
        if trial["changes"] == changes:
            return words
    return MISSING if changes is None else _changes(changes)


def _changes(changes):
    """Returns the words of a trial: its keys without their sections."""
    words = (f"{k.rpartition('.')[2]} {v}" for k, v in changes.items())
    return ", ".join(words) or "as in the recipe"


def collect(figure, report):
    """Returns the curves of a figure that have been run.

    Returns:
        Dictionary from a label to a list of curves, each a dictionary from an
        epoch to a value. Epochs before a transfer of weights count.
    """
    curves = {}
    for name in figure.rows:
        if figure.part == "runs":
            done = report["rows"][name]["runs"]
            found = [_curve(r, figure.metric) for r in done if _has_run(r)]
            if found:
                curves[name] = found
            continue
        for words, trial in _named_trials(report, name):
            label = words if len(figure.rows) == 1 else f"{name}, {words}"
            if _has_run(trial):
                curves[label] = [_curve(trial, "val_accuracy")]
    return curves


def _has_run(record):
    return bool(record.get("history"))


def _curve(record, metric):
    """Returns the values of a metric by the epoch at whose end they were."""
    before = record["recipe"].get("transfer", {}).get("epochs", 0)
    return dict(enumerate(record["history"][metric], before + 1))


def draw(figure, curves):
    """Returns the curves of a figure, several as their mean and deviation."""
    import numpy as np

    from keras_polynets import _figures

    canvas = _figures.figure(6.4, 4.2)
    axes = canvas.subplots()
    for look, (label, found) in zip(
        _figures.looks(), curves.items(), strict=False
    ):
        epochs = np.array(list(found[0]))
        values = 100 * np.array([list(curve.values()) for curve in found])
        values = 100 - values if figure.error else values
        mean, deviation = values.mean(axis=0), np.full(len(epochs), np.nan)
        if len(values) > 1:
            deviation = values.std(axis=0, ddof=1)
        _figures.band(axes, epochs, mean, deviation, label=label, **look)
    tested = figure.part == "runs" and figure.metric.startswith("test")
    part = "Test" if tested else "Validation"
    measure = "error" if figure.error else "accuracy"
    axes.set(xlabel="Epoch", ylabel=f"{part} {measure} (%)")
    axes.set_title(figure.title, loc="left")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return canvas
