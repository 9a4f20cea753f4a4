"""The Jacobian of a model with respect to its weights."""

import keras
import numpy as np


def weight_jacobian(model, inputs):
    """Returns the derivatives of all outputs by all trainable weights.

    Args:
        model: A built `keras.Model` with one input and one output.
        inputs: Array of shape `(batch_size, *input_shape)`.

    Returns:
        Array of shape `(outputs of the batch, weights)`. Layers act as in
        inference. Not on PyTorch, where Keras has no float64.
    """
    blocks = _BACKENDS[keras.backend.backend()](
        model, keras.ops.convert_to_tensor(inputs, dtype=model.inputs[0].dtype)
    )
    rows = len(inputs) * int(np.prod(model.output_shape[1:]))
    return np.concatenate([np.reshape(b, (rows, -1)) for b in blocks], axis=1)


def _tensorflow(model, inputs):
    import tensorflow as tf

    variables = [v.value for v in model.trainable_variables]

    @tf.function
    def jacobian(x):
        with tf.GradientTape() as tape:
            outputs = tf.reshape(model(x, training=False), [-1])
        # One row after the other: custom gradients have no batched form.
        return tape.jacobian(
            outputs,
            variables,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
            experimental_use_pfor=False,
        )

    return [block.numpy() for block in jacobian(inputs)]


def _jax(model, inputs):
    import jax

    fixed = [v.value for v in model.non_trainable_variables]

    def outputs(weights):
        return model.stateless_call(weights, fixed, inputs, training=False)[0]

    return jax.jacrev(outputs)([v.value for v in model.trainable_variables])


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax}
