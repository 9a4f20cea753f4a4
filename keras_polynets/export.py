"""Writes a model as a SavedModel that serves without this package."""

import contextlib
import json
import os
import pathlib
import tempfile

import keras

INPUT_NAME = "images"
WAVES_NAME = "waves"
METADATA_FILE = pathlib.Path("assets.extra") / "keras_polynets.json"


def saved_model(model, path, *, overwrite=False):
    """Writes a model with its preprocessing as a TensorFlow SavedModel.

    For serving: the folder needs neither Keras nor keras_polynets. The
    network's variables and the preprocessing are inside, and two signatures
    take a batch of any size by the name `"images"`:

    - `serve`, which is the serving default too: float32 images in the range
      of the stored data (0 to 255 for images), not in `model.input_range`;
    - `serve_raw`: the same images as uint8.

    Models for speech take wave forms of any length by the name `"waves"`: as
    float32 in -1 to 1, or as int16.

    Both give a dictionary of float32 tensors: for a classifier `"logits"` and
    `"probabilities"`, each of shape `(batch_size, classes)`; for a denoiser
    `"denoised"`, images in the range of the stored data. The file
    `assets.extra/keras_polynets.json` says the model's name, the names of its
    classes, and the shape of an image.

    The folder is written aside and then renamed, so it is whole or absent.

    Args:
        model: A built `keras.Model` with one input. Where it has a
            `preprocessor` (as every model of the zoo has), that layer is
            applied first; a model without one is fed the images as they come
            and taken for a classifier that gives logits.
        path: The folder to write, for example `"serving/pn4/1"`.
        overwrite: Whether a folder that is already at `path` is replaced.

    Returns:
        The folder, as a `pathlib.Path`.

    Raises:
        RuntimeError: The backend is not TensorFlow.
        TypeError: `model` is not a Keras model.
        ValueError: The model is not built, or has several inputs or outputs.
        FileExistsError: `path` exists, and `overwrite` is false.

    Example:

    ```python
    model = keras_polynets.zoo.load("pn4.fashion_mnist")
    keras_polynets.export.saved_model(model, "serving/pn4/1")

    served = tf.saved_model.load("serving/pn4/1")
    probabilities = served.serve_raw(images)["probabilities"]
    ```
    """
    image_shape = _image_shape(model)
    path = pathlib.Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"There is already something at {str(path)!r}. Choose another "
            "folder, or pass overwrite=True to replace it."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".writing-", dir=path.parent
    ) as scratch:
        written = pathlib.Path(scratch) / path.name
        _archive(model, image_shape).write_out(str(written), verbose=False)
        _write_metadata(model, image_shape, written / METADATA_FILE)
        with contextlib.suppress(FileNotFoundError):
            os.replace(path, pathlib.Path(scratch) / "replaced")
        os.replace(written, path)
    return path


def _classifier_outputs(logits):
    """Names the outputs of a classifier.

    Args:
        logits: Tensor of shape `(batch_size, classes)`.

    Returns:
        Dictionary with the logits and their probabilities.
    """
    probabilities = keras.ops.softmax(logits, axis=-1)
    return {"logits": logits, "probabilities": probabilities}


def _image_shape(model):
    """Returns the shape of one input, or says why there is not one."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel is written on the TensorFlow backend only, and the "
            f"backend is {keras.backend.backend()!r}. Save the weights, then "
            "load and export them with KERAS_BACKEND=tensorflow."
        )
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Argument `model` must be a `keras.Model`. "
            f"Received: {model!r} (of type {type(model).__name__})"
        )
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built, so its input shape is not "
            "known. Call it once on a batch, or pass an `input_shape`."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "Only models with one input and one output are exported. "
            f"Model {model.name!r} has {len(model.inputs)} inputs and "
            f"{len(model.outputs)} outputs."
        )
    return tuple(getattr(model, "stored_shape", model.inputs[0].shape[1:]))


def _archive(model, image_shape):
    """Returns a `keras.export.ExportArchive` with the two endpoints."""
    import tensorflow as tf

    preprocessor = getattr(model, "preprocessor", None)
    if preprocessor is None:
        preprocessor = keras.layers.Identity()
    name_outputs = getattr(model, "served_outputs", _classifier_outputs)
    # A layer without weights has to be built before the archive tracks it.
    preprocessor(keras.ops.zeros((1, *(size or 1 for size in image_shape))))

    def serve(images):
        x = tf.cast(preprocessor(images), "float32")
        outputs = keras.ops.cast(model(x, training=False), "float32")
        return name_outputs(outputs)

    def serve_waves(waves):
        return serve(waves)

    archive = keras.export.ExportArchive()
    archive.track(model)
    # The first endpoint becomes the serving default.
    stored = tf.as_dtype(getattr(model, "stored_dtype", "uint8"))
    # The name of the function's argument and that of the signature are one.
    endpoint, input_name = (
        (serve_waves, WAVES_NAME) if stored == tf.int16 else (serve, INPUT_NAME)
    )
    for name, dtype in (("serve", tf.float32), ("serve_raw", stored)):
        signature = tf.TensorSpec((None, *image_shape), dtype, name=input_name)
        archive.add_endpoint(name, endpoint, input_signature=[signature])
    return archive


def _write_metadata(model, image_shape, path):
    class_names = getattr(model, "class_names", None)
    input_range = getattr(model, "input_range", None)
    metadata = {
        "name": model.name,
        "class_names": class_names and list(class_names),
        "image_shape": list(image_shape),
        "input_range_of_the_network": input_range and list(input_range),
    }
    path.parent.mkdir()
    path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
