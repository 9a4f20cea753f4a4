"""The 35 words of Speech Commands, spoken by a synthesiser."""

import shutil
import subprocess

import numpy as np
import pytest
from keras import ops

from keras_polynets import data
from keras_polynets import recipes
from keras_polynets.layers import LogMelSpectrogram

pytest.importorskip("scipy")
ESPEAK = shutil.which("espeak-ng")
pytestmark = pytest.mark.skipif(
    ESPEAK is None, reason="needs espeak-ng (Debian: apt-get install espeak-ng)"
)
WORDS = (
    "backward bed bird cat dog down eight five follow forward four go happy "
    "house learn left marvin nine no off on one right seven sheila six stop "
    "three tree two up visual wow yes zero"
).split()
# Voices of one language, the last two for validation and test.
VOICES = ("m1", "m2", "m3", "m4", "m7", "f1", "f2", "f3", "m5", "f4")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Writes a set in the layout of Speech Commands, at espeak's own rate."""
    folder = tmp_path_factory.mktemp("spoken")
    for word in WORDS:
        (folder / word).mkdir()
        for voice in VOICES:
            path = folder / word / f"{voice}_nohash_0.wav"
            command = [ESPEAK, "-v", f"en-us+{voice}", "-w", str(path), word]
            subprocess.run(command, check=True, capture_output=True)
    for file, voice in (("validation", "m5"), ("testing", "f4")):
        names = "".join(f"{word}/{voice}_nohash_0.wav\n" for word in WORDS)
        (folder / f"{file}_list.txt").write_text(names)
    return folder


def test_words_of_unseen_voices_are_recognised(spoken):
    _, rate = data.read_wav(spoken / "yes" / "m1_nohash_0.wav")
    assert rate != 16000
    loaded = data.load(spoken)
    assert loaded.class_names == tuple(WORDS)
    assert len(loaded.x_train) == 8 * 35 and len(loaded.x_test) == 35
    layer = LogMelSpectrogram()
    known, unknown = (
        ops.convert_to_numpy(layer(x)).reshape(len(x), -1)
        for x in (loaded.x_train, loaded.x_test)
    )
    distances = np.square(unknown[:, None] - known[None]).sum(-1)
    nearest = loaded.y_train[distances.argmin(1)]
    # Chance is .03.
    assert np.mean(nearest == loaded.y_test) > 0.5


@pytest.mark.slow
def test_the_recipe_of_speech_commands_trains(spoken, tmp_path):
    changes = {
        "data.name": str(spoken),
        "epochs": 2,
        "batch_size": 40,
        "overrides": {"width": 4, "blocks": [1, 1]},
    }
    recipe = recipes.load("prodpoly_resnet34_speech.speech_commands", changes)
    result = recipes.run(recipe, tmp_path / "run", verbose=0)
    assert result["training_examples"] == 280
    assert result["validation"]["examples"] == 35
    losses = np.genfromtxt(
        tmp_path / "run" / "history.csv", delimiter=",", names=True
    )["loss"]
    assert losses[1] < losses[0] < 5
