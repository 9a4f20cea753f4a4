"""The polynomial networks of the robustness paper."""

from keras_polynets.models import ConvPolynomialNet
from keras_polynets.models import PolynomialNet
from keras_polynets.zoo.registry import register

FAMILY = "polynomial nets"
PAPER = (
    "Zhu et al., Controlling the Complexity and Lipschitz Constant improves "
    "Polynomial Nets, ICLR 2022"
)
SGD = {"name": "sgd", "learning_rate": 0.001}


@register(family=FAMILY, paper=PAPER, parameters=50_346, optimizer=SGD)
def pn4(**kwargs):
    """PN-4: a polynomial of degree 4 by CCP."""
    return PolynomialNet(**{"order": 4, "name": "pn4"} | kwargs)


@register(family=FAMILY, paper=PAPER, parameters=125_610, optimizer=SGD)
def pn10(**kwargs):
    """PN-10: a polynomial of degree 10 by CCP."""
    return PolynomialNet(**{"order": 10, "name": "pn10"} | kwargs)


@register(family=FAMILY, paper=PAPER, parameters=58_186, optimizer=SGD)
def pn_conv(**kwargs):
    """PN-Conv: a polynomial of degree 4 by CCP over convolutions."""
    return ConvPolynomialNet(**{"order": 4, "name": "pn_conv"} | kwargs)


@register(family=FAMILY, paper=PAPER, parameters=51_178, optimizer=SGD)
def ncp4(**kwargs):
    """NCP-4: a polynomial of degree 4 by NCP."""
    defaults = {"decomposition": "ncp", "order": 4, "name": "ncp4"}
    return PolynomialNet(**defaults | kwargs)


@register(family=FAMILY, paper=PAPER, parameters=207, optimizer=SGD)
def test_pn(**kwargs):
    """Toy member of the dense polynomial networks, for tests."""
    defaults = {"input_shape": (4, 4, 1), "classes": 3, "rank": 4, "order": 3}
    return PolynomialNet(**{"name": "test_pn", **defaults} | kwargs)


@register(family=FAMILY, paper=PAPER, parameters=667, optimizer=SGD)
def test_pn_conv(**kwargs):
    """Toy member of the convolutional polynomial networks, for tests."""
    defaults = {"input_shape": (8, 8, 1), "classes": 3, "order": 4}
    maps = {"filters": 4, "kernel_size": 3, "pool_after": (2, 3)}
    return ConvPolynomialNet(
        **{"name": "test_pn_conv", **defaults, **maps} | kwargs
    )
