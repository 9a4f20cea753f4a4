"""The residual block of every residual network of the zoo, configured."""

import dataclasses
import functools

import keras

from keras_polynets.layers import BatchNormalization
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.layers.dense_polynomial import hadamard_policy
from keras_polynets.layers.residual import PadShortcut
from keras_polynets.layers.residual import ScalarGate
from keras_polynets.models.polynomial_net import uniform_by_fan_in

# What follows a branch: the convolutions of a block, as (share of the output's
# filters, window, whether it has the stride); `None` is the block's window.
BRANCHES = {
    "basic": ((1, None, True), (1, None, False)),
    "bottleneck": ((4, 1, True), (4, None, False), (1, 1, False)),
    "single": ((1, None, True),),
}
SHORTCUTS = ("projection", "projection_always", "pad")
NORMALIZATIONS = ("batch", "instance")
OPERAND_MAPS = (None, "conv", "factorized")
PRODUCT_MAPS = (None, "all", "identity")


def kaiming(mode):
    """Returns a fresh N(0, 2 / fan), not truncated, as PyTorch draws it.

    Args:
        mode: `"fan_in"` or `"fan_out"`.
    """
    return keras.initializers.VarianceScaling(
        2.0, mode=mode, distribution="untruncated_normal"
    )


def small_normal():
    """Returns a fresh N(0, 0.01), the head of OpenMMLab's residual networks."""
    return keras.initializers.RandomNormal(stddev=0.01)


fan_out = functools.partial(kaiming, "fan_out")
fan_in = functools.partial(kaiming, "fan_in")

# The kernels as the released programs draw them. An initializer draws the same
# numbers each time it is called: these are functions that make fresh ones.
INITIALIZATIONS = {
    "fan_out": {
        "stem": fan_out,
        "block": fan_out,
        "head": uniform_by_fan_in,
    },
    "fan_out_small_head": {
        "stem": fan_out,
        "block": fan_out,
        "head": small_normal,
    },
    "fan_in": {"stem": fan_in, "block": fan_in, "head": fan_in},
    "fan_in_blocks": {
        "stem": uniform_by_fan_in,
        "block": fan_in,
        "head": uniform_by_fan_in,
    },
}


@dataclasses.dataclass(frozen=True)
class ResidualBlock:
    """Adds one residual block after another to the graph of a model.

    With the input `z`, the shortcut `s` and the residual branch `F`,

        y = act(s + [alpha] F(z) + sum_k [gate_k] N(L(t(F(z) * X^(k-1)))))

    where k runs from 2 to `order`, `*` is the Hadamard product, `X` is the
    map of the operand, `t` an activation, `L` the 1 × 1 map of the product and
    `N` its normalisation; each of them may be absent. The arguments are those
    of `keras_polynets.models.ResNet`, `policy` beside them.
    """

    policy: keras.DTypePolicy
    branch: str = "basic"
    kernel_size: int = 3
    activation: str | None = "relu"
    shortcut: str = "projection"
    shortcut_normalization: str = "batch"
    neuron: str | None = None
    branch_normalization: bool = False
    use_bias: bool | None = None
    order: int = 1
    operand_map: str | None = None
    product_map: str | None = None
    product_activation: str | None = None
    product_normalization: str | None = None
    gate: bool = False
    add_residual: bool = True
    rezero: bool = False
    zero_init_residual: bool = False
    epsilon: float = 1e-5
    initialization: str = "fan_out"

    def __call__(self, inputs, filters, strides, name):
        """Returns the output of a block.

        Args:
            inputs: Symbolic tensor of shape `(batch, height, width, channels)`.
            filters: Integer, the channels of the output.
            strides: Integer.
            name: String, the name of the last layer and the beginning of the
                names of the others.
        """
        same_shape = strides == 1 and inputs.shape[-1] == filters
        shortcut = self._shortcut(inputs, filters, strides, same_shape, name)
        residual = self._residual(inputs, filters, strides, name)
        terms = [shortcut]
        if self.rezero:
            gate = ScalarGate(dtype=self.policy, name=f"{name}_rezero")
            terms.append(gate(residual))
        elif self.add_residual:
            terms.append(residual)
        if self.order > 1:
            mapped = self.product_map == "all" or (
                self.product_map == "identity" and same_shape
            )
            zero = None if mapped else self._zero_map
            operand = self._operand(inputs, shortcut, strides, zero, name)
            terms += self._products(residual, operand, mapped, name)
        last = name if self.activation is None else f"{name}_sum"
        outputs = keras.layers.Add(dtype=self.policy, name=last)(terms)
        return self.activate(outputs, name)

    @property
    def operand_starts_at_zero(self):
        """Whether the map of an operand is zero before training."""
        maps = self.operand_map is not None and self.product_map != "all"
        return self.order > 1 and maps and self._zero_map is not None

    def initializer(self, part):
        """Returns a fresh initializer for `"stem"`, `"block"` or `"head"`."""
        return INITIALIZATIONS[self.initialization][part]()

    def activate(self, x, name):
        """Applies the activation of the network, if it has one."""
        if self.activation is None:
            return x
        return keras.layers.Activation(
            self.activation, dtype=self.policy, name=name
        )(x)

    def normalize(self, x, name, kind="batch", gamma="ones"):
        """Applies batch normalisation, or instance normalisation.

        The latter is PyTorch's: without parameters.
        """
        if kind == "instance":
            return keras.layers.GroupNormalization(
                groups=-1,
                axis=-1,
                epsilon=self.epsilon,
                center=False,
                scale=False,
                dtype=self.policy,
                name=name,
            )(x)
        return BatchNormalization(
            axis=-1,
            momentum=0.9,
            epsilon=self.epsilon,
            gamma_initializer=gamma,
            dtype=self.policy,
            name=name,
        )(x)

    def convolve(self, x, filters, kernel_size, strides, name, kernel=None):
        """Applies a first-order convolution, padded evenly, without bias."""
        padding, x = self._pad(x, kernel_size, strides, name)
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            strides,
            padding,
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=kernel or self.initializer("block"),
            dtype=self.policy,
            name=name,
        )(x)

    def _pad(self, x, kernel_size, strides, name):
        """Pads as PyTorch does; Keras pads strided windows unevenly."""
        if kernel_size == 1:
            return "valid", x
        if strides == 1:
            return "same", x
        pad = keras.layers.ZeroPadding2D(
            kernel_size // 2,
            data_format="channels_last",
            dtype=self.policy,
            name=f"{name}_pad",
        )
        return "valid", pad(x)

    def _neurons(self, x, filters, kernel_size, strides, name):
        """Applies a convolution of the block's neuron."""
        if self.neuron is None:
            return self.convolve(x, filters, kernel_size, strides, name)
        padding, x = self._pad(x, kernel_size, strides, name)
        return QuadraticConv2D(
            filters,
            kernel_size,
            neuron=self.neuron,
            strides=strides,
            padding=padding,
            data_format="channels_last",
            use_bias=self.use_bias,
            branch_normalization=self.branch_normalization,
            kernel_initializer=self.initializer("block"),
            dtype=self.policy,
            name=name,
        )(x)

    def _shortcut(self, inputs, filters, strides, same_shape, name):
        if same_shape and self.shortcut != "projection_always":
            return inputs
        name = f"{name}_shortcut"
        if self.shortcut == "pad":
            pad = PadShortcut(filters, strides, dtype=self.policy, name=name)
            return pad(inputs)
        x = self.convolve(inputs, filters, 1, strides, f"{name}_conv")
        return self.normalize(x, f"{name}_norm", self.shortcut_normalization)

    def _residual(self, x, filters, strides, name):
        convolutions = BRANCHES[self.branch]
        for i, (share, window, strided) in enumerate(convolutions, start=1):
            last = i == len(convolutions)
            x = self._neurons(
                x,
                filters // share,
                window or self.kernel_size,
                strides if strided else 1,
                f"{name}_conv{i}",
            )
            zero = last and self.zero_init_residual
            gamma = "zeros" if zero else "ones"
            x = self.normalize(x, f"{name}_norm{i}", gamma=gamma)
            if not last:
                x = self.activate(x, f"{name}_act{i}")
        return x

    def _operand(self, inputs, shortcut, strides, zero, name):
        """Returns `X`, the factor that the residual branch is multiplied by.

        `zero` initializes its last map, which is the last of the second-order
        term where no map follows the product.
        """
        name, filters = f"{name}_operand", shortcut.shape[-1]
        if self.operand_map == "conv":
            return self.convolve(shortcut, filters, 1, 1, name, zero)
        if self.operand_map == "factorized":
            x = self.convolve(inputs, filters // 4, 1, strides, f"{name}1")
            return self.convolve(x, filters, 1, 1, f"{name}2", zero)
        return shortcut

    def _products(self, residual, operand, mapped, name):
        """Returns the terms of the orders from 2 on."""
        multiply = hadamard_policy(self.policy)
        product, terms = residual, []
        for k in range(2, self.order + 1):
            layer = f"{name}_product{k}"
            product = keras.layers.Multiply(dtype=multiply, name=layer)(
                [product, operand]
            )
            terms.append(self._second_order(product, mapped, layer))
        return terms

    def _second_order(self, x, mapped, name):
        """Returns `gate * N(L(t(x)))`, whose last part starts at zero."""
        if self.product_activation is not None:
            x = keras.layers.Activation(
                self.product_activation,
                dtype=self.policy,
                name=f"{name}_{self.product_activation}",
            )(x)
        if mapped:
            x = self.convolve(
                x, x.shape[-1], 1, 1, f"{name}_conv", self._zero_map
            )
        if self.product_normalization is not None:
            # A zero here, not in the map: normalised, the smallest first step
            # of a map at zero would be of unit size.
            ones = self.gate or self.zero_init_residual
            x = self.normalize(
                x,
                f"{name}_norm",
                self.product_normalization,
                gamma="ones" if ones else "zeros",
            )
        if self.gate:
            x = ScalarGate(dtype=self.policy, name=f"{name}_gate")(x)
        return x

    @property
    def _zero_map(self):
        """The initializer of the last map, `None` where it must not be zero.

        Two zeros in a row, a gate's and a map's, would never move.
        """
        zero = not (
            self.gate
            or self.product_normalization is not None
            or self.zero_init_residual
        )
        return "zeros" if zero else None
