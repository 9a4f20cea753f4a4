"""What the zoo says of its models."""

import pathlib

import numpy as np
import pytest

from keras_polynets import models
from keras_polynets import zoo


def test_info(own_zoo):
    info = zoo.info("pn4")
    assert info["parameters"] == 50_346
    assert info["default"] == "toy" and info["recipes"] == ["toy"]
    assert info["tags"]["toy"]["results"] == {"test": {"accuracy": 0.5}}
    assert list(zoo.info("pn4.toy")["tags"]) == ["toy"]
    with pytest.raises(ValueError, match="Unknown weights of 'pn4' 'x'"):
        zoo.info("pn4.x")
    assert info["weights"] == []


@pytest.mark.parametrize("name", ["resnet50", "prodpoly_resnet50"])
def test_info_names_the_weights_that_keras_has(name):
    assert zoo.info(name)["weights"] == ["imagenet"]


def test_weights_that_a_recipe_alone_has(own_zoo):
    folder, _ = own_zoo
    (folder / "other.toml").write_text('model = "pn4"\n')
    for arguments in (
        {"name": "pn4.other"},
        {"name": "pn4", "weights": "other"},
    ):
        with pytest.raises(
            ValueError, match="a recipe alone. Run `keras-polynets train pn4.ot"
        ):
            zoo.load(**arguments)


def test_list_models(own_zoo):
    assert zoo.list_models("pn*") == ["pn10", "pn4", "pn_conv"]
    assert zoo.list_models(weights=True) == ["pn4"]
    assert zoo.list_models(weights="toy") == ["pn4"]
    assert "pn4" not in zoo.list_models(weights=False)
    assert "pn4" in zoo.list_models(family="polynomial nets")
    assert zoo.list_models("*", task="image classification")
    with pytest.raises(ValueError, match="Unknown family 'polynomial'.*nets"):
        zoo.list_models(family="polynomial")


def test_register():
    @zoo.register("own_net", family="own", parameters=12)
    def build(**kwargs):
        """A net of one's own."""
        return models.PolynomialNet(**{"order": 2} | kwargs)

    try:
        model = zoo.load("own_net", weights=None, rank=1, input_shape=(3,))
        assert model.output_shape == (None, 10)
        assert zoo.info("own_net")["description"] == "A net of one's own."
        with pytest.raises(ValueError, match="'own_net' is registered already"):
            zoo.register("own_net", family="own")(build)
    finally:
        zoo.registry._ENTRIES.pop("own_net")
    with pytest.raises(ValueError, match="must hold no dot"):
        zoo.register("own.net", family="own")(build)


def test_decode_predictions():
    model = zoo.load("pn4", weights=None, classes=3)
    logits = np.log([[0.2, 0.5, 0.3]])
    decoded = zoo.decode_predictions(logits, model, top=2)
    assert [name for name, _ in decoded[0]] == ["1", "2"]
    np.testing.assert_allclose(
        [p for _, p in decoded[0]], [0.5, 0.3], rtol=1e-6
    )
    model.class_names = ["x", "y", "z"]
    assert zoo.decode_predictions(logits, model)[0][0][0] == "y"
    with pytest.raises(ValueError, match=r"of shape \(batch_size, 3\)"):
        zoo.decode_predictions(np.zeros((1, 4)), model)
    with pytest.raises(ValueError, match="3 class names.*Received 2"):
        model.class_names = ["x", "y"]


def test_card(own_zoo):
    folder, _ = own_zoo
    with pytest.raises(FileNotFoundError, match="'pn4' has no card"):
        zoo.card("pn4")
    path = pathlib.Path(folder / "card.md")
    zoo.cards.write_results(path, "first")
    path.write_text("# PN-4\n\n" + path.read_text() + "\nAfter.\n")
    zoo.cards.write_results(path, "second")
    text = zoo.card("pn4.toy")
    assert "first" not in text and "second" in text
    assert text.startswith("# PN-4") and text.endswith("After.\n")
