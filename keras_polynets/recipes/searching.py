"""Search of the bounds of single layers, many networks at a time."""

import itertools
import json
import math
import pathlib
import sys

from keras_polynets._errors import check_positive_integer
from keras_polynets._files import atomic_write
from keras_polynets.recipes.attempting import trunk_of
from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.grid import Grid
from keras_polynets.recipes.grid import check_recipe
from keras_polynets.recipes.grid import layers_of
from keras_polynets.recipes.running import RUNS
from keras_polynets.recipes.running import run

CANDIDATES = (0.8, 1.2, 2.0, 5.0, 10.0)
ROUNDS = ((2, 400), (6, 100), (50, 1))


def search_layer_bounds(
    recipe,
    candidates=CANDIDATES,
    run_directory=None,
    *,
    attack="fgsm:0.01",
    rounds=ROUNDS,
    block=50,
    verbose="auto",
):
    """Chooses the bound of every matrix of a CCP network by a grid search.

    Every combination of the candidates, one for each of `U_1, ..., U_N` and
    `C`, is a member of the grid. The epochs before the projection are trained
    once. From there on the members are trained many at a time, as a
    `models.PolynomialNetStack`, each as the recipe with its bounds as
    `projection.layers` would train it. This happens in rounds: in each one the
    members that are left train from that checkpoint for more epochs, and the
    best of them, by the validation accuracy under `attack`, go on to the next
    round. Of equal ones those with the smaller product of bounds go on, which
    certifies more. The test set is not looked at.

    Call it again to go on with a search that was interrupted, after the last
    finished block.

    Args:
        recipe: A `Recipe` of a dense CCP network with a projection, a
            validation set and plain SGD. The bounds of its projection do not
            matter.
        candidates: Bounds above 0 that every matrix tries, or one such
            sequence for each matrix, `U_1` first and `C` last.
        run_directory: Folder of the search, `runs/<name>-layers` by default.
            It holds the folder `trunk` of the run before the projection,
            `log.txt`, `progress.json` and `search.json`.
        attack: The attack that selects, as `robustness.parse_attack` reads it.
        rounds: Pairs of integers: the epochs with projection after which a
            round compares its members, and how many of them go on. The last
            round keeps one.
        block: Positive integer, how many members are trained at once.
        verbose: As in `run`.

    Returns:
        Dictionary (`search.json`): `attack`, `candidates` (a list for each
        matrix), `rounds`, `members` (for each `layers`, its bounds as
        `projection.layers` takes them; `epochs`, those of the last round that
        it took part in; `accuracy` and `robust_accuracy`, of the validation
        set after that round, 0 where it diverged), and `chosen`, the `layers`
        of the best.

    Raises:
        ValueError: If the recipe does not fit, if candidates or rounds are
            out of range, or if the folder holds another search.

    Example:

    >>> recipe = keras_polynets.recipes.load("pn4.fashion_mnist_projected")
    >>> found = keras_polynets.recipes.search_layer_bounds(recipe)
    >>> best = recipe.replace({"projection.layers": found["chosen"]})

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Appendix H.8.
        - Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and
          Hyperparameter Optimization", AISTATS 2016, successive halving.
    """
    check_recipe(recipe)
    check_rounds(rounds, recipe.epochs - recipe.projection.start_epoch)
    check_positive_integer("block", block)
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    grid = Grid(recipe, attack, verbose)
    settings = {
        "attack": attack,
        "candidates": one_list_a_matrix(candidates, grid.order + 1),
        "rounds": [list(pair) for pair in rounds],
    }
    folder = pathlib.Path(run_directory or RUNS / f"{recipe.name}-layers")
    progress = Progress(RunDirectory(folder), recipe, settings)
    run(trunk_of(recipe), folder / "trunk", verbose, test=False)
    grid.start_from(RunDirectory(folder / "trunk").last)
    report = settings | _halve(grid, progress, settings, block)
    with atomic_write(folder / "search.json", "w") as file:
        json.dump(report, file)
    return report


def _halve(grid, progress, settings, block):
    """Runs the rounds; returns the rows of all members and the best's."""
    left, rows = list(itertools.product(*settings["candidates"])), {}
    for number, (epochs, survivors) in enumerate(settings["rounds"]):
        known = progress.rounds.setdefault(number, {})
        todo = [bounds for bounds in left if bounds not in known]
        for start in range(0, len(todo), block):
            known |= grid.measure(todo[start : start + block], epochs)
            progress.save(
                f"round {number + 1}, {epochs} epochs: {len(known)} of "
                f"{len(left)} members are trained"
            )
        rows |= {bounds: _row(bounds, epochs, known[bounds]) for bounds in left}
        left = best_of(known, survivors)
    return {"members": list(rows.values()), "chosen": layers_of(left[0])}


def best_of(accuracies, number):
    """Returns the members with the best robust accuracies, the best first.

    Args:
        accuracies: Dictionary from the bounds of a member to its pair of
            accuracies, clean and robust.
        number: How many are wanted.
    """

    def rank(bounds):
        return -accuracies[bounds][1], math.prod(bounds), bounds

    return sorted(accuracies, key=rank)[:number]


def _row(bounds, epochs, accuracies):
    accuracy, robust_accuracy = accuracies
    return {
        "layers": layers_of(bounds),
        "epochs": epochs,
        "accuracy": accuracy,
        "robust_accuracy": robust_accuracy,
    }


def one_list_a_matrix(candidates, matrices):
    """Returns the candidates of every matrix as a list of lists of floats."""
    lists = list(candidates)
    if all(isinstance(item, (int, float)) for item in lists):
        lists = [lists] * matrices
    try:
        lists = [[float(bound) for bound in item] for item in lists]
    except TypeError:
        lists = []
    sound = all(
        item and len(set(item)) == len(item) and 0 < min(item) <= max(item)
        for item in lists
    )
    if len(lists) != matrices or not sound:
        raise ValueError(
            "Argument `candidates` must hold different numbers above 0, or "
            f"such a sequence for each of the {matrices} matrices. Received: "
            f"candidates={candidates}"
        )
    return lists


def check_rounds(rounds, most_epochs):
    """Raises a `ValueError` unless rounds get longer and keep fewer."""
    try:
        epochs, kept = zip(*rounds, strict=True)
        sound = all(a < b for a, b in itertools.pairwise((0, *epochs)))
        sound &= all(a > b for a, b in itertools.pairwise(kept))
        sound &= kept[-1] == 1 and epochs[-1] <= most_epochs
        sound &= all(isinstance(n, int) for n in (*epochs, *kept))
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise ValueError(
            "Argument `rounds` must be pairs of integers (epochs, survivors), "
            "of more and more epochs, at most the recipe's "
            f"{most_epochs} with projection, and of fewer and fewer survivors, "
            f"1 at last. Received: rounds={rounds}"
        )


class Progress:
    """What a search has measured so far, in a file.

    Args:
        directory: The `RunDirectory` of the search.
        recipe: Its `Recipe`.
        settings: Dictionary of what else its results depend on.

    Attributes:
        rounds: Dictionary from the number of a round to the accuracies of
            its members, a dictionary from the bounds to pairs.

    Raises:
        ValueError: If the folder holds another search.
    """

    def __init__(self, directory, recipe, settings):
        directory.claim(recipe)
        self.directory, self.settings = directory, settings
        self.path = directory.path / "progress.json"
        self.rounds = {}
        if self.path.exists():
            self._read()

    def save(self, message):
        """Writes the file, and a line of the log."""
        rounds = [list(known.items()) for known in self.rounds.values()]
        with atomic_write(self.path, "w") as file:
            json.dump({"settings": self.settings, "rounds": rounds}, file)
        self.directory.write_log(message)

    def _read(self):
        saved = json.loads(self.path.read_text(encoding="utf-8"))
        for key, value in self.settings.items():
            if saved["settings"][key] != value:
                raise ValueError(
                    f"The folder {str(self.directory.path)!r} holds a search "
                    f"with {key}={saved['settings'][key]!r}, and {value!r} is "
                    "asked for. Give another run directory, or remove that one."
                )
        self.rounds = {
            number: {tuple(bounds): tuple(pair) for bounds, pair in known}
            for number, known in enumerate(saved["rounds"])
        }
