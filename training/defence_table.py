"""Table 17 of the robustness paper: projection beside defences."""

import dataclasses
import json

from training.layer_bounds_table import LayerBoundsTable
from training.robustness_tables import study_of

COLUMNS = ("Gaussian denoising", "Median denoising", "Guided denoising")
VALIDATION = 1000


@dataclasses.dataclass(frozen=True)
class DefenceTable(LayerBoundsTable):
    """A `LayerBoundsTable` of one network with defences as further columns.

    The windows of the filters are chosen for each seed on validation images,
    as `training.defences` does it. The guided denoiser is the published one,
    which was trained beside the first seed's weights. Attacks go through the
    defences.
    """

    def run(self, arguments, folder):
        """Runs the table as the arguments of the program say.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the results.

        Returns:
            The report, a dictionary.
        """
        from keras_polynets.recipes.comparing import spread

        report = super().run(arguments, folder)
        study = study_of(self, arguments, folder)
        (network,) = self.networks
        if not study.trains(network):
            return report
        runs = [
            self._known_or_measured(study, network, number)
            for number in range(arguments.seeds)
        ]
        counts = {"seeds": len(runs), "diverged": 0}
        for attack, row in zip(self.attacks, report["rows"], strict=True):
            for column in COLUMNS:
                values = [run[column]["accuracies"][attack] for run in runs]
                row["cells"][column] = spread(values) | counts
        return report | {"defences": runs}

    def _known_or_measured(self, study, network, number):
        """Returns the accuracies behind each defence for one seed."""
        from keras_polynets._files import atomic_write

        recipe, weights = study.weights(network, network.methods[0], {}, number)
        path = weights.with_name("defences.json")
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        found = self._measure(recipe, weights)
        with atomic_write(path, "w") as file:
            json.dump(found, file, indent=1)
        return found

    def _measure(self, recipe, weights):
        from keras_polynets import zoo
        from keras_polynets.recipes.examples import examples_of
        from keras_polynets.robustness import defend
        from keras_polynets.robustness import robust_accuracy
        from training import defences

        model = zoo.load(recipe.model, weights=None, **recipe.overrides)
        zoo.weights.load_into(model, weights)
        splits = examples_of(recipe)
        some = [part[:VALIDATION] for part in splits.validation]
        chosen, _ = defences.choose(model, tuple(some))
        chosen["published"] = zoo.load(defences.DENOISER)
        return {
            column: {
                "defence": words,
                "accuracies": {
                    attack: robust_accuracy(
                        defend(model, defence), splits.test, attack, verbose=0
                    )
                    for attack in self.attacks
                },
            }
            for column, (words, defence) in zip(
                COLUMNS, chosen.items(), strict=True
            )
        }
