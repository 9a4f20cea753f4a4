"""The images of `training.denoise`, clean and noisy."""

import keras
import numpy as np

from keras_polynets import data


class Images:
    """The clean images of a set, uint8: training, validation and test."""

    def __init__(self, name, budget):
        dataset = data.load(name)
        rest, held_out = data.stratified_split(
            dataset.y_train, budget.validation, seed=0
        )
        self.validation = dataset.x_train[held_out]
        self.train = _some(dataset.x_train[rest], dataset.y_train[rest], budget)
        self.test = _some(dataset.x_test, dataset.y_test, budget, "test")


def _some(images, labels, budget, part="images"):
    """Returns as many images as the budget allows, of all classes alike."""
    count = getattr(budget, part)
    if count >= len(images):
        return images
    return images[data.stratified_split(labels, count, seed=0)[1]]


def add_noise(images, noise, level, seed, indices=None):
    """Returns noisy images in the range (0, 1), unclipped."""
    function = getattr(data, f"{noise}_noise")
    return function(images, level, seed, indices) / np.float32(255)


class NoisyBatches(keras.utils.PyDataset):
    """Pairs of noisy and clean images, in another order every epoch."""

    def __init__(self, images, noise, level, seed, batch_size):
        super().__init__()
        self._arguments = images, noise, level, seed
        self._batch_size = batch_size
        self._begin(epoch=0)

    def _begin(self, epoch):
        images, *_, seed = self._arguments
        self._epoch = epoch
        generator = np.random.default_rng((seed, epoch))
        self._order = generator.permutation(len(images))

    def on_epoch_end(self):
        """Begins another epoch."""
        self._begin(self._epoch + 1)

    def __len__(self):
        return len(self._order) // self._batch_size

    def __getitem__(self, index):
        images, noise, level, seed = self._arguments
        chosen = self._order[index * self._batch_size :][: self._batch_size]
        clean = images[chosen]
        indices = self._epoch * len(images) + chosen
        noisy = add_noise(clean, noise, level, seed, indices)
        return noisy, clean / np.float32(255)
