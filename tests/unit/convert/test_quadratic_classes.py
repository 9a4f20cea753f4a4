"""Conversion to quadratic neurons: which classes of models are kept."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_polynets import convert
from keras_polynets import models
from keras_polynets import zoo
from tests.unit.convert.quadratic_checks import branching
from tests.unit.convert.quadratic_checks import draw
from tests.unit.convert.quadratic_checks import randomize
from tests.unit.convert.quadratic_checks import same


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


@keras.saving.register_keras_serializable(package="test_convert")
class Tempered(keras.Model):
    """Its config holds the graph, and more."""

    def __init__(self, *args, temperature=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.temperature = temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="test_convert")
class FromConfig(keras.Model):
    """It reads the graph from its config by itself."""

    def __init__(self, inputs, outputs, temperature, **kwargs):
        super().__init__(inputs, outputs, **kwargs)
        self.temperature = temperature

    def get_config(self):
        graph = keras.Model(self.inputs, self.outputs, name=self.name)
        return {**graph.get_config(), "temperature": self.temperature}

    @classmethod
    def from_config(cls, config):
        temperature = config.pop("temperature")
        graph = keras.Model.from_config(config)
        return cls(graph.inputs, graph.outputs, temperature, name=graph.name)


class Fixed(keras.Model):
    """It builds its graph by itself."""

    def __init__(self, units=3, **kwargs):
        inputs = keras.Input((4,), name="x")
        outputs = layers.Dense(units, name="dense")(inputs)
        super().__init__(inputs, outputs, **kwargs)
        self.units = units

    def get_config(self):
        return {"units": self.units, "name": self.name}


@pytest.mark.parametrize("cls", [Tempered, FromConfig])
def test_a_class_that_can_hold_another_graph_is_kept(cls, tmp_path):
    plain = branching()
    model = cls(plain.input, plain.output, temperature=2.0, name="hot")
    randomize(model)
    quadratic = convert.to_quadratic(model)
    assert type(quadratic) is cls and quadratic.temperature == 2.0
    assert quadratic.name == "hot" and not quadratic.conversion_report.notes
    x = {"left": draw(3, 4), "right": draw(3, 4)[::-1]}
    if cls is FromConfig:
        x = list(x.values())
    same(model, quadratic, x)
    assert quadratic.get_layer("one").neuron == "full"
    quadratic.save(tmp_path / "hot.keras")
    loaded = keras.models.load_model(tmp_path / "hot.keras")
    assert type(loaded) is cls and loaded.temperature == 2.0
    same(model, loaded, x)


def test_a_class_whose_config_loses_what_is_shared():
    """Keras writes a layer that two nested models share as two layers."""
    plain = branching(across=True)
    model = FromConfig(plain.input, plain.output, 2.0, name="hot")
    quadratic = convert.to_quadratic(model)
    assert (
        "'hot' has become a Functional" in quadratic.conversion_report.notes[0]
    )
    same(model, quadratic, [draw(3, 4), draw(3, 4)[::-1]])


def test_a_class_that_cannot_becomes_a_functional_model():
    model = Fixed(name="fixed")
    quadratic = convert.to_quadratic(model)
    assert type(quadratic) is type(branching())
    assert quadratic.conversion_report.notes == [
        "'fixed' has become a Functional: its class Fixed cannot be built with "
        "another graph (its config does not hold its graph)."
    ]
    same(model, quadratic, draw(3, 4))


def test_a_subclass_of_sequential():
    class Stack(keras.Sequential):
        pass

    class Own(keras.Sequential):
        def __init__(self, name=None):
            super().__init__([keras.Input((4,)), layers.Dense(2)], name=name)

    model = Stack([keras.Input((4,)), layers.Dense(2)])
    assert type(convert.to_quadratic(model)) is Stack
    quadratic = convert.to_quadratic(Own(name="own"))
    assert type(quadratic) is keras.Sequential
    assert (
        "'own' has become a Sequential"
        in (quadratic.conversion_report.notes[0])
    )


@pytest.mark.filterwarnings("ignore:.*compile.*custom")
def test_models_of_the_zoo_keep_what_a_user_needs(tmp_path):
    model = zoo.load("test_pn_conv", weights=None, class_names=["a", "b", "c"])
    quadratic = convert.to_quadratic(model)
    assert type(quadratic) is convert.ConvertedModel
    assert isinstance(quadratic, models.ZooModel)
    assert (
        "'test_pn_conv' has become a ConvertedModel"
        in (quadratic.conversion_report.notes[0])
    )
    quadratic.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (quadratic, loaded):
        assert type(each) is convert.ConvertedModel
        assert each.input_range == model.input_range
        assert each.class_names == ("a", "b", "c")
        assert each.head is each.get_layer("head")
        assert each.preprocessor.scale == model.preprocessor.scale
        same(model, each, draw(2, 8, 8, 1))
        with pytest.raises(ValueError, match="call model.preprocessor first"):
            each(np.zeros((1, 8, 8, 1), "uint8"))


def test_what_is_no_graph_is_refused():
    class OwnCall(keras.Model):
        def call(self, x):
            return 2 * super().call(x)

    inputs = keras.Input((2,))
    outputs = layers.Dense(2)(inputs)
    for model in (
        Subclassed(name="mine"),
        OwnCall(inputs, outputs, name="mine"),
    ):
        with pytest.raises(
            ValueError, match="'mine' is a subclassed model .*Write it as"
        ):
            convert.to_quadratic(model)
    with pytest.raises(ValueError, match="has no weights yet. Build it first"):
        convert.to_quadratic(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="Expected a functional or sequential"):
        convert.to_quadratic(layers.Dense(2))


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(2)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)


class Unsaved(layers.Layer):
    def __init__(self, array):
        super().__init__(name="mine")
        self.array = array

    def call(self, x):
        return x * self.array


def test_a_layer_that_its_config_does_not_describe():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2)], name="in")
    model.add(Unsaved(np.ones(2)))
    model = keras.Sequential([keras.Input((2,)), model])
    with pytest.raises(
        ValueError,
        match="Layer 'in/mine' of class Unsaved cannot be built again from "
        "its config, .* Give the class a `get_config`",
    ):
        convert.to_quadratic(model)


def test_a_nested_subclassed_model_is_a_layer():
    model = keras.Sequential(
        [keras.Input((2,)), Subclassed(name="mine"), layers.Dense(2, name="d")]
    )
    quadratic = convert.to_quadratic(model)
    same(model, quadratic, draw(2, 2))
    (row,) = quadratic.conversion_report.left_alone
    assert (row.name, row.source) == ("mine", "Subclassed")
