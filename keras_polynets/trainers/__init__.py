"""Training whose steps look at the gradient with respect to the input."""

from keras_polynets.trainers.adversarial import AdversarialTraining
from keras_polynets.trainers.guided import GuidedDenoising
from keras_polynets.trainers.jacobian import JacobianTraining

__all__ = ["AdversarialTraining", "GuidedDenoising", "JacobianTraining"]
