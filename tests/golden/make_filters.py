"""Writes filters.npz: what the filters of tensorflow-addons yield.

    python3.11 -m venv addons
    addons/bin/pip install tensorflow-cpu==2.15.1 tensorflow-addons==0.23.0
    addons/bin/python tests/golden/make_filters.py

tensorflow-addons cannot be imported beside TensorFlow 2.16 or later, hence the
environment of its own.
"""

import pathlib

import numpy as np
import tensorflow_addons as tfa

SHAPE = (2, 9, 8, 3)
SIZES = ((3, 3), (5, 5), (2, 4), (1, 3))
SIGMAS = (0.5, 1.0, (0.7, 2.0))
PADDINGS = ("reflect", "symmetric", "constant")


def main():
    images = np.random.default_rng(0).uniform(-1, 1, SHAPE).astype("float32")
    arrays = {"images": images}
    for padding in PADDINGS:
        for size in SIZES:
            name = f"{size[0]}x{size[1]}-{padding}"
            arrays[f"median-{name}"] = tfa.image.median_filter2d(
                images, size, padding.upper()
            ).numpy()
            for sigma in SIGMAS:
                arrays[f"gaussian-{name}-{sigma}"] = (
                    tfa.image.gaussian_filter2d(
                        images, size, sigma, padding.upper()
                    ).numpy()
                )
    path = pathlib.Path(__file__).with_name("filters.npz")
    np.savez_compressed(path, **arrays)
    print(f"{len(arrays)} arrays in {path}")


if __name__ == "__main__":
    main()
