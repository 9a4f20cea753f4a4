"""Repeats a table or a figure of a paper and prints both sides.

    python -m training.reproduce robustness-table1
    python -m training.reproduce robustness-table1 --scale 0.1 --seeds 1

writes table.json, the table and its figures beside the runs. The same command
goes on with what was interrupted.
"""

import argparse
import json
import pathlib
import sys

from training.tables import TABLES

INTERRUPTED = 130


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
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a key of the recipe (repeatable)",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        metavar="ROW",
        help="rows to train; of the others what is finished is reported "
        "(default: all)",
    )
    parser.add_argument(
        "--no-tuning",
        dest="tune",
        action="store_false",
        help="try nothing: take the first trial of each row of a comparison, "
        "the recipe's value in a table of the robustness paper",
    )
    parser.add_argument(
        "--known",
        type=pathlib.Path,
        help="table.json from before whose runs are not repeated",
    )
    parser.add_argument(
        "--runs",
        type=pathlib.Path,
        help="folder of the runs, which tables of the robustness paper share, "
        "one process a network (default: runs in that of the output)",
    )
    parser.add_argument(
        "--output", help="folder (default: runs/reproduce/TABLE)"
    )
    figures = parser.add_argument_group("figures")
    figures.add_argument(
        "--bounds", type=float, nargs="+", help="bounds of the projection"
    )
    figures.add_argument(
        "--draws", type=int, help="number of random networks of each kind"
    )
    figures.add_argument(
        "--images", type=int, help="number of test images to attack"
    )
    figures.add_argument(
        "--ranks", type=int, nargs="+", help="hidden ranks of the networks"
    )
    return parser


def find(arguments, parser):
    """Returns the table that the arguments ask for."""
    from keras_polynets._errors import unknown_name

    if arguments.table not in TABLES:
        raise unknown_name("table", arguments.table, TABLES)
    if arguments.seeds < 1:
        raise ValueError(
            f"A table needs at least 1 seed. Received: {arguments.seeds}"
        )
    table = TABLES[arguments.table]
    _refuse_others(arguments, parser, table)
    return table


def _refuse_others(arguments, parser, table):
    """Raises a `ValueError` for options that a table does not take."""
    given = {k: v for k, v in vars(arguments).items() if v is not None}
    names = {"overrides": "--set", "tune": "--no-tuning"}
    refused = [
        names.get(name, f"--{name}")
        for name in given
        if name not in {"table", "output", *table.options}
        and given[name] != parser.get_default(name)
    ]
    if refused:
        raise ValueError(
            f"Table {arguments.table!r} takes no {', '.join(refused)}. Leave "
            "that out."
        )


def main(argv=None):
    """Runs the program and returns its exit status."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    from keras_polynets._files import atomic_write

    try:
        table = find(arguments, parser)
        folder = pathlib.Path(
            arguments.output or pathlib.Path("runs/reproduce", arguments.table)
        )
        report = table.run(arguments, folder)
        with atomic_write(folder / "table.json", "w") as file:
            json.dump(report, file, indent=1)
        written = ["table.json", *table.write(folder, report)]
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on.", file=sys.stderr)
        return INTERRUPTED
    except (ArithmeticError, OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table.text(report))
    print(f"\nWritten to {folder}/: {', '.join(written)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
