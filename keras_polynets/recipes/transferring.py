"""Weight transfer: a run that starts from another network's training."""

from keras_polynets import convert
from keras_polynets import zoo
from keras_polynets.recipes import building
from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.directory import flat
from keras_polynets.recipes.recipe import load


def source_recipe(recipe):
    """Returns the recipe of the network whose weights a run starts from.

    Args:
        recipe: A `Recipe` with `transfer`.

    Raises:
        FileNotFoundError: If `transfer.recipe` is a file that does not exist.
        ValueError: If it is unknown or has a transfer itself, or a key of
            `transfer.changes` is wrong.
    """
    transfer = recipe.transfer
    source = load(transfer.recipe, flat(transfer.changes))
    if source.transfer is not None:
        raise ValueError(
            f"Recipe key 'transfer.recipe' must be a recipe without [transfer] "
            f"of its own. Received: {transfer.recipe!r}"
        )
    shared = ("seed", "strategy", "devices", "deterministic", "backup_steps")
    return source.replace(
        {
            **{key: getattr(recipe, key) for key in shared},
            "data": recipe.to_dict()["data"],
            "evaluation": {"batch_size": recipe.evaluation.batch_size},
            "epochs": transfer.epochs or source.epochs,
        }
    )


def prepare(recipe, directory, run, verbose):
    """Trains the network whose weights a run starts from, where there is one.

    A run that goes on has its weights already.

    Args:
        recipe: The `Recipe` of the run.
        directory: Its `RunDirectory`.
        run: The function `recipes.run`.
        verbose: As in `recipes.run`.

    Raises:
        ValueError: If the recipe of the source is wrong, or its network does
            not match: this is found out before the training.
    """
    if recipe.transfer is None or directory.backup.exists():
        return
    source = source_recipe(recipe)
    if recipe.transfer.weights:
        return
    # The first thing that makes a model also divides the devices.
    with building.scope(recipe):
        old, new = (
            zoo.load(r.model, weights=None, **r.overrides)
            for r in (source, recipe)
        )
        convert.transfer_weights(old, new)
    run(source, directory.source, verbose, test=False)


def start(model, recipe, directory, dataset):
    """Gives a model the weights that its recipe wants it to start from.

    Args:
        model: The network of `recipe`.
        recipe: The `Recipe` of the run.
        directory: Its `RunDirectory`.
        dataset: The `data.ArrayDataset` of the run.

    Raises:
        FileNotFoundError: If there is no file of the weights.
        ValueError: If the weights or the networks do not match.
    """
    if recipe.transfer is None:
        return
    source = source_recipe(recipe)
    network = building.network(source, dataset)
    trained = RunDirectory(directory.source).last
    zoo.weights.load_into(network, recipe.transfer.weights or trained)
    convert.transfer_weights(network, model)


def report(recipe, directory):
    """Returns what a result says of the weights that the run started from.

    Args:
        recipe: The `Recipe` of the run.
        directory: Its `RunDirectory`.

    Returns:
        Dictionary, empty without a transfer; else with the key `transfer`: the
        `recipe` of the source and the file of its `weights`, or the
        `training_seconds` of the training that gave them, `None` where that
        is not in the run's folder.
    """
    if recipe.transfer is None:
        return {}
    known = {"recipe": source_recipe(recipe).to_dict()}
    if recipe.transfer.weights:
        return {"transfer": {**known, "weights": recipe.transfer.weights}}
    # The branches of a sweep have the weights without the run of the source.
    result = RunDirectory(directory.source).read_result() or {}
    seconds = result.get("training_seconds")
    return {"transfer": {**known, "training_seconds": seconds}}
