"""The command line, run in this process."""

import json

import keras

from keras_polynets import cli
from keras_polynets import zoo


def run(capsys, *words):
    """Runs a command and returns its exit code, output and errors."""
    code = cli.main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys, *words):
    code, out, err = run(capsys, *words, "--json")
    assert code == 0, err
    return json.loads(out)


def saved_weights(folder):
    """A weights file of pn4 and the model that it came from."""
    keras.utils.set_random_seed(0)
    model = zoo.load("pn4", weights=None)
    path = folder / "pn4.weights.h5"
    zoo.weights.save(model, path)
    return str(path), model
