"""Timing, reporting and the processes that benchmarks share."""

import argparse
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

RESULTS = pathlib.Path(__file__).parent / "results"


def options(description, argv=None, **more):
    """Returns the options of a benchmark, before TensorFlow is imported.

    Args:
        description: What the benchmark measures.
        argv: List of the words of the command line.
        **more: Options that this benchmark alone has, each a dictionary of
            the arguments of `argparse.ArgumentParser.add_argument`.
    """
    words = parser(description)
    for name, arguments in more.items():
        words.add_argument(f"--{name}", **arguments)
    options = words.parse_args(argv)
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(options.threads)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"The machine is busy (load {load:.1f}): expect wide spreads.")
    return options


def parser(description):
    """Returns the parser of the options of every benchmark."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument(
        "--torch-python",
        type=pathlib.Path,
        help="the Python of an environment with PyTorch, to compare with",
    )
    options.add_argument(
        "--gpu", action="store_true", help="PyTorch runs on the GPU too"
    )
    options.add_argument(
        "--rounds", type=int, default=9, help="measurements of each kind"
    )
    options.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        help="of TensorFlow and of PyTorch (default: all, %(default)s)",
    )
    return options


def seconds(function):
    """Returns how long one call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def alternate(functions, rounds, warm_up=2):
    """Times functions in turn, so that a slow minute meets all of them.

    Args:
        functions: Dictionary from a label to a function without arguments.
        rounds: How often each is timed.
        warm_up: How often each is called before.

    Returns:
        Dictionary from a label to a list of seconds.
    """
    for function in functions.values():
        for _ in range(warm_up):
            function()
    times = {label: [] for label in functions}
    for _ in range(rounds):
        for label, function in functions.items():
            times[label].append(seconds(function))
    return times


def gradient_step(functions, variables, x, upstream):
    """Returns a function that takes a step: forward, and all gradients.

    Args:
        functions: List of callables of `x`, whose outputs have one shape.
        variables: List of Keras variables; the gradients are those to them and
            to `x`.
        x: Tensor.
        upstream: Tensor, the gradient to every output.
    """
    import tensorflow as tf

    values = [v.value for v in variables]

    @tf.function
    def step(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = [function(x) for function in functions]
        upstreams = [upstream] * len(outputs)
        return outputs, tape.gradient(outputs, [x, *values], upstreams)

    def run():
        _, gradients = step(x, upstream)
        gradients[0].numpy()

    return run


def epoch_seconds(model, data, epochs, **kwargs):
    """Returns the seconds of each epoch of one `fit`, after a warm-up.

    Args:
        model: A compiled Keras model.
        data: What `fit` takes first.
        epochs: How many epochs are timed.
        **kwargs: Further arguments of `fit`.
    """
    import keras

    class Clock(keras.callbacks.Callback):
        """Takes the time of each epoch."""

        times = []

        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.times.append(time.perf_counter() - self.begin)

    clock = Clock()
    model.fit(data, epochs=1 + epochs, verbose=0, callbacks=[clock], **kwargs)
    return clock.times[1:]


def run_json(python, module, *words):
    """Runs a module in another process and returns the JSON it prints last."""
    process = subprocess.run(
        [str(python), "-m", module, *map(str, words)],
        capture_output=True,
        text=True,
    )
    if process.returncode:
        sys.exit(f"{module} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def peak_memory():
    """Returns the peak RSS of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def row(what, times, unit="s", scale=1.0):
    """Returns a row of a result: the median and the spread of its times."""
    values = [scale * t for t in times]
    return {
        "what": what,
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "runs": len(values),
        "unit": unit,
    }


def ratio(what, value, target, at_least=True):
    """Returns a row that compares a value with its target."""
    return {
        "what": what,
        "median": value,
        "unit": "",
        "target": f"{'≥' if at_least else '≤'} {target:g}",
        "met": bool(value >= target if at_least else value <= target),
    }


def report(name, title, rows, torch_python=None):
    """Prints the rows, and writes them to `results/<name>.json`.

    Args:
        name: The name of the benchmark.
        title: What it measures.
        rows: List of the rows.
        torch_python: The Python of the environment with PyTorch, where the
            rows compare with it.
    """
    from rich.console import Console
    from rich.table import Table

    result = {"title": title, "rows": rows, "machine": machine(torch_python)}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    table = Table(title=title, title_justify="left")
    for column in ("what", "median", "spread", "target", "met"):
        table.add_column(column)
    for line in rows:
        table.add_row(*cells(line))
    Console(width=100, highlight=False).print(table)
    return result


def cells(line):
    """Returns the words of a row: what, median, spread, target, met."""
    median = f"{line['median']:.4g} {line['unit']}".strip()
    spread = ""
    if "low" in line:
        spread = f"{line['low']:.4g} to {line['high']:.4g} ({line['runs']})"
    met = {True: "yes", False: "no", None: ""}[line.get("met")]
    return line["what"], median, spread, line.get("target", ""), met


def machine(torch_python=None):
    """Returns what the numbers were measured on.

    Args:
        torch_python: As in `report`.
    """
    import importlib.metadata

    packages = ("keras", "tensorflow", "jax", "numpy")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if torch_python:
        versions["torch"] = _torch_version(torch_python)
    return {
        "processor": _processor(),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        **versions,
    }


def _torch_version(python):
    words = [str(python), "-c", "import torch; print(torch.__version__)"]
    process = subprocess.run(words, capture_output=True, text=True, check=True)
    return process.stdout.strip()


def _processor():
    path = pathlib.Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
