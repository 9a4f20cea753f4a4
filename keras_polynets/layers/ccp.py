"""The coupled CP decomposition as a Keras layer."""

import keras

from keras_polynets.layers import recursions
from keras_polynets.layers.dense_polynomial import DensePolynomial


@keras.saving.register_keras_serializable(package="keras_polynets")
class CCP(DensePolynomial):
    """Polynomial of the input by a coupled CP decomposition (CCP).

    With the input `z`, the layer computes

        x_1 = U_1 z
        x_n = (U_n z) * x_{n-1} + x_{n-1},    n = 2, ..., order
        outputs = C x_order + beta

    where `*` is the Hadamard product. Every output is a polynomial of degree
    `order` in `z`. The `order` maps `U_n` are one kernel, `factors.kernel`,
    side by side along its last axis, so that they cost one matrix product.

    Args:
        units: Positive integer, the dimension of the output.
        rank: Positive integer, the rank of the decomposition, which is the
            dimension of the hidden `x_n`.
        order: Positive integer, the degree of the polynomial.
        use_bias: Boolean, whether the output has the bias `beta`.
        use_factor_bias: Boolean, whether every `U_n z` has a bias. The paper
            has none; with it the polynomial keeps its degree and gains terms
            without `U_1`.
        factor_initializer: Initializer of each `U_n`, drawn order by order.
        factor_bias_initializer: Initializer of the biases of the factors.
        kernel_initializer: Initializer of `C`.
        bias_initializer: Initializer of `beta`.
        factor_regularizer: Regularizer of the kernel of all `U_n`.
        kernel_regularizer: Regularizer of `C`.
        bias_regularizer: Regularizer of all biases.
        factor_constraint: Constraint of the kernel of all `U_n`, for example
            `keras_polynets.constraints.LInfOperatorNorm`.
        kernel_constraint: Constraint of `C`.
        bias_constraint: Constraint of `beta`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`. With the policies `"float16"` and `"mixed_float16"`
            the Hadamard products are computed in float32.

    Input shape:
        Tensor of shape `(batch_size, ..., input_dim)`; the last axis is the
        feature axis. Most often `(batch_size, input_dim)`.

    Output shape:
        Tensor of shape `(batch_size, ..., units)`.

    Raises:
        ValueError: If `units`, `rank` or `order` is not an integer of at
            least 1.

    Example:

    >>> layer = keras_polynets.layers.CCP(units=10, rank=16, order=4)
    >>> layer(np.random.normal(size=(32, 784))).shape
    (32, 10)

    Reference:
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR
          2020, the CCP model.
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Section 2.1.
    """

    def combine(self, factors):
        return recursions.ccp(factors)
