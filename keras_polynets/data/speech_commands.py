"""Builder of tensorflow-datasets (TFDS) for Speech Commands with its 35 words.

TFDS's own builder merges 25 of the words into one label. This module imports
TFDS, so it is imported only when the set is asked for.
"""

import pathlib

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

from keras_polynets.data import speech
from keras_polynets.data import wav
from keras_polynets.data.members import files_of

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
WORDS = (
    "backward bed bird cat dog down eight five follow forward four go happy "
    "house learn left marvin nine no off on one right seven sheila six stop "
    "three tree two up visual wow yes zero"
).split()
NOISE_SPLIT = "noise"


class SpeechCommands35(tfds.core.GeneratorBasedBuilder):
    """Speech Commands v0.02: 105,829 recordings of 35 words.

    The splits are those of the archive's validation_list.txt and
    testing_list.txt. The split "noise", without labels, holds the background
    recordings. The archive is read as a stream, nothing is extracted.
    """

    VERSION = tfds.core.Version("1.0.0")
    SPLITS = (*speech.SPLITS, NOISE_SPLIT)
    # Size and hash are those that TFDS registers for its own builder.
    url_infos = {
        URL: checksums.UrlInfo(
            size=2_428_923_189,
            checksum="af14739ee7dc311471de98f5f9d2c919"
            "1b18aedfe957f4a6ff791c709868ff58",
            filename="speech_commands_v0.02.tar.gz",
        )
    }

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Recordings of one second of 35 English words.",
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Audio(
                        shape=(None,), dtype=np.int16, sample_rate=wav.RATE
                    ),
                    "label": tfds.features.ClassLabel(names=WORDS),
                }
            ),
            supervised_keys=("audio", "label"),
            homepage="https://arxiv.org/abs/1804.03209",
        )

    def _split_generators(self, dl_manager):
        path = pathlib.Path(dl_manager.download(URL))
        names, lists = [], {}
        for name, content in files_of(path, _is_known):
            if speech.is_list(name):
                file = pathlib.PurePosixPath(name).name
                lists[file] = set(content.decode("utf-8").split())
            elif not _is_noise(name):
                names.append(name)
        places = speech.places_by_lists(path, names, lists)
        split_of = {name: split for name, (split, _) in places.items()}
        return {
            s: self._generate_examples(path, split_of, s) for s in self.SPLITS
        }

    def _generate_examples(self, path, split_of, split):
        def is_wanted(name):
            if split == NOISE_SPLIT:
                return speech.is_recording(name) and _is_noise(name)
            return split_of.get(name) == split

        for name, content in files_of(path, is_wanted):
            wave, rate = wav.decode_recording(content, f"{name} in {path}")
            key = speech.word_and_file(name)
            yield (
                key,
                {
                    "audio": wav.resampled(wave[np.newaxis], rate)[0],
                    "label": -1 if split == NOISE_SPLIT else key.split("/")[0],
                },
            )


def _is_known(name):
    return speech.is_recording(name) or speech.is_list(name)


def _is_noise(name):
    return speech.NOISE in pathlib.PurePosixPath(name).parts
