"""What all tables of `training.reproduce` share."""


def share_of_epochs(recipe, arguments):
    """Returns the share of a recipe's epochs that the arguments ask for."""
    if arguments.epochs is not None:
        return arguments.epochs / recipe.epochs
    return arguments.scale


def aligned(rows):
    """Returns the lines of a table of words, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def cell(value, scale=1.0, digits=4):
    """Returns the words of a mean and its deviation."""
    if value is None:
        return "not available"
    text = f"{scale * value['mean']:.{digits}f}"
    if value["deviation"] is None:
        return text
    return f"{text} ± {scale * value['deviation']:.{digits}f}"
