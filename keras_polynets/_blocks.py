"""Training steps on a block of batches as one XLA computation."""

import functools

import keras
from keras import tree


def block_function(model, batch_size):
    """Returns the function that trains `model` for one execution.

    Args:
        model: A compiled `keras.Model`.
        batch_size: Integer, the number of examples of a step.

    Returns:
        What Keras calls as `train_function`. It takes a block of an iterator:
        batches one after the other, of which the last may be short.
    """
    make = {"tensorflow": _tensorflow, "jax": _jax}[keras.backend.backend()]
    return make(model, batch_size)


def _tensorflow(model, batch_size):
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def train_on_whole_batches(block):
        count = _rows(block) // batch_size
        block = tf.nest.map_structure(
            lambda t: tf.reshape(t, (count, batch_size, *t.shape[1:])), block
        )

        @tf.function
        def step(index):
            batch = tf.nest.map_structure(lambda t: t[index], block)
            return model.train_step(batch)

        first = tf.constant(0)
        logs = step.get_concrete_function(first).structured_outputs
        logs = tf.nest.map_structure(lambda t: tf.zeros(t.shape, t.dtype), logs)
        return tf.while_loop(
            lambda index, _: index < count,
            lambda index, _: (index + 1, step(index)),
            (first, logs),
        )[1]

    @tf.function(jit_compile=True)
    def train_on_short_batch(batch):
        return model.train_step(batch)

    def train_on_block(iterator):
        whole, short = _divided(next(iterator), batch_size)
        if whole is not None:
            logs = train_on_whole_batches(whole)
        if short is not None:
            logs = train_on_short_batch(short)
        return logs

    return train_on_block


def _jax(model, batch_size):
    import jax
    from jax import numpy as jnp

    def train_step(state, batch):
        # JAX shares what it traced of equal functions, and the bound methods of
        # a model are equal; what is part of the step may have changed.
        return model.train_step(state, batch)

    @functools.partial(jax.jit, donate_argnums=0)
    def train_on_whole_batches(state, block, count):
        def batch(index):
            return tree.map_structure(
                lambda t: jax.lax.dynamic_slice_in_dim(
                    t, index * batch_size, batch_size
                ),
                block,
            )

        def step(index, carried):
            return train_step(carried[1], batch(index))

        logs, _ = jax.eval_shape(train_step, state, batch(0))
        logs = tree.map_structure(lambda t: jnp.zeros(t.shape, t.dtype), logs)
        return jax.lax.fori_loop(0, count, step, (logs, state))

    train_on_short_batch = jax.jit(train_step, donate_argnums=0)

    def filled(tensor):
        # One shape of block is compiled: the last of an epoch may be smaller.
        missing = model.steps_per_execution * batch_size - len(tensor)
        if not missing:
            return tensor
        return jnp.pad(tensor, [(0, missing)] + [(0, 0)] * (tensor.ndim - 1))

    def train_on_block(state, iterator):
        whole, short = _divided(next(iterator), batch_size)
        if whole is not None:
            count = _rows(whole) // batch_size
            block = tree.map_structure(filled, whole)
            logs, state = train_on_whole_batches(state, block, count)
        if short is not None:
            logs, state = train_on_short_batch(state, short)
        return logs, state

    return train_on_block


def _divided(block, batch_size):
    """Returns the whole batches of a block, and the short one after them."""
    rows = _rows(block)
    whole = rows - rows % batch_size
    if whole == rows:
        return block, None
    short = tree.map_structure(lambda t: t[whole:], block)
    if not whole:
        return None, short
    return tree.map_structure(lambda t: t[:whole], block), short


def _rows(block):
    return tree.flatten(block)[0].shape[0]
