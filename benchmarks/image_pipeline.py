"""Random crops of JPEGs, as for ImageNet, beside plain pipelines of tf.data.

The files are copies of scikit-learn's two photographs of 640 × 427 pixels. Each
pipeline reads them in a shuffled order, decodes them, and yields batches of
random crops, resized to 224 × 224.
"""

import importlib.util
import pathlib
import shutil
import tempfile

from benchmarks import measuring

BATCH_SIZE, SIZE = 128, 224
# Of one measurement, which begins with a new iterator. A pipeline works some
# batches ahead, and they are in its time.
BATCHES = 16
COPIES = 256
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
OURS = "keras_polynets, CroppedBatches"
# Whether only the part that is wanted is decoded, and whether the resizing is
# antialiased, as ours is.
PLAIN = {
    "tf.data, decoding the part, antialiased": (True, True),
    "tf.data, decoding the whole, antialiased": (False, True),
    "tf.data, decoding the part, aliased": (True, False),
}


def main(argv=None):
    options = measuring.options(__doc__, argv)
    if not importlib.util.find_spec("sklearn"):
        print("image_pipeline is left out, without scikit-learn's photographs.")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write(folder)
        datasets = {OURS: ours(folder)}
        for label, kind in PLAIN.items():
            datasets[label] = plain(folder, *kind)
        times = measuring.alternate(
            {label: taking(dataset) for label, dataset in datasets.items()},
            options.rounds,
            warm_up=1,
        )
    images = BATCHES * BATCH_SIZE
    rows = [
        measuring.row(label, [images / t for t in found], "images/s")
        for label, found in times.items()
    ]
    speed = {row["what"]: row["median"] for row in rows}
    best = max(speed[label] for label, (_, smooth) in PLAIN.items() if smooth)
    rows.append(
        {
            "what": "times the images a second of the best antialiased one",
            "median": speed[OURS] / best,
            "unit": "",
        }
    )
    measuring.report("image_pipeline", __doc__.splitlines()[0], rows)


def write(folder):
    """Writes class folders of photographs."""
    import sklearn.datasets

    source = pathlib.Path(sklearn.datasets.__file__).parent / "images"
    for part, copies in (("train", COPIES), ("test", 1)):
        for name in PHOTOGRAPHS:
            target = folder / part / pathlib.Path(name).stem
            target.mkdir(parents=True)
            for i in range(copies):
                shutil.copy(source / name, target / f"{i}.jpg")


def taking(dataset):
    """Returns a function that takes some batches from the beginning."""
    few = dataset.take(BATCHES)

    def take():
        for images, _ in few:
            assert images.shape == (BATCH_SIZE, SIZE, SIZE, 3)

    return take


def ours(folder):
    """Returns the endless batches of this package."""
    from keras_polynets import data

    source = data.stream(folder).train
    batches = data.CroppedBatches(
        source, BATCH_SIZE, seed=0, size=SIZE, area=AREA, aspect=ASPECT
    )
    return batches.dataset()


def plain(folder, partly, antialias):
    """Returns the endless batches of a pipeline as it is usually written."""
    import tensorflow as tf

    paths = sorted(map(str, folder.glob("train/*/*.jpg")))
    labels = [PHOTOGRAPHS[0].startswith(p.split("/")[-2]) for p in paths]

    def crop(path, label):
        content = tf.io.read_file(path)
        if partly:
            shape = tf.io.extract_jpeg_shape(content)
        else:
            image = tf.io.decode_jpeg(content, channels=3)
            shape = tf.shape(image)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            shape,
            tf.zeros((1, 0, 4)),
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT,
            area_range=AREA,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        if partly:
            window = tf.concat([begin[:2], size[:2]], axis=0)
            image = tf.image.decode_and_crop_jpeg(content, window, channels=3)
        else:
            image = tf.slice(image, begin, size)
        image = tf.image.resize(image, (SIZE, SIZE), antialias=antialias)
        return tf.cast(image, tf.uint8), tf.cast(label, tf.int32)

    return (
        tf.data.Dataset.from_tensor_slices((paths, labels))
        .shuffle(len(paths))
        .repeat()
        .map(crop, tf.data.AUTOTUNE)
        .batch(BATCH_SIZE)
        .prefetch(tf.data.AUTOTUNE)
    )


if __name__ == "__main__":
    main()
