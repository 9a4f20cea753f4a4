"""Runs of one recipe under several bounds of the projection."""

import json
import pathlib

from keras_polynets._files import atomic_write
from keras_polynets.recipes.attempting import attempt
from keras_polynets.recipes.attempting import trunk_of
from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.running import RUNS
from keras_polynets.recipes.running import run

BOUNDS = (100.0, 20.0, 10.0, 5.0, 2.0, 1.5, 1.2, 1.0, 0.8)


def sweep(
    recipe,
    bounds=BOUNDS,
    run_directory=None,
    attack="fgsm:0.1",
    verbose="auto",
):
    """Chooses the bound of the projection by the validation accuracy.

    The epochs before the projection are trained once; from there one run
    branches off for each bound, and one without projection. The bound with the
    best validation accuracy under `attack` is chosen, and only that run and
    the one without projection are then measured on the test set. Call it
    again to go on with a sweep that was interrupted.

    Args:
        recipe: A `Recipe` with a projection, whose bound does not matter, and
            a validation set.
        bounds: The bounds to try, floats above 0.
        run_directory: Folder of the sweep, `runs/<name>-sweep` by default. It
            holds the folders of the runs and `sweep.json`.
        attack: The attack that selects, as `robustness.parse_attack` reads it.
        verbose: As in `run`.

    Returns:
        Dictionary (`sweep.json`): `attack`, `rows` (for each bound
        `max_value`, `accuracy`, `robust_accuracy`, both of the validation set,
        and `lipschitz_bound`; first the run without projection, `max_value`
        `None`; `diverged`, a message, stands for the numbers of a run whose
        loss left the finite numbers), `chosen` (a bound), and the results of
        the run chosen, `projected`, and of the one without projection,
        `unprojected`. The folders of these names hold the two runs.

    Raises:
        ValueError: If the recipe has no projection, bounds of single layers
            or no validation set.
        FloatingPointError: If every run diverged.

    Example:

    >>> recipe = keras_polynets.recipes.load("pn4.fashion_mnist_projected")
    >>> keras_polynets.recipes.sweep(recipe)["chosen"]
    """
    selecting = _prepare(recipe, bounds, attack)
    folder = pathlib.Path(run_directory or RUNS / f"{recipe.name}-sweep")
    rows, folders = [], {}
    trunk = trunk_of(selecting)
    if trunk is not None:
        run(trunk, folder / "trunk", verbose, test=False)
    for bound in (None, *map(float, bounds)):
        name = "bound-none" if bound is None else f"bound-{bound:g}"
        folders[bound] = folder / name
        result = attempt(
            _branch(selecting, bound),
            folders[bound],
            test=False,
            trunk=None if trunk is None else folder / "trunk",
            verbose=verbose,
        )
        rows.append(_row(bound, result, attack))
    chosen = _choose(rows)
    report = {"attack": attack, "rows": rows, "chosen": chosen}
    for key, bound in (("projected", chosen), ("unprojected", None)):
        if "diverged" not in _row_of(rows, bound):
            # The same training, measured under all attacks of the recipe.
            RunDirectory(folder / key).start_from(RunDirectory(folders[bound]))
            report[key] = run(_branch(recipe, bound), folder / key, verbose)
    with atomic_write(folder / "sweep.json", "w") as file:
        json.dump(report, file, indent=2)
    _add_sweep(RunDirectory(folder / "projected"), report)
    return report


def _prepare(recipe, bounds, attack):
    """Returns the recipe that selects by `attack`."""
    if recipe.projection is None or not recipe.data.validation:
        raise ValueError(
            "A sweep needs a recipe with [projection] and data.validation "
            "above 0."
        )
    if recipe.projection.layers:
        raise ValueError(
            "A sweep tries one bound for all layers. Remove "
            "[projection.layers] from the recipe."
        )
    if not bounds:
        raise ValueError("Argument `bounds` must hold at least one bound.")
    return recipe.replace({"evaluation.attacks": [attack]})


def _branch(recipe, bound):
    if bound is None:
        return recipe.replace({"projection": None})
    return recipe.replace({"projection.max_value": bound})


def _choose(rows):
    sound = [row for row in rows[1:] if "diverged" not in row]
    if not sound:
        raise FloatingPointError(
            f"Every run of the sweep diverged: {rows[-1]['diverged']}"
        )
    # Of equal ones the smaller bound, which certifies more.
    best = max(sound, key=lambda r: (r["robust_accuracy"], -r["max_value"]))
    return best["max_value"]


def _row_of(rows, bound):
    return next(row for row in rows if row["max_value"] == bound)


def _row(bound, result, attack):
    if "diverged" in result:
        return {"max_value": bound, **result}
    validation = result["validation"]
    return {
        "max_value": bound,
        "accuracy": validation["accuracy"],
        "robust_accuracy": validation["attacks"][attack],
        "lipschitz_bound": result["lipschitz_bound"],
    }


def _add_sweep(directory, report):
    """Writes the table of the sweep into the result that it chose."""
    result = directory.read_result()
    result["sweep"] = {key: report[key] for key in ("attack", "rows")}
    directory.write_result(result)
