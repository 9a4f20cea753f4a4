"""Tables and figures of the robustness paper."""

import csv
import dataclasses

from training import robustness_figures
from training.robustness_study import SELECTING
from training.robustness_study import Study
from training.table_text import aligned
from training.table_text import cell
from training.table_text import has_matplotlib
from training.table_text import known_records
from training.table_text import markdown
from training.table_text import refuse

MISSING = "not run"
CLEAN = "Clean"


@dataclasses.dataclass(frozen=True)
class RobustnessTable:
    """A table of accuracies: networks and attacks against methods.

    Args:
        title: What the table shows.
        networks: Sequence of `robustness_study.Network`.
        attacks: Dictionary from an attack to its name in the paper; `None`
            stands for none.
        claims: What the paper's text says of the table. The numbers of its
            cells are lost in the copies at hand.
        selecting: The attack under which the validation images choose among
            the values of a method, or `None` for none.
    """

    title: str
    networks: tuple
    attacks: dict
    claims: tuple
    selecting: str | None = SELECTING

    def run(self, arguments, folder):
        """Runs the table as the arguments of the program say.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the results.

        Returns:
            The report, a dictionary.
        """
        study = study_of(self, arguments, folder)
        return self.report(study, self.networks)

    def report(self, study, networks):
        """Returns the report on some networks, a dictionary."""
        rows = [row for n in networks for row in self._rows(study, n)]
        return _report(self, study, rows)

    def _rows(self, study, network):
        columns, chosen = {}, {}
        for method in network.methods:
            changes = study.choose(network, method, self.selecting)
            chosen[method.name], columns[method.name] = changes, None
            if changes is not None:
                columns[method.name] = study.runs(network, method, changes)
        return [
            {
                "network": network.name,
                "attack": name,
                "cells": {
                    method: accuracy(runs, attack)
                    for method, runs in columns.items()
                },
                "chosen": chosen,
            }
            for attack, name in self.attacks.items()
        ]

    def write(self, folder, report):
        """Writes the table and returns the names of its files."""
        from keras_polynets._files import atomic_write

        with atomic_write(folder / "table.csv", "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("network", "attack", "method", *FOUND))
            for row in report["rows"]:
                for method, found in row["cells"].items():
                    numbers = [(found or {}).get(key) for key in FOUND]
                    writer.writerow(
                        (row["network"], row["attack"], method, *numbers)
                    )
        with atomic_write(folder / "table.md", "w") as file:
            file.write(f"# {report['title']}\n\n")
            file.write(markdown(_words(report)) + "\n\n")
            file.write("".join(f"- {line}\n" for line in _choices(report)))
        return ["table.csv", "table.md"]

    def text(self, report):
        """Returns the table and what the paper claims."""
        return "\n".join(
            [
                report["title"],
                "",
                *aligned(_words(report)),
                "",
                *_choices(report),
                "The paper's text says:",
                *(f"- {claim}" for claim in report["claims"]),
            ]
        )


FOUND = ("mean", "deviation", "seeds")


@dataclasses.dataclass(frozen=True)
class BoundsFigure:
    """The accuracy against the bound of the projection.

    Args:
        title: What the figure shows.
        networks: Sequence of `robustness_study.Network` whose methods hold
            one of values of `projection.max_value`.
        attacks: As those of `RobustnessTable`.
        claims: What the paper's text says of the figure.
    """

    title: str
    networks: tuple
    attacks: dict
    claims: tuple

    def run(self, arguments, folder):
        """Runs the figure as the arguments of the program say.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the results.

        Returns:
            The report, a dictionary.
        """
        refuse(arguments, "comparison", tune=True)
        study = study_of(self, arguments, folder)
        rows = []
        for network in self.networks:
            plain, projected = network.methods
            arms = [(None, study.runs(network, plain, {}))]
            arms += [
                (
                    changes[projected.key],
                    study.runs(network, projected, changes),
                )
                for changes in projected.trials()
            ]
            rows += [
                {
                    "network": network.name,
                    "bound": bound,
                    "accuracies": {
                        name: accuracy(runs, attack)
                        for attack, name in self.attacks.items()
                    },
                }
                for bound, runs in arms
            ]
        return _report(self, study, rows)

    def write(self, folder, report):
        """Writes the numbers and the figure, returns the names of the files."""
        from keras_polynets._files import atomic_write

        with atomic_write(folder / "table.md", "w") as file:
            file.write(f"# {report['title']}\n\n")
            file.write(markdown(_curve_words(report)) + "\n")
            file.write("".join(f"\n{line}\n" for line in _missing(report)))
        if not (report["rows"] and has_matplotlib()):
            return ["table.md"]
        robustness_figures.draw(report, folder / "figure.png")
        return ["table.md", "figure.png"]

    def text(self, report):
        """Returns the numbers and what the paper claims."""
        return "\n".join(
            [
                report["title"],
                "",
                *aligned(_curve_words(report)),
                "",
                *_missing(report),
                "The paper's text says:",
                *(f"- {claim}" for claim in report["claims"]),
            ]
        )


def accuracy(runs, attack):
    """Returns the test accuracies of runs, their mean and deviation.

    Args:
        runs: Records of a `Study`, or `None`.
        attack: An attack, or `None` for the clean accuracy.

    Returns:
        Dictionary with `values`, `mean`, `deviation`, `seeds` and `diverged`,
        the number of runs that did; or `None` where a run is missing.
    """
    from keras_polynets.recipes.comparing import spread

    if not runs or any("missing" in run for run in runs):
        return None
    tests = [run["test"] for run in runs if "diverged" not in run]
    values = [t["attacks"][attack] if attack else t["accuracy"] for t in tests]
    counts = {"seeds": len(values), "diverged": len(runs) - len(values)}
    found = spread(values) or {"values": [], "mean": None, "deviation": None}
    return found | counts


def study_of(table, arguments, folder):
    """Returns the runs of a table, a `Study`."""
    names = [network.name for network in table.networks]
    unknown = sorted(set(arguments.rows or ()) - set(names))
    if unknown:
        raise ValueError(f"Rows of this table are {names}. Received: {unknown}")
    runs = arguments.runs or folder / "runs"
    return Study(runs, arguments, known_records(arguments.known))


def _report(table, study, rows):
    done = {row["network"] for row in rows if _is_run(row)}
    return {
        "title": table.title,
        "claims": table.claims,
        "rows": [row for row in rows if row["network"] in done],
        "missing": [n.name for n in table.networks if n.name not in done],
        "records": study.records,
    }


def _is_run(row):
    return any((row.get("cells") or row.get("accuracies")).values())


def _words(report):
    """Returns the table as rows of words."""
    methods = list(report["rows"][0]["cells"]) if report["rows"] else []
    words = [["network", "attack", *methods]]
    for row in report["rows"]:
        cells = [_cell(row["cells"].get(method)) for method in methods]
        words.append([row["network"], row["attack"], *cells])
    return words


def _curve_words(report):
    names = list(report["rows"][0]["accuracies"]) if report["rows"] else []
    words = [["network", "bound", *names]]
    for row in report["rows"]:
        bound = "none" if row["bound"] is None else f"{row['bound']:g}"
        cells = [_cell(row["accuracies"][name]) for name in names]
        words.append([row["network"], bound, *cells])
    return words


def _cell(found):
    if found is None:
        return MISSING
    if not found["seeds"]:
        return "diverged"
    failed = f" ({found['diverged']} diverged)" if found["diverged"] else ""
    return cell(found) + failed


def _missing(report):
    """Returns the line that says what is not run, or none."""
    names = ", ".join(report["missing"])
    return [f"Not run: {names}."] if names else []


def _choices(report):
    """Returns a line for each network: what its validation images chose."""
    chosen = {row["network"]: row["chosen"] for row in report["rows"]}
    return _missing(report) + [
        f"{network}: "
        + "; ".join(
            f"{method} {_changes(changes)}"
            for method, changes in methods.items()
            if changes != {}
        )
        for network, methods in chosen.items()
    ]


def _changes(changes):
    """Returns the words of a choice: numbers, or a table of numbers."""
    from keras_polynets.recipes.directory import flat

    if changes is None:
        return MISSING
    return ", ".join(
        f"{key.rpartition('.')[2]} {_number(value)}"
        for key, value in flat(changes).items()
    )


def _number(value):
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(f"{number:g}" for number in value) + ")"
    return f"{value:g}"
