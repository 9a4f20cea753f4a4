"""What is checked of a model that `to_prodpoly` has converted."""

import keras
import numpy as np

from keras_polynets import convert
from keras_polynets.analysis import graphs


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


def randomize(model, seed=0):
    """Draws all variables, those of batch normalisation among them."""
    rng = np.random.default_rng(seed)
    for w in model.weights:
        shape = tuple(w.shape)
        if w.name in ("gamma", "moving_variance", "variance"):
            w.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) > 1:
            fan_in = np.prod(shape[:-1])
            w.assign(rng.normal(0, np.sqrt(2 / fan_in), shape))
        elif w.name != "count":
            w.assign(rng.normal(0, 0.1, shape))


def inputs_of(model, size=3):
    shape = [n or 8 for n in model.input_shape[1:]]
    return np.random.default_rng(1).normal(size=(size, *shape))


def new_layers(old, new):
    names = set(graphs.leaves(old))
    return {p: x for p, x in graphs.leaves(new).items() if p not in names}


def last_kernels(old, new):
    """Returns the variables at zero that hold the new terms back."""
    return [
        w
        for path, layer in new_layers(old, new).items()
        for w in layer.weights
        if not path.endswith("operand1")
    ]


def convert_and_check(model, **kwargs):
    """Converts a model whose variables are random; it computes the same."""
    randomize(model)
    weights = [value(w) for w in model.weights]
    new = convert.to_prodpoly(model, **kwargs)
    x = inputs_of(model)
    expected = value(model(x))
    assert np.std(expected) > 0
    np.testing.assert_allclose(
        value(new(x)), expected, atol=1e-5 * np.abs(expected).max()
    )
    for w, before in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(value(w), before)
    kept = [call.path for call in graphs.calls(model)]
    paths = {call.path for call in graphs.calls(new)}
    assert set(kept) <= paths
    assert [x.name for x in new.inputs] == [x.name for x in model.inputs]
    last = [
        [x._keras_history.operation.name for x in m.outputs]
        for m in (model, new)
    ]
    assert last[0] == last[1]
    return new


def check_all_move(model, new, classes, size=4):
    """One step on random labels moves every new second-order term."""
    kernels = last_kernels(model, new)
    assert len(kernels) == len(new.conversion_report.replaced) > 0
    assert not any(np.any(value(w)) for w in kernels)
    new.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    labels = np.random.default_rng(2).integers(0, classes, size)
    new.train_on_batch(inputs_of(model, size), labels)
    assert [w.path for w in kernels if not np.any(value(w))] == []
