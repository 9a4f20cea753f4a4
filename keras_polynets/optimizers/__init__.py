"""What Keras's optimizers lack: ReLinear, coupled decay, sound loss scaling."""

from keras_polynets.optimizers.coupled_weight_decay import CoupledWeightDecay
from keras_polynets.optimizers.loss_scaling import LossScaleOptimizer
from keras_polynets.optimizers.relinear import ReLinear

__all__ = ["CoupledWeightDecay", "LossScaleOptimizer", "ReLinear"]
