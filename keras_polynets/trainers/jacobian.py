"""Training with a penalty on the Jacobian."""

import keras

from keras_polynets.regularizers import JacobianPenalty
from keras_polynets.robustness.logits import check_unbounded
from keras_polynets.trainers.wrapper import InputTraining


@keras.saving.register_keras_serializable(package="keras_polynets")
class JacobianTraining(InputTraining):
    """Trains a classifier with a penalty on the Jacobian of its logits.

    A Keras model around `model`: `compile` and `fit` it with any loss,
    optimizer and callbacks, and use `model` afterwards. To the loss is added
    `weight / 2 * mean ||J||_F^2`, the Jacobian of the logits by the input with
    layers as in inference. It works under `tf.distribute.MirroredStrategy`
    (make both inside its scope), with XLA, in mixed precision, and on every
    backend. Evaluation and prediction are those of `model`.

    Args:
        model: A built classifier with logits of shape `(batch_size, classes)`.
        weight: Float of at least 0, the strength of the penalty.
        projections: Positive integer, the random directions that estimate the
            norm, or `None` for the exact one. See
            `keras_polynets.regularizers.JacobianPenalty`.
        preprocessing: Optional layer or model that is put before `model`, such
            as augmentation and `model.preprocessor`. The derivative is taken
            behind it, in the units of the model's input.
        seed: Integer of the random directions, or `None` for a random one.
        **kwargs: `name` and `trainable` of `keras.Model`.

    Input shape:
        That of `preprocessing` or of `model`.

    Output shape:
        `(batch_size, classes)`.

    Raises:
        ValueError: If the model is not built or yields probabilities, or
            `weight` or `projections` is out of range.

    Example:

    >>> model = keras_polynets.zoo.load("pn4", weights=None)
    >>> trainer = keras_polynets.trainers.JacobianTraining(model, weight=0.1)
    >>> trainer.compile(keras.optimizers.SGD(0.001), loss=model.loss)
    >>> trainer.fit(model.preprocessor(images), labels, epochs=10)

    Reference:
        - Hoffman, Roberts, Yaida, "Robust Learning with Jacobian
          Regularization", 2019, equation 5.
    """

    def __init__(
        self,
        model,
        weight=0.01,
        projections=1,
        *,
        preprocessing=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            model,
            preprocessing=preprocessing,
            jacobian=JacobianPenalty(weight, projections),
            seed=seed,
            **kwargs,
        )
        check_unbounded(model)

    def get_config(self):
        return super().get_config() | self.jacobian.get_config()
