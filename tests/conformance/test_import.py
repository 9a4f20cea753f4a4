"""`import keras_polynets` stays light."""

import json
import subprocess
import sys

# Keras itself imports matplotlib and Pillow where they are installed.
CODE = """
import json, sys
import keras
before = set(sys.modules)
import keras_polynets
added = set(sys.modules) - before
print(json.dumps(sorted({name.split(".")[0] for name in added})))
"""


def test_heavy_packages_are_imported_where_they_are_used():
    out = subprocess.run(
        [sys.executable, "-c", CODE],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    modules = set(json.loads(out.splitlines()[-1]))
    assert "keras_polynets" in modules
    late = {
        "PIL",
        "cleverhans",
        "matplotlib",
        "tensorboard",
        "tensorflow_datasets",
        "training",
    }
    assert modules & late == set()
