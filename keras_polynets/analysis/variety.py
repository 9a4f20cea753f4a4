"""The dimension of the functions that a network of polynomials can be."""

import math

import keras
import numpy as np

from keras_polynets._errors import check_positive_integer
from keras_polynets.analysis import graphs
from keras_polynets.analysis.jacobian import weight_jacobian
from keras_polynets.analysis.precision import check_float64
from keras_polynets.analysis.work import trainable_parameters


def variety_dimension(model, points=None, seed=0, tolerance=1e-9):
    """Returns the dimension of the set of functions that a network can be.

    For a network without activation functions other than polynomials, the
    functions that it computes as its weights vary are, but for a set of
    smaller dimension, an algebraic variety. Its dimension is the rank of the
    Jacobian of the outputs at enough points with respect to the trainable
    weights, at weights in general position. The rank is computed by singular
    values in float64, at random weights and random points, both standard
    normal, the kernels scaled by the root of their fan-in. The model's own
    weights play no part: the start of quadratic neurons, for example, is not
    in general position. Columns of zeros apart, each column is scaled to unit
    norm first. For other networks this is the dimension around those weights.

    Args:
        model: A functional or sequential model that is built, with up to some
            thousand weights. It is not changed. Layers act as in inference.
        points: Positive integer, the number of points; by default so many that
            there are 10 equations more than weights.
        seed: Integer, that of weights and points.
        tolerance: Float, singular values below this share of the largest one
            count as zero.

    Returns:
        Integer, the dimension.

    Raises:
        ValueError: If the model is subclassed or not built, has an input of
            open size or no weights, if `points` is not a positive integer, or
            where the backend has no float64 (PyTorch, and JAX without
            `jax_enable_x64`).

    Example:

    >>> inputs = keras.Input((2,))
    >>> outputs = keras_polynets.layers.QuadraticDense(2)(inputs)
    >>> keras_polynets.analysis.variety_dimension(keras.Model(inputs, outputs))
    12

    Reference:
        - Fan et al., "Expressivity and Trainability of Quadratic Networks",
          IEEE TNNLS 2023, Section III-B, Lemma 2 and Proposition 2.
        - Kileel et al., "On the Expressive Power of Deep Polynomial Neural
          Networks", NeurIPS 2019, Lemma 14.
    """
    graphs.check_graph(model)
    check_float64()
    if points is not None:
        check_positive_integer("points", points)
    shape, outputs = model.input_shape, model.output_shape
    if not isinstance(shape, tuple) or None in (*shape[1:], *outputs[1:]):
        raise ValueError(
            "Expected a model with one input and one output of known sizes. "
            f"Received: {model.name!r} with the input shape {shape} and the "
            f"output shape {outputs}"
        )
    count = trainable_parameters(model)
    if not count:
        raise ValueError(f"Model {model.name!r} has no trainable weights.")
    if points is None:
        points = -(-(count + 10) // math.prod(outputs[1:]))
    rng = np.random.default_rng(seed)
    twin = _in_float64(model)
    for variable in twin.trainable_variables:
        fan_in = max(1, math.prod(variable.shape[:-1]))
        values = rng.normal(size=variable.shape)
        kernel = len(variable.shape) > 1
        variable.assign(values / math.sqrt(fan_in) if kernel else values)
    jacobian = weight_jacobian(twin, rng.normal(size=(points, *shape[1:])))
    norms = np.linalg.norm(jacobian, axis=0)
    jacobian = jacobian[:, norms > 0] / norms[norms > 0]
    values = np.linalg.svd(jacobian, compute_uv=False)
    return int(np.sum(values > tolerance * values.max(initial=0)))


def _in_float64(model):
    """Returns a model with the same layers in float64 and fresh weights."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    try:
        return keras.saving.deserialize_keras_object(_float64_config(config))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Model {model.name!r} cannot be built again in float64: {error}"
        ) from error


def _float64_config(config):
    if isinstance(config, list | tuple):
        return type(config)(map(_float64_config, config))
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {"name": "float64"}}
    return {
        key: "float64"
        if key == "dtype" and str(value).startswith(("float", "bfloat"))
        else _float64_config(value)
        for key, value in config.items()
    }
