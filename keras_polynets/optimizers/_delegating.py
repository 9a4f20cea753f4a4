"""The base class of optimizers that wrap another one."""

import keras


def nested(optimizer):
    """Yields an optimizer and those inside of it, from the outside inwards."""
    while optimizer is not None:
        yield optimizer
        optimizer = getattr(optimizer, "inner_optimizer", None)


def innermost(optimizer):
    """Returns the optimizer inside all the wrappers, which makes the steps."""
    *_, inner = nested(optimizer)
    return inner


class DelegatingOptimizer(keras.optimizers.Optimizer):
    """Leaves everything to an inner optimizer; a subclass changes `apply`.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` to wrap.
        name: String, or `None`.

    Raises:
        TypeError: If `inner_optimizer` is no optimizer of Keras.
        ValueError: If it scales the loss dynamically.
    """

    # Keras's constructor sets the loss scale before there is an inner one.
    inner_optimizer = None

    def __init__(self, inner_optimizer, name=None):
        if not isinstance(inner_optimizer, keras.optimizers.Optimizer):
            raise TypeError(
                "Argument `inner_optimizer` must be a Keras optimizer, such "
                "as keras.optimizers.SGD(0.1). Received: "
                f"inner_optimizer={inner_optimizer!r}"
            )
        if isinstance(inner_optimizer, keras.optimizers.LossScaleOptimizer):
            wrapper = type(self).__name__
            raise ValueError(
                f"{wrapper} would be given scaled gradients. Wrap the other "
                f"way round: LossScaleOptimizer({wrapper}(...))."
            )
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer

    def build(self, variables):
        self.inner_optimizer.build(variables)
        super().build(variables)

    @property
    def variables(self):
        return self.inner_optimizer.variables

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def loss_scale_factor(self):
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor):
        if self.inner_optimizer is not None:
            self.inner_optimizer.loss_scale_factor = factor

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def _variables_to_apply(self, grads, trainable_variables):
        """Returns the variables of `grads`; builds for them where needed."""
        if trainable_variables is not None:
            trainable_variables = list(trainable_variables)
            if not self.built:
                self.build(trainable_variables)
            return trainable_variables
        if len(grads) != len(self._trainable_variables):
            raise ValueError(
                f"Expected a gradient for each of the "
                f"{len(self._trainable_variables)} variables that "
                f"{type(self).__name__} is built for. Received: {len(grads)} "
                "gradients. Pass the variables to `apply` too."
            )
        return self._trainable_variables

    def get_config(self):
        return {
            "name": self.name,
            "inner_optimizer": keras.saving.serialize_keras_object(
                self.inner_optimizer
            ),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        inner_optimizer = keras.saving.deserialize_keras_object(
            config.pop("inner_optimizer"), custom_objects=custom_objects
        )
        return cls(inner_optimizer, **config)
