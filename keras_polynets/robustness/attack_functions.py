"""What all attacks share: checked arguments and compiled functions."""

import importlib.util
import os
import weakref

import keras
import numpy as np

from keras_polynets._errors import check_layer
from keras_polynets._errors import check_positive_integer
from keras_polynets._errors import is_finite
from keras_polynets.analysis import graphs
from keras_polynets.layers import ProdPoly
from keras_polynets.layers import QuadraticDense
from keras_polynets.layers.dense_polynomial import DensePolynomial
from keras_polynets.robustness import inputs
from keras_polynets.robustness.logits import check_logits

_compiled = weakref.WeakKeyDictionary()

# What a dense network is made of.
DENSE = (
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Dense,
    keras.layers.Flatten,
    keras.layers.InputLayer,
    keras.layers.Multiply,
    keras.layers.Reshape,
    DensePolynomial,
    ProdPoly,
    QuadraticDense,
)
# So many images times steps are compiled with XLA.
WORTHWHILE = 5_000
# The fewest images that are worth a core.
PART = 128

# Where the code released with the paper clamps adversarial images.
REFERENCE_RANGE = (0.0, 1.0)


def check_settings(**settings):
    """Raises a `ValueError` for a setting of an attack that is out of range.

    Args:
        **settings: Settings by name: `epsilon`, `step_size`, `steps`,
            `restarts`, `targets`. Others are not looked at.
    """
    for name, value in settings.items():
        if name == "epsilon" and not (is_finite(value) and value >= 0):
            raise ValueError(
                "Argument `epsilon` must be a number of at least 0, in the "
                f"model's input units. Received: epsilon={value!r}"
            )
        if name == "step_size" and not (is_finite(value) and value > 0):
            raise ValueError(
                "Argument `step_size` must be a positive number, in the "
                f"model's input units. Received: step_size={value!r}"
            )
        if name in ("steps", "restarts", "targets"):
            check_positive_integer(name, value)


def check_installed(package=None):
    """Raises an error where an attack cannot run.

    Args:
        package: Name of a package that it needs beside TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise NotImplementedError(
            "Attacks need the TensorFlow backend. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}. Save the model as "
            "`.keras` and attack it in a process with "
            "KERAS_BACKEND=tensorflow."
        )
    if package is not None and importlib.util.find_spec(package) is None:
        raise ImportError(
            f"Attacks need {package}. Install it with "
            "`pip install keras_polynets[attacks]`."
        )


class Problem:
    """An attack's arguments, checked and in the form that it computes with.

    Args:
        model: The model that is attacked.
        images: See `pgd`.
        labels: See `pgd`.
        epsilon: See `pgd`.
        clip: See `pgd`.
        reference_compatible: See `pgd`.

    Attributes:
        functions: The `Functions` of the model.
        x: The images, float32 array.
        labels: The labels, int32 array.
        limits: Tuple of `epsilon` and the ends of the valid range, the
            arguments of `inputs.ball`.
    """

    def __init__(
        self, model, images, labels, epsilon, clip, reference_compatible
    ):
        check_installed()
        check_layer(model)
        low, high = inputs.valid_range(model, clip)
        self.x = inputs.as_images(model, images, low, high)
        self.functions = _functions(model, self.x)
        if labels is None:
            labels = np.argmax(self.functions.predict(self.x), axis=-1)
        self.labels = inputs.as_labels(
            labels, len(self.x), self.functions.classes
        )
        if reference_compatible:
            low, high = REFERENCE_RANGE
        self.limits = np.float64(epsilon), low, high
        self._model, self._images = model, images

    def check_finite(self, *values):
        """Raises a `ValueError` where a value is not finite."""
        if all(np.isfinite(value).all() for value in values):
            return
        raise ValueError(
            f"The gradient of model {self._model.name!r} is not finite on "
            "these images. Its weights hold NaN or the products overflow: "
            "evaluate weights from before the training diverged, in float32."
        )

    def finish(self, outputs):
        """Returns adversarial images in the form of the images."""
        import tensorflow as tf

        outputs = np.asarray(outputs)
        self.check_finite(outputs)
        return tf.constant(outputs) if tf.is_tensor(self._images) else outputs


class Functions:
    """The compiled functions of one model and one shape of images.

    They do not hold the model, so that it can be freed while they are kept.

    Args:
        model: The model.
        images: Array of images of that shape.

    Attributes:
        predict: Compiled function from images to logits.
        classes: The number of classes.
    """

    def __init__(self, model, images):
        import tensorflow as tf

        reference = weakref.ref(model)

        def logits(x):
            return tf.cast(reference()(x, training=False), "float32")

        self._logits = logits
        self._is_dense = is_dense(model)
        self._batch = tf.TensorSpec((None, *images.shape[1:]), "float32")
        self._made, self._parted = {}, {}
        self.predict = tf.function(logits, input_signature=[self._batch])
        # A batch without images says nothing of the outputs.
        known = images if len(images) else np.zeros((1, *images.shape[1:]))
        outputs = self.predict(known.astype("float32")).numpy()
        check_logits(model, outputs)
        self.classes = outputs.shape[1]

    def compiled(self, key, make, xla=None):
        """Returns a compiled function of the model, made once.

        Args:
            key: What the function is kept by.
            make: A callable that is given the logits, a callable, and the
                `tf.TensorSpec` of a batch. It returns a Python function and
                its input signature.
            xla: `True` to compile it with XLA.
        """
        import tensorflow as tf

        if (key, xla) not in self._made:
            function, signature = make(self._logits, self._batch)
            self._made[key, xla] = tf.function(
                function,
                input_signature=signature,
                autograph=False,
                jit_compile=xla,
            )
        return self._made[key, xla]

    def take_steps(self, key, make, batch, *settings):
        """Runs an attack that takes a number of steps with one batch.

        A step of a dense network is one pass over its matrices and several
        over the images, of which XLA makes one, on the cores side by side. It
        compiles for every size of a batch, for a fraction of a second, which
        small batches and few steps do not earn back.

        Args:
            key: See `compiled`.
            make: See `compiled`.
            batch: The first arguments of the function, arrays that hold one
                batch.
            *settings: The others, the number of steps last.
        """
        import tensorflow as tf

        count, steps = len(batch[0]), settings[-1]
        if not self._is_dense or count * steps < WORTHWHILE:
            return self.compiled(key, make)(*batch, *settings)
        # Four sizes from a power of two to the next.
        extra = -count % 2 ** max(0, (count - 1).bit_length() - 3)
        tensors = {id(x): x for x in batch}
        tensors = {name: tf.constant(x) for name, x in tensors.items()}
        function = self._side_by_side(key, make, len(batch), _parts(count))
        return function(extra, *(tensors[id(x)] for x in batch), *settings)

    def _side_by_side(self, key, make, arguments, parts):
        """Returns a function that attacks the parts of a batch at once.

        Its first argument says with how many copies of the last example the
        batch is filled up.
        """
        import tensorflow as tf

        if (key, parts) in self._parted:
            return self._parted[key, parts]
        one = self.compiled(key, make, xla=True)

        def all_parts(extra, *values):
            def parts_of(x):
                last = tf.repeat(x[-1:], extra, axis=0)
                return tf.split(tf.concat([x, last], axis=0), parts)

            batch = map(parts_of, values[:arguments])
            settings = values[arguments:]
            found = [one(*part, *settings) for part in zip(*batch, strict=True)]
            return tf.concat(found, axis=0)[: tf.shape(values[0])[0]]

        self._parted[key, parts] = tf.function(
            all_parts,
            input_signature=[tf.TensorSpec((), "int32"), *one.input_signature],
            autograph=False,
        )
        return self._parted[key, parts]


def is_dense(model):
    """Says whether a model is made of matrices, on one device.

    Args:
        model: The model.
    """
    strategy = getattr(model, "distribute_strategy", None)
    return getattr(strategy, "num_replicas_in_sync", 1) == 1 and all(
        isinstance(layer, DENSE) or graphs.is_graph(layer)
        for layer in model._flatten_layers()
    )


def _parts(count):
    """Returns in how many parts a batch is attacked, a power of two."""
    most = min(os.cpu_count() or 1, count // PART)
    return 2 ** max(0, most.bit_length() - 1)


def _functions(model, images):
    functions = _compiled.setdefault(model, {})
    shape = images.shape[1:]
    if shape not in functions:
        functions[shape] = Functions(model, images)
    return functions[shape]
