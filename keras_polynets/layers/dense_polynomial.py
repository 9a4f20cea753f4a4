"""What the dense polynomial layers share: their maps and configuration."""

import keras
from keras import constraints
from keras import initializers
from keras import ops
from keras import regularizers

from keras_polynets._errors import check_positive_integer
from keras_polynets.initializers import Blockwise


def hadamard_policy(policy):
    """Returns the dtype policy in which Hadamard products are computed.

    Products of more than two factors overflow float16 (256 × 256 is already
    too large), so that everything behind the factors is float32 there.

    Args:
        policy: The `keras.DTypePolicy` of the layer.
    """
    if policy.compute_dtype == "float16":
        return keras.DTypePolicy("float32")
    return policy


class DensePolynomial(keras.layers.Layer):
    """A polynomial of the last axis of the input, in factorised form.

    Subclasses say how the factors are combined in `combine(factors)`.

    Args: see `CCP`.
    """

    # Argument → the module of Keras that reads and writes it.
    _objects = {
        "factor_initializer": initializers,
        "factor_bias_initializer": initializers,
        "kernel_initializer": initializers,
        "bias_initializer": initializers,
        "factor_regularizer": regularizers,
        "kernel_regularizer": regularizers,
        "bias_regularizer": regularizers,
        "factor_constraint": constraints,
        "kernel_constraint": constraints,
        "bias_constraint": constraints,
    }

    def __init__(
        self,
        units,
        rank,
        order,
        *,
        use_bias=True,
        use_factor_bias=False,
        factor_initializer="glorot_uniform",
        factor_bias_initializer="zeros",
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        factor_regularizer=None,
        kernel_regularizer=None,
        bias_regularizer=None,
        factor_constraint=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("units", units), ("rank", rank), ("order", order)):
            check_positive_integer(name, value)
        self.units = units
        self.rank = rank
        self.order = order
        self.use_bias = use_bias
        self.use_factor_bias = use_factor_bias
        self.factor_initializer = initializers.get(factor_initializer)
        self.factor_bias_initializer = initializers.get(factor_bias_initializer)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.factor_regularizer = regularizers.get(factor_regularizer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.factor_constraint = constraints.get(factor_constraint)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.factors = keras.layers.Dense(
            order * rank,
            use_bias=use_factor_bias,
            kernel_initializer=Blockwise(self.factor_initializer, order),
            bias_initializer=self.factor_bias_initializer,
            kernel_regularizer=self.factor_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.factor_constraint,
            dtype=self.dtype_policy,
            name="factors",
        )
        self.output_map = keras.layers.Dense(
            units,
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.hadamard_policy,
            name="output_map",
        )

    @property
    def hadamard_policy(self):
        return hadamard_policy(self.dtype_policy)

    def build(self, input_shape):
        self.factors.build(input_shape)
        self.output_map.build((*input_shape[:-1], self.rank))

    def call(self, inputs):
        factors = ops.cast(
            self.factors(inputs), self.hadamard_policy.compute_dtype
        )
        hidden = self.combine(ops.split(factors, self.order, axis=-1))
        return ops.cast(self.output_map(hidden), self.compute_dtype)

    def combine(self, factors):
        """Returns `x_N`, given the `order` factors of shape `(..., rank)`."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def polynomial_degree(self, degrees):
        """Returns the degree of the output, given those of the inputs."""
        return self.order * degrees[0]

    def get_config(self):
        config = {
            "units": self.units,
            "rank": self.rank,
            "order": self.order,
            "use_bias": self.use_bias,
            "use_factor_bias": self.use_factor_bias,
        }
        for name, module in self._objects.items():
            config[name] = module.serialize(getattr(self, name))
        return {**super().get_config(), **config}
