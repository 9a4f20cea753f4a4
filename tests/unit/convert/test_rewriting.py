import keras
import numpy as np
from keras import layers

from keras_polynets.convert.rewriting import rewrite


def residual():
    """A residual sum inside a model inside a sequential model."""
    inputs = keras.Input((4,), name="within")
    x = layers.Dense(4, name="branch")(inputs)
    block = keras.Model(
        inputs, layers.Add(name="sum")([x, inputs]), name="block"
    )
    return keras.Sequential(
        [keras.Input((4,), name="x"), block, layers.Dense(2, name="head")]
    )


def test_layers_can_be_added_where_an_operation_is_called():
    """As a second-order term is, at the sum of a residual block."""
    model = residual()

    def call(source, target, *args, **kwargs):
        if type(source) is not layers.Add:
            return target(*args, **kwargs)
        product = layers.Multiply(name=f"{source.name}_product")(args[0])
        return target([*args[0], product], **kwargs)

    rewritten = rewrite(model, lambda path, layer: None, call)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    kernel, bias, head, head_bias = model.get_weights()
    branch = x @ kernel + bias
    expected = (x + branch + x * branch) @ head + head_bias
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(rewritten.model(x)), expected, atol=1e-5
    )
    block = rewritten.model.get_layer("block")
    assert block.get_layer("sum_product") is not None
    assert [pair.path for pair in rewritten.pairs] == [
        "block/branch",
        "block/sum",
        "head",
    ]


def test_a_copy_is_the_same_model():
    model = residual()
    rewritten = rewrite(model, lambda path, layer: None)
    assert rewritten.model.get_config() == model.get_config()
    assert not any(pair.replaced for pair in rewritten.pairs)
    for a, b in zip(model.weights, rewritten.model.weights, strict=True):
        assert a is not b and a.path == b.path
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (a, b)))


def test_call_arguments_and_masks_are_kept():
    inputs = keras.Input((5,), dtype="int32", name="tokens")
    x = layers.Embedding(7, 4, mask_zero=True, name="embedding")(inputs)
    x = layers.Dropout(0.5, name="dropout")(x, training=False)
    x = layers.MultiHeadAttention(2, 3, name="attention")(
        x, x, use_causal_mask=True
    )
    model = keras.Model(inputs, layers.GlobalAveragePooling1D(name="mean")(x))
    tokens = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 1, 2]])
    copy = rewrite(model, lambda path, layer: None).model
    np.testing.assert_array_equal(
        *(keras.ops.convert_to_numpy(m(tokens)) for m in (model, copy))
    )
