"""Trains a model by a recipe.

    python -m training.train pn4.fashion_mnist
    python -m training.train recipe.toml --set epochs=3 --set data.name=mnist

The same command goes on with a run that was interrupted.
"""

import argparse
import json
import shlex
import sys

INTERRUPTED = 130


def make_parser():
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Train a model by a recipe, measure it and report.",
        epilog="The same command goes on with a run that was interrupted.",
    )
    parser.add_argument(
        "recipe", help="NAME.TAG of the zoo, or the path of a .toml file"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change a key of the recipe, such as epochs=3 (repeatable)",
    )
    parser.add_argument(
        "--run-directory",
        help="folder of the run (default: runs/ and the recipe's name)",
    )
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="choose the projection's bound by the validation set first",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result alone, as JSON"
    )
    return parser


def main(argv=None):
    """Runs the program and returns its exit status."""
    arguments = make_parser().parse_args(argv)
    from keras_polynets import recipes

    perform = recipes.sweep if arguments.sweep else recipes.run
    try:
        recipe = recipes.load(arguments.recipe, arguments.overrides)
        result = perform(
            recipe,
            run_directory=arguments.run_directory,
            verbose=0 if arguments.json else "auto",
        )
    except KeyboardInterrupt:
        command = shlex.join(sys.argv[1:] if argv is None else argv)
        print(
            "\nInterrupted. The state is saved; to go on, run the same "
            f"command again:\n  python -m training.train {command}",
            file=sys.stderr,
        )
        return INTERRUPTED
    except (ArithmeticError, OSError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=2) if arguments.json else summary(result))
    return 0


def summary(result):
    """Returns a few lines that say what came out."""
    if "rows" in result:
        rows = [
            f"  bound {row['max_value'] or 'none'}: "
            + (
                "diverged"
                if "diverged" in row
                else f"validation accuracy {row['accuracy']:.4f}, under "
                f"{result['attack']} {row['robust_accuracy']:.4f}"
            )
            for row in result["rows"]
        ]
        chosen = f"chosen: bound {result['chosen']:g}"
        return "\n".join([*rows, chosen, summary(result["projected"])])
    from keras_polynets.recipes import evaluating

    lines = [
        f"{result['model']}: {result['parameters']:,} parameters, "
        f"{result['epochs']} epochs in {result['training_seconds']:.1f} s, "
        f"{result['weights']} weights"
    ]
    for name in ("validation", "test"):
        part = result[name]
        if part is not None:
            lines.append(f"{name} accuracy {part['accuracy']:.4f}")
            lines += [
                f"  {top} {value:.4f}"
                for top, value in evaluating.told_top_accuracies(part).items()
            ]
            lines += [
                f"  under {attack}: "
                + ("skipped" if value is None else f"{value:.4f}")
                for attack, value in part["attacks"].items()
            ]
    if result["lipschitz_bound"] is not None:
        bound = result["lipschitz_bound"]
        lines.append(f"Lipschitz bound (∞-norm): {bound:.4g}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
