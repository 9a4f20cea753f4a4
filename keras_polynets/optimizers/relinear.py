"""The regularised training of quadratic networks."""

import dataclasses
import functools
import numbers

import keras
from keras import ops

from keras_polynets._errors import unknown_name
from keras_polynets.optimizers._delegating import DelegatingOptimizer
from keras_polynets.optimizers._delegating import innermost
from keras_polynets.optimizers._delegating import nested

# Their steps are proportional to the learning rate that they are given, so
# that a factor of the one is a factor of the other, and start at the value of
# the variable, so that shrinkage lasts. A test tries all of Keras's.
PROPORTIONAL = (
    keras.optimizers.Adadelta,
    keras.optimizers.Adagrad,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Lamb,
    keras.optimizers.Lion,
    keras.optimizers.Muon,
    keras.optimizers.Nadam,
    keras.optimizers.RMSprop,
    keras.optimizers.SGD,
)
SHRINKAGES = ("l1", "l2")


@dataclasses.dataclass(frozen=True)
class _Treatment:
    """What is done to one variable.

    Args:
        factor: What its learning rate is multiplied by.
        shrinkage: How strongly it is pulled towards `target` at every step.
        target: The value at which the neuron is a conventional one.
        decay: The inner optimizer's decoupled weight decay.
    """

    factor: float
    shrinkage: float
    target: float
    decay: float


@keras.saving.register_keras_serializable(package="keras_polynets")
class ReLinear(DelegatingOptimizer):
    """Trains the quadratic terms of quadratic neurons with restraint.

    A quadratic layer multiplies two linear maps and adds a third of the
    squares, `(W_r x + b_r) * (W_g x + b_g) + W_b (x * x) + c`. Trained like a
    conventional network, a deep one diverges easily, because its degree grows
    exponentially with the depth. ReLinear starts at `W_g = 0`, `b_g = 1`,
    `W_b = 0`, `c = 0`, where the network is a conventional one (this is the
    default initialisation of our quadratic layers), and lets the quadratic
    terms grow slowly:

    - ReLinear_sg (shrinking gradients) gives the gate (`W_g`, `b_g`) and the
      power term (`W_b`, `c`) lower learning rates than the linear term:
      `γ_g = gate_factor * γ_r` and `γ_b = power_factor * γ_r`. These are
      learning rates, not scaled gradients, so that adaptive optimizers respect
      them too. The inner optimizer's weight decay, coupled or decoupled, is
      multiplied by them as in the released code, and schedules reach all.
    - ReLinear_sw (shrinking weights) pulls these weights to where they began
      at every step, by `gate_shrinkage` (`α_g` of ℓ1, `β_g` of ℓ2) and
      `power_shrinkage` (`α_b`, `β_b`), which no learning rate multiplies. The
      bias `b_g` of the gate shrinks towards 1, everything else towards 0.

    With the default arguments nothing is restrained. The paper finds sg better
    than sw. Its code multiplies the rate 0.1 of QResNet20 by factors of 1e-4.

    A variable's role is its attribute `quadratic_role`, which our quadratic
    layers set: `"gate"`, `"power"`, `"linear"` or `"addend"`. Variables that
    have another role, or none, are trained as ever. With both factors 0 and no
    shrinkage the training is that of the conventional network: bit for bit on
    one device, but for the rounding of XLA, which fuses the two differently.

    On PyTorch, variables that are treated apart are updated one at a time, not
    by one fused operation.

    Args:
        inner_optimizer: The `keras.optimizers.Optimizer` to wrap, not yet
            built: one whose step is proportional to the learning rate and
            starts where the variable stands (SGD, RMSprop, Adam, AdamW,
            Adagrad, Adadelta, Adamax, Nadam, Lion, Lamb or Muon), or a
            `CoupledWeightDecay` of one.
        gate_factor: Float of at least 0, `γ_g / γ_r`.
        power_factor: Float of at least 0, `γ_b / γ_r`.
        gate_shrinkage: Float of at least 0, `α_g` or `β_g`.
        power_shrinkage: Float of at least 0, `α_b` or `β_b`.
        shrinkage: `"l1"` or `"l2"`.
        proximal: Boolean. `True` shrinks after the step by the proximal
            operator: ℓ1 subtracts `α` from the magnitude and stops at the
            target, ℓ2 divides the distance to it by `1 + β`. `False` adds the
            term of the paper to the step: `-α sign(w)`, which oscillates
            around the target, or `-β w`.
        name: String, or `None`.

    Raises:
        TypeError: If `inner_optimizer` is no optimizer of Keras.
        ValueError: If a factor or a shrinkage is negative, `shrinkage` is
            unknown, or the inner optimizer is already built, scales the loss,
            is or wraps a ReLinear, or makes steps of another kind (Adafactor,
            Ftrl, ScheduleFreeAdamW, MultiOptimizer).

    Example:

    >>> optimizer = keras_polynets.optimizers.ReLinear(
    ...     keras.optimizers.SGD(0.1, momentum=0.9),
    ...     gate_factor=1e-4,
    ...     power_factor=1e-4,
    ... )
    >>> model.compile(optimizer, loss="mse")

    Reference:
        - Fan et al., "On Expressivity and Trainability of Quadratic Networks",
          TNNLS 2023, Section IV and Table I.
    """

    def __init__(
        self,
        inner_optimizer,
        gate_factor=1.0,
        power_factor=1.0,
        gate_shrinkage=0.0,
        power_shrinkage=0.0,
        shrinkage="l1",
        proximal=True,
        name=None,
    ):
        if shrinkage not in SHRINKAGES:
            raise unknown_name("shrinkage", shrinkage, SHRINKAGES)
        amounts = {
            "gate_factor": gate_factor,
            "power_factor": power_factor,
            "gate_shrinkage": gate_shrinkage,
            "power_shrinkage": power_shrinkage,
        }
        for argument, value in amounts.items():
            if not (
                isinstance(value, numbers.Real) and 0 <= value < float("inf")
            ):
                raise ValueError(
                    f"Argument `{argument}` must be a finite number of at "
                    f"least 0. Received: {argument}={value!r}"
                )
        super().__init__(inner_optimizer, name=name)
        _check_inner(inner_optimizer)
        self._factors = {
            "gate": float(gate_factor),
            "power": float(power_factor),
        }
        self._shrinkages = {
            "gate": float(gate_shrinkage),
            "power": float(power_shrinkage),
        }
        self.shrinkage = shrinkage
        self.proximal = bool(proximal)

    def build(self, variables):
        if self.built:
            return
        _check_unbuilt(self.inner_optimizer)
        super().build(variables)
        inner = innermost(self.inner_optimizer)
        treatments = [self._treatment(inner, v) for v in variables]
        decay = inner._apply_weight_decay

        def treated(variable):
            return treatments[inner._get_variable_index(variable)] is not None

        def decay_the_rest(variables):
            rest = [v for v in variables if not treated(v)]
            if rest:
                decay(rest)

        # Everything in Keras that makes a step ends in these two methods.
        inner._apply_weight_decay = decay_the_rest
        inner.update_step = functools.partial(
            self._update, inner, inner.update_step, treatments
        )
        _split_fused_step(inner, treated)

    def apply(self, grads, trainable_variables=None):
        variables = self._variables_to_apply(grads, trainable_variables)
        pairs = list(zip(grads, variables, strict=True))
        # What stands still must not weigh in the norm that clips the rest.
        moving = [(g, v) for g, v in pairs if not self._stands_still(v)]
        grads, variables = map(list, zip(*(moving or pairs), strict=True))
        self.inner_optimizer.apply(grads, variables)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def _stands_still(self, variable):
        role = getattr(variable, "quadratic_role", None)
        return self._factors.get(role) == 0 == self._shrinkages[role]

    def _treatment(self, inner, variable):
        """Returns the `_Treatment` of a variable, `None` for none."""
        role = getattr(variable, "quadratic_role", None)
        if role not in self._factors:
            return None
        factor, shrinkage = self._factors[role], self._shrinkages[role]
        if factor == 1 and not shrinkage:
            return None
        # Where the gate is 1, the product is the linear term.
        target = float(role == "gate" and variable.name == "bias")
        decay = _decoupled_decay(inner, variable)
        return _Treatment(factor, shrinkage, target, decay)

    def _update(
        self, inner, update_step, treatments, gradient, variable, learning_rate
    ):
        """Updates one variable, in place of the inner `update_step`."""
        treatment = treatments[inner._get_variable_index(variable)]
        if treatment is None:
            update_step(gradient, variable, learning_rate)
            return
        rate = ops.cast(learning_rate, variable.dtype) * treatment.factor
        if treatment.decay:
            inner.assign_sub(variable, variable * treatment.decay * rate)
        if not self.proximal:
            shift = self._shift(variable, treatment)
        update_step(gradient, variable, rate)
        if self.proximal:
            shift = self._shift(variable, treatment)
        if shift is not None:
            inner.assign_sub(variable, shift)

    def _shift(self, variable, treatment):
        """Returns what shrinkage subtracts from a variable."""
        amount = treatment.shrinkage
        if not amount:
            return None
        distance = ops.subtract(variable, treatment.target)
        if self.shrinkage == "l2":
            return distance * (amount / (1 + amount * self.proximal))
        if self.proximal:
            return ops.clip(distance, -amount, amount)
        return ops.sign(distance) * amount

    def get_config(self):
        return super().get_config() | {
            "gate_factor": self._factors["gate"],
            "power_factor": self._factors["power"],
            "gate_shrinkage": self._shrinkages["gate"],
            "power_shrinkage": self._shrinkages["power"],
            "shrinkage": self.shrinkage,
            "proximal": self.proximal,
        }


def _check_inner(optimizer):
    if any(isinstance(one, ReLinear) for one in nested(optimizer)):
        raise ValueError(
            "ReLinear cannot wrap another ReLinear: weights would decay once "
            "in each. Multiply the factors and pass them to one ReLinear."
        )
    inner = innermost(optimizer)
    if not isinstance(inner, PROPORTIONAL):
        names = ", ".join(kind.__name__ for kind in PROPORTIONAL)
        raise ValueError(
            f"ReLinear cannot wrap {type(inner).__name__}: its steps are not "
            "known to be proportional to the learning rate and to start where "
            f"the variable stands. Use one of {names}, or a "
            "CoupledWeightDecay of one."
        )
    _check_unbuilt(optimizer)


def _check_unbuilt(optimizer):
    inner = innermost(optimizer)
    if inner.built:
        name = type(inner).__name__
        raise ValueError(
            f"The inner optimizer ({name}) is already built: it has steps "
            "behind it, or another model or wrapper. Give ReLinear a fresh "
            f"one, for example {name}.from_config(optimizer.get_config())."
        )


def _decoupled_decay(inner, variable):
    if not inner._use_weight_decay(variable):
        return 0.0
    decay = inner.weight_decay
    if isinstance(inner, keras.optimizers.Muon):
        if inner._should_use_adamw(variable):
            decay = inner.adam_weight_decay
    return float(decay or 0)


def _split_fused_step(inner, treated):
    """Makes a fused step of PyTorch leave some variables to `update_step`."""
    if not hasattr(inner, "_parallel_update_step"):
        return
    fused = inner._backend_update_step
    defining = next(
        kind
        for kind in type(inner).__mro__
        if "_backend_update_step" in vars(kind)
    )
    one_by_one = super(defining, inner)._backend_update_step

    def step(grads, variables, learning_rate):
        pairs = list(zip(grads, variables, strict=True))
        rest = [(g, v) for g, v in pairs if not treated(v)]
        if not rest:
            one_by_one(grads, variables, learning_rate)
            return
        fused(*map(list, zip(*rest, strict=True)), learning_rate)
        for gradient, variable in pairs:
            if treated(variable):
                inner.update_step(gradient, variable, learning_rate)

    inner._backend_update_step = step
