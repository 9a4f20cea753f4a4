"""Adversarial training."""

import keras
import numpy as np
from keras import ops

from keras_polynets.robustness.attack_texts import Attack
from keras_polynets.robustness.attack_texts import as_attack
from keras_polynets.robustness.inputs import valid_range
from keras_polynets.robustness.logits import check_logits
from keras_polynets.train_steps import adversarial
from keras_polynets.train_steps.derivatives import constant_results
from keras_polynets.trainers.wrapper import InputTraining
from keras_polynets.trainers.wrapper import class_labels


@keras.saving.register_keras_serializable(package="keras_polynets")
class AdversarialTraining(InputTraining):
    """Trains a classifier on adversarial images of itself.

    A Keras model around `model`: `compile` and `fit` it with any loss,
    optimizer and callbacks, and use `model` afterwards. Every training step
    attacks its batch with the weights of that moment and trains on the
    adversarial images; the accuracy that it reports is that under attack.
    Evaluation and prediction are those of `model`, without an attack. The
    attack is part of the compiled step and runs on every backend, with XLA and
    under `tf.distribute.MirroredStrategy` (make both inside its scope).

    With `keras_polynets.callbacks.PeriodicProjection` among the callbacks of
    `fit` this is Algorithm 2 of the paper.

    Args:
        model: A built classifier with logits of shape `(batch_size, classes)`.
        attack: A text such as `"fgsm:0.1"` or `"pgd:0.1,20,0.01"`, see
            `keras_polynets.robustness.parse_attack`, or what that returns; its
            random starts come from `seed`. Or a callable
            `attack(model, x, labels)` that returns adversarial images and can
            be compiled.
        warmup_epochs: Integer of at least 0: the first epochs, counted from 0
            as in `fit`, train on the images as they are. It takes effect in
            `fit`; `train_on_batch` attacks as the last epoch of `fit` did,
            and before any `fit` if `warmup_epochs` is 0.
        jacobian: Optional `keras_polynets.regularizers.JacobianPenalty`, which
            is added to the loss, on the images that the step trains on.
        preprocessing: Optional layer or model that is put before `model`, such
            as augmentation and `model.preprocessor`. The attack changes what
            it yields, in the units of the model's input.
        clip: Pair `(low, high)`, the valid range of the model's input, each a
            number or one value a channel. By default `model.input_range`.
        seed: Integer of everything random, or `None` for a random one.
        **kwargs: `name` and `trainable` of `keras.Model`.

    Input shape:
        That of `preprocessing` or of `model`. Labels are integer classes of
        shape `(batch_size,)` or `(batch_size, 1)`, or one-hot.

    Output shape:
        `(batch_size, classes)`.

    Raises:
        TypeError: If the model, the attack or `jacobian` is something else.
        ValueError: If the model is not built, yields probabilities or has no
            `input_range` while `clip` is not given, if the attack is not
            known or needs more classes, or if `warmup_epochs` is no integer of
            at least 0.

    Example:

    >>> model = keras_polynets.zoo.load("pn10", weights=None)
    >>> trainer = keras_polynets.trainers.AdversarialTraining(
    ...     model, attack="fgsm:0.1", warmup_epochs=50
    ... )
    >>> trainer.compile(keras.optimizers.SGD(0.001), loss=model.loss)
    >>> projection = keras_polynets.callbacks.PeriodicProjection(
    ...     1.0, start_epoch=50
    ... )
    >>> trainer.fit(x, labels, epochs=100, callbacks=[projection])

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Algorithm 2.
        - Madry et al., "Towards Deep Learning Models Resistant to Adversarial
          Attacks", ICLR 2018, equation 2.1.
    """

    def __init__(
        self,
        model,
        attack="fgsm:0.1",
        warmup_epochs=0,
        *,
        jacobian=None,
        preprocessing=None,
        clip=None,
        seed=None,
        **kwargs,
    ):
        attack = as_attack(attack, or_callable=True)
        if not isinstance(warmup_epochs, int) or warmup_epochs < 0:
            raise ValueError(
                "Argument `warmup_epochs` must be an integer of at least 0. "
                f"Received: warmup_epochs={warmup_epochs!r}"
            )
        super().__init__(
            model,
            preprocessing=preprocessing,
            jacobian=jacobian,
            seed=seed,
            **kwargs,
        )
        self.attack = attack
        self.warmup_epochs = warmup_epochs
        low, high = valid_range(model, clip)
        self.clip = low.tolist(), high.tolist()
        zeros = np.zeros((2, *model.input_shape[1:]), "float32")
        check_logits(model, ops.convert_to_numpy(self.logits(zeros)))
        if isinstance(attack, Attack):
            attack.check_classes(self._classes)
        self.attacking = self.add_weight(
            shape=(),
            dtype="bool",
            initializer=lambda shape, dtype: ops.full(
                shape, warmup_epochs == 0, dtype
            ),
            trainable=False,
            name="attacking",
        )

    def fit(self, x=None, y=None, batch_size=None, epochs=1, **kwargs):
        """Trains the model, see `keras.Model.fit`.

        Args:
            x: As in Keras, or `keras_polynets.data.Batches`.
            y: As in Keras.
            batch_size: As in Keras.
            epochs: As in Keras.
            **kwargs: As in Keras.
        """
        callbacks = kwargs.get("callbacks") or []
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(_WarmUp())
        else:
            kwargs["callbacks"] = [_WarmUp(), *keras.tree.flatten(callbacks)]
        return super().fit(x, y, batch_size, epochs, **kwargs)

    def change_images(self, x, y):
        labels = class_labels(y, self._classes)
        if not isinstance(self.attack, Attack):
            return self._unless_warming_up(
                lambda: self.attack(self.model, x, labels), x
            )
        noise = adversarial.noise(self.attack, x, self.seed_generator)
        return self._unless_warming_up(
            lambda: adversarial.perturb(
                self.attack, self.logits, x, labels, self.clip, noise
            ),
            x,
        )

    def _compiles_with_xla(self, steps):
        # On CPUs XLA draws random numbers slowly, one after the other.
        plain = isinstance(self.attack, Attack) and adversarial.is_plain(
            self.attack
        )
        if not plain and not self.jit_compile:
            return False
        return super()._compiles_with_xla(steps)

    def _unless_warming_up(self, attack, x):
        with constant_results():
            if self.warmup_epochs == 0:
                x = attack()
            else:
                x = ops.cond(self.attacking.value, attack, lambda: x)
        return ops.stop_gradient(x)

    def get_config(self):
        if not isinstance(self.attack, Attack):
            raise ValueError(
                "Only attacks that a text describes, such as 'fgsm:0.1', can "
                f"be saved. Received: attack={self.attack!r}. Save the trained "
                "model instead: `trainer.model.save(...)`."
            )
        penalty = keras.saving.serialize_keras_object(self.jacobian)
        return super().get_config() | {
            "attack": self.attack.name,
            "warmup_epochs": self.warmup_epochs,
            "jacobian": penalty,
            "clip": self.clip,
        }


class _WarmUp(keras.callbacks.Callback):
    """Tells the training step in which epochs to attack."""

    def on_epoch_begin(self, epoch, logs=None):
        model = self.model
        model.attacking.assign(epoch >= model.warmup_epochs)
