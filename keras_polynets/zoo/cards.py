"""Model cards: prose by hand, results from the published files."""

from keras_polynets import _files
from keras_polynets.zoo import directory
from keras_polynets.zoo import registry

BEGIN = "<!-- results: written by training.publish -->"
END = "<!-- end of results -->"


def card(name):
    """Returns the card of a model, in Markdown.

    Args:
        name: A registered name, with or without a tag.

    Returns:
        String: what the model is, its data, licence and preprocessing, the
        paper's numbers, ours, and why they differ.

    Raises:
        ValueError: For an unknown name.
        FileNotFoundError: If the model has no card.
    """
    name, _ = registry.split_name(name)
    path = directory.model_directory(name) / "card.md"
    if not path.is_file():
        raise FileNotFoundError(f"The model {name!r} has no card ({path}).")
    return path.read_text(encoding="utf-8")


def write_results(path, markdown):
    """Replaces the results of a card, which stand between two comments.

    Args:
        path: `pathlib.Path` of the card. One without the comments gets them at
            its end.
        markdown: The new results.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    block = f"{BEGIN}\n\n{markdown.strip()}\n\n{END}"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        text = before + block + after
    else:
        text = f"{text.rstrip()}\n\n{block}\n".lstrip()
    with _files.atomic_write(path, "w") as file:
        file.write(text)
