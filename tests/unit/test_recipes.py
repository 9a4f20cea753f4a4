"""Recipes: what they may say, how they are changed, read and written."""

import json
import types

import keras
import numpy as np
import pytest

from keras_polynets import recipes
from keras_polynets.recipes import building
from keras_polynets.recipes import examples
from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.recipe import parse_override
from keras_polynets.recipes.recording import BestWeights

TEXT = """
model = "pn4"
epochs = 100
overrides = {rank = 4, name = "a \\"b\\""}

[data]
name = "fashion_mnist_sample"
validation = 500

[optimizer]
learning_rate = 1
momentum = 0.9

[schedule]
name = "step"
epochs = [25, 75]
factor = 0.2

[projection]
max_value = 1.5
start_epoch = 50

[evaluation]
attacks = ["fgsm:0.1", "pgd:0.1,20,0.01"]
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(TEXT)
    return path


def test_load_reads_types_and_defaults(path):
    recipe = recipes.load(path)
    assert (recipe.model, recipe.epochs, recipe.batch_size) == ("pn4", 100, 64)
    assert recipe.optimizer.learning_rate == 1.0
    assert type(recipe.optimizer.learning_rate) is float
    assert recipe.schedule.epochs == (25, 75)
    assert recipe.projection.every == 10
    assert recipe.overrides == {"rank": 4, "name": 'a "b"'}
    assert recipe.name == "recipe"


def test_round_trip_through_toml(path, tmp_path):
    recipe = recipes.load(path)
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert recipes.load(copy) == recipe
    assert recipes.Recipe.from_dict(recipe.to_dict()) == recipe
    assert json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()


def test_recipe_without_projection_round_trips(path, tmp_path):
    recipe = recipes.load(path, ["projection="])
    assert recipe.projection is None
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert recipes.load(copy) == recipe


def test_relinear_round_trips(path, tmp_path):
    assert recipes.load(path).optimizer.relinear is None
    overrides = ["optimizer.relinear.gate_factor=1e-4", "optimizer.name=adam"]
    recipe = recipes.load(path, overrides)
    assert recipe.optimizer.relinear.gate_factor == 1e-4
    assert recipe.optimizer.relinear.power_factor == 1.0
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml(defaults=False))
    assert "[optimizer.relinear]" in copy.read_text()
    assert recipes.load(copy) == recipe
    table = building.optimizer_table(recipe, steps_per_epoch=10)
    assert table["relinear"]["gate_factor"] == 1e-4
    assert table["relinear"]["shrinkage"] == "l1"


def test_overrides(path):
    overrides = [
        "epochs=80",
        "projection.max_value=2",
        "data.name=mnist",
        'initial_weights="a.weights.h5"',
        "augmentation.flip=true",
        "overrides.order=6",
        "evaluation.attacks=[]",
    ]
    recipe = recipes.load(path, overrides)
    assert recipe.epochs == 80
    assert recipe.projection.max_value == 2.0
    assert recipe.projection.start_epoch == 50
    assert recipe.data.name == "mnist"
    assert recipe.initial_weights == "a.weights.h5"
    assert recipe.augmentation.flip
    assert recipe.overrides["order"] == 6
    assert recipe.evaluation.attacks == ()
    assert recipes.load(path, {"epochs": 80}) == recipes.load(path).replace(
        {"epochs": 80}
    )


def test_override_must_have_an_equals_sign():
    assert parse_override("a.b = 3") == ("a.b", 3)
    assert parse_override("a=") == ("a", None)
    with pytest.raises(ValueError, match="form key=value, for example epochs"):
        parse_override("epochs")


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("epoch=3", ValueError, "recipe key 'epoch'. Did you mean 'epochs'"),
        (
            "data.valid=3",
            ValueError,
            "'data.valid'. Did you mean 'data.validation'",
        ),
        ("epochs=3.5", TypeError, r"'epochs' must be an integer.* 3.5 \(float"),
        ("epochs=true", TypeError, "'epochs' must be an integer"),
        ("epochs=0", ValueError, "'epochs' must be at least 1. Received: 0"),
        ("data=3", TypeError, "'data' must be a table"),
        ("epochs.a=3", ValueError, "'epochs.a' must be absent"),
        ("optimizer.learning_rate=fast", TypeError, "must be a number"),
        ("optimizer.learning_rate=0", ValueError, "must be above 0"),
        ("optimizer.learning_rate=inf", TypeError, "must be a number"),
        ("optimizer.weight_decay=-1", ValueError, "must be at least 0"),
        ("optimizer.relinear=1e-4", TypeError, "relinear' must be a table"),
        (
            "optimizer.relinear.gate_factr=1",
            ValueError,
            "'optimizer.relinear.gate_factr'. Did you mean",
        ),
        (
            "optimizer.relinear.power_factor=-1",
            ValueError,
            "'optimizer.relinear.power_factor' must be at least 0",
        ),
        (
            "optimizer.relinear.shrinkage=l3",
            ValueError,
            "Unknown shrinkage 'l3'",
        ),
        ("schedule.name=stepp", ValueError, "Unknown schedule 'stepp'. Did"),
        ("schedule.epochs=[3, 3]", ValueError, "increasing epochs"),
        ("schedule.epochs=[1.5]", TypeError, r"'schedule.epochs\[0\]'"),
        ("schedule.name=constant", ValueError, "absent for others"),
        ("schedule.factor=1", ValueError, r"must be in \(0, 1\)"),
        ("schedule.name=cosin", ValueError, "Did you mean 'cosine'"),
        ("schedule.final_rate=0.1", ValueError, "'cosine', absent for others"),
        ("projection.max_value=0", ValueError, "max_value' must be above 0"),
        ("projection.every=0", ValueError, "every' must be above 0"),
        ("augmentation.flip=1", TypeError, "must be true or false"),
        ("evaluation.attacks=fgsm", TypeError, "must be an array"),
        ("strategy=mirored", ValueError, "Did you mean 'mirrored'"),
        ("devices=2", ValueError, "0 without strategy = 'mirrored'"),
        ("model=", ValueError, "A recipe must say `model"),
    ],
)
def test_bad_recipes_are_explained(path, override, error, message):
    with pytest.raises(error, match=message):
        recipes.load(path, [override])


def test_plateau_cannot_be_warmed_up(path):
    plateau = {"schedule.name": "plateau", "schedule.epochs": None}
    recipe = recipes.load(path, plateau)
    with pytest.raises(ValueError, match="Keras cannot lower the rate of an"):
        recipe.replace({"schedule.warmup_epochs": 1})
    with pytest.raises(ValueError, match="such as 'loss' where data.validatio"):
        recipe.replace({"data.validation": 0})


def test_unknown_recipes(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_POLYNETS_ZOO", str(tmp_path))
    (tmp_path / "pn4").mkdir()
    for name in ("model.toml", "tag.toml"):
        (tmp_path / "pn4" / name).write_text(TEXT)
    assert recipes.load("pn4.tag").name == "pn4.tag"
    with pytest.raises(ValueError, match="Did you mean 'pn4.tag'"):
        recipes.load("pn4.tga")
    with pytest.raises(FileNotFoundError):
        recipes.load(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("model = ")
    with pytest.raises(ValueError, match="bad.toml' is not valid TOML"):
        recipes.load(bad)


def test_run_directory_belongs_to_one_recipe(path, tmp_path):
    recipe = recipes.load(path)
    directory = RunDirectory(tmp_path / "run")
    directory.claim(recipe)
    directory.claim(recipes.load(path))
    with pytest.raises(
        ValueError,
        match=r"run of another recipe \(epochs: 100 there, 3 asked for; "
        r"projection.max_value: 1.5 there, 2.0 asked for\)",
    ):
        directory.claim(
            recipe.replace({"epochs": 3, "projection.max_value": 2})
        )


def test_two_processes_do_not_train_in_one_folder(path, tmp_path):
    pytest.importorskip("fcntl")
    recipe = recipes.load(path)
    directory = RunDirectory(tmp_path / "run")
    directory.claim(recipe)
    # Each opens the file anew, as another process does.
    with (
        directory.held(),
        pytest.raises(RuntimeError, match="Another process trains in .*run'"),
    ):
        recipes.run(recipe, tmp_path / "run")
    with directory.held():
        pass


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(860, 43), (938, 67), (157, 157), (125, 25), (50, 50), (7, 7), (859, 1)],
)
def test_executions_divide_the_epoch(path, steps, expected):
    recipe = recipes.load(path)
    received = building.choose_steps_per_execution(recipe, steps, 0)
    assert received == expected and steps % received == 0


def test_executions_divide_what_is_left_of_the_epoch(path):
    recipe = recipes.load(path)
    assert building.choose_steps_per_execution(recipe, 860, 100) == 20
    mirrored = recipe.replace({"strategy": "mirrored"})
    received = building.choose_steps_per_execution(mirrored, 860, 0)
    assert received == "auto"


def rates(recipe, steps, steps_per_epoch=10):
    rate = building.learning_rate(recipe, steps_per_epoch)
    return [float(rate(step)) for step in steps]


def test_learning_rate_of_the_paper(path):
    recipe = recipes.load(path, {"optimizer.learning_rate": 0.001})
    steps = [0, 249, 250, 749, 750, 999]
    np.testing.assert_allclose(
        rates(recipe, steps), [1e-3, 1e-3, 2e-4, 2e-4, 4e-5, 4e-5], rtol=1e-6
    )
    warm = recipe.replace({"schedule.warmup_epochs": 2})
    np.testing.assert_allclose(
        rates(warm, [0, 9, 19, 20, 250]),
        [5e-5, 5e-4, 1e-3, 1e-3, 2e-4],
        rtol=1e-6,
    )


def test_cosine_ends_at_the_final_rate(path):
    cosine = {"name": "cosine", "final_rate": 1e-4}
    changes = {"optimizer.learning_rate": 0.1, "schedule": cosine}
    recipe = recipes.load(path, changes).replace({"epochs": 20})
    steps = np.array([0, 50, 100, 150, 199, 200])
    half_wave = (1 + np.cos(np.pi * steps / 200)) / 2
    expected = 1e-4 + (0.1 - 1e-4) * half_wave
    # Near the end float32 takes the difference of 1 and the cosine.
    np.testing.assert_allclose(rates(recipe, steps), expected, rtol=1e-4)
    assert rates(recipe, [200]) == pytest.approx([1e-4], rel=1e-4)
    warm = recipe.replace({"schedule.warmup_epochs": 2})
    np.testing.assert_allclose(
        rates(warm, steps[:2]), expected[:2] * [1 / 20, 1], rtol=1e-4
    )
    to_zero = recipe.replace({"schedule.final_rate": None})
    assert rates(to_zero, [200]) == pytest.approx([0], abs=1e-8)
    for rate, message in (
        (0.1, "below the learning rate, 0.1"),
        (-1, "at least 0 for name = 'cosine'"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe.replace({"schedule.final_rate": rate})


def test_training_model_takes_stored_data(path):
    changes = {
        "overrides": {"dtype": "mixed_float16"},
        "augmentation": {"crop_padding": 2, "flip": True},
        "optimizer.weight_decay": 1e-4,
        "schedule": None,
    }
    recipe = recipes.load(path, changes)
    splits = examples.examples_of(recipe)
    assert len(splits.y) == 9500 and len(splits.validation[1]) == 500
    model = building.network(recipe, splits.dataset)
    outer = building.training_model(recipe, model, splits, 10, 5)
    names = [type(layer).__name__ for layer in outer.layers]
    assert names[:3] == ["RandomPadCrop", "RandomFlip", "Rescaling"]
    assert outer.layers[-1] is model and outer.steps_per_execution == 5
    states = [v for v in outer.variables if "seed" in v.path]
    assert len(states) == 2
    images = splits.x[:4]
    expected = model(model.preprocessor(images))
    np.testing.assert_allclose(
        outer(images, training=False), expected, atol=1e-6
    )
    # Keras scales the loss where the policy is mixed_float16.
    assert isinstance(outer.optimizer, keras.optimizers.LossScaleOptimizer)
    inner = outer.optimizer.inner_optimizer
    assert inner.coupled_weight_decay == 1e-4
    assert inner.inner_optimizer.momentum == 0.9


@pytest.mark.parametrize(
    ("changes", "stored_shape", "kind"),
    [
        ({"augmentation.gain": [0.5, 1.0]}, (28, 28, 1), "recordings"),
        ({"augmentation.shift": 9}, (28, 28, 1), "recordings"),
        ({"augmentation.flip": True}, (16000,), "images"),
        ({"augmentation.crop_padding": 4}, (16000,), "images"),
    ],
)
def test_augmentation_of_the_other_kind_is_refused(
    path, changes, stored_shape, kind
):
    model = types.SimpleNamespace(stored_shape=stored_shape)
    with pytest.raises(ValueError, match=f"Augmentation of {kind} does not"):
        building._augmentation(recipes.load(path, changes), model, None)


def test_best_weights_forget_epochs_before_the_projection():
    saved = []
    best = BestWeights("p", lambda *_: saved.append(True), first_epoch=5)
    best.set_model(keras.Sequential())
    best.set_state({"best": 0.9, "best_epoch": 3})
    best.on_epoch_end(4, {"val_accuracy": 0.95})
    assert best.best is None and not saved
    best.on_epoch_end(5, {"val_accuracy": 0.5})
    best.on_epoch_end(6, {"val_accuracy": 0.5})
    assert best.get_state() == {"best": 0.5, "best_epoch": 5}
    assert len(saved) == 1
