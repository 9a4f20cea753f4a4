"""Weight decay that is part of the gradient."""

import keras
from keras import ops

from keras_polynets._backend import number_of_replicas
from keras_polynets.optimizers._delegating import DelegatingOptimizer
from keras_polynets.optimizers._delegating import innermost


@keras.saving.register_keras_serializable(package="keras_polynets")
class CoupledWeightDecay(DelegatingOptimizer):
    """Adds `weight_decay * variable` to the gradient of every variable.

    This is the L2 regularisation of the papers, and of PyTorch's
    `SGD(weight_decay=...)`: the decay passes through momentum and adaptive
    rates, and reaches biases and batch normalisations too. The argument
    `weight_decay` of Keras's own optimizers is decoupled: it bypasses both.

    Gradients are clipped as the inner optimizer says, decay included. Of
    several replicas the sum of their gradients is clipped; Keras's own
    optimizers clip those of each replica.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` that is given the
            gradients with the decay added.
        weight_decay: Float of at least 0.
        name: String, or `None`.

    Raises:
        TypeError: If `inner_optimizer` is no optimizer of Keras.
        ValueError: If `weight_decay` is negative, or the inner optimizer
            decays weights itself or scales the loss.

    Example:

    >>> optimizer = keras_polynets.optimizers.CoupledWeightDecay(
    ...     keras.optimizers.SGD(0.1, momentum=0.9), weight_decay=5e-4
    ... )
    >>> model.compile(optimizer, loss="mse")
    """

    def __init__(self, inner_optimizer, weight_decay, name=None):
        if not weight_decay >= 0:
            raise ValueError(
                "Argument `weight_decay` must be at least 0. "
                f"Received: weight_decay={weight_decay}"
            )
        super().__init__(inner_optimizer, name=name)
        decoupled = innermost(inner_optimizer).weight_decay
        if decoupled:
            raise ValueError(
                "The inner optimizer has a decoupled weight decay of its own "
                f"({decoupled}). Give it none."
            )
        self.coupled_weight_decay = float(weight_decay)

    def apply(self, grads, trainable_variables=None):
        variables = self._variables_to_apply(grads, trainable_variables)
        # Gradients are summed over the replicas after this.
        decay = self.coupled_weight_decay / number_of_replicas()
        decay *= self.loss_scale_factor or 1
        grads = [
            grad
            if grad is None
            else ops.add(grad, ops.cast(decay * v.value, grad.dtype))
            for grad, v in zip(grads, variables, strict=True)
        ]
        if number_of_replicas() > 1 and self._clips:
            grads = self._clipped_sum(grads)
        self.inner_optimizer.apply(grads, variables)

    @property
    def _clips(self):
        inner = innermost(self)
        return bool(inner.clipnorm or inner.global_clipnorm or inner.clipvalue)

    def _clipped_sum(self, grads):
        """Returns each replica's share of the clipped sum of the gradients.

        Shares are too small to be clipped once more.
        """
        import tensorflow as tf

        known = [grad for grad in grads if grad is not None]
        known = tf.distribute.get_replica_context().all_reduce("SUM", known)
        scale = self.loss_scale_factor or 1
        known = innermost(self)._clip_gradients([g / scale for g in known])
        shares = iter([g * (scale / number_of_replicas()) for g in known])
        return [None if grad is None else next(shares) for grad in grads]

    def get_config(self):
        return super().get_config() | {
            "weight_decay": self.coupled_weight_decay
        }
