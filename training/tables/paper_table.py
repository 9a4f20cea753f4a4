"""What every table and figure of `training.reproduce` is."""

import dataclasses

from training.tables.text import aligned
from training.tables.text import has_matplotlib
from training.tables.text import markdown


@dataclasses.dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table or a figure of a paper.

    Subclasses have `run(arguments, folder)`, which returns a report; and
    `table(report)`, its numbers as rows of words, from column `first_number`
    on. `options` are the options of the program that they take.

    Args:
        title: What it shows.
        claims: What the paper's text says of it.
        notes: What has to be known of ours.
    """

    title: str
    claims: tuple
    notes: tuple = ()

    options = ()
    first_number = 1

    def tables(self, report):
        """Returns the tables of a report, each a list of rows of words."""
        return [self.table(report)]

    def draw(self, report):
        """Returns the figures of a report, a dictionary from their stems."""
        return {}

    def report(self, *notes, **parts):
        """Returns a report: the words of the table and what was found.

        Args:
            *notes: What has to be known of this run too.
            **parts: What was found.
        """
        words = {"title": self.title, "claims": self.claims}
        return words | {"notes": [*self.notes, *notes]} | parts

    def write(self, folder, report):
        """Writes the tables and the figures, and returns their names.

        Args:
            folder: `pathlib.Path` of the results.
            report: What `run` returned.
        """
        from keras_polynets import _figures
        from keras_polynets._files import atomic_write

        lines = [f"# {report['title']}", ""]
        for rows in self.tables(report):
            words = min(self.first_number, len(rows[0]))
            sides = "l" * words + "r" * (len(rows[0]) - words)
            lines += [markdown(rows, sides), ""]
        lines += remarks(report)
        with atomic_write(folder / "table.md", "w") as file:
            file.write("\n".join(lines) + "\n")
        written = ["table.md"]
        if not has_matplotlib():
            return written
        with _figures.style():
            for stem, canvas in self.draw(report).items():
                _figures.save(canvas, folder / f"{stem}.png")
                written.append(f"{stem}.png")
        return written

    def text(self, report):
        """Returns the tables and what is to be said of them."""
        lines = [report["title"], ""]
        for rows in self.tables(report):
            lines += [*aligned(rows), ""]
        return "\n".join(lines + remarks(report))


def remarks(report):
    """Returns the lines of what the paper's text says, and of our notes."""
    heads = {"claims": "The paper's text says:", "notes": "Ours:"}
    lines = []
    for key, head in heads.items():
        if report[key]:
            lines += [head, "", *(f"- {text}" for text in report[key]), ""]
    return lines[:-1]


def check_rows(arguments, known):
    """Raises a `ValueError` where `--rows` names what the table lacks.

    Args:
        arguments: Those of `training.reproduce`.
        known: The names of the table's rows.
    """
    from keras_polynets._errors import unknown_name

    for name in arguments.rows or ():
        if name not in known:
            raise unknown_name("row", name, known)
