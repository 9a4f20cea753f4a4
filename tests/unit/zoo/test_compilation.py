"""How the zoo compiles models."""

import keras
import pytest

from keras_polynets import optimizers
from keras_polynets import zoo


def test_compile_model_refuses_unknown_optimizers():
    model = zoo.load("pn4", weights=None)
    with pytest.raises(ValueError, match="Cannot make the optimizer 'sdg'"):
        zoo.compile_model(model, {"name": "sdg"})
    with pytest.raises(ValueError, match="Cannot make the optimizer 'sgd'"):
        zoo.compile_model(model, {"name": "sgd", "momentun": 0.9})


def test_optimizer_table_with_relinear():
    optimizer = zoo.compilation.make_optimizer(
        {
            "name": "sgd",
            "learning_rate": 0.1,
            "weight_decay": 1e-4,
            "relinear": {"gate_factor": 1e-4, "power_factor": 1e-3},
        }
    )
    assert type(optimizer) is optimizers.ReLinear
    assert optimizer.get_config()["power_factor"] == 1e-3
    assert type(optimizer.inner_optimizer) is optimizers.CoupledWeightDecay
    with pytest.raises(ValueError, match="ReLinear cannot wrap Ftrl"):
        zoo.compilation.make_optimizer({"name": "ftrl", "relinear": {}})


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="PyTorch runs single steps"
)
def test_steps_per_execution_are_chosen():
    assert zoo.load("pn4", weights=None).steps_per_execution == 50
