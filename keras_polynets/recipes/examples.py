"""The examples of a run: those that train, that select, and that test."""

import numpy as np

from keras_polynets import data


def examples_of(recipe):
    """Returns the examples of a recipe: `Splits`, or `StreamedSplits`."""
    kind = Splits if recipe.stream is None else StreamedSplits
    return kind(recipe)


class Splits:
    """The arrays of a run.

    Attributes:
        dataset: The `data.ArrayDataset`.
        size: The number of examples that train.
        validation: Pair of inputs and labels that select, or `None`.
        test: Pair of inputs and labels.
        monitored: What is measured after every epoch, or `None`.
        monitored_part: Its name in the history, "val" or "test".
        shape: The shape of a stored example.
    """

    def __init__(self, recipe):
        kwargs = {}
        if recipe.data.archives:
            kwargs["archives"] = recipe.data.archives
        if recipe.data.split:
            kwargs["split"] = recipe.data.split
        self.recipe = recipe
        self.dataset = data.load(recipe.data.name, **kwargs)
        x, y = self.dataset.x_train, self.dataset.y_train
        self.validation = None
        if recipe.data.own_validation:
            self.validation = self._own_validation()
        if recipe.data.validation:
            kept, held_out = data.stratified_split(
                y, recipe.data.validation, recipe.data.validation_seed
            )
            self.validation = x[held_out], y[held_out]
            x, y = x[kept], y[kept]
        self.x, self.y = x, y
        self.size = len(y)
        self.test = self.dataset.x_test, self.dataset.y_test
        self.shape = x.shape[1:]
        self.monitored, self.monitored_part = self.validation, "val"
        if recipe.evaluation.test_curve:
            self.monitored, self.monitored_part = self.test, "test"

    def batches(self, first_step=0):
        """Returns what `fit` of a model of the zoo takes, from a step on."""
        recipe = self.recipe
        return data.Batches(
            self.x, self.y, recipe.batch_size, recipe.seed, first_step
        )

    def inputs_of(self, step):
        """Returns the stored inputs of a global step."""
        return self.x[self.batches().indices(step)]

    def few(self):
        """Returns two examples, inputs and labels."""
        return self.x[:2], self.y[:2]

    def few_tested(self, number):
        """Returns some examples of the test, inputs and labels."""
        return spread(self.test, number)

    def _own_validation(self):
        if self.dataset.y_validation is None:
            raise ValueError(
                f"The set {self.dataset.name!r} holds nothing out to select "
                "models by, and the recipe says data.own_validation = true. "
                "Say data.validation = N instead."
            )
        return self.dataset.x_validation, self.dataset.y_validation


class StreamedSplits:
    """The examples of a run that are read while they are used.

    Attributes: as those of `Splits`; `dataset` is a `data.StreamedDataset`,
    and `test` has a length and yields batches.
    """

    validation = None

    def __init__(self, recipe):
        self.recipe, options = recipe, recipe.stream
        self.dataset = data.stream(
            recipe.data.name, archives=recipe.data.archives
        )
        self.size = len(self.dataset.train)
        self.shape = (options.size, options.size, 3)
        self.test = _Evaluated(self.dataset.test, recipe)
        self.monitored, self.monitored_part = None, "val"
        if recipe.evaluation.test_curve:
            self.monitored, self.monitored_part = self.test.batches, "test"

    def batches(self, first_step=0):
        """Returns what `fit` takes, from a global step on."""
        return self._cropped(first_step).dataset()

    def inputs_of(self, step):
        """Returns the stored inputs of a global step."""
        images, _ = next(iter(self._cropped(step).dataset()))
        return np.asarray(images)

    def few(self):
        """Returns two examples, inputs and labels."""
        return np.zeros((2, *self.shape), "uint8"), np.zeros(2, "int32")

    def few_tested(self, number):
        """Returns the first examples of the test, inputs and labels."""
        options = self.recipe.stream
        batches = data.evaluation_batches(
            self.dataset.test, number, options.size, options.resize
        )
        return tuple(map(np.asarray, next(iter(batches))))

    def _cropped(self, first_step):
        recipe = self.recipe
        return data.CroppedBatches(
            self.dataset.train,
            recipe.batch_size,
            recipe.seed,
            first_step,
            size=recipe.stream.size,
            area=recipe.stream.area,
        )


class _Evaluated:
    """The batches of a test, as often as they are asked for."""

    def __init__(self, source, recipe):
        self.examples = len(source)
        self.batches = data.evaluation_batches(
            source,
            recipe.evaluation.batch_size,
            size=recipe.stream.size,
            resize=recipe.stream.resize,
            crops=recipe.evaluation.crops,
        )

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


def spread(examples, number):
    """Returns so many examples, evenly over all: some sets go by class.

    Args:
        examples: Tuple of arrays of equal length.
        number: Positive integer, at most that length.
    """
    chosen = np.arange(number) * len(examples[0]) // number
    return tuple(part[chosen] for part in examples)


def count(examples):
    """Returns how many examples a pair of arrays or a test has."""
    known = getattr(examples, "examples", None)
    return len(examples[1]) if known is None else known
