"""Convolutional polynomial networks: PN-Conv and its kin."""

import keras

from keras_polynets._errors import check_input_shape
from keras_polynets._errors import unknown_name
from keras_polynets.layers import CCPConv2D
from keras_polynets.models.polynomial_net import uniform_by_fan_in
from keras_polynets.models.zoo_model import ZooModel
from keras_polynets.models.zoo_model import float32_logits

POOLINGS = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}


@keras.saving.register_keras_serializable(package="keras_polynets")
class ConvPolynomialNet(ZooModel):
    """Classifier that is a polynomial of the image, with convolutions.

    A convolution, a `keras_polynets.layers.CCPConv2D` and a dense layer,
    without any activation function: each logit is a polynomial of degree
    `order` in the pixels.

    Args:
        input_shape: Tuple of 3 integers, the shape of an image. `(28, 28, 1)`
            by default.
        classes: Integer, the number of classes.
        order: Integer, the degree of the polynomial.
        filters: Integer, the channels of every map.
        kernel_size: Integer, the window of the maps of the polynomial.
        pool_after: Tuple of integers, the orders after which the map is
            average-pooled by 2.
        include_top: Boolean, whether the dense layer ends the network.
        pooling: Without top: `None` for the feature map, `"avg"` or `"max"`.
        classifier_activation: `None` for logits, or `"softmax"`.
        **kwargs: `input_range`, `data_range`, `class_names`, `name`, `dtype`
            and `trainable` of `keras_polynets.models.ZooModel`.

    Input shape:
        Float tensor of shape `(batch_size, *input_shape)` in `input_range`.

    Output shape:
        Float tensor of shape `(batch_size, classes)`, logits; without top the
        map `(batch_size, height, width, filters)` or, pooled,
        `(batch_size, filters)`.

    Raises:
        ValueError: For an unknown pooling, images too small for the poolings,
            or a number that is not a positive integer.

    Example:

    >>> model = ConvPolynomialNet()
    >>> model.count_params()
    58186

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Section 4.1, PN-Conv.
    """

    def __init__(
        self,
        input_shape=(28, 28, 1),
        classes=10,
        order=4,
        filters=16,
        kernel_size=7,
        pool_after=(2, 3),
        include_top=True,
        pooling=None,
        classifier_activation=None,
        dtype=None,
        **kwargs,
    ):
        if pooling is not None and pooling not in POOLINGS:
            raise unknown_name("pooling", pooling, POOLINGS)
        input_shape = check_input_shape(input_shape)
        smallest = 2 ** len(pool_after)
        if len(input_shape) != 3 or min(input_shape[:2]) < smallest:
            raise ValueError(
                "Argument `input_shape` must be (height, width, channels), "
                f"with a height and width of at least {smallest}. "
                f"Received: input_shape={input_shape}"
            )
        policy = keras.dtype_policies.get(dtype)
        normal = keras.initializers.RandomNormal(stddev=0.02)
        inputs = keras.Input(
            input_shape, dtype=policy.variable_dtype, name="images"
        )
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=normal,
            dtype=policy,
            name="stem",
        )(inputs)
        x = CCPConv2D(
            filters,
            kernel_size,
            order,
            pool_after=pool_after,
            factor_initializer=keras.initializers.RandomNormal(stddev=0.02),
            dtype=policy,
            name="polynomial",
        )(x)
        if include_top:
            x = keras.layers.Flatten(dtype=policy, name="flatten")(x)
            x = keras.layers.Dense(
                classes,
                kernel_initializer=uniform_by_fan_in(),
                dtype=policy,
                name="head",
            )(x)
            x = float32_logits(x, policy, classifier_activation)
        elif pooling is not None:
            x = POOLINGS[pooling](dtype=policy, name="pooling")(x)
        super().__init__(
            inputs,
            x,
            config={
                "input_shape": input_shape,
                "classes": classes,
                "order": order,
                "filters": filters,
                "kernel_size": kernel_size,
                "pool_after": tuple(pool_after),
                "include_top": include_top,
                "pooling": pooling,
                "classifier_activation": classifier_activation,
            },
            dtype=policy,
            **kwargs,
        )
