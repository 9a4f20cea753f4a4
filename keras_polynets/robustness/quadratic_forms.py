"""Second-order Taylor forms of a dense polynomial layer, on a ball."""

import dataclasses
import functools
import math

import keras
import numpy as np

from keras_polynets import layers
from keras_polynets.analysis import graphs
from keras_polynets.robustness import enclosures
from keras_polynets.robustness.intervals import Product
from keras_polynets.robustness.intervals import evaluated

# What is computed here in float64 has rounding errors, relative to the sum of
# the absolute terms; this is far above them.
_OWN = 1e-10
# How many images are bounded at once: a form has a matrix for every unit.
_IMAGES = 8


class Directions:
    """The directions of a polynomial's factors, around a batch of inputs.

    With `δ = r * s` a quadratic function of `p = U δ` is one of `s`, whose
    components lie within [-1, 1], and at most their number times its largest
    eigenvalue:

        p^T M p = s^T V^T M V s <= d max(0, λ_max(V^T M V)),    V = U diag(r)

    For the eigenvalues `V V^T = B B^T` is enough: those of `V^T M V` that are
    not zero are those of `B^T M B`, which is as small as `M`.

    Args:
        rows: Array `(n, d)`, the rows `U` of all factors.
        radius: Array `(batch, d)`, the half-widths of the balls.
    """

    def __init__(self, rows, radius):
        self.rows, self.radius = rows, radius
        # The largest size of each component of `U δ`.
        self.reach = radius @ np.abs(rows).T
        self._parts = {}
        self._moved = np.count_nonzero(radius, axis=1)
        scaled = rows * radius[:, None]
        gram = scaled @ scaled.swapaxes(1, 2)
        values, vectors = np.linalg.eigh(gram)
        self._root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
        self._size = self._moved * np.trace(gram, axis1=1, axis2=2)

    def largest(self, matrices):
        """Returns upper bounds of `|p^T M p|`.

        Args:
            matrices: Array `(batch, units, n, n)`.

        Returns:
            Array `(batch, units)`.
        """
        bounds = np.zeros(matrices.shape[:2])
        # Units know few of the directions, those of CCP one a factor.
        known = matrices.any(axis=(0, 2)) | matrices.any(axis=(0, 3))
        for some in np.unique(known[known.any(axis=1)], axis=0):
            units = np.flatnonzero((known == some).all(axis=1))
            part = matrices[np.ix_(range(len(bounds)), units, some, some)]
            bounds[:, units] = self._among(some)._largest(part)
        return bounds

    def _among(self, some):
        """Returns some of the directions, those where an array is true."""
        if some.all():
            return self
        key = some.tobytes()
        if key not in self._parts:
            self._parts[key] = Directions(self.rows[some], self.radius)
        return self._parts[key]

    def _largest(self, matrices):
        small, error = _small(matrices, self._root[:, None])
        # tr(K^8)^(1/8), a bound of the largest eigenvalue.
        size = np.linalg.norm(small, axis=(2, 3), keepdims=True)
        power = small / np.maximum(size, np.finfo("float64").tiny)
        for _ in range(2):
            power = power @ power
        power = np.linalg.norm(power, axis=(2, 3)) ** 0.25
        error = error * self._size[:, None]
        bound = self._moved[:, None] * size[..., 0, 0] * power + error
        return np.minimum(self.one_by_one(matrices), bound) * (1 + _OWN)

    def one_by_one(self, matrices):
        """Returns upper bounds of `|p^T M p|`, of the sizes of the terms.

        Args:
            matrices: Array `(batch, units, n, n)`.

        Returns:
            Array `(batch, units)`.
        """
        reach = self.reach[:, None, :, None]
        return ((np.abs(matrices) @ reach) * reach).sum(axis=(2, 3))

    def highest(self, matrices, images):
        """Returns upper bounds of `p^T M p`.

        Args:
            matrices: Array `(functions, n, n)`.
            images: Integer array `(functions,)`, the image of each.

        Returns:
            Array `(functions,)`.
        """
        small, error = _small(matrices, self._root[images])
        highest = np.maximum(np.linalg.eigvalsh(small)[:, -1], 0.0)
        return self._moved[images] * highest + error * self._size[images]


def _small(matrices, root):
    """Returns `B^T M B`, and what rounding adds, relative to the size."""
    symmetric = (matrices + matrices.swapaxes(-1, -2)) / 2
    error = _OWN * np.linalg.norm(symmetric, axis=(-2, -1))
    return root.swapaxes(-1, -2) @ symmetric @ root, error


@dataclasses.dataclass(frozen=True)
class QuadraticForm:
    """A feature map on the ball around each image, up to the second order.

    For every `z = c + δ` with `|δ_i| <= r_i`, and with `p = U δ` along the
    rows of all factors of a polynomial,

        x(z) = x(c) + a p + p^T M p ± rest

    where `a` and `M` are exact, and `rest` bounds the terms of higher degree.
    A linear map takes `x(c)`, `a` and `M` with `A` and `rest` with `|A|`. A
    product has

        a = x(c) a_y + y(c) a_x
        M = x(c) M_y + y(c) M_x + a_x a_y^T
        rest = |x(c)| rest_y + |y(c)| rest_x + |a_x p| |p^T M_y p|
               + |a_y p| |p^T M_x p| + ...

    of the largest sizes on the ball.

    Args:
        directions: The `Directions`, whose rows are `U`.
        centre: Array `(batch, units)`, `x(c)`.
        linear: Array `(batch, units, n)`, `a`.
        quadratic: Array `(batch, units, n, n)`, `M`.
        rest: Array `(batch, units)`.
    """

    directions: Directions
    centre: np.ndarray
    linear: np.ndarray
    quadratic: np.ndarray
    rest: np.ndarray

    # Arrays leave products and sums with it to the methods here.
    __array_ufunc__ = None

    @property
    def shape(self):
        """The shape of an example."""
        return self.centre.shape[1:]

    @functools.cached_property
    def linear_size(self):
        """The largest size of the linear part."""
        rows = np.abs(self.linear @ self.directions.rows)
        return (rows @ self.directions.radius[..., None])[..., 0]

    @functools.cached_property
    def quadratic_size(self):
        """An upper bound of the size of the quadratic part."""
        return self.directions.largest(self.quadratic)

    def through(self, affine, unit):
        """Returns what an affine layer makes of it.

        Args:
            affine: The `linear_maps.Affine` of the layer.
            unit: Not used: rounding errors are bounded elsewhere.
        """
        matrix = affine.linear.matrix()
        count, units, n, _ = self.quadratic.shape
        flat = matrix @ self.quadratic.reshape(count, units, n * n)
        return QuadraticForm(
            self.directions,
            self.centre @ matrix.T + affine.bias,
            matrix @ self.linear,
            flat.reshape(count, len(matrix), n, n),
            self.rest @ np.abs(matrix).T,
        )

    def __add__(self, other):
        if isinstance(other, Product):
            return other + self
        if not isinstance(other, QuadraticForm):
            return dataclasses.replace(self, centre=self.centre + other)
        return QuadraticForm(
            self.directions,
            self.centre + other.centre,
            self.linear + other.linear,
            self.quadratic + other.quadratic,
            self.rest + other.rest,
        )

    __radd__ = __add__

    def __mul__(self, other):
        if isinstance(other, QuadraticForm | Product):
            return Product(self, other)
        return self._scaled(np.broadcast_to(other, self.centre.shape))

    __rmul__ = __mul__

    def product(self, other):
        """Returns the product with another form of the same shape."""
        x, y = self, other
        outer = x.linear[..., :, None] * y.linear[..., None, :]
        parts = [f._scaled(g.centre) for f, g in ((x, y), (y, x))]
        # The largest sizes of linear and quadratic parts.
        a, b = x.linear_size, y.linear_size
        p, q = x.quadratic_size, y.quadratic_size
        beyond = a * q + p * b + p * q
        beyond = beyond + (a + p) * y.rest + (b + q) * x.rest + x.rest * y.rest
        return QuadraticForm(
            self.directions,
            x.centre * y.centre,
            parts[0].linear + parts[1].linear,
            parts[0].quadratic + parts[1].quadratic + outer,
            parts[0].rest + parts[1].rest + beyond,
        )

    def after(self, left, right):
        """Returns the form itself: overflow is looked at elsewhere."""
        return self

    def _scaled(self, factor):
        """Returns the form with each unit times a factor, `(batch, units)`."""
        return dataclasses.replace(
            self,
            centre=factor * self.centre,
            linear=factor[..., None] * self.linear,
            quadratic=factor[..., None, None] * self.quadratic,
            rest=np.abs(factor) * self.rest,
        )

    def lower_bounds(self, rows, biases, needed):
        """Returns lower bounds of affine functions of the map on the ball.

        The quadratic part is looked at closely where that may decide.

        Args:
            rows: Array `(batch, functions, units)`.
            biases: Array `(batch, functions)`.
            needed: Array `(batch, functions)`, what they are compared with.

        Returns:
            Array `(batch, functions)`.
        """
        count, n = len(rows), len(self.directions.rows)
        gradient = np.abs(rows @ self.linear @ self.directions.rows)
        reach = (gradient @ self.directions.radius[..., None])[..., 0]
        rest = (np.abs(rows) @ self.rest[..., None])[..., 0]
        terms = (np.abs(rows) @ np.abs(self.centre)[..., None])[..., 0]
        own = _OWN * (terms + reach + rest)
        flat = (rows @ self.centre[..., None])[..., 0] + biases
        flat = flat - reach - rest - own
        matrices = rows @ self.quadratic.reshape(count, -1, n * n)
        matrices = matrices.reshape(*rows.shape[:2], n, n)
        bounds = flat - self.directions.one_by_one(matrices) * (1 + _OWN)
        images, functions = np.nonzero((bounds <= needed) & (flat > needed))
        curves = self.directions.highest(-matrices[images, functions], images)
        curved = flat[images, functions] - curves
        bounds[images, functions] = np.maximum(
            bounds[images, functions], curved
        )
        return bounds


class QuadraticForms:
    """The outputs of a network that is one dense polynomial layer.

    Args:
        model: A built model.
        affine: The `networks.Maps` of its layers.
    """

    def __init__(self, model, affine):
        self._layer, self._affine = polynomial_of(model), affine

    @property
    def exist(self):
        """Whether the network is of that kind."""
        return self._layer is not None

    def margins(self, lower, upper, labels, needed):
        """Returns lower bounds of the margins to every class on boxes.

        Args:
            lower: Float64 array `(batch, *shape)`, the lower ends.
            upper: The upper ends.
            labels: The true classes, integer array `(batch,)`.
            needed: Array `(batch, classes)`, what certifies: the rounding
                errors of the network, which are left out.

        Returns:
            Array `(batch, classes)`.

        Raises:
            NotImplementedError: If the network is of another kind.
        """
        if not self.exist:
            raise NotImplementedError(
                "The method 'quadratic' is for networks that are one dense "
                "polynomial layer, such as pn4, pn10 and ncp4. Use 'affine'."
            )
        shape = len(labels), math.prod(lower.shape[1:])
        lower, upper = lower.reshape(shape), upper.reshape(shape)
        bounds = np.zeros(needed.shape)
        for start in range(0, len(labels), _IMAGES):
            part = slice(start, start + _IMAGES)
            bounds[part] = self._margins(
                lower[part], upper[part], labels[part], needed[part]
            )
        return bounds

    def _margins(self, lower, upper, labels, needed):
        last = self._affine(self._layer.output_map, (self._layer.rank,))
        matrix = last.linear.matrix()
        bias = np.broadcast_to(last.bias, len(matrix))
        factors = self._factors(lower, upper)
        hidden = evaluated(
            enclosures.hidden(self._layer, factors, self._affine)
        )
        return hidden.lower_bounds(
            matrix[labels][:, None] - matrix,
            bias[labels][:, None] - bias,
            needed,
        )

    def _factors(self, lower, upper):
        """Returns the forms of the factors, each unit a direction."""
        layer, (count, size) = self._layer, lower.shape
        maps = self._affine.parts(layer.factors, (size,), layer.order)
        matrices = [part.linear.matrix() for part in maps]
        n, units = layer.order * layer.rank, layer.rank
        directions = Directions(np.concatenate(matrices), (upper - lower) / 2)
        own = np.eye(n).reshape(layer.order, units, n)
        zeros = np.zeros(())
        return [
            QuadraticForm(
                directions,
                (lower + upper) / 2 @ matrix.T + part.bias,
                np.broadcast_to(own[k], (count, units, n)),
                np.broadcast_to(zeros, (count, units, n, n)),
                np.zeros((count, units)),
            )
            for k, (matrix, part) in enumerate(zip(matrices, maps, strict=True))
        ]


def polynomial_of(model):
    """Returns the layer of a model that is one dense polynomial, or `None`.

    Args:
        model: A built model.
    """
    if not isinstance(model, keras.Model) or not graphs.is_graph(model):
        return None
    found = [
        call
        for call in graphs.calls(model)
        if not enclosures.keeps_order(call.operation)
    ]
    known = layers.CCP, layers.NCP, layers.NCPSkip
    if len(found) != 1 or type(found[0].operation) not in known:
        return None
    (shape,), polynomial = found[0].inputs, found[0].operation
    is_last = graphs.makers(model, enclosures.keeps_order) == [polynomial]
    return polynomial if len(shape) == 1 and is_last else None
