"""Plain convolutional networks (VGG), first-order and quadratic."""

import keras
from keras import activations

from keras_polynets._errors import activation_of
from keras_polynets._errors import check_input_shape
from keras_polynets._errors import check_positive_integer
from keras_polynets._errors import unknown_name
from keras_polynets.layers import BatchNormalization
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.models.conv_polynomial_net import POOLINGS
from keras_polynets.models.zoo_model import ZooModel
from keras_polynets.models.zoo_model import float32_logits

POOL = "M"
VGG16 = (64, 64, POOL, 128, 128, POOL, *(256,) * 3, POOL)
VGG16 += (*(512,) * 3, POOL, *(512,) * 3, POOL)
VGG7 = (64, 64, POOL, 128, 128, POOL, 256, POOL, 512, POOL, 512, POOL)


@keras.saving.register_keras_serializable(package="keras_polynets")
class VGG(ZooModel):
    """Chain of 3 × 3 convolutions, first-order or quadratic, and poolings.

    Each convolution has a bias, a batch normalisation and the activation
    behind it; global average pooling and a dense layer end the network. The
    layers are named `conv1`, `conv2` and so on, `norm1` ..., `pool1` ....

    Args:
        input_shape: Tuple of 3 integers, the shape of an image. Height and
            width may be `None`.
        classes: Integer, the number of classes.
        layout: Sequence of the filters of each convolution, and `"M"` for a
            2 × 2 max-pooling.
        neuron: The quadratic neuron of the convolutions, a name of
            `keras_polynets.layers.QuadraticConv2D`; `None` for first order.
        branch_normalization: Boolean, whether each linear map of a quadratic
            neuron has a batch normalisation of its own.
        activation: The activation function, such as `"relu"` or
            `keras_polynets.layers.square`; `None` for none.
        include_top: Boolean, whether pooling and the dense layer end the
            network.
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
        ValueError: For an unknown pooling or neuron, an empty layout, images
            too small for the poolings, or a number that is not a positive
            integer.

    Example:

    >>> VGG(classes=100).count_params()
    14782884

    Reference:
        - Simonyan and Zisserman, "Very Deep Convolutional Networks for
          Large-Scale Image Recognition", ICLR 2015, configuration D.
        - Fan et al., "On Expressivity and Trainability of Quadratic
          Networks", 2021, Section V, Quadratic-VGG16.
        - Xu et al., "QuadraLib: A Performant Quadratic Neural Network Library
          for Architecture Optimization and Design Exploration", MLSys 2022.
    """

    def __init__(
        self,
        input_shape=(32, 32, 3),
        classes=10,
        layout=VGG16,
        neuron=None,
        branch_normalization=False,
        activation="relu",
        include_top=True,
        pooling=None,
        classifier_activation=None,
        dtype=None,
        **kwargs,
    ):
        input_shape = check_input_shape(input_shape)
        _check(input_shape, classes, layout, pooling)
        policy = keras.dtype_policies.get(dtype)
        activation = activation_of("activation", activation)
        inputs = keras.Input(
            input_shape, dtype=policy.variable_dtype, name="images"
        )
        x = _convolutions(
            inputs, layout, neuron, branch_normalization, activation, policy
        )
        if include_top or pooling is not None:
            pool = POOLINGS["avg" if include_top else pooling]
            x = pool(dtype=policy, name="pooling")(x)
        if include_top:
            x = keras.layers.Dense(
                classes,
                kernel_initializer="he_normal",
                dtype=policy,
                name="head",
            )(x)
            x = float32_logits(x, policy, classifier_activation)
        super().__init__(
            inputs,
            x,
            config={
                "input_shape": input_shape,
                "classes": classes,
                "layout": tuple(layout),
                "neuron": neuron,
                "branch_normalization": branch_normalization,
                "activation": activations.serialize(activation),
                "include_top": include_top,
                "pooling": pooling,
                "classifier_activation": classifier_activation,
            },
            dtype=policy,
            **kwargs,
        )


def _convolutions(x, layout, neuron, branch_normalization, activation, policy):
    index, pools = 0, 0
    for filters in layout:
        if filters == POOL:
            pools += 1
            x = keras.layers.MaxPooling2D(2, dtype=policy, name=f"pool{pools}")(
                x
            )
            continue
        index += 1
        arguments = {
            "padding": "same",
            "kernel_initializer": keras.initializers.HeNormal(),
            "dtype": policy,
            "name": f"conv{index}",
        }
        if neuron is None:
            x = keras.layers.Conv2D(filters, 3, **arguments)(x)
        else:
            x = QuadraticConv2D(
                filters,
                3,
                neuron=neuron,
                branch_normalization=branch_normalization,
                **arguments,
            )(x)
        x = BatchNormalization(
            momentum=0.9, epsilon=1e-5, dtype=policy, name=f"norm{index}"
        )(x)
        x = keras.layers.Activation(
            activation, dtype=policy, name=f"activation{index}"
        )(x)
    return x


def _check(input_shape, classes, layout, pooling):
    if pooling is not None and pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, POOLINGS)
    check_positive_integer("classes", classes)
    filters = [entry for entry in layout if entry != POOL]
    if not filters:
        raise ValueError(
            "Argument `layout` must hold at least one convolution. "
            f"Received: layout={tuple(layout)}"
        )
    for entry in filters:
        check_positive_integer("layout", entry)
    smallest = 2 ** (len(layout) - len(filters))
    if len(input_shape) != 3 or any(
        size is not None and size < smallest for size in input_shape[:2]
    ):
        raise ValueError(
            "Argument `input_shape` must be (height, width, channels), with a "
            f"height and width of at least {smallest}, which the poolings "
            f"halve to 1. Received: input_shape={input_shape}"
        )
