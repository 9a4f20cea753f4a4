"""Loss scaling on several replicas."""

import keras

from keras_polynets.optimizers import LossScaleOptimizer
from tests.unit.optimizers.saving import check_saved_model_brings_back


def test_saved_model_brings_the_optimizer_back(tmp_path):
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    check_saved_model_brings_back(
        LossScaleOptimizer(inner), tmp_path / "model.keras"
    )


OVERFLOW = """
kind = getattr(sys.modules[sys.argv[1]].optimizers, "LossScaleOptimizer")
with strategy.scope():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(1, dtype="mixed_float16")])
    optimizer = kind(keras.optimizers.SGD(0.01), initial_scale=4.0)
    model.compile(optimizer, "mse", auto_scale_loss=False)
# The second replica's half of the batch overflows float16, the first's not.
x = np.ones((8, 2), "float32")
x[4:] = 3e4
before = [np.array(w.numpy()) for w in model.weights]
model.fit(x, np.ones((8, 1)), batch_size=8, shuffle=False, verbose=0)
weights = [w.numpy() for w in model.weights]
finite = all(np.isfinite(w).all() for w in weights)
same = finite and all((a == b).all() for a, b in zip(before, weights))
print("RESULT", finite, same, float(optimizer.dynamic_scale.numpy()))
x[4:] = 1
model.fit(x, np.ones((8, 1)), batch_size=8, shuffle=False, verbose=0)
print("AFTER", all(np.isfinite(w.numpy()).all() for w in model.weights),
      int(np.array(optimizer.iterations.value)))
"""


def test_overflow_on_one_replica_skips_the_step_on_all(run_on_replicas):
    lines = run_on_replicas(OVERFLOW, "keras_polynets")
    assert lines["RESULT"] == ["True", "True", "2.0"]
    assert lines["AFTER"] == ["True", "1"]


def test_keras_still_needs_the_mend(run_on_replicas):
    # When this fails, `optimizers.LossScaleOptimizer` has become needless.
    assert run_on_replicas(OVERFLOW, "keras")["RESULT"][0] == "False"
