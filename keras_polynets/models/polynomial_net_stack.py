"""Many polynomial networks of one shape as one model, trained at once."""

import keras
import numpy as np
from keras import ops

from keras_polynets import constraints
from keras_polynets._errors import check_input_shape
from keras_polynets._errors import check_positive_integer
from keras_polynets.layers import recursions
from keras_polynets.layers.dense_polynomial import hadamard_policy
from keras_polynets.models.polynomial_net import uniform_by_fan_in
from keras_polynets.models.zoo_model import ZooModel
from keras_polynets.models.zoo_model import float32_logits


@keras.saving.register_keras_serializable(package="keras_polynets")
class PolynomialNetStack(ZooModel):
    """Many networks `PolynomialNet` of the CCP model, trained at once.

    The members see the same batches, so that the maps of the input of all of
    them are one matrix product, and its gradient another: a step of many small
    networks costs little more than its arithmetic. The loss is the sum of
    those of the members. Optimizers that treat every weight by itself, such as
    SGD and Adam, therefore train each member exactly as they would train it
    alone, and members may differ in their initial weights and in the bounds of
    `callbacks.PeriodicProjection`.

    Args:
        members: Integer, the number of networks.
        input_shape: See `PolynomialNet`.
        classes: See `PolynomialNet`.
        order: See `PolynomialNet`.
        rank: See `PolynomialNet`.
        use_factor_bias: See `PolynomialNet`.
        dtype: See `PolynomialNet`.
        **kwargs: `input_range`, `data_range`, `class_names`, `name` and
            `trainable` of `keras_polynets.models.ZooModel`.

    Input shape:
        Float tensor of shape `(batch_size, *input_shape)` in `input_range`.

    Output shape:
        Float tensor of shape `(batch_size, members, classes)`, logits.

    Raises:
        ValueError: If the number of members is no integer of at least 1.

    Example:

    Nine seeds, and the first of them as a network of its own:

    >>> stack = keras_polynets.models.PolynomialNetStack(members=9)
    >>> keras_polynets.zoo.compile_model(stack, {"name": "sgd"})
    >>> stack.fit(stack.preprocessor(images), labels, epochs=50)
    >>> first = keras_polynets.models.PolynomialNet()
    >>> first.set_weights(stack.get_members()[0])
    """

    def __init__(
        self,
        members,
        input_shape=(28, 28, 1),
        classes=10,
        order=4,
        rank=16,
        use_factor_bias=False,
        dtype=None,
        **kwargs,
    ):
        check_positive_integer("members", members)
        input_shape = check_input_shape(input_shape)
        policy = keras.dtype_policies.get(dtype)
        hidden_policy = hadamard_policy(policy)
        inputs = keras.Input(
            input_shape, dtype=policy.variable_dtype, name="images"
        )
        x = keras.layers.Flatten(dtype=policy, name="flatten")(inputs)
        # Order by order, in each member by member.
        x = keras.layers.Dense(
            order * members * rank,
            use_bias=use_factor_bias,
            kernel_initializer=uniform_by_fan_in(),
            dtype=policy,
            name="factors",
        )(x)
        x = ops.cast(x, hidden_policy.compute_dtype)
        x = recursions.ccp(ops.split(x, order, axis=-1))
        x = OutputMaps(
            classes,
            members,
            kernel_initializer=uniform_by_fan_in(),
            dtype=hidden_policy,
            name="output_map",
        )(ops.reshape(x, (-1, members, rank)))
        super().__init__(
            inputs,
            float32_logits(ops.cast(x, policy.compute_dtype), policy),
            config={
                "members": members,
                "input_shape": input_shape,
                "classes": classes,
                "order": order,
                "rank": rank,
                "use_factor_bias": use_factor_bias,
            },
            dtype=policy,
            **kwargs,
        )
        self.members = members
        self.order = order

    @property
    def head(self):
        return self.get_layer("output_map")

    def make_loss(self):
        return SummedCrossentropy()

    def make_metrics(self):
        return []

    def get_members(self):
        """Returns the weights of every member.

        Returns:
            List, for each member what `get_weights` of a `PolynomialNet` of
            this shape returns.
        """
        weights = [
            w.reshape(*w.shape[:-1], blocks, self.members, -1)
            for w, blocks in zip(self.get_weights(), self._blocks, strict=True)
        ]
        return [
            [w[..., m, :].reshape(*w.shape[:-3], -1) for w in weights]
            for m in range(self.members)
        ]

    def set_members(self, weights):
        """Sets the weights of every member.

        Args:
            weights: Sequence, for each member what `get_weights` of a
                `PolynomialNet` of this shape returns.

        Raises:
            ValueError: If it does not hold the weights of as many members.
        """
        self._check_length("weights", weights)
        arrays = zip(*weights, strict=True)
        self.set_weights(
            [
                _side_by_side(members, blocks)
                for members, blocks in zip(arrays, self._blocks, strict=True)
            ]
        )

    def projection_bounds(self, bounds):
        """Returns the bounds of all members for `PeriodicProjection`.

        Args:
            bounds: Sequence, for each member the bounds that
                `PeriodicProjection` would take for the member alone: a
                dictionary with the bounds of `"factors"`, a float or one an
                order, and of `"output_map"`, a float.

        Returns:
            Dictionary, the argument `max_value` of
            `callbacks.PeriodicProjection`.

        Raises:
            ValueError: If it does not hold the bounds of as many members, or a
                member has another number of bounds than orders.

        Example:

        >>> bounds = [{"factors": 2.0, "output_map": b} for b in (1.0, 5.0)]
        >>> stack = keras_polynets.models.PolynomialNetStack(len(bounds))
        >>> projection = keras_polynets.callbacks.PeriodicProjection(
        ...     stack.projection_bounds(bounds)
        ... )
        """
        self._check_length("bounds", bounds)
        factors = [
            constraints.bounds_of_units(
                tuple(np.atleast_1d(member["factors"])), self.order
            )
            for member in bounds
        ]
        output_map = [member["output_map"] for member in bounds]
        return {
            "factors": np.ravel(factors, order="F").tolist(),
            "output_map": np.ravel(output_map).tolist(),
        }

    @property
    def _blocks(self):
        """The number of orders that lie side by side in each weight."""
        factors = len(self.get_layer("factors").weights)
        return [self.order] * factors + [1] * (len(self.weights) - factors)

    def _check_length(self, name, values):
        if len(values) != self.members:
            raise ValueError(
                f"Argument `{name}` must hold one item for each of the "
                f"{self.members} members. Received: {len(values)} items"
            )


def _side_by_side(arrays, blocks):
    """Joins weights `(..., blocks * width)`, the members inside each block."""
    *shape, units = arrays[0].shape
    parts = [a.reshape(*shape, blocks, units // blocks) for a in arrays]
    return np.stack(parts, axis=-2).reshape(*shape, -1)


@keras.saving.register_keras_serializable(package="keras_polynets")
class OutputMaps(keras.layers.Dense):
    """The output maps of all members, each of its own hidden state.

    Their kernels lie side by side in one of shape `(rank, members * classes)`,
    a column a unit, as the projections expect.
    """

    def __init__(self, classes, members, **kwargs):
        super().__init__(members * classes, **kwargs)
        self.classes = classes
        self.members = members

    def call(self, inputs):
        shape = (self.members, self.classes)
        kernels = ops.reshape(self.kernel, (-1, *shape))
        outputs = ops.einsum("bmr,rmc->bmc", inputs, kernels)
        return outputs + ops.reshape(self.bias, shape)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.members, self.classes)

    def get_config(self):
        config = super().get_config()
        del config["units"]
        return config | {"classes": self.classes, "members": self.members}


@keras.saving.register_keras_serializable(package="keras_polynets")
class SummedCrossentropy(keras.losses.Loss):
    """Sum over the members of the cross-entropy of their logits."""

    def call(self, y_true, y_pred):
        labels = ops.broadcast_to(
            ops.reshape(y_true, (-1, 1)), ops.shape(y_pred)[:2]
        )
        losses = ops.sparse_categorical_crossentropy(
            labels, y_pred, from_logits=True
        )
        return ops.sum(losses, axis=1)
