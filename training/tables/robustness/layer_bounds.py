"""Table 16 of the robustness paper: a bound for each matrix."""

import dataclasses

from training.tables.robustness.accuracies import RobustnessTable
from training.tables.robustness.study import WEAK
from training.tables.robustness.study import Method
from training.tables.robustness.study import path_of
from training.tables.text import known_part

NAME = "Layer-wise bound"


@dataclasses.dataclass(frozen=True)
class LayerBoundsTable(RobustnessTable):
    """A `RobustnessTable` with bounds of single layers as a further column.

    The bounds are searched on the first network with its first seed, and are
    those of all networks.

    Args:
        candidates: The bounds that each matrix tries; `None` for the default
            of `recipes.search_layer_bounds`.
    """

    selecting: str | None = WEAK
    candidates: tuple | None = None

    def examine(self, study):
        """Returns the report, a dictionary."""
        found = self.search(study)
        networks = self.networks
        if found is not None:
            method = layer_method(found["chosen"])
            networks = [
                dataclasses.replace(n, methods=(*n.methods, method))
                for n in networks
            ]
        report = self.measured(study, networks)
        if found is not None:
            number, attack = found["all_members"], found["attack"]
            report["notes"].append(
                f"the layer-wise bounds are the best of {number:,} under "
                f"{attack} on {self.networks[0].name}, with the first seed"
            )
        return report | {"search": found}

    def search(self, study):
        """Returns what the search found, or `None` if it is not to be run.

        What is known of a search with another recipe does not count.
        """
        from keras_polynets import recipes

        network = self.networks[0]
        method = next(m for m in network.methods if m.tag == "_projected")
        recipe = study.recipe(network, method, method.trials()[0])
        facts = {"recipe": recipe.portable().to_dict()}
        known = known_part(study.arguments.known, "search", dict, needed=False)
        if known and facts.items() <= known.items():
            return known
        folder = study.folder / path_of(recipe)
        folder = folder.with_name(f"layers-{folder.name}")
        # A finished search is reported without its network among the rows.
        if not study.trains(network) and not (folder / "search.json").exists():
            return None
        options = {}
        if self.candidates is not None:
            options["candidates"] = self.candidates
        report = recipes.search_layer_bounds(
            recipe,
            run_directory=folder,
            attack=self.selecting,
            rounds=rounds_of(recipe),
            verbose=study.verbose,
            **options,
        )
        last = max(row["epochs"] for row in report["members"])
        kept = [row for row in report["members"] if row["epochs"] == last]
        kept.sort(key=lambda row: -row["robust_accuracy"])
        counts = {"all_members": len(report["members"])}
        return report | facts | counts | {"members": kept}


def layer_method(layers):
    """Returns the method of known bounds.

    Args:
        layers: What `projection.layers` of a recipe takes.
    """
    return Method(NAME, "_projected", "projection.layers", (layers,))


def rounds_of(recipe):
    """Returns the rounds of the search for the epochs of a recipe.

    Args:
        recipe: A `Recipe` with a projection.
    """
    from keras_polynets.recipes.searching import ROUNDS

    whole = recipe.epochs - recipe.projection.start_epoch
    share = whole / ROUNDS[-1][0]
    return tuple(
        {max(1, round(epochs * share)): kept for epochs, kept in ROUNDS}.items()
    )
