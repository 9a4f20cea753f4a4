"""Loading by name, tags and arguments."""

import numpy as np
import pytest

from keras_polynets import zoo
from tests.unit.zoo.zoo_examples import same_weights


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("pn4", {}),
        ("pn4.toy", {}),
        ("pn4", {"weights": "toy"}),
        ("pn4.toy", {"weights": "toy"}),
    ],
)
def test_tags(own_zoo, name, arguments):
    _, trained = own_zoo
    model = zoo.load(name, **arguments)
    assert same_weights(model, trained)
    assert model.input_shape == (None, 6, 5, 1)
    assert model.class_names == ("a", "b", "c", "d")
    assert float(model.optimizer.learning_rate) == 0.25


def test_is_compiled_and_fits(own_zoo):
    model = zoo.load("pn4")
    images = np.zeros((8, 6, 5, 1), "uint8")
    history = model.fit(
        np.asarray(model.preprocessor(images)), np.zeros(8), verbose=0
    )
    assert set(history.history) == {"accuracy", "loss"}


def test_fresh_weights_warn_and_name_the_recipe(own_zoo):
    folder, _ = own_zoo
    (folder / "model.toml").unlink()
    with pytest.warns(UserWarning, match="`keras-polynets train pn4.toy`"):
        zoo.load("pn4", input_shape=(6, 5, 1))


def test_none_touches_no_disk(monkeypatch):
    monkeypatch.setenv("KERAS_POLYNETS_ZOO", "/does/not/exist")
    assert zoo.load("pn4", weights=None).count_params() == 50_346


def test_other_classes_keep_the_body(own_zoo):
    _, trained = own_zoo
    with pytest.warns(UserWarning, match="trained with 4 classes.*output_map"):
        model = zoo.load("pn4", classes=7)
    assert model.output_shape == (None, 7)
    assert model.class_names is None
    np.testing.assert_array_equal(
        model.get_layer("polynomial").factors.kernel,
        trained.get_layer("polynomial").factors.kernel,
    )


def test_misfits_name_the_layers(own_zoo):
    with pytest.raises(ValueError, match=r"factors/kernel: \(30, 12\) in the"):
        zoo.load("pn4", input_shape=(6, 6, 1))
    with pytest.raises(
        ValueError, match="(?s)factors/kernel.*output_map/kernel"
    ):
        zoo.load("pn4", rank=5)


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        (
            "prodpoly_resnet18_linear.cifar10_jpeg_w16_order2_1111",
            {"order": 3},
            "order2_1111' was trained with order=2: .*"
            "Received: order=3. Leave the argument out",
        ),
        (
            "test_qresnet",
            {"activation": None, "epsilon": 0.1},
            "trained with activation='relu', epsilon=1e-05: .*"
            "Received: activation=None, epsilon=0.1",
        ),
        ("test_pn", {"input_range": (0, 1)}, r"input_range=\(-1.0, 1.0\)"),
        ("test_pn_conv", {"pool_after": (1, 3)}, r"pool_after=\(2, 3\)"),
    ],
)
def test_tags_refuse_what_changes_the_function(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.load(name, **arguments)


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("test_prodpoly_resnet", {"order": 2, "blocks": [1, 1]}),
        ("test_prodpoly_resnet", {"include_top": False, "pooling": "max"}),
        ("test_prodpoly_resnet", {"input_shape": (16, 12, 3)}),
        ("test_prodpoly_resnet", {"initialization": "fan_in"}),
        ("test_qresnet", {"dtype": "mixed_bfloat16"}),
        ("test_pn", {"data_range": (0, 1), "class_names": "abc"}),
        ("test_pn_conv", {"classifier_activation": "softmax"}),
    ],
)
def test_tags_allow_what_does_not(name, arguments):
    trained = zoo.load(name)
    model = zoo.load(name, **arguments)
    for old, new in zip(trained.weights, model.weights, strict=False):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "pn5"}, "Unknown model 'pn5'. Did you mean 'pn4'"),
        ({"name": "pn4.toi"}, "Unknown weights of 'pn4' 'toi'.*'toy'"),
        ({"name": "pn4", "weights": "toi"}, "Unknown weights .*'toi'"),
        ({"name": "pn4.toy", "weights": "a"}, "contradict each other"),
        ({"name": "pn4", "weights": None, "rank": 0}, "`rank` must be"),
        ({"name": "pn4", "weights": None, "order": 0}, "`order` must be"),
        (
            {"name": "pn4", "weights": None, "ranks": 2},
            "Unknown argument 'ranks'. Did you mean 'rank'",
        ),
        (
            {"name": "ncp4", "weights": None, "decomposition": "npc"},
            "Unknown decomposition 'npc'. Did you mean 'ncp'",
        ),
        (
            {"name": "pn_conv", "weights": None, "input_shape": (3, 28, 1)},
            "height and width of at least 4",
        ),
        (
            {"name": "pn_conv", "weights": None, "pooling": "mean"},
            "Unknown pooling 'mean'",
        ),
    ],
)
def test_errors(own_zoo, arguments, message):
    with pytest.raises(ValueError, match=message):
        zoo.load(**arguments)


def test_a_zoo_that_is_no_folder(monkeypatch):
    monkeypatch.setenv("KERAS_POLYNETS_ZOO", "/does/not/exist")
    with pytest.raises(FileNotFoundError, match="names '/does/not/exist'"):
        zoo.data_directory()
