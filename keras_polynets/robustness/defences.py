"""Defences: what is put before a model to take noise out of its images."""

import keras

from keras_polynets.models.zoo_model import ZooModel


def defend(model, *defences):
    """Puts defences before a classifier.

    The result is a model of the zoo like `model`: it has its `preprocessor`,
    `input_range`, `data_range` and `class_names`, so that attacks,
    `robust_accuracy`, `export` and `.keras` files work as before. Attacks on
    it go through the defences: they ascend the gradient of the whole. An
    attack that does not see them is one on `model`, whose images are then
    given to the result.

    Nothing is copied: the result uses the layers and weights that it is given.

    `keras_polynets.layers.GaussianFilter2D` is linear, and
    `MedianFilter2D` differentiable almost everywhere, as is
    `keras_polynets.models.GuidedDenoiser`; none of them hides a gradient. What
    a defence does beyond that (a rounding, say) can make attacks by gradients
    look weaker than they are.

    Args:
        model: A model of the zoo, `keras_polynets.models.ZooModel`.
        *defences: Keras layers or models from images to images of the same
            shape, in the order in which an image meets them.

    Returns:
        A `keras_polynets.robustness.DefendedModel`, not compiled.

    Raises:
        TypeError: If the model is none of the zoo, or a defence is no layer.
        ValueError: If there is no defence, if one changes the shape of images,
            has another input range than the model, or has the name of another.

    Example:

    >>> model = keras_polynets.zoo.load("pn4.fashion_mnist")
    >>> median = keras_polynets.layers.MedianFilter2D(3)
    >>> defended = keras_polynets.robustness.defend(model, median)
    >>> keras_polynets.robustness.robust_accuracy(
    ...     defended, (images, labels), "pgd:0.1,20,0.01"
    ... )

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Appendix H.9.
        - Athalye et al., "Obfuscated Gradients Give a False Sense of
          Security", ICML 2018.
    """
    return DefendedModel(model, defences)


@keras.saving.register_keras_serializable(package="keras_polynets")
class DefendedModel(ZooModel):
    """A classifier behind defences: what `defend` returns.

    Args:
        model: A `keras_polynets.models.ZooModel`.
        defences: Sequence of Keras layers or models from images to images.
        name: String; by default that of the model with `"defended_"` before.
        trainable: Boolean, whether the weights are trained.

    Input shape:
        That of the model.

    Output shape:
        That of the model.

    Raises:
        TypeError: As `defend` does.
        ValueError: As `defend` does.

    Example:

    >>> model = keras_polynets.zoo.load("pn4", weights=None)
    >>> smooth = keras_polynets.layers.GaussianFilter2D(3)
    >>> keras_polynets.robustness.DefendedModel(model, [smooth]).name
    'defended_pn4'
    """

    def __init__(self, model, defences, name=None, trainable=True):
        defences = tuple(defences)
        _check(model, defences)
        # Not attributes that Keras tracks: the graph holds them already.
        self.__dict__["_model"] = model
        self.__dict__["_defences"] = defences
        inputs = keras.Input(
            model.input_shape[1:], dtype=model.inputs[0].dtype, name="images"
        )
        x = inputs
        for defence in defences:
            x = defence(x)
            _check_shape(defence, getattr(x, "shape", None), inputs.shape)
        super().__init__(
            inputs,
            model(x),
            config={},
            input_range=model.input_range,
            data_range=model.data_range,
            class_names=model.class_names,
            dtype=model.dtype_policy,
            name=name or f"defended_{model.name}",
            trainable=trainable,
        )

    @property
    def model(self):
        """The classifier without its defences."""
        return self.__dict__["_model"]

    @property
    def defences(self):
        """Tuple of the defences, in the order in which images meet them."""
        return self.__dict__["_defences"]

    @property
    def head(self):
        return self.model.head

    @property
    def stored_shape(self):
        return self.model.stored_shape

    @property
    def stored_dtype(self):
        return self.model.stored_dtype

    def make_preprocessor(self):
        return self.model.preprocessor

    def make_loss(self):
        return self.model.make_loss()

    def make_metrics(self):
        return self.model.make_metrics()

    def served_outputs(self, outputs):
        return self.model.served_outputs(outputs)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "model": serialize(self.model),
            "defences": [serialize(defence) for defence in self.defences],
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        def deserialize(part):
            return keras.saving.deserialize_keras_object(
                part, custom_objects=custom_objects
            )

        return cls(
            **config
            | {
                "model": deserialize(config["model"]),
                "defences": [deserialize(part) for part in config["defences"]],
            }
        )


def _check(model, defences):
    if not isinstance(model, ZooModel):
        raise TypeError(
            "Defences are put before a model of the zoo, which knows the range "
            "of its input. Received: an object of type "
            f"{type(model).__name__}. Wrap a functional Keras model first: "
            "`convert.ConvertedModel(model.inputs, model.outputs, "
            "input_range=(low, high))`."
        )
    if not defences:
        raise ValueError(
            "Expected at least one defence, a Keras layer from images to "
            "images such as `layers.MedianFilter2D(3)`. Received none."
        )
    for defence in defences:
        if not isinstance(defence, keras.Layer):
            raise TypeError(
                "A defence must be a Keras layer or model from images to "
                f"images. Received: {defence!r} (of type "
                f"{type(defence).__name__})"
            )
        own = getattr(defence, "input_range", model.input_range)
        if own != model.input_range:
            raise ValueError(
                f"The defence {defence.name!r} takes images in {own}, and "
                f"the model {model.name!r} in {model.input_range}. Build the "
                "defence with the model's `input_range`."
            )
    names = [layer.name for layer in (*defences, model)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"The name {name!r} stands twice among the defences and the "
                "model. Give each a name of its own: `name=...`, and a layer "
                "of its own."
            )


def _check_shape(defence, shape, expected):
    if shape != expected:
        raise ValueError(
            f"The defence {defence.name!r} must keep the shape of images, "
            f"{expected}. It yields: {shape}"
        )
