"""Projection of the weights every few optimizer steps."""

import functools

import keras
from keras import ops

from keras_polynets import constraints
from keras_polynets._errors import check_positive_integer
from keras_polynets._errors import unknown_name
from keras_polynets.optimizers._delegating import innermost

NORMS = {
    "linf": constraints.project,
    "spectral": constraints.project_spectral,
}


class PeriodicProjection(keras.callbacks.Callback):
    """Projects kernels onto balls of an operator norm every few steps.

    This is the projected gradient descent of polynomial networks: after every
    `every`-th optimizer step the weights of each output unit of the dense and
    convolution layers are projected onto an ℓ1 ball, which bounds the
    ∞-operator norm, or each kernel onto a ball of the spectral norm. The
    projection is part of the compiled training step, so that `every` counts
    optimizer steps whatever `steps_per_execution` and
    `gradient_accumulation_steps` are, with and without XLA, in mixed precision
    and under `tf.distribute.MirroredStrategy`. It runs after the last step of
    every epoch too, so that the weights that are validated and saved at the
    end of an epoch satisfy the bounds. So do the averages that an optimizer
    with `use_ema=True` leaves at the end of `fit`.

    Where the last step is not known beforehand (an epoch that ends early, data
    of unknown length, loss scaling) and with `use_ema`, the callback projects
    when the epoch is over: put it before callbacks that save weights, and
    after `keras.callbacks.SwapEMAWeights`. Several of these callbacks can
    bound different layers in one `fit`.

    Args:
        max_value: Float above 0, the bound of all layers except those with
            `trainable=False`, which stay as they are. Or a dictionary from
            the name or the path of a layer to its bound; other layers are then
            left alone. A bound is a float, or a sequence of floats, one for
            each of as many equal blocks of units (one an order for the
            `factors` of a polynomial layer).
        every: Positive integer, the number of optimizer steps from one
            projection to the next: steps whose number is a multiple of it.
        start_epoch: Integer, the first epoch (from 0) that projects.
        joint_bias: Boolean, whether a unit's bias is projected together with
            its weights, as one more weight. Without it biases are left alone.
        norm: `"linf"` for the ∞-operator norm, or `"spectral"` for the
            spectral norm of the reshaped kernel. A single bound of a
            polynomial layer's factors then holds for each order.

    Raises:
        ValueError: If a bound is not above 0, if the norm is not known, if
            `max_value` names a layer that the model does not have, that has
            no kernel or that is not trainable, if the model holds a layer that
            cannot be projected, or if a weight is NaN or infinite at the end
            of an epoch.

    Example:

    >>> model = keras_polynets.zoo.load("pn4", weights=None)
    >>> projection = keras_polynets.callbacks.PeriodicProjection(
    ...     1.0, every=10, start_epoch=50
    ... )
    >>> model.fit(images, labels, epochs=100, callbacks=[projection])

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Algorithm 1.
    """

    def __init__(
        self,
        max_value,
        every=10,
        start_epoch=0,
        joint_bias=True,
        norm="linf",
    ):
        super().__init__()
        if norm not in NORMS:
            raise unknown_name("norm of a projection", norm, NORMS)
        check_positive_integer("every", every)
        if not isinstance(start_epoch, int) or start_epoch < 0:
            raise ValueError(
                "Argument `start_epoch` must be an integer of at least 0. "
                f"Received: start_epoch={start_epoch!r}"
            )
        if isinstance(max_value, dict):
            self.max_value = {
                name: constraints.check_bound(value)
                for name, value in max_value.items()
            }
        else:
            self.max_value = constraints.check_bound(max_value)
        self.every = every
        self.start_epoch = start_epoch
        self.joint_bias = joint_bias
        self.norm = norm
        self._hook = None

    def on_train_begin(self, logs=None):
        self._targets = self._find_targets()
        # Not asked inside the step: on JAX, reading `self.model` there writes
        # the state of the step into the model.
        self._last_step_known = self._is_last_step_known()
        self._hook = None

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= self.start_epoch and self._hook is None:
            self._hook = _StepHook.of(self.model)
            self._first_count = self._hook.count()
            self._hook.add(self._project_if_due)

    def on_test_begin(self, logs=None):
        self._project_if_left()

    def on_epoch_end(self, epoch, logs=None):
        if self._hook is None:
            return
        self._project_if_left()
        for kernel, bias, _ in self._targets:
            constraints.check_finite(kernel)
            if bias is not None:
                constraints.check_finite(bias)
        if self._last_step_known and not self._ends_epoch(self._hook.count()):
            # The data ran out, and the next epochs end at other steps.
            self._last_step_known = False
            self._hook.make_step()

    def on_train_end(self, logs=None):
        # Keras has given the weights their averages just before.
        self._project_if_left()
        if self._hook is not None:
            self._hook.remove(self._project_if_due)
            self._hook = None

    def _is_last_step_known(self):
        """Whether the optimizer's count tells the last batch of an epoch.

        Loss scaling skips steps whose gradients overflow, uncounted.
        """
        scaled = isinstance(
            self.model.optimizer, keras.optimizers.LossScaleOptimizer
        )
        return self.params.get("steps") is not None and not scaled

    def _find_targets(self):
        layers = _projectable_layers(self.model, self.max_value)
        targets = []
        orders = _orders(self.model)
        for layer, bound in layers:
            if self.norm == "spectral" and isinstance(bound, float):
                bound = (bound,) * orders.get(id(layer), 1)
            # A wrong number of bounds is an error before the first step.
            constraints.bounds_of_units(bound, layer.kernel.shape[-1])
            bias = layer.bias if self.joint_bias and layer.use_bias else None
            targets.append((layer.kernel, bias, bound))
        return targets

    def _project_if_left(self):
        """Projects unless the last step did."""
        if self._hook is None:
            return
        count = self._hook.count()
        stepped = count != self._first_count
        if stepped and self._is_due(count) and not self._hook.averages():
            return
        for kernel, bias, bound in self._targets:
            _assign_projection(self.norm, kernel, bias, bound)

    def _is_due(self, count):
        """Whether the step projects after which the count is this one."""
        batches = self._hook.optimizer.gradient_accumulation_steps or 1
        due = ops.equal(count % (self.every * batches), 0)
        if self._last_step_known:
            due = ops.logical_or(due, self._ends_epoch(count))
        return due

    def _ends_epoch(self, count):
        done = count - self._first_count
        return ops.equal(done % self.params["steps"], 0)

    def _project_if_due(self):
        due = self._is_due(self._hook.optimizer._iterations.value)
        if keras.backend.backend() == "tensorflow":
            _project_tensorflow(due, self.norm, self._targets)
        else:
            _project_stateless(due, self.norm, self._targets)


def _projectable_layers(model, max_value):
    """Returns the pairs of a layer and its bound."""
    maps = constraints.linear_maps(model)
    if not isinstance(max_value, dict):
        _refuse_other_kernels(model)
        return [(layer, max_value) for layer in maps if layer.kernel.trainable]
    by_name = {layer.name: layer for layer in maps}
    by_name |= {layer.kernel.path.rpartition("/")[0]: layer for layer in maps}
    pairs = []
    for name, bound in max_value.items():
        if name not in by_name:
            raise unknown_name("layer with a kernel", name, by_name)
        if not by_name[name].kernel.trainable:
            raise ValueError(
                f"PeriodicProjection cannot project the layer {name!r}, which "
                "has trainable=False. Leave it out of `max_value`, or project "
                "its kernel once with keras_polynets.constraints.project."
            )
        pairs.append((by_name[name], bound))
    return pairs


def _orders(model):
    """Returns how many matrices lie side by side in a layer's kernel.

    Dictionary from the id of the factors of each polynomial layer.
    """
    return {
        id(layer.factors): layer.order
        for layer in model._flatten_layers()
        if hasattr(layer, "factors") and hasattr(layer, "order")
    }


def _refuse_other_kernels(model):
    for layer in model._flatten_layers():
        if constraints.is_linear_map(layer):
            continue
        matrices = [
            v for v in layer._trainable_variables if v.trainable and v.ndim > 1
        ]
        if matrices:
            raise ValueError(
                f"PeriodicProjection cannot project the weight "
                f"{matrices[0].path!r} of the layer {layer.name!r} "
                f"({type(layer).__name__}): it projects dense and convolution "
                "kernels. To leave the layer alone, name the layers to project "
                "in a dictionary: max_value={'layer_name': bound}."
            )


def _value(variable):
    return None if variable is None else variable.value


def _project(norm, kernel, bias, bound):
    if bias is None:
        return (NORMS[norm](kernel, bound),)
    return NORMS[norm](kernel, bound, bias)


def _assign_projection(norm, kernel, bias, bound):
    for variable, value in zip(
        (kernel, bias), _project(norm, kernel, bias, bound), strict=False
    ):
        variable.assign(value)


def _project_stateless(due, norm, targets):
    for kernel, bias, bound in targets:
        variables = (kernel,) if bias is None else (kernel, bias)
        values = tuple(v.value for v in variables)
        values = ops.cond(
            due,
            functools.partial(
                _project, norm, kernel.value, _value(bias), bound
            ),
            lambda values=values: values,
        )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _project_tensorflow(due, norm, targets):
    """Assigns only where it is due, so that steps that skip copy nothing."""
    import tensorflow as tf

    def update(kernel, bias, bound):
        values = _project(norm, kernel, bias, bound)
        kernel.assign(values[0])
        if bias is not None:
            bias.assign(values[1])

    def update_all(strategy):
        for kernel, bias, bound in targets:
            arguments = (_value(bias), bound)
            strategy.extended.update(kernel.value, update, args=arguments)

    def project_across_replicas(strategy, due):
        # Every replica counts the same steps.
        due = strategy.experimental_local_results(due)[0]
        tf.cond(due, lambda: update_all(strategy), lambda: None)

    def project_here(_):
        for kernel, bias, bound in targets:
            update(kernel.value, _value(bias), bound)
        return (False,)

    if tf.distribute.in_cross_replica_context():
        project_across_replicas(tf.distribute.get_strategy(), due)
    elif tf.distribute.get_strategy().num_replicas_in_sync > 1:
        tf.distribute.get_replica_context().merge_call(
            project_across_replicas, args=(due,)
        )
    else:
        # A loop of one turn or none: XLA's conditionals copy the kernels.
        tf.while_loop(lambda again: again, project_here, (due,))


class _StepHook:
    """Runs functions after every call of a model's innermost optimizer.

    They are part of the training step that Keras compiles next. The hook is
    gone with its last function, and at the next call of `fit` when this one
    was interrupted.
    """

    @classmethod
    def of(cls, model):
        """Returns the hook that a model has, or a new one."""
        hook = getattr(model.make_train_function, "__self__", None)
        return hook if isinstance(hook, cls) else cls(model)

    def __init__(self, model):
        self.model = model
        self.optimizer = innermost(model.optimizer)
        self.functions = []
        self._apply = self.optimizer.apply
        self._make_train_function = model.make_train_function

    def count(self):
        """Returns how many batches the optimizer was given.

        Its `iterations` count the updates: fewer where gradients accumulate.
        """
        return int(ops.convert_to_numpy(self.optimizer._iterations))

    def averages(self):
        """Whether the optimizer gives the weights their averages."""
        optimizers = getattr(self.optimizer, "optimizers", [self.optimizer])
        return any(optimizer.use_ema for optimizer in optimizers)

    def add(self, function):
        self.functions.append(function)
        self.optimizer.apply = self.apply
        self.model.make_train_function = self.make_clean_train_function
        self.make_step()

    def make_step(self):
        """Has the functions compiled into the training step anew."""
        self._make_train_function(force=True)

    def apply(self, *args, **kwargs):
        self._apply(*args, **kwargs)
        for function in self.functions:
            function()

    def make_clean_train_function(self, force=False):
        self._restore()
        return self._make_train_function(force=True)

    def remove(self, function):
        self.functions.remove(function)
        if not self.functions:
            self._restore()
        self.model.train_function = None

    def _restore(self):
        self.functions.clear()
        self.optimizer.__dict__.pop("apply", None)
        self.model.__dict__.pop("make_train_function", None)
