import contextlib
import json
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest

from keras_polynets import _files
from keras_polynets import models
from keras_polynets import optimizers
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


def same_weights(a, b):
    return all(
        np.array_equal(x, y)
        for x, y in zip(a.get_weights(), b.get_weights(), strict=True)
    )


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
        ("test_pn_conv", {"pool_after": (3, 3)}, r"pool_after=\(2, 3\)"),
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


def test_another_hash_is_refused(own_zoo):
    folder, _ = own_zoo
    path = folder / "toy.weights.h5"
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="Expected sha256 .* received"):
        zoo.load("pn4")


def test_a_missing_file_is_said(own_zoo):
    folder, _ = own_zoo
    (folder / "toy.weights.h5").unlink()
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        zoo.load("pn4")


def test_files_and_folders(own_zoo, tmp_path):
    folder, trained = own_zoo
    arguments = {"rank": 3, "input_shape": (6, 5, 1), "classes": 4}
    shutil.copy(folder / "toy.weights.h5", tmp_path / "mine.weights.h5")
    for source in (tmp_path / "mine.weights.h5", tmp_path, str(tmp_path)):
        model = zoo.load("pn4", weights=source, **arguments)
        assert same_weights(model, trained)
    shutil.copy(folder / "toy.weights.h5", tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match="mine.weights.h5, other.weights.h5"):
        zoo.load("pn4", weights=tmp_path, **arguments)
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        zoo.load("pn4", weights=tmp_path / "no.weights.h5", **arguments)


def test_urls(own_zoo, tmp_path, monkeypatch):
    folder, trained = own_zoo
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    arguments = {"rank": 3, "input_shape": (6, 5, 1), "classes": 4}
    path = folder / "toy.weights.h5"
    url = path.as_uri()
    digest = _files.sha256(path)
    for _ in range(2):
        model = zoo.load("pn4", weights=f"{url}#sha256={digest}", **arguments)
        assert same_weights(model, trained)
        path.unlink(missing_ok=True)  # The second time it is in the cache.
    with pytest.raises(ValueError, match="must end in #sha256="):
        zoo.load("pn4", weights=url, **arguments)


def test_a_damaged_download_is_dropped(own_zoo, tmp_path, monkeypatch):
    folder, _ = own_zoo
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    url = (folder / "toy.weights.h5").as_uri()
    with pytest.raises(ValueError, match="dropped. Expected sha256 0000"):
        zoo.load("pn4", weights=f"{url}#sha256={'0' * 64}")
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]


def test_an_unreachable_url_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    url = (tmp_path / "none.weights.h5").as_uri()
    with pytest.raises(OSError, match="Could not fetch .*pass its path"):
        zoo.load("pn4", weights=f"{url}#sha256={'0' * 64}")


SMALL = {"width": 4, "blocks": (1, 1)}


@pytest.mark.parametrize(
    "source, target, expected",
    [
        (
            {"name": "pn4"},
            {"name": "pn10"},
            [
                r"polynomial/factors: \(784, 64\) in the weights, "
                r"\(784, 160\) in the model"
            ],
        ),
        (
            # Keras would compare kernels of other layers.
            {"name": "resnet18", **SMALL},
            {"name": "prodpoly_resnet18", **SMALL},
            [
                r"block1_operand: nothing in the weights, \(1, 1, 4, 4\) in",
                "stage1_block1_product2_conv: nothing",
            ],
        ),
        (
            # Keras would take the first layers in silence.
            {"name": "resnet20", "blocks": (2,)},
            {"name": "resnet20", "blocks": (1,)},
            [r"stage1_block2_conv1: \(3, 3, 16, 16\) in the weights, nothing"],
        ),
        (
            {"name": "resnet18", "width": 4},
            {"name": "resnet18", "width": 8},
            [r"\n  and \d+ more\nLoad them with the name and the arguments"],
        ),
    ],
)
def test_weights_of_another_architecture(
    tmp_path, recwarn, source, target, expected
):
    path = tmp_path / "other.weights.h5"
    zoo.weights.save(zoo.load(**source, weights=None), path)
    with pytest.raises(ValueError, match="do not fit the model") as error:
        zoo.load(**target, weights=path)
    for text in (re.escape(path.name), *expected):
        assert re.search(text, str(error.value)), text
    assert len(str(error.value).splitlines()) < 12
    assert not [w for w in recwarn if w.category is UserWarning]


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: b"no weights", "no file of Keras weights, or damaged"),
        (lambda data: data[:-1000], "damaged"),
    ],
)
def test_load_into_leaves_the_model_as_it_was(tmp_path, damage, message):
    path = tmp_path / "broken.weights.h5"
    model = zoo.load("pn4", weights=None)
    zoo.weights.save(model, path)
    path.write_bytes(damage(path.read_bytes()))
    model = zoo.load("pn4", weights=None)
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        zoo.weights.load_into(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_names_that_keras_makes_need_not_agree(tmp_path):
    """Such as those of the layers of a model of the user's."""
    models = [
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        for _ in range(2)
    ]
    models[0].compile("adam", "mse")
    models[0].fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    zoo.weights.save(models[0], tmp_path / "own.weights.h5")
    zoo.weights.load_into(models[1], tmp_path / "own.weights.h5")
    assert same_weights(*models)


@pytest.mark.parametrize(
    "arguments, outputs",
    [
        ({"classes": 7}, 7),
        ({"classes": 4}, 4),
        ({}, 4),
        ({"include_top": False, "pooling": "avg"}, 4 * 2),
    ],
)
def test_classes_of_files(tmp_path, arguments, outputs):
    path = tmp_path / "four.weights.h5"
    trained = zoo.load("resnet18", weights=None, classes=4, **SMALL)
    zoo.weights.save(trained, path)
    fresh = arguments.get("classes") == 7
    with (
        pytest.warns(UserWarning, match="four.weights.h5' .* 4 classes.*head/")
        if fresh
        else contextlib.nullcontext()
    ):
        model = zoo.load("resnet18", weights=path, **SMALL, **arguments)
    assert model.output_shape == (None, outputs)
    body = len(trained.weights) - 2
    for old, new in zip(
        trained.weights, model.weights[: body if fresh else None], strict=False
    ):
        np.testing.assert_array_equal(old, new)


def test_weights_files_have_one_ending(tmp_path):
    with pytest.raises(ValueError, match=r"named \*.weights.h5"):
        zoo.weights.save(zoo.load("pn4", weights=None), tmp_path / "a.keras")


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


def test_info(own_zoo):
    info = zoo.info("pn4")
    assert info["parameters"] == 50_346
    assert info["default"] == "toy" and info["recipes"] == ["toy"]
    assert info["tags"]["toy"]["results"] == {"test": {"accuracy": 0.5}}
    assert list(zoo.info("pn4.toy")["tags"]) == ["toy"]
    with pytest.raises(ValueError, match="Unknown weights of 'pn4' 'x'"):
        zoo.info("pn4.x")


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


def test_compile_model_refuses_unknown_optimizers():
    model = zoo.load("pn4", weights=None)
    with pytest.raises(ValueError, match="Cannot make the optimizer 'sdg'"):
        zoo.compile_model(model, {"name": "sdg"})
    with pytest.raises(ValueError, match="Cannot make the optimizer 'sgd'"):
        zoo.compile_model(model, {"name": "sgd", "momentun": 0.9})


def test_optimizer_table_with_relinear():
    optimizer = zoo.compilation.make_optimizer(
        {
            "name": "sgd",
            "learning_rate": 0.1,
            "weight_decay": 1e-4,
            "relinear": {"gate_factor": 1e-4, "power_factor": 1e-3},
        }
    )
    assert type(optimizer) is optimizers.ReLinear
    assert optimizer.get_config()["power_factor"] == 1e-3
    assert type(optimizer.inner_optimizer) is optimizers.CoupledWeightDecay
    with pytest.raises(ValueError, match="ReLinear cannot wrap Ftrl"):
        zoo.compilation.make_optimizer({"name": "ftrl", "relinear": {}})


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs single steps"
)
def test_steps_per_execution_are_chosen():
    assert zoo.load("pn4", weights=None).steps_per_execution == 50
