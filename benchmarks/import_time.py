"""What `import keras_polynets` costs on top of `import tensorflow, keras`."""

import subprocess
import sys

from benchmarks import measuring

TARGET = 0.3
CODE = """
import tensorflow, keras, time
begin = time.perf_counter()
import keras_polynets
print(time.perf_counter() - begin)
"""


def main(argv=None):
    options = measuring.options(__doc__, argv)

    def import_once():
        process = subprocess.run(
            [sys.executable, "-c", CODE],
            check=True,
            capture_output=True,
            text=True,
        )
        return float(process.stdout.splitlines()[-1])

    import_once()
    times = [import_once() for _ in range(options.rounds)]
    rows = [measuring.row("import keras_polynets", times)]
    rows.append(
        measuring.ratio(
            "its median in seconds", rows[0]["median"], TARGET, at_least=False
        )
    )
    measuring.report("import_time", __doc__, rows)


if __name__ == "__main__":
    main()
