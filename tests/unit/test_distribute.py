import subprocess
import sys
import textwrap

import keras
import pytest

from keras_polynets import distribute

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="tf.distribute needs the TensorFlow backend",
)


def run(code):
    """Runs code in a process of its own, and returns what it printed."""
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


def test_two_logical_cpus_train_a_model():
    out, err = run(
        """
        import numpy as np
        import keras
        from keras_polynets import distribute

        strategy = distribute.strategy("mirrored", devices=2)
        assert strategy is distribute.strategy("mirrored", devices=2)
        with strategy.scope():
            model = keras.Sequential(
                [keras.Input((2,)), keras.layers.Dense(1, use_bias=False)]
            )
            model.compile(keras.optimizers.SGD(0.1), "mse")
        model.set_weights([np.array([[1.0], [2.0]], "float32")])
        x = np.array([[1, 0], [0, 1], [1, 1], [2, 1]], "float32")
        model.fit(x, np.zeros((4, 1)), batch_size=4, shuffle=False, verbose=0)
        gradient = 2 * x.T @ (x @ [[1.0], [2.0]]) / 4
        expected = [[1.0], [2.0]] - 0.1 * gradient
        np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-6)
        print(strategy.num_replicas_in_sync, type(strategy).__name__)
        try:
            distribute.strategy("mirrored", devices=3)
        except RuntimeError as error:
            print(error)
        """
    )
    first, second = out.splitlines()
    assert first == "2 MirroredStrategy"
    assert "already has strategy(kind='mirrored', devices=2)" in second
    assert "neither XLA nor several steps" in err


def test_too_late_to_divide_the_cpu():
    out, _ = run(
        """
        import tensorflow as tf
        from keras_polynets import distribute

        tf.constant(1) + 1
        try:
            distribute.strategy("mirrored", devices=2)
        except RuntimeError as error:
            print(error)
        """
    )
    assert "cannot be divided into 2 devices any more" in out
    assert "Call `strategy` first" in out


def test_auto_without_gpus_is_the_default(monkeypatch):
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("the machine has a GPU")
    monkeypatch.setattr(distribute, "_chosen", {})
    assert distribute.strategy() is tf.distribute.get_strategy()


def test_gpus_by_number():
    gpus = ["first", "second", "third"]
    assert distribute._gpu_names(gpus, None) == ["GPU:0", "GPU:1", "GPU:2"]
    assert distribute._gpu_names(gpus, 2) == ["GPU:0", "GPU:1"]
    with pytest.raises(ValueError, match="asks for 4 GPUs, and there are 3"):
        distribute._gpu_names(gpus, 4)


def test_bad_arguments(monkeypatch):
    with pytest.raises(ValueError, match="Did you mean 'mirrored'"):
        distribute.strategy("mirored")
    with pytest.raises(ValueError, match="integer of at least 1.*devices=0"):
        distribute.strategy("mirrored", devices=0)
    with pytest.raises(ValueError, match="belongs to kind='mirrored'"):
        distribute.strategy("auto", devices=2)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="keras.distribution.DataParallel"):
        distribute.strategy()
