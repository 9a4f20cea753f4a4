"""What a file of Keras weights holds: names and shapes, not the numbers."""

import h5py

# The state of an optimizer is no part of a model's architecture.
_OPTIMIZER = "optimizer"


def read(path):
    """Returns which variables a file of weights holds.

    Links out of the file are not followed.

    Args:
        path: File that `keras.Model.save_weights` wrote.

    Returns:
        Dictionary from the place of each layer with variables, which is what
        Keras finds it by, to a pair: the names of the layers around it and its
        own, joined by `/`, and a dictionary from a key to a shape.

    Raises:
        ValueError: If the file is not in the format HDF5.
    """
    names, shapes = {}, {}

    def visit(where, item):
        place, _, key = where.rpartition("/")
        if isinstance(item, h5py.Dataset):
            shapes.setdefault(_owner(place), {})[key] = item.shape
        elif key == "vars" and "name" in item.attrs:
            names[_owner(where)] = str(item.attrs["name"])

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError as error:
        raise ValueError(
            f"{str(path)!r} is no file of Keras weights, or damaged: {error}. "
            "Write it again, or pass another one."
        ) from error
    return {
        place: (_name(place, names), variables)
        for place, variables in shapes.items()
        if place.split("/")[0] != _OPTIMIZER
    }


def misfits(old, new):
    """Says where the variables of two files differ.

    Args:
        old: What `read` returned for the weights.
        new: What it returned for the model.

    Returns:
        List of strings, empty where Keras would load each variable into its
        own.
    """
    if _by_place(old) == _by_place(new):
        return []
    # Names speak to the reader. Where they agree, the order of layers differs.
    return differences(dict(old.values()), dict(new.values())) or differences(
        _by_place(old), _by_place(new)
    )


def differences(old, new):
    """Returns a line for each name that has other shapes in two dictionaries.

    Args:
        old: Dictionary from a name to a shape, or to a dictionary of shapes.
        new: The same of the model.
    """
    return [
        f"{name}: {_text(old.get(name))} in the weights, "
        f"{_text(new.get(name))} in the model"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def classes(path, head):
    """Returns the number of classes of a file of weights.

    Args:
        path: File that `keras.Model.save_weights` wrote.
        head: The last layer of a model, or `None`.

    Returns:
        Integer, or `None` where the file has no layer of that name.
    """
    variables = head and dict(read(path).values()).get(head.path)
    return variables and next(iter(variables.values()))[-1]


def _owner(place):
    return place.removesuffix("vars").rstrip("/")


def _name(place, names):
    """Joins the names of the layers on the way to a place."""
    parts = place.split("/")
    around = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return "/".join(names[x] for x in around if x in names) or place


def _by_place(layout):
    return {place: shapes for place, (_, shapes) in layout.items()}


def _text(shapes):
    if shapes is None:
        return "nothing"
    if isinstance(shapes, dict):
        return ", ".join(map(str, shapes.values()))
    return str(shapes)
