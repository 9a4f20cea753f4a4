"""Many polynomial networks as one model, against each of them alone."""

import keras
import numpy as np
import pytest

from keras_polynets import callbacks
from keras_polynets import models
from keras_polynets import zoo

SHAPE = {"input_shape": (5, 4, 1), "classes": 3, "order": 3, "rank": 2}
BOUNDS = [
    {"factors": [0.3, 1.0, 0.5], "output_map": 0.2},
    {"factors": 0.2, "output_map": 5.0},
    {"factors": [9.0, 9.0, 9.0], "output_map": 9.0},
]


@pytest.fixture
def examples(rng):
    images = rng.uniform(-1, 1, (70, 5, 4, 1)).astype("float32")
    return images, rng.integers(0, 3, 70)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def members(count, **kwargs):
    keras.utils.set_random_seed(3)
    nets = [models.PolynomialNet(**SHAPE, **kwargs) for _ in range(count)]
    for net in nets:
        # Biases that are not zero.
        net.set_weights([w + 0.01 for w in net.get_weights()])
    return nets


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"use_factor_bias": True}, {"dtype": "mixed_bfloat16"}],
    ids=str,
)
def test_the_logits_of_every_member(examples, kwargs):
    nets = members(3, **kwargs)
    stack = models.PolynomialNetStack(3, **SHAPE, **kwargs)
    assert stack.count_params() == 3 * nets[0].count_params()
    stack.set_members([net.get_weights() for net in nets])
    images, _ = examples
    outputs = stack.predict(images, verbose=0)
    assert outputs.shape == (70, 3, 3) and outputs.dtype == "float32"
    expected = [net.predict(images, verbose=0) for net in nets]
    atol = 1e-2 if "dtype" in kwargs else 1e-6
    np.testing.assert_allclose(outputs, np.stack(expected, 1), atol=atol)
    for net, weights in zip(nets, stack.get_members(), strict=True):
        for ours, theirs in zip(weights, net.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name, norm", [("sgd", "linf"), ("adam", "spectral")])
def test_training_is_that_of_each_member_alone(examples, name, norm):
    nets = members(3)
    stack = models.PolynomialNetStack(3, **SHAPE)
    stack.set_members([net.get_weights() for net in nets])

    def train(model, bounds):
        table = {"name": name, "learning_rate": 0.02}
        zoo.compile_model(model, table, steps_per_execution=1)
        projection = callbacks.PeriodicProjection(bounds, every=4, norm=norm)
        history = model.fit(
            *examples,
            batch_size=20,
            epochs=5,
            shuffle=False,
            callbacks=[projection],
            verbose=0,
        )
        return history.history["loss"]

    losses = train(stack, stack.projection_bounds(BOUNDS))
    alone = []
    for net, bounds in zip(nets, BOUNDS, strict=True):
        factors = np.broadcast_to(bounds["factors"], 3)
        alone.append(train(net, bounds | {"factors": factors}))
    np.testing.assert_allclose(losses, np.sum(alone, axis=0), rtol=1e-5)
    for net, weights in zip(nets, stack.get_members(), strict=True):
        for ours, theirs in zip(weights, net.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-6)
    # The bounds matter: the first two members are on their balls.
    kernel, output, bias = stack.get_members()[0]
    if norm == "linf":
        norms = np.abs(kernel).sum(axis=0).reshape(3, 2).max(axis=1)
        np.testing.assert_allclose(norms, BOUNDS[0]["factors"], rtol=1e-5)
        norms = np.abs(output).sum(axis=0) + np.abs(bias)
        np.testing.assert_allclose(norms.max(), 0.2, rtol=1e-5)


def test_members_start_from_weights_of_their_own():
    stack = models.PolynomialNetStack(40, **SHAPE)
    arrays = zip(*stack.get_members(), strict=True)
    kernels, outputs, biases = map(np.stack, arrays)
    assert len(np.unique(kernels)) > 0.99 * kernels.size
    assert np.abs(kernels).max() <= 1 / np.sqrt(20)
    assert 0.9 / np.sqrt(2) < np.abs(outputs).max() <= 1 / np.sqrt(2)
    assert not biases.any()


def test_a_stack_is_saved(tmp_path, examples):
    stack = models.PolynomialNetStack(2, **SHAPE, class_names=("a", "b", "c"))
    zoo.compile_model(stack, {"name": "sgd"})
    stack.save(tmp_path / "stack.keras")
    copy = keras.saving.load_model(tmp_path / "stack.keras")
    assert copy.get_config() == stack.get_config()
    assert isinstance(copy.loss, type(stack.loss))
    images, _ = examples
    np.testing.assert_array_equal(
        copy.predict(images, verbose=0), stack.predict(images, verbose=0)
    )
    maps = stack.get_layer("output_map")
    assert type(maps).from_config(maps.get_config()).members == 2


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="`members` must be an integer of at"):
        models.PolynomialNetStack(0)
    stack = models.PolynomialNetStack(2, **SHAPE)
    with pytest.raises(ValueError, match="each of the 2 members. Received: 1"):
        stack.set_members([members(1)[0].get_weights()])
    with pytest.raises(ValueError, match="each of the 2 members. Received: 3"):
        stack.projection_bounds(BOUNDS)
    wrong = {"factors": [1.0, 2.0], "output_map": 1.0}
    with pytest.raises(ValueError, match="Received 2 bounds for a kernel of 3"):
        stack.projection_bounds([wrong, wrong])
