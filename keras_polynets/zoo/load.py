"""From a name to a model, compiled and with its weights."""

import json
import pathlib
import warnings

from keras_polynets import _weight_layout
from keras_polynets._errors import check_input_shape
from keras_polynets.zoo import directory
from keras_polynets.zoo import imagenet
from keras_polynets.zoo import registry
from keras_polynets.zoo import weights as weight_files
from keras_polynets.zoo.compilation import compile_model

# Arguments that leave the trained network what it is, but for its end.
FREE = {
    "class_names",
    "classes",
    "classifier_activation",
    "data_range",
    "dtype",
    "include_top",
    "initialization",
    "input_shape",
    "name",
    "pooling",
    "sampling_rate",
    "trainable",
    "zero_init_residual",
}


def load(
    name,
    *,
    weights="auto",
    include_top=True,
    classes=None,
    input_shape=None,
    pooling=None,
    dtype=None,
    **overrides,
):
    """Loads a model of the zoo, compiled and with its trained weights.

    Args:
        name: A registered name, such as `"pn4"`, or a name and a tag of
            weights, such as `"pn4.fashion_mnist"`. See `list_models`.
        weights: `"auto"` for the tag in the name, else the default tag of the
            model; where there is none, fresh weights, with a warning that
            names the recipes which train it. `None` for fresh weights; disk
            and network are not touched. Or a tag, a file `*.weights.h5`, a
            folder with one such file, or a URL that ends in `#sha256=` and the
            hash: these load or raise. For `"resnet50"` and
            `"prodpoly_resnet50"` also `"imagenet"`, those of
            `keras.applications.ResNet50`, which Keras downloads; the
            second-order terms are zero then, a warm start.
        include_top: Boolean, whether the network ends in its classifier.
        classes: Integer, the number of classes; by default that of the
            weights. With another number the classifier starts fresh, the rest
            is loaded, and a warning says so.
        input_shape: Tuple of integers, the shape of an input; by default that
            of the weights.
        pooling: Without top, `None`, `"avg"` or `"max"`.
        dtype: A dtype or policy, such as `"mixed_bfloat16"`.
        **overrides: Arguments of the model's class, such as `rank`, `order` or
            `classifier_activation`; also `class_names`.

    Returns:
        A `keras_polynets.models.ZooModel`, compiled with the loss, optimizer
        and metric of its recipe.

    Raises:
        ValueError: For an unknown name, tag or argument; weights that do not
            fit, naming the layers, or that have another hash; or a tag with
            an argument that makes another function of its weights.
        FileNotFoundError: If a file of weights does not exist.
        OSError: If a URL cannot be fetched.

    Example:

    >>> model = keras_polynets.zoo.load("pn4.fashion_mnist")
    >>> logits = model(model.preprocessor(images))
    """
    name, tag = registry.split_name(name)
    if tag is not None and weights not in ("auto", tag):
        raise ValueError(
            f"The name '{name}.{tag}' and weights={weights!r} contradict each "
            "other. Give the tag once."
        )
    tag, source = _resolve(name, tag, weights)
    trained = directory.tag_entry(name, tag) if tag else {}
    arguments = {
        **_tag_arguments(trained),
        **({} if include_top else {"include_top": False}),
        **_given(classes=classes, input_shape=input_shape, pooling=pooling),
        **_given(dtype=dtype),
        **overrides,
    }
    class_names = arguments.pop("class_names", None)
    model = _build(name, arguments)
    if tag:
        _load_tag(model, name, tag, trained)
    elif source == imagenet.TAG:
        imagenet.load_into(model, name)
    elif source is not None:
        path, sha256 = weight_files.locate(source)
        model = _load_file(model, name, arguments, path, sha256)
    if class_names and (
        "class_names" in overrides or len(class_names) == model.output_shape[-1]
    ):
        model.class_names = class_names
    return compile_model(model, _optimizer(name, tag))


def info(name):
    """Says what the zoo knows of a model.

    Args:
        name: A registered name, or a name and a tag.

    Returns:
        Dictionary with `name`, `description`, `family`, `task`, `paper`,
        `parameters`, `default` (a tag or `None`), `recipes` (a list of tags),
        `weights` (a list of what `load(weights=)` takes by name besides the
        tags, such as `"imagenet"`) and `tags`: a dictionary from each tag
        (only the one named, where one is) to its manifest entry, with its
        results under `results`.

    Raises:
        ValueError: For an unknown name or tag.

    Example:

    >>> keras_polynets.zoo.info("pn4")["parameters"]
    50346
    """
    name, tag = registry.split_name(name)
    entry = registry.entry(name)
    manifest = directory.manifest(name)
    tags = manifest["tags"]
    if tag is not None:
        tags = {tag: directory.tag_entry(name, tag)}
    return {
        "name": name,
        "description": entry.description,
        "family": entry.family,
        "task": entry.task,
        "paper": entry.paper,
        "parameters": entry.parameters,
        "default": manifest["default"],
        "recipes": directory.recipe_tags(name),
        "weights": [imagenet.TAG] if name in imagenet.SOURCES else [],
        "tags": {
            key: {**values, "results": results(name, key)}
            for key, values in tags.items()
        },
    }


def results(name, tag):
    """Returns the results of a tag, or `None` where none were published.

    Args:
        name: A registered name.
        tag: The tag.
    """
    path = directory.model_directory(name) / f"{tag}.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def _resolve(name, tag, weights):
    """Returns the tag or the other source that the arguments stand for."""
    if weights is None:
        return None, None
    if imagenet.TAG in (tag, weights) and name in imagenet.SOURCES:
        return None, imagenet.TAG
    if weights == "auto":
        tag = tag or directory.manifest(name)["default"]
        if tag is None:
            _warn_fresh(name)
        return tag, None
    if isinstance(weights, str) and _looks_like_tag(weights):
        directory.tag_entry(name, weights)
        return weights, None
    return None, weights


def _looks_like_tag(weights):
    path = pathlib.Path(weights)
    return not (path.suffix or "/" in weights or path.exists())


def _warn_fresh(name):
    recipes = directory.recipe_tags(name)
    commands = " or ".join(
        f"`keras-polynets train {name}.{t}`" for t in recipes[:3]
    )
    if len(recipes) > 3:
        commands += f" or another of its {len(recipes)} recipes"
    tags = directory.manifest(name)["tags"]
    known = ", ".join(f"{name}.{tag}" for tag in tags)
    warnings.warn(
        f"No trained weights of {name!r} are published: the model has fresh "
        "random weights. "
        + (f"Trained variants: {known}. " if tags else "")
        + (f"Train it with {commands}. " if recipes else "")
        + "Pass weights=None to ask for fresh weights without this warning.",
        stacklevel=4,
    )


def _tag_arguments(trained):
    keys = ("classes", "input_shape", "class_names")
    arguments = {key: trained[key] for key in keys if key in trained}
    return arguments | trained.get("overrides", {})


def _given(**arguments):
    return {k: v for k, v in arguments.items() if v is not None}


def _build(name, arguments):
    if "input_shape" in arguments:
        shape = check_input_shape(arguments["input_shape"])
        arguments = arguments | {"input_shape": shape}
    try:
        return registry.entry(name).builder(**arguments)
    except TypeError as error:
        raise ValueError(
            f"Cannot build {name!r} with {arguments}: {error}"
        ) from error


def _load_tag(model, name, tag, trained):
    arguments = _tag_arguments(trained)
    arguments.pop("class_names", None)
    source = _build(name, arguments)
    if "url" in trained:
        path = weight_files.download(trained["url"], trained["sha256"])
    else:
        path = directory.model_directory(name) / trained["weights"]
    weight_files.load_into(source, path, trained["sha256"])
    _transfer(source, model, f"'{name}.{tag}'", trained.get("classes"))
    _check_function(source, model, f"{name}.{tag}")


def _check_function(source, model, trained):
    """Raises where weights fit, but the network would be another function."""
    old, new = source.get_config(), model.get_config()
    changed = [k for k in old if k not in FREE and old[k] != new.get(k)]
    if changed:
        before, after = (
            ", ".join(f"{key}={config.get(key)!r}" for key in changed)
            for config in (old, new)
        )
        raise ValueError(
            f"{trained!r} was trained with {before}: with another value its "
            "weights fit, but give another function than the one trained. "
            f"Received: {after}. Leave the argument out, or pass weights=None."
        )


def _load_file(model, name, arguments, path, sha256):
    """Returns the model with the weights of a file.

    The file says with how many classes it was trained.
    """
    whole = {
        key: value
        for key, value in arguments.items()
        if key not in ("include_top", "pooling")
    }
    top = arguments.get("include_top", True)
    source = model if top else _build(name, whole)
    classes = _weight_layout.classes(path, source.head)
    if classes not in (None, source.output_shape[-1]):
        source = _build(name, whole | {"classes": classes})
    weight_files.load_into(source, path, sha256)
    if top and "classes" not in arguments:
        return source
    if source is not model:
        _transfer(source, model, f"The model in {str(path)!r}", classes)
    return model


def _transfer(source, model, trained, classes):
    fresh = weight_files.transfer(source, model)
    if fresh:
        warnings.warn(
            f"{trained} was trained with {classes} classes: with another "
            f"number the head starts with fresh weights ({', '.join(fresh)}). "
            "Train it before use.",
            stacklevel=4,
        )


def _optimizer(name, tag):
    recipe = directory.recipe_values(name, tag)
    return recipe.get("optimizer", registry.entry(name).optimizer)
