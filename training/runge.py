"""Approximates the Runge function by quadratic networks, each way to train.

Repeats Section V-A1 and Table II of Fan et al., "On Expressivity and
Trainability of Quadratic Networks": ReLU networks 1-10-10-10-10-1 of full
quadratic neurons, of degree 32 at most on each piece, learn 1 / (1 + 25 x²)
from 33 points by gradient descent. Every strategy has the best of nine trials,
on other seeds and on points between the training points.

Writes `docs/results/runge.json` and two figures to `docs/images`. About a
quarter of an hour on two busy cores.
"""

import argparse
import dataclasses
import itertools
import json
import math
import os
import pathlib
import sys

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

WIDTHS = (1, 10, 10, 10, 10, 1)
TRAINING = np.linspace(-1, 1, 33)
VALIDATION = (TRAINING[1:] + TRAINING[:-1]) / 2
# None of these is a training or a validation point.
TEST = np.linspace(-1, 1, 102)[1:-1]
STEPS = 20_000
# Steps of one execution.
CHUNK = 1000
FIRST_TUNING_SEED = 1000
RATES = (0.3, 0.1, 0.03)


@dataclasses.dataclass(frozen=True)
class Strategy:
    """A way to train and what is tried for it: every rate with every amount.

    Args:
        label: Its name in figures.
        paper: The RMSE of the paper's Table II, `None` where it has none.
        arguments: The names of the arguments of `ReLinear` that are given
            the amount.
        amounts: Floats.
        options: Other arguments of `ReLinear`.
        rates: Floats.
        untamed: Whether all weights are drawn alike, instead of starting from
            ReLinear's initialisation.
    """

    label: str
    paper: float | None
    arguments: tuple
    amounts: tuple
    options: dict = dataclasses.field(default_factory=dict)
    rates: tuple = RATES
    untamed: bool = False

    def trials(self):
        """Returns what is tried, in order."""
        return [
            {"rate": rate, **dict.fromkeys(self.arguments, amount)}
            for rate, amount in itertools.product(self.rates, self.amounts)
        ]


FACTORS = ("gate_factor", "power_factor")
SHRINKAGES = ("gate_shrinkage", "power_shrinkage")
STRATEGIES = {
    "regular": Strategy(
        "regular training",
        None,
        (),
        (0.0,),
        rates=(0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5),
        untamed=True,
    ),
    "sw_l1": Strategy(
        "ReLinear, sw-ℓ1",
        0.0656,
        SHRINKAGES,
        (1e-5, 1e-4, 1e-3),
        {"shrinkage": "l1", "proximal": False},
    ),
    "sw_l2": Strategy(
        "ReLinear, sw-ℓ2",
        0.0426,
        SHRINKAGES,
        (1e-4, 1e-3, 1e-2),
        {"shrinkage": "l2", "proximal": False},
    ),
    "sg": Strategy("ReLinear, sg", 0.0205, FACTORS, (1e-1, 1e-2, 1e-3)),
    "sw_l1_proximal": Strategy(
        "ReLinear, proximal sw-ℓ1",
        None,
        SHRINKAGES,
        (1e-5, 1e-4, 1e-3),
        {"shrinkage": "l1", "proximal": True},
    ),
}
# Table II, the best first.
ORDER = ("sg", "sw_l2", "sw_l1")


def runge(x):
    """Returns the Runge function of an array."""
    return 1 / (1 + 25 * x**2)


def train(strategy, trial, seeds, steps):
    """Trains a network for each seed, all side by side, on all the points.

    Args:
        strategy: A `Strategy`.
        trial: One of its trials.
        seeds: Integers.
        steps: Integer, the number of steps of gradient descent.

    Returns:
        The `keras.Model` of all networks.
    """
    import keras
    import tensorflow as tf

    from keras_polynets.models import quadratic_mlp
    from keras_polynets.optimizers import ReLinear

    model = quadratic_mlp.quadratic_mlp(WIDTHS, networks=len(seeds))
    quadratic_mlp.initialize(model, seeds, quadratic_terms=strategy.untamed)
    trial = dict(trial)
    sgd = keras.optimizers.SGD(trial.pop("rate"))
    optimizer = ReLinear(sgd, **trial, **strategy.options)
    optimizer.build(model.trainable_variables)
    x = tf.constant(points(TRAINING, len(seeds)))

    @tf.function(jit_compile=True)
    def descend(steps):
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                errors = tf.math.squared_difference(model(x), runge(x))
                # One mean a network, so that each learns as it would alone.
                loss = tf.reduce_sum(tf.reduce_mean(errors, axis=0))
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)

    for done in range(0, steps, CHUNK):
        descend(tf.constant(min(CHUNK, steps - done)))
    return model


def points(x, networks):
    """Returns the points as the input of every network."""
    return np.repeat(x[:, None, None], networks, axis=1).astype("float32")


def values(model, x):
    """Returns what each network gives: an array `(networks, points)`."""
    inputs = points(x, model.input_shape[1])
    return np.asarray(model(inputs), np.float64)[..., 0].T


def rmse(model, x):
    """Returns the root mean squared error of each network."""
    return np.sqrt(np.mean((values(model, x) - runge(x)) ** 2, axis=1))


def experiment(strategy, seeds, tuning_seeds, steps):
    """Tunes a strategy and trains it with the reported seeds.

    Returns:
        The results, and the model of the reported networks.
    """
    trials = strategy.trials()
    for trial in trials:
        model = train(strategy, trial, tuning_seeds, steps)
        mean = float(rmse(model, VALIDATION).mean())
        # A trial in which one network diverges has no mean.
        trial["validation_rmse"] = mean if math.isfinite(mean) else None
        print(f"  {strategy.label}: {trial}", flush=True)
    chosen = dict(min(trials, key=lambda t: t["validation_rmse"] or math.inf))
    chosen.pop("validation_rmse")
    model = train(strategy, chosen, seeds, steps)
    errors = rmse(model, TEST)
    whole = np.flatnonzero(np.isfinite(errors))
    results = {
        "label": strategy.label,
        "trials": trials,
        "chosen": chosen,
        "diverged": len(errors) - len(whole),
        "training_rmse": _json(rmse(model, TRAINING)),
        "test_rmse": _json(errors),
        # Of the networks that have not diverged.
        "mean": float(errors[whole].mean()),
        "deviation": float(errors[whole].std(ddof=1)),
        "paper": strategy.paper,
        **polynomials(model, whole),
    }
    return results, model


def _json(numbers):
    """Returns a list, with `None` for what is not finite."""
    return [float(n) if math.isfinite(n) else None for n in numbers]


def at_equal_amounts(seeds, steps):
    """Compares sw-ℓ2 with sw-ℓ1 at the same rate and the same amount.

    Returns:
        List of a dictionary a trial that both have, with the mean errors and
        the `comparison` of the reported seeds.
    """
    first, second = (STRATEGIES[name] for name in ("sw_l2", "sw_l1"))
    rows = []
    for trial in first.trials():
        if trial not in second.trials():
            continue
        l2, l1 = (
            _json(rmse(train(strategy, trial, seeds, steps), TEST))
            for strategy in (first, second)
        )
        rows.append(trial | {"sw_l2": l2, "sw_l1": l1} | comparison(l2, l1))
        print(f"  equal amounts: {trial}", flush=True)
    return rows


def polynomials(model, networks):
    """Returns how many pieces the networks have, and how large the powers.

    The coefficients of one power are summed up by their median over the
    pieces, weighted by the lengths of these, and over the networks.
    """
    from keras_polynets.models.quadratic_mlp import polynomial_pieces

    counts, medians = [], []
    for network in networks:
        pieces = polynomial_pieces(model, network)
        counts.append(len(pieces))
        lengths = np.array([p.high - p.low for p in pieces])
        sizes = np.abs([p.coefficients[0] for p in pieces])
        order = sizes.argsort(axis=0)
        share = np.cumsum(lengths[order], axis=0) / lengths.sum()
        middle = (share >= 0.5).argmax(axis=0)
        ranked = np.take_along_axis(sizes, order, axis=0)
        medians.append(ranked[middle, np.arange(ranked.shape[1])])
    return {
        "pieces": counts,
        "coefficients": np.median(medians, axis=0).tolist(),
    }


def comparison(better, worse):
    """Compares two strategies seed by seed.

    Returns:
        How many seeds agree that the first has the smaller error, and the
        one-sided p-value of the exact sign-flip test of the mean difference.
        A network that has diverged counts with an error of 1.
    """
    better, worse = (
        np.array([1.0 if error is None else error for error in errors])
        for errors in (better, worse)
    )
    differences = worse - better
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    flipped = signs @ differences
    return {
        "wins": int((differences > 0).sum()),
        "of": len(differences),
        "p": float(np.mean(flipped >= differences.sum() - 1e-12)),
    }


def report(results):
    """Returns the table as text."""
    lines = [f"{'':26}{'test RMSE':>17}{'paper':>9}  pieces  chosen"]
    for result in results["strategies"].values():
        cell = f"{result['mean']:.4f} ± {result['deviation']:.4f}"
        paper = "" if result["paper"] is None else f"{result['paper']:.4f}"
        pieces = f"{np.mean(result['pieces']):.0f}"
        if result["diverged"]:
            pieces += f" ({result['diverged']} diverged)"
        chosen = ", ".join(f"{k} {v:g}" for k, v in result["chosen"].items())
        lines.append(
            f"{result['label']:26}{cell:>17}{paper:>9}{pieces:>8}  {chosen}"
        )
    lines += [
        f"{name}: {_words(result)}" for name, result in results["order"].items()
    ]
    lines += [
        f"sw_l2 better than sw_l1 at rate {row['rate']:g} and amount "
        f"{row['gate_shrinkage']:g}: {_words(row)}"
        for row in results["equal_amounts"]
    ]
    return "\n".join(lines)


def _words(compared):
    return (
        f"{compared['wins']} of {compared['of']} seeds, p = {compared['p']:.3f}"
    )


def figures(models, results, folder):
    """Writes the figures: the fits and the polynomials piece by piece."""
    from keras_polynets import polynomial_plots
    from keras_polynets.models.quadratic_mlp import polynomial_pieces

    fits, pieces = {}, {}
    for name, model in models.items():
        errors = results["strategies"][name]["test_rmse"]
        # The network in the middle, not the luckiest.
        whole = [n for n, error in enumerate(errors) if error is not None]
        whole.sort(key=errors.__getitem__)
        network = whole[(len(whole) - 1) // 2]
        label = STRATEGIES[name].label
        fits[label] = values(model, np.linspace(-1, 1, 801))[network]
        pieces[label] = [
            (piece.low, piece.high, piece.coefficients[0])
            for piece in polynomial_pieces(model, network)
        ]
    polynomial_plots.approximations(
        np.linspace(-1, 1, 801),
        runge(np.linspace(-1, 1, 801)),
        fits,
        folder / "runge_fits.png",
        training=(TRAINING, runge(TRAINING)),
    )
    polynomial_plots.polynomial_pieces(
        pieces, folder / "runge_coefficients.png"
    )


def main(argv=None):
    """Runs the program and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.runge", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tuning-seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("docs/results")
    )
    parser.add_argument(
        "--figures", type=pathlib.Path, default=pathlib.Path("docs/images")
    )
    arguments = parser.parse_args(argv)
    if min(arguments.seeds, arguments.tuning_seeds) < 2 or arguments.steps < 1:
        parser.error("at least 2 seeds of each kind and 1 step are needed")
    from keras_polynets._files import atomic_write

    seeds = range(arguments.seeds)
    tuning_seeds = range(
        FIRST_TUNING_SEED, FIRST_TUNING_SEED + arguments.tuning_seeds
    )
    results = {"steps": arguments.steps, "strategies": {}, "order": {}}
    models = {}
    for name, strategy in STRATEGIES.items():
        results["strategies"][name], models[name] = experiment(
            strategy, seeds, tuning_seeds, arguments.steps
        )
    for better, worse in itertools.combinations(ORDER, 2):
        results["order"][f"{better} better than {worse}"] = comparison(
            results["strategies"][better]["test_rmse"],
            results["strategies"][worse]["test_rmse"],
        )
    results["equal_amounts"] = at_equal_amounts(seeds, arguments.steps)
    with atomic_write(arguments.output / "runge.json", "w") as file:
        json.dump(results, file, indent=1)
    figures(models, results, arguments.figures)
    print(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
