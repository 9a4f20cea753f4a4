"""Data: named sets as arrays, archives for TFDS, and addressable batches."""

from keras_polynets.data.archives import place_archives
from keras_polynets.data.arrays import ArrayDataset
from keras_polynets.data.batches import Batches
from keras_polynets.data.crops import CroppedBatches
from keras_polynets.data.crops import evaluation_batches
from keras_polynets.data.loading import load
from keras_polynets.data.noise import gaussian_noise
from keras_polynets.data.noise import poisson_noise
from keras_polynets.data.sources import StreamedDataset
from keras_polynets.data.sources import stream
from keras_polynets.data.split import stratified_split
from keras_polynets.data.wav import read_wav

__all__ = [
    "ArrayDataset",
    "Batches",
    "CroppedBatches",
    "StreamedDataset",
    "evaluation_batches",
    "gaussian_noise",
    "load",
    "place_archives",
    "poisson_noise",
    "read_wav",
    "stratified_split",
    "stream",
]
