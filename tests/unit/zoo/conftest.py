"""A zoo of the tests' own."""

import json

import pytest

from keras_polynets import zoo


@pytest.fixture
def own_zoo(tmp_path, monkeypatch):
    """A zoo with trained weights of a small `pn4`, written by hand."""
    monkeypatch.setenv("KERAS_POLYNETS_ZOO", str(tmp_path / "zoo"))
    folder = tmp_path / "zoo" / "pn4"
    folder.mkdir(parents=True)
    model = zoo.load(
        "pn4", weights=None, rank=3, input_shape=(6, 5, 1), classes=4
    )
    digest = zoo.weights.save(model, folder / "toy.weights.h5")
    (folder / "toy.toml").write_text(
        'model = "pn4"\n[optimizer]\nname = "sgd"\nlearning_rate = 0.25\n'
    )
    (folder / "toy.json").write_text(json.dumps({"test": {"accuracy": 0.5}}))
    (folder / "model.toml").write_text(
        f"""
        default = "toy"
        [tags.toy]
        weights = "toy.weights.h5"
        sha256 = "{digest}"
        classes = 4
        class_names = ["a", "b", "c", "d"]
        input_shape = [6, 5, 1]
        [tags.toy.overrides]
        rank = 3
        """
    )
    return folder, model
