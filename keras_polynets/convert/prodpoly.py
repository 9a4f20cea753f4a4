"""Any residual Keras model with second-order terms in its blocks."""

import dataclasses

import keras
from keras import layers

from keras_polynets._errors import unknown_name
from keras_polynets.analysis import graphs
from keras_polynets.analysis import work
from keras_polynets.convert.report import LeftAlone
from keras_polynets.convert.report import Replaced
from keras_polynets.convert.report import report
from keras_polynets.convert.rewriting import rewrite
from keras_polynets.convert.shortcuts import NoShortcut
from keras_polynets.convert.shortcuts import branch_and_shortcut
from keras_polynets.convert.shortcuts import is_sum
from keras_polynets.layers.dense_polynomial import hadamard_policy
from keras_polynets.layers.residual import ScalarGate
from keras_polynets.models.product_activations import check_product_activation

OPERAND_MAPS = (None, "conv", "factorized")
_CONVOLUTIONS = {3: layers.Conv1D, 4: layers.Conv2D, 5: layers.Conv3D}


def to_prodpoly(model, operand_map="factorized", product_activation=None):
    """Gives the residual blocks of a Keras model their second-order terms.

    Every sum `F + s` of a residual branch `F` and its shortcut `s` becomes
    NCP-Skip,

        s + F + t(F * X s)

    where `*` is the Hadamard product, `X` a map of the channels and `t` an
    activation, if any. The last kernel of `X` is zero, so that the new model
    gives the outputs of the old one until it is trained.

    A sum is a layer `keras.layers.Add` or an operation `x + y`, of two tensors
    of one shape that come from a common one. The shortcut is the tensor with
    fewer layers with matrices on its way from there, at most one; where both
    have one, that with fewer weights for an output, as a 1 × 1 convolution
    has. Other sums are left alone and reported.

    All names, weights, frozen layers, shared layers and the arguments of
    `compile` are kept, as by `keras_polynets.convert.to_quadratic`, whose
    words on the class of the new model hold here too. New layers are named
    after the sum: `add_operand`, `add_product` and so on. Custom layers,
    Lambda layers and those inside wrappers are copied: sums inside them are
    not known.

    Args:
        model: A functional or sequential `keras.Model` that is built, with
            models nested in it or not; sums in the latter are converted too.
            It is not changed.
        operand_map: The map `X`: `"conv"`, a 1 × 1 convolution (a dense map
            where the branch has no convolution); `"factorized"`, two of them
            over a quarter of the channels; or `None` for the shortcut itself,
            where the product is multiplied by a trained number that starts
            at 0.
        product_activation: The activation `t`, or `None`. The papers take
            `"tanh"` for ImageNet; a network without activation functions
            stays a polynomial with `None`. Behind a map it must be 0 at 0 and
            have a slope there, as `"tanh"` has and `"relu"` has not.

    Returns:
        The new model. Its attribute `conversion_report` is a
        `ConversionReport`: the sums that have a second-order term, what was
        left alone and why, parameters and multiply-adds before and after. It
        is not saved.

    Raises:
        ValueError: If the model has no residual sum, for an unknown
            `operand_map`, for a `product_activation` that is unknown or
            unfit, for a subclassed model or one that is not built, or
            if a layer cannot be copied as its config does not describe it.

    Example:

    >>> model = keras.applications.ResNet50(weights="imagenet")
    >>> prodpoly = keras_polynets.convert.to_prodpoly(
    ...     model, product_activation="tanh"
    ... )
    >>> print(prodpoly.conversion_report)

    Reference:
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR
          2020, Section 4.2, z + Cz + (Cz) * z.
        - Chrysos et al., "Deep Polynomial Neural Networks", TPAMI 2021,
          equation 10 with V = I + S (NCP-Skip).
    """
    if operand_map not in OPERAND_MAPS:
        raise unknown_name("operand_map", operand_map, OPERAND_MAPS)
    check_product_activation(product_activation, operand_map is not None)
    graphs.check_graph(model)
    terms = _SecondOrder(model, operand_map, product_activation)
    rewritten = rewrite(model, lambda path, layer: None, terms)
    if not terms.added:
        why = [f"{row.name} ({row.reason})" for row in terms.left_alone[:5]]
        why += ["..."] if len(terms.left_alone) > 5 else []
        raise ValueError(
            f"Model {model.name!r} has no residual sum to convert. Expected "
            "a layer `Add`, or `x + y`, of a residual branch and its shortcut. "
            f"Received: {', '.join(why) or 'no sum of two tensors'}."
        )
    new = rewritten.model
    new.conversion_report = dataclasses.replace(
        report(model, rewritten, {}),
        replaced=terms.rows(new),
        left_alone=terms.left_alone,
    )
    return new


class _SecondOrder:
    """Adds the second-order terms, and keeps record of them.

    It is the argument `call` of `rewrite`.
    """

    def __init__(self, model, operand_map, product_activation):
        self._operand_map = operand_map
        self._activation = product_activation
        self._paths = {}
        for call in graphs.calls(model):
            self._paths.setdefault(id(call.operation), call.path)
        self._taken = set(self._paths.values())
        self.added = []
        self.left_alone = [
            LeftAlone(path, type(layer).__name__, reason)
            for path, layer in graphs.leaves(model).items()
            if (reason := _unknown(layer))
        ]

    def __call__(self, source, target, *args, **kwargs):
        if not is_sum(source):
            return target(*args, **kwargs)
        plain = not isinstance(source, keras.Layer)
        terms = list(args) if plain else args[0]
        try:
            branch, shortcut, maps = branch_and_shortcut(terms)
            like = _model_map(maps, branch)
        except NoShortcut as reason:
            self._leave(source, str(reason))
            return target(*args, **kwargs)
        term = self._term(source, branch, shortcut, like)
        if not plain:
            return target([*terms, term], **kwargs)
        # The operation takes two.
        name = self._name(source, "terms")
        policy = like.dtype_policy
        branch = layers.Add(dtype=policy, name=name)([branch, term])
        return target(shortcut, branch)

    def rows(self, new):
        """Returns the rows of the report, given the new model."""
        costs = work.work_by_layer(new)
        rows = []
        for path, source, added in self.added:
            folder = path.rpartition("/")[0]
            names = [f"{folder}/{x.name}" if folder else x.name for x in added]
            each = [costs.get(name, 0) for name in names]
            known = None if None in each else sum(each)
            parameters = sum(layer.count_params() for layer in added)
            rows.append(
                Replaced(path, source, "NCP-Skip", (0, parameters), (0, known))
            )
        return rows

    def _term(self, source, branch, shortcut, like):
        """Returns `t(F * X s)`, which is zero."""
        added = []
        path, policy = self._paths[id(source)], like.dtype_policy
        self.added.append((path, type(source).__name__, added))

        def apply(cls, suffix, x, *args, dtype=policy, **kwargs):
            name = self._name(source, suffix)
            added.append(cls(*args, dtype=dtype, name=name, **kwargs))
            return added[-1](x)

        operand = shortcut
        for suffix, cls, arguments in _maps(like, shortcut, self._operand_map):
            operand = apply(cls, suffix, operand, **arguments)
        multiply = hadamard_policy(policy)
        x = [branch, operand]
        x = apply(layers.Multiply, "product", x, dtype=multiply)
        if self._activation is not None:
            x = apply(layers.Activation, "act", x, self._activation)
        if self._operand_map is None:
            x = apply(ScalarGate, "gate", x)
        return x

    def _leave(self, source, reason):
        row = LeftAlone(self._paths[id(source)], type(source).__name__, reason)
        if row not in self.left_alone:
            self.left_alone.append(row)

    def _name(self, source, suffix):
        """Returns the name of a new layer, not yet taken in its model."""
        folder, _, name = self._paths[id(source)].rpartition("/")
        path = base = (
            f"{folder}/{name}_{suffix}" if folder else f"{name}_{suffix}"
        )
        number = 1
        while path in self._taken:
            number += 1
            path = f"{base}_{number}"
        self._taken.add(path)
        return path.rpartition("/")[2]


def _maps(like, shortcut, kind):
    """Returns the maps of `X`: triples of a suffix, a class and arguments."""
    if kind is None:
        return []
    cls, shape = layers.Dense, {}
    if _is_convolution(like, shortcut):
        cls = _CONVOLUTIONS[len(shortcut.shape)]
        shape = {"kernel_size": 1, "data_format": like.data_format}

    def arguments(channels, kernel):
        name = "units" if cls is layers.Dense else "filters"
        start = {"use_bias": False, "kernel_initializer": kernel}
        return {name: channels, **shape, **start}

    channels = shortcut.shape[_channel_axis(like, shortcut)]
    if kind == "conv":
        return [("operand", cls, arguments(channels, "zeros"))]
    between = max(1, channels // 4)
    return [
        ("operand1", cls, arguments(between, "glorot_uniform")),
        ("operand2", cls, arguments(channels, "zeros")),
    ]


def _model_map(maps, branch):
    """Returns the map of the branch that `X` is modelled on, its last one.

    A convolution before other maps: those may act on something pooled.
    """
    like = next((x for x in maps if _is_convolution(x, branch)), maps[0])
    if getattr(like, "quantization_mode", None):
        raise NoShortcut(f"its branch is quantized, in {like.name!r}")
    if branch.shape[_channel_axis(like, branch)] is None:
        raise NoShortcut("the number of its channels is open")
    return like


def _is_convolution(layer, tensor):
    return hasattr(layer, "data_format") and len(tensor.shape) in _CONVOLUTIONS


def _channel_axis(layer, tensor):
    if _is_convolution(layer, tensor):
        return 1 if layer.data_format == "channels_first" else -1
    return -1


def _unknown(layer):
    """Returns why sums inside a layer are not known, `None` if they are."""
    if isinstance(layer, layers.Lambda):
        return "a Lambda layer, whose function is not known"
    if isinstance(layer, layers.Wrapper):
        return "a wrapper, and the layer inside belongs to it"
    if isinstance(layer, keras.Model):
        return "a subclassed model, whose graph is not known"
    module = type(layer).__module__
    known = module.startswith(("keras.", "keras_polynets."))
    if not known or module.startswith("keras.src.applications."):
        return "a custom layer, whose formula is not known"
    return None
