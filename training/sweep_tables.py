"""Tables that compare a model with and without projection."""

import csv
import dataclasses

from training.table_text import aligned
from training.table_text import cell
from training.table_text import has_matplotlib
from training.table_text import refuse
from training.table_text import share_of_epochs


@dataclasses.dataclass(frozen=True)
class SweepTable:
    """A table that compares a model with and without projection.

    Args:
        title: What the table shows.
        recipe: Name of the recipe with the projection.
        attacks: Dictionary from an attack to its name in the paper.
        paper: Dictionary from a row's name to the paper's two cells (without
            and with projection); rows that are absent are not available.
        claims: What the paper's text says of the table.
    """

    title: str
    recipe: str
    attacks: dict
    paper: dict
    claims: tuple

    def rows(self):
        """Returns the pairs of an attack, `None` first, and its name."""
        return [(None, "Clean"), *self.attacks.items()]

    def run(self, arguments, folder):
        """Runs the table as the arguments of the program say.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the runs.

        Returns:
            The report, a dictionary.
        """
        from keras_polynets import recipes
        from keras_polynets.recipes.scaling import scaled
        from keras_polynets.recipes.sweeping import BOUNDS

        refuse(arguments, "comparison", rows=None, known=None, tune=True)
        name = arguments.recipe or self.recipe
        recipe = recipes.load(name, arguments.overrides)
        share = share_of_epochs(recipe, arguments)
        if round(recipe.epochs * share) < 2:
            raise ValueError(
                "This table needs at least 2 epochs, one on each side of the "
                f"projection's start. Received: {recipe.epochs * share:g}"
            )
        recipe = scaled(recipe, share)
        bounds = arguments.bounds or BOUNDS
        return reproduce(self, recipe, bounds, arguments.seeds, folder)

    def write(self, folder, report):
        """Writes the table and its figure, and returns their names."""
        write_csv(folder / "table.csv", report)
        if not has_matplotlib():
            return ["table.csv"]
        write_figure(folder / "bounds.png", report)
        return ["table.csv", "bounds.png"]

    def text(self, report):
        """Returns the table, the paper's side and ours."""
        return text(report)


def reproduce(table, recipe, bounds, seeds, folder, verbose="auto"):
    """Runs a table for several seeds and returns its numbers.

    Args:
        table: A `SweepTable`.
        recipe: The `Recipe` to run.
        bounds: The bounds of the projection to choose from.
        seeds: Number of seeds, from that of the recipe on.
        folder: Folder of the runs.
        verbose: As in `recipes.run`.

    Returns:
        Dictionary with a row for each attack and the sweeps.
    """
    from keras_polynets import recipes

    recipe = recipe.replace({"evaluation.attacks": list(table.attacks)})
    sweeps = []
    for seed in range(recipe.seed, recipe.seed + seeds):
        report = recipes.sweep(
            recipe.replace({"seed": seed}),
            bounds,
            run_directory=folder / f"seed-{seed}",
            verbose=verbose,
        )
        sweeps.append({"seed": seed, **report})
    rows = [
        {
            "row": name,
            "paper": table.paper.get(name),
            "unprojected": _spread(sweeps, "unprojected", attack),
            "projected": _spread(sweeps, "projected", attack),
        }
        for attack, name in table.rows()
    ]
    return {
        "title": table.title,
        "claims": table.claims,
        "rows": rows,
        "chosen_bounds": [sweep["chosen"] for sweep in sweeps],
        "recipe": recipe.to_dict(),
        "sweeps": sweeps,
    }


def _spread(sweeps, key, attack):
    """Returns the test accuracies of all seeds, their mean and deviation."""
    from keras_polynets.recipes.comparing import spread

    tests = [sweep[key]["test"] for sweep in sweeps if key in sweep]
    return spread(
        [t["attacks"][attack] if attack else t["accuracy"] for t in tests]
    )


def write_csv(path, report):
    from keras_polynets._files import atomic_write

    sides = ("unprojected", "projected")
    with atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["row", "paper_unprojected", "paper_projected"]
            + [f"{s}_{part}" for s in sides for part in ("mean", "deviation")]
        )
        for row in report["rows"]:
            ours = [row[side] or {} for side in sides]
            writer.writerow(
                [row["row"], *(row["paper"] or ("", ""))]
                + [o.get(p) for o in ours for p in ("mean", "deviation")]
            )


def write_figure(path, report):
    """Draws the validation accuracy against the bound, a line a seed."""
    from keras_polynets import _figures

    with _figures.style():
        canvas = _figures.figure(6.0, 4.0)
        axes = canvas.add_subplot(
            xscale="log", xlabel="bound of the projection", ylabel="accuracy"
        )
        for sweep in report["sweeps"]:
            rows = [r for r in sweep["rows"][1:] if "diverged" not in r]
            bounds = [row["max_value"] for row in rows]
            seed = f"seed {sweep['seed']}"
            for key, label, style in (
                ("accuracy", "clean", "o-"),
                ("robust_accuracy", sweep["attack"], "s--"),
            ):
                values = [row[key] for row in rows]
                axes.plot(bounds, values, style, label=f"{label}, {seed}")
        axes.set_title("Validation accuracy", loc="left")
        axes.legend()
    _figures.save(canvas, path)


def text(report):
    """Returns the table, the paper's side and ours."""
    header = ["", "paper: no proj.", "paper: proj.", "no proj.", "projection"]
    rows = [
        [
            row["row"],
            *(f"{v:.4f}" for v in row["paper"] or ()),
            *(["not available"] * (0 if row["paper"] else 2)),
            cell(row["unprojected"]),
            cell(row["projected"]),
        ]
        for row in report["rows"]
    ]
    bounds = ", ".join(f"{bound:g}" for bound in report["chosen_bounds"])
    return "\n".join(
        [
            report["title"],
            "",
            *aligned([header, *rows]),
            "",
            f"bounds chosen on the validation set, by seed: {bounds}",
            "The paper's text says:",
            *(f"- {claim}" for claim in report["claims"]),
        ]
    )
