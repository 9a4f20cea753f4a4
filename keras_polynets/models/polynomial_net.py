"""Dense polynomial networks: PN-4, PN-10, NCP-4 and their kin."""

import keras

from keras_polynets._errors import check_input_shape
from keras_polynets._errors import unknown_name
from keras_polynets.layers import CCP
from keras_polynets.layers import NCP
from keras_polynets.layers import NCPSkip
from keras_polynets.models.zoo_model import ZooModel
from keras_polynets.models.zoo_model import float32_logits

DECOMPOSITIONS = {"ccp": CCP, "ncp": NCP, "ncp_skip": NCPSkip}


def uniform_by_fan_in():
    """Returns the initializer U(-1/√fan_in, 1/√fan_in) of the released code."""
    return keras.initializers.VarianceScaling(
        1 / 3, mode="fan_in", distribution="uniform"
    )


@keras.saving.register_keras_serializable(package="keras_polynets")
class PolynomialNet(ZooModel):
    """Classifier that is one polynomial of the flattened image.

    The network has no activation function: each logit is a polynomial of
    degree `order` in the pixels.

    Args:
        input_shape: Tuple of integers, the shape of an image. `(28, 28, 1)`
            by default.
        classes: Integer, the number of classes.
        decomposition: `"ccp"`, `"ncp"` or `"ncp_skip"`.
        order: Integer, the degree of the polynomial.
        rank: Integer, the rank of the decomposition.
        use_factor_bias: Boolean, whether the factors have biases.
        classifier_activation: `None` for logits, or `"softmax"`. Attacks,
            losses and certificates need logits.
        **kwargs: `input_range`, `data_range`, `class_names`, `name`, `dtype`
            and `trainable` of `keras_polynets.models.ZooModel`.

    Input shape:
        Float tensor of shape `(batch_size, *input_shape)` in `input_range`.

    Output shape:
        Float tensor of shape `(batch_size, classes)`, logits.

    Raises:
        ValueError: For an unknown decomposition, or a shape, a rank or an
            order that is not of positive integers.

    Example:

    >>> model = PolynomialNet(order=4)
    >>> model.count_params()
    50346

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Section 4.1.
    """

    def __init__(
        self,
        input_shape=(28, 28, 1),
        classes=10,
        decomposition="ccp",
        order=4,
        rank=16,
        use_factor_bias=False,
        classifier_activation=None,
        dtype=None,
        **kwargs,
    ):
        if decomposition not in DECOMPOSITIONS:
            raise unknown_name("decomposition", decomposition, DECOMPOSITIONS)
        input_shape = check_input_shape(input_shape)
        policy = keras.dtype_policies.get(dtype)
        inputs = keras.Input(
            input_shape, dtype=policy.variable_dtype, name="images"
        )
        x = keras.layers.Flatten(dtype=policy, name="flatten")(inputs)
        x = DECOMPOSITIONS[decomposition](
            classes,
            rank,
            order,
            use_factor_bias=use_factor_bias,
            factor_initializer=uniform_by_fan_in(),
            kernel_initializer=uniform_by_fan_in(),
            dtype=policy,
            name="polynomial",
        )(x)
        outputs = float32_logits(x, policy, classifier_activation)
        super().__init__(
            inputs,
            outputs,
            config={
                "input_shape": input_shape,
                "classes": classes,
                "decomposition": decomposition,
                "order": order,
                "rank": rank,
                "use_factor_bias": use_factor_bias,
                "classifier_activation": classifier_activation,
            },
            dtype=policy,
            **kwargs,
        )

    @property
    def head(self):
        return self.get_layer("polynomial").output_map
