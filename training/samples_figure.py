"""Figure 9 of the robustness paper: images of its sets."""

import dataclasses

import numpy as np

from training.table_text import aligned
from training.table_text import has_matplotlib
from training.table_text import markdown
from training.table_text import refuse

COLUMNS = 8


@dataclasses.dataclass(frozen=True)
class SamplesFigure:
    """The first images of sets, with the names of their classes.

    Args:
        title: What the figure shows.
        sets: Dictionary from what `data.load` takes to the name of a set.
        claims: What the paper's text says of the figure.
    """

    title: str
    sets: dict
    claims: tuple = ()

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

        refuse(arguments, "table of runs", rows=None, known=None, runs=None)
        options = dict(map(parse_override, arguments.overrides))
        archives = options.get("data.archives")
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
        return {
            "title": self.title,
            "claims": self.claims,
            "rows": rows,
            "missing": [],
        }

    def write(self, folder, report):
        """Writes the figure and returns the names of the files."""
        from keras_polynets._files import atomic_write
        from keras_polynets.image_plots import image_grid

        with atomic_write(folder / "table.md", "w") as file:
            file.write(f"# {report['title']}\n\n{markdown(_words(report))}\n")
        if not has_matplotlib():
            return ["table.md"]
        images = {
            row["set"]: dict(enumerate(np.asarray(row["images"]) / 255, 1))
            for row in report["rows"]
        }
        captions = {
            row["set"]: dict(enumerate(row["labels"], 1))
            for row in report["rows"]
        }
        image_grid(images, folder / "figure.png", captions=captions)
        return ["table.md", "figure.png"]

    def text(self, report):
        """Returns the sizes of the sets."""
        return "\n".join([report["title"], "", *aligned(_words(report))])


def _words(report):
    words = [["set", "training images", "test images"]]
    return words + [
        [row["set"], f"{row['train']:,}", f"{row['test']:,}"]
        for row in report["rows"]
    ]
