"""The nested coupled CP decomposition, without and with skips."""

import keras
from keras import constraints
from keras import initializers
from keras import ops
from keras import regularizers

from keras_polynets._errors import unknown_name
from keras_polynets.initializers import reseed
from keras_polynets.layers import recursions
from keras_polynets.layers.dense_polynomial import DensePolynomial


@keras.saving.register_keras_serializable(package="keras_polynets")
class NCP(DensePolynomial):
    """Polynomial of the input by a nested coupled CP decomposition (NCP).

    With the input `z`, the layer computes

        x_1 = (A_1 z) * b_1
        x_n = (A_n z) * (S_n x_{n-1} + b_n),    n = 2, ..., order
        outputs = C x_order + beta

    where `*` is the Hadamard product. Every output is a polynomial of degree
    `order` in `z`. The `order` maps `A_n` are one kernel, `factors.kernel`.
    `state_maps[0]` holds `b_1` as the kernel of a map of the constant 1, and
    `state_maps[n - 1]` holds `S_n` and `b_n`. The papers write `b_n` as a
    product `B_n b_n` of two free factors, which is a free vector.

    Args:
        units: Positive integer, the dimension of the output.
        rank: Positive integer, the dimension of the hidden `x_n`.
        order: Positive integer, the degree of the polynomial.
        use_bias: Boolean, whether the output has the bias `beta`.
        use_factor_bias: Boolean, whether every `A_n z` has a bias.
        factor_initializer: Initializer of each `A_n`, drawn order by order.
        factor_bias_initializer: Initializer of the biases of the factors.
        state_initializer: Initializer of each `S_n`.
        state_bias_initializer: Initializer of each `b_n`. Ones by default:
            then every order starts as `A_n z` plus terms of higher degree.
            Zeros for `b_1` would make the output constant.
        kernel_initializer: Initializer of `C`.
        bias_initializer: Initializer of `beta`.
        factor_regularizer: Regularizer of the kernel of all `A_n`.
        state_regularizer: Regularizer of each `S_n` and of `b_1`.
        kernel_regularizer: Regularizer of `C`.
        bias_regularizer: Regularizer of all other biases.
        factor_constraint: Constraint of the kernel of all `A_n`.
        state_constraint: Constraint of each `S_n` and of `b_1`.
        kernel_constraint: Constraint of `C`.
        bias_constraint: Constraint of `beta`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`. With the policies `"float16"` and `"mixed_float16"`
            everything behind the factors is computed in float32.

    Input shape:
        Tensor of shape `(batch_size, ..., input_dim)`; the last axis is the
        feature axis.

    Output shape:
        Tensor of shape `(batch_size, ..., units)`.

    Raises:
        ValueError: If `units`, `rank` or `order` is not an integer of at
            least 1.

    Example:

    >>> layer = keras_polynets.layers.NCP(units=10, rank=16, order=4)
    >>> layer(np.random.normal(size=(32, 784))).shape
    (32, 10)

    Reference:
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR
          2020, the NCP model.
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Section 2.2.
    """

    _objects = {
        **DensePolynomial._objects,
        "state_initializer": initializers,
        "state_bias_initializer": initializers,
        "state_regularizer": regularizers,
        "state_constraint": constraints,
    }

    def __init__(
        self,
        units,
        rank,
        order,
        *,
        state_initializer="glorot_uniform",
        state_bias_initializer="ones",
        state_regularizer=None,
        state_constraint=None,
        **kwargs,
    ):
        super().__init__(units, rank, order, **kwargs)
        self.state_initializer = initializers.get(state_initializer)
        self.state_bias_initializer = initializers.get(state_bias_initializer)
        self.state_regularizer = regularizers.get(state_regularizer)
        self.state_constraint = constraints.get(state_constraint)
        self.state_maps = [
            self._state_map(
                "first_state",
                0,
                use_bias=False,
                initializer=self.state_bias_initializer,
            ),
            *(
                self._state_map(f"state_{n}", n - 1, use_bias=True)
                for n in range(2, order + 1)
            ),
        ]

    def _state_map(self, name, index, use_bias, initializer=None):
        return keras.layers.Dense(
            self.rank,
            use_bias=use_bias,
            kernel_initializer=initializer
            or reseed(self.state_initializer, index),
            bias_initializer=reseed(self.state_bias_initializer, index),
            kernel_regularizer=self.state_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.state_constraint,
            dtype=self.hadamard_policy,
            name=name,
        )

    def build(self, input_shape):
        super().build(input_shape)
        first, *rest = self.state_maps
        first.build((*input_shape[:-1], 1))
        for state_map in rest:
            state_map.build((*input_shape[:-1], self.rank))

    def combine(self, factors):
        first, *rest = self.state_maps
        one = ops.ones_like(factors[0][..., :1])
        return recursions.ncp(factors, first(one), rest, self._skips())

    def _skips(self):
        return None


@keras.saving.register_keras_serializable(package="keras_polynets")
class NCPSkip(NCP):
    """NCP with a skip from every hidden `x_{n-1}` to the next (NCP-Skip).

    With the input `z`, the layer computes

        x_1 = (A_1 z) * b_1
        x_n = (A_n z) * (S_n x_{n-1} + b_n) + V_n x_{n-1},  n = 2, ..., order
        outputs = C x_order + beta

    Args:
        units: Positive integer, the dimension of the output.
        rank: Positive integer, the dimension of the hidden `x_n`.
        order: Positive integer, the degree of the polynomial.
        skip: `"identity"`, where `V_n` is the identity (CVPR 2020), or
            `"learned"`, where every `V_n` is a matrix of its own (TPAMI 2021).
        skip_initializer: Initializer of each `V_n`, the identity by default.
        skip_regularizer: Regularizer of each `V_n`.
        skip_constraint: Constraint of each `V_n`.
        **kwargs: The other arguments of `keras_polynets.layers.NCP`.

    Input shape:
        Tensor of shape `(batch_size, ..., input_dim)`; the last axis is the
        feature axis.

    Output shape:
        Tensor of shape `(batch_size, ..., units)`.

    Raises:
        ValueError: If `skip` is another word, or if `units`, `rank` or
            `order` is not an integer of at least 1.

    Example:

    >>> layer = keras_polynets.layers.NCPSkip(10, 16, 4, skip="learned")
    >>> layer(np.random.normal(size=(32, 784))).shape
    (32, 10)

    Reference:
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR
          2020, the NCP model with skip connections.
        - Chrysos et al., "Deep Polynomial Neural Networks", TPAMI 2021, the
          NCP-Skip model.
    """

    _objects = {
        **NCP._objects,
        "skip_initializer": initializers,
        "skip_regularizer": regularizers,
        "skip_constraint": constraints,
    }

    def __init__(
        self,
        units,
        rank,
        order,
        *,
        skip="identity",
        skip_initializer="identity",
        skip_regularizer=None,
        skip_constraint=None,
        **kwargs,
    ):
        super().__init__(units, rank, order, **kwargs)
        if skip not in ("identity", "learned"):
            raise unknown_name("skip", skip, ("identity", "learned"))
        self.skip = skip
        self.skip_initializer = initializers.get(skip_initializer)
        self.skip_regularizer = regularizers.get(skip_regularizer)
        self.skip_constraint = constraints.get(skip_constraint)
        self.skip_maps = [
            keras.layers.Dense(
                rank,
                use_bias=False,
                kernel_initializer=reseed(self.skip_initializer, n),
                kernel_regularizer=self.skip_regularizer,
                kernel_constraint=self.skip_constraint,
                dtype=self.hadamard_policy,
                name=f"skip_{n}",
            )
            for n in range(2, order + 1)
            if skip == "learned"
        ]

    def build(self, input_shape):
        super().build(input_shape)
        for skip_map in self.skip_maps:
            skip_map.build((*input_shape[:-1], self.rank))

    def _skips(self):
        return self.skip_maps or [lambda x: x] * (self.order - 1)

    def get_config(self):
        return {**super().get_config(), "skip": self.skip}
