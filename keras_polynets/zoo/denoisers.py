"""The networks that take the noise out of images."""

from keras_polynets.models import DenoisingAutoencoder
from keras_polynets.models import GuidedDenoiser
from keras_polynets.zoo.registry import register

QUADRATIC = {
    "family": "quadratic autoencoders",
    "task": "image denoising",
    "paper": (
        "Fan et al., Quadratic Autoencoder (Q-AE) for Low-Dose CT Denoising, "
        "IEEE Transactions on Medical Imaging 2020"
    ),
    "optimizer": {
        "name": "adam",
        "learning_rate": 0.001,
        "relinear": {"gate_factor": 0.1, "power_factor": 0.1},
    },
}


@register(**QUADRATIC, parameters=137_658)
def quadratic_autoencoder(**kwargs):
    """Residual denoiser of quadratic convolutions and transposed ones."""
    return DenoisingAutoencoder(**{"name": "quadratic_autoencoder"} | kwargs)


@register(**QUADRATIC, parameters=678)
def test_denoiser(**kwargs):
    """Toy member of the denoisers, for tests."""
    small = {"filters": 3, "kernel_size": 3, "depth": 2}
    return DenoisingAutoencoder(
        **{
            "name": "test_denoiser",
            "input_shape": (8, 8, 1),
            # Of so few filters none is to die.
            "activation": "leaky_relu",
            **small,
        }
        | kwargs
    )


GUIDED = {
    "family": "guided denoisers",
    "task": "image denoising",
    "paper": (
        "Liao et al., Defense against Adversarial Attacks Using High-Level "
        "Representation Guided Denoiser, CVPR 2018"
    ),
}


@register(**GUIDED, parameters=66_697)
def guided_denoiser(**kwargs):
    """U-Net that takes adversarial noise out of images before a classifier."""
    return GuidedDenoiser(**{"name": "guided_denoiser"} | kwargs)


@register(**GUIDED, parameters=348)
def test_guided_denoiser(**kwargs):
    """Toy member of the guided denoisers, for tests."""
    small = {"input_shape": (8, 8, 1), "filters": (3, 4), "blocks": 1}
    return GuidedDenoiser(
        **{"name": "test_guided_denoiser", "activation": "leaky_relu", **small}
        | kwargs
    )
