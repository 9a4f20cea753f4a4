"""The command line: `keras-polynets list | info | train | evaluate | ...`."""

import argparse
import json
import sys
import warnings

from rich.markup import escape

from keras_polynets import _arguments
from keras_polynets import _certify
from keras_polynets import _console as console
from keras_polynets import export
from keras_polynets import recipes
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets._errors import check_positive_integer
from keras_polynets._version import __version__
from keras_polynets.recipes import evaluating
from keras_polynets.zoo import directory

USER_ERROR = 2
INTERRUPTED = 130


def main(argv=None):
    """Runs one command of `keras-polynets`.

    Args:
        argv: List of the words after the name of the program. `None` takes
            those of the process.

    Returns:
        The exit code: 0, 2 for an error that the message explains, or 130
        after Ctrl-C.

    Example:

    ```python
    keras_polynets.cli.main(["info", "pn4", "--json"])
    ```
    """
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            # The user's business, and not that of the libraries below.
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = console.show_warning
            result = arguments.run(arguments)
        if arguments.json:
            print(json.dumps(console.plain(result), indent=2))
        else:
            arguments.show(result)
    except KeyboardInterrupt:
        if arguments.debug:
            raise
        hint = " Run the same command to go on." if _trains(arguments) else ""
        console.say("interrupted", f"Stopped.{hint}")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
    except Exception as error:
        if arguments.debug:
            raise
        if isinstance(error, _EXPLAINED):
            console.say("error", str(error))
        else:
            console.say("error", f"{type(error).__name__}: {error}")
            console.say("hint", "--debug shows where it was raised.")
        return USER_ERROR
    return 0


# Errors whose message is written for the user.
_EXPLAINED = (
    ArithmeticError,
    ImportError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _list(arguments):
    names = zoo.list_models(arguments.pattern, family=arguments.family)
    if not names:
        raise ValueError(
            f"No model matches {arguments.pattern!r}. Known: "
            f"{', '.join(zoo.list_models())}."
        )
    return [zoo.info(name) for name in names]


def _show_list(models):
    table = console.table(
        "model", ("parameters", "right"), "weights (test accuracy)", "what"
    )
    for model in models:
        weights = "\n".join(
            tag + console.percentage(_test_accuracy(entry), " ({})")
            for tag, entry in model["tags"].items()
        )
        table.add_row(
            model["name"],
            f"{model['parameters']:,}" if model["parameters"] else "",
            weights or "none yet",
            escape(model["description"]),
        )
    console.print_table(table)


def _info(arguments):
    return zoo.info(arguments.model)


def _show_info(info):
    table = console.table("property", "value")
    for key in ("name", "description", "family", "task", "paper", "default"):
        table.add_row(key, escape(str(info[key])))
    table.add_row("parameters", f"{info['parameters'] or 0:,}")
    table.add_row("recipes", ", ".join(info["recipes"]) or "none")
    for source in info["weights"]:
        table.add_row(f"weights {source}", "downloaded by Keras")
    for tag, entry in info["tags"].items():
        lines = [
            f"{key}: {value}"
            for key, value in entry.items()
            if key not in ("results", "class_names")
        ]
        lines.append(
            console.percentage(_test_accuracy(entry), "test accuracy: {}")
        )
        table.add_row(f"weights {tag}", escape("\n".join(filter(None, lines))))
    console.print_table(table)


def _train(arguments):
    recipe = recipes.load(arguments.recipe, arguments.set)
    quiet = arguments.json or arguments.quiet
    return recipes.run(
        recipe, arguments.run_directory, verbose=0 if quiet else "auto"
    )


def _show_train(result):
    table = console.table("measure", ("value", "right"))
    table.add_row("model", result["model"])
    table.add_row("epochs", f"{result['epochs']:,}")
    for part in ("validation", "test"):
        report = result[part]
        if report:
            count = f"{report['examples']:,} {part} examples"
            shares = {
                "accuracy": report["accuracy"],
                **evaluating.told_top_accuracies(report),
                **report["attacks"],
            }
            for name, share in shares.items():
                table.add_row(f"{name}, {count}", console.percentage(share))
    table.add_row(
        "Lipschitz bound (ℓ∞)", console.number(result["lipschitz_bound"])
    )
    table.add_row(
        "Rademacher bound (ℓ∞)", console.number(result["rademacher_bound"])
    )
    console.print_table(table)


def _evaluate(arguments):
    top_k = _completed(arguments).top_k or []
    for k in top_k:
        check_positive_integer("--top-k", k)
    return _accuracies(arguments, [None], top_k)


def _attack(arguments):
    attacks = [robustness.parse_attack(text) for text in arguments.attacks]
    return _accuracies(_completed(arguments), [None, *attacks])


def _accuracies(arguments, attacks, top_k=()):
    about, examples, labels = _arguments.load_examples(arguments)
    model = _load(arguments)
    accuracies = {}
    for attack in attacks:
        name = getattr(attack, "name", "clean")
        if not arguments.json:
            console.say(name, f"{len(labels):,} {about['kind']}")
        accuracies[name] = robustness.robust_accuracy(
            model,
            (examples, labels),
            attack,
            batch_size=arguments.batch_size,
            verbose=0 if arguments.json else 1,
        )
    result = {"model": arguments.model, **about}
    if top_k:
        result |= evaluating.top_accuracies(
            model, (examples, labels), top_k, arguments.batch_size
        )
    return result | {"accuracy": accuracies}


def _show_accuracies(result):
    table = console.table(result["kind"], ("accuracy", "right"))
    shares = result["accuracy"] | evaluating.told_top_accuracies(result)
    for name, accuracy in shares.items():
        table.add_row(name, console.percentage(accuracy))
    title = f"{result['model']}: {_arguments.title(result)}"
    console.print_table(table, title)


def _export(arguments):
    path = export.saved_model(
        _load(arguments),
        arguments.path,
        overwrite=arguments.overwrite,
    )
    return {"model": arguments.model, "path": str(path)}


def _show_export(result):
    print(f"{result['model']} → {result['path']}")


def _completed(arguments):
    """Fills in what the recipe of the weights says and the user did not.

    With another split they would be tested on what trained them.
    """
    name, _, tag = arguments.model.partition(".")
    if arguments.weights != "auto":
        tag = arguments.weights
    tag = tag or directory.manifest(name)["default"]
    recipe = directory.recipe_values(name, tag)
    for section, key in (("data", "split"), ("evaluation", "top_k")):
        if getattr(arguments, key, ()) is None:
            setattr(arguments, key, recipe.get(section, {}).get(key))
    return arguments


def _load(arguments):
    return zoo.load(arguments.model, weights=arguments.weights)


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-polynets",
        description="The model zoo of polynomial networks for Keras.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {__version__}"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )

    command = _command(commands, "list", "the models", _list, _show_list)
    command.add_argument(
        "pattern", nargs="?", default="*", help="such as 'pn*'"
    )
    command.add_argument("--family", help="only models of this family")

    command = _command(commands, "info", "one model", _info, _show_info)
    command.add_argument("model", metavar="MODEL", help="NAME or NAME.TAG")

    command = _command(
        commands, "train", "train by a recipe", _train, _show_train
    )
    command.add_argument(
        "recipe", metavar="RECIPE", help="NAME.TAG, or a .toml file"
    )
    command.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="change the recipe, for example --set epochs=3; may be repeated",
    )
    command.add_argument(
        "--run-directory", metavar="DIR", help="default: runs/RECIPE"
    )
    command.add_argument(
        "--quiet", action="store_true", help="no progress bars"
    )

    command = _command(
        commands,
        "evaluate",
        "accuracy on the test set",
        _evaluate,
        _show_accuracies,
    )
    _arguments.add_model(command)
    command.add_argument(
        "--top-k",
        type=int,
        nargs="+",
        metavar="K",
        help="the share of the examples whose class is among the K most "
        "probable ones too (default: as the recipe of the weights says)",
    )
    _arguments.add_data(command)

    command = _command(
        commands,
        "attack",
        "accuracy under attacks",
        _attack,
        _show_accuracies,
    )
    _arguments.add_model(command)
    command.add_argument(
        "attacks",
        metavar="ATTACK",
        nargs="*",
        default=["fgsm:0.1", "pgd:0.1,20,0.01"],
        help="fgsm:EPSILON, pgd:EPSILON,STEPS,STEP_SIZE, tpgd:EPSILON,STEPS,"
        "STEP_SIZE, apgd:EPSILON,STEPS or apgd_t:EPSILON,STEPS, in units of "
        "the model's input (default: fgsm:0.1 pgd:0.1,20,0.01)",
    )
    _arguments.add_data(command)

    command = _command(
        commands,
        "certify",
        "bounds of Lipschitz constant and complexity, certified accuracy",
        lambda arguments: _certify.run(_completed(arguments), _load),
        _certify.show,
    )
    _arguments.add_model(command)
    _certify.add_arguments(command)

    command = _command(
        commands, "export", "write a SavedModel", _export, _show_export
    )
    _arguments.add_model(command)
    command.add_argument("path", metavar="DIR", help="the folder to write")
    command.add_argument(
        "--overwrite", action="store_true", help="replace the folder"
    )
    return parser


def _command(commands, name, summary, run, show):
    command = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run, show=show)
    command.add_argument(
        "--json", action="store_true", help="print JSON and nothing else"
    )
    command.add_argument(
        "--debug", action="store_true", help="show the traceback of an error"
    )
    return command


def _test_accuracy(entry):
    test = (entry.get("results") or {}).get("test") or {}
    return test.get("accuracy")


def _trains(arguments):
    return arguments.run is _train


if __name__ == "__main__":
    sys.exit(main())
