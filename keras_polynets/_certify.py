"""The command `keras-polynets certify`: bounds, and accuracy that they give."""

import math

import numpy as np

from keras_polynets import _arguments
from keras_polynets import _console as console
from keras_polynets import analysis
from keras_polynets import robustness
from keras_polynets._errors import check_positive_integer
from keras_polynets.robustness import bounds
from keras_polynets.robustness import certifier
from keras_polynets.robustness import evaluation
from keras_polynets.robustness import inputs
from keras_polynets.robustness import rademacher

# The best of all of them comes last.
METHODS = (*certifier.METHODS[1:], certifier.METHODS[0])


def add_arguments(command):
    """Adds the arguments of the command, but for those of the model."""
    command.add_argument(
        "--p", type=_arguments.norm, default=math.inf, help="norm: 1, 2 or inf"
    )
    command.add_argument(
        "--radius",
        type=float,
        help="of the set of inputs (default: the model's valid range)",
    )
    command.add_argument(
        "--samples",
        type=int,
        default=60_000,
        help="sample size of the Rademacher bound (default: %(default)s)",
    )
    command.add_argument(
        "--epsilon",
        type=float,
        nargs="+",
        default=[],
        metavar="EPSILON",
        help="certify the test set against every change of at most "
        "EPSILON in the ℓ∞ norm, in units of the model's input",
    )
    command.add_argument(
        "--attack",
        action="store_true",
        help="attack the test set too (PGD, 20 steps): the certified accuracy "
        "cannot pass what is left",
    )
    _arguments.add_data(command)
    # Bounds take more memory than attacks.
    command.set_defaults(batch_size=16)


def run(arguments, load):
    """Returns the result of the command, for JSON.

    Args:
        arguments: What the parser found.
        load: Callable that returns the model that the arguments name.
    """
    for epsilon in arguments.epsilon:
        certifier.check_epsilon(epsilon)
    if arguments.attack and not arguments.epsilon:
        raise ValueError(
            "--attack needs the size of the change. Received no --epsilon. "
            "Pass one, for example --epsilon 0.01."
        )
    check_positive_integer("samples", arguments.samples)
    if arguments.radius is not None:
        bounds.check_radius(arguments.radius)
    model = load(arguments)
    if arguments.epsilon:
        # Before images are fetched that no certificate is possible of.
        analysis.polynomial_degree(model)
    result = {
        "model": arguments.model,
        "p": "inf" if arguments.p == math.inf else arguments.p,
        "radius": arguments.radius,
        **_global_bounds(arguments, model),
        "samples": arguments.samples,
    }
    if arguments.epsilon:
        # Certificates are of the ℓ∞ norm, whatever `--p` is.
        methods = robustness.Certifier(model).methods
        result |= _certificates(arguments, model, methods)
    return result


def _global_bounds(arguments, model):
    region = arguments.p, arguments.radius
    if arguments.epsilon:
        # Branching models have local bounds only.
        return rademacher.global_bounds(model, arguments.samples, *region)
    complexity = None
    # The paper bounds the complexity for these two norms.
    if arguments.p in (2, math.inf):
        complexity = robustness.rademacher_bound(
            model, arguments.samples, *region
        )
    return {
        "lipschitz_bound": robustness.lipschitz_bound(model, *region),
        "rademacher_bound": complexity,
    }


def _certificates(arguments, model, methods):
    about, examples, labels = _arguments.load_examples(arguments)
    _check_shape(arguments, model, examples)
    verbose = 0 if arguments.json else 1

    def share(kind, *rest, **options):
        data = examples, labels
        return kind(model, data, *rest, verbose=verbose, **options)

    rows = []
    for epsilon in arguments.epsilon:
        row = {"epsilon": epsilon}
        for method in methods:
            if not arguments.json:
                console.say(f"ε = {epsilon:g}", f"certified, {method}")
            row[method] = share(
                robustness.certified_accuracy,
                epsilon,
                method,
                batch_size=arguments.batch_size,
            )
        row["local_lipschitz_bound"] = _median(
            model, examples, epsilon, arguments.batch_size
        )
        if arguments.attack and epsilon > 0:
            attack = f"pgd:{epsilon},20,{epsilon / 8}"
            row["attacked"] = share(robustness.robust_accuracy, attack)
        rows.append(row)
    return {
        **about,
        "accuracy": share(robustness.robust_accuracy),
        "certificates": rows,
    }


def _check_shape(arguments, model, images):
    expected = getattr(model, "stored_shape", model.input_shape[1:])
    if not inputs.fits(images.shape[1:], expected):
        raise ValueError(
            f"The model {arguments.model!r} takes images of shape {expected}. "
            f"Received: --data {arguments.data}, whose images have shape "
            f"{images.shape[1:]}. Pass --data with a set that fits."
        )


def _median(model, examples, epsilon, batch_size):
    """Returns the median of the local Lipschitz bounds of stored examples."""
    x = evaluation.model_inputs(model, examples)
    found = robustness.local_lipschitz_bound(model, x, epsilon, batch_size)
    return float(np.median(found))


def show(result):
    """Prints the result as tables.

    Args:
        result: What `run` returned.
    """
    table = console.table("bound", ("value", "right"))
    norm = "ℓ∞" if result["p"] == "inf" else f"ℓ{result['p']}"
    table.add_row(
        f"Lipschitz ({norm})", console.number(result["lipschitz_bound"])
    )
    table.add_row(
        f"Rademacher ({norm}, {result['samples']:,} samples)",
        console.number(result["rademacher_bound"]),
    )
    for row in result.get("certificates", ()):
        table.add_row(
            f"local Lipschitz (ℓ∞, ε = {_size(row)}), median",
            console.number(row["local_lipschitz_bound"]),
        )
    console.print_table(table, result["model"])
    if "certificates" in result:
        _show_certificates(result)


def _show_certificates(result):
    rows = result["certificates"]
    attacked = ["PGD-20 leaves"] if "attacked" in rows[0] else []
    # All of them, with 100.00 % in each, fit into 80 columns.
    names = ["ε", *METHODS[:-1], "best", *attacked]
    table = console.table(*((name, "right") for name in names))
    for row in rows:
        shares = [row.get(method) for method in METHODS]
        shares += [row.get("attacked")] if attacked else []
        table.add_row(_size(row), *map(console.percentage, shares))
    console.print_table(
        table,
        f"Certified accuracy (ℓ∞), of {_arguments.title(result)}; clean "
        f"{console.percentage(result['accuracy'])}",
    )


def _size(row):
    return f"{row['epsilon']:.4g}"
