"""Figure 9 of the robustness paper: images of its sets."""

import dataclasses

import numpy as np

from training.tables.paper_table import PaperTable

COLUMNS = 8


@dataclasses.dataclass(frozen=True)
class SamplesFigure(PaperTable):
    """The first images of sets, with the names of their classes.

    Args:
        sets: Dictionary from what `data.load` takes to the name of a set.
    """

    sets: dict

    options = ("overrides",)

    def run(self, arguments, folder):
        """Reads the sets.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the results.

        Returns:
            The report, a dictionary.
        """
        from keras_polynets import data
        from keras_polynets.recipes.recipe import parse_override

        options = dict(map(parse_override, arguments.overrides))
        archives = options.pop("data.archives", None)
        if options:
            raise ValueError(
                "The figure has no recipe: of --set it takes data.archives "
                f"alone. Received: {', '.join(options)}"
            )
        rows = []
        for name, title in self.sets.items():
            found = data.load(name, archives=archives)
            images = found.x_test[:COLUMNS]
            if name.startswith("emnist"):
                # The set holds them transposed.
                images = images.transpose(0, 2, 1, 3)
            labels = found.y_test[:COLUMNS]
            rows.append(
                {
                    "set": title,
                    "train": len(found.y_train),
                    "test": len(found.y_test),
                    "images": np.asarray(images).tolist(),
                    "labels": [found.class_names[label] for label in labels],
                }
            )
        return self.report(rows=rows)

    def table(self, report):
        """Returns the sizes of the sets as rows of words."""
        words = [["set", "training images", "test images"]]
        return words + [
            [row["set"], f"{row['train']:,}", f"{row['test']:,}"]
            for row in report["rows"]
        ]

    def draw(self, report):
        """Returns the figure."""
        from keras_polynets.image_plots import image_grid

        images = {
            row["set"]: dict(enumerate(np.asarray(row["images"]) / 255, 1))
            for row in report["rows"]
        }
        captions = {
            row["set"]: dict(enumerate(row["labels"], 1))
            for row in report["rows"]
        }
        return {"figure": image_grid(images, captions=captions)}
