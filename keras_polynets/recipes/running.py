"""Runs a recipe: trains, survives a kill, measures and reports."""

import importlib.util
import pathlib
import sys

import keras

from keras_polynets import callbacks
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.analysis.work import trainable_parameters
from keras_polynets.recipes import building
from keras_polynets.recipes import evaluating
from keras_polynets.recipes import examples
from keras_polynets.recipes import recording
from keras_polynets.recipes import transferring
from keras_polynets.recipes.directory import RunDirectory

RUNS = pathlib.Path("runs")


def run(recipe, run_directory=None, verbose="auto", test=True, measure=None):
    """Trains a model by a recipe, measures it and reports.

    Call it again to go on with a run that was interrupted, from the last
    backup: it ends with the weights and the history of a run that was not
    interrupted. A finished run returns its result at once.

    Args:
        recipe: A `Recipe`.
        run_directory: The folder of the run, `runs/<name of the recipe>` by
            default. It holds `config.toml` (the resolved recipe), `log.txt`,
            `history.csv` (a row an epoch), `backup.npz`, `best.weights.h5`
            (the best validation accuracy; once projection and attacks have
            begun, where there are such), `last.weights.h5`, `tensorboard/`
            (where TensorBoard is installed, on the TensorFlow backend),
            `source/` (the run of the network that `recipe.transfer` trains
            first) and `result.json`.
        verbose: 0 for silence, 1 for progress bars, 2 for a line an epoch,
            `"auto"` for 1 on a terminal and 2 elsewhere.
        test: Boolean, whether the test set is looked at. Selections among
            runs leave it out.
        measure: Callable `measure(model)` that returns a dictionary of numbers,
            called at the end of every epoch. They are further columns of
            `history.csv`. A finished run is not measured again.

    Returns:
        The result, a dictionary (`result.json`). `weights` says which weights
        were measured: `"best"`, or `"last"` where nothing was held out.

    Raises:
        ValueError: If the folder holds a run of another recipe, or the recipe
            does not fit the model.
        RuntimeError: If another process trains in the folder.
        FloatingPointError: If the loss is no longer finite. The message names
            the layer where that began; backup and checkpoints are those from
            before.
        KeyboardInterrupt: On Ctrl-C, when the state is saved.

    Example:

    >>> recipe = keras_polynets.recipes.load("pn4.fashion_mnist", ["epochs=3"])
    >>> result = keras_polynets.recipes.run(recipe)
    >>> result["test"]["accuracy"]
    """
    directory = RunDirectory(run_directory or RUNS / (recipe.name or "run"))
    directory.claim(recipe)
    result = directory.read_result()
    if result is not None and (result["test"] or not test):
        return result
    if verbose == "auto":
        verbose = 1 if sys.stdout.isatty() else 2
    options = recipe.evaluation
    for attack in (*options.attacks, *options.selecting_attacks):
        robustness.parse_attack(attack)
    with directory.held():
        transferring.prepare(recipe, directory, run, verbose)
        job = Job(recipe, directory, verbose, measure=measure)
        job.train()
        result = job.report(test, result)
        directory.write_result(result)
        directory.write_log("finished")
    return result


class Job:
    """The objects of a run in this process.

    Args:
        recipe: A `Recipe`.
        directory: Its `RunDirectory`.
        verbose: 0, 1 or 2.
        steps_per_execution: Integer, or `None` to choose it.
        measure: As in `run`.
    """

    def __init__(
        self,
        recipe,
        directory,
        verbose,
        steps_per_execution=None,
        measure=None,
    ):
        self.recipe, self.directory = recipe, directory
        self.verbose = verbose
        building.fix_seeds(recipe)
        self.splits = examples.examples_of(recipe)
        self.steps_per_epoch = -(-self.splits.size // recipe.batch_size)
        self.history = recording.History(
            directory,
            self.splits.monitored_part,
            lambda _: measure(self.model) if measure else {},
        )
        self.best = recording.BestWeights(
            directory.best,
            lambda _, path: zoo.weights.save(self.model, path),
            first_epoch=recipe.settled_epoch,
            enabled=self.splits.validation is not None,
        )
        self.plateau = _plateau(recipe)
        self.backup = callbacks.Backup(
            directory.backup,
            save_freq=recipe.backup_steps or "epoch",
            callbacks=[self.history, self.best, *self.plateau],
        )
        start = self.backup.position()
        with building.scope(recipe):
            self.model = building.network(recipe, self.splits.dataset)
            self.training_model = building.training_model(
                recipe,
                self.model,
                self.splits,
                self.steps_per_epoch,
                steps_per_execution
                or building.choose_steps_per_execution(
                    recipe, self.steps_per_epoch, start.step
                ),
            )
            if not start.global_step:
                transferring.start(
                    self.model, recipe, directory, self.splits.dataset
                )

    def train(self):
        """Trains from the last backup to the end of the last epoch."""
        start, epochs = self.backup.position(), self.recipe.epochs
        if start.epoch < epochs:
            self._announce(start)
            interruption = recording.Interruption(self.backup)
            try:
                with interruption.handling():
                    self._fit(interruption)
            except KeyboardInterrupt:
                self.directory.write_log("interrupted")
                raise
            except FloatingPointError as error:
                raise self._explained(error) from None
            zoo.weights.save(self.model, self.directory.last)
        else:
            self.backup.restore(self.training_model)
            states = self.backup.callback_states()
            self.history.set_state(states[0])
            self.best.set_state(states[1])
            if not self.directory.last.exists():
                zoo.weights.save(self.model, self.directory.last)

    def fit_epochs(self, epochs, extra=(), validate=True):
        """Calls `fit` from the position of the backup, to the epoch given."""
        start = self.backup.position()
        if start.step:
            # Keras makes metrics at their first use, and they are restored.
            self.training_model.evaluate(*self.splits.few(), verbose=0)
        self.training_model.fit(
            self.splits.batches(start.global_step),
            shuffle=False,
            initial_epoch=start.epoch,
            epochs=epochs,
            steps_per_epoch=self.steps_per_epoch - start.step,
            validation_data=self.splits.monitored if validate else None,
            validation_batch_size=self.recipe.evaluation.batch_size,
            callbacks=[*projection(self.recipe), *extra],
            verbose=self.verbose,
        )

    def report(self, test, known=None):
        """Measures the model and returns the result.

        Args:
            test: Whether the test set is looked at.
            known: The result without the test set, where there is one.
        """
        recipe, splits = self.recipe, self.splits
        weights = "last" if self.best.best is None else "best"
        model = self.model
        if recipe.strategy != "default":
            # One device measures, so that a batch is seen once.
            model = building.network(recipe, splits.dataset)
        zoo.weights.load_into(model, getattr(self.directory, weights))
        if known is None:
            known = {
                "model": recipe.model,
                "parameters": trainable_parameters(model),
                "recipe": recipe.to_dict(),
                "data": splits.dataset.source,
                "epochs": recipe.epochs,
                "steps_per_epoch": self.steps_per_epoch,
                "training_examples": splits.size,
                "seed": recipe.seed,
                "weights": weights,
                "best_epoch": self.best.best_epoch,
                "training_seconds": round(self.history.seconds, 3),
                **transferring.report(recipe, self.directory),
                **evaluating.bounds(model, splits.size),
                "validation": self._measure(
                    "validation",
                    evaluating.validation_accuracies,
                    model,
                    splits.validation,
                ),
                **evaluating.environment(),
            }
        chosen = splits.test if test else None
        return known | {
            "test": self._measure(
                "test", evaluating.test_accuracies, model, chosen
            )
        }

    def _measure(self, part, accuracies, model, chosen):
        if chosen is None:
            return None
        if self.verbose:
            number = examples.count(chosen)
            print(f"The {number:,} examples of the {part} set:")
        return accuracies(model, chosen, self.recipe, self.verbose)

    def _fit(self, interruption):
        extra = [
            callbacks.TerminateOnNonFinite(),
            self.history,
            self.best,
            *self.plateau,
            *_tensorboard(self.directory),
            self.backup,
            interruption,
        ]
        start = self.backup.position()
        if start.step:
            self.fit_epochs(start.epoch + 1, extra)
        if self.backup.position().epoch < self.recipe.epochs:
            self.fit_epochs(self.recipe.epochs, extra)

    def _announce(self, start):
        message = f"training for {self.recipe.epochs} epochs of "
        message += f"{self.steps_per_epoch} steps"
        if start.global_step:
            message += f", going on at epoch {start.epoch}, step {start.step}"
        self.directory.write_log(message)
        if self.verbose:
            print(f"{self.directory.path}: {message}")

    def _explained(self, error):
        """Adds to an error where the loss stopped being finite."""
        from keras_polynets.recipes.diagnosis import locate

        message = (
            f"{error} {locate(self.recipe, self.directory)} What is saved in "
            f"{str(self.directory.path)!r} is from before. "
            "Lower the learning rate, add a projection, or train in float32 "
            "or mixed_bfloat16; the changed recipe is a new run."
        )
        self.directory.write_log(message)
        return FloatingPointError(message)


def projection(recipe):
    """Returns the callbacks of a recipe's projection: one or none."""
    if recipe.projection is None:
        return []
    options = recipe.projection
    return [
        callbacks.PeriodicProjection(
            options.layers or options.max_value,
            every=options.every,
            start_epoch=options.start_epoch,
            joint_bias=options.joint_bias,
            norm=options.norm,
        )
    ]


def _plateau(recipe):
    options = recipe.schedule
    if options.name != "plateau":
        return []
    return [
        keras.callbacks.ReduceLROnPlateau(
            monitor=options.monitor,
            factor=options.factor,
            patience=options.patience,
        )
    ]


def _tensorboard(directory):
    installed = importlib.util.find_spec("tensorboard")
    if keras.backend.backend() != "tensorflow" or not installed:
        return []
    return [
        keras.callbacks.TensorBoard(directory.tensorboard, write_graph=False)
    ]
