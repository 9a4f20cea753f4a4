"""Loss scaling that is right with several replicas."""

import keras

from keras_polynets._backend import number_of_replicas


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
