"""The embedded sample and the script that makes it."""

import pathlib

import numpy as np
import pytest

from keras_polynets.data import load
from keras_polynets.data import sample
from keras_polynets.data.archives import DEBIAN

ARCHIVES = pathlib.Path(DEBIAN["fashion_mnist"].folder)


def test_embedded_sample():
    data = load("fashion_mnist_sample")
    assert data.name == "fashion_mnist_sample"
    assert data.x_train.shape == (10_000, 28, 28, 1)
    assert data.x_test.shape == (2_000, 28, 28, 1)
    assert data.x_train.dtype == data.x_test.dtype == np.uint8
    assert data.y_train.dtype == data.y_test.dtype == np.int32
    assert np.bincount(data.y_train).tolist() == [1000] * 10
    assert np.bincount(data.y_test).tolist() == [200] * 10
    assert data.x_train.max() == 255 and data.x_train.min() == 0
    assert len(data.class_names) == 10 and data.class_names[9] == "Ankle boot"
    assert "2017 Zalando SE" in data.source


def test_classes_are_mixed_in_the_stored_order():
    assert len(set(load("fashion_mnist_sample").y_train[:100])) == 10


def test_notice_lies_beside_the_sample():
    notice = sample.PATH.with_suffix(".LICENSE.txt").read_text()
    assert "The MIT License" in notice
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in notice


def test_small_enough_for_a_package():
    assert sample.PATH.stat().st_size < 6_000_000


def test_damaged_sample_is_refused(monkeypatch, tmp_path):
    damaged = tmp_path / "sample.npz"
    damaged.write_bytes(sample.PATH.read_bytes()[:-1])
    monkeypatch.setattr(sample, "PATH", damaged)
    with pytest.raises(ValueError, match=f"expected sha256 {sample.SHA256}"):
        load("fashion_mnist_sample")
    damaged.unlink()
    with pytest.raises(FileNotFoundError, match="installation .* incomplete"):
        load("fashion_mnist_sample")


@pytest.mark.skipif(
    not ARCHIVES.is_dir(), reason="Debian's dataset-fashion-mnist is absent"
)
def test_script_makes_the_same_bytes(tmp_path, capsys):
    script = pytest.importorskip("training.make_fashion_mnist_sample")
    output = tmp_path / "sample.npz"
    script.main(["--output", str(output)])
    with np.load(output) as made, np.load(sample.PATH) as stored:
        assert sorted(made) == sorted(stored)
        for name in made:
            np.testing.assert_array_equal(made[name], stored[name])
        train_index = made["train_index"]
        images = script.read_idx(ARCHIVES, "train-images-idx3-ubyte")
        np.testing.assert_array_equal(
            made["x_train"][..., 0], images[train_index]
        )
    assert sample.SHA256 in capsys.readouterr().out


def test_script_refuses_other_archives(tmp_path):
    script = pytest.importorskip("training.make_fashion_mnist_sample")
    with pytest.raises(SystemExit, match="train-images.*is missing"):
        script.main([str(tmp_path), "--output", str(tmp_path / "out.npz")])
    import gzip

    name = "train-images-idx3-ubyte"
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"not the images"))
    with pytest.raises(SystemExit, match="is not the original"):
        script.main([str(tmp_path), "--output", str(tmp_path / "out.npz")])
    assert not (tmp_path / "out.npz").exists()
