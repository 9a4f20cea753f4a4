"""Repeats a table of a paper and prints both sides.

    python -m training.reproduce table1-pn4
    python -m training.reproduce table1-pn4 --scale 0.1 --seeds 1

writes table.json, table.csv and a figure beside the runs. The same command
goes on with what was interrupted.
"""

import argparse
import csv
import dataclasses
import json
import pathlib
import sys

import numpy as np

INTERRUPTED = 130


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


TABLES = {
    "table1-pn4": SweepTable(
        title="Zhu et al., ICLR 2022, Table 1: PN-4 on Fashion-MNIST",
        recipe="pn4.fashion_mnist_projected",
        attacks={
            "fgsm:0.1": "FGSM-0.1",
            "pgd:0.1,20,0.01": "PGD-(0.1, 20, 0.01)",
            "pgd:0.3,20,0.03": "PGD-(0.3, 20, 0.03)",
        },
        # The cells did not survive in the copy of the paper at hand.
        paper={},
        claims=(
            "without regularisation the accuracy decreases substantially "
            "under stronger attacks",
            "projection outperforms the other methods under every attack, and "
            "the more the stronger the attack",
            "projection does not hurt the clean accuracy at intermediate "
            "bounds",
        ),
    )
}


def scaled(recipe, epochs):
    """Returns the recipe for another number of epochs, in proportion."""
    share = epochs / recipe.epochs
    start = recipe.projection.start_epoch
    changes = {
        "epochs": epochs,
        # At least one epoch on each side of the projection's start.
        "projection.start_epoch": min(max(1, round(start * share)), epochs - 1),
    }
    if recipe.schedule.epochs:
        moved = {max(1, round(e * share)) for e in recipe.schedule.epochs}
        changes["schedule.epochs"] = sorted(moved)
    return recipe.replace(changes)


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
            "unprojected": spread(sweeps, "unprojected", attack),
            "projected": spread(sweeps, "projected", attack),
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


def spread(sweeps, key, attack):
    """Returns the test accuracies of all seeds, their mean and deviation."""
    values = []
    for sweep in sweeps:
        if key in sweep:
            test = sweep[key]["test"]
            values.append(
                test["attacks"][attack] if attack else test["accuracy"]
            )
    if not values or None in values:
        return None
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "values": values,
        "mean": float(np.mean(values)),
        "deviation": deviation,
    }


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
    from matplotlib.figure import Figure

    from keras_polynets._files import atomic_path

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
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
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)
    with atomic_path(path) as aside:
        figure.savefig(aside, dpi=150)


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
    table = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
    bounds = ", ".join(f"{bound:g}" for bound in report["chosen_bounds"])
    return "\n".join(
        [
            report["title"],
            "",
            *lines,
            "",
            f"bounds chosen on the validation set, by seed: {bounds}",
            "The paper's text says:",
            *(f"- {claim}" for claim in report["claims"]),
        ]
    )


def cell(value):
    if value is None:
        return "not available"
    if value["deviation"] is None:
        return f"{value['mean']:.4f}"
    return f"{value['mean']:.4f} ± {value['deviation']:.4f}"


def make_parser():
    parser = argparse.ArgumentParser(
        prog="python -m training.reproduce",
        description="Repeat a table of a paper and print both sides.",
        epilog=f"Tables: {', '.join(TABLES)}.",
    )
    parser.add_argument("table", help="name of the table")
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds (default: 3)"
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="share of the paper's epochs (default: 1)",
    )
    length.add_argument("--epochs", type=int, help="number of epochs instead")
    parser.add_argument(
        "--bounds",
        type=float,
        nargs="+",
        help="bounds to choose from (default: the paper's sweep)",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a key of the recipe (repeatable)",
    )
    parser.add_argument("--recipe", help="another recipe than the table's")
    parser.add_argument(
        "--output", help="folder (default: runs/reproduce/TABLE)"
    )
    return parser


def prepare(arguments):
    """Returns the table and the recipe that the arguments ask for."""
    from keras_polynets import recipes
    from keras_polynets._errors import unknown_name

    if arguments.table not in TABLES:
        raise unknown_name("table", arguments.table, TABLES)
    table = TABLES[arguments.table]
    recipe = recipes.load(arguments.recipe or table.recipe, arguments.overrides)
    epochs = arguments.epochs
    if epochs is None:
        epochs = round(recipe.epochs * arguments.scale)
    if epochs < 2 or arguments.seeds < 1:
        raise ValueError(
            "A table needs at least 2 epochs and 1 seed. Received: "
            f"{epochs} epochs, {arguments.seeds} seeds"
        )
    if epochs != recipe.epochs:
        recipe = scaled(recipe, epochs)
    return table, recipe


def main(argv=None):
    """Runs the program and returns its exit status."""
    arguments = make_parser().parse_args(argv)
    from keras_polynets._files import atomic_write
    from keras_polynets.recipes.sweeping import BOUNDS

    try:
        table, recipe = prepare(arguments)
        folder = pathlib.Path(
            arguments.output or pathlib.Path("runs/reproduce", arguments.table)
        )
        report = reproduce(
            table, recipe, arguments.bounds or BOUNDS, arguments.seeds, folder
        )
        with atomic_write(folder / "table.json", "w") as file:
            json.dump(report, file, indent=2)
        write_csv(folder / "table.csv", report)
        try:
            write_figure(folder / "bounds.png", report)
        except ImportError:
            print("No figure: matplotlib is not installed.", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on.", file=sys.stderr)
        return INTERRUPTED
    except (ArithmeticError, OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(text(report))
    print(f"\nWritten to {folder}/: table.json, table.csv, bounds.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
