"""A classifier whose outputs are bounded around images, batch by batch."""

import numpy as np

from keras_polynets._errors import check_layer
from keras_polynets._errors import is_finite
from keras_polynets._errors import unknown_name
from keras_polynets.robustness import inputs
from keras_polynets.robustness import pairwise
from keras_polynets.robustness.logits import check_classifier
from keras_polynets.robustness.networks import Network
from keras_polynets.robustness.quadratic_forms import QuadraticForms

LOCAL_METHODS = ("interval", "affine")
METHODS = ("auto", "global", *LOCAL_METHODS, "quadratic")


class Certifier:
    """A classifier whose outputs are bounded around images, batch by batch.

    What does not depend on the images is computed once: linear maps, the
    Jacobian of all that is affine in the input, Lipschitz constants. So a
    certifier keeps to the weights that the model has at its first batch: make
    another one after training the model further or loading other weights.

    Args:
        model: A built functional or sequential model with one input and one
            output of shape `(batch_size, classes)`, logits, all of whose
            layers have a rule in `keras_polynets.robustness.enclose`.
        clip: Tuple `(low, high)`, the valid range of inputs, each a number or
            one a channel. By default `model.input_range`; without one, and
            with `clip=None`, every input is valid.

    Raises:
        ValueError: If the model is subclassed or not built, or has several
            inputs or outputs.
        TypeError: If it is no model.

    Example:

    >>> certifier = keras_polynets.robustness.Certifier(model)
    >>> margins = certifier.margins(images, labels, epsilon=0.01)
    >>> certified = margins > 0
    """

    def __init__(self, model, clip=None):
        check_layer(model)
        self._model = model
        self._network = Network(model)
        self._pairs = pairwise.PairwiseLipschitz(model)
        self._quadratic = QuadraticForms(model, self._network.affine)
        # Models of other dtypes take what is rounded to float32.
        is_exact = self._network.dtype == "float64"
        self._dtype = "float64" if is_exact else "float32"
        if clip is None and getattr(model, "input_range", None) is None:
            self._low, self._high = np.float32(-np.inf), np.float32(np.inf)
        else:
            self._low, self._high = inputs.valid_range(model, clip, self._dtype)

    def bounds(self, images, epsilon, method="affine"):
        """Bounds of the outputs on the ball around each image.

        Args:
            images: Floats of the model's input shape, in its input units.
            epsilon: Non-negative float, the ℓ∞ radius of the ball, of which
                the part within the valid range counts.
            method: `"interval"` or `"affine"`.

        Returns:
            Pair of arrays `(batch_size, *output_shape)`, float64: lower and
            upper bounds of what the model computes, rounding included.

        Raises:
            ValueError: If `epsilon` or `method` is not as above, or if images
                have another shape or lie outside the valid range.
        """
        if method not in LOCAL_METHODS:
            raise unknown_name("method", method, LOCAL_METHODS)
        _, lower, upper = self._boxes(images, epsilon)
        found = self._network.outputs(lower, upper, method)
        shape = found.values.centre.shape
        low, high = (
            (end + found.bias).reshape(shape)
            for end in found.hidden.contract(found.rows[None])
        )
        rounding = found.values.rounding
        low, high = low - rounding, high + rounding
        # What overflowed is not bounded.
        return (
            np.where(np.isnan(low), -np.inf, low),
            np.where(np.isnan(high), np.inf, high),
        )

    def slopes(self, images, epsilon):
        """Bounds of the Lipschitz constant on the ball around each image.

        See `keras_polynets.robustness.local_lipschitz_bound`.

        Args:
            images: As in `bounds`.
            epsilon: As in `bounds`.

        Returns:
            Pair of arrays `(batch_size,)`: the norm of the gradients at the
            centre of the ball, which no bound can be below, and an upper bound
            of that anywhere in the ball.

        Raises:
            ValueError: As in `bounds`.
        """
        _, lower, upper = self._boxes(images, epsilon)
        found = self._network.outputs(lower, upper, "affine")
        centre, bound = found.hidden.slopes(found.rows[None])
        # Rounded outwards, with weights that layers compute in float32.
        bound = bound.max(axis=1) * (1 + 2.0**-20)
        return centre.max(axis=1), np.where(np.isnan(bound), np.inf, bound)

    def margins(self, images, labels, epsilon, method="auto"):
        """Lower bounds of the margins of the true classes around images.

        The margin is the logit of the true class less the largest other one.
        Where the bound is positive no point of the ball changes the model's
        prediction: the image is certified.

        Args:
            images: As in `bounds`.
            labels: Integer classes of shape `(batch_size,)`.
            epsilon: As in `bounds`.
            method: `"auto"`, `"global"`, `"interval"`, `"affine"` or
                `"quadratic"`, as in `certified_accuracy`.

        Returns:
            Array `(batch_size,)`, float64.

        Raises:
            ValueError: As in `bounds`, and if labels are out of range.
            NotImplementedError: If there is no global bound of the model or no
                quadratic one, and `method` asks for it.
        """
        check_method(method)
        if method == "global":
            return self._global(images, labels, epsilon)
        _, lower, upper = self._boxes(images, epsilon)
        own = method if method in LOCAL_METHODS else "affine"
        found = self._network.outputs(lower, upper, own)
        labels = self._labels(found.values, labels)
        if method == "quadratic":
            return self._by_quadratic_forms(found.values, lower, upper, labels)
        margins = _by_rows(found, labels)
        if method in LOCAL_METHODS:
            return margins
        # Interval arithmetic is part of the affine method already.
        if "global" in self.methods:
            others = self._global(images, labels, epsilon)
            margins = best([margins, others])
        left = ~(margins > 0)
        if "quadratic" in self.methods and left.any():
            left[left] = self._resists(found, lower, upper, labels, left)
            others = self._by_quadratic_forms(
                found.values, lower, upper, labels, left
            )
            margins = best([margins, others])
        return margins

    @property
    def methods(self):
        """The methods that bound this model, `"auto"` as the last."""
        known = {
            "global": self._pairs.exists,
            "quadratic": self._quadratic.exist,
        }
        _, *single = METHODS
        return *(m for m in single if known.get(m, True)), "auto"

    def _resists(self, found, lower, upper, labels, wanted):
        """Returns which images of some are right where they are steepest.

        That is the corner of the ball to which the gradient points. No bound
        certifies the others.
        """
        logits = found.values.centre.copy()
        np.put_along_axis(logits, labels[:, None], -np.inf, axis=1)
        rows = found.rows[labels] - found.rows[logits.argmax(axis=1)]
        slopes = found.hidden.part.pull(rows[:, None])[:, 0]
        slopes = slopes.reshape(lower.shape)[wanted]
        corners = np.where(slopes > 0, lower[wanted], upper[wanted])
        values = self._network.outputs(corners, corners, "interval").values
        return values.centre.argmax(axis=1) == labels[wanted]

    def _by_quadratic_forms(self, outputs, lower, upper, labels, wanted=True):
        needed = _rounding(outputs, labels)
        # No ball is certified whose centre is classified wrongly, nor one on
        # which numbers may overflow.
        hopeful = wanted & (outputs.centre.argmax(axis=1) == labels)
        hopeful &= np.isfinite(needed).all(axis=1)
        margins = np.full(outputs.centre.shape, -np.inf)
        margins[hopeful] = self._quadratic.margins(
            lower[hopeful], upper[hopeful], labels[hopeful], needed[hopeful]
        )
        return _smallest(margins, outputs, labels)

    def _global(self, images, labels, epsilon):
        x, lower, upper = self._boxes(images, epsilon)
        values = self._network.outputs(x, x, "interval").values
        # The other points of the ball are rounded too, and worse where larger.
        ball = self._network.outputs(lower, upper, "interval").values
        labels = self._labels(values, labels)
        ends = self._range(lower, upper)
        peak = max(float(np.abs(end).max()) for end in ends)
        lipschitz = self._pairs.within(peak)[labels]
        logits = values.centre
        margins = np.take_along_axis(logits, labels[:, None], 1) - logits
        # A bound that overflowed bounds nothing, but a ball of one point.
        moved = epsilon * lipschitz if epsilon > 0 else 0.0
        return _smallest(margins - moved, ball, labels)

    def _range(self, lower, upper):
        ends = self._low, self._high
        return ends if np.isfinite(ends).all() else (lower, upper)

    def _labels(self, outputs, labels):
        shape = None, *outputs.shape
        check_classifier(self._model, shape, "Certificates need")
        return inputs.as_labels(labels, len(outputs.centre), outputs.shape[0])

    def _boxes(self, images, epsilon):
        """Returns the images and the ends of their balls, in float64."""
        check_epsilon(epsilon)
        if not np.issubdtype(np.asarray(images).dtype, np.floating):
            raise TypeError(
                "Bounds take floats in the model's input range. Received "
                f"images of dtype {np.asarray(images).dtype}. Call "
                "model.preprocessor first."
            )
        x = inputs.as_images(
            self._model, images, self._low, self._high, self._dtype
        ).astype("float64")
        if not len(x):
            raise ValueError(
                "Expected at least one image. Received: images of shape "
                f"{x.shape}"
            )
        low, high = (np.float64(side) for side in (self._low, self._high))
        ends = x - epsilon, x + epsilon
        if self._dtype == "float64" and epsilon > 0:
            ends = np.nextafter(ends[0], -np.inf), np.nextafter(ends[1], np.inf)
        return x, np.maximum(ends[0], low), np.minimum(ends[1], high)


def check_epsilon(epsilon):
    """Raises a `ValueError` unless `epsilon` is a number of at least 0."""
    if not (is_finite(epsilon) and epsilon >= 0):
        raise ValueError(
            "Argument `epsilon` must be a finite number of at least 0, in the "
            f"model's input units. Received: epsilon={epsilon!r}"
        )


def check_method(method):
    """Raises a `ValueError` unless there is a method of this name."""
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)


def best(margins):
    """Returns the largest of the bounds of each margin.

    Args:
        margins: List of arrays `(batch_size,)`, those of several methods. NaN
            stands for no bound.
    """
    return np.fmax.reduce(margins)


def _by_rows(found, labels):
    """Returns lower bounds of the margins, of `Outputs` on boxes."""
    pairs = found.rows[labels][:, None] - found.rows
    bias = found.bias[labels][:, None] - found.bias
    margins = found.hidden.contract(pairs)[0] + bias
    return _smallest(margins, found.values, labels)


def _smallest(margins, outputs, labels):
    """Returns the smallest margin of each image, less what rounding takes."""
    margins = margins - _rounding(outputs, labels)
    margins[np.arange(len(labels)), labels] = np.inf
    return margins.min(axis=1)


def _rounding(outputs, labels):
    """Returns the rounding errors of both logits of each margin."""
    own = outputs.rounding[np.arange(len(labels)), labels]
    return outputs.rounding + own[:, None]
