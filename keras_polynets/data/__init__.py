"""Data: named sets as arrays, archives for TFDS, and addressable batches."""

from keras_polynets.data.archives import place_archives
from keras_polynets.data.arrays import ArrayDataset
from keras_polynets.data.batches import Batches
from keras_polynets.data.loading import load
from keras_polynets.data.split import stratified_split

__all__ = [
    "ArrayDataset",
    "Batches",
    "load",
    "place_archives",
    "stratified_split",
]
