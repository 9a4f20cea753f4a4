"""What files of weights hold."""

import h5py


def read(path):
    """Returns `{name: array}` of a `.weights.h5` file."""
    arrays = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    return arrays
