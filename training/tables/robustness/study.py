"""The networks of the robustness paper: trained once, shown in many tables.

A network on a set of images has methods, each of them a recipe and the values
of one of its keys. The first seed chooses among the values by the validation
images; the chosen one is then run with every seed and measured on the test
images. What a table or a figure needs is run, and what was run before, here or
in a report that is given, is not run again.
"""

import dataclasses
import hashlib
import pathlib

from training.tables.text import share_of_epochs

# The attack that chooses: the weakest of the paper's main table, so that the
# stronger ones are not looked at before the end. The table of layer-wise bounds
# chooses by a weaker one.
SELECTING, WEAK = "fgsm:0.1", "fgsm:0.01"
# From an attack to its name in the paper. TPGD and APGDT have the default sizes
# of the library that the paper used, 8 / 255 and 2 / 255, for one step.
MAIN_ATTACKS = {
    "fgsm:0.1": "FGSM-0.1",
    "pgd:0.1,20,0.01": "PGD-(0.1, 20, 0.01)",
    "pgd:0.3,20,0.03": "PGD-(0.3, 20, 0.03)",
}
FURTHER_ATTACKS = {
    "fgsm:0.01": "FGSM-0.01",
    "apgd_t:0.0314,1": "APGDT",
    "tpgd:0.0314,1,0.00784": "TPGD",
}
ATTACKS = MAIN_ATTACKS | FURTHER_ATTACKS
KEPT = (
    "parameters",
    "training_examples",
    "epochs",
    "training_seconds",
    "lipschitz_bound",
    "versions",
)


@dataclasses.dataclass(frozen=True)
class Method:
    """A column: a recipe, and the values of a key that one seed chooses from.

    Args:
        name: What the column is called.
        tag: What follows the network's tag in the name of the recipe.
        key: The dotted key of the recipe that is chosen, or `None`.
        values: Its values. Of equal ones the first wins.
        tuning_share: The share of the epochs that trials last.
    """

    name: str
    tag: str = ""
    key: str | None = None
    values: tuple = ()
    tuning_share: float = 1.0

    def trials(self):
        """Returns the changes of the recipe to choose from."""
        return [{self.key: value} for value in self.values] or [{}]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network on a set of images.

    Args:
        name: What the row is called.
        recipe: The recipe without any method.
        methods: Sequence of `Method`.
        changes: Changes of all its recipes.
        seeds: The most seeds that it is run with; `None` for no limit.
    """

    name: str
    recipe: str
    methods: tuple
    changes: dict = dataclasses.field(default_factory=dict)
    seeds: int | None = None


class Study:
    """Runs networks, or finds what is known of them.

    Args:
        folder: `pathlib.Path` of the runs.
        arguments: Those of `training.reproduce`.
        known: Records from before.
        verbose: As in `recipes.run`.
    """

    def __init__(self, folder, arguments, known=(), verbose="auto"):
        self.folder, self.arguments = folder, arguments
        self.known, self.verbose = list(known), verbose
        self.records = []

    def choose(self, network, method, attack=SELECTING):
        """Returns the changes that the validation images choose.

        Args:
            network: A `Network`.
            method: A `Method`.
            attack: The attack that chooses, `None` for none.

        Returns:
            One of `method.trials()`, the first where all diverged, or `None`
            while trials are missing. Without tuning, no changes of the recipe.
        """
        trials = method.trials()
        if len(trials) == 1:
            return trials[0]
        if not self.arguments.tune:
            return {}
        records = [
            self._record(network, method, changes, tuning=True)
            for changes in trials
        ]
        if any("missing" in record for record in records):
            return None
        scores = [_score(record, attack) for record in records]
        return trials[scores.index(max(scores))]

    def seeds(self, network):
        """Returns with how many seeds a network is run."""
        return min(self.arguments.seeds, network.seeds or self.arguments.seeds)

    def runs(self, network, method, changes):
        """Returns the records of all seeds with the test, a list."""
        return [
            self._record(network, method, changes, number)
            for number in range(self.seeds(network))
        ]

    def directory(self, network, method, changes, number):
        """Returns the `RunDirectory` of a run.

        Args:
            network: A `Network`.
            method: A `Method`.
            changes: One of its trials.
            number: Which seed, from 0.
        """
        from keras_polynets.recipes.directory import RunDirectory

        recipe = self.recipe(network, method, changes, number)
        return RunDirectory(self.folder / path_of(recipe))

    def _record(self, network, method, changes, number=0, tuning=False):
        """Returns the record of a run; its test is left out of trials."""
        from keras_polynets.recipes.attempting import attempt
        from keras_polynets.recipes.directory import RunDirectory

        share = method.tuning_share if tuning else 1.0
        recipe = self.recipe(network, method, changes, number, share)
        facts = {
            "network": network.name,
            "method": method.name,
            "changes": changes,
            "recipe": recipe.portable().to_dict(),
        }
        result = self._find(facts["recipe"], test=not tuning)
        if result is None:
            train, path = self.trains(network), self.folder / path_of(recipe)
            trunk = None
            if train and RunDirectory(path).read_result() is None:
                trunk = self._trunk(network, method, recipe)
            result = attempt(
                recipe,
                path,
                test=not tuning,
                train=train,
                trunk=trunk,
                verbose=self.verbose,
            )
        record = facts | _kept(result)
        if "missing" not in record:
            self.remember(record)
        return record

    def trains(self, network):
        """Returns whether the arguments ask to train a network."""
        rows = self.arguments.rows
        return rows is None or network.name in rows

    def recipe(self, network, method, changes, number=0, share=1.0):
        """Returns the recipe of a run.

        Args:
            network: A `Network`.
            method: A `Method`.
            changes: One of its trials.
            number: Which seed, from 0.
            share: The share of its epochs.
        """
        from keras_polynets import recipes
        from keras_polynets.recipes.scaling import scaled

        recipe = recipes.load(network.recipe + method.tag)
        recipe = recipe.replace(
            {
                **self._overrides(network, recipe),
                "evaluation.attacks": list(ATTACKS),
                "evaluation.selecting_attacks": [SELECTING, WEAK],
                **network.changes,
                **changes,
            }
        )
        recipe = recipe.replace({"seed": recipe.seed + number})
        return scaled(recipe, share_of_epochs(recipe, self.arguments) * share)

    def _overrides(self, network, recipe):
        """Returns what the arguments change of the recipe of a method."""
        from keras_polynets.recipes.recipe import parse_override

        # Overrides such as another set are for the rows that are trained.
        if not self.trains(network):
            return {}
        # Those of a projection are none for methods without.
        return {
            key: value
            for key, value in map(parse_override, self.arguments.overrides)
            if "." not in key
            or getattr(recipe, key.partition(".")[0], "unknown") is not None
        }

    def _trunk(self, network, method, recipe):
        """Returns the folder of the epochs that runs share, or `None`.

        The run without a method shares them with those that begin late.
        """
        from keras_polynets.recipes.attempting import attempt
        from keras_polynets.recipes.attempting import first_epochs
        from keras_polynets.recipes.attempting import trunk_of

        trunk = trunk_of(recipe)
        if trunk is None and method.key is None:
            trunk = first_epochs(recipe, self._shared_epochs(network))
        if trunk is None:
            return None
        path = self.folder / path_of(trunk)
        attempt(trunk, path, test=False, verbose=self.verbose)
        return path

    def _shared_epochs(self, network):
        """Returns after how many epochs methods of a network begin."""
        from keras_polynets.recipes.attempting import trunk_of

        for method in network.methods:
            recipe = self.recipe(network, method, method.trials()[0])
            if (trunk := trunk_of(recipe)) is not None:
                return trunk.epochs
        return 0

    def _find(self, recipe, test):
        """Returns the record of a recipe among those from before, or `None`."""
        for record in (*self.records, *self.known):
            tested = record.get("test") is not None or "diverged" in record
            if record["recipe"] == recipe and (tested or not test):
                return record
        return None

    def remember(self, record):
        """Keeps a record, instead of the one of the same trial.

        Args:
            record: Dictionary.
        """
        self.records = [
            other
            for other in self.records
            if other["recipe"] != record["recipe"]
        ]
        self.records.append(record)


def _kept(result):
    """Returns what a record has of the result of a run."""
    if result is None:
        return {"missing": True}
    if "diverged" in result:
        return {"diverged": result["diverged"]}
    return {key: result[key] for key in ("validation", "test", *KEPT)}


def _score(record, attack):
    """Returns the validation accuracy, -1 where the run diverged."""
    if "diverged" in record:
        return -1.0
    validation = record["validation"]
    return validation["attacks"][attack] if attack else validation["accuracy"]


def path_of(recipe):
    """Returns a folder for the runs of a recipe: equal ones share theirs."""
    values = recipe.portable().to_toml().encode()
    digest = hashlib.sha256(values).hexdigest()
    return pathlib.PurePath(recipe.model, digest[:12])
