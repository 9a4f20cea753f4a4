"""Trains denoisers, quadratic and conventional, and compares them.

    python -m training.denoise --cifar10 cifar10_jpeg.tar.gz

The quadratic autoencoder of Fan et al. (2020), its conventional twin of equal
width and the twin of equal parameters learn to take Gaussian and Poisson noise
at three levels each out of Fashion-MNIST and CIFAR-10 images, with three seeds.
All have the same budget, the same images and the same noise, drawn anew every
epoch. For each set and kind of noise each model has three trials, of learning
rates and of ReLinear's factors, at the middle level, and keeps the one with the
best PSNR on validation images. Where a seed's network has died at that rate,
and gives back the images that it gets, the next best trial takes its place.

The default budget, 3 epochs of 2,500 images, is made for two CPU cores: a step
costs 6, 2.5 and 5 milliseconds an image of 28 × 28 (the models in the order
above) and a third more for CIFAR-10, so that all 144 trainings take about two
hours. A run that was killed goes on where it was: every finished part is a file
in the folder `--runs`.

Writes `denoising.json` and `denoising.md` to `docs/results` and
`denoising.png` to `docs/images`.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import sys
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from keras_polynets import metrics
from keras_polynets._console import plain
from keras_polynets._files import atomic_path
from keras_polynets._files import atomic_write
from keras_polynets.models import DenoisingAutoencoder
from keras_polynets.optimizers import ReLinear
from training.denoising_data import Images
from training.denoising_data import NoisyBatches
from training.denoising_data import add_noise
from training.denoising_report import markdown
from training.denoising_report import summary

# Standard deviations in grey levels; photons at the brightest value.
LEVELS = {"gaussian": (15, 25, 50), "poisson": (60, 30, 10)}
TUNED_LEVEL = 1
MODELS = {
    "quadratic": {},
    "equal width": {"neuron": None},
    "equal parameters": {"neuron": None, "filters": 26},
}
# Learning rates, and what ReLinear multiplies those of second-order terms by.
TRIALS = {
    "quadratic": ((3e-3, 0.1), (1e-3, 0.1), (1e-3, 1.0)),
    "equal width": ((3e-3, None), (1e-3, None), (3e-4, None)),
    "equal parameters": ((3e-3, None), (1e-3, None), (3e-4, None)),
}
# Seeds of training are smaller, so that no noise is met twice.
TUNING_SEED, VALIDATION_SEED, TEST_SEED = 1_000, 1_001, 1_002
# Decibels: a network that gains or loses less has died.
NOTHING = 0.1


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every model may use.

    Args:
        images: Integer, the training images.
        epochs: Integer, how often each is seen.
        batch_size: Integer.
        validation: Integer, the images that choose the learning rate.
        test: Integer, the images of the reported numbers.
    """

    images: int
    epochs: int
    batch_size: int
    validation: int
    test: int


def train(name, images, noise, level, trial, seed, budget):
    """Trains one of `MODELS`, its rate decaying to 0 by a cosine.

    Args:
        name: The name of the model.
        images: The clean images, uint8.
        noise: A kind of `LEVELS`.
        level: Its level.
        trial: One of `TRIALS`: the learning rate and ReLinear's factor.
        seed: Integer, of the weights, the order and the noise.
        budget: The `Budget`.

    Returns:
        The `DenoisingAutoencoder`.
    """
    keras.utils.set_random_seed(seed)
    batches = NoisyBatches(images, noise, level, seed, budget.batch_size)
    # A ReLU at the output, as in the paper, can die at any of these rates.
    model = DenoisingAutoencoder(
        images.shape[1:], output_activation=None, **MODELS[name]
    )
    steps = budget.epochs * len(batches)
    rate, factor = trial
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    optimizer = keras.optimizers.Adam(schedule)
    if factor is not None:
        optimizer = ReLinear(optimizer, factor, factor)
    several = keras.backend.backend() != "torch"
    model.compile(
        optimizer,
        model.make_loss(),
        steps_per_execution=min(20, len(batches)) if several else 1,
    )
    model.fit(batches, epochs=budget.epochs, shuffle=False, verbose=0)
    return model


def quality(images, clean):
    """Returns the mean PSNR and SSIM of images in (0, 1)."""
    found = {}
    for metric in (
        metrics.PeakSignalToNoiseRatio(),
        metrics.StructuralSimilarity(),
    ):
        metric.update_state(clean / np.float32(255), images)
        found[metric.name] = float(metric.result())
    return found


def evaluate(model, clean, noise, level, seed):
    """Returns the quality of denoised images, and the first of them.

    All are clipped to the range of images; without a model the noisy ones.
    """
    images = add_noise(clean, noise, level, seed)
    if model is not None:
        images = model.predict(images, batch_size=100, verbose=0)
    images = np.clip(images, 0, 1)
    return quality(images, clean), images[0]


class Experiment:
    """All parts of the comparison, each done once and kept in a file.

    Args:
        sets: Dictionary from the name of a set to what `data.load` takes.
        budget: The `Budget`.
        seeds: Integers.
        folder: `pathlib.Path` of the finished parts.
    """

    def __init__(self, sets, budget, seeds, folder):
        self.sets, self.budget, self.seeds = sets, budget, seeds
        self.folder = folder
        self._images = functools.cache(lambda key: Images(sets[key], budget))
        self._done, self._kept = 0, {}
        conditions = len(sets) * len(LEVELS)
        levels = len(next(iter(LEVELS.values())))
        runs = sum(levels * len(seeds) + len(TRIALS[n]) for n in MODELS)
        self._parts = conditions * (levels + runs)

    def run(self):
        """Does what is not done yet and returns all results."""
        return [
            self._condition(key, noise) for key in self.sets for noise in LEVELS
        ]

    def _condition(self, key, noise):
        """Returns the results of one set and one kind of noise."""
        trials, ranked, levels, chosen = {}, {}, {}, {}
        for name in MODELS:
            trials[name] = [
                self._trial(key, noise, name, *trial) for trial in TRIALS[name]
            ]
            # A trial that diverges has no PSNR.
            psnrs = [trial["psnr"] or -np.inf for trial in trials[name]]
            order = np.argsort(-np.array(psnrs), kind="stable")
            ranked[name] = [TRIALS[name][place] for place in order]
        for level in LEVELS[noise]:
            noisy = self._part((key, noise, level, "noisy"), "test")
            levels[str(level)], chosen[str(level)] = {"noisy": noisy}, {}
            for name in MODELS:
                place, runs = self._runs(
                    (key, noise, level, name), ranked[name], noisy
                )
                levels[str(level)][name] = runs
                chosen[str(level)][name] = ranked[name][place]
        facts = {"set": key, "noise": noise, "trials": trials}
        return {**facts, "chosen": chosen, "levels": levels}

    def _runs(self, words, ranked, noisy):
        """Returns the place of the trial that is kept, and its seeds' runs.

        Args:
            words: The set, the noise, the level and the name of the model.
            ranked: The trials, the best first.
            noisy: The quality of the noisy images.
        """
        for place, trial in enumerate(ranked):
            marks = (*words, *(("choice", place + 1) if place else ()), "seed")
            runs = [
                self._part((*marks, seed), "test", (words[-1], trial, seed))
                for seed in self.seeds
            ]
            self._kept[words] = (*marks, self.seeds[0])
            if not any(has_died(run, noisy) for run in runs):
                break
            self._parts += len(runs) * (place + 1 < len(ranked))
        return place, runs

    def _trial(self, key, noise, name, rate, factor):
        """Returns how well a trial does on the validation images."""
        words = (key, noise, LEVELS[noise][TUNED_LEVEL], name, "trial", rate)
        if factor is not None:
            words = (*words, factor)
        training = name, (rate, factor), TUNING_SEED
        found = self._part(words, "validation", training)
        return {"rate": rate, "factor": factor, "psnr": found["psnr"]}

    def _part(self, words, part, training=None):
        """Returns a finished part, or finishes it."""
        path, budget = self._path(words), dataclasses.asdict(self.budget)
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            if result["budget"] != budget:
                raise ValueError(
                    f"{path} was made with the budget {result['budget']}, and "
                    f"this run has {budget}. Give another folder: --runs"
                )
        else:
            key, noise, level = words[:3]
            result = self._work(key, noise, level, part, training, path)
            result = plain({"budget": budget, **result})
            with atomic_write(path, "w") as file:
                json.dump(result, file)
        self._done += 1
        print(
            f"[{self._done}/{self._parts}] {' '.join(map(str, words))}: "
            f"{result['psnr']} dB, {result['seconds']:.0f} s",
            flush=True,
        )
        return {k: result[k] for k in ("psnr", "ssim", "seconds")}

    def _path(self, words):
        """Returns the file of a part."""
        name = "-".join(map(str, words)).replace(" ", "_")
        return self.folder / f"{name}.json"

    def _work(self, key, noise, level, part, training, path):
        images, start = self._images(key), time.perf_counter()
        model, clean = None, getattr(images, part)
        if training is not None:
            name, trial, seed = training
            model = train(
                name, images.train, noise, level, trial, seed, self.budget
            )
        seed = TEST_SEED if part == "test" else VALIDATION_SEED
        found, first = evaluate(model, clean, noise, level, seed)
        with atomic_path(path.with_suffix(".npz")) as aside:
            np.savez(aside, clean=clean[0] / np.float32(255), image=first)
        return found | {"seconds": time.perf_counter() - start}

    def pictures(self):
        """Returns rows of images and what `image_grid` writes below them."""
        rows, captions = {}, {}
        for key in self.sets:
            for noise, levels in LEVELS.items():
                row = f"{key}\n{noise} {levels[TUNED_LEVEL]}"
                rows[row], captions[row] = self._row(
                    key, noise, levels[TUNED_LEVEL]
                )
        return rows, captions

    def _row(self, key, noise, level):
        parts = {"noisy": (key, noise, level, "noisy")}
        for name in MODELS:
            parts[name] = self._kept[key, noise, level, name]
        images, captions = {}, {}
        for name, words in parts.items():
            with np.load(self._path(words).with_suffix(".npz")) as arrays:
                images[name], clean = arrays["image"], arrays["clean"]
            error = np.mean((images[name] - clean) ** 2)
            captions[name] = f"{-10 * np.log10(error):.1f} dB"
        return images | {"clean": clean}, captions


def has_died(run, noisy):
    """Returns whether a network gives back the images that it gets."""
    psnr = run["psnr"]
    return psnr is not None and abs(psnr - noisy["psnr"]) < NOTHING


def write(experiment, results, output, figures):
    """Writes the results, their table and the figure; returns the table."""
    from keras_polynets.image_plots import image_grid
    from keras_polynets.recipes.evaluating import environment

    first, *others = MODELS
    rows = summary(results, first, others)
    table = markdown(rows, first, others)
    everything = {
        "budget": dataclasses.asdict(experiment.budget),
        "seeds": list(experiment.seeds),
        **environment(),
        "summary": rows,
        "results": results,
    }
    with atomic_write(output / "denoising.json", "w") as file:
        json.dump(everything, file, indent=1)
    with atomic_write(output / "denoising.md", "w") as file:
        file.write(
            "PSNR in decibels and SSIM on held-out images, mean ± deviation "
            f"over {len(experiment.seeds)} seeds; gains in decibels, seed by "
            f"seed.\n\n{table}"
        )
    images, captions = experiment.pictures()
    image_grid(images, figures / "denoising.png", captions=captions)
    return table


def main(argv=None):
    """Runs the program and returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.denoise", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--fashion-mnist",
        default="fashion_mnist",
        help="what `data.load` takes for it, or nothing to leave it out",
    )
    parser.add_argument("--cifar10", help="path of the images of CIFAR-10")
    for name, default in (
        ("images", 2500),
        ("epochs", 3),
        ("batch-size", 16),
        ("validation", 500),
        ("test", 1000),
        ("seeds", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (
        ("runs", "runs/denoising"),
        ("output", "docs/results"),
        ("figures", "docs/images"),
    ):
        parser.add_argument(f"--{name}", type=pathlib.Path, default=default)
    arguments = parser.parse_args(argv)
    names = [field.name for field in dataclasses.fields(Budget)]
    budget = Budget(**{name: getattr(arguments, name) for name in names})
    sizes = [*dataclasses.astuple(budget), arguments.seeds]
    if min(sizes) < 1 or arguments.images < arguments.batch_size:
        parser.error("at least 1 of everything and one batch are needed")
    paths = {
        "Fashion-MNIST": arguments.fashion_mnist,
        "CIFAR-10": arguments.cifar10,
    }
    sets = {key: path for key, path in paths.items() if path}
    if not sets:
        parser.error("a set of images is needed")
    experiment = Experiment(
        sets, budget, range(arguments.seeds), arguments.runs
    )
    results = experiment.run()
    print(write(experiment, results, arguments.output, arguments.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
