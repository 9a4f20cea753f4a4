"""Table 17 of the robustness paper: projection beside defences."""

import dataclasses

from training.tables import figure_curves
from training.tables.robustness.layer_bounds import LayerBoundsTable
from training.tables.text import known_part

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

    def examine(self, study):
        """Returns the report, a dictionary."""
        from keras_polynets.recipes.comparing import spread

        report = super().examine(study)
        known = known_part(
            study.arguments.known, "defences", list, needed=False
        )
        runs = [
            self._remembered(study, number, known)
            for number in range(study.arguments.seeds)
        ]
        counts = {"seeds": len(runs), "diverged": 0}
        for attack, row in zip(self.attacks, report["rows"], strict=True):
            for column in COLUMNS:
                values = [run[column]["accuracies"][attack] for run in runs]
                row["cells"][column] = spread(values) | counts
        return report | {"defences": runs}

    def _remembered(self, study, number, known):
        """Returns what is known of a seed, or measures it."""
        (network,) = self.networks
        plain = network.methods[0]
        recipe = study.recipe(network, plain, {}, number)
        facts = {"recipe": recipe.portable().to_dict()}
        for record in known:
            if facts.items() <= record.items():
                return record
        directory = study.directory(network, plain, {}, number)
        found = figure_curves.remembered(
            directory.path / "defences.json",
            {},
            lambda: self._defend(directory),
        )
        return found | facts

    def _defend(self, directory):
        """Returns the accuracies of a finished run behind each defence.

        Raises:
            ValueError: If the run is not there, or diverged.
        """
        from keras_polynets import zoo
        from keras_polynets.recipes.examples import examples_of
        from keras_polynets.robustness import defend
        from keras_polynets.robustness import robust_accuracy
        from training import defences

        if directory.read_result() is None:
            raise ValueError(
                "Defences are measured with the weights of a finished run, "
                f"expected in {str(directory.path)!r}. Give the folder of the "
                "runs (--runs), or leave --known out."
            )
        model, recipe = figure_curves.measured_model(directory)
        splits = examples_of(recipe)
        some = tuple(part[:VALIDATION] for part in splits.validation)
        chosen, _ = defences.choose(model, some)
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
