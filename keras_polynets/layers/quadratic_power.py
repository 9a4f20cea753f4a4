"""The power term of quadratic neurons, whose square is not kept."""

import keras


def recomputed(function, inputs):
    """Returns `function(inputs)`, of which only the inputs are kept.

    On TensorFlow the backward pass computes again what the gradients need,
    here the square; its graphs drop the rest, here the convolution itself. On
    other backends this is a plain call.

    `tf.recompute_grad` alone, which does the same, refuses second derivatives.

    Args:
        function: A function of one tensor, which may read Keras variables.
        inputs: Float tensor.
    """
    if keras.backend.backend() != "tensorflow":
        return function(inputs)
    import tensorflow as tf

    # A custom gradient does not stop tapes from recording what is inside it,
    # which matters where no graph is pruned afterwards.
    eager = tf.executing_eagerly()
    forward = tf.recompute_grad(function) if eager else function

    @tf.custom_gradient
    def call(x):
        def gradient(upstream, variables=()):
            late = _after(upstream, x)
            with tf.GradientTape() as tape:
                tape.watch([late, *variables])
                outputs = function(late)
            of_inputs, *others = tape.gradient(
                outputs,
                [late, *variables],
                upstream,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            return (of_inputs, others) if variables else of_inputs

        return forward(x), gradient

    return call(inputs)


def _after(signal, x):
    """Returns `x`, but not before `signal` is known.

    Otherwise the graph optimizer merges what is computed again with what was
    computed in the forward pass, and keeps that. XLA follows data but not
    control dependencies, so `x` is given a zero that is made of the signal.
    """
    import tensorflow as tf

    if tf.executing_eagerly():
        return tf.identity(x)
    first = tf.reshape(signal, [-1])[:1]
    zero = tf.where(tf.math.is_nan(first), first, tf.zeros_like(first))
    return x + tf.cast(tf.reduce_sum(zero), x.dtype)
