"""ReLinear in training: the conventional baseline, stability, saving."""

import keras
import numpy as np
import pytest

from keras_polynets import callbacks
from keras_polynets import data
from keras_polynets import models
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.layers import QuadraticDense
from keras_polynets.layers import square
from keras_polynets.optimizers import CoupledWeightDecay
from keras_polynets.optimizers import LossScaleOptimizer
from keras_polynets.optimizers import ReLinear

rng = np.random.default_rng(0)
IMAGES = rng.normal(size=(16, 4, 4, 2)).astype("float32")
LABELS = rng.integers(0, 3, 16)


def image_model(quadratic):
    keras.utils.set_random_seed(0)
    conv = QuadraticConv2D if quadratic else keras.layers.Conv2D
    dense = QuadraticDense if quadratic else keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            conv(3, 3, activation="relu", name="conv"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            dense(3, name="head"),
        ]
    )


def linear_weights(model):
    """Returns the weights without gates and powers."""
    return [
        np.array(keras.ops.convert_to_numpy(v))
        for v in model.weights
        if getattr(v, "quadratic_role", "linear") == "linear"
    ]


def copy_linear_weights(source, target):
    kept = [
        v
        for v in target.weights
        if getattr(v, "quadratic_role", "linear") == "linear"
    ]
    for variable, other in zip(kept, source.weights, strict=True):
        variable.assign(keras.ops.convert_to_numpy(other))


def fit(model, optimizer, epochs=3, **kwargs):
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **kwargs,
    )
    model.fit(
        IMAGES, LABELS, batch_size=8, epochs=epochs, shuffle=False, verbose=0
    )
    return model


INNER = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.5),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "coupled": lambda: CoupledWeightDecay(
        keras.optimizers.SGD(0.05, momentum=0.9), 0.01
    ),
}


@pytest.mark.parametrize("name", INNER)
def test_factors_of_0_give_the_trajectory_of_the_baseline(name):
    baseline, quadratic = image_model(False), image_model(True)
    copy_linear_weights(baseline, quadratic)
    start = linear_weights(baseline)
    fit(baseline, INNER[name]())
    fit(quadratic, ReLinear(INNER[name](), 0.0, 0.0))
    ours, theirs = linear_weights(quadratic), linear_weights(baseline)
    assert len(ours) == len(theirs) == 8
    for a, b, before in zip(ours, theirs, start, strict=True):
        # Bit for bit; XLA fuses the two networks differently.
        xla = keras.backend.backend() == "jax"
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * xla)
        assert np.any(b != before)
    head = quadratic.get_layer("head")
    for branch, bias in ((head.gate, 1.0), (head.power, 0.0)):
        assert np.all(keras.ops.convert_to_numpy(branch.kernel) == 0.0)
        assert np.all(keras.ops.convert_to_numpy(branch.bias) == bias)


def test_the_baseline_is_left_as_soon_as_a_factor_is_not_0():
    frozen = fit(image_model(True), ReLinear(INNER["adam"](), 0.0, 0.0))
    trained = fit(image_model(True), ReLinear(INNER["adam"](), 1e-2, 0.0))
    gate = trained.get_layer("head").gate
    power = trained.get_layer("head").power
    assert np.any(keras.ops.convert_to_numpy(gate.kernel) != 0)
    assert np.any(keras.ops.convert_to_numpy(gate.bias) != 1)
    assert np.all(keras.ops.convert_to_numpy(power.kernel) == 0)
    first, second = linear_weights(frozen)[0], linear_weights(trained)[0]
    assert np.any(first != second)


def fit_curve(initializer, optimizer, steps=300):
    """Trains 1-10-10-10-10-1 on a curve; returns the loss."""
    keras.utils.set_random_seed(1)
    kwargs = {}
    if initializer:
        for name in ("kernel", "gate_kernel", "gate_bias", "power_kernel"):
            seed = len(kwargs)
            kwargs[f"{name}_initializer"] = keras.initializers.RandomNormal(
                stddev=initializer, seed=seed
            )
    hidden = [QuadraticDense(10, activation="relu", **kwargs) for _ in range(4)]
    model = keras.Sequential(
        [keras.Input((1,)), *hidden, QuadraticDense(1, **kwargs)]
    )
    x = np.linspace(-1, 1, 33, dtype="float32")[:, None]
    y = 1 / (1 + 25 * x**2)
    model.compile(optimizer, "mse")
    model.fit(
        np.tile(x, (steps, 1)),
        np.tile(y, (steps, 1)),
        batch_size=33,
        shuffle=False,
        verbose=0,
    )
    return model.evaluate(x, y, verbose=0)


def test_untamed_initialization_diverges_where_relinear_does_not():
    # Figure 1 of the paper: 1-10-10-10-10-1 with Gaussian weights everywhere.
    untamed = fit_curve(1.0, keras.optimizers.SGD(0.1), steps=5)
    assert not untamed < 1e6
    tamed = fit_curve(None, ReLinear(keras.optimizers.SGD(0.1), 0.1, 0.1))
    # The best constant leaves the variance of the targets, 0.079.
    assert tamed < 0.04


def train_vgg(optimizer, rates, **kwargs):
    """Trains a narrow VGG16 from the same start with each learning rate.

    Yields the last accuracy in training and the largest logit afterwards.
    """
    keras.utils.set_random_seed(0)
    layout = [4, 4, "M", 8, 8, "M", *[16] * 9]
    model = models.VGG((14, 14, 1), layout=layout, **kwargs)
    model.compile(optimizer, model.make_loss(), metrics=["accuracy"])
    sample, start = data.load("fashion_mnist_sample"), model.get_weights()
    x = model.preprocessor(sample.x_train[:640, ::2, ::2])
    for rate in rates:
        model.set_weights(start)
        for variable in optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        optimizer.learning_rate = rate
        y = sample.y_train[:640]
        history = model.fit(x, y, epochs=3, verbose=0).history
        logits = keras.ops.convert_to_numpy(model(x))
        yield history["accuracy"][-1], np.abs(logits).max()


def test_squares_as_activation_diverge_where_quadratic_neurons_learn():
    # Table III of the paper. Normalised by their batch the squares stay finite,
    # at chance; by the moving statistics of inference they do not.
    sgd = keras.optimizers.SGD(momentum=0.9)
    rates = 0.05, 0.03, 0.01
    for accuracy, largest in train_vgg(sgd, rates, activation=square):
        assert accuracy < 0.2 and not largest < 1e6
    relinear = ReLinear(keras.optimizers.SGD(momentum=0.9), 1e-4, 1e-4)
    ((accuracy, largest),) = train_vgg(relinear, rates[:1], neuron="full")
    assert accuracy > 0.5 and largest < 100


def test_saved_model_goes_on_as_if_nothing_happened(tmp_path):
    inside = ReLinear(
        CoupledWeightDecay(keras.optimizers.SGD(0.05, momentum=0.9), 0.01),
        0.1,
        0.01,
        1e-3,
        1e-3,
        shrinkage="l2",
    )
    model = fit(image_model(True), LossScaleOptimizer(inside))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert type(again.optimizer.inner_optimizer) is ReLinear
    assert again.optimizer.inner_optimizer.get_config() == inside.get_config()
    for m in (model, again):
        m.fit(IMAGES, LABELS, batch_size=8, shuffle=False, verbose=0)
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(ours),
            keras.ops.convert_to_numpy(theirs),
            rtol=1e-6,
            atol=1e-7,
        )


def test_float16_with_loss_scaling_restrains_as_float32_does():
    if keras.backend.backend() == "torch":
        pytest.skip("float16 convolutions are slow on CPUs")

    def optimizer():
        return ReLinear(keras.optimizers.SGD(0.05, momentum=0.9), 0.1, 0.01)

    exact = fit(image_model(True), optimizer(), epochs=1)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        scaled = LossScaleOptimizer(optimizer(), initial_scale=256.0)
        half = fit(image_model(True), scaled, epochs=1)
    finally:
        keras.config.set_dtype_policy("float32")
    assert int(half.optimizer.iterations) == 2
    for role in ("gate", "power"):
        ours, expected = (
            keras.ops.convert_to_numpy(getattr(m.get_layer("head"), role).bias)
            for m in (half, exact)
        )
        start = 1.0 if role == "gate" else 0.0
        moved = np.abs(expected - start).max()
        assert moved > 0
        np.testing.assert_allclose(ours, expected, atol=0.05 * moved)


def test_projection_finds_the_optimizer_inside():
    model = image_model(True)
    optimizer = ReLinear(keras.optimizers.SGD(0.5), 0.1, 0.1)
    model.compile(
        optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    path = f"{model.name}/head/linear"
    model.fit(
        IMAGES,
        LABELS,
        batch_size=8,
        epochs=2,
        verbose=0,
        callbacks=[callbacks.PeriodicProjection({path: 0.1}, every=1)],
    )
    kernel = keras.ops.convert_to_numpy(model.get_layer("head").linear.kernel)
    assert np.abs(kernel).sum(axis=0).max() <= 0.1 * (1 + 1e-5)
    assert np.abs(kernel).sum(axis=0).max() > 0.05


REPLICAS = """
def train(make):
    model = keras.Sequential([keras.Input((3,)), layers.QuadraticDense(1)])
    rng = np.random.default_rng(0)
    for v in model.weights:
        v.assign(rng.normal(size=v.shape))
    model.compile(make(), "mse")
    x = np.arange(24, dtype="float32").reshape(8, 3) / 24
    model.fit(x, x[:, :1], batch_size=8, epochs=4, verbose=0)
    return np.concatenate([w.numpy().ravel() for w in model.weights])

KINDS = {
    "coupled": lambda: optimizers.ReLinear(optimizers.CoupledWeightDecay(
        keras.optimizers.SGD(0.1, momentum=0.9), 0.05), 0.3, 0.0, 0.0, 1e-2),
    "adamw": lambda: optimizers.ReLinear(keras.optimizers.AdamW(0.1,
        weight_decay=0.1, use_ema=True), 0.3, 0.1, 1e-2, 1e-3, proximal=False),
    "scaled": lambda: optimizers.LossScaleOptimizer(optimizers.ReLinear(
        keras.optimizers.SGD(0.1), 0.0, 0.1, 0.0, 1e-3, shrinkage="l2")),
}
for name, make in KINDS.items():
    alone = train(make)
    with strategy.scope():
        both = train(make)
    print("RESULT_" + name, np.abs(both - alone).max(), np.abs(alone).max())
"""


def test_two_replicas_train_as_one(run_on_replicas):
    lines = run_on_replicas(REPLICAS)
    assert len(lines) == 3
    for name, (difference, largest) in lines.items():
        assert float(difference) < 1e-5, name
        assert float(largest) < 10, name
