"""Conversion to quadratic neurons: layers, filters and the report."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_polynets import convert
from keras_polynets import zoo
from keras_polynets.layers import BatchNormalization
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.layers import QuadraticDense
from keras_polynets.layers import QuadraticLayer
from tests.unit.convert.quadratic_checks import branching
from tests.unit.convert.quadratic_checks import draw
from tests.unit.convert.quadratic_checks import randomize
from tests.unit.convert.quadratic_checks import same
from tests.unit.convert.quadratic_checks import small
from tests.unit.convert.quadratic_checks import value

NEURONS = ("full", "compact", "parabolic", "poly", "qres", "quadralib")


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("neuron", NEURONS)
def test_every_neuron_that_can_start_as_a_linear_one(neuron):
    model = small()
    randomize(model)
    quadratic = convert.to_quadratic(model, neuron)
    x = draw(8, 6, 6, 2)
    same(model, quadratic, x)
    replaced = [quadratic.get_layer("conv"), quadratic.get_layer("head")]
    assert all(isinstance(layer, QuadraticLayer) for layer in replaced)
    # A convolution without bias has one where a gate has to be 1.
    assert replaced[0].use_bias == (neuron not in ("compact", "poly", "qres"))
    before = [value(w) for layer in replaced for w in layer.weights]
    quadratic.compile(
        keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy"
    )
    quadratic.train_on_batch(x, np.arange(8) % 3)
    after = [value(w) for layer in replaced for w in layer.weights]
    names = [w.path for layer in replaced for w in layer.weights]
    still = [
        name
        for name, a, b in zip(names, before, after, strict=True)
        if np.array_equal(a, b) and name.endswith("kernel")
    ]
    assert still == []


@pytest.mark.parametrize("neuron", ["goyal", "type2", "type3", "type4"])
def test_neurons_that_cannot(neuron):
    with pytest.raises(
        ValueError,
        match=f"neuron '{neuron}' .* cannot be converted to it. Expected one "
        "of 'full', 'compact', 'parabolic', 'poly', 'qres', 'quadralib'",
    ):
        convert.to_quadratic(small(), neuron)
    with pytest.raises(ValueError, match="Unknown neuron 'ful'. Did you mean"):
        convert.to_quadratic(small(), "ful")


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.Dense(3, activation="tanh"), (5,)),
        (layers.Dense(3, use_bias=False), (4, 5)),
        (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 2)),
        (
            layers.Conv2D(4, 3, strides=2, groups=2, activation="relu"),
            (7, 7, 4),
        ),
        (layers.Conv2D(4, (1, 3), padding="same", use_bias=False), (5, 5, 2)),
        (layers.Conv3D(2, 2, padding="same", strides=2), (4, 4, 4, 2)),
        (
            layers.Conv2DTranspose(2, 3, strides=2, output_padding=1),
            (4, 4, 3),
        ),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_every_kind_of_layer(layer, shape):
    model = keras.Sequential([keras.Input(shape), layer])
    randomize(model)
    quadratic = convert.to_quadratic(model)
    same(model, quadratic, draw(2, *shape))
    new = quadratic.layers[0]
    assert type(new).__name__ == "Quadratic" + type(layer).__name__
    for key, setting in layer.get_config().items():
        if setting is not None and key != "use_bias":
            assert new.get_config()[key] == setting, key


def test_what_a_layer_carries_is_kept():
    layer = layers.Conv2D(
        4,
        3,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L1(0.2),
        bias_constraint="non_neg",
        dtype="mixed_bfloat16",
        name="conv",
    )
    model = keras.Sequential([keras.Input((5, 5, 1)), layer])
    layer.trainable = False
    new = convert.to_quadratic(model).get_layer("conv")
    assert new.dtype_policy.name == "mixed_bfloat16"
    assert not new.trainable and not new.trainable_variables
    assert float(new.kernel_regularizer.l2) == pytest.approx(0.1)
    assert float(new.activity_regularizer.l1) == pytest.approx(0.2)
    assert isinstance(new.linear.bias_constraint, keras.constraints.NonNeg)
    assert isinstance(new.kernel_initializer, keras.initializers.HeNormal)


def test_the_source_is_not_changed():
    model = small()
    before, config = model.get_weights(), model.get_config()
    convert.to_quadratic(model).get_layer("conv").linear.kernel.assign(
        np.zeros((3, 3, 2, 4))
    )
    assert model.get_config() == config
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_nested_and_shared_layers():
    model = branching(across=True)
    randomize(model)
    quadratic = convert.to_quadratic(model)
    x = {"left": draw(3, 4), "right": draw(3, 4)[::-1]}
    same(model, quadratic, x)
    assert set(quadratic.input) == {"left", "right"}
    assert [i.name for i in quadratic.inputs] == ["left", "right"]
    assert set(quadratic.output) == {"one", "two"}
    names = [row.name for row in quadratic.conversion_report.replaced]
    assert sorted(names) == [
        "block/own",
        "block/shared",
        "chain/first",
        "one",
        "two",
    ]
    block = quadratic.get_layer("block")
    chain = quadratic.get_layer("chain")
    assert block.get_layer("shared") is chain.get_layer("shared")
    assert block.get_layer("shared") is quadratic.get_layer("shared")
    assert [x.name for x in model.operations] == [
        x.name for x in quadratic.operations
    ]


def test_a_converted_file_loads(tmp_path):
    for number, model in enumerate((small(), branching())):
        quadratic = convert.to_quadratic(model, "compact")
        path = tmp_path / f"{number}.keras"
        quadratic.save(path)
        loaded = keras.models.load_model(path)
        x = {"left": draw(3, 4), "right": draw(3, 4)}
        same(quadratic, loaded, x if number else draw(3, 6, 6, 2))


@keras.saving.register_keras_serializable(package="test_convert")
class Doubled(layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = layers.Dense(units)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return 2 * self.dense(x)


class Scaled(layers.Dense):
    def call(self, x):
        return super().call(x) * 3


def test_what_is_left_alone():
    factor = 3.0
    adapted = layers.Normalization(axis=-1, name="normalization")
    model = keras.Sequential(
        [
            keras.Input((6, 4)),
            adapted,
            layers.TimeDistributed(layers.Dense(4), name="wrapped"),
            layers.Lambda(lambda x: factor * x, name="lambda"),
            layers.SeparableConv1D(4, 3, name="separable"),
            layers.DepthwiseConv1D(2, name="depthwise"),
            Doubled(4, name="custom"),
            Scaled(4, name="subclass"),
            layers.LSTM(4, return_sequences=True, name="lstm"),
            QuadraticDense(3, name="quadratic"),
            layers.SpectralNormalization(layers.Dense(3), name="spectral"),
            layers.Dense(3, name="dense"),
        ]
    )
    randomize(model)
    adapted.adapt(draw(50, 6, 4) * 3 + 1)
    quadratic = convert.to_quadratic(model)
    same(model, quadratic, draw(2, 6, 4))
    report = quadratic.conversion_report
    assert [row.name for row in report.replaced] == ["dense"]
    reasons = {row.name: row.reason for row in report.left_alone}
    assert reasons == {
        "wrapped": "a wrapper, and the layer inside belongs to it",
        "lambda": "a Lambda layer, whose function is not known",
        "separable": "depthwise convolutions have no quadratic form",
        "depthwise": "depthwise convolutions have no quadratic form",
        "custom": "a custom layer, whose formula is not known",
        "subclass": "a custom layer, whose formula is not known",
        "lstm": "LSTM has no quadratic form",
        "quadratic": "it is quadratic already",
        "spectral": "a wrapper, and the layer inside belongs to it",
    }
    assert report.unknown_work == ["wrapped", "custom", "lstm", "spectral"]
    # Copies, not the layers themselves.
    assert quadratic.get_layer("lambda") is not model.get_layer("lambda")


def test_vocabularies_are_copied():
    pytest.importorskip("tensorflow")
    lookup = layers.StringLookup(name="lookup")
    lookup.adapt(["a", "b", "b"])
    inputs = keras.Input((2,), dtype="string", name="words")
    x = layers.Embedding(4, 3, name="embedding")(lookup(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="dense")(x))
    quadratic = convert.to_quadratic(model)
    assert quadratic.get_layer("lookup").get_vocabulary() == ["[UNK]", "b", "a"]
    words = keras.ops.convert_to_tensor([["a", "b"], ["c", "a"]])
    same(model, quadratic, words)


def test_filters():
    def converted(**kwargs):
        model = convert.to_quadratic(branching(across=True), **kwargs)
        report = model.conversion_report
        left = {row.name for row in report.left_alone}
        names = {row.name for row in report.replaced}
        assert len(names | left) == 5 and not names & left
        return names

    assert converted(filter=lambda x: x.units == 2) == {"one", "two"}
    assert converted(filter=["block/shared", "two"]) == {"block/shared", "two"}
    assert converted(filter=["own"]) == {"block/own"}
    assert converted(filter=[]) == set()
    with pytest.raises(
        ValueError, match="Unknown layer to convert 'tow'. Did you mean 'two'"
    ):
        converted(filter=["tow"])
    with pytest.raises(ValueError, match=r"Received: filter='two'. Pass \["):
        converted(filter="two")


def test_the_report_counts():
    report = convert.to_quadratic(small()).conversion_report
    conv, head = report.replaced
    assert conv.source == "Conv2D" and conv.target == "QuadraticConv2D"
    # A kernel of 3 * 3 * 2 * 4, and biases that the gate needs.
    assert conv.parameters == (72, 3 * (72 + 4))
    # On 4 * 4 positions; a product for each output, a square for each input.
    assert conv.multiply_adds == (72 * 16, 3 * 72 * 16 + 4 * 16 + 72)
    assert head.parameters == (64 * 3 + 3, 3 * (64 * 3 + 3))
    assert head.multiply_adds == (192, 3 * 192 + 3 + 64)
    assert report.parameters == (72 + 16 + 195, 228 + 16 + 585)
    assert report.multiply_adds == (1344, 3456 + 64 + 72 + 643)
    text = str(report)
    assert "2 layers replaced, 0 left alone" in text
    assert "conv: Conv2D -> QuadraticConv2D, parameters 72 -> 228" in text


def test_open_sizes_have_no_known_work():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3, name="conv")(inputs))
    report = convert.to_quadratic(model).conversion_report
    assert report.replaced[0].multiply_adds == (None, None)
    assert report.unknown_work == ["conv"]
    assert "multiply-adds not known" in str(report)


def test_a_compiled_model_stays_compiled():
    model = small()
    model.compile(
        keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy"
    )
    quadratic = convert.to_quadratic(model)
    assert isinstance(quadratic.optimizer, keras.optimizers.Adam)
    assert float(quadratic.optimizer.learning_rate) == pytest.approx(0.02)
    assert quadratic.optimizer is not model.optimizer
    assert quadratic.loss == "sparse_categorical_crossentropy"
    model.compile("sgd", lambda y, p: keras.ops.mean(p))
    quadratic = convert.to_quadratic(model)
    assert not quadratic.compiled
    assert (
        "'small' is not compiled: its arguments of `compile`"
        in (quadratic.conversion_report.notes[0])
    )


def test_nothing_to_convert():
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.DepthwiseConv2D(2, name="d")], name="m"
    )
    with pytest.raises(
        ValueError,
        match="'m' has no layer to convert. Expected a layer of class Dense, "
        r".* Received: d \(depthwise convolutions have no quadratic form\)",
    ):
        convert.to_quadratic(model)


def test_a_deep_model(tmp_path):
    model = zoo.load("resnet110", weights=None, width=1, input_shape=(8, 8, 3))
    quadratic = convert.to_quadratic(
        model, filter=lambda layer: isinstance(layer, layers.Dense)
    )
    same(model, quadratic, draw(2, 8, 8, 3))
    quadratic.save(tmp_path / "deep.keras")
    loaded = keras.models.load_model(tmp_path / "deep.keras")
    same(model, loaded, draw(2, 8, 8, 3))


def test_the_layer_to_quadratic_uses_the_source_geometry():
    model = keras.Sequential(
        [
            keras.Input((3, 8, 8)),
            layers.Conv2D(2, 3, data_format="channels_first"),
        ]
    )
    new = convert.to_quadratic(model).layers[0]
    assert isinstance(new, QuadraticConv2D)
    assert new.data_format == "channels_first"


def test_our_batch_normalization_needs_no_remark():
    # It has no matrix to convert, as that of Keras.
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, name="dense"),
            BatchNormalization(),
        ]
    )
    quadratic = convert.to_quadratic(model)
    same(model, quadratic, draw(2, 6))
    report = quadratic.conversion_report
    assert [row.name for row in report.replaced] == ["dense"]
    assert report.left_alone == []
