"""Several recipes side by side: tuned alike, then run over several seeds."""

import dataclasses
import itertools
import pathlib

import numpy as np

from keras_polynets.recipes.attempting import attempt
from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.recipe import Recipe
from keras_polynets.recipes.scaling import scaled

# A record has these of a result, and with them all that tables and curves say.
KEPT = (
    "parameters",
    "training_examples",
    "epochs",
    "best_epoch",
    "training_seconds",
    "versions",
)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of a comparison.

    Args:
        name: What the row is called.
        recipe: Its `Recipe`, with a validation set.
        trials: Changes of the recipe to choose from by the validation
            accuracy, each a dictionary as `Recipe.replace` takes it. All
            contenders should have equally many.
        runs: Whether the chosen trial is run for every seed and measured on
            the test set. Contenders without runs are there for their trials.
        tuning_share: What share of the epochs of the runs the trials last.
        share: What share of its recipe's epochs the contender trains for.
        folds: Changes of the recipe that the runs take in turn, a seed after
            another: with `{"data.split": "speaker:theo"}` and so on another
            speaker tests with every seed. The trials have none of them.
    """

    name: str
    recipe: Recipe
    trials: tuple = ({},)
    runs: bool = True
    tuning_share: float = 1.0
    share: float = 1.0
    folds: tuple = ({},)


def compare(
    contenders,
    run_directory,
    *,
    seeds=3,
    train=None,
    known=None,
    verbose="auto",
):
    """Compares recipes under the same budget.

    Each contender has its trials, which a validation set chooses from. The
    chosen one is then trained on all training images, its last weights are
    measured on the test set, and this is repeated for several seeds. A
    contender with a single trial is not tuned. A run that diverged is not
    tried again. Call it again to go on with a
    comparison that was interrupted; several processes may train different
    contenders in the same folder.

    Args:
        contenders: Sequence of `Contender`.
        run_directory: The folder of the runs.
        seeds: The number of seeds, from that of each recipe on.
        train: The names of the contenders to train; of the others only what is
            finished is reported. By default all.
        known: A report from before, whose runs are not repeated.
        verbose: As in `recipes.run`.

    Returns:
        Dictionary from the name of a contender to a dictionary: `trials` and
        `runs`, lists of records, and `chosen`, the changes that won or `None`
        while trials are missing. A record has the `changes` or the `seed`,
        the `recipe`, the accuracies `validation` and `test` (and such as
        `test_top_5` of `evaluation.top_k`), the `history` (a list of values
        an epoch for each metric) and facts of the run; or
        `diverged`, a message; or `missing`, where the run is not finished.

    Raises:
        ValueError: If a name of `train` is no contender's, two names would
            share a folder, a folder holds a run of another recipe, or a recipe
            has no validation set to tune with.

    Example:

    >>> recipe = keras_polynets.recipes.load("pn4.fashion_mnist")
    >>> rates = [{"optimizer.learning_rate": rate} for rate in (1e-3, 1e-2)]
    >>> contenders = [recipes.Contender("PN-4", recipe, tuple(rates))]
    >>> recipes.compare(contenders, "runs/rates")["PN-4"]["chosen"]
    """
    names = [contender.name for contender in contenders]
    unknown = sorted(set(train or ()) - set(names))
    if unknown:
        raise ValueError(
            f"Argument `train` must name rows of {names}. Received: {unknown}"
        )
    folders = list(map(_file_name, names))
    if len(set(folders)) < len(folders):
        raise ValueError(
            "Contenders must have names that differ in letters or digits. "
            f"Received: {names}"
        )
    # A mistake in a recipe is an error before the first training.
    for contender in contenders:
        for changes, fold in itertools.product(
            contender.trials, contender.folds
        ):
            _final(contender, {**changes, **fold})
    folder, report = pathlib.Path(run_directory), {}
    for contender in contenders:
        before = (known or {}).get(contender.name, {})
        runner = _Runner(
            folder / _file_name(contender.name),
            [*before.get("trials", ()), *before.get("runs", ())],
            train is None or contender.name in train,
            verbose,
        )
        report[contender.name] = _contend(contender, runner, seeds)
    return report


def accuracies(record_list, top=1):
    """Returns the test accuracies of finished records.

    Args:
        record_list: Records of `compare`.
        top: The label among how many of the likeliest counts; above 1 it must
            be in `evaluation.top_k` of the recipes.
    """
    key = "test" if top == 1 else f"test_top_{top}"
    return [r[key] for r in record_list if r.get(key) is not None]


def spread(values):
    """Returns the mean of values and their deviation, `None` for one alone.

    Args:
        values: Sequence of numbers, `None` among them where a run failed.

    Returns:
        Dictionary with `values`, `mean` and `deviation`, or `None` where a
        value is missing.
    """
    if not values or None in values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "values": values,
        "mean": float(np.mean(values)),
        "deviation": deviation,
    }


class _Runner:
    """Runs recipes of one contender, or finds what is known of them."""

    def __init__(self, folder, known, train, verbose):
        self.folder, self.known = folder, known
        self.train, self.verbose = train, verbose

    def record(self, recipe, name, test, **facts):
        """Returns the record of a run."""
        facts["recipe"] = recipe.portable().to_dict()
        for record in self.known:
            if record["recipe"] == facts["recipe"] and "missing" not in record:
                return record | facts
        path = self.folder / name
        result = attempt(
            recipe, path, test=test, train=self.train, verbose=self.verbose
        )
        if result is None:
            return facts | {"missing": True}
        if "diverged" in result:
            return facts | result
        parts = ("validation", "test")
        top = recipe.evaluation.top_k if test else ()
        return {
            **facts,
            **{part: (result[part] or {}).get("accuracy") for part in parts},
            **{
                f"test_top_{k}": result["test"][f"top_{k}_accuracy"]
                for k in top
            },
            **{key: result[key] for key in KEPT},
            "history": RunDirectory(path).read_history(),
        }


def _contend(contender, runner, seeds):
    """Returns what is known of a contender after its trials and runs."""
    trials, chosen = [], dict(contender.trials[0])
    if len(contender.trials) > 1:
        if not contender.recipe.holds_out:
            raise ValueError(
                f"The trials of {contender.name!r} need a recipe with "
                "data.validation above 0, the images that choose."
            )
        for number, changes in enumerate(contender.trials):
            recipe = contender.recipe.replace(changes)
            share = contender.share * contender.tuning_share
            recipe = scaled(recipe, share)
            name = f"trial-{number}"
            trials.append(runner.record(recipe, name, False, changes=changes))
        chosen = _choose(trials)
    runs = []
    if contender.runs and chosen is not None:
        folds = itertools.cycle(contender.folds)
        first = contender.recipe.seed
        for seed, fold in zip(range(first, first + seeds), folds, strict=False):
            recipe = _final(contender, {**chosen, **fold, "seed": seed})
            runs.append(runner.record(recipe, f"seed-{seed}", True, seed=seed))
    return {"trials": trials, "chosen": chosen, "runs": runs}


def _final(contender, changes):
    """Returns the recipe of the runs: on all that trains, with its test shown.

    What `data.validation` held out trains too, and of
    `split = "speaker:TEST,VALIDATION"` the second speaker. A plateau of a
    validation metric becomes one of the same metric in training; but what a
    set itself holds out (`data.own_validation`) never trains, and goes on
    saying where a plateau is, its curve in the place of the test's.
    """
    recipe = contender.recipe.replace(changes)
    schedule, data = recipe.schedule, recipe.data
    watched = data.own_validation and schedule.name == "plateau"
    if not watched:
        recipe = recipe.replace(
            {
                "data.validation": 0,
                "data.own_validation": False,
                "data.split": data.split.partition(",")[0],
                "schedule.monitor": schedule.monitor.removeprefix("val_"),
                "evaluation.test_curve": True,
            }
        )
    return scaled(recipe, contender.share)


def holding_out(recipe, changes):
    """Returns the recipe of trials for that of a published run.

    Published runs of a comparison train on everything and show their test;
    here a part of what they train on selects.

    Args:
        recipe: A `Recipe` that holds nothing out.
        changes: What holds examples out, as `Recipe.replace` takes it, such
            as `{"data.validation": 5000}`.

    Returns:
        A `Recipe`.
    """
    monitor = recipe.schedule.monitor.removeprefix("val_")
    return recipe.replace(
        {
            **changes,
            "schedule.monitor": f"val_{monitor}",
            "evaluation.test_curve": False,
        }
    )


def _choose(trials):
    """Returns the changes of the best trial, `None` while one is missing.

    Where every trial diverged the first is as good as any.
    """
    if any("missing" in trial for trial in trials):
        return None
    best = max(trials, key=lambda t: t.get("validation") or 0.0)
    return dict(best["changes"])


def _file_name(text):
    """Returns a name of a folder for the name of a contender."""
    kept = (c if c.isalnum() or c in "-_." else "-" for c in text.lower())
    return "".join(kept).strip("-")
