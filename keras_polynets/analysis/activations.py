"""How much memory what layers yield takes, for one example."""

import functools
import math
import re

from keras_polynets.analysis import graphs
from keras_polynets.layers import NCP
from keras_polynets.layers import CCPConv2D
from keras_polynets.layers import ProdPoly
from keras_polynets.layers import QuadraticLayer
from keras_polynets.layers.dense_polynomial import DensePolynomial


def activation_bytes(call):
    """Returns the bytes of what a call yields for one example.

    The outputs, and inside the layers of this package what their linear maps
    yield, in the dtype of the output.

    Args:
        call: A `graphs.Call`.

    Returns:
        Integer, or `None` where a size is open.
    """
    sizes = [graphs.size(shape) for shape in call.outputs]
    inside = _inside(call.operation, call.inputs[0] if call.inputs else ())
    if None in sizes or inside is None:
        return None
    widths = [_width(dtype) for dtype in call.dtypes]
    total = sum(n * width for n, width in zip(sizes, widths, strict=True))
    return math.ceil(total + inside * widths[0])


def _width(dtype):
    """Returns the bytes of a number."""
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) / 8 if bits else 1


@functools.singledispatch
def _inside(operation, shape):
    """Returns how many numbers the linear maps in a layer yield.

    Args:
        operation: A built layer or another operation.
        shape: The shape of its input, without the batch.
    """
    return 0


@_inside.register
def _(layer: QuadraticLayer, shape):
    size = graphs.size(layer.compute_output_shape((None, *shape))[1:])
    return None if size is None else len(layer.branches()) * size


@_inside.register
def _(layer: DensePolynomial, shape):
    maps = layer.order
    if isinstance(layer, NCP):
        maps += layer.order - 1 + len(getattr(layer, "skip_maps", ()))
    positions = graphs.size(shape[:-1])
    return None if positions is None else positions * maps * layer.rank


@_inside.register
def _(layer: CCPConv2D, shape):
    sizes = [
        graphs.size(layer.hidden_shape((None, *shape), n)[1:])
        for n in range(1, layer.order + 1)
    ]
    return None if None in sizes else sum(sizes)


@_inside.register
def _(layer: ProdPoly, shape):
    total = 0
    for i, polynomial in enumerate(layer.polynomials):
        after = polynomial.compute_output_shape((None, *shape))[1:]
        last = i == len(layer.polynomials) - 1
        parts = [_inside(polynomial, shape), 0 if last else graphs.size(after)]
        if None in parts:
            return None
        total, shape = total + sum(parts), after
    return total
