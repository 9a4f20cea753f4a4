"""Defences before a model: what attacks see, and what is kept."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_polynets
from keras_polynets import analysis
from keras_polynets import convert
from keras_polynets import layers
from keras_polynets import models
from keras_polynets import robustness
from keras_polynets import zoo

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="attacks need TensorFlow"
)
SHAPE = (8, 8, 1)
NAMES = ("ant", "bee", "cat")


def make_model(dtype=None, **kwargs):
    keras.utils.set_random_seed(0)
    return models.PolynomialNet(
        input_shape=SHAPE,
        classes=3,
        order=3,
        rank=4,
        class_names=NAMES,
        dtype=dtype,
        **kwargs,
    )


def make_denoiser(dtype=None):
    keras.utils.set_random_seed(1)
    denoiser = models.GuidedDenoiser(
        SHAPE, filters=(3, 4), blocks=1, activation="softplus", dtype=dtype
    )
    rng = np.random.default_rng(0)
    for weight in denoiser.trainable_variables:
        weight.assign(weight + rng.normal(size=weight.shape, scale=0.2))
    return denoiser


DEFENCES = {
    "gaussian": lambda dtype=None: layers.GaussianFilter2D(3, dtype=dtype),
    "median": lambda dtype=None: layers.MedianFilter2D(3, dtype=dtype),
    "even median": lambda dtype=None: layers.MedianFilter2D(2, dtype=dtype),
    "guided": make_denoiser,
}
each = pytest.mark.parametrize("make", DEFENCES.values(), ids=DEFENCES)


def make_images(count=6, low=-1.0, high=1.0, dtype="float32"):
    rng = np.random.default_rng(2)
    return rng.uniform(low, high, size=(count, *SHAPE)).astype(dtype)


def loss_of(model, x, labels):
    losses = keras.losses.sparse_categorical_crossentropy(
        labels, model(x), from_logits=True
    )
    return ops.sum(losses)


@each
def test_images_meet_the_defence_and_then_the_model(make):
    model, defence = make_model(), make()
    defended = robustness.defend(model, defence)
    x = make_images()
    np.testing.assert_allclose(
        defended.predict(x, verbose=0),
        model.predict(ops.convert_to_numpy(defence(x)), verbose=0),
        atol=1e-5,
    )


def test_several_defences_act_in_order():
    model = make_model()
    smooth, median = layers.GaussianFilter2D(3), layers.MedianFilter2D(3)
    defended = robustness.defend(model, smooth, median)
    x = make_images()
    expected = ops.convert_to_numpy(model(median(smooth(x))))
    other = ops.convert_to_numpy(model(smooth(median(x))))
    ours = ops.convert_to_numpy(defended(x))
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert np.abs(ours - other).max() > 1e-3
    assert defended.defences == (smooth, median) and defended.model is model


@each
def test_keras_file(make, tmp_path):
    model = make_model(input_range=(0.0, 1.0), data_range=(0.0, 16.0))
    defence = make()
    if isinstance(defence, models.GuidedDenoiser):
        defence = models.GuidedDenoiser(
            SHAPE, filters=(3,), input_range=(0.0, 1.0)
        )
    defended = robustness.defend(model, defence)
    defended.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = make_images(low=0)
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), defended.predict(x, verbose=0)
    )
    assert type(loaded) is robustness.DefendedModel
    for ours, theirs in zip(
        (loaded.model, *loaded.defences), (model, defence), strict=True
    ):
        assert ours.get_config() == theirs.get_config()
    assert loaded.input_range == (0.0, 1.0)
    assert loaded.data_range == (0.0, 16.0)
    assert loaded.class_names == NAMES
    assert loaded.name == f"defended_{model.name}"
    stored = np.arange(17, dtype="uint8")
    np.testing.assert_allclose(
        loaded.preprocessor(stored), np.arange(17) / 16, atol=1e-6
    )


@each
@on_tensorflow
def test_gradients_are_those_of_finite_differences(make):
    import tensorflow as tf

    defended = robustness.defend(make_model("float64"), make("float64"))
    x = tf.constant(make_images(dtype="float64"))
    labels = np.arange(6) % 3
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = loss_of(defended, x, labels)
    gradient = tape.gradient(loss, x).numpy()
    rng = np.random.default_rng(3)
    # Bilinear interpolation is done in float32 whatever the policy.
    guided = make is make_denoiser
    size, tolerance = (1e-3, 1e-3) if guided else (1e-6, 1e-5)
    for _ in range(4):
        direction = rng.normal(size=x.shape)
        step = size * direction
        rise = loss_of(defended, x + step, labels) - loss_of(
            defended, x - step, labels
        )
        expected = np.sum(gradient * direction)
        np.testing.assert_allclose(
            rise / (2 * size), expected, rtol=tolerance, atol=tolerance / 10
        )
    assert (np.abs(gradient) > 0).mean() > 0.3


@each
@on_tensorflow
def test_attacks_go_through_and_stay_in_the_ball(make):
    model, defence = make_model(), make()
    defended = robustness.defend(model, defence)
    x, labels = make_images(32), np.arange(32) % 3
    through = robustness.pgd(defended, x, labels, 0.2, 10, 0.05)
    unseen = robustness.pgd(model, x, labels, 0.2, 10, 0.05)
    difference = np.abs(through.astype("float64") - x.astype("float64"))
    assert 0.1 < difference.max() <= 0.2
    assert np.abs(through).max() <= 1
    losses = [float(loss_of(defended, z, labels)) for z in (x, unseen, through)]
    assert losses[0] < losses[2] and losses[1] < losses[2]


@on_tensorflow
def test_fgsm_follows_the_gradient_through_a_linear_filter():
    """The filter's own matrix, from its images of unit vectors."""
    import tensorflow as tf

    model, smooth = make_model(), layers.GaussianFilter2D(3, sigma=0.8)
    x, labels = make_images(low=-0.5, high=0.5), np.arange(6) % 3
    units = np.eye(64, dtype="float32").reshape(64, *SHAPE)
    matrix = ops.convert_to_numpy(smooth(units)).reshape(64, 64)
    smoothed = tf.constant(x.reshape(6, 64) @ matrix)
    with tf.GradientTape() as tape:
        tape.watch(smoothed)
        images = tf.reshape(smoothed, (6, *SHAPE))
        loss = loss_of(model, images, labels)
    gradient = tape.gradient(loss, smoothed).numpy() @ matrix.T
    defended = robustness.defend(model, smooth)
    ours = robustness.fgsm(defended, x, labels, 0.1)
    sure = (np.abs(gradient) > 1e-6).reshape(x.shape)
    expected = x + 0.1 * np.sign(gradient).reshape(x.shape)
    assert sure.mean() > 0.9
    np.testing.assert_allclose(ours[sure], expected[sure], atol=1e-6)


@on_tensorflow
def test_robust_accuracy_and_export(tmp_path):
    import tensorflow as tf

    defended = robustness.defend(make_model(), layers.MedianFilter2D(3))
    rng = np.random.default_rng(4)
    stored = rng.integers(0, 256, (20, *SHAPE), dtype="uint8")
    logits = defended.predict(defended.preprocessor(stored), verbose=0)
    labels = logits.argmax(axis=-1)
    clean, attacked = (
        robustness.robust_accuracy(
            defended, (stored, labels), attack, verbose=0
        )
        for attack in (None, "pgd:0.5,5,0.2")
    )
    assert clean == 1 and attacked < 0.5
    defended.export(tmp_path / "saved")
    served = tf.saved_model.load(tmp_path / "saved")
    outputs = served.serve_raw(stored)
    np.testing.assert_allclose(outputs["logits"], logits, atol=1e-4)


def test_a_defended_model_has_the_degree_of_its_layers():
    model = make_model()
    smooth = robustness.defend(model, layers.GaussianFilter2D(3))
    assert analysis.polynomial_degree(smooth) == 3
    median = robustness.defend(model, layers.MedianFilter2D(3, name="middle"))
    with pytest.raises(ValueError, match="layer 'middle' .MedianFilter2D. br"):
        analysis.polynomial_degree(median)


def test_a_defended_model_evaluates_as_its_model_does():
    defended = robustness.defend(make_model(), layers.GaussianFilter2D(3))
    zoo.compile_model(defended, {"name": "adam"})
    x, labels = make_images(), np.arange(6) % 3
    loss, accuracy = defended.evaluate(x, labels, verbose=0)
    assert loss == pytest.approx(float(loss_of(defended, x, labels)) / 6, 1e-4)
    assert defended.head is defended.model.head and 0 <= accuracy <= 1


def test_a_converted_model_can_be_defended():
    plain = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model = convert.ConvertedModel(
        plain.inputs, plain.outputs, input_range=(0.0, 1.0)
    )
    defended = robustness.defend(model, layers.GaussianFilter2D(3))
    assert defended.input_range == (0.0, 1.0)


def test_errors():
    model, defend = make_model(name="net"), robustness.defend
    median = layers.MedianFilter2D(3, name="median")
    with pytest.raises(TypeError, match="type Sequential. Wrap a functional"):
        defend(keras.Sequential([keras.Input(SHAPE)]), median)
    with pytest.raises(ValueError, match="at least one defence, a Keras layer"):
        defend(model)
    with pytest.raises(TypeError, match="Received: 'median' .of type str."):
        defend(model, "median")
    with pytest.raises(
        ValueError,
        match=r"The defence 'conv' must keep the shape of images, "
        r"\(None, 8, 8, 1\). It yields: \(None, 6, 6, 2\)",
    ):
        defend(model, keras.layers.Conv2D(2, 3, name="conv"))
    with pytest.raises(
        ValueError,
        match=r"'guided' takes images in \(0.0, 1.0\), and the model 'net' in "
        r"\(-1.0, 1.0\). Build the defence with the model's `input_range`",
    ):
        other = models.GuidedDenoiser(
            SHAPE, input_range=(0.0, 1.0), name="guided"
        )
        defend(model, other)
    with pytest.raises(ValueError, match="The name 'median' stands twice"):
        defend(model, median, median)


def test_the_example_of_the_documentation():
    model = keras_polynets.zoo.load("pn4", weights=None)
    smooth = layers.GaussianFilter2D(3)
    assert robustness.DefendedModel(model, [smooth]).name == "defended_pn4"
