"""Derivatives with respect to the input, on every backend."""

import contextlib

import keras
from keras import ops


def vector_jacobian_products(function, x, vectors):
    """Returns what a function yields and its products `v^T J` at `x`.

    The products can be differentiated again, with respect to `x` and to the
    weights that `function` uses.

    Args:
        function: A callable `x -> (outputs, aux)`; `aux` is any structure of
            tensors, which is handed through.
        x: Float tensor.
        vectors: List of tensors of the shape of `outputs`.

    Returns:
        Tuple `(outputs, aux, products)`; `products` is a list of tensors of
        the shape of `x`, one a vector.
    """
    return _BACKENDS[keras.backend.backend()](function, x, vectors)


def losses_and_gradient(function, x):
    """Returns the losses of a batch, what comes with them, and the gradient.

    Args:
        function: A callable `x -> (losses, aux)` with one loss an example,
            which depends on that example alone.
        x: Float tensor of shape `(batch_size, ...)`.

    Returns:
        Tuple `(losses, aux, gradient)`; the gradient of each loss by its
        example, of the shape of `x`.
    """
    ones = ops.ones(ops.shape(x)[:1], dtype=x.dtype)
    losses, aux, (gradient,) = vector_jacobian_products(function, x, [ones])
    return losses, aux, gradient


def constant_results():
    """Returns the context of computations that nothing is derived from.

    PyTorch would keep all their steps otherwise, and derivatives inside are
    not made to be derived again.
    """
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def _tensorflow(function, x, vectors):
    import tensorflow as tf

    with tf.GradientTape(persistent=len(vectors) > 1) as tape:
        tape.watch(x)
        outputs, aux = function(x)
    zero = tf.UnconnectedGradients.ZERO
    products = [
        tape.gradient(outputs, x, vector, unconnected_gradients=zero)
        for vector in vectors
    ]
    return outputs, aux, products


def _jax(function, x, vectors):
    import jax

    outputs, pull_back, aux = jax.vjp(function, x, has_aux=True)
    # With 64 bits switched on, some outputs are wider than their input.
    vectors = [vector.astype(outputs.dtype) for vector in vectors]
    return outputs, aux, [pull_back(vector)[0] for vector in vectors]


def _torch(function, x, vectors):
    import torch

    # Where gradients of weights are wanted the products must have them too.
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        if not (again and x.requires_grad):
            x = x.detach().requires_grad_()
        outputs, aux = function(x)
        products = [
            torch.autograd.grad(
                outputs,
                x,
                vector,
                create_graph=again,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )[0]
            for vector in vectors
        ]
    return outputs, aux, products


_BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
