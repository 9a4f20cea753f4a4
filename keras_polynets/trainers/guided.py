"""Training of a denoiser by what a classifier makes of its images."""

import keras
import numpy as np
from keras import ops

from keras_polynets.robustness.attack_texts import as_attack
from keras_polynets.robustness.inputs import valid_range
from keras_polynets.robustness.logits import check_logits
from keras_polynets.train_steps import adversarial
from keras_polynets.train_steps.derivatives import constant_results
from keras_polynets.train_steps.guided import logit_guided_loss
from keras_polynets.train_steps.stepping import step_on_changed_data
from keras_polynets.trainers.wrapper import InputTraining
from keras_polynets.trainers.wrapper import check_built
from keras_polynets.trainers.wrapper import class_labels

# None, weak and strong, in the units of inputs in [-1, 1].
ATTACKS = (
    "fgsm:0",
    "fgsm:0.01",
    "fgsm:0.05",
    "fgsm:0.1",
    "pgd:0.05,10,0.01",
    "pgd:0.1,20,0.01",
)


@keras.saving.register_keras_serializable(package="keras_polynets")
class GuidedDenoising(InputTraining):
    """Trains a denoiser on adversarial images of a classifier.

    A Keras model around `denoiser`: `compile` it with any optimizer and `fit`
    it on clean images, then use `denoiser`, by
    `keras_polynets.robustness.defend(classifier, denoiser)`. Every step
    attacks the classifier, which does not see the denoiser, and lowers the
    logit-guided loss: the sum over classes of the absolute difference between
    the classifier's logits of the denoised adversarial image and of the clean
    one, its mean over the batch. The classifier runs as in inference, and no
    variable of it is trained or changed.

    Of several attacks each has its part of a batch: the first one the images
    0, n, 2n and so on. `"fgsm:0"` leaves them clean, so that the denoiser
    learns to leave clean images alone.

    Metrics compare the logits behind the denoiser with the labels: an accuracy
    is that under the attacks. `evaluate`, and validation in `fit`, attack the
    images too, and `predict` does not. The attacks are part of the compiled
    step and run on every backend.

    Args:
        denoiser: A built model from images to images of the same shape.
        classifier: A built classifier with logits of shape
            `(batch_size, classes)`.
        attack: A text such as `"fgsm:0.1"`, see
            `keras_polynets.robustness.parse_attack`, or what that returns, or
            a sequence of them. The units are those of the classifier's input.
            By default six: none, FGSM with ε of 0.01, 0.05 and 0.1, and PGD
            with ε of 0.05 and 0.1, for inputs in (-1, 1).
        preprocessing: Optional layer or model that takes the images of `fit`
            to the classifier's input, such as `classifier.preprocessor`.
        clip: Pair `(low, high)`, the valid range of the input, each a number
            or one value a channel. By default `classifier.input_range`.
        seed: Integer of the attacks' random starts, or `None`.
        **kwargs: `name` and `trainable` of `keras.Model`.

    Input shape:
        That of `preprocessing` or of `denoiser`. Labels are integer classes of
        shape `(batch_size,)` or `(batch_size, 1)`, or one-hot; without any,
        the attacks lead away from what the classifier predicts.

    Output shape:
        `(batch_size, classes)`: the logits behind the denoiser.

    Raises:
        TypeError: If an attack is neither a text nor a parsed one, or if a
            model is none.
        ValueError: If a model is not built, if the denoiser does not yield
            images of the classifier's input shape, if the classifier yields
            probabilities or has no `input_range` while `clip` is not given, if
            an attack is not known, needs more classes or none is given, or if
            `compile` is given a loss.

    Example:

    >>> classifier = keras_polynets.zoo.load("pn4.fashion_mnist")
    >>> denoiser = keras_polynets.zoo.load("guided_denoiser", weights=None)
    >>> trainer = keras_polynets.trainers.GuidedDenoising(denoiser, classifier)
    >>> trainer.compile(keras.optimizers.Adam(0.001), metrics=["accuracy"])
    >>> trainer.fit(classifier.preprocessor(images), labels, epochs=2)

    Reference:
        - Liao et al., "Defense against Adversarial Attacks Using High-Level
          Representation Guided Denoiser", CVPR 2018. It makes the adversarial
          images once, by FGSM and iterated FGSM with an ε of 1 to 16 grey
          levels, from several classifiers; here each step makes them anew.
    """

    def __init__(
        self,
        denoiser,
        classifier,
        attack=ATTACKS,
        *,
        preprocessing=None,
        clip=None,
        seed=None,
        **kwargs,
    ):
        attacks = _parsed(attack)
        check_built(denoiser)
        check_built(classifier)
        _check_shapes(denoiser, classifier)
        super().__init__(
            denoiser, preprocessing=preprocessing, seed=seed, **kwargs
        )
        self.classifier = classifier
        self.attacks = attacks
        low, high = valid_range(classifier, clip)
        self.clip = low.tolist(), high.tolist()
        zeros = np.zeros((2, *classifier.input_shape[1:]), "float32")
        check_logits(classifier, ops.convert_to_numpy(self.logits(zeros)))
        for one in attacks:
            one.check_classes(self._classes)

    @property
    def trainable_variables(self):
        return self.model.trainable_variables if self.trainable else []

    @property
    def non_trainable_variables(self):
        trained = set(map(id, self.trainable_variables))
        return [v for v in self.variables if id(v) not in trained]

    @property
    def trainable_weights(self):
        return self.trainable_variables

    @property
    def non_trainable_weights(self):
        trained = set(map(id, self.trainable_variables))
        return [v for v in self.weights if id(v) not in trained]

    def compile(self, optimizer="adam", loss=None, **kwargs):
        """Configures training, see `keras.Model.compile`.

        Args:
            optimizer: As in Keras.
            loss: Not to be given: the loss is the logit-guided one.
            **kwargs: As in Keras.

        Raises:
            ValueError: If a loss is given.
        """
        if loss is not None:
            raise ValueError(
                "`GuidedDenoising` lowers the logit-guided loss and takes no "
                f"other. Received: loss={loss!r}. Leave the argument out."
            )
        super().compile(optimizer, **kwargs)

    @property
    def _classes(self):
        return self.classifier.output_shape[-1]

    def call(self, inputs, training=False):
        images = self.model(self._prepared(inputs, training), training=training)
        return self.logits(images)

    def logits(self, x):
        return ops.cast(self.classifier(x, training=False), "float32")

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        losses = logit_guided_loss(y_pred, x["clean"])
        if sample_weight is not None:
            losses = losses * ops.cast(sample_weight, losses.dtype)
        return self._aggregate_additional_loss(ops.mean(losses))

    def test_step(self, *args):
        return step_on_changed_data(
            self, self._training_data, super().test_step, args
        )

    def change_images(self, x, y):
        with constant_results():
            parts = [
                adversarial.perturb(
                    attack,
                    self.logits,
                    x[n :: len(self.attacks)],
                    y[n :: len(self.attacks)],
                    self.clip,
                    adversarial.noise(
                        attack, x[n :: len(self.attacks)], self.seed_generator
                    ),
                )
                for n, attack in enumerate(self.attacks)
            ]
        return ops.stop_gradient(ops.concatenate(parts))

    def _training_data(self, data):
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        x = self._prepared(x, True)
        with constant_results():
            clean = self.logits(x)
        if y is None:
            labels = ops.argmax(clean, axis=-1)
        else:
            labels = class_labels(y, self._classes)
        x = self.change_images(x, labels)
        clean, y, weights = map(self._in_order_of_attacks, (clean, y, weights))
        return {"prepared": x, "clean": clean}, y, weights

    def _in_order_of_attacks(self, values):
        """Returns what belongs to images in the order of `change_images`."""
        if values is None:
            return None
        count = len(self.attacks)
        return ops.concatenate([values[n::count] for n in range(count)])

    def get_config(self):
        config = super().get_config()
        return {
            "denoiser": config.pop("model"),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "attack": [attack.name for attack in self.attacks],
            "clip": self.clip,
            **config,
        }


def _parsed(attack):
    """Returns attacks as a tuple of parsed ones."""
    several = isinstance(attack, list | tuple)
    attacks = tuple(map(as_attack, attack if several else (attack,)))
    if not attacks:
        raise ValueError(
            "Expected at least one attack, such as 'fgsm:0.1'. Received: "
            f"attack={attack!r}"
        )
    return attacks


def _check_shapes(denoiser, classifier):
    expected = classifier.input_shape
    for what, shape in (
        ("take", denoiser.input_shape),
        ("yield", denoiser.output_shape),
    ):
        fits = len(shape) == len(expected) and all(
            a is None or b is None or a == b
            for a, b in zip(shape, expected, strict=True)
        )
        if not fits:
            raise ValueError(
                f"The denoiser must {what} images of the classifier's input "
                f"shape {expected}. That of {denoiser.name!r}: {shape}"
            )
