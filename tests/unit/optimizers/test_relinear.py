"""ReLinear: rates and shrinkage of its own for each role of a variable."""

import re

import keras
import numpy as np
import pytest

from keras_polynets.optimizers import CoupledWeightDecay
from keras_polynets.optimizers import LossScaleOptimizer
from keras_polynets.optimizers import ReLinear
from keras_polynets.optimizers import relinear

ROLES = ("linear", "gate", "power", "addend", None)
# PyTorch's fused steps round otherwise than steps of one variable.
TOLERANCE = 1e-5 if keras.backend.backend() == "torch" else 1e-7
SHAPES = ((3, 2), (3, 2), (3, 2), (2,), (2, 2))
# Powers of 2: products of them are exact.
RATE, GATE, POWER = 0.125, 0.25, 0.0625
FACTORS = {"gate": GATE, "power": POWER}


def make_variables(only=None):
    """Returns a variable a role, the same values every time."""
    rng = np.random.default_rng(0)
    variables = []
    for role, shape in zip(ROLES, SHAPES, strict=True):
        value = rng.normal(size=shape).astype("float32")
        variables.append(keras.Variable(value, name="kernel"))
        if role:
            variables[-1].quadratic_role = role
    return variables if only is None else [variables[only]]


def make_gradients(step, only=None):
    rng = np.random.default_rng(step + 1)
    grads = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
    grads = grads if only is None else [grads[only]]
    return [keras.ops.convert_to_tensor(g) for g in grads]


def drive(optimizer, variables, only=None, steps=6):
    for step in range(steps):
        optimizer.apply(make_gradients(step, only), variables)
    optimizer.finalize_variable_values(variables)
    return [keras.ops.convert_to_numpy(v) for v in variables]


def sgd(rate=RATE, **kwargs):
    return keras.optimizers.SGD(rate, **kwargs)


INNER = {
    "sgd": lambda r: sgd(r),
    "momentum": lambda r: sgd(r, momentum=0.9),
    "nesterov": lambda r: sgd(r, momentum=0.9, nesterov=True),
    "adam": lambda r: keras.optimizers.Adam(r),
    "amsgrad": lambda r: keras.optimizers.Adam(r, amsgrad=True),
    "adamw": lambda r: keras.optimizers.AdamW(r, weight_decay=0.1),
    "nadam": lambda r: keras.optimizers.Nadam(r),
    "lamb": lambda r: keras.optimizers.Lamb(r),
    "muon": lambda r: keras.optimizers.Muon(
        r, weight_decay=0.1, adam_weight_decay=0.02
    ),
    "clipped": lambda r: keras.optimizers.Adam(r, clipnorm=0.5),
    "ema": lambda r: sgd(r, use_ema=True, ema_momentum=0.5),
    "accumulation": lambda r: keras.optimizers.AdamW(
        r, weight_decay=0.1, gradient_accumulation_steps=2
    ),
    "schedule": lambda r: sgd(
        keras.optimizers.schedules.ExponentialDecay(r, 2, 0.5), momentum=0.9
    ),
    "coupled": lambda r: CoupledWeightDecay(sgd(r, momentum=0.9), 0.1),
}


@pytest.mark.parametrize("name", INNER)
def test_equals_an_optimizer_of_its_own_for_each_role(name):
    make = INNER[name]
    received = drive(ReLinear(make(RATE), GATE, POWER), make_variables())
    for index, role in enumerate(ROLES):
        alone = make(RATE * FACTORS.get(role, 1.0))
        expected = drive(alone, make_variables(index), index)
        np.testing.assert_allclose(
            received[index],
            expected[0],
            rtol=0,
            atol=TOLERANCE,
            err_msg=str(role),
        )


def test_coupled_decay_has_the_rate_of_the_role():
    # PyTorch's parameter groups: v = m v + g + d w; w = w - rate v.
    optimizer = ReLinear(
        CoupledWeightDecay(sgd(momentum=0.9), 0.3), GATE, POWER
    )
    received = drive(optimizer, make_variables())
    for index, role in enumerate(ROLES):
        w = keras.ops.convert_to_numpy(make_variables(index)[0])
        velocity = 0.0
        for step in range(6):
            gradient = make_gradients(step, index)[0]
            gradient = keras.ops.convert_to_numpy(gradient)
            velocity = 0.9 * velocity + gradient + 0.3 * w
            w = w - RATE * FACTORS.get(role, 1.0) * velocity
        np.testing.assert_allclose(received[index], w, rtol=1e-5, atol=1e-6)


def test_decay_and_relinear_in_either_order():
    inside = ReLinear(CoupledWeightDecay(sgd(momentum=0.9), 0.3), GATE, POWER)
    outside = CoupledWeightDecay(ReLinear(sgd(momentum=0.9), GATE, POWER), 0.3)
    pairs = zip(
        drive(inside, make_variables()),
        drive(outside, make_variables()),
        strict=True,
    )
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def increments(optimizer, rate):
    """Returns the steps from the same point, while the state moves on."""
    value = np.random.default_rng(0).normal(size=(3, 2)).astype("float32")
    variable = keras.Variable(value)
    optimizer.build([variable])
    optimizer.learning_rate = rate
    steps = []
    for step in range(5):
        variable.assign(value)
        optimizer.apply(make_gradients(step, 0), [variable])
        steps.append(keras.ops.convert_to_numpy(variable) - value)
    return np.array(steps)


def keeps_what_others_change(optimizer):
    """Whether a step leaves in place what shrinkage has done before it."""
    variable = keras.Variable(np.ones(2, "float32"))
    optimizer.build([variable])
    optimizer.learning_rate = 1e-3
    variable.assign([0.5, 0.25])
    optimizer.apply([keras.ops.zeros(2)], [variable])
    left = keras.ops.convert_to_numpy(variable)
    return bool(np.abs(left - [0.5, 0.25]).max() < 1e-3)


OPTIMIZERS = sorted(
    name
    for name, kind in vars(keras.optimizers).items()
    if isinstance(kind, type)
    and issubclass(kind, keras.optimizers.Optimizer)
    and kind is not keras.optimizers.Optimizer
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_wraps_what_is_proportional_to_the_rate_and_nothing_else(name):
    kind = getattr(keras.optimizers, name)
    if name == "LossScaleOptimizer":
        optimizer, suitable = kind(sgd()), False
    elif name == "MultiOptimizer":
        optimizer, suitable = kind(lambda variable: sgd()), False
    else:
        optimizer = kind()
        low, high = increments(kind(), 0.2), increments(kind(), 2.0)
        assert np.abs(high).max() > 1e-3
        # Ten times the rounding of the weights.
        proportional = np.abs(high - 10 * low).max() < 5e-6
        suitable = proportional and keeps_what_others_change(kind())
    if suitable:
        assert ReLinear(optimizer).inner_optimizer is optimizer
        return
    with pytest.raises(ValueError, match="Wrap the other way|ReLinear cannot"):
        ReLinear(optimizer)


def test_refusal_names_the_optimizer():
    kinds = "AdamW, .*SGD, or a CoupledWeightDecay of one"
    with pytest.raises(
        ValueError, match=f"cannot wrap Ftrl: .*one of .*{kinds}"
    ):
        ReLinear(keras.optimizers.Ftrl(0.1))
    with pytest.raises(ValueError, match="cannot wrap ScheduleFreeAdamW"):
        ReLinear(CoupledWeightDecay(keras.optimizers.ScheduleFreeAdamW(), 0.1))


def shrunk(w, amount, target, kind, proximal):
    """What one step without gradients makes of `w`."""
    distance = w - target
    if kind == "l1" and proximal:
        return target + np.sign(distance) * np.maximum(
            np.abs(distance) - amount, 0
        )
    if kind == "l1":
        return w - amount * np.sign(distance)
    if proximal:
        return target + distance / (1 + amount)
    return target + distance * (1 - amount)


@pytest.mark.parametrize("kind", ["l1", "l2"])
@pytest.mark.parametrize("proximal", [True, False])
def test_shrinkage(kind, proximal):
    value = np.array([-0.05, 0.0, 0.3, 0.97, 1.2, 2.0], "float32")
    variables, targets = [], []
    for role, name in (
        ("gate", "kernel"),
        ("gate", "bias"),
        ("power", "kernel"),
        ("power", "bias"),
        ("linear", "bias"),
    ):
        variables.append(keras.Variable(value, name=name))
        variables[-1].quadratic_role = role
        targets.append(float((role, name) == ("gate", "bias")))
    optimizer = ReLinear(
        sgd(), 1.0, 1.0, 0.1, 0.02, shrinkage=kind, proximal=proximal
    )
    for _ in range(2):
        optimizer.apply([keras.ops.zeros(6)] * 5, variables)
    amounts = (0.1, 0.1, 0.02, 0.02, 0.0)
    for variable, amount, target in zip(
        variables, amounts, targets, strict=True
    ):
        expected = value
        for _ in range(2):
            expected = shrunk(expected, amount, target, kind, proximal)
        received = keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(received, expected, atol=1e-6)
    # ℓ1 reaches the conventional neuron exactly, without oscillation.
    if kind == "l1" and proximal:
        assert keras.ops.convert_to_numpy(variables[0])[0] == 0.0
        assert keras.ops.convert_to_numpy(variables[1])[3] == 1.0


@pytest.mark.parametrize("proximal", [True, False])
def test_shrinkage_stands_before_or_after_the_step(proximal):
    variable = keras.Variable([0.5], name="kernel")
    variable.quadratic_role = "power"
    optimizer = ReLinear(
        sgd(1.0),
        power_factor=0.5,
        power_shrinkage=0.1,
        shrinkage="l2",
        proximal=proximal,
    )
    optimizer.apply([keras.ops.ones(1)], [variable])
    expected = (0.5 - 0.5) / 1.1 if proximal else (1 - 0.1) * 0.5 - 0.5
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(variable), [expected], atol=1e-7
    )


def test_shrinkage_waits_for_accumulated_gradients():
    variable = keras.Variable(np.ones(1, "float32"), name="kernel")
    variable.quadratic_role = "power"
    inner = sgd(1.0, gradient_accumulation_steps=3)
    optimizer = ReLinear(inner, power_shrinkage=0.1)
    for expected in (1.0, 1.0, 0.9, 0.9):
        optimizer.apply([keras.ops.zeros(1, "float32")], [variable])
        received = keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(received, [expected], atol=1e-6)


def test_what_stands_still_does_not_weigh_in_the_clipped_norm():
    received = drive(
        ReLinear(sgd(global_clipnorm=0.1), 0.0, 0.0), make_variables()
    )
    kept = [0, 3, 4]
    alone = sgd(global_clipnorm=0.1)
    variables = [make_variables()[index] for index in kept]
    for step in range(6):
        grads = make_gradients(step)
        alone.apply([grads[index] for index in kept], variables)
    for index, variable in zip(kept, variables, strict=True):
        expected = keras.ops.convert_to_numpy(variable)
        np.testing.assert_array_equal(received[index], expected)
    for index in (1, 2):
        start = keras.ops.convert_to_numpy(make_variables(index)[0])
        np.testing.assert_array_equal(received[index], start)


def test_nan_gradients_of_what_stands_still_do_not_matter():
    variables = make_variables()
    optimizer = ReLinear(keras.optimizers.Adam(0.1), 0.0, 0.0)
    grads = make_gradients(0)
    grads[1] = grads[1] * float("nan")
    optimizer.apply(grads, variables)
    assert all(
        np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in variables
    )


def test_learning_rate_iterations_and_loss_scale_are_those_inside():
    inner = sgd(0.5, loss_scale_factor=8.0)
    optimizer = ReLinear(CoupledWeightDecay(inner, 0.1), 0.5, 0.5)
    optimizer.learning_rate = 0.25
    assert float(inner.learning_rate) == float(optimizer.learning_rate) == 0.25
    assert optimizer.scale_loss(1.0) == 8.0
    drive(optimizer, make_variables(), steps=2)
    assert int(optimizer.iterations) == int(inner.iterations) == 2
    # Keras's dynamic scaling turns the static one off, however deep it is.
    scaled = LossScaleOptimizer(ReLinear(sgd(loss_scale_factor=8.0)))
    assert scaled.inner_optimizer.inner_optimizer.loss_scale_factor is None


def test_excluded_variables_do_not_decay():
    variables = make_variables()
    inner = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer = ReLinear(inner, GATE, POWER)
    optimizer.exclude_from_weight_decay(var_list=[variables[1]])
    before = [keras.ops.convert_to_numpy(v).copy() for v in variables]
    optimizer.apply([keras.ops.zeros(shape) for shape in SHAPES], variables)
    left = [
        float(np.mean(keras.ops.convert_to_numpy(v) / b))
        for v, b in zip(variables, before, strict=True)
    ]
    expected = [1 - 0.05, 1.0, 1 - 0.05 * POWER, 1 - 0.05, 1 - 0.05]
    np.testing.assert_allclose(left, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gate_factor": -0.1}, "`gate_factor` must be a finite number of at"),
        ({"power_factor": float("nan")}, "Received: power_factor=nan"),
        ({"gate_shrinkage": -1}, "`gate_shrinkage` must be a finite number"),
        ({"power_shrinkage": float("inf")}, "Received: power_shrinkage=inf"),
        ({"gate_factor": "a"}, "Received: gate_factor='a'"),
        ({"power_factor": None}, "Received: power_factor=None"),
        ({"shrinkage": "l3"}, "Unknown shrinkage 'l3'. Did you mean"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ReLinear(sgd(), **arguments)


@pytest.mark.parametrize(
    "wrap", [lambda inner: inner, lambda inner: CoupledWeightDecay(inner, 0.1)]
)
def test_weights_do_not_decay_in_two_of_them(wrap):
    inner = wrap(ReLinear(sgd(), gate_factor=0.5))
    with pytest.raises(ValueError, match="another ReLinear: weights would"):
        ReLinear(inner, gate_factor=0.5)


def test_inner_optimizer_must_be_a_fresh_optimizer():
    with pytest.raises(TypeError, match="must be a Keras optimizer, such as"):
        ReLinear("sgd")
    built = sgd()
    built.build(make_variables())
    with pytest.raises(ValueError, match=r"\(SGD\) is already built"):
        ReLinear(built)
    with pytest.raises(ValueError, match="is already built"):
        ReLinear(CoupledWeightDecay(built, 0.1))
    shared = sgd()
    first, second = ReLinear(shared, 0.5), ReLinear(shared, 0.5)
    first.build(make_variables())
    with pytest.raises(ValueError, match="behind it, or another model or"):
        second.build(make_variables())
    with pytest.raises(ValueError, match="Pass the variables to `apply` too"):
        ReLinear(sgd()).apply(make_gradients(0))


def test_config_round_trip():
    optimizer = ReLinear(
        CoupledWeightDecay(sgd(momentum=0.9), 0.1),
        0.5,
        0.25,
        0.125,
        0.0625,
        shrinkage="l2",
        proximal=False,
        name="tamed",
    )
    config = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is ReLinear
    assert again.get_config() == optimizer.get_config()
    assert again.get_config()["power_shrinkage"] == 0.0625
    assert type(again.inner_optimizer) is CoupledWeightDecay


def test_keras_has_no_further_optimizers_to_judge():
    wrapped = {kind.__name__ for kind in relinear.PROPORTIONAL}
    refused = {"Adafactor", "Ftrl", "LossScaleOptimizer", "MultiOptimizer"}
    assert set(OPTIMIZERS) == wrapped | refused | {"ScheduleFreeAdamW"}
