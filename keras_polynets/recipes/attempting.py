"""A run among many: it may branch off another, diverge, or be missing."""

from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.running import run


def attempt(recipe, path, *, test=True, train=True, trunk=None, verbose="auto"):
    """Runs a recipe, and remembers it if that diverges.

    Args:
        recipe: A `Recipe`.
        path: The folder of the run.
        test: Boolean, whether the test set is looked at.
        train: Boolean; without it only what is finished is reported.
        trunk: The folder of a finished run of the first epochs, from which
            this one goes on, or `None`.
        verbose: As in `run`.

    Returns:
        The result of `run`; or `{"diverged": message}`, which a second call
        repeats without training; or `None` where the run is not finished.
    """
    directory = RunDirectory(path)
    directory.check(recipe)
    message = directory.read_divergence()
    if message is not None:
        return {"diverged": message}
    if not train:
        result = directory.read_result()
        tested = result is not None and result["test"] is not None
        return result if tested or not test else None
    if trunk is not None:
        directory.start_from(RunDirectory(trunk))
    try:
        return run(recipe, path, verbose, test=test)
    except FloatingPointError as error:
        # Reports travel; where the run lies is of this machine.
        message = str(error).replace(repr(str(directory.path)), "its folder")
        directory.write_divergence(message)
        return {"diverged": message}


def trunk_of(recipe):
    """Returns the recipe of the epochs before projection and attacks begin.

    Runs that differ in what begins then can branch off one run of it. The
    section `adversarial` stays: its training has variables of its own, and
    perhaps draws random numbers, before the attacks begin.

    Args:
        recipe: A `Recipe`.

    Returns:
        A `Recipe`, or `None` where there are no such epochs.
    """
    starts = []
    if recipe.projection is not None:
        starts.append(recipe.projection.start_epoch)
    if recipe.adversarial is not None:
        starts.append(recipe.adversarial.warmup_epochs)
    return first_epochs(recipe, min(starts, default=0))


def first_epochs(recipe, epochs):
    """Returns the recipe of the first epochs alone, which measures nothing.

    Args:
        recipe: A `Recipe` whose projection and attacks begin no earlier.
        epochs: Integer, how many epochs.

    Returns:
        A `Recipe`, or `None` where these are no proper part, or where the
        schedule depends on the number of all epochs.
    """
    whole = recipe.schedule.name == "cosine"
    if whole or not 0 < epochs < recipe.epochs:
        return None
    return recipe.replace(
        {"projection": None, "epochs": epochs, "evaluation": None}
    )
