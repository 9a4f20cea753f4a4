import keras
import numpy as np
import pytest
from scipy import ndimage

from keras_polynets import metrics

SHAPES = [(3, 16, 13, 1), (2, 11, 20, 3)]


def pair(shape, max_value=1.0, seed=0):
    """Returns images and the same with noise."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, max_value, shape)
    noisy = images + rng.normal(size=shape, scale=0.1 * max_value)
    return images.astype("float32"), noisy.astype("float32")


def psnr(x, y, max_value):
    errors = ((x - y).astype("float64") ** 2).mean(axis=(1, 2, 3))
    return 20 * np.log10(max_value) - 10 * np.log10(errors)


def ssim(x, y, max_value):
    """Wang et al.'s Equation (13) by scipy's filters, in float64."""

    def blur(plane):
        return ndimage.gaussian_filter(plane, 1.5, radius=5)[5:-5, 5:-5]

    def similarity(a, b):
        mean_a, mean_b = blur(a), blur(b)
        var_a, var_b = blur(a**2) - mean_a**2, blur(b**2) - mean_b**2
        cov = blur(a * b) - mean_a * mean_b
        c1, c2 = (0.01 * max_value) ** 2, (0.03 * max_value) ** 2
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        structure = (2 * cov + c2) / (var_a + var_b + c2)
        return (luminance * structure).mean()

    x, y = x.astype("float64"), y.astype("float64")
    return [
        np.mean([similarity(a[..., c], b[..., c]) for c in range(a.shape[-1])])
        for a, b in zip(x, y, strict=True)
    ]


CASES = [
    (metrics.PeakSignalToNoiseRatio, psnr),
    (metrics.StructuralSimilarity, ssim),
]


@pytest.mark.parametrize("max_value", [1.0, 255.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("metric, formula", CASES)
def test_mean_over_images_of_the_formula(metric, formula, shape, max_value):
    x, y = pair(shape, max_value)
    ours = metric(max_value)
    ours.update_state(x[:1], y[:1])
    ours.update_state(x[1:], y[1:])
    expected = np.mean(formula(x, y, max_value))
    assert float(ours.result()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("metric, formula", CASES)
def test_images_are_weighted_one_by_one(metric, formula):
    x, y = pair(SHAPES[0])
    weights = np.array([0.0, 1.0, 3.0])
    ours = metric()
    ours.update_state(x, y, sample_weight=weights)
    expected = np.average(formula(x, y, 1.0), weights=weights)
    assert float(ours.result()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="compares with TensorFlow"
)
@pytest.mark.parametrize("shape", SHAPES)
def test_tensorflow_gives_the_same(shape):
    import tensorflow as tf

    x, y = pair(shape)
    for metric, function in (
        (metrics.PeakSignalToNoiseRatio(), tf.image.psnr),
        (metrics.StructuralSimilarity(), tf.image.ssim),
    ):
        metric.update_state(x, y)
        expected = np.mean(function(x, y, 1.0))
        assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_equal_images():
    x, _ = pair(SHAPES[0])
    ssim_of = metrics.StructuralSimilarity()
    ssim_of.update_state(x, x)
    assert float(ssim_of.result()) == pytest.approx(1, abs=1e-5)
    psnr_of = metrics.PeakSignalToNoiseRatio()
    psnr_of.update_state(x, x)
    assert float(psnr_of.result()) == np.inf


def test_a_model_reports_them_and_its_file_brings_them_back(tmp_path):
    x, y = pair((4, 12, 12, 1))
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, keras.layers.Identity()(inputs))
    ours = [metrics.PeakSignalToNoiseRatio(2), metrics.StructuralSimilarity(2)]
    model.compile(loss="mse", metrics=ours)
    path = tmp_path / "model.keras"
    model.save(path)
    for each in (model, keras.models.load_model(path)):
        found = each.evaluate(y, x, batch_size=3, verbose=0, return_dict=True)
        assert found["psnr"] == pytest.approx(np.mean(psnr(x, y, 2)), rel=1e-5)
        assert found["ssim"] == pytest.approx(np.mean(ssim(x, y, 2)), rel=1e-5)


@pytest.mark.parametrize("metric, _", CASES)
def test_config_brings_it_back(metric, _):
    ours = metric(255, name="quality")
    again = metric.from_config(ours.get_config())
    assert again.get_config() == ours.get_config()
    assert ours.get_config()["max_value"] == 255
    x, y = pair(SHAPES[0], 255)
    ours.update_state(x, y)
    again.update_state(x, y)
    assert float(again.result()) == float(ours.result())


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="`max_value` must be above 0.*=0"):
        metrics.PeakSignalToNoiseRatio(0)
    x, y = pair((1, 8, 16, 1))
    with pytest.raises(ValueError, match=r"11 by 11 pixels.*\(1, 8, 16, 1\)"):
        metrics.StructuralSimilarity().update_state(x, y)
