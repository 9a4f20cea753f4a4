"""Robustness: attacks, accuracy under attack, and bounds that certify."""

from keras_polynets.robustness.attack_texts import parse_attack
from keras_polynets.robustness.attacks import fgsm
from keras_polynets.robustness.attacks import pgd
from keras_polynets.robustness.attacks import tpgd
from keras_polynets.robustness.auto_attacks import apgd
from keras_polynets.robustness.auto_attacks import apgd_t
from keras_polynets.robustness.bounds import lipschitz_bound
from keras_polynets.robustness.bounds import propagate
from keras_polynets.robustness.certifier import Certifier
from keras_polynets.robustness.defences import DefendedModel
from keras_polynets.robustness.defences import defend
from keras_polynets.robustness.enclosures import enclose
from keras_polynets.robustness.evaluation import robust_accuracy
from keras_polynets.robustness.extents import Extent
from keras_polynets.robustness.lifted_norms import LiftedNorms
from keras_polynets.robustness.lifted_norms import lifted_norms
from keras_polynets.robustness.local_bounds import certified_accuracy
from keras_polynets.robustness.local_bounds import local_lipschitz_bound
from keras_polynets.robustness.operator_norms import operator_norm
from keras_polynets.robustness.operator_norms import spectral_norm_estimate
from keras_polynets.robustness.rademacher import rademacher_bound

__all__ = [
    "Certifier",
    "DefendedModel",
    "Extent",
    "LiftedNorms",
    "apgd",
    "apgd_t",
    "certified_accuracy",
    "defend",
    "enclose",
    "fgsm",
    "lifted_norms",
    "lipschitz_bound",
    "local_lipschitz_bound",
    "operator_norm",
    "parse_attack",
    "pgd",
    "propagate",
    "rademacher_bound",
    "robust_accuracy",
    "spectral_norm_estimate",
    "tpgd",
]
