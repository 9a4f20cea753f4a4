"""Publishes a finished run as a tag of the zoo.

    python -m training.publish runs/pn4.fashion_mnist pn4.fashion_mnist

writes zoo/pn4/fashion_mnist.weights.h5, .toml (the recipe), .json (the
result) and .reference.npz (a few images and their logits), and brings
zoo/pn4/model.toml, the results in zoo/pn4/card.md and zoo/results.csv up to
date. All files are written aside and renamed at the end.
"""

import argparse
import contextlib
import csv
import json
import pathlib
import shutil
import sys
import textwrap
import tomllib

import numpy as np

REFERENCES = 8
LARGEST_FILE = 16 * 2**20


def publish(run_directory, name, zoo_directory, default=False, paper=""):
    """Publishes the run as `name`, a model and a tag.

    Args:
        run_directory: Folder of a finished run.
        name: `"MODEL.TAG"`.
        zoo_directory: Folder of the zoo.
        default: Whether the tag becomes the model's default. The first one
            does, unless it has other arguments than the model of the paper.
        paper: What the paper reports, for the head of the recipe.

    Returns:
        Paths of the files written.
    """
    from keras_polynets import recipes
    from keras_polynets import zoo
    from keras_polynets._files import atomic_path
    from keras_polynets.data.loading import is_path
    from keras_polynets.recipes import building
    from keras_polynets.recipes import examples
    from keras_polynets.recipes import toml
    from keras_polynets.recipes.directory import RunDirectory
    from keras_polynets.zoo.cards import write_results

    model_name, _, tag = name.partition(".")
    run = RunDirectory(run_directory)
    result = check(run, model_name, tag)
    recipe = recipes.load(run.config)
    portable = recipe.portable()
    splits = examples.examples_of(recipe)
    dataset = splits.dataset
    model = building.network(recipe, dataset)
    source = getattr(run, result["weights"])
    zoo.weights.load_into(model, source)
    result = {"tag": tag, **result, "recipe": portable.to_dict()}

    folder = pathlib.Path(zoo_directory, model_name)
    table = folder.parent / "results.csv"
    paths = [folder / "model.toml", table]
    suffixes = (".weights.h5", ".toml", ".json", ".reference.npz")
    paths += [folder / (tag + suffix) for suffix in suffixes]
    with contextlib.ExitStack() as stack:
        # Renamed in reverse: the manifest, which names the others, is last.
        aside = [stack.enter_context(atomic_path(path)) for path in paths]
        manifest, rows, weights, recipe_file, report, reference = aside
        shutil.copyfile(source, weights)
        recipe_file.write_text(
            head(
                name,
                result,
                paper,
                is_path(recipe.data.name),
                size(model, result, dataset),
            )
            + portable.to_toml(defaults=False),
            encoding="utf-8",
        )
        report.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        write_reference(reference, model, splits)
        entry = tag_entry(tag, weights, recipe, dataset, model)
        leads = default or (False if recipe.overrides else None)
        old = read_toml(folder / "model.toml")
        manifest.write_text(
            toml.dumps(with_tag(old, tag, entry, leads)), encoding="utf-8"
        )
        write_table(rows, table, result)
    write_results(folder / "card.md", results_block(folder))
    return [*paths, folder / "card.md"]


def check(run, model_name, tag):
    """Returns the result of a run that can be published."""
    if not model_name or not tag or "/" in tag:
        raise ValueError(
            "A run is published as MODEL.TAG, for example pn4.fashion_mnist."
        )
    result = run.read_result()
    if result is None or not result["test"]:
        raise ValueError(
            f"The run in {str(run.path)!r} is not finished: {run.result.name} "
            "is missing or has no test accuracy. Run the recipe to its end."
        )
    if result["model"] != model_name:
        raise ValueError(
            f"The run in {str(run.path)!r} is one of {result['model']!r}, and "
            f"cannot be published as {model_name}.{tag}."
        )
    size = getattr(run, result["weights"]).stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(
            f"The weights have {size:,} bytes; the zoo takes at most "
            f"{LARGEST_FILE:,} a tag. Publish them elsewhere and write `url` "
            "and `sha256` into model.toml."
        )
    return result


def size(model, result, dataset):
    """Returns the sentences on parameters and work in the head of a recipe."""
    from keras_polynets.analysis.work import work_by_layer

    work = sum(work_by_layer(model).values())
    examples = result["training_examples"]
    noun = "an image"
    if getattr(dataset, "sampling_rate", None) is not None:
        noun = "a recording"
    epoch = f"{3 * work * examples:.2e}".replace("e+", "e")
    return (
        f"Parameters: {result['parameters']:,}. Work: {epoch} multiply-adds an "
        f"epoch, three times the {work:,} of {noun} for {examples:,} "
        f"{noun.split()[1]}s."
    )


def head(name, result, paper, is_local, size):
    """Returns the comment at the head of a published recipe.

    Args:
        name: `"MODEL.TAG"`.
        result: The result of the run.
        paper: What the paper reports, or an empty text.
        is_local: Whether the data is a file, which a user has elsewhere.
        size: What is said of parameters and work.
    """
    hardware = result["hardware"]
    devices = hardware["accelerators"]
    accuracies = [f"{result['test']['accuracy']:.4f}"]
    accuracies += [
        f"{value:.4f} under {attack}"
        for attack, value in result["test"]["attacks"].items()
        if value is not None
    ]
    source = result.get("transfer", {}).get("training_seconds")
    before = f"{source:.0f} s for the first network and " if source else ""
    lines = [
        size,
        f"Time: {before}{result['training_seconds']:.0f} s of training on "
        f"{hardware['cpus']} CPUs ({hardware['machine']}) and "
        f"{devices} accelerator{'' if devices == 1 else 's'}.",
        f"Test accuracy: {', '.join(accuracies)}.",
    ]
    lines += [f"Paper: {paper}"] if paper else []
    command = f"python -m training.train {name}"
    command += " --set data.name=PATH" if is_local else ""
    wrapped = (row for line in lines for row in textwrap.wrap(line, 78))
    return "".join(f"# {row}\n" for row in (command, *wrapped))


def write_reference(path, model, splits):
    """Writes a few stored examples of the test set and their logits."""
    images, labels = splits.few_tested(REFERENCES)
    logits = np.asarray(model.predict(model.preprocessor(images), verbose=0))
    with open(path, "wb") as file:
        np.savez_compressed(
            file,
            images=images,
            labels=labels,
            logits=logits.astype("float32"),
        )


def tag_entry(tag, weights, recipe, dataset, model):
    """Returns what the manifest says of a tag."""
    from keras_polynets._files import sha256
    from keras_polynets.analysis.work import trainable_parameters

    return {
        "weights": f"{tag}.weights.h5",
        "sha256": sha256(weights),
        "classes": len(dataset.class_names),
        "input_shape": list(model.input_shape[1:]),
        "class_names": list(dataset.class_names),
        "parameters": trainable_parameters(model),
        "data": dataset.source,
        **({"overrides": recipe.overrides} if recipe.overrides else {}),
    }


def with_tag(manifest, tag, entry, default=None):
    """Returns the manifest with the tag's entry replaced.

    Args:
        manifest: Dictionary, what `model.toml` says.
        tag: The tag.
        entry: What the manifest is to say of it.
        default: Whether it becomes the default tag; `None` if there is none.
    """
    tags = {**manifest.get("tags", {}), tag: entry}
    if default is None:
        default = "default" not in manifest
    if default:
        manifest = {**manifest, "default": tag}
    return {**manifest, "tags": tags}


def read_toml(path):
    if not path.is_file():
        return {}
    return tomllib.loads(path.read_text(encoding="utf-8"))


def write_table(path, before, result):
    """Writes the table of all results with this one's row replaced."""
    rows = []
    if before.is_file():
        with open(before, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    test, key = result["test"], (result["model"], result["tag"])
    new = {
        "model": result["model"],
        "tag": result["tag"],
        "parameters": result["parameters"],
        "data": result["recipe"]["data"]["name"],
        "training_examples": result["training_examples"],
        "epochs": result["epochs"],
        "seed": result["seed"],
        "training_seconds": result["training_seconds"],
        "lipschitz_bound": result["lipschitz_bound"],
        "test": test["accuracy"],
        **{f"test {name}": value for name, value in test["attacks"].items()},
    }
    rows = [row for row in rows if (row["model"], row["tag"]) != key] + [new]
    rows.sort(key=lambda row: (row["model"], row["tag"]))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def results_block(folder):
    """Returns the Markdown of all published results of a model."""
    tags = read_toml(folder / "model.toml")["tags"]
    paths = [folder / f"{tag}.json" for tag in sorted(tags)]
    results = [json.loads(p.read_text()) for p in paths if p.is_file()]
    attacks = dict.fromkeys(
        attack for result in results for attack in result["test"]["attacks"]
    )
    header = ["weights", "test", *attacks, "Lipschitz bound", "epochs", "s"]
    rows = [
        [
            f"`{result['tag']}`",
            number(result["test"]["accuracy"]),
            *(number(result["test"]["attacks"].get(a)) for a in attacks),
            number(result["lipschitz_bound"], ".4g"),
            str(result["epochs"]),
            f"{result['training_seconds']:.0f}",
        ]
        for result in results
    ]
    if all(result["lipschitz_bound"] is None for result in results):
        at = header.index("Lipschitz bound")
        for row in (header, *rows):
            del row[at]
    parts = [markdown(header, rows)]
    parts += [sweep_block(r) for r in results if "sweep" in r]
    return "\n\n".join(parts)


def sweep_block(result):
    """Returns the Markdown of the sweep that chose a result's bound."""
    sweep, chosen = result["sweep"], result["recipe"]["projection"]["max_value"]
    rows = [
        [
            "none" if row["max_value"] is None else f"{row['max_value']:g}",
            number(row.get("accuracy")),
            number(row.get("robust_accuracy")),
            number(row.get("lipschitz_bound"), ".4g"),
        ]
        for row in sweep["rows"]
    ]
    header = ["bound", "accuracy", sweep["attack"], "Lipschitz bound"]
    text = (
        f"`{result['tag']}`: the bound {chosen:g} has the best validation "
        f"accuracy under {sweep['attack']} (all numbers of this table are of "
        "the validation set)."
    )
    free = sweep["rows"][0].get("lipschitz_bound")
    if free and result["lipschitz_bound"]:
        factor = free / result["lipschitz_bound"]
        text += (
            f" The Lipschitz bound is {factor:.3g} times smaller than without "
            "projection."
        )
    return f"{text}\n\n{markdown(header, rows)}"


def markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value, form=".4f"):
    return "–" if value is None else format(value, form)


def make_parser():
    parser = argparse.ArgumentParser(
        prog="python -m training.publish",
        description="Publish a finished run as a tag of the zoo.",
    )
    parser.add_argument("run_directory", help="folder of a finished run")
    parser.add_argument("name", help="MODEL.TAG, such as pn4.fashion_mnist")
    parser.add_argument(
        "--zoo", default="zoo", help="folder of the zoo (default: zoo)"
    )
    parser.add_argument(
        "--default", action="store_true", help="make it the default tag"
    )
    parser.add_argument("--paper", default="", help="what the paper reports")
    return parser


def main(argv=None):
    """Runs the program and returns its exit status."""
    arguments = make_parser().parse_args(argv)
    try:
        written = publish(
            arguments.run_directory,
            arguments.name,
            arguments.zoo,
            arguments.default,
            arguments.paper,
        )
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
