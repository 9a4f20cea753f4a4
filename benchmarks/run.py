"""Runs every benchmark, each in a process of its own: `make bench`."""

import json
import subprocess
import sys

from benchmarks import measuring

NAMES = (
    "attacks",
    "batch_normalization",
    "certificates",
    "convolutional_throughput",
    "image_pipeline",
    "import_time",
    "pooled_convolution",
    "projection",
    "projection_cost",
    "quadratic_convolution",
    "quadratic_memory",
    "training_throughput",
    "recipe_time",
)
ON_GPU = ("training_throughput", "recipe_time")


def main():
    options = measuring.parser(__doc__).parse_args()
    failed = [
        name
        for name in (ON_GPU if options.gpu else NAMES)
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]
        ).returncode
    ]
    write_table()
    if failed:
        sys.exit(f"These benchmarks failed: {', '.join(failed)}")


def write_table():
    """Writes all results into one Markdown page."""
    lines = ["# Benchmarks", "", "Written by `make bench`.", ""]
    for path in sorted(measuring.RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        machine = ", ".join(f"{k} {v}" for k, v in result["machine"].items())
        lines += [f"## {path.stem}", "", result["title"], "", machine, ""]
        lines += ["| what | median | spread (runs) | target | met |"]
        lines += ["|---|---|---|---|---|"]
        lines += [
            f"| {' | '.join(measuring.cells(row))} |" for row in result["rows"]
        ]
        lines.append("")
    path = measuring.RESULTS / "README.md"
    path.write_text("\n".join(lines), encoding="utf-8")
    print(f"All results: {path}")


if __name__ == "__main__":
    main()
