"""Every layer must have every ability."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers


def _quadratic_convolution(rank, **arguments):
    """Returns the case of a quadratic convolution."""
    arguments = {"filters": 3, "kernel_size": 3, "padding": "same", **arguments}
    return arguments, (4,) * rank + (2,), (None,) * rank + (2,)


# For each layer: arguments, the shape of an input, and one with free sizes.
# What follows a colon tells the cases of one layer apart.
CASES = {
    "BatchNormalization": ({"momentum": 0.9}, (4, 4, 3), (None, None, 3)),
    "CCP": ({"units": 3, "rank": 4, "order": 3}, (6,), (None, 6)),
    "NCP": ({"units": 3, "rank": 4, "order": 3}, (6,), (None, 6)),
    "NCPSkip": (
        {"units": 3, "rank": 4, "order": 3, "skip": "learned"},
        (6,),
        (None, 6),
    ),
    "CCPConv2D": (
        {"filters": 3, "kernel_size": 3, "order": 3, "pool_after": (2,)},
        (6, 8, 2),
        (None, None, 2),
    ),
    "ProdPoly": (
        {
            "polynomials": [
                layers.CCP(5, rank=4, order=2),
                layers.NCP(3, rank=4, order=2),
            ]
        },
        (6,),
        (None, 6),
    ),
    "QuadraticDense": ({"units": 3, "neuron": "full"}, (6,), (None, 6)),
    "QuadraticConv1D": _quadratic_convolution(1, neuron="goyal"),
    "QuadraticConv3D": _quadratic_convolution(3, neuron="compact"),
    "QuadraticConv2DTranspose": _quadratic_convolution(2, strides=2),
    "QuadraticConv2D: full": _quadratic_convolution(2, activation="relu"),
    "QuadraticConv2D: qres": _quadratic_convolution(2, neuron="qres"),
    "QuadraticConv2D: type2_4": _quadratic_convolution(2, neuron="type2_4"),
    "QuadraticConv2D: parabolic": _quadratic_convolution(
        2, neuron="parabolic", strides=2
    ),
    "QuadraticConv2D: quadralib": _quadratic_convolution(
        2, neuron="quadralib", branch_normalization=True, use_bias=False
    ),
    "GaussianFilter2D": ({"sigma": 0.8}, (6, 8, 2), (None, None, 2)),
    "MedianFilter2D": ({"kernel_size": 3}, (6, 8, 2), (None, None, 2)),
    "RandomPadCrop": ({"padding": 1, "seed": 0}, (6, 8, 2), (None, None, 2)),
    "RandomGain": ({"low": 0.5, "seed": 0}, (6,), (None,)),
    "RandomNoise": ({"factor": 0.5, "seed": 0}, (6,), (None,)),
    "RandomShift": ({"samples": 2, "seed": 0}, (6,), (None,)),
    "RandomSpeed": ({"factor": 0.5, "seed": 0}, (6,), (None,)),
    # The number of samples is fixed, before or behind these two.
    "Resample": ({"input_rate": 3, "output_rate": 4}, (10,), None),
    "LogMelSpectrogram": (
        {
            "num_mel_bins": 3,
            "num_samples": 64,
            "input_rate": 8000,
            "fft_length": 32,
            "sequence_stride": 16,
        },
        (30,),
        None,
    ),
}


def test_every_layer_is_covered():
    public = {
        name
        for name, value in vars(layers).items()
        if inspect.isclass(value) and issubclass(value, keras.layers.Layer)
    }
    # The base class of the quadratic layers is no layer by itself.
    covered = {name.partition(":")[0] for name in CASES} | {"QuadraticLayer"}
    assert public == covered


@pytest.fixture(params=CASES)
def case(request):
    arguments, shape, free_shape = CASES[request.param]
    name = request.param.partition(":")[0]
    return getattr(layers, name), arguments, shape, free_shape


def make(case, **kwargs):
    keras.utils.set_random_seed(0)
    cls, arguments, *_ = case
    if "polynomials" in arguments and kwargs:
        parts = [
            type(p).from_config(p.get_config() | kwargs)
            for p in arguments["polynomials"]
        ]
        arguments = {"polynomials": parts}
    elif "polynomials" in arguments:
        parts = [
            type(p).from_config(p.get_config())
            for p in arguments["polynomials"]
        ]
        arguments = {"polynomials": parts}
    return cls(**arguments, **kwargs)


def batch(case, size=4):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (size, *case[2])).astype("float32")


def model_of(layer, shape):
    return keras.Sequential([keras.Input(shape), layer])


def test_config_round_trip(case):
    layer = make(case)
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    x = batch(case)
    layer(x), copy(x)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(
        ops.convert_to_numpy(layer(x)), ops.convert_to_numpy(copy(x))
    )


def test_every_argument_is_in_the_config(case):
    layer = make(case)
    parents = [
        c for c in type(layer).__mro__ if c.__module__.startswith("keras_")
    ]
    names = {
        name
        for parent in parents
        for name in inspect.signature(parent.__init__).parameters
    }
    missing = names - {"self", "args", "kwargs"} - layer.get_config().keys()
    assert not missing


def test_registered_under_the_package(case):
    name = keras.saving.get_registered_name(case[0])
    assert name == f"keras_polynets>{case[0].__name__}"


def test_output_shape(case):
    layer = make(case)
    x = batch(case)
    shape = layer.compute_output_shape(x.shape)
    assert tuple(layer(x).shape) == tuple(shape)
    symbolic = make(case)(keras.KerasTensor((None, *x.shape[1:])))
    assert tuple(symbolic.shape) == (None, *shape[1:])


def test_free_sizes(case):
    if case[3] is None:
        pytest.skip("the number of samples is fixed")
    model = model_of(make(case), case[3])
    fixed = batch(case)
    x = fixed[:, None] if len(case[3]) > len(case[2]) else fixed
    wide = np.concatenate([x, x], axis=1)
    assert model.predict(x, verbose=0).shape[0] == len(x)
    assert model.predict(wide, verbose=0).shape[1] == (
        2 * model.predict(x, verbose=0).shape[1]
    )


@pytest.mark.parametrize(
    "policy", ["float32", "float64", "mixed_bfloat16", "mixed_float16"]
)
def test_dtype_policies(case, policy):
    layer = make(case, dtype=policy)
    x = ops.convert_to_tensor(batch(case), layer.compute_dtype)
    outputs = layer(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == layer.compute_dtype
    for weight in layer.trainable_variables:
        assert weight.dtype == layer.variable_dtype
    reference = make(case, dtype="float32")
    reference(batch(case))
    reference.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(outputs, "float32")),
        ops.convert_to_numpy(reference(batch(case))),
        rtol=5e-2 if "mixed" in policy else 1e-5,
        atol=1e-1 if "mixed" in policy else 1e-6,
    )


def test_one_step_of_training(case):
    layer = make(case)
    model = model_of(layer, case[2])
    model.compile("sgd", "mse")
    before = [ops.convert_to_numpy(w).copy() for w in layer.trainable_weights]
    x = batch(case)
    y = np.ones((len(x), *layer.compute_output_shape(x.shape)[1:]))
    history = model.fit(x, y, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for old, weight in zip(before, layer.trainable_weights, strict=True):
        assert not np.array_equal(old, ops.convert_to_numpy(weight)), (
            weight.path
        )


def test_keras_file(case, tmp_path):
    model = model_of(make(case), case[2])
    x = batch(case)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), loaded.predict(x, verbose=0)
    )
    assert type(loaded.layers[0]) is case[0]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tapes are TensorFlow's"
)
def test_gradients_equal_finite_differences(case):
    import tensorflow as tf

    layer = make(case, dtype="float64")
    x = tf.Variable(batch(case, size=2).astype("float64"))
    layer(x)
    variables = [x, *(w.value for w in layer.trainable_weights)]
    rng = np.random.default_rng(1)
    for variable in variables[1:]:
        variable.assign_add(rng.normal(size=variable.shape, scale=0.1))

    def loss():
        return tf.reduce_sum(tf.sin(layer(x)))

    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        direction = rng.normal(size=variable.shape)
        start, step = tf.identity(variable), 1e-6
        variable.assign(start + step * direction)
        above = loss()
        variable.assign(start - step * direction)
        below = loss()
        variable.assign(start)
        np.testing.assert_allclose(
            tf.reduce_sum(gradient * direction),
            (above - below) / (2 * step),
            rtol=1e-5,
            atol=1e-8,
        )


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports a SavedModel"
)
def test_export(case, tmp_path):
    import tensorflow as tf

    model = model_of(make(case), case[2])
    model.export(tmp_path / "saved", verbose=0)
    served = tf.saved_model.load(tmp_path / "saved")
    for size in (1, 5):
        x = batch(case, size)
        np.testing.assert_allclose(
            served.serve(x), model.predict(x, verbose=0), atol=1e-6
        )
