"""Regularisers that Keras lacks."""

import keras
from keras import ops

from keras_polynets._errors import check_positive_integer
from keras_polynets._errors import is_finite
from keras_polynets.train_steps import jacobian


@keras.saving.register_keras_serializable(package="keras_polynets")
class JacobianPenalty:
    """Penalty on the Jacobian of the logits with respect to the input.

    `weight / 2 * mean ||J(x)||_F^2` over the examples of a batch, with
    `J = d logits / d x`: small where the logits change little around each
    example. It is part of a training step, because it needs the gradient with
    respect to the input: see `keras_polynets.trainers.JacobianTraining`, and
    the argument `jacobian` of `AdversarialTraining`.

    (ℓ2 regularisation, coupled as in the papers, is
    `keras_polynets.optimizers.CoupledWeightDecay`.)

    Args:
        weight: Float of at least 0, the strength.
        projections: Positive integer, how many random directions of the
            output estimate the norm; each costs a backward pass, and one is
            what the paper uses. `None` computes it exactly, with as many
            passes as there are classes.

    Raises:
        ValueError: If `weight` is negative or not finite, or `projections` no
            positive integer.

    Example:

    >>> penalty = keras_polynets.regularizers.JacobianPenalty(0.01)

    Reference:
        - Hoffman, Roberts, Yaida, "Robust Learning with Jacobian
          Regularization", 2019, equations 4 and 7, Algorithm 1.
    """

    def __init__(self, weight=0.01, projections=1):
        if not (is_finite(weight) and weight >= 0):
            raise ValueError(
                "Argument `weight` must be a finite number of at least 0. "
                f"Received: weight={weight!r}"
            )
        if projections is not None:
            check_positive_integer("projections", projections)
        self.weight = float(weight)
        self.projections = projections

    def __call__(self, logits, x, classes, seed=None):
        """Returns the penalty, a scalar.

        Args:
            logits: A callable `x -> logits` of shape `(batch_size, classes)`,
                each of which depends on its own example alone.
            x: Float tensor of shape `(batch_size, ...)`.
            classes: Integer, the number of classes.
            seed: `keras.random.SeedGenerator` of the random directions.
        """
        if self.projections is None:
            squares = jacobian.exact_squares(logits, x, classes)
        else:
            squares = jacobian.estimated_squares(
                logits, x, classes, self.projections, seed
            )
        return self.weight / 2 * ops.mean(squares)

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {"weight": self.weight, "projections": self.projections}

    @classmethod
    def from_config(cls, config):
        """Returns the penalty of a configuration."""
        return cls(**config)
