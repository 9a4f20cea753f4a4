"""Training many steps as one XLA computation gives Keras's own training."""

import keras
import numpy as np
import pytest

from keras_polynets import _training as training
from keras_polynets import callbacks
from keras_polynets import data
from keras_polynets import zoo

BACKEND = keras.backend.backend()
pytestmark = pytest.mark.skipif(BACKEND == "torch", reason="has no XLA")
tensorflow_alone = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="reading of TensorFlow's arrays"
)

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (75, 4, 4, 1)).astype("float32")
Y = RNG.integers(0, 3, 75, dtype="int32")


def make(name="test_pn", steps_per_execution=4, jit_compile=True, **kwargs):
    keras.utils.set_random_seed(0)
    model = zoo.load(name, weights=None, **kwargs)
    table = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9}
    return zoo.compile_model(
        model,
        table,
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )


def batches(first_step=0):
    # 75 examples: nine whole batches and one of three; executions of 4, 4, 2.
    return data.Batches(X, Y, 8, seed=1, first_step=first_step)


class Ends(keras.callbacks.Callback):
    """Notes the last batch of every execution, and the steps done."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, int(self.model.optimizer.iterations)))


def train(model, x, *args, extra=(), **kwargs):
    ends = Ends()
    history = model.fit(x, *args, verbose=0, callbacks=[ends, *extra], **kwargs)
    return history.history, ends.seen


def assert_same_weights(model, other, **tolerance):
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, **({"atol": 1e-6} | tolerance))


def test_blocks_equal_single_steps():
    fast, slow = make(), make(steps_per_execution=1, jit_compile=False)
    assert fast._takes_blocks(30) and not slow._takes_blocks(30)
    kwargs = {"epochs": 3, "validation_data": (X, Y)}
    history, ends = train(fast, batches(), **kwargs)
    expected, _ = train(slow, batches(), **kwargs)
    assert history.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, atol=1e-5)
    assert_same_weights(fast, slow)
    assert [done for _, done in ends] == [4, 8, 10, 14, 18, 20, 24, 28, 30]
    assert [batch for batch, _ in ends] == 3 * [3, 7, 11]


@pytest.mark.parametrize("steps_per_execution", [1, 2, 3])
def test_arrays_are_read_as_keras_reads_them(steps_per_execution):
    ours = make("test_pn", steps_per_execution, jit_compile=False)
    plain = keras.Sequential([ours])
    plain.compile(loss=ours.loss, metrics=["accuracy"])
    ours.compile(loss=ours.loss, metrics=["accuracy"])
    for x, y in ((X, Y), (X.astype("float64"), keras.ops.array(Y))):
        for batch_size in (None, 8, 75, 100):
            found = ours.evaluate(x, y, batch_size, verbose=0)
            expected = plain.evaluate(x, y, batch_size, verbose=0)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            np.testing.assert_allclose(
                ours.predict(x, batch_size, verbose=0),
                plain.predict(x, batch_size, verbose=0),
                rtol=1e-5,
            )
    weights = np.linspace(0, 1, 75)
    np.testing.assert_allclose(
        ours.evaluate(X, Y, sample_weight=weights, steps=2, verbose=0),
        plain.evaluate(X, Y, sample_weight=weights, steps=2, verbose=0),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="cardinality"):
        ours.evaluate(X, Y[:-1], verbose=0)


@tensorflow_alone
def test_no_thread_tunes_what_fit_and_evaluate_read(monkeypatch):
    model, tuned = make(steps_per_execution=5, jit_compile=False), []
    strategy = type(model.distribute_strategy)
    distribute = strategy.experimental_distribute_dataset

    def noted(self, dataset, *args):
        tuned.append(dataset.options().autotune.enabled)
        return distribute(self, dataset, *args)

    monkeypatch.setattr(strategy, "experimental_distribute_dataset", noted)
    model.fit(X, Y, 8, epochs=2, validation_data=(X, Y), verbose=0)
    model.evaluate(X, Y, verbose=0)
    model.predict(X, verbose=0)
    assert tuned == [False] * 4
    # Keras's own adapter, as a control of the test.
    model.fit(X, Y, 8, shuffle=False, verbose=0)
    assert tuned[4] is not False


def test_starts_inside_an_epoch():
    whole, parts = make(), make()
    whole.fit(batches(), epochs=2, verbose=0)
    parts.fit(
        data.Batches(X, Y, 8, seed=1), steps_per_epoch=4, epochs=1, verbose=0
    )
    parts.fit(batches(first_step=4), steps_per_epoch=6, epochs=1, verbose=0)
    parts.fit(batches(first_step=10), epochs=1, verbose=0)
    assert_same_weights(whole, parts)


def test_arrays_train_on_every_example_in_an_order_of_the_seed():
    def run(seed, **kwargs):
        model = make(**kwargs)
        keras.utils.set_random_seed(seed)
        _, ends = train(model, X, Y, 8, epochs=2)
        assert ends[-1][1] == 20
        return model

    first = run(0)
    assert_same_weights(first, run(0))
    assert not np.allclose(first.get_weights()[0], run(1).get_weights()[0])
    # With one batch an epoch the order does not matter.
    fast, slow = make(), make(jit_compile=False)
    for model in (fast, slow):
        model.fit(X, Y, 75, epochs=3, verbose=0)
    assert_same_weights(fast, slow)


@tensorflow_alone
def test_arguments_are_in_the_order_of_keras():
    model = make(jit_compile=False)
    model.compile(loss=model.loss, optimizer="sgd", metrics=["accuracy"])
    model.fit(X, Y, 75, 2, 0, [])
    found = model.evaluate(X, Y, 25, 0, None, 1, [], True)
    expected = model.evaluate(X[:25], Y[:25], 25, return_dict=True, verbose=0)
    assert found == pytest.approx(expected)
    assert len(model.predict(X, 25, 0, 2, [])) == 50
    with pytest.raises(ValueError, match="-75"):
        model.predict(X, -1)


@pytest.mark.parametrize("steps_per_epoch", [None, 0])
def test_no_steps_per_epoch_are_all(steps_per_epoch):
    model = make(jit_compile=False, steps_per_execution=2)
    model.fit(X, Y, 8, verbose=0, steps_per_epoch=steps_per_epoch)
    assert int(model.optimizer.iterations) == 10


@tensorflow_alone
def test_variables_and_sparse_tensors_are_for_keras():
    import tensorflow as tf

    model = make(jit_compile=False)
    expected = model.predict(X, verbose=0)
    for x in (tf.Variable(X), keras.Variable(X)):
        np.testing.assert_allclose(
            model.predict(x, verbose=0), expected, rtol=1e-5
        )


@tensorflow_alone
def test_seeds_of_tensorflow_shuffle():
    import tensorflow as tf

    def run(seed):
        model = make(jit_compile=False, steps_per_execution=1)
        tf.random.set_seed(seed)
        model.fit(X, Y, 8, verbose=0)
        return model

    first = run(3)
    assert_same_weights(first, run(3))
    assert not np.allclose(first.get_weights()[0], run(4).get_weights()[0])


@pytest.mark.parametrize(
    "arguments",
    [
        {"shuffle": False},
        {"shuffle": "batch"},
        {"sample_weight": np.linspace(0, 1, 75)},
        {"class_weight": {0: 1.0, 1: 0.0, 2: 5.0}},
        {"validation_split": 0.2, "shuffle": False},
    ],
)
def test_other_arguments_mean_what_they_mean_in_keras(arguments):
    fast, slow = make(), make(jit_compile=False)
    for model in (fast, slow):
        keras.utils.set_random_seed(0)
        model.fit(X, Y, 8, epochs=2, verbose=0, **arguments)
    assert_same_weights(fast, slow)


@pytest.mark.parametrize("every", [1, 3])
def test_projection_counts_steps_inside_a_block(every):
    fast, slow = make(), make(steps_per_execution=1, jit_compile=False)
    for model in (fast, slow):
        projection = callbacks.PeriodicProjection(0.3, every=every)
        train(model, batches(), epochs=2, extra=[projection])
    assert_same_weights(fast, slow)
    # The projection is gone when it is not asked for.
    for model in (fast, slow):
        train(model, batches(), epochs=2)
    assert_same_weights(fast, slow)
    assert np.abs(fast.get_weights()[0]).sum(axis=0).max() > 0.31


@pytest.mark.parametrize("size", [75, 5])
def test_projection_begins_in_a_second_fit(size):
    """What was traced of the step without it must not be taken again."""
    few = data.Batches(X[:size], Y[:size], 8, seed=1)
    fast, slow = make(), make(steps_per_execution=1, jit_compile=False)
    for model in (fast, slow):
        model.fit(few, epochs=2, verbose=0)
        projection = callbacks.PeriodicProjection(0.3)
        model.fit(few, epochs=2, verbose=0, callbacks=[projection])
    assert_same_weights(fast, slow)
    assert np.abs(fast.get_weights()[0]).sum(axis=0).max() < 0.3 + 1e-5


def test_projection_ends_with_an_interrupted_fit():
    def interrupt(batch, logs):
        raise KeyboardInterrupt

    model = make()
    interruption = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            batches(),
            verbose=0,
            callbacks=[callbacks.PeriodicProjection(0.3), interruption],
        )
    model.fit(X, Y, shuffle=False, verbose=0)
    model.fit(batches(), epochs=4, verbose=0)
    assert np.abs(model.get_weights()[0]).sum(axis=0).max() > 0.31


@pytest.mark.parametrize(
    "steps, epochs, expected",
    [(10, 2, 20), (4, 1, 4), (4, 3, 12), (7, 3, 24), (8, 1, 8)],
)
def test_executions_end_where_those_of_keras_do(steps, epochs, expected):
    model = make()
    model.fit(batches(), steps_per_epoch=steps, epochs=epochs, verbose=0)
    assert int(model.optimizer.iterations) == expected


@pytest.mark.skipif(BACKEND != "jax", reason="sparse arrays of JAX")
def test_sparse_arrays_are_for_keras():
    from jax.experimental import sparse

    for x in (sparse.BCOO.fromdense(X), X):
        assert training.are_arrays(x, Y) == isinstance(x, np.ndarray)


def test_a_second_fit_traces_nothing():
    model, traces = make(), []
    step = model.train_step

    def counted(*args):
        traces.append(1)
        return step(*args)

    model.train_step = counted
    model.fit(batches(), verbose=0)
    known = len(traces)
    model.fit(batches(), verbose=0)
    assert 0 < known == len(traces)


def test_blocks_are_taken_where_they_pay():
    long = 10_000
    assert make(jit_compile="auto")._takes_blocks(long)
    short = make(jit_compile="auto")._takes_blocks(long - 1)
    # JAX compiles single steps too.
    assert short == (BACKEND == "jax")
    assert not make(jit_compile=False)._takes_blocks(long)
    assert not make(steps_per_execution=1)._takes_blocks(long)
    assert not make("test_pn_conv", jit_compile="auto")._takes_blocks(long)
    assert make("test_pn_conv")._takes_blocks(1)


def test_loss_scaling():
    model = make(dtype="mixed_float16")
    history, _ = train(model, batches(), epochs=2)
    assert np.isfinite(history["loss"]).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="hold the targets and the batch size"):
        make().fit(batches(), Y)
    with pytest.raises(ValueError, match="begin at step 4 of an epoch of 10"):
        make().fit(batches(first_step=4))
