"""Draws the embedded sample of Fashion-MNIST from the original archives.

    python -m training.make_fashion_mnist_sample [FOLDER]

FOLDER holds the four IDX archives (train-images-idx3-ubyte.gz and so on); by
default it is the folder of Debian's package dataset-fashion-mnist. Of the
training and of the test images it takes 1,000 and 200 a class, drawn with seed
0 and kept in the original order, and writes them into the package. A rerun
writes the same bytes (with the same zlib; another one may pack the same arrays
differently).
"""

import argparse
import gzip
import hashlib
import pathlib

import numpy as np

from keras_polynets import _files
from keras_polynets.data import archives
from keras_polynets.data import sample
from keras_polynets.data import stratified_split

SEED = 0
TRAIN_SIZE = 10_000
TEST_SIZE = 2_000
# Of the unpacked files: the gzip headers differ between distributors.
SHA256 = {
    "train-images-idx3-ubyte": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "train-labels-idx1-ubyte": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "t10k-images-idx3-ubyte": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "t10k-labels-idx1-ubyte": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
}


def read_idx(folder, name):
    """Returns the uint8 array of an IDX archive whose content is checked."""
    path = pathlib.Path(folder) / f"{name}.gz"
    if not path.exists():
        raise SystemExit(
            f"{path} is missing. Give the folder of the original archives, or "
            "install Debian's package dataset-fashion-mnist."
        )
    content = gzip.decompress(path.read_bytes())
    received = hashlib.sha256(content).hexdigest()
    if received != SHA256[name]:
        raise SystemExit(
            f"{path} is not the original: expected sha256 {SHA256[name]} of "
            f"the unpacked file, received {received}."
        )
    axes = content[3]
    shape = np.frombuffer(content, ">i4", count=axes, offset=4)
    return np.frombuffer(content, "u1", offset=4 + 4 * axes).reshape(shape)


def draw(folder, part, size):
    """Returns images, labels and original indices of a stratified draw."""
    images = read_idx(folder, f"{part}-images-idx3-ubyte")
    labels = read_idx(folder, f"{part}-labels-idx1-ubyte")
    _, index = stratified_split(labels, size, SEED)
    return images[index][..., np.newaxis], labels[index], index.astype("int32")


def main(argv=None):
    """Writes the sample and says whether its SHA-256 is the registered one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "folder",
        nargs="?",
        default=archives.DEBIAN["fashion_mnist"].folder,
        help="folder of the original archives (default: %(default)s)",
    )
    parser.add_argument("--output", type=pathlib.Path, default=sample.PATH)
    arguments = parser.parse_args(argv)
    x_train, y_train, train_index = draw(arguments.folder, "train", TRAIN_SIZE)
    x_test, y_test, test_index = draw(arguments.folder, "t10k", TEST_SIZE)
    with _files.atomic_write(arguments.output) as file:
        np.savez_compressed(
            file,
            x_train=x_train,
            y_train=y_train,
            train_index=train_index,
            x_test=x_test,
            y_test=y_test,
            test_index=test_index,
        )
    received = _files.sha256(arguments.output)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {size:,} bytes, sha256 {received}")
    if received != sample.SHA256:
        print(f"keras_polynets/data/sample.py expects {sample.SHA256}")


if __name__ == "__main__":
    main()
