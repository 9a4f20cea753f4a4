"""Recordings of single words, from a folder or an archive of wav files."""

import pathlib
import re

import keras
import numpy as np

from keras_polynets._errors import listed
from keras_polynets._errors import unknown_name
from keras_polynets.data import wav
from keras_polynets.data.arrays import ArrayDataset
from keras_polynets.data.members import files_of

NOISE = "_background_noise_"
# Of Speech Commands: the recordings that validate and that test.
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
LAYOUT = (
    "wav files in one of three layouts: <word>/*.wav beside "
    f"{' and '.join(LISTS.values())} (Speech Commands); train/<word>/*.wav and "
    "test/<word>/*.wav; or <word>_<speaker>_<index>.wav (Free Spoken Digit "
    "Dataset)"
)
SPLITS = ("train", "validation", "test")
# The recordings of each speaker and digit that test, in the spoken digits.
TEST_INDICES = range(5)
# In the names of Speech Commands, which look like those of spoken digits.
_HASHED = "_nohash_"
_SPOKEN = re.compile(r"([^_]+)_(.+)_(\d+)\.wav", re.IGNORECASE)


def load_speech(path, split=None):
    """Returns the recordings of a folder or an archive as an `ArrayDataset`.

    Args:
        path: `pathlib.Path` of a folder, or of an archive whose name ends in
            one of `members.SUFFIXES`.
        split: As in `data.load`.
    """
    clips, lists, noise = _read(path)
    if not clips:
        raise ValueError(f"{path} has no recordings. Expected {LAYOUT}.")
    places = _places(path, clips, lists, split)
    class_names = tuple(sorted({word for _, word in places.values()}))
    arrays = _arrays(clips, places, class_names)
    _check_classes(path, arrays, class_names)
    return ArrayDataset(
        path.name,
        *arrays["train"],
        *arrays["test"],
        class_names=class_names,
        source=f"Recordings read from {path.name}"
        + (f", split {split!r}." if split else "."),
        **_validation(arrays),
        noise=np.concatenate(noise) if noise else None,
        sampling_rate=wav.RATE,
    )


def is_recording(name):
    """Whether a file is a recording, by its name."""
    path = pathlib.PurePosixPath(name)
    return path.suffix.lower() == ".wav" and not path.name.startswith(".")


def is_list(name):
    """Whether a file says which recordings validate or test."""
    return pathlib.PurePosixPath(name).name in LISTS.values()


def word_and_file(name):
    """Returns `word/file` of a recording, as the lists call it."""
    return "/".join(pathlib.PurePosixPath(name).parts[-2:])


def _read(path):
    """Returns `{name: (clip, rate)}`, `{file: set of names}` and the noise."""
    progress = keras.utils.Progbar(None, unit_name="recording")
    clips, lists, noise = {}, {}, []
    for name, content in files_of(
        path, lambda name: is_recording(name) or is_list(name)
    ):
        parts = pathlib.PurePosixPath(name).parts
        if is_list(name):
            lists[parts[-1]] = set(content.decode("utf-8").split())
            continue
        wave, rate = wav.decode_recording(content, f"{name} in {path}")
        if NOISE in parts:
            noise.append(wav.resampled(wave[np.newaxis], rate)[0])
            continue
        clips[name] = wav.fitted(wave, rate), rate
        if len(clips) % 1000 == 0:
            progress.update(len(clips))
    if len(clips) >= 1000:
        progress.update(len(clips), finalize=True)
    return clips, lists, noise


def _places(path, clips, lists, split):
    """Returns `{name: (split, word)}` by the layout that is found."""
    parts = {name: pathlib.PurePosixPath(name).parts for name in clips}
    in_folders = all(len(p) >= 3 and p[-3] in SPLITS for p in parts.values())
    is_hashed = any(_HASHED in p[-1] for p in parts.values())
    if lists or (is_hashed and not in_folders):
        places = places_by_lists(path, clips, lists)
        _refuse_split(split, f"{' and '.join(LISTS.values())} say")
        return places
    if in_folders:
        _refuse_split(split, "the folders train/ and test/ say")
        return {name: (p[-3], p[-2]) for name, p in parts.items()}
    spoken = {name: _SPOKEN.fullmatch(p[-1]) for name, p in parts.items()}
    if all(spoken.values()):
        return _places_of_spoken(path, spoken, split or "index")
    other = next(n for n, match in spoken.items() if not match)
    raise ValueError(
        f"{path} has recordings in no known layout, for example {other}. "
        f"Expected {LAYOUT}."
    )


def places_by_lists(path, names, lists):
    """Returns `{name: (split, word)}` of Speech Commands.

    Args:
        path: The set, for errors.
        names: The names of its recordings.
        lists: Dictionary from the name of a list to a set of `word/file`.
    """
    missing = [name for name in LISTS.values() if name not in lists]
    if missing:
        raise ValueError(
            f"{path} holds recordings of Speech Commands and lacks "
            f"{' and '.join(missing)}, by which some are held out. Get the "
            "archive of Speech Commands again, which can be read as it is."
        )
    split_of = {
        name: split for split, file in LISTS.items() for name in lists[file]
    }
    known = {word_and_file(name) for name in names}
    absent = sorted(set(split_of) - known)
    if absent:
        raise ValueError(
            f"{path} is incomplete: its lists name {len(absent):,} recordings "
            f"that it does not have, the first is {absent[0]}. Get it again."
        )
    places = {}
    for name in names:
        key = word_and_file(name)
        places[name] = split_of.get(key, "train"), key.split("/")[0]
    return places


def _places_of_spoken(path, spoken, split):
    """Returns `{name: (split, word)}` of the spoken digits."""
    kind, _, names = split.partition(":")
    if kind == "index" and not names:
        return {
            name: ("test" if int(m[3]) in TEST_INDICES else "train", m[1])
            for name, m in spoken.items()
        }
    speakers = sorted({match[2] for match in spoken.values()})
    held_out = names.split(",")
    if kind != "speaker" or len(held_out) > 2:
        raise ValueError(
            f"Argument `split` of {path} must be 'index', 'speaker:TEST' or "
            f"'speaker:TEST,VALIDATION'. Received: split={split!r}"
        )
    for name in held_out:
        if name not in speakers:
            raise unknown_name("speaker", name, speakers)
    split_of = dict(zip(held_out, ("test", "validation"), strict=False))
    return {
        name: (split_of.get(m[2], "train"), m[1]) for name, m in spoken.items()
    }


def _refuse_split(split, who):
    if split:
        raise ValueError(
            f"Argument `split` is for sets without a split of their own; here "
            f"{who} what is held out. Received: split={split!r}"
        )


def _arrays(clips, places, class_names):
    """Returns `{split: (waves, labels)}`, and empties `clips`."""
    labels = {word: label for label, word in enumerate(class_names)}
    arrays = {}
    for split in SPLITS:
        names = sorted(name for name in clips if places[name][0] == split)
        chosen = [clips.pop(name) for name in names]
        arrays[split] = (
            wav.stacked([c for c, _ in chosen], [r for _, r in chosen]),
            np.array([labels[places[name][1]] for name in names], "int32"),
        )
    return arrays


def _check_classes(path, arrays, class_names):
    for split in ("train", "test"):
        found = set(arrays[split][1].tolist())
        lacking = [w for i, w in enumerate(class_names) if i not in found]
        if lacking:
            raise ValueError(
                f"{path} must have every word in its training and its test "
                f"set. Not in {split}: {listed(map(repr, lacking))}."
            )


def _validation(arrays):
    x, y = arrays["validation"]
    return {"x_validation": x, "y_validation": y} if len(y) else {}
