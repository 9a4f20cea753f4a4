"""How layers are called, cast and put together: nothing of it is overlooked."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import certified_accuracy
from keras_polynets.robustness import lipschitz_bound
from tests.unit.robustness.bound_examples import randomize

L, ops = keras.layers, keras.ops


def sequential(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def of_input(shape, function):
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs))


def check_inside(model, x):
    """What the model computes lies within the bounds of a ball of a point."""
    outputs = model.predict(x, verbose=0).astype("float64")
    for method in ("interval", "affine"):
        lower, upper = Certifier(model).bounds(x, 0.0, method)
        assert (lower <= outputs).all() and (outputs <= upper).all()


def never_certified(model, x, label):
    """No method certifies a class that the model does not predict."""
    certifier = Certifier(model)
    labels = np.full(len(x), label)
    return all(
        (certifier.margins(x, labels, 0.0, method) <= 0).all()
        for method in certifier.methods
    )


MOVES = {
    "permuted": (L.Reshape((2, 3)), L.Permute((2, 1)), L.Flatten()),
    "channels first": (
        L.Reshape((2, 3)),
        L.Flatten(data_format="channels_first"),
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_logits_that_are_moved_behind_their_matrix(name):
    dense = L.Dense(6)
    model = sequential((2,), dense, *MOVES[name])
    dense.set_weights([np.eye(2, 6), np.array([0.5, 0, 0, -9, -9, -9])])
    order = model.predict(np.array([[1.0, 0.0]]), verbose=0)[0]
    label = int(order.argmax())
    rng = np.random.default_rng(0)
    x = np.zeros((1, 2), "float32")
    for epsilon in (0.1, 0.4, 0.9, 1.5):
        points = rng.choice([-epsilon, 0.0, epsilon], size=(60, 2))
        held = model.predict(points, verbose=0).argmax(axis=1) == label
        for method in ("global", "auto"):
            share = certified_accuracy(
                model, (x, [label]), epsilon, method, verbose=0
            )
            assert share == 0 or held.all()


def test_batches_of_images_of_other_sizes():
    model = of_input(
        (None, None, 1), lambda x: L.Dense(2)(ops.sum(x[:, 0], axis=1))
    )
    randomize(model, np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(1, 4, 9, 1)).astype("float32")
    label = model.predict(x, verbose=0).argmax(axis=1)
    fresh = Certifier(model).margins(x, label, 0.3)
    certifier = Certifier(model)
    certifier.margins(np.zeros((1, 6, 6, 1), "float32"), [0], 0.3)
    np.testing.assert_array_equal(certifier.margins(x, label, 0.3), fresh)


def test_models_inside_take_their_own_dtype():
    def nested(dtype, shape=(2,)):
        inner = keras.Input(shape, dtype=dtype)
        return of_input((2,), keras.Model(inner, L.Dense(2)(inner)))

    model = nested("float16")
    model.set_weights([np.eye(2), np.zeros(2)])
    # Both are one half there.
    x = np.array([[0.5, 0.5 + 1e-4]], "float32")
    assert never_certified(model, x, 1)
    for bound in (lipschitz_bound, lambda m: Certifier(m).bounds(x, 0.1)):
        with pytest.raises(ValueError, match="inputs of dtype uint8"):
            bound(nested("uint8"))
    inner = sequential((4,), L.Dense(3))
    outer = of_input((4, 1), inner)
    with pytest.raises(NotImplementedError, match=r"of \[2\] axes and takes"):
        Certifier(outer).bounds(np.zeros((1, 4, 1), "float32"), 0.1)


def test_the_last_cast_of_a_layer():
    quadratic = layers.QuadraticDense(2, neuron="goyal", dtype="mixed_float16")
    model = sequential((2,), quadratic)
    model.set_weights(
        [
            np.zeros(w.shape) if w.ndim == 2 else np.array([1.0, 1.0003])
            for w in model.get_weights()
        ]
    )
    assert never_certified(model, np.zeros((1, 2), "float32"), 1)


def test_casts_of_layers_around_others():
    dense = L.Dense(2, dtype="float32")
    polynomial = layers.CCP(2, 2, 1, dtype="float32")
    x = np.array([[0.5, 0.5 + 1e-4]], "float32")
    for part, inner in (
        (layers.ProdPoly([polynomial], dtype="float16"), polynomial),
        (L.SpectralNormalization(dense, dtype="float16"), dense),
    ):
        model = sequential((2,), part)
        inner.set_weights(
            [
                np.eye(2) if w.ndim == 2 else np.zeros(2)
                for w in inner.get_weights()
            ]
        )
        assert never_certified(model, x, 1)


def test_layers_that_are_not_cast_compute_in_the_dtype_of_their_input():
    x = np.random.default_rng(0).uniform(0.9, 1.1, (20, 4, 4, 1))
    half = L.Activation("linear", dtype="float16")
    pooling = L.AveragePooling2D(2, autocast=False)
    model = of_input((4, 4, 1), lambda x: L.Flatten()(pooling(half(x))))
    check_inside(model, x.astype("float32"))


@pytest.mark.parametrize(
    ("shape", "function"),
    [
        ((3, 3), lambda x: x + np.array([[0.0], [1.0], [2.0]], "float32")),
        (
            (3, 3),
            lambda x: L.Add()(
                [x, L.GlobalAveragePooling1D("channels_first", True)(x)]
            ),
        ),
        (
            (2, 4, 4, 4),
            L.Conv3D(4, 3, padding="same", data_format="channels_first"),
        ),
        (
            (3, 8, 8),
            L.Conv2DTranspose(
                8, 3, padding="same", data_format="channels_first"
            ),
        ),
    ],
)
def test_sums_along_another_axis_than_they_say(shape, function):
    model = of_input(shape, lambda x: L.Flatten()(function(x)))
    x = np.ones((1, *shape), "float32")
    if keras.backend.backend() != "tensorflow":
        return check_inside(model, x)
    with pytest.raises(NotImplementedError, match="along another axis"):
        Certifier(model).bounds(x, 0.1)


def test_biases_of_other_sizes_stay():
    convolution = L.Conv2D(3, 3, padding="same", data_format="channels_first")
    model = sequential((2, 5, 5), convolution, L.Flatten())
    randomize(model, np.random.default_rng(0))
    check_inside(model, np.ones((1, 2, 5, 5), "float32"))


def test_lora_is_refused():
    dense = L.Dense(3)
    model = sequential((4,), dense)
    dense.enable_lora(2)
    x = np.zeros((1, 4), "float32")
    for bound in (lipschitz_bound, lambda m: Certifier(m).bounds(x, 0.1)):
        with pytest.raises(ValueError, match="`save_weights` of this model"):
            bound(model)


MASK = np.array([[True, False, False]])


@pytest.mark.parametrize(
    ("shape", "function", "words"),
    [
        ((3, 2), lambda x: L.GlobalAveragePooling1D()(x, mask=MASK), "mask"),
        ((3,), lambda x: L.BatchNormalization()(x, training=True), "training"),
        ((3,), lambda x: L.Dropout(0.5)(x, training=True), "training"),
        ((3,), lambda x: L.Dense(2)(inputs=x), "a named input"),
    ],
)
def test_arguments_of_a_call(shape, function, words):
    model, x = of_input(shape, function), np.ones((2, *shape), "float32")
    words = f"is called with {words}"
    with pytest.raises(NotImplementedError, match=words):
        Certifier(model).bounds(x, 0.1)
    with pytest.raises(NotImplementedError, match=words):
        lipschitz_bound(model)


def test_noise_that_is_on_by_default():
    model = of_input(
        (4, 4, 1), lambda x: L.Flatten()(L.RandomFlip()(x, training=False))
    )
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype("float32")
    check_inside(model, x)
    check_inside(sequential((4, 4, 1), L.RandomFlip(), L.Flatten()), x)


class OwnSequential(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 100 * super().call(inputs)


class OwnConvolution(L.Conv2D):
    def convolution_op(self, inputs, kernel):
        return 100 * super().convolution_op(inputs, kernel)


class OwnDense(L.Dense):
    def call(self, inputs):
        return super().call(inputs) ** 3


class OwnQuadratic(layers.QuadraticDense):
    _map_class = OwnDense


class OwnSum(L.Add):
    def _merge_function(self, inputs):
        return ops.maximum(*inputs)


class OwnActivation(L.Activation):
    def __call__(self, inputs):
        return 3 * super().__call__(inputs)


@pytest.mark.parametrize(
    "model",
    [
        lambda: OwnSequential([keras.Input((3,)), L.Dense(2)]),
        lambda: sequential((3, 3, 1), OwnConvolution(1, 2)),
        lambda: sequential((3,), OwnQuadratic(2)),
    ],
)
def test_methods_that_a_class_overrides(model):
    model = model()
    with pytest.raises((NotImplementedError, ValueError)):
        lipschitz_bound(model)
    with pytest.raises((NotImplementedError, ValueError)):
        x = np.zeros((1, *model.input_shape[1:]), "float32")
        Certifier(model).bounds(x, 0.1)


@pytest.mark.parametrize("layer", [OwnActivation("linear"), OwnSum()])
def test_methods_of_operations_that_a_class_overrides(layer):
    arguments = (
        (lambda x: [x, 2 * x]) if layer.name == "own_sum" else lambda x: x
    )
    model = of_input((3,), lambda x: layer(arguments(x)))
    with pytest.raises(NotImplementedError, match="has a `call` of its own"):
        Certifier(model).bounds(np.zeros((1, 3), "float32"), 0.1)


COLUMN = np.array([[1.0], [-1.0]], "float32")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: ops.concatenate([x, x], axis=0), "axis of the batch"),
        (lambda x: L.Concatenate(axis=0)([x, x]), "axis of the batch"),
        (lambda x: x * COLUMN, "differ from example to example"),
        (lambda x: x - ops.mean(x), "acts on the axis of the batch"),
        (lambda x: L.Add()([x, COLUMN]), "a constant among its inputs"),
    ],
)
def test_examples_that_meet(function, words):
    model = of_input((2,), function)
    with pytest.raises(NotImplementedError, match=words):
        Certifier(model).bounds(np.zeros((2, 2), "float32"), 0.1)


@pytest.mark.parametrize(
    "function", [lambda x: x / 0.0, lambda x: x * float("nan")]
)
def test_constants_that_are_not_finite(function):
    model = of_input((2,), function)
    with pytest.raises(ValueError, match="not finite, or divides by 0"):
        Certifier(model).bounds(np.zeros((1, 2), "float32"), 0.1)


def test_several_inputs_and_outputs():
    inputs = keras.Input((3,))
    steep = L.Rescaling(100.0)(inputs)
    two = keras.Model(inputs, [steep, L.Rescaling(1e-3)(steep)])
    with pytest.raises(ValueError, match="with 2 outputs"):
        lipschitz_bound(two)
    with pytest.raises(ValueError, match="with 1 inputs and 2 outputs"):
        Certifier(two)
    other = keras.Input((3,))
    with pytest.raises(ValueError, match="with 2 inputs and 1 outputs"):
        Certifier(keras.Model([inputs, other], L.Add()([inputs, other])))
    named = keras.Model({"x": inputs}, {"y": steep})
    x = np.ones((1, 3), "float32")
    lower, upper = Certifier(named).bounds(x, 0.0)
    np.testing.assert_allclose(lower, 100.0, rtol=1e-5)
    np.testing.assert_allclose(upper, 100.0, rtol=1e-5)


def test_no_images():
    model = sequential((3,), layers.CCP(2, 3, 2))
    with pytest.raises(ValueError, match="at least one image"):
        Certifier(model).margins(np.zeros((0, 3), "float32"), [], 0.1)


def test_constants_of_many_batches_are_not_kept():
    certifier = Certifier(sequential((3,), layers.CCP(4, 3, 2)))
    for size in (1.0, 2.0, 3.0):
        certifier.margins(np.full((1, 3), size, "float32"), [0], 0.1)
    kept = [
        value
        for value in vars(certifier._pairs).values()
        if isinstance(value, np.ndarray | dict | list)
    ]
    assert len(kept) == 1 and kept[0].shape == (4, 4)
