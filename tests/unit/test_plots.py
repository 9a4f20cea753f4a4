import numpy as np
import pytest

from keras_polynets import plots

pytest.importorskip("matplotlib")

RUN = {"loss": [1.0, 0.5], "val_loss": [1.1, 0.7], "accuracy": [0.6, 0.8]}


def test_curves_show_the_values_by_epoch():
    figure = plots.training_curves(RUN)
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == [
        "training",
        "validation",
    ]
    np.testing.assert_array_equal(loss.lines[0].get_xdata(), [1, 2])
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [1.1, 0.7])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [60, 80])
    assert loss.get_ylabel() == "Cross-entropy (nats)"
    assert accuracy.get_ylabel() == "Accuracy (%)"


def test_curves_of_several_runs_and_of_a_history():
    class History:
        history = RUN

    figure = plots.training_curves({"a": RUN, "b": History()})
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == [
        "a, training",
        "a, validation",
        "b, training",
        "b, validation",
    ]
    assert len(plots.training_curves(History()).axes[0].lines) == 2


def test_curves_need_values():
    with pytest.raises(ValueError, match=r"'loss' or 'accuracy'.*'a' with \["):
        plots.training_curves({"a": {"lr": [1]}})
    with pytest.raises(ValueError, match="at least one run"):
        plots.training_curves({})


def test_epsilons_are_sorted():
    figure = plots.accuracy_against_epsilon({"pn4": {0.1: 0.2, 0: 0.9}})
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 0.1])
    np.testing.assert_allclose(line.get_ydata(), [90, 20])
    with pytest.raises(ValueError, match="at least one"):
        plots.accuracy_against_epsilon({})


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_marks_what_is_wrong(channels):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 5, 4, channels))
    adversarial = images + 0.1
    logits = np.eye(3)[[0, 2, 2]]
    figure = plots.adversarial_grid(
        images, adversarial, np.arange(3), logits, ("hat", "bag", "shoe")
    )
    titles = [axes.get_title() for axes in figure.axes[:9]]
    assert titles[:3] == ["hat", "bag", "shoe"]
    assert titles[3:6] == ["✓ hat", "✗ shoe", "✓ shoe"]
    shown = np.asarray(figure.axes[6].images[0].get_array())
    np.testing.assert_allclose(shown, 0.1)


def test_grid_without_names_shows_numbers():
    images = np.zeros((1, 2, 2, 1))
    figure = plots.adversarial_grid(images, images, [7], [7])
    assert figure.axes[0].get_title() == "7"


def test_grid_refuses_shapes_that_do_not_agree():
    images = np.zeros((2, 4, 4, 1))
    with pytest.raises(ValueError, match=r"1 or 3 channels.*\(2, 4, 4\)"):
        plots.adversarial_grid(images[..., 0], images, [0, 1], [0, 1])
    with pytest.raises(ValueError, match="must have the shape of `images`"):
        plots.adversarial_grid(images, images[:1], [0, 1], [0, 1])
    with pytest.raises(ValueError, match="a label and a prediction for each"):
        plots.adversarial_grid(images, images, [0], [0, 1])


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_files_and_no_global_state(tmp_path, suffix):
    import matplotlib.pyplot as plt

    before = plt.get_fignums(), dict(plt.rcParams)
    path = tmp_path / "figures" / f"curves.{suffix}"
    plots.training_curves(RUN, path)
    assert path.stat().st_size > 1000
    assert (plt.get_fignums(), dict(plt.rcParams)) == before


def test_matplotlib_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"keras_polynets\[plots\]"):
        plots.training_curves(RUN)
