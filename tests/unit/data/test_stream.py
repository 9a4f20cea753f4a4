"""Images that are read while they are used, and how they are cut."""

import io

import keras
import numpy as np
import pytest

from keras_polynets import data

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("tensorflow")


def encoded(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=95)
    return buffer.getvalue()


def coordinates(height, width):
    """Returns an image whose channels are row, column and a constant."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([rows, columns, np.full_like(rows, 9)], axis=-1)
    return pixels.astype("uint8")


@pytest.fixture
def folder(tmp_path):
    """Writes 6 training and 2 test images of several sizes and kinds."""
    root = tmp_path / "set"
    value = 0
    for part, count in (("train", 3), ("val", 1)):
        for word in ("ant", "bee"):
            (root / part / word).mkdir(parents=True)
            for i in range(count):
                kind = "PNG" if i % 2 else "JPEG"
                pixels = np.full((40 + i, 50 - 2 * i, 3), 20 * value, "uint8")
                path = root / part / word / f"{i}.{kind}"
                path.write_bytes(encoded(pixels, kind))
                value += 1
    return root


class Source:
    """Images in memory, as `data.stream` gives access to files."""

    def __init__(self, images):
        self.images = [encoded(image) for image in images]

    def __len__(self):
        return len(self.images)

    def read(self, indices):
        labels = np.asarray(indices, "int32")
        return [self.images[i] for i in indices], labels


def taken(batches, number):
    return [(x.numpy(), y.numpy()) for x, y in batches.dataset().take(number)]


def test_a_folder(folder):
    streamed = data.stream(folder)
    assert streamed.class_names == ("ant", "bee")
    assert (len(streamed.train), len(streamed.test)) == (6, 2)
    batches = data.CroppedBatches(streamed.train, 4, seed=3, size=8)
    assert batches.steps_per_epoch == 2
    (x, y), (more_x, more_y) = taken(batches, 2)
    assert x.shape == (4, 8, 8, 3) and x.dtype == np.uint8
    assert more_x.shape == (2, 8, 8, 3)
    # Each image is of one brightness, 20 times its number.
    found = np.concatenate([x, more_x]).mean((1, 2, 3)) / 20
    labels = np.concatenate([y, more_y])
    np.testing.assert_allclose(np.sort(found), np.arange(6), atol=0.1)
    np.testing.assert_array_equal(labels, found > 2.5)
    tested = list(data.evaluation_batches(streamed.test, 9, 8, 10))
    assert [t[1].numpy().tolist() for t in tested] == [[0, 1]]
    np.testing.assert_allclose(
        tested[0][0].numpy()[:, 4, 4, 0], [120, 140], 0.02
    )


def whole(kind):
    return encoded(coordinates(60, 80), kind)


@pytest.mark.parametrize(
    "content, problem",
    [
        (b"", r"is not a .* begins with b'"),
        (b"<html>", r"is not a .* begins with b'"),
        (
            whole("JPEG")[:-40],
            r"is an image that breaks off after [\d,]+ bytes. Get it again",
        ),
        (
            whole("PNG")[:-40],
            r"is an image that breaks off after [\d,]+ bytes. Get it again",
        ),
        # A thumbnail before the scan, which ends.
        (
            whole("JPEG").replace(
                b"\xff\xda", b"\xff\xe1\0\4\xff\xd9\xff\xda", 1
            )[:-40],
            "is an image that breaks off after",
        ),
    ],
)
def test_a_file_that_is_no_whole_image_is_named(content, problem, folder):
    for part in ("train", "val"):
        (folder / part / "bee" / "0.JPEG").write_bytes(content)
    streamed = data.stream(folder)
    for batches, part in (
        (data.CroppedBatches(streamed.train, 6, 0, size=8).dataset(), "train"),
        (data.evaluation_batches(streamed.test, 2, 8, 10), "val"),
    ):
        with pytest.raises(Exception, match=f"{part}/bee/0.JPEG {problem}"):
            list(batches.take(1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_follows_an_image_does_not_matter(kind, folder):
    path = folder / "val" / "bee" / "0.JPEG"
    path.write_bytes(whole(kind) + b"\0" * 100 + b"a note")
    (batch,) = data.evaluation_batches(data.stream(folder).test, 2, 8, 10)
    assert batch[0].shape == (2, 8, 8, 3)


def test_a_batch_is_a_function_of_seed_and_step():
    images = [coordinates(30 + i, 40) for i in range(7)]
    whole = taken(data.CroppedBatches(Source(images), 3, seed=5, size=6), 6)
    for first in (0, 2, 4):
        later = data.CroppedBatches(
            Source(images), 3, seed=5, first_step=first, size=6
        )
        for a, b in zip(whole[first:], taken(later, 6 - first), strict=True):
            np.testing.assert_array_equal(a[0], b[0])
            np.testing.assert_array_equal(a[1], b[1])
    order = data.Batches(np.zeros(7), np.zeros(7), 3, seed=5)
    for step, (_, labels) in enumerate(whole):
        np.testing.assert_array_equal(labels, order.indices(step))
    # The same image is cut elsewhere in the next epoch and by another seed.
    epochs = [np.concatenate([x for x, _ in whole[i : i + 3]]) for i in (0, 3)]
    places = [np.argsort(order._permutation(i)) for i in (0, 1)]
    assert not np.array_equal(epochs[0][places[0]], epochs[1][places[1]])
    (other,) = taken(data.CroppedBatches(Source(images), 7, 2**63 + 5), 1)
    assert other[0].shape == (7, 224, 224, 3)


def test_random_crops_are_parts_of_the_drawn_area_and_aspect():
    pixels = coordinates(100, 120)
    batches = data.CroppedBatches(
        Source([pixels] * 40), 40, seed=0, size=16, area=(0.2, 0.5)
    )
    x = np.concatenate([x for x, _ in taken(batches, 5)]).astype(float)
    # From one pixel to the next, 1 / 16 of the side.
    heights = 16 * (x[:, 12, 8, 0] - x[:, 4, 8, 0]) / 8
    widths = 16 * (x[:, 8, 12, 1] - x[:, 8, 4, 1]) / 8
    shares, aspects = heights * widths / 12000, widths / heights
    assert 0.18 < shares.min() < 0.24 and 0.46 < shares.max() < 0.53
    assert 0.7 < aspects.min() < 0.8 and 1.25 < aspects.max() < 1.4
    assert np.all(x[..., 2] == 9)
    tops = x[:, 0, 0, 0]
    assert tops.min() < 8 and tops.max() > 30


def test_a_jpeg_is_cut_as_a_whole_image_is():
    pixels = np.kron(coordinates(9, 12) * 20, np.ones((8, 8, 1), "uint8"))
    sources = [Source([pixels]) for _ in range(2)]
    content = encoded(pixels, "JPEG")
    sources[0].images = [content]
    whole = np.asarray(Image.open(io.BytesIO(content)))
    sources[1].images = [encoded(whole)]
    crops = [
        taken(data.CroppedBatches(s, 1, seed=2, size=20), 3) for s in sources
    ]
    for (a, _), (b, _) in zip(*crops, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 1


def test_the_crops_of_a_test():
    pixels = coordinates(36, 50)
    source = Source([pixels])
    ((one, _),) = data.evaluation_batches(source, 1, 32, 36)
    np.testing.assert_array_equal(one[0], pixels[2:34, 9:41])
    ((ten, _),) = data.evaluation_batches(source, 1, 32, 36, crops=10)
    assert ten.shape == (1, 10, 32, 32, 3)
    corners = [(0, 0), (0, 18), (4, 0), (4, 18), (2, 9)]
    for i, (y, x) in enumerate(corners):
        cut = pixels[y : y + 32, x : x + 32]
        np.testing.assert_array_equal(ten[0, i], cut)
        np.testing.assert_array_equal(ten[0, i + 5], cut[:, ::-1])


def test_the_shorter_side_is_resized():
    smooth = np.linspace(0, 200, 80)[:, None, None] * np.ones((1, 120, 3))
    source = Source([np.rint(smooth).astype("uint8")])
    ((x, _),) = data.evaluation_batches(source, 1, 32, 40)
    expected = np.rint(smooth[8:72].reshape(32, 2, 120, 3).mean(1))
    found = x[0].numpy().astype(float)
    assert np.abs(found - expected[:, 28:60]).max() <= 2


def test_the_embedded_sample_is_no_stream():
    with pytest.raises(ValueError, match="sample' is no set of encoded files"):
        data.stream("fashion_mnist_sample")


def test_a_set_of_tfds():
    tfds = pytest.importorskip("tensorflow_datasets")
    with tfds.testing.mock_data(num_examples=4):
        streamed = data.stream("imagenet2012")
        assert len(streamed.class_names) == 1000
        ((x, y),) = taken(data.CroppedBatches(streamed.train, 4, 0, size=8), 1)
    assert x.shape == (4, 8, 8, 3) and x.std() > 10
    assert np.all((y >= 0) & (y < 1000))
    assert "'train' and 'validation'" in streamed.source


def register(tfds):
    """Registers a small set whose images differ in size with TFDS."""

    class StreamedShapes(tfds.core.GeneratorBasedBuilder):
        """Images that differ in size."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(None, None, 3)),
                        "label": tfds.features.ClassLabel(names=["a", "b"]),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(6),
                "test": self._generate_examples(2),
            }

        def _generate_examples(self, count):
            for i in range(count):
                image = np.full((20 + i, 30, 3), 20 * i, "uint8")
                yield i, {"image": image, "label": i % 2}


def test_a_set_that_tfds_prepares(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    register(tfds)
    streamed = data.stream("streamed_shapes", data_dir=tmp_path / "d")
    contents, labels = streamed.train.read(np.arange(6))
    brightness = [
        np.asarray(Image.open(io.BytesIO(c))).mean() for c in contents
    ]
    np.testing.assert_array_equal(np.sort(brightness), 20.0 * np.arange(6))
    np.testing.assert_array_equal(labels, np.array(brightness) // 20 % 2)
    # In the format of its own choice TFDS gives no access by index.
    other = tmp_path / "other"
    tfds.builder("streamed_shapes", data_dir=other).download_and_prepare()
    with pytest.raises(ValueError, match="format 'tfrecord'.*in its own order"):
        data.stream("streamed_shapes", data_dir=other)
    with pytest.raises(ValueError, match="differ in size.*`data.stream`"):
        data.load("streamed_shapes", data_dir=other)


def test_what_cannot_be_streamed(folder, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match="is not a folder.*train/<cl"):
        data.stream(tmp_path / "absent")
    (folder / "val" / "bee" / "0.JPEG").unlink()
    with pytest.raises(ValueError, match="2 and 1 classes"):
        data.stream(folder)
    with pytest.raises(FileNotFoundError, match="cannot download it.*ILSVRC"):
        data.stream("imagenet2012", data_dir=tmp_path / "d")
    wrong = tmp_path / "tars" / "ILSVRC2012_img_val.tar"
    wrong.parent.mkdir()
    wrong.write_bytes(b"x")
    with pytest.raises(ValueError, match="img_val.tar is truncated, damaged"):
        data.stream(
            "imagenet2012", archives=wrong.parent, data_dir=tmp_path / "d"
        )
    with tfds.testing.mock_data(num_examples=2):
        with pytest.raises(ValueError, match="not an image classification"):
            data.stream("speech_commands35")


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda s: data.CroppedBatches(s, 0, 0), "`batch_size` must be an int"),
        (lambda s: data.CroppedBatches(s, 1, -1), "`seed` must be"),
        (lambda s: data.CroppedBatches(s, 1, 0, area=(0, 1)), "area=.0, 1"),
        (lambda s: data.CroppedBatches([], 1, 0), "`source` holds no images"),
        (lambda s: data.evaluation_batches(s, 1, crops=5), "1 or 10.*crops=5"),
        (lambda s: data.evaluation_batches(s, 1, resize=9), "resize=9, size=2"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(Source([coordinates(4, 4)]))


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="fits on TensorFlow"
)
def test_fit_takes_the_dataset(folder):
    model = keras.Sequential(
        [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1)]
    )
    model.compile("sgd", "mse")
    batches = data.CroppedBatches(data.stream(folder).train, 3, 0, size=4)
    history = model.fit(
        batches.dataset(), steps_per_epoch=2, shuffle=False, verbose=0
    )
    assert np.isfinite(history.history["loss"][0])
