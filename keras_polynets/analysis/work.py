"""How many multiply-adds a layer takes for one example."""

import functools
import math

from keras import layers

from keras_polynets.analysis import graphs
from keras_polynets.analysis.degree_rules import PRODUCT_OPERATIONS
from keras_polynets.layers import NCP
from keras_polynets.layers import CCPConv2D
from keras_polynets.layers import ProdPoly
from keras_polynets.layers import QuadraticLayer
from keras_polynets.layers import neurons
from keras_polynets.layers.degrees import after_activation
from keras_polynets.layers.dense_polynomial import DensePolynomial


def trainable_parameters(model):
    """Returns the number of parameters that training changes."""
    return sum(math.prod(w.shape) for w in model.trainable_variables)


def work_by_layer(model, input_shapes=None):
    """Returns the multiply-adds of each layer of a model for one example.

    The products inside linear maps count, one multiply-add each, and so do
    Hadamard products and squares, one an element, also those of an activation
    that is a polynomial. Biases, normalisation, scaling by constants, other
    activation functions and pooling do not.

    Args:
        model: A functional or sequential model that is built.
        input_shapes: Optional structure of the model's input shapes, with the
            batch, where the model leaves some sizes open.

    Returns:
        Dictionary from the path of a layer or operation to its multiply-adds
        over all its calls, or to `None` where they are not known: a size is
        open, or a layer with matrices or an operation that multiplies has no
        rule here.

    Raises:
        ValueError: If the model is subclassed or not built, or a shape is not
            one of its input.
    """
    found = {}
    names = {}
    for call in graphs.calls(model, input_shapes):
        # A layer that is shared counts where it is met first.
        path = names.setdefault(id(call.operation), call.path)
        found[path] = _sum(
            found.get(path, 0),
            multiply_adds(call.operation, call.inputs, call.outputs),
            _inside_activation(call.operation, call.outputs),
        )
    return found


def total(work):
    """Returns the sum of what is known of the work of layers.

    Args:
        work: What `work_by_layer` returns.
    """
    return sum(w for w in work.values() if w is not None)


def has_matrix(layer):
    """Says whether a layer has a variable of two dimensions or more.

    Args:
        layer: A built layer or another operation.
    """
    return any(len(w.shape) > 1 for w in getattr(layer, "weights", ()))


@functools.singledispatch
def multiply_adds(operation, inputs, outputs):
    """Returns the multiply-adds of one call for one example.

    Args:
        operation: A built layer or another operation.
        inputs: List of the shapes of its input tensors, without the batch.
        outputs: List of the shapes of its output tensors, without the batch.

    Returns:
        Integer, or `None` where it is not known.
    """
    name = type(operation).__name__
    if name == "Multiply":
        return _times(len(inputs) - 1, graphs.size(outputs[0]))
    if name == "Square":
        return graphs.size(outputs[0])
    if name == "Matmul" and len(inputs) == 2:
        return _times(inputs[0][-1], graphs.size(outputs[0]))
    # How often a power multiplies is an argument of its call.
    if name == "Power" or name in PRODUCT_OPERATIONS:
        return None
    return None if has_matrix(operation) else 0


def _inside_activation(operation, outputs):
    """Returns the products that a polynomial activation takes."""
    activation = getattr(operation, "activation", None)
    degree = after_activation(activation, 1) if callable(activation) else 1
    return _times((degree or 1) - 1, graphs.size(outputs[0]))


@multiply_adds.register
def _(layer: layers.Dot, inputs, outputs):
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    # The shapes have no batch.
    contracted = inputs[0][axis - 1 if axis > 0 else axis]
    return _times(contracted, graphs.size(outputs[0]))


@multiply_adds.register
def _(layer: layers.Dense, inputs, outputs):
    return _times(inputs[0][-1], graphs.size(outputs[0]))


@multiply_adds.register(layers.Conv1D)
@multiply_adds.register(layers.Conv2D)
@multiply_adds.register(layers.Conv3D)
def _(layer, inputs, outputs):
    # The products that one output takes: the kernel has the inputs of a group.
    each = math.prod(layer.kernel.shape[:-1])
    return _times(each, graphs.size(outputs[0]))


@multiply_adds.register(layers.Conv1DTranspose)
@multiply_adds.register(layers.Conv2DTranspose)
@multiply_adds.register(layers.Conv3DTranspose)
def _(layer, inputs, outputs):
    # The products that one input takes part in.
    each = math.prod(layer.kernel.shape[:-1])
    return _times(each, graphs.size(inputs[0]))


@multiply_adds.register(layers.DepthwiseConv1D)
@multiply_adds.register(layers.DepthwiseConv2D)
def _(layer, inputs, outputs):
    return _times(math.prod(layer.kernel_size), graphs.size(outputs[0]))


@multiply_adds.register(layers.SeparableConv1D)
@multiply_adds.register(layers.SeparableConv2D)
def _(layer, inputs, outputs):
    channels = layer.pointwise_kernel.shape[-2]
    spatial = graphs.size(outputs[0])
    if spatial is None:
        return None
    spatial //= layer.filters
    return spatial * channels * (math.prod(layer.kernel_size) + layer.filters)


@multiply_adds.register
def _(layer: layers.Embedding, inputs, outputs):
    return 0


@multiply_adds.register
def _(layer: QuadraticLayer, inputs, outputs):
    branches = layer.branches()
    maps = [multiply_adds(b, inputs, outputs) for b in branches.values()]
    squares = graphs.size(inputs[0]) if "power" in branches else 0
    has_product = "gate" in neurons.get(layer.neuron).terms
    products = graphs.size(outputs[0]) if has_product else 0
    return _sum(*maps, squares, products)


@multiply_adds.register
def _(layer: DensePolynomial, inputs, outputs):
    # Along the last axis; `order - 1` Hadamard products.
    *positions, channels = inputs[0]
    rank, products = layer.rank, layer.order - 1
    each = layer.order * channels * rank + rank * layer.units + products * rank
    if isinstance(layer, NCP):
        # The product with b_1, and the maps of the hidden state.
        square_maps = products + len(getattr(layer, "skip_maps", ()))
        each += rank + square_maps * rank**2
    return _times(each, graphs.size(positions))


@multiply_adds.register
def _(layer: CCPConv2D, inputs, outputs):
    orders = range(1, layer.order + 1)
    shapes = [layer.hidden_shape((None, *inputs[0]), n) for n in orders]
    # Every order but the first has a Hadamard product.
    terms = [
        _times(layer.products_an_output(n) + (n > 1), graphs.size(shape[1:]))
        for n, shape in zip(orders, shapes, strict=True)
    ]
    return _sum(*terms)


@multiply_adds.register
def _(layer: ProdPoly, inputs, outputs):
    shape, terms = inputs[0], []
    for polynomial in layer.polynomials:
        after = polynomial.compute_output_shape((None, *shape))[1:]
        terms.append(multiply_adds(polynomial, [shape], [after]))
        shape = after
    return _sum(*terms)


def _times(number, size):
    """Returns a product, `None` where a factor is not known."""
    if number == 0:
        return 0
    return None if None in (number, size) else number * size


def _sum(*terms):
    """Returns a sum, `None` where a term is not known."""
    return None if None in terms else sum(terms)
