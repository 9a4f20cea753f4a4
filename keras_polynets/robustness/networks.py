"""A whole network on enclosures: its graph, its plain operations."""

import dataclasses
import math

import keras
import numpy as np
from keras import tree

from keras_polynets.analysis import graphs
from keras_polynets.robustness import contractions
from keras_polynets.robustness import floats
from keras_polynets.robustness import intervals
from keras_polynets.robustness import layer_maps
from keras_polynets.robustness import linear_maps
from keras_polynets.robustness import linear_parts
from keras_polynets.robustness import norms
from keras_polynets.robustness import probed_maps
from keras_polynets.robustness import taylor_forms
from keras_polynets.robustness.enclosures import concatenated
from keras_polynets.robustness.enclosures import enclose
from keras_polynets.robustness.enclosures import enclosed
from keras_polynets.robustness.intervals import Interval

# Operations that copy components of their first argument.
COPYING_OPERATIONS = set(
    "BroadcastTo ConvertToTensor Copy ExpandDims Flip GetItem Moveaxis Pad "
    "Ravel Repeat Reshape Roll Rot90 Slice Squeeze Swapaxes Tile "
    "Transpose".split()
)
# Operations that sum some.
SUMMING_OPERATIONS = {"Mean", "Sum"}


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a network yields: an affine map of an enclosure.

    Differences of outputs are bounded on `hidden`, where the last map does
    not yet hide what they share.

    Args:
        values: The enclosure of the outputs.
        hidden: The enclosure of the input of the last affine map.
        rows: Array `(outputs, *shape)`, the matrix of that map.
        bias: Array `(outputs,)`, its bias.
    """

    values: Interval
    hidden: Interval
    rows: np.ndarray
    bias: np.ndarray


class Maps:
    """The affine maps of layers, each made once: the `affine` of the rules."""

    def __init__(self):
        self._made = {}

    def __call__(self, layer, shape):
        """Returns the `linear_maps.Affine` of a layer.

        Args:
            layer: A built affine layer.
            shape: Tuple of integers, the shape of an example.
        """
        key = id(layer), tuple(shape)
        if key not in self._made:
            self._made[key] = layer_maps.affine(layer, tuple(shape))
        return self._made[key]

    def parts(self, layer, shape, count):
        """Returns those that lie side by side in a layer.

        Args:
            layer: A built `Dense` or convolution.
            shape: Tuple of integers, the shape of an example.
            count: Integer, how many equal parts its units form.
        """
        key = id(layer), tuple(shape), count
        if key not in self._made:
            made = layer_maps.parts(layer, tuple(shape), count)
            self._made[key] = made
        return self._made[key]


def _check_one(model):
    counts = len(model.inputs), len(model.outputs)
    if counts != (1, 1):
        raise ValueError(
            "Bounds exist for models of one input and one output. Received: "
            f"{model.name!r} with {counts[0]} inputs and {counts[1]} outputs. "
            "Build a model of those that are meant, "
            "`keras.Model(model.inputs[0], model.outputs[0])`."
        )


class Network:
    """A model, ready to be enclosed batch after batch.

    Args:
        model: A built functional or sequential model with one input and one
            output, or a built layer.
    """

    def __init__(self, model):
        self._run, self.dtype = enclosed, "float32"
        if isinstance(model, keras.Model):
            graphs.check_graph(model)
            _check_one(model)
            self._run, self.dtype = of_model, model.inputs[0].dtype
        self.model = model
        self._unit = floats.roundoff_of(
            self.dtype, f"Model {model.name!r} with inputs"
        )
        self.affine = Maps()
        self._shape = self._shared = None

    def outputs(self, lower, upper, method):
        """Returns the `Outputs` on boxes.

        Args:
            lower: Float64 array `(batch, *shape)`, the lower ends.
            upper: The upper ends.
            method: `"interval"` or `"affine"`.
        """
        # What the network is given is exact in float32.
        exact = floats.UNIT_ROUNDOFFS["float32"]
        unit = min(self._unit, exact)
        if method == "interval":
            centre, zeros = (lower + upper) / 2, np.zeros_like(lower)
            x = Interval(centre, lower, upper, zeros, unit)
        else:
            if lower.shape[1:] != self._shape:
                self._shape = lower.shape[1:]
                self._shared = linear_parts.Shared()
            self._shared.restart()
            x = taylor_forms.of_ball(lower, upper, self._shared, unit)
        # Rounding errors are infinite where numbers overflow.
        with np.errstate(invalid="ignore", over="ignore"):
            values = self._run(self.model, x.cast(self._unit), self.affine)
            (values,) = map(intervals.evaluated, tree.flatten(values))
        size = math.prod(values.shape)
        if values.source is None:
            rows = np.eye(size).reshape(size, *values.shape)
            return Outputs(values, values, rows, np.zeros(size))
        hidden, last = values.source
        rows = last.linear.matrix().reshape(size, *hidden.shape)
        bias = np.broadcast_to(last.bias, values.shape).ravel()
        return Outputs(values, hidden, rows, bias)


@enclose.register
def of_model(model: keras.Model, x, affine):
    """Encloses what a model yields: the rule of `enclose` for models."""
    graphs.check_graph(model)

    def visit(path, operation, args, kwargs):
        if not isinstance(operation, keras.Layer):
            return of_operation(operation, args, kwargs)
        if len(args) > 1 and all(map(_is_enclosure, args)):
            args = [list(args)]
        inputs = norms.check_arguments(operation, args, kwargs)
        _check_enclosures(operation, inputs)
        return enclosed(operation, inputs, affine)

    return graphs.run(model, x, visit, enter=_entered)


def _entered(model, inputs, args, kwargs):
    """Returns the inputs of a model as it takes them: in its own dtypes."""
    norms.check_call(model, enclose)
    norms.check_arguments(model, (inputs, *args), kwargs)
    given, taken = tree.flatten(inputs), graphs.functional(model).inputs
    _check_enclosures(model, given)
    ranks = [[len(x.shape) for x in given], [len(x.shape) - 1 for x in taken]]
    if ranks[0] != ranks[1]:
        raise NotImplementedError(
            f"There is no local bound for model {model.name!r} inside another "
            f"one, which is given examples of {ranks[0]} axes and takes those "
            f"of {ranks[1]}. Reshape them before it."
        )
    name = f"Model {model.name!r} with inputs"
    cast = [
        x.cast(floats.roundoff_of(own.dtype, name))
        for x, own in zip(given, taken, strict=True)
    ]
    return tree.pack_sequence_as(graphs.functional(model)._inputs_struct, cast)


def _check_enclosures(layer, inputs):
    for x in tree.flatten(inputs):
        if not _is_enclosure(x):
            raise NotImplementedError(
                f"There is no local bound for {layer.name!r} "
                f"({type(layer).__name__}) with a constant among its inputs. "
                "Use an operation instead, such as `x + constant`."
            )


def of_operation(operation, args, kwargs):
    """Encloses what an operation that is no layer yields.

    Args:
        operation: A `keras.Operation`.
        args: Its arguments, with enclosures in place of tensors.
        kwargs: Dictionary of further ones.
    """
    name = type(operation).__name__
    x = args[0]
    if name in ("Add", "Subtract", "Multiply"):
        other = args[1]
        _check_ranks(operation, x, other)
        x, other = (
            y if _is_enclosure(y) else _constant(operation, y)
            for y in (x, other)
        )
        if name == "Multiply":
            return x * other
        if name == "Add":
            shapes = _full_shape(x), _full_shape(other)
            norms.check_addition(operation, *shapes)
        return x + (other if name == "Add" else other * -1.0)
    if name == "Negative":
        return -x
    if name == "Square":
        return x * x
    if name == "Power" and _is_whole(args[1]):
        # A power is not rounded as the products are that it stands for.
        return intervals.evaluated(_power(x, int(args[1]))) * np.ones(1)
    if name in ("Divide", "TrueDivide") and not _is_enclosure(args[1]):
        return x * _constant(operation, args[1], lambda y: 1 / y)
    if name == "Concatenate":
        return concatenated(list(x), operation.axis)
    if name in ("Matmul", "Einsum"):
        return _contracted(operation, args)

    def function(y):
        return operation(y, *args[1:], **kwargs)

    if name in COPYING_OPERATIONS:
        label = f"operation {operation.name!r}, a {name}"
        gather = probed_maps.gather(function, x.shape, label)
        return x.through(linear_maps.Affine(gather), 0.0)
    if name in SUMMING_OPERATIONS:
        x = intervals.evaluated(x)
        known = probed_maps.of_operation(operation, function, x.shape)
        return x.through(known, x.unit)
    raise NotImplementedError(
        f"There is no local bound for the operation {operation.name!r}, a "
        f"{name}. If it is no polynomial, build the model without it. Else "
        "write it with layers, or as a layer of your own with a rule: "
        "`keras_polynets.robustness.enclose.register`."
    )


def _contracted(operation, args):
    """Encloses a matrix product or a sum of products of two tensors."""
    are_constant = [not _is_enclosure(x) for x in args]
    operands = [
        _constant(operation, x) if is_constant else x
        for x, is_constant in zip(args, are_constant, strict=True)
    ]
    if type(operation).__name__ == "Matmul":
        operands = _without_batch(*operands)
        if _is_product_of_examples(*operands):
            return contractions.matmul(*operands)
    elif len(operands) == 2:
        subscripts = _of_examples(operation.subscripts, are_constant)
        if subscripts is not None:
            return contractions.einsum(subscripts, *operands)
    shapes = [tuple(x.shape) for x in operands]
    raise NotImplementedError(
        f"There is no local bound for the operation {operation.name!r} "
        f"({type(operation).__name__}) on examples of shapes {shapes}. Bounds "
        "exist for two tensors, multiplied example by example: the axis of "
        "the batch comes first in both and in the result, and meets no other."
    )


def _without_batch(x, y):
    """Returns operands, a constant without an axis of the batch of size 1."""
    ranks = [len(operand.shape) for operand in (x, y)]
    if isinstance(x, np.ndarray) and ranks[0] > ranks[1] and x.shape[0] == 1:
        x = x[0]
    if isinstance(y, np.ndarray) and ranks[1] > ranks[0] and y.shape[0] == 1:
        y = y[0]
    return x, y


def _is_product_of_examples(x, y):
    """Says whether `matmul` meets neither the axis of the batch nor another
    axis in its place."""
    ranks = [len(operand.shape) for operand in (x, y)]
    if isinstance(x, np.ndarray):
        return ranks[0] <= ranks[1] and ranks[1] > 1
    if isinstance(y, np.ndarray):
        return 2 >= ranks[1] or ranks[1] <= ranks[0]
    return ranks[0] == ranks[1] > 1


def _of_examples(subscripts, are_constant):
    """Returns subscripts without the batch, `None` where it is summed."""
    inputs, arrow, outputs = subscripts.replace(" ", "").partition("->")
    inputs = inputs.split(",")
    batch = {
        own[:1]
        for own, is_constant in zip(inputs, are_constant, strict=True)
        if not is_constant
    }
    rest = [
        own if is_constant else own[1:]
        for own, is_constant in zip(inputs, are_constant, strict=True)
    ]
    letter = outputs[:1]
    if (
        "." in subscripts
        or not arrow
        or batch != {letter}
        or letter in f"{rest}{outputs[1:]}"
    ):
        return None
    return f"{','.join(rest)}->{outputs[1:]}"


def _constant(operation, x, function=lambda x: x):
    """Returns a function of a constant argument, in float64."""
    x = keras.ops.convert_to_numpy(x).astype("float64")
    with np.errstate(divide="ignore"):
        found = function(x)
    if not np.isfinite(found).all():
        raise ValueError(
            f"Operation {operation.name!r} ({type(operation).__name__}) has a "
            "constant that is not finite, or divides by 0, for which no bound "
            f"exists. Received: {x}"
        )
    return found


def _full_shape(x):
    """Returns the shape of a tensor, with `None` for the batch."""
    return (None, *x.shape) if _is_enclosure(x) else x.shape


def _check_ranks(operation, x, other):
    both = _is_enclosure(x) and _is_enclosure(other)
    if both and len(x.shape) != len(other.shape):
        raise NotImplementedError(
            f"There is no local bound for the operation {operation.name!r} on "
            "tensors of different ranks, which lays the batch beside another "
            f"axis. Received: examples of shapes {x.shape} and {other.shape}. "
            "Reshape them to the same rank."
        )


def _is_whole(exponent):
    if _is_enclosure(exponent) or np.ndim(exponent) != 0:
        return False
    return int(exponent) == exponent


def _power(x, exponent):
    if exponent < 1:
        raise NotImplementedError(
            f"There is no local bound for the power {exponent}. Use positive "
            "integers."
        )
    half, odd = divmod(exponent, 2)
    if not half:
        return x
    root = _power(x, half)
    return root * root * x if odd else root * root


def _is_enclosure(x):
    return isinstance(x, Interval | intervals.Product)
