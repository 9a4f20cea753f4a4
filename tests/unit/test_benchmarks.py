"""What the benchmarks time is what they say."""

import keras
import numpy as np

from benchmarks import convolutional_throughput
from benchmarks import measuring
from keras_polynets import zoo


def test_a_network_without_its_products_keeps_all_else():
    model = zoo.load("test_prodpoly_resnet", weights=None)
    bare = convolutional_throughput.without_products(model)
    paths = [sorted(w.path for w in m.weights) for m in (bare, model)]
    assert paths[0] == paths[1]

    def kinds(network):
        return sorted(type(layer).__name__ for layer in network.layers)

    left_out = ["Multiply"] * sum(k == "Multiply" for k in kinds(model))
    assert left_out and sorted(kinds(bare) + left_out) == kinds(model)
    # A block is relu(s + F + L(X s)) now; here F is zero.
    rng = np.random.default_rng(0)
    for w in bare.weights:
        w.assign(abs(rng.normal(size=w.shape)))
    for w in bare.get_layer("stage1_block1_norm2").trainable_variables:
        w.assign(np.zeros(w.shape))
    x = rng.uniform(-1, 1, (2, *model.input_shape[1:])).astype("float32")
    parts = keras.Model(
        bare.input,
        [bare.get_layer(n).output for n in ("stem", "stage1_block1")],
    )
    s, y = map(keras.ops.convert_to_numpy, parts(x))
    maps = [
        keras.ops.convert_to_numpy(bare.get_layer(f"stage1_block1_{n}").kernel)
        for n in ("operand", "product2_conv")
    ]
    expected = np.maximum(s + s @ maps[0][0, 0] @ maps[1][0, 0], 0)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


def test_the_record_names_the_version_of_pytorch(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 1.2.3\n")
    python.chmod(0o755)
    assert "torch" not in measuring.machine()
    assert measuring.machine(python)["torch"] == "1.2.3"
