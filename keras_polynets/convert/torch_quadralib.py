"""Checkpoints of QuadraLib, a PyTorch library, as models of the zoo."""

import collections.abc
import os
import pathlib
import pickle
import re

import keras
import numpy as np

from keras_polynets.analysis import graphs
from keras_polynets.convert.assignments import assign
from keras_polynets.layers import QuadraticLayer

# The modules of a quadratic unit, by the role of the branch that they are:
# bn1(conv1(x)) * bn2(conv2(x)) + bn3(conv3(x)).
_BRANCHES = {"linear": 1, "gate": 2, "addend": 3}
_SHORTCUT = {"shortcut_conv": "shortcut.0", "shortcut_norm": "shortcut.1"}


def from_torch_quadralib(state_dict):
    """Reads a checkpoint of QuadraLib into the same network of the zoo.

    Both networks of its release are known: ResNet-14 becomes
    `quadratic_resnet14`, VGG-7 becomes `quadratic_vgg7`. Which one it is, and
    the number of classes, is read from the checkpoint.

    Args:
        state_dict: Dictionary from the names of QuadraLib's modules to tensors
            or arrays in PyTorch's layout; or that dictionary under the key
            `"net"`; or the path of a file with either. A file `*.npz` is read
            with NumPy, `*.safetensors` with the library of this name, and any
            other with `torch.load(weights_only=True)`, which runs no code.

    Returns:
        A compiled `keras_polynets.models.ZooModel` with the weights, in
        inference equal to the network in PyTorch to 1e-4.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the library that reads the file is not installed.
        ValueError: If the file is none of tensors only, if it is of another
            network, or if tensors are missing, left over or of another shape,
            with the name of each.

    Example:

    >>> model = keras_polynets.convert.from_torch_quadralib("resnet14.pth")
    >>> logits = model(model.preprocessor(images))

    Reference:
        - Xu et al., "QuadraLib: A Performant Quadratic Neural Network Library
          for Architecture Optimization and Design Exploration", MLSys 2022.
    """
    if not isinstance(state_dict, collections.abc.Mapping):
        if not isinstance(state_dict, str | os.PathLike):
            raise _no_state_dict(state_dict)
        state_dict = _read(pathlib.Path(state_dict))
    tensors = _tensors(state_dict)
    name, head = _network(tensors)
    # The zoo stands above this module; only this function needs it.
    from keras_polynets import zoo

    classes = len(tensors[head])
    model = zoo.load(name, weights=None, classes=classes)
    load_into(model, tensors)
    return model


def load_into(model, tensors):
    """Gives a network of the zoo the weights of QuadraLib's.

    Args:
        model: `quadratic_resnet14` or `quadratic_vgg7`, or a network with the
            same layers and names.
        tensors: Dictionary from the names of PyTorch to arrays.

    Raises:
        ValueError: If tensors are missing, left over or of another shape. The
            model is then unchanged.
    """
    wanted = {}
    for module, layer in _modules(model, tensors).items():
        for key, variable in _variables(module, layer):
            wanted[key] = variable
    given = {k: v for k, v in tensors.items() if not k.endswith("_tracked")}
    errors = [f"missing: {key}" for key in wanted if key not in given]
    errors += [f"left over: {key}" for key in given if key not in wanted]
    pairs = []
    for key in wanted.keys() & given.keys():
        value = _keras_layout(given[key])
        pairs.append((wanted[key], value))
        if value.shape != tuple(wanted[key].shape):
            shape = tuple(wanted[key].shape)
            errors.append(
                f"{key}: expected {_torch_shape(shape)}, received "
                f"{given[key].shape}"
            )
    if errors:
        raise ValueError(
            f"The checkpoint does not fit {model.name!r}, which is unchanged:"
            "\n  " + "\n  ".join(sorted(errors))
        )
    assign(pairs)


def _read(path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}.")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        if path.suffix == ".safetensors":
            import safetensors.numpy

            return safetensors.numpy.load_file(path)
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise ImportError(
            f"Reading {str(path)!r} takes the library {error.name!r}. Install "
            "it, or pass a dictionary of arrays or a file *.npz."
        ) from error
    except (
        pickle.UnpicklingError,
        ValueError,
        RuntimeError,
        EOFError,
    ) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"The file {str(path)!r} is not one of tensors only, or is "
            f"damaged; it was not loaded. ({reason}) Expected the state dict "
            "of a network of QuadraLib."
        ) from error


def _tensors(state_dict):
    """Returns the arrays of a state dict, without the prefixes of wrappers."""
    state_dict = state_dict.get("net", state_dict)
    if not (
        isinstance(state_dict, collections.abc.Mapping)
        and all(isinstance(key, str) for key in state_dict)
    ):
        raise _no_state_dict(state_dict)
    return {
        # As `torch.nn.DataParallel` names its module.
        key.removeprefix("module."): np.asarray(
            value.detach().cpu() if hasattr(value, "detach") else value
        )
        for key, value in state_dict.items()
    }


def _no_state_dict(value):
    return ValueError(
        "Expected a dictionary from names to tensors, as it is or under the "
        "key 'net', or the path of a file with one. Received: "
        f"{type(value).__name__}"
    )


def _network(tensors):
    """Returns the name in the zoo, and the key of the last layer."""
    for name, head, unit in (
        ("quadratic_resnet14", "linear.weight", r"layer\d\.\d\.conv1\.conv3"),
        ("quadratic_vgg7", "classifier.weight", r"features\.\d+\.conv3"),
    ):
        if head in tensors and any(re.match(unit, key) for key in tensors):
            return name, head
    first = ", ".join(list(tensors)[:5]) or "none"
    raise ValueError(
        "Expected the tensors of QuadraLib's ResNet-14 (layer1.0.conv1.conv3."
        "weight, ..., linear.weight) or VGG-7 (features.0.conv3.weight, ..., "
        f"classifier.weight). Received: {first}"
        f"{', ...' if len(tensors) > 5 else ''}"
    )


def _modules(model, tensors):
    """Returns the layer of each module of PyTorch that has weights."""
    layers = {p: x for p, x in graphs.leaves(model).items() if x.weights}
    if "linear.weight" in tensors:
        return {_resnet_module(name): layer for name, layer in layers.items()}
    indices = {int(k.split(".")[1]) for k in tensors if k[:9] == "features."}
    modules = [f"features.{i}" for i in sorted(indices)] + ["classifier"]
    if len(modules) != len(layers):
        raise ValueError(
            f"The checkpoint does not fit {model.name!r}, which is unchanged: "
            f"expected {len(layers)} modules with weights, received "
            f"{len(modules)}: {', '.join(modules)}"
        )
    return dict(zip(modules, layers.values(), strict=True))


def _resnet_module(name):
    """Returns PyTorch's name of a layer of `keras_polynets.models.ResNet`."""
    fixed = {"stem_conv": "conv1", "stem_norm": "bn1", "head": "linear"}
    if name in fixed:
        return fixed[name]
    stage, block, part = re.fullmatch(
        r"stage(\d+)_block(\d+)_(\w+)", name
    ).groups()
    part = _SHORTCUT.get(part) or part.replace("norm", "bn")
    return f"layer{stage}.{int(block) - 1}.{part}"


def _variables(module, layer):
    """Yields the names in PyTorch of the variables of a layer, and these."""
    if isinstance(layer, QuadraticLayer):
        for role, number in _BRANCHES.items():
            yield from _variables(
                f"{module}.conv{number}", layer.branches()[role]
            )
            normalization = getattr(layer, f"{role}_normalization")
            yield from _variables(f"{module}.bn{number}", normalization)
    elif isinstance(layer, keras.layers.BatchNormalization):
        yield f"{module}.weight", layer.gamma
        yield f"{module}.bias", layer.beta
        yield f"{module}.running_mean", layer.moving_mean
        yield f"{module}.running_var", layer.moving_variance
    else:
        yield f"{module}.weight", layer.kernel
        if layer.bias is not None:
            yield f"{module}.bias", layer.bias


def _keras_layout(array):
    """Returns a kernel with its axes in the order of Keras."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T


def _torch_shape(shape):
    if len(shape) == 4:
        return (shape[3], shape[2], shape[0], shape[1])
    return shape[::-1]
