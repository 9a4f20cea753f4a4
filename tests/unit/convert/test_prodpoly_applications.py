"""The residual networks of keras.applications get second-order terms."""

import keras
import pytest
from keras import applications
from keras import layers

from tests.unit.convert.prodpoly_checks import check_all_move
from tests.unit.convert.prodpoly_checks import convert_and_check


def check_application(name, size=32):
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = getattr(applications, name)(
        input_shape=(size, size, 3),
        classes=5,
        weights=None,
        classifier_activation=None,
    )
    new = convert_and_check(model)
    sums = [x.name for x in model.layers if type(x) is layers.Add]
    rows = new.conversion_report.replaced
    assert [row.name for row in rows] == sums
    assert new.conversion_report.left_alone == []
    # The product is with the branch: it ends the three convolutions of one.
    for row in rows:
        if name.endswith("V2"):
            branch = row.name.replace("_out", "_3_conv")
        else:
            branch = row.name.replace("_add", "_3_bn")
        product = new.get_layer(f"{row.name}_product").input[0]
        assert product._keras_history.operation.name == branch
    check_all_move(model, new, 5, size=2)
    return rows


def test_resnet50_v2_of_keras():
    rows = check_application("ResNet50V2")
    assert [len(rows), rows[0].parameters] == [16, (0, 2 * 256 * 64)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ResNet50", "ResNet101", "ResNet152", "ResNet101V2", "ResNet152V2"]
)
def test_other_residual_networks_of_keras(name):
    check_application(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, count",
    [("MobileNetV2", 10), ("EfficientNetB0", 9), ("Xception", 12)],
)
def test_other_families_of_keras(name, count):
    model = getattr(applications, name)(
        input_shape=(71, 71, 3),
        classes=5,
        weights=None,
        classifier_activation=None,
    )
    new = convert_and_check(model)
    assert len(new.conversion_report.replaced) == count
