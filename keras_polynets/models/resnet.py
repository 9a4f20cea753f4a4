"""Residual networks: first-order, product-of-polynomials and quadratic."""

import dataclasses

import keras
import numpy as np

from keras_polynets._errors import activation_of
from keras_polynets._errors import check_input_shape
from keras_polynets._errors import check_positive_integer
from keras_polynets._errors import positive_integers
from keras_polynets._errors import unknown_name
from keras_polynets._recursion import recursion_to
from keras_polynets.layers.preprocessing import CAFFE_MEAN
from keras_polynets.layers.preprocessing import CaffePreprocessing
from keras_polynets.models import residual_block
from keras_polynets.models import spoken
from keras_polynets.models.conv_polynomial_net import POOLINGS
from keras_polynets.models.product_activations import check_product_activation
from keras_polynets.models.residual_block import ResidualBlock
from keras_polynets.models.zoo_model import ZooModel
from keras_polynets.models.zoo_model import float32_logits

# How often the stem halves the image.
STEMS = {"cifar": 0, "imagenet": 2}
PREPROCESSINGS = ("rescale", "caffe", "log_mel")
CAFFE_RANGE = (
    [-mean for mean in CAFFE_MEAN],
    [255 - mean for mean in CAFFE_MEAN],
)

# Argument → the names that it may have; those of the block among them.
CHOICES = {
    "stem": tuple(STEMS),
    "preprocessing": PREPROCESSINGS,
    "pooling": (None, *POOLINGS),
    "branch": tuple(residual_block.BRANCHES),
    "shortcut": residual_block.SHORTCUTS,
    "shortcut_normalization": residual_block.NORMALIZATIONS,
    "product_normalization": (None, *residual_block.NORMALIZATIONS),
    "operand_map": residual_block.OPERAND_MAPS,
    "product_map": residual_block.PRODUCT_MAPS,
    "initialization": tuple(residual_block.INITIALIZATIONS),
}


@keras.saving.register_keras_serializable(package="keras_polynets")
class ResNet(ZooModel):
    """Residual network whose one block takes every form of the papers.

    A stem, stages of residual blocks, global average pooling and a dense
    layer. With the input `z` of a block, its shortcut `s` and its residual
    branch `F`, the block is

        y = act(s + F(z) + sum_k N(L(t(F(z) * X^(k-1)))),    k = 2, ..., order

    where `*` is the Hadamard product and the sum is absent for `order=1`, the
    residual network of first order. `X` is the shortcut, or a 1 × 1 map; `t`
    an activation, `L` a 1 × 1 map and `N` a normalisation, each optional.
    With `activation=None` and the stem `"cifar"` the network is a polynomial:
    of degree `order ** (number of blocks)` in the image. With `neuron` the
    convolutions of `F` are quadratic.

    The outputs of the parts are those of the layers `"stem"`, `"stage1"`,
    `"stage2"` and so on, and `"stage1_block2"`:
    `keras.Model(model.input, model.get_layer("stage2").output)`.

    Args:
        input_shape: Tuple of 3 integers, the shape of an image, with any
            number of channels. Height and width may be `None`.
        classes: Integer, the number of classes.
        blocks: Tuple of integers, the number of blocks of each stage. From
            the second stage on, the first block halves the map and the
            filters double.
        width: Integer, the filters of the stem and of the first stage; a
            bottleneck gives 4 times as many.
        stem: `"cifar"`, a 3 × 3 convolution; or `"imagenet"`, one of 7 × 7
            with stride 2 and max-pooling by 2.
        branch: The residual branch `F`: `"basic"`, two convolutions;
            `"bottleneck"`, 1 × 1, 3 × 3 and 1 × 1, with the stride in the
            first as in `keras.applications.ResNet50`; or `"single"`, one. A
            batch normalisation follows each.
        kernel_size: Odd integer, the window of the convolutions of `F`.
        activation: The activation function of the stem, inside `F` and after
            the sum; `None` for a network without.
        shortcut: `"projection"`, a 1 × 1 convolution and a normalisation
            where the shape changes; `"projection_always"`; or `"pad"`,
            subsampling and channels of zeros (option A).
        shortcut_normalization: `"batch"`, or `"instance"` without parameters.
        neuron: The quadratic neuron of the convolutions of `F`, a name of
            `keras_polynets.layers.QuadraticConv2D`; `None` for first order.
        branch_normalization: Boolean, whether each linear map of a quadratic
            neuron has a batch normalisation.
        use_bias: Boolean, whether quadratic convolutions have biases, by
            default as the neuron does. Others have none.
        order: Integer, the order of a block in its input.
        operand_map: The map `X`: `None` for the shortcut itself, `"conv"` for
            a 1 × 1 convolution of it, `"factorized"` for two 1 × 1
            convolutions of the input of the block, over a quarter of the
            output's filters, the first with its stride.
        product_map: The map `L`: `None`, `"all"` for a 1 × 1 convolution in
            every block, `"identity"` for one in the blocks whose shortcut is
            the identity.
        product_activation: The activation `t`, such as `"tanh"`, or `None`.
            Where the map of the operand starts at zero, it must be 0 at 0 and
            have a slope there.
        product_normalization: The normalisation `N`: `None`, `"batch"`, or
            `"instance"` without parameters. The mean of an instance-normalised
            map is 0: with `activation=None` such products of the last block
            add nothing to what global average pooling yields.
        gate: Boolean, whether every term of the sum is multiplied by a
            trained number that starts at 0.
        add_residual: Boolean, whether the sum holds `F(z)`; without it `F` is
            in the products only.
        rezero: Boolean, whether `F(z)` is multiplied by a trained number that
            starts at 0, in the sum.
        zero_init_residual: Boolean, whether the scale of the last
            normalisation of `F` starts at 0.
        epsilon: Float, that of the normalisations.
        initialization: The kernels. `"fan_out"` and `"fan_in"`: normal with
            variance 2 / fan; with `"fan_out"` the head is uniform in
            ±1/√fan_in. `"fan_out_small_head"`: a head of deviation 0.01.
            `"fan_in_blocks"`: stem and head uniform in ±1/√fan_in.
        include_top: Boolean, whether pooling and the dense layer end the
            network.
        pooling: Without top: `None` for the feature map, `"avg"` or `"max"`.
        classifier_activation: `None` for logits, or `"softmax"`.
        preprocessing: How `model.preprocessor` takes stored data to
            `input_range`: `"rescale"`; `"caffe"`, which is that of
            `keras.applications.ResNet50` and fixes the range; or `"log_mel"`,
            from wave forms to spectrograms, `layers.LogMelSpectrogram`.
        sampling_rate: Integer, with `"log_mel"` the samples a second of the
            stored waves. They are resampled to 16 kHz.
        **kwargs: `input_range`, `data_range`, `class_names`, `name`, `dtype`
            and `trainable` of `keras_polynets.models.ZooModel`.

    The last part of a second-order term (its gate, else the scale of its batch
    normalisation, else its last map) starts at zero, so that the network is
    its first-order twin before training. With `zero_init_residual` nothing
    else has to: the product is zero as the residual branch is.

    Input shape:
        Float tensor of shape `(batch_size, *input_shape)` in `input_range`.

    Output shape:
        Float tensor of shape `(batch_size, classes)`, logits; without top the
        map `(batch_size, height, width, filters)` or, pooled,
        `(batch_size, filters)`.

    Raises:
        ValueError: For an unknown name, a number that is not a positive
            integer, images too small for the strides, or ranges of another
            number of channels.

    Example:

    >>> model = ResNet(blocks=(2, 2, 1, 1), order=2, operand_map="conv",
    ...                product_map="all")
    >>> sum(np.prod(w.shape) for w in model.trainable_variables)
    6009930

    Reference:
        - He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR
          2020, Section 4.2, z + Cz + (Cz) * z; "Deep Polynomial Neural
          Networks", TPAMI 2021, equation 10 with V = I + S (NCP-Skip).
        - Fan et al., "Expressivity and Trainability of Quadratic Networks",
          2021, Section IV, QResNet.
    """

    def __init__(
        self,
        input_shape=(32, 32, 3),
        classes=10,
        blocks=(2, 2, 2, 2),
        width=64,
        stem="cifar",
        branch="basic",
        kernel_size=3,
        activation="relu",
        shortcut="projection",
        shortcut_normalization="batch",
        neuron=None,
        branch_normalization=False,
        use_bias=None,
        order=1,
        operand_map=None,
        product_map=None,
        product_activation=None,
        product_normalization=None,
        gate=False,
        add_residual=True,
        rezero=False,
        zero_init_residual=False,
        epsilon=1e-5,
        initialization="fan_out",
        include_top=True,
        pooling=None,
        classifier_activation=None,
        preprocessing="rescale",
        sampling_rate=spoken.RATE,
        dtype=None,
        **kwargs,
    ):
        input_shape = check_input_shape(input_shape)
        blocks = positive_integers("blocks", blocks, (2, 2, 2, 2))
        config = {
            key: value
            for key, value in locals().items()
            if key not in ("self", "dtype", "kwargs", "__class__")
        }
        _check(config, kwargs)
        policy = keras.dtype_policies.get(dtype)
        names = {field.name for field in dataclasses.fields(ResidualBlock)}
        block = ResidualBlock(
            policy=policy, **{k: v for k, v in config.items() if k in names}
        )
        check_product_activation(
            block.product_activation, block.operand_starts_at_zero
        )
        inputs = keras.Input(
            input_shape, dtype=policy.variable_dtype, name="images"
        )
        x = _stages(_stem(inputs, block, stem, width), block, blocks, width)
        if include_top:
            x = _pool(x, "avg", policy)
            x = keras.layers.Dense(
                classes,
                kernel_initializer=block.initializer("head"),
                dtype=policy,
                name="head",
            )(x)
            x = float32_logits(x, policy, classifier_activation)
        elif pooling is not None:
            x = _pool(x, pooling, policy)
        if preprocessing == "caffe":
            kwargs["input_range"] = CAFFE_RANGE
        with recursion_to(20 * sum(blocks)):
            super().__init__(inputs, x, config=config, dtype=policy, **kwargs)

    @property
    def stored_shape(self):
        return (None,) if self._takes_waves() else super().stored_shape

    @property
    def stored_dtype(self):
        return "int16" if self._takes_waves() else super().stored_dtype

    def make_preprocessor(self):
        if self._arguments["preprocessing"] == "caffe":
            return CaffePreprocessing(dtype="float32", name="preprocessor")
        if self._takes_waves():
            return spoken.make_preprocessor(
                self._arguments["input_shape"],
                self._arguments["sampling_rate"],
                self.input_range,
            )
        return super().make_preprocessor()

    def _takes_waves(self):
        return self._arguments["preprocessing"] == "log_mel"


def _stem(x, block, stem, width):
    kernel = block.initializer("stem")
    window, strides = (7, 2) if stem == "imagenet" else (3, 1)
    x = block.convolve(x, width, window, strides, "stem_conv", kernel)
    x = block.normalize(x, "stem_norm")
    x = block.activate(x, "stem_act")
    if stem == "imagenet":
        x = _max_pool(x, block)
    return _part(x, block, "stem")


def _max_pool(x, block):
    """Pools 3 × 3 with stride 2, padded evenly; the padding is never taken.

    Keras pads windows of stride 2 unevenly, those of stride 1 evenly.
    """
    arguments = {"data_format": "channels_last", "dtype": block.policy}
    if block.activation == "relu":
        # Nothing is below the zeros around it.
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad", **arguments)(x)
        return keras.layers.MaxPooling2D(3, 2, name="stem_pool", **arguments)(x)
    x = keras.layers.MaxPooling2D(
        3, 1, padding="same", name="stem_pool", **arguments
    )(x)
    return keras.layers.AveragePooling2D(
        1, 2, name="stem_subsample", **arguments
    )(x)


def _stages(x, block, blocks, width):
    expansion = 4 if block.branch == "bottleneck" else 1
    for i, count in enumerate(blocks, start=1):
        filters = width * expansion * 2 ** (i - 1)
        for j in range(1, count + 1):
            strides = 2 if i > 1 and j == 1 else 1
            x = block(x, filters, strides, f"stage{i}_block{j}")
        x = _part(x, block, f"stage{i}")
    return x


def _part(x, block, name):
    """Names the output of a part of the network."""
    # By its name: Keras cannot write the config of an `Identity` with a policy.
    dtype = block.policy.name
    return keras.layers.Identity(dtype=dtype, name=name)(x)


def _pool(x, pooling, policy):
    return POOLINGS[pooling](
        data_format="channels_last", dtype=policy, name="pooling"
    )(x)


def _check(config, kwargs):
    """Raises a `ValueError` for arguments that cannot be."""
    for name, known in CHOICES.items():
        if config[name] not in known:
            raise unknown_name(name, config[name], known)
    for name in ("classes", "width", "kernel_size", "order", "sampling_rate"):
        check_positive_integer(name, config[name])
    if config["kernel_size"] % 2 == 0:
        raise ValueError(
            "Argument `kernel_size` must be odd, so that a shortcut fits. "
            f"Received: kernel_size={config['kernel_size']}"
        )
    if not config["blocks"]:
        raise ValueError(
            "Argument `blocks` must hold the number of blocks of at least one "
            "stage. Received: blocks=()"
        )
    if not config["add_residual"] and (
        config["order"] == 1 or config["rezero"]
    ):
        raise ValueError(
            "With add_residual=False the residual branch is in the products "
            "only: this needs an order of at least 2, and rezero=False. "
            f"Received: order={config['order']}, rezero={config['rezero']}"
        )
    activation_of("activation", config["activation"])
    _check_shapes(config, kwargs)


def _check_shapes(config, kwargs):
    shape, halvings = config["input_shape"], len(config["blocks"]) - 1
    smallest = 2 ** (STEMS[config["stem"]] + halvings)
    small = any(n is not None and n < smallest for n in shape[:2])
    if len(shape) != 3 or shape[-1] is None or small:
        raise ValueError(
            "Argument `input_shape` must be (height, width, channels), with a "
            f"height and width of at least {smallest} for the strides of this "
            "network, or None, and a fixed number of channels. Received: "
            f"input_shape={shape}"
        )
    if config["preprocessing"] == "log_mel":
        spoken.check_shape(shape)
    if config["preprocessing"] == "caffe":
        ranges = [CAFFE_RANGE, kwargs.get("input_range", CAFFE_RANGE)]
        if not np.array_equal(*ranges):
            raise ValueError(
                "preprocessing='caffe' fixes the input range. Drop "
                f"`input_range`. Received: input_range={ranges[1]}"
            )
        kwargs = {"input_range": CAFFE_RANGE}
    for name in ("input_range", "data_range"):
        sizes = {np.size(bound) for bound in kwargs.get(name, ())}
        if not sizes <= {1, shape[-1]}:
            raise ValueError(
                f"The images have {shape[-1]} channels: `{name}` needs one "
                f"number or {shape[-1]}. Received: {name}={kwargs[name]}"
            )
