import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_polynets import callbacks
from keras_polynets import constraints
from keras_polynets import layers

STEPS = 25


def build(dtype=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.CCP(3, rank=4, order=3, dtype=dtype, name="ccp"),
        ]
    )
    model.layers[0].factors.kernel.assign(
        np.random.default_rng(1).normal(size=(12, 12), scale=0.4)
    )
    return model


def compile_model(model, optimizer=None, **kwargs):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, **kwargs)
    return model


def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(STEPS * 8, 12)).astype("float32")
    return x, rng.integers(0, 3, size=STEPS * 8)


def fit(model, *projections, epochs=2, **kwargs):
    x, y = data()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(
        x, y, epochs=epochs, callbacks=list(projections), **options, **kwargs
    )
    return model.get_weights()


def eager_oracle(every, bound, start_epoch=0, epochs=2, joint_bias=True):
    """Steps one by one, projecting by hand after each that is due."""
    model = compile_model(build(), jit_compile=False)
    x, y = data()
    for epoch in range(epochs):
        for step in range(STEPS):
            batch = slice(step * 8, step * 8 + 8)
            model.train_on_batch(x[batch], y[batch])
            number = epoch * STEPS + step + 1
            due = number % every == 0 or step == STEPS - 1
            if due and epoch >= start_epoch:
                for layer in constraints.linear_maps(model):
                    if layer.use_bias and joint_bias:
                        kernel, bias = constraints.project(
                            layer.kernel, bound, layer.bias
                        )
                        layer.bias.assign(bias)
                    else:
                        kernel = constraints.project(layer.kernel, bound)
                    layer.kernel.assign(kernel)
    return model.get_weights()


tensorflow_or_jax = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs single steps"
)


@tensorflow_or_jax
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("steps_per_execution", [1, 50])
def test_counts_optimizer_steps(jit_compile, steps_per_execution):
    model = compile_model(
        build(),
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
    )
    weights = fit(model, callbacks.PeriodicProjection(1.0, every=10))
    for ours, oracle in zip(weights, eager_oracle(10, 1.0), strict=True):
        np.testing.assert_allclose(ours, oracle, atol=1e-5)


def test_starts_at_the_given_epoch():
    projection = callbacks.PeriodicProjection(0.7, every=7, start_epoch=1)
    weights = fit(compile_model(build()), projection)
    for ours, oracle in zip(
        weights, eager_oracle(7, 0.7, start_epoch=1), strict=True
    ):
        np.testing.assert_allclose(ours, oracle, atol=1e-5)


def test_biases_stay_when_not_joined():
    projection = callbacks.PeriodicProjection(0.7, every=5, joint_bias=False)
    weights = fit(compile_model(build()), projection)
    for ours, oracle in zip(
        weights, eager_oracle(5, 0.7, joint_bias=False), strict=True
    ):
        np.testing.assert_allclose(ours, oracle, atol=1e-5)


def test_feasible_when_validated_and_at_the_end():
    norms = []

    class Watch(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            norms.append(largest_norm(self.model))

    model = compile_model(build())
    x, y = data()
    fit(
        model,
        callbacks.PeriodicProjection(1.0, every=7),
        Watch(),
        validation_data=(x, y),
    )
    assert max([*norms, largest_norm(model)]) <= 1.0 + 1e-5
    assert len(norms) == 2


def layer_norms(model):
    return {
        layer.name: constraints.row_norms(
            layer.kernel, layer.bias if layer.use_bias else None
        ).max()
        for layer in constraints.linear_maps(model)
    }


def largest_norm(model):
    return max(layer_norms(model).values())


class StepNorms(keras.callbacks.Callback):
    """The norms of the layers after every batch and before validations."""

    def __init__(self):
        super().__init__()
        self.trained, self.validated = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.trained.append(layer_norms(self.model))

    def on_test_begin(self, logs=None):
        self.validated.append(layer_norms(self.model))

    def within(self, name, bound):
        return np.array([norms[name] <= bound + 1e-5 for norms in self.trained])


@pytest.mark.parametrize("starts", [(0, 0), (0, 1), (1, 0)])
def test_two_projections_in_one_fit(starts):
    bounds = {"factors": 0.7, "output_map": 0.3}
    projections = [
        callbacks.PeriodicProjection({name: bound}, 1, start)
        for (name, bound), start in zip(bounds.items(), starts, strict=True)
    ]
    model, norms = compile_model(build()), StepNorms()
    fit(model, *projections, norms)
    for (name, bound), start in zip(bounds.items(), starts, strict=True):
        expected = np.arange(2 * STEPS) >= start * STEPS
        np.testing.assert_array_equal(norms.within(name, bound), expected)
    fit(model)
    after = layer_norms(model)
    assert all(after[name] > bound + 1e-3 for name, bound in bounds.items())


def test_an_epoch_that_is_stopped_is_projected():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

    model, norms = compile_model(build()), StepNorms()
    projection = callbacks.PeriodicProjection(0.5)
    fit(model, projection, Stop(), norms, validation_data=data())
    assert max(norms.validated[0].values()) <= 0.5 + 1e-5
    assert largest_norm(model) <= 0.5 + 1e-5


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_epochs_whose_data_run_out_are_projected():
    model, norms = compile_model(build()), StepNorms()
    projection = callbacks.PeriodicProjection(0.5, every=1000)
    options = {"steps_per_epoch": STEPS + 5, "validation_data": data()}
    fit(model, projection, norms, **options)
    assert len(norms.validated) == 2
    for validated in norms.validated:
        assert max(validated.values()) <= 0.5 + 1e-5
    # Not in the second epoch, where the first should have ended.
    assert not norms.within("factors", 0.5).any()


@pytest.mark.parametrize("frequency", [None, 10])
def test_averages_are_projected(frequency):
    optimizer = keras.optimizers.SGD(
        0.1, use_ema=True, ema_overwrite_frequency=frequency
    )
    model, norms = compile_model(build(), optimizer), StepNorms()
    swap = keras.callbacks.SwapEMAWeights()
    projection = callbacks.PeriodicProjection(0.5, every=5)
    fit(model, swap, projection, norms, validation_data=data())
    for validated in norms.validated:
        assert max(validated.values()) <= 0.5 + 1e-5
    assert 0.1 < largest_norm(model) <= 0.5 + 1e-5


def test_counts_the_updates_of_accumulated_gradients():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model, norms = compile_model(build(), optimizer), StepNorms()
    fit(model, callbacks.PeriodicProjection(0.5, every=3), norms, epochs=1)
    # Every sixth batch, and the one after it, which updates nothing.
    batches = np.flatnonzero(norms.within("factors", 0.5)) + 1
    assert batches.tolist() == [6, 7, 12, 13, 18, 19, 24, 25]


def test_frozen_layers_stay_as_they_are():
    model = build()
    factors = model.layers[0].factors
    factors.trainable = False
    before = factors.get_weights()[0]
    fit(compile_model(model), callbacks.PeriodicProjection(0.2), epochs=1)
    np.testing.assert_array_equal(factors.get_weights()[0], before)
    assert layer_norms(model)["output_map"] <= 0.2 + 1e-5
    named = callbacks.PeriodicProjection({"factors": 0.2})
    with pytest.raises(ValueError, match="'factors', which has trainable=Fal"):
        fit(model, named)


def test_unknown_number_of_steps_is_projected_before_validation():
    x, y = data()
    model = compile_model(build())

    def batches():
        for start in range(0, len(x), 8):
            yield x[start : start + 8], y[start : start + 8]

    model.fit(
        batches(),
        verbose=0,
        callbacks=[callbacks.PeriodicProjection(1.0, every=1000)],
    )
    assert largest_norm(model) <= 1.0 + 1e-5


def test_the_next_fit_does_not_project():
    model = compile_model(build())
    fit(model, callbacks.PeriodicProjection(0.5, every=1), epochs=1)
    assert largest_norm(model) <= 0.5 + 1e-6
    fit(model)
    assert largest_norm(model) > 0.5 + 1e-3


def test_an_interrupted_fit_leaves_no_hook():
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = compile_model(build())
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks.PeriodicProjection(0.5, every=1), Interrupt())
    fit(model)
    assert largest_norm(model) > 0.5 + 1e-3


def test_one_bound_an_order():
    bounds = {"factors": [1.0, 0.8, 0.5]}
    model = compile_model(build())
    fit(model, callbacks.PeriodicProjection(bounds, every=1), epochs=1)
    factors = model.layers[0].factors
    norms = constraints.row_norms(factors.kernel).reshape(3, 4).max(axis=1)
    np.testing.assert_allclose(norms, [1.0, 0.8, 0.5], rtol=1e-5)
    assert largest_norm(model) > 1.0  # the output map is left alone


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    model = compile_model(build(dtype=policy))
    fit(model, callbacks.PeriodicProjection(0.5, every=1), epochs=1)
    assert 0 < largest_norm(model) <= 0.5 + 1e-5


def test_bounds_must_be_above_zero():
    with pytest.raises(ValueError, match="must be a number above 0"):
        callbacks.PeriodicProjection(0.0)
    with pytest.raises(ValueError, match="must be a number above 0"):
        callbacks.PeriodicProjection({"factors": [1.0, -1.0, 1.0]})


def test_period_and_epoch_are_checked():
    with pytest.raises(ValueError, match="`every` must be an integer"):
        callbacks.PeriodicProjection(1.0, every=0)
    with pytest.raises(ValueError, match="`start_epoch` must be an integer"):
        callbacks.PeriodicProjection(1.0, start_epoch=-1)


def test_unknown_layer_gets_the_nearest():
    projection = callbacks.PeriodicProjection({"factor": 1.0})
    with pytest.raises(ValueError, match="'factor'. Did you mean .*'factors'"):
        fit(compile_model(build()), projection)


def test_wrong_number_of_bounds():
    projection = callbacks.PeriodicProjection({"factors": [1.0] * 5})
    with pytest.raises(ValueError, match="5 bounds for a kernel of 12 units"):
        fit(compile_model(build()), projection)


def test_other_kernels_are_refused_by_name():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.DepthwiseConv2D(3, name="depthwise"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    compile_model(model)
    with pytest.raises(ValueError, match="'depthwise' .DepthwiseConv2D."):
        model.fit(
            np.zeros((8, 4, 4, 1)),
            np.zeros(8),
            verbose=0,
            callbacks=[callbacks.PeriodicProjection(1.0)],
        )


def test_non_finite_weights_are_named():
    model = compile_model(build())
    model.layers[0].output_map.kernel.assign(np.full((4, 3), np.nan))
    with pytest.raises(ValueError, match="output_map/kernel.* NaN or infinite"):
        fit(model, callbacks.PeriodicProjection(1.0), epochs=1)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="MirroredStrategy"
)
def test_half_precision_on_two_replicas():
    """Loss scaling applies inside a conditional across replicas."""
    program = """
        import keras, numpy as np
        from keras_polynets import callbacks, constraints, distribute, zoo

        with distribute.strategy("mirrored", devices=2).scope():
            model = zoo.load("test_pn", weights=None, dtype="mixed_float16")
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=w.shape) for w in model.weights])
        x, y = rng.uniform(-1, 1, (64, 4, 4, 1)), rng.integers(0, 3, 64)
        projection = callbacks.PeriodicProjection(0.5, every=3)
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[projection])
        for layer in constraints.linear_maps(model):
            bias = layer.bias if layer.use_bias else None
            norms = constraints.row_norms(layer.kernel, bias)
            assert 0.49 < norms.max() < 0.5 + 1e-5, norms
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="MirroredStrategy"
)
def test_many_kernels_on_two_replicas():
    """Two devices project several kernels at the same time."""
    program = """
        import keras, numpy as np
        from keras_polynets import callbacks, constraints, distribute

        def build():
            layers = [keras.layers.Dense(4) for _ in range(6)]
            model = keras.Sequential([keras.Input((4,)), *layers])
            # Too small a rate to move a weight.
            model.compile(keras.optimizers.SGD(1e-9), "mse")
            return model

        with distribute.strategy("mirrored", devices=2).scope():
            model = build()
        rng = np.random.default_rng(0)
        model.set_weights([rng.normal(size=w.shape) for w in model.weights])
        expected = [
            array
            for kernel, bias in zip(*[iter(model.get_weights())] * 2)
            for array in constraints.project(kernel, 0.5, bias)
        ]
        projection = callbacks.PeriodicProjection(0.5, every=1)
        x, y = rng.uniform(size=(8, 4)), np.zeros((8, 4))
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[projection])
        for weight, array in zip(model.get_weights(), expected, strict=True):
            np.testing.assert_allclose(weight, array, atol=1e-6)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
