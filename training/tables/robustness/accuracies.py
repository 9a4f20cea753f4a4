"""Tables and figures of the robustness paper."""

import csv
import dataclasses

from training.tables.paper_table import PaperTable
from training.tables.paper_table import check_rows
from training.tables.robustness import notes
from training.tables.robustness import plots
from training.tables.robustness.study import SELECTING
from training.tables.robustness.study import Study
from training.tables.text import cell
from training.tables.text import known_part

MISSING = "not run"
CLEAN = "Clean"
FOUND = ("mean", "deviation", "seeds", "diverged")
OPTIONS = ("epochs", "known", "overrides", "rows", "runs", "scale", "seeds")


@dataclasses.dataclass(frozen=True)
class StudiedTable(PaperTable):
    """A table or a figure of the runs of a `Study`.

    Subclasses have `examine(study)`, which runs what they need of it and
    returns the report.

    Args:
        networks: Sequence of `study.Network`.
        attacks: Dictionary from an attack to its name in the paper; `None`
            stands for none.
    """

    networks: tuple
    attacks: dict

    options = OPTIONS

    def run(self, arguments, folder):
        """Runs the table as the arguments of the program say.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the results.

        Returns:
            The report, a dictionary.
        """
        check_rows(arguments, [network.name for network in self.networks])
        if any(text.startswith("epochs=") for text in arguments.overrides):
            raise ValueError(
                "Say --epochs N instead of --set epochs=N: it moves the start "
                "of projection and attacks in proportion."
            )
        runs = arguments.runs or folder / "runs"
        known = known_part(arguments.known, "records", list)
        return self.examine(Study(runs, arguments, known))

    def run_words(self, study, network):
        """Returns how a network was run, a list of words."""
        words = [notes.length(study, network)]
        if any(self.attacks):
            words.append(self.attacked_images(study, network))
        return words

    def attacked_images(self, study, network):
        """Returns which test images attacks see, in words; `""` for all."""
        return notes.attacked_images(study, network)


@dataclasses.dataclass(frozen=True)
class RobustnessTable(StudiedTable):
    """A table of accuracies: networks and attacks against methods.

    The numbers of the paper's cells are lost in the copies at hand.

    Args:
        selecting: The attack under which the validation images choose among
            the values of a method, or `None` for none.
    """

    selecting: str | None = SELECTING

    options = (*OPTIONS, "tune")
    first_number = 2

    def examine(self, study):
        """Returns the report, a dictionary."""
        return self.measured(study, self.networks)

    def measured(self, study, networks):
        """Returns the report on some networks, a dictionary."""
        rows = [row for n in networks for row in self._rows(study, n)]
        return _report(self, study, networks, rows, _choices(rows))

    def run_words(self, study, network):
        """Returns how a network was run, a list of words."""
        choice = notes.choice(study, network, self.selecting)
        return [*super().run_words(study, network), choice]

    def runs(self, study, network, method, changes):
        """Returns the records of a method's runs, a list, one a seed."""
        return study.runs(network, method, changes)

    def _rows(self, study, network):
        columns, chosen = {}, {}
        for method in network.methods:
            changes = study.choose(network, method, self.selecting)
            chosen[method.name], columns[method.name] = changes, None
            if changes is not None:
                columns[method.name] = self.runs(
                    study, network, method, changes
                )
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

    def table(self, report):
        """Returns the table as rows of words."""
        found = report["rows"]
        methods = list(found[0]["cells"]) if found else []
        words = [["network", "attack", *methods]]
        for row in found:
            cells = [_cell(row["cells"].get(method)) for method in methods]
            words.append([row["network"], row["attack"], *cells])
        return words

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
        return ["table.csv", *super().write(folder, report)]

    def draw(self, report):
        """Returns what every trial gives up for what it gains."""
        if not report["rows"]:
            return {}
        return {"figure": plots.draw_trials(report, self.selecting)}


@dataclasses.dataclass(frozen=True)
class BoundsFigure(StudiedTable):
    """The accuracy against the bound of the projection.

    Each network has two methods, none and one of values of
    `projection.max_value`.
    """

    def examine(self, study):
        """Returns the report, a dictionary."""
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
        return _report(self, study, self.networks, rows)

    def table(self, report):
        """Returns the numbers as rows of words."""
        found = report["rows"]
        names = list(found[0]["accuracies"]) if found else []
        words = [["network", "bound", *names]]
        for row in found:
            bound = "none" if row["bound"] is None else f"{row['bound']:g}"
            cells = [_cell(row["accuracies"][name]) for name in names]
            words.append([row["network"], bound, *cells])
        return words

    def draw(self, report):
        """Returns the accuracies against the bound."""
        bounded = {
            row["network"]
            for row in report["rows"]
            if row["bound"] is not None
            and any(f and f["values"] for f in row["accuracies"].values())
        }
        rows = [row for row in report["rows"] if row["network"] in bounded]
        return {"figure": plots.draw_bounds(rows)} if rows else {}


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


def _report(table, study, networks, rows, choices=()):
    done = {row["network"] for row in rows if _is_run(row)}
    missing = [n.name for n in table.networks if n.name not in done]
    words = [notes.BEST_EPOCH] if done else []
    for network in networks:
        if network.name in done:
            parts = filter(None, table.run_words(study, network))
            words.append(f"{network.name}: {'; '.join(parts)}")
    words += [choice for network, choice in choices if network in done]
    if missing:
        words.append(f"not run: {', '.join(missing)}")
    return table.report(
        *words,
        rows=[row for row in rows if row["network"] in done],
        missing=missing,
        records=study.records,
    )


def _is_run(row):
    return any((row.get("cells") or row.get("accuracies")).values())


def _cell(found):
    if found is None:
        return MISSING
    if not found["seeds"]:
        return "diverged"
    failed = f" ({found['diverged']} diverged)" if found["diverged"] else ""
    return cell(None if found["mean"] is None else found) + failed


def _choices(rows):
    """Returns pairs of a network and what its validation images chose."""
    chosen = {row["network"]: row["chosen"] for row in rows}
    found = []
    for network, methods in chosen.items():
        words = "; ".join(
            f"{method} {_changes(changes)}"
            for method, changes in methods.items()
            if changes != {}
        )
        if words:
            found.append((network, f"{network}, chosen: {words}"))
    return found


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
