"""The networks of the robustness paper under an attack that takes minutes."""

import dataclasses

from training.tables import figure_curves
from training.tables.robustness.accuracies import RobustnessTable


@dataclasses.dataclass(frozen=True)
class StrongTable(RobustnessTable):
    """A `RobustnessTable` of attacks on the first test images only.

    The runs are those of the other tables, and are attacked once.

    Args:
        images: How many test images are attacked.
    """

    images: int = 1000

    def runs(self, study, network, method, changes):
        """Returns the records of all seeds, with what the attacks leave."""
        records = super().runs(study, network, method, changes)
        measures = study.trains(network)
        return [
            self._attacked(
                study,
                record,
                study.directory(network, method, changes, number),
                measures,
            )
            for number, record in enumerate(records)
        ]

    def attacked_images(self, study, network):
        """Returns which test images attacks see, in words."""
        return f"attacks see the first {self.images:,} test images"

    def _attacked(self, study, record, directory, measures):
        if record.get("test") is None:
            return record
        test = record["test"]
        attacked = dict.fromkeys(self.attacks, self.images)
        known = test.get("attacked", {})
        unknown = [a for a in attacked if known.get(a) != self.images]
        if unknown and not measures:
            return {"missing": True}
        found = {a: self._measure_once(directory, a) for a in unknown}
        changes = {"attacks": test["attacks"] | found, "attacked": attacked}
        record = record | {"test": test | changes}
        study.remember(record)
        return record

    def _measure_once(self, directory, attack):
        """Returns the accuracy of a finished run under an attack."""
        path = directory.path / "strong.json"
        facts = {"attack": attack, "images": self.images}
        return figure_curves.remembered(
            path, facts, lambda: {"accuracy": self._measure(directory, attack)}
        )["accuracy"]

    def _measure(self, directory, attack):
        from keras_polynets import robustness
        from keras_polynets.recipes import examples

        model, recipe = figure_curves.measured_model(directory)
        x, y = examples.examples_of(recipe).test
        return robustness.robust_accuracy(
            model, (x[: self.images], y[: self.images]), attack, verbose=0
        )
