"""The sample of Fashion-MNIST that lies inside the package."""

import pathlib

import numpy as np

from keras_polynets import _files
from keras_polynets.data.arrays import ArrayDataset

NAME = "fashion_mnist_sample"
PATH = pathlib.Path(__file__).with_name(f"{NAME}.npz")
SHA256 = "f9ed5e42cc097d1a67d7a3e74dbacd0d2789c9ca4c1a80e5c0443a808df95010"
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load_sample():
    """Returns the embedded sample as an `ArrayDataset`.

    10,000 training images (1,000 a class) and 2,000 test images (200 a class)
    of Fashion-MNIST (Xiao, Rasul, Vollgraf 2017; MIT licence), drawn by
    training/make_fashion_mnist_sample.py.

    Raises:
        FileNotFoundError: If the installation lacks the file.
        ValueError: If the file's SHA-256 is not the registered one.
    """
    if not PATH.exists():
        raise FileNotFoundError(
            f"The embedded sample {PATH} is missing: this installation of "
            "keras_polynets is incomplete. Install it again, or in a checkout "
            "run `python -m training.make_fashion_mnist_sample`."
        )
    received = _files.sha256(PATH)
    if received != SHA256:
        raise ValueError(
            f"The embedded sample {PATH} was changed or is damaged: expected "
            f"sha256 {SHA256}, received {received} "
            f"({PATH.stat().st_size:,} bytes). Install keras_polynets again."
        )
    with np.load(PATH, allow_pickle=False) as arrays:
        return ArrayDataset(
            name=NAME,
            x_train=arrays["x_train"],
            y_train=arrays["y_train"].astype("int32"),
            x_test=arrays["x_test"],
            y_test=arrays["y_test"].astype("int32"),
            class_names=CLASS_NAMES,
            source=(
                "A stratified sample of Fashion-MNIST (MIT licence, Copyright "
                "(c) 2017 Zalando SE) inside keras_polynets: 10,000 of its "
                "60,000 training and 2,000 of its 10,000 test images."
            ),
        )
