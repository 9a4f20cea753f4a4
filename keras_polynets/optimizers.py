"""What Keras's optimizers lack: coupled weight decay, sound loss scaling."""

import keras
from keras import ops

from keras_polynets._backend import number_of_replicas


@keras.saving.register_keras_serializable(package="keras_polynets")
class CoupledWeightDecay(keras.optimizers.Optimizer):
    """Adds `weight_decay * variable` to the gradient of every variable.

    This is the L2 regularisation of the papers, and of PyTorch's
    `SGD(weight_decay=...)`: the decay passes through momentum and adaptive
    rates, and reaches biases and batch normalisations too. The argument
    `weight_decay` of Keras's own optimizers is decoupled: it bypasses both.

    Gradients are clipped by the inner optimizer, decay included.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` that is given the
            gradients with the decay added.
        weight_decay: Float of at least 0.
        name: String, or `None`.

    Raises:
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
        if inner_optimizer.weight_decay:
            raise ValueError(
                "The inner optimizer has a decoupled weight decay of its own "
                f"({inner_optimizer.weight_decay}). Give it none."
            )
        if isinstance(inner_optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                "The decay would be added to scaled gradients. Wrap the other "
                "way round: LossScaleOptimizer(CoupledWeightDecay(...))."
            )
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.coupled_weight_decay = float(weight_decay)

    def build(self, variables):
        self.inner_optimizer.build(variables)
        super().build(variables)

    @property
    def variables(self):
        return self.inner_optimizer.variables

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def apply(self, grads, trainable_variables=None):
        if trainable_variables is None:
            variables = self.inner_optimizer._trainable_variables
        else:
            variables = list(trainable_variables)
        # Gradients are summed over the replicas after this.
        decay = self.coupled_weight_decay / number_of_replicas()
        decay *= self.inner_optimizer.loss_scale_factor or 1
        grads = [
            grad
            if grad is None
            else ops.add(grad, ops.cast(decay * v.value, grad.dtype))
            for grad, v in zip(grads, variables, strict=True)
        ]
        self.inner_optimizer.apply(grads, trainable_variables)

    def get_config(self):
        return {
            "name": self.name,
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
            "weight_decay": self.coupled_weight_decay,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        inner_optimizer = keras.saving.deserialize_keras_object(
            config.pop("inner_optimizer"), custom_objects=custom_objects
        )
        return cls(inner_optimizer, **config)


@keras.saving.register_keras_serializable(package="keras_polynets")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's loss scaling, right with several replicas.

    Keras 3.15 skips a step of mixed_float16 training when the gradients of the
    first replica are not finite. Gradients are reduced later, so an overflow
    on another replica reaches the weights. Here one replica's overflow skips
    the step on all. Elsewhere this is `keras.optimizers.LossScaleOptimizer`.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` to wrap.
        initial_scale: Float, the scale of the loss at the beginning.
        dynamic_growth_steps: Integer, the number of steps with finite
            gradients after which the scale is doubled.
        name: String, the name of the optimizer.
        **kwargs: See `keras.optimizers.LossScaleOptimizer`.

    Example:

    >>> optimizer = keras_polynets.optimizers.LossScaleOptimizer(
    ...     keras.optimizers.SGD(0.1)
    ... )
    """

    def check_finite(self, grads):
        finite = super().check_finite(grads)
        if number_of_replicas() == 1:
            return finite
        import tensorflow as tf

        overflows = 1.0 - tf.cast(finite, tf.float32)
        total = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, overflows
        )
        return tf.equal(total, 0.0)
