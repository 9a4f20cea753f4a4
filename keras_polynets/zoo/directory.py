"""Where the zoo's data lies: cards, manifests, recipes, results, weights."""

import functools
import os
import pathlib
import tomllib

from keras_polynets._errors import unknown_name

VARIABLE = "KERAS_POLYNETS_ZOO"


def data_directory():
    """Returns the folder that holds one folder a model.

    It is the first of these that exists: the folder that the environment
    variable `KERAS_POLYNETS_ZOO` names, the copy inside the installed package,
    the folder `zoo` of the checkout.

    Returns:
        `pathlib.Path`.

    Raises:
        FileNotFoundError: If `KERAS_POLYNETS_ZOO` names no folder, or if
            neither of the other two exists.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if not os.path.isdir(chosen):
            raise FileNotFoundError(
                f"The environment variable {VARIABLE} names {chosen!r}, which "
                "is not a folder. Correct it, or unset it to use the zoo that "
                "comes with the package."
            )
        return pathlib.Path(chosen)
    package = pathlib.Path(__file__).parent.parent
    for folder in (package / "_zoo", package.parent / "zoo"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        "The data of the zoo is missing from the installation "
        f"({package / '_zoo'}). Reinstall keras_polynets, or name a copy in "
        f"the environment variable {VARIABLE}."
    )


def model_directory(name):
    """Returns the folder of a model, which need not exist.

    Args:
        name: The name of the model.
    """
    return data_directory() / name


def manifest(name):
    """Returns the manifest of a model: its default tag and all its tags.

    Args:
        name: The name of the model.

    Returns:
        Dictionary with `"default"`, a tag or `None`, and `"tags"`, a
        dictionary from a tag to its entry. Both are empty for a model without
        trained weights.

    Raises:
        ValueError: If the manifest is not valid TOML.
    """
    path = model_directory(name) / "model.toml"
    if not path.is_file():
        return {"default": None, "tags": {}}
    values = _read_toml(path, path.stat().st_mtime_ns)
    return {"default": values.get("default"), "tags": values.get("tags", {})}


def tag_entry(name, tag):
    """Returns the manifest's entry of a tag.

    Args:
        name: The name of the model.
        tag: The tag.

    Raises:
        ValueError: If the model has no such tag, or only a recipe for it.
    """
    tags = manifest(name)["tags"]
    if tag not in tags:
        if recipe_path(name, tag).is_file():
            raise ValueError(
                f"Expected published weights. Those of '{name}.{tag}' are not: "
                f"there is a recipe alone. Run `keras-polynets train "
                f"{name}.{tag}` and pass the folder of the run as weights=, or "
                "pass weights=None for fresh weights."
            )
        raise unknown_name(f"weights of {name!r}", tag, tags)
    return tags[tag]


def recipe_path(name, tag):
    """Returns the path of the recipe of a tag, which need not exist.

    Args:
        name: The name of the model.
        tag: The tag.
    """
    return model_directory(name) / f"{tag}.toml"


def recipe_values(name, tag):
    """Returns the recipe of a tag, as TOML has it; empty where there is none.

    Args:
        name: The name of the model.
        tag: The tag, or `None`.
    """
    if tag is None or tag not in recipe_tags(name):
        return {}
    path = recipe_path(name, tag)
    return _read_toml(path, path.stat().st_mtime_ns)


def recipe_tags(name):
    """Returns the tags of a model that have a recipe, sorted.

    Args:
        name: The name of the model.
    """
    folder = model_directory(name)
    return sorted(
        path.stem for path in folder.glob("*.toml") if path.name != "model.toml"
    )


@functools.cache
def _read_toml(path, _modified):
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{str(path)!r} is not valid TOML: {error}") from error
