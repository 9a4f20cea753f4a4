"""Products of polynomials."""

import math

import keras


@keras.saving.register_keras_serializable(package="keras_polynets")
class ProdPoly(keras.layers.Layer):
    """Product of polynomials: each polynomial takes the output of the last.

    The degree of the output is the product of the orders: `M` polynomials of
    order 2 give degree `2 ** M` at the cost of `M` Hadamard products.

    Args:
        polynomials: List of polynomial layers, for example
            `keras_polynets.layers.NCP`, in the order in which they are
            applied.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`.

    Input shape:
        That of the first polynomial.

    Output shape:
        That of the last polynomial.

    Raises:
        ValueError: If `polynomials` is empty or holds something that is not a
            layer with an `order`.

    Example:

    >>> layer = ProdPoly([CCP(32, rank=16, order=2), CCP(10, rank=16, order=2)])
    >>> layer.order
    4

    Reference:
        - Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR
          2020, "Product of polynomials".
    """

    def __init__(self, polynomials, **kwargs):
        super().__init__(**kwargs)
        polynomials = list(polynomials)
        if not polynomials or not all(
            isinstance(p, keras.layers.Layer) and hasattr(p, "order")
            for p in polynomials
        ):
            raise ValueError(
                "Argument `polynomials` must be a list of one or more "
                "polynomial layers, such as `CCP`, `NCP`, `NCPSkip` or "
                f"`ProdPoly`. Received: polynomials={polynomials}"
            )
        self.polynomials = polynomials

    @property
    def order(self):
        """The degree of the output in the input."""
        return math.prod(p.order for p in self.polynomials)

    def build(self, input_shape):
        for polynomial in self.polynomials:
            # One that comes from a file is built already.
            if not polynomial.built:
                polynomial.build(input_shape)
            input_shape = polynomial.compute_output_shape(input_shape)

    def call(self, inputs):
        for polynomial in self.polynomials:
            inputs = polynomial(inputs)
        return inputs

    def compute_output_shape(self, input_shape):
        for polynomial in self.polynomials:
            input_shape = polynomial.compute_output_shape(input_shape)
        return input_shape

    def polynomial_degree(self, degrees):
        """Returns the degree of the output, given those of the inputs."""
        return self.order * degrees[0]

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "polynomials": [serialize(p) for p in self.polynomials],
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["polynomials"] = [
            keras.saving.deserialize_keras_object(p)
            for p in config["polynomials"]
        ]
        return cls(**config)
