"""What a run trains on: recordings, streamed images, and their measures."""

import dataclasses
import io

import keras
import numpy as np
import pytest

from keras_polynets import callbacks
from keras_polynets import recipes
from keras_polynets.recipes import building
from keras_polynets.recipes import evaluating
from keras_polynets.recipes import examples
from keras_polynets.recipes.directory import RunDirectory

SPEECH = {
    "model": "resnet34_speech",
    "epochs": 2,
    "batch_size": 3,
    "backup_steps": 1,
    "overrides": {"width": 2, "blocks": [1]},
    "augmentation": {
        "gain": [0.5, 2.0],
        "speed": 0.2,
        "shift": 500,
        "noise": 0.3,
    },
    "evaluation": {"top_k": [2]},
}
STREAM = {
    "model": "resnet18",
    "epochs": 2,
    "batch_size": 3,
    "backup_steps": 1,
    "overrides": {"width": 2, "blocks": [1]},
    "stream": {"size": 8, "resize": 9},
    "augmentation": {"flip": True},
    "evaluation": {"top_k": [1, 2], "crops": 10},
}


@pytest.fixture
def digits(tmp_path):
    """Writes 10 recordings that train, 6 that select and 6 that test."""
    wavfile = pytest.importorskip("scipy.io.wavfile")
    rng = np.random.default_rng(0)
    folder = tmp_path / "digits"
    folder.mkdir()
    for speaker, count in (("ann", 5), ("bob", 3), ("cyd", 3)):
        for digit in "01":
            for i in range(count):
                wave = rng.integers(-9000, 9000, 5000, "int16")
                path = folder / f"{digit}_{speaker}_{i}.wav"
                wavfile.write(path, 8000, wave)
    return recipes.Recipe.from_dict(
        SPEECH
        | {
            "data": {
                "name": str(folder),
                "split": "speaker:cyd,bob",
                "own_validation": True,
            }
        }
    )


@pytest.fixture
def images(tmp_path):
    """Writes 10 images that train and 4 that test."""
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    for part, count in (("train", 5), ("val", 2)):
        for word in ("ant", "bee"):
            (folder / part / word).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (12 + i, 14, 3), "uint8")
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                path = folder / part / word / f"{i}.png"
                path.write_bytes(buffer.getvalue())
    return recipes.Recipe.from_dict(STREAM | {"data": {"name": str(folder)}})


class Killed(Exception):
    pass


def check_digits(result):
    assert result["training_examples"] == 10
    assert result["validation"]["examples"] == 6 == result["test"]["examples"]
    # Of two classes every one is among the first two.
    assert result["test"]["top_2_accuracy"] == 1.0
    assert result["weights"] == "best"


def check_images(result):
    test = result["test"]
    assert (result["training_examples"], test["examples"]) == (10, 4)
    assert test["top_1_accuracy"] == test["accuracy"]
    assert test["top_2_accuracy"] == 1.0 and result["validation"] is None
    assert result["weights"] == "last"


@pytest.mark.parametrize(
    "name, check", [("digits", check_digits), ("images", check_images)]
)
def test_a_killed_run_goes_on_with_the_same_data(
    name, check, request, tmp_path, monkeypatch
):
    recipe = request.getfixturevalue(name)
    # So that an epoch of 4 steps has a middle.
    monkeypatch.setattr(building, "MOST_STEPS_PER_EXECUTION", 2)
    whole = recipes.run(recipe, tmp_path / "whole", verbose=0)
    check(whole)
    end_of_step = callbacks.Backup.on_train_batch_end

    def dying(self, batch, logs=None):
        end_of_step(self, batch, logs)
        if self._position.global_step == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Backup, "on_train_batch_end", dying)
        with pytest.raises(Killed):
            recipes.run(recipe, tmp_path / "killed", verbose=0)
    assert not RunDirectory(tmp_path / "killed").result.exists()
    again = recipes.run(recipe, tmp_path / "killed", verbose=0)
    assert again["steps_per_epoch"] == 4
    assert again["test"] == whole["test"]
    losses = [
        np.genfromtxt(tmp_path / run / "history.csv", delimiter=",", names=True)
        for run in ("whole", "killed")
    ]
    np.testing.assert_allclose(losses[1]["loss"], losses[0]["loss"], rtol=1e-4)
    assert losses[0]["epoch"].tolist() == [0, 1]


def test_streamed_images_give_a_curve_of_the_test(images, tmp_path):
    changes = {"evaluation.test_curve": True, "epochs": 1}
    with pytest.raises(ValueError, match="false where evaluation.crops = 10"):
        images.replace(changes)
    changes["evaluation.crops"] = 1
    result = recipes.run(images.replace(changes), tmp_path / "run", verbose=0)
    history = np.genfromtxt(
        tmp_path / "run" / "history.csv", delimiter=",", names=True
    )
    assert history["test_accuracy"] == pytest.approx(result["test"]["accuracy"])


class Model:
    """Gives its inputs as logits."""

    def preprocessor(self, inputs):
        return inputs

    def predict_on_batch(self, inputs):
        return np.reshape(inputs, (len(inputs), -1))


def test_top_accuracies():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 1, 1, 6))
    labels = rng.integers(0, 6, 50)
    found = evaluating.top_accuracies(Model(), (logits, labels), (1, 3), 7)
    order = np.argsort(-logits[:, 0, 0])
    expected = [np.mean(order[:, 0] == labels)]
    expected.append(np.mean(np.any(order[:, :3] == labels[:, None], axis=1)))
    assert found == {
        "accuracy": expected[0],
        "top_1_accuracy": expected[0],
        "top_3_accuracy": expected[1],
    }
    nothing = evaluating.top_accuracies(
        Model(), (np.full((4, 1, 1, 6), np.nan), labels[:4]), (5,), 7
    )
    assert nothing == {"accuracy": 0, "top_5_accuracy": 0}


def test_of_equal_scores_the_first_is_right():
    scores = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [np.nan, 1, 0, 0]])
    ranks = [evaluating._rank(scores, np.full(3, label)) for label in range(4)]
    assert np.transpose(ranks).tolist() == [
        [0, 1, 2, 3],
        [0, 1, 2, 3],
        [4, 1, 2, 3],
    ]


def test_probabilities_of_crops_are_averaged():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 10, 1, 1, 4)) * 3
    labels = rng.integers(0, 4, 30)
    batches = [(logits[:20], labels[:20]), (logits[20:], labels[20:])]
    found = evaluating.top_accuracies(Model(), batches, (), 1)
    odds = np.exp(logits[:, :, 0, 0])
    mean = np.mean(odds / odds.sum(-1, keepdims=True), axis=1)
    assert found["accuracy"] == np.mean(mean.argmax(-1) == labels)


def test_the_rate_goes_with_the_batch():
    recipe = recipes.Recipe.from_dict(
        {
            "model": "pn4",
            "batch_size": 1024,
            "optimizer": {"learning_rate": 0.1, "reference_batch_size": 256},
        }
    )
    assert recipe.learning_rate == pytest.approx(0.4)
    for batch, rate in ((512, 0.2), (256, 0.1), (64, 0.025)):
        changed = recipe.replace({"batch_size": batch})
        table = building.optimizer_table(changed, steps_per_epoch=3)
        assert table["learning_rate"] == pytest.approx(rate)
        assert "reference_batch_size" not in table
    steps = {"schedule": {"name": "step", "epochs": [1], "warmup_epochs": 1}}
    warm = building.learning_rate(
        recipe.replace({"epochs": 3, **steps}), steps_per_epoch=4
    )
    rates = [float(keras.ops.convert_to_numpy(warm(i))) for i in (0, 3, 4)]
    assert rates == pytest.approx([0.1, 0.4, 0.04])
    plain = recipe.replace({"optimizer.reference_batch_size": 0})
    assert plain.learning_rate == 0.1


def test_a_set_without_held_out_examples(digits):
    recipe = digits.replace({"data.split": "speaker:cyd"})
    with pytest.raises(ValueError, match="holds nothing out to select"):
        examples.examples_of(recipe)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"augmentation": {"flip": True}}, "Augmentation of images does not"),
        ({"model": "resnet18"}, "takes images, and the set .* recordings"),
    ],
)
def test_recordings_need_their_own_model_and_augmentation(
    digits, changes, message, tmp_path
):
    with pytest.raises(ValueError, match=message):
        recipes.run(digits.replace(changes), tmp_path / "run", verbose=0)


def test_images_have_no_gain():
    recipe = recipes.Recipe.from_dict(
        {"model": "pn4", "augmentation": {"gain": [0.5, 1.0]}}
    )
    splits = examples.examples_of(recipe)
    model = building.network(recipe, splits.dataset)
    with pytest.raises(ValueError, match="Augmentation of recordings does not"):
        building.training_model(recipe, model, splits, 10, 1)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data.validation": 5}, "'stream' must be absent where examples are"),
        ({"stream": None}, "'evaluation.crops' must be 1 without .stream"),
        (
            {"evaluation.crops": 5},
            "'evaluation.crops' must be 1, or 10 without",
        ),
        ({"evaluation.top_k": [0]}, "top_k' must be integers of at least 1"),
        ({"stream.area": [0.5]}, "stream.area' must be two numbers"),
        ({"stream.resize": 7}, "at least stream.size = 8"),
        ({"augmentation.gain": [2.0, 1.0]}, "augmentation.gain' must be empty"),
        ({"augmentation.speed": 1.0}, "speed' must be at least 0 and below 1"),
        ({"augmentation.noise": 1.5}, "noise' must be at least 0 and at most"),
        ({"augmentation.shift": -1}, "augmentation.shift' must be at least 0"),
        ({"augmentation.probability": 0}, r"probability' must be in \(0, 1\]"),
        (
            {"optimizer.reference_batch_size": -1},
            "reference_batch_size' must be at least 0",
        ),
        (
            {"data": {"validation": 3, "own_validation": True}},
            "validation' must be 0 where data.own_validation = true",
        ),
    ],
)
def test_bad_keys(changes, message):
    recipe = recipes.Recipe.from_dict(STREAM)
    with pytest.raises(ValueError, match=message):
        recipe.replace(changes)


def test_new_sections_come_back_from_toml(tmp_path):
    for values in (STREAM, SPEECH):
        recipe = recipes.Recipe.from_dict(values)
        path = tmp_path / "recipe.toml"
        path.write_text(recipe.to_toml(defaults=False), encoding="utf-8")
        assert dataclasses.replace(recipes.load(path), name="") == recipe


def test_some_examples_are_of_all_classes():
    """Class folders go by class: the first examples are of one."""
    x = np.arange(1000)
    y = np.repeat(np.arange(10), 100)
    some_x, some_y = examples.spread((x, y), 200)
    np.testing.assert_array_equal(np.bincount(some_y), np.full(10, 20))
    np.testing.assert_array_equal(y[some_x], some_y)
    for number in (1, 7, 999, 1000):
        (chosen,) = examples.spread((x,), number)
        assert len(set(chosen.tolist())) == number
