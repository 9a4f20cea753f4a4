"""The first value that is not finite is found and named."""

import keras
import numpy as np
import pytest

from keras_polynets.callbacks import TerminateOnNonFinite
from keras_polynets.callbacks import first_non_finite


def make_model():
    inner = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, name="second")], name="inner"
    )
    inputs = keras.Input((2,))
    x = keras.layers.Dense(2, name="first", use_bias=False)(inputs)
    x = inner(x)
    x = keras.layers.Multiply(name="product")([x, x])
    return keras.Model(inputs, keras.layers.Dense(1, name="last")(x))


def test_finite_model_has_none():
    assert first_non_finite(make_model(), np.ones((3, 2), "float32")) is None


def test_weights_come_first():
    model = make_model()
    model.get_layer("last").bias.assign([np.inf])
    found = first_non_finite(model, np.full((3, 2), np.nan, "float32"))
    assert found == "the weight 'last/bias'"


def test_first_layer_of_the_computation_is_named():
    model = make_model()
    kernel = model.get_layer("inner").get_layer("second").kernel
    kernel.assign(np.full((2, 2), 1e30))
    model.get_layer("first").kernel.assign(np.full((2, 2), 1e-6))
    # 1e24 squared is beyond float32, 1e24 itself is not.
    x = np.ones((3, 2), "float32")
    found = first_non_finite(model, x)
    assert found == "the output of the layer 'product' (Multiply)"
    model.get_layer("first").kernel.assign(np.full((2, 2), 1e30))
    found = first_non_finite(model, x)
    assert found == "the output of the layer 'second' (Dense)"
    # Nothing stays behind in the layers.
    assert all(
        "call" not in layer.__dict__ for layer in model._flatten_layers()
    )


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_training_stops_with_an_error(steps_per_execution):
    model = make_model()
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    x = np.ones((60, 2), "float32")
    x[30:] = np.nan
    epochs = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append(epoch)
    )
    with pytest.raises(
        FloatingPointError, match=r"loss of epoch 0 \(from 0\) is nan after"
    ):
        model.fit(
            x,
            np.ones((60, 1)),
            batch_size=10,
            shuffle=False,
            epochs=2,
            verbose=0,
            callbacks=[TerminateOnNonFinite(), keep],
        )
    assert not epochs


def test_finite_training_goes_on():
    model = make_model()
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    x = np.ones((20, 2), "float32")
    history = model.fit(
        x, x[:, :1], epochs=2, verbose=0, callbacks=[TerminateOnNonFinite()]
    )
    assert len(history.history["loss"]) == 2
