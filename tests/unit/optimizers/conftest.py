"""Training on two logical CPUs, in a process of its own."""

import os
import subprocess
import sys

import keras
import pytest

TWO_CPUS = """
import sys
import numpy as np, tensorflow as tf, keras
from keras_polynets import layers, optimizers
cpu = tf.config.list_physical_devices("CPU")[0]
part = tf.config.LogicalDeviceConfiguration()
tf.config.set_logical_device_configuration(cpu, [part] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
"""


@pytest.fixture(scope="session")
def run_on_replicas():
    """Runs code that prints lines "NAME words"; returns `{NAME: words}`."""

    def run(code, *arguments):
        if keras.backend.backend() != "tensorflow":
            pytest.skip("tf.distribute is TensorFlow's")
        done = subprocess.run(
            [sys.executable, "-c", TWO_CPUS + code, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        assert "RESULT" in done.stdout, done.stderr[-3000:]
        lines = done.stdout.splitlines()
        return {w[0]: w[1:] for w in map(str.split, lines) if w}

    return run
