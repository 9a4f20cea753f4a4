"""The same recipe for another number of epochs."""


def scaled(recipe, share):
    """Returns a recipe whose epochs are a share of what they were.

    The epochs of the schedule, of the projection's start, of the warm-up before
    adversarial training and of the network that a transfer trains move in
    proportion; each phase keeps an epoch.

    Args:
        recipe: A `Recipe`.
        share: Float above 0.

    Returns:
        A `Recipe`.
    """
    if share == 1:
        return recipe
    epochs = max(1, round(recipe.epochs * share))

    def moved(epoch):
        return max(1, round(epoch * share)) if epoch else 0

    changes = {"epochs": epochs}
    schedule = recipe.to_dict()["schedule"]
    schedule["warmup_epochs"] *= share
    steps = sorted(set(map(moved, schedule["epochs"])))
    schedule["epochs"] = [epoch for epoch in steps if epoch < epochs]
    if steps and not schedule["epochs"]:
        schedule["name"] = "constant"
    changes["schedule"] = schedule
    if recipe.projection is not None:
        start = min(moved(recipe.projection.start_epoch), epochs - 1)
        changes["projection.start_epoch"] = start
    if recipe.adversarial is not None:
        warmup = round(recipe.adversarial.warmup_epochs * share)
        changes["adversarial.warmup_epochs"] = min(warmup, epochs - 1)
    if recipe.transfer is not None and recipe.transfer.epochs:
        changes["transfer.epochs"] = moved(recipe.transfer.epochs)
    return recipe.replace(changes)
