"""Quadratic neurons over linear maps: what their layers share, and Dense."""

import keras
from keras import activations
from keras import constraints
from keras import initializers
from keras import ops
from keras import regularizers

from keras_polynets.initializers import reseed
from keras_polynets.layers import neurons
from keras_polynets.layers.batch_normalization import BatchNormalization
from keras_polynets.layers.degrees import after_activation
from keras_polynets.layers.dense_polynomial import hadamard_policy
from keras_polynets.layers.quadratic_power import recomputed


class QuadraticLayer(keras.layers.Layer):
    """What all layers of quadratic neurons share.

    A quadratic layer owns linear maps, Keras layers without activation, and
    combines what they yield by the formula of its neuron, for `"full"`

        (W_r x + b_r) * (W_g x + b_g) + W_b (x * x) + c

    where `*` is the Hadamard product. The maps are the attributes `linear`
    (`W_r`), `gate` (`W_g`), `power` (`W_b`) and `addend` (a third first-order
    map); those that the neuron lacks are `None`. Every variable of a map
    carries its role as `variable.quadratic_role`.

    By default the layer starts as its linear map alone, a conventional layer:
    the gate at 1, the power term at 0 (ReLinear). On TensorFlow the square of
    the input is not kept for the backward pass but computed again.

    This class is there for `isinstance`. Subclasses name the class of the
    maps in `_map_class`, and its arguments that shape them in `_geometry`.

    Args:
        neuron: String, the quadratic neuron: `"full"`, `"compact"`,
            `"parabolic"`, `"poly"`, `"qres"`, `"quadralib"`, `"goyal"`,
            `"type2"`, `"type3"`, `"type4"` or `"type2_4"`. See
            `keras_polynets.layers.neurons.NEURONS` and docs/neurons.md.
        activation: The activation behind the neurons.
        use_bias: Boolean, whether every map has a bias; for `"poly"` and
            `"qres"`, which are the same but for it, whether the neuron has
            one. By default that of the neuron. A gate without bias cannot be
            1, so that there is no first-order point to start from: see
            `first_order`.
        branch_normalization: Boolean, whether a batch normalisation follows
            each map, as in QuadraLib's release.
        kernel_initializer: Initializer of the kernel of the linear map, and of
            the others where there is no first-order point. Each map draws
            kernels of its own.
        bias_initializer: The same for the biases.
        gate_kernel_initializer: Initializer of the gate's kernel. `None`
            stands for the first-order point (0 or, for the bias, 1), or for
            `kernel_initializer` where there is none. The same holds for the
            next five.
        gate_bias_initializer: Initializer of the gate's bias.
        power_kernel_initializer: Initializer of the power term's kernel.
        power_bias_initializer: Initializer of the power term's bias.
        addend_kernel_initializer: Initializer of the addend's kernel.
        addend_bias_initializer: Initializer of the addend's bias.
        kernel_regularizer: Regularizer of every kernel.
        bias_regularizer: Regularizer of every bias.
        kernel_constraint: Constraint of every kernel.
        bias_constraint: Constraint of every bias.
        **kwargs: The arguments that shape the maps, and those of
            `keras.layers.Layer`: `name`, `dtype`, `trainable`,
            `activity_regularizer`. With the policies `"float16"` and
            `"mixed_float16"` the square, its map and the Hadamard product are
            computed in float32.

    Input shape:
        That of the maps.

    Output shape:
        That of the maps.

    Raises:
        ValueError: If there is no neuron of this name.

    Example:

    >>> quadratic = [
    ...     layer
    ...     for layer in model.layers
    ...     if isinstance(layer, keras_polynets.layers.QuadraticLayer)
    ... ]

    Reference:
        - Fan et al., "On Expressivity and Trainability of Quadratic
          Networks", 2021, Equation (4) and Section IV-A.
    """

    _map_class = None
    _geometry = ()
    _objects = {
        "activation": activations,
        "kernel_initializer": initializers,
        "bias_initializer": initializers,
        "gate_kernel_initializer": initializers,
        "gate_bias_initializer": initializers,
        "power_kernel_initializer": initializers,
        "power_bias_initializer": initializers,
        "addend_kernel_initializer": initializers,
        "addend_bias_initializer": initializers,
        "kernel_regularizer": regularizers,
        "bias_regularizer": regularizers,
        "kernel_constraint": constraints,
        "bias_constraint": constraints,
    }

    def __init__(
        self,
        *,
        neuron="full",
        activation=None,
        use_bias=None,
        branch_normalization=False,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        gate_kernel_initializer=None,
        gate_bias_initializer=None,
        power_kernel_initializer=None,
        power_bias_initializer=None,
        addend_kernel_initializer=None,
        addend_bias_initializer=None,
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        geometry = {name: kwargs.pop(name) for name in self._geometry}
        super().__init__(**kwargs)
        self._neuron = neurons.get(neuron, use_bias)
        self.neuron = self._neuron.name
        self.use_bias = (
            self._neuron.use_bias if use_bias is None else bool(use_bias)
        )
        self.branch_normalization = bool(branch_normalization)
        objects = {
            "activation": activation,
            "kernel_initializer": kernel_initializer,
            "bias_initializer": bias_initializer,
            "gate_kernel_initializer": gate_kernel_initializer,
            "gate_bias_initializer": gate_bias_initializer,
            "power_kernel_initializer": power_kernel_initializer,
            "power_bias_initializer": power_bias_initializer,
            "addend_kernel_initializer": addend_kernel_initializer,
            "addend_bias_initializer": addend_bias_initializer,
            "kernel_regularizer": kernel_regularizer,
            "bias_regularizer": bias_regularizer,
            "kernel_constraint": kernel_constraint,
            "bias_constraint": bias_constraint,
        }
        for name, module in self._objects.items():
            setattr(self, name, module.get(objects[name]))
        self.bias = None
        for role in neurons.ROLES:
            owned = role in self._neuron.branches
            setattr(self, role, self._map(role, geometry) if owned else None)
        # As the maps hold them: `kernel_size=3` has become `(3, 3)`.
        first = next(iter(self.branches().values()))
        for name in self._geometry:
            setattr(self, name, getattr(first, name))
        for role in self._neuron.branches if self.branch_normalization else ():
            setattr(self, f"{role}_normalization", self._normalization(role))

    @property
    def first_order(self):
        """The constants at which the layer equals its linear branch.

        Dictionary from a branch to `(kernel, bias)`, or `None` where there is
        no such point: for neurons without one, for gates that cannot be 1 as
        they have no bias, and with `branch_normalization`.
        """
        point = self._neuron.first_order
        if point is None or self.branch_normalization:
            return None
        if not self.use_bias and any(bias for _, bias in point.values()):
            return None
        return dict(point)

    @property
    def _branch_bias(self):
        return self.use_bias and not self._neuron.outer_bias

    def branches(self):
        """Returns the linear maps: a dictionary from a role to a Keras layer.

        The roles that the neuron has, in this order: `"linear"`, `"gate"`,
        `"power"` (which acts on the square of the input) and `"addend"`.
        """
        return {r: getattr(self, r) for r in self._neuron.branches}

    def _map(self, role, geometry):
        kernel_initializer, bias_initializer = self._initializers(role)
        return self._map_class(
            **geometry,
            use_bias=self._branch_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            trainable=self.trainable,
            # The square of the input overflows float16 as products do.
            dtype=(
                hadamard_policy(self.dtype_policy)
                if role == "power"
                else self.dtype_policy
            ),
            name=role,
        )

    def _initializers(self, role):
        """Returns the initializers of the kernel and the bias of a branch."""
        kernel = reseed(self.kernel_initializer, neurons.ROLES.index(role))
        bias = self.bias_initializer
        if self.first_order and role in self.first_order:
            kernel, bias = map(initializers.Constant, self.first_order[role])
        return (
            getattr(self, f"{role}_kernel_initializer", None) or kernel,
            getattr(self, f"{role}_bias_initializer", None) or bias,
        )

    def _normalization(self, role):
        # As in QuadraLib's release.
        return BatchNormalization(
            axis=self._channel_axis,
            momentum=0.9,
            epsilon=1e-5,
            trainable=self.trainable,
            dtype=hadamard_policy(self.dtype_policy),
            name=f"{role}_normalization",
        )

    @property
    def _channel_axis(self):
        """The axis of the outputs along which the neurons lie."""
        data_format = getattr(self, "data_format", "channels_last")
        return -1 if data_format == "channels_last" else 1

    def build(self, input_shape):
        for role, branch in self.branches().items():
            branch.build(input_shape)
            for variable in branch.variables:
                variable.quadratic_role = role
            if self.branch_normalization:
                getattr(self, f"{role}_normalization").build(
                    branch.compute_output_shape(input_shape)
                )
        if self.use_bias and self._neuron.outer_bias:
            self.bias = self.add_weight(
                shape=(
                    self.compute_output_shape(input_shape)[self._channel_axis],
                ),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                name="bias",
            )
            self.bias.quadratic_role = "linear"

    def call(self, inputs, training=None):
        dtype = hadamard_policy(self.dtype_policy).compute_dtype
        maps = {}
        for role, branch in self.branches().items():
            if role == "power":
                outputs = recomputed(self._power, ops.cast(inputs, dtype))
            else:
                outputs = branch(inputs)
            if self.branch_normalization:
                normalization = getattr(self, f"{role}_normalization")
                outputs = normalization(outputs, training=training)
            maps[role] = ops.cast(outputs, dtype)
        outputs = self._neuron.combine(maps)
        if self.bias is not None:
            shape = [1] * len(outputs.shape)
            shape[self._channel_axis] = -1
            outputs = outputs + ops.reshape(ops.cast(self.bias, dtype), shape)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return ops.cast(outputs, self.compute_dtype)

    def _power(self, inputs):
        return self.power(ops.square(inputs))

    def compute_output_shape(self, input_shape):
        first = next(iter(self.branches().values()))
        return tuple(first.compute_output_shape(input_shape))

    def polynomial_degree(self, degrees):
        """Returns the degree of the output, given those of the inputs.

        `None` where the activation is not known as a polynomial.
        """
        return after_activation(self.activation, 2 * degrees[0])

    def get_config(self):
        config = {
            "neuron": self.neuron,
            "use_bias": self.use_bias,
            "branch_normalization": self.branch_normalization,
        }
        for name in self._geometry:
            config[name] = getattr(self, name)
        for name, module in self._objects.items():
            config[name] = module.serialize(getattr(self, name))
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="keras_polynets")
class QuadraticDense(QuadraticLayer):
    """Densely connected layer of quadratic neurons.

    Stands wherever a `keras.layers.Dense` does. The neuron `"full"` computes

        activation((W_r x + b_r) * (W_g x + b_g) + W_b (x * x) + c)

    and starts as the conventional `activation(W_r x + b_r)`.

    Args:
        units: Positive integer, the dimension of the output.
        neuron: String, the quadratic neuron: `"full"`, `"compact"`,
            `"parabolic"`, `"poly"`, `"qres"`, `"quadralib"`, `"goyal"`,
            `"type2"`, `"type3"`, `"type4"` or `"type2_4"`. See
            `keras_polynets.layers.neurons.NEURONS` and docs/neurons.md.
        **kwargs: `activation`, `use_bias`, initializers, regularizers and
            constraints as in `keras_polynets.layers.QuadraticLayer`, and
            `name`, `dtype`, `trainable`.

    Input shape:
        Tensor of shape `(batch_size, ..., input_dim)`; the last axis is the
        feature axis.

    Output shape:
        Tensor of shape `(batch_size, ..., units)`.

    Raises:
        ValueError: If there is no neuron of this name, or `units` is not a
            positive integer.

    Example:

    >>> layer = keras_polynets.layers.QuadraticDense(10, activation="relu")
    >>> layer(np.random.normal(size=(32, 784))).shape
    (32, 10)

    Reference:
        - Fan et al., "On Expressivity and Trainability of Quadratic
          Networks", 2021, Equation (4).
    """

    _map_class = keras.layers.Dense
    _geometry = ("units",)

    def __init__(self, units, *, neuron="full", **kwargs):
        super().__init__(units=units, neuron=neuron, **kwargs)
