"""Makes the stored weights and outputs of the zoo's toy members.

    python -m training.make_test_members

The toy members let the tests walk the path of trained weights in seconds:
manifest, hash, loading, reference outputs. Their weights are random numbers
(seed 0), not trained ones, and their tag says so: `fixture`.
"""

import argparse
import pathlib

import numpy as np

import keras_polynets
from keras_polynets._files import atomic_path
from keras_polynets._files import atomic_write

CARD = """# {name}

{description} Its weights are random numbers (seed 0), so that the tests can
walk the path of trained weights in seconds. It is of no other use.

- Input: {input_shape} images, uint8 0…255, taken to {span} by the model's
  preprocessor.
- Licence: Apache-2.0.
- Written by `python -m training.make_test_members`.

```python
model = keras_polynets.zoo.load("{name}")
```
"""

MANIFEST = """default = "fixture"

[tags.fixture]
weights = "fixture.weights.h5"
sha256 = "{sha256}"
{classes}input_shape = {input_shape}
parameters = {parameters}
"""


def make(name, folder):
    """Writes the folder of one toy member.

    Args:
        name: Registered name.
        folder: `pathlib.Path` of the folder.
    """
    zoo = keras_polynets.zoo
    model = zoo.load(name, weights=None)
    rng = np.random.default_rng(0)
    model.set_weights([_draw(rng, w) for w in model.weights])
    images = rng.integers(0, 256, (4, *model.input_shape[1:]), dtype="uint8")
    outputs = model.predict(np.asarray(model.preprocessor(images)), verbose=0)
    classifies = outputs.ndim == 2
    facts = {
        "name": name,
        "description": zoo.info(name)["description"],
        "sha256": zoo.weights.save(model, folder / "fixture.weights.h5"),
        "classes": f"classes = {outputs.shape[-1]}\n" if classifies else "",
        "input_shape": list(model.input_shape[1:]),
        "span": _say(model.input_range),
        "parameters": zoo.info(name)["parameters"],
    }
    with atomic_path(folder / "fixture.reference.npz") as path:
        outputs = {"logits" if classifies else "outputs": outputs}
        np.savez_compressed(path, images=images, **outputs)
    for file_name, text in (("card.md", CARD), ("model.toml", MANIFEST)):
        with atomic_write(folder / file_name, "w") as file:
            file.write(text.format(**facts))


def _draw(rng, weight):
    values = rng.normal(size=weight.shape, scale=0.3)
    # That of a normalisation is divided by.
    return 1 + abs(values) if weight.name == "moving_variance" else values


def _say(input_range):
    low, high = input_range
    if np.ndim(low) == 0:
        return f"({low:g}, {high:g})"
    return "the range of standardised images"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--zoo", type=pathlib.Path, help="folder of the zoo")
    arguments = parser.parse_args()
    root = arguments.zoo or keras_polynets.zoo.data_directory()
    for name in keras_polynets.zoo.list_models("test_*"):
        make(name, root / name)
        print(f"wrote {root / name}")


if __name__ == "__main__":
    main()
