"""Dtypes, axes and sums: bounds are those of what the model computes."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import certified_accuracy
from keras_polynets.robustness import lipschitz_bound
from tests.unit.robustness.bound_examples import apply
from tests.unit.robustness.bound_examples import randomize
from tests.unit.robustness.certificate_examples import check_inside
from tests.unit.robustness.certificate_examples import of_input
from tests.unit.robustness.certificate_examples import sequential

L, ops = keras.layers, keras.ops


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
    with pytest.raises(NotImplementedError, match="does along axis"):
        Certifier(model).bounds(x, 0.1)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="how TensorFlow adds"
)
@pytest.mark.parametrize(
    ("shape", "function"),
    [
        ((3,), lambda x: x + L.Dense(1)(x)),
        ((3,), lambda x: L.Average()([x, L.Dense(1)(x)])),
        ((4, 4), lambda x: x + L.Conv1D(1, 1)(x)),
    ],
)
def test_sums_whose_axis_depends_on_the_batch(shape, function):
    model = of_input(shape, function)
    with pytest.raises(NotImplementedError, match="for some batches"):
        Certifier(model).bounds(np.ones((2, *shape), "float32"), 0.1)


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


def test_powers_are_rounded_as_powers():
    x = np.random.default_rng(0).normal(size=(2000, 8)).astype("float32")
    for exponent in (1, 2, 3):
        model = of_input((8,), lambda x, n=exponent: x**n)
        check_inside(model, x)
        lower, upper = Certifier(model).bounds(x, 0.0)
        outputs = apply(model, x)
        assert (lower <= outputs).all() and (outputs <= upper).all()
