"""pn4's recipe of the paper, whole: 100 epochs of 60,000 images, projected."""

import tempfile
import time

from benchmarks import measuring

TARGET = 90
CHANGES = ["data.validation=0", "evaluation.attacks=[]"]


def main(argv=None):
    measuring.options(__doc__, argv)
    from keras_polynets import data
    from keras_polynets import recipes

    try:
        data.load("fashion_mnist")
    except (OSError, ImportError) as error:
        print(f"recipe_time is left out, without Fashion-MNIST:\n{error}")
        return
    recipe = recipes.load("pn4.fashion_mnist_projected", CHANGES)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        result = recipes.run(recipe, folder, verbose=0)
        whole = time.perf_counter() - begin
    rows = [
        measuring.row("training alone", [result["training_seconds"]]),
        measuring.row("with data, compilation and evaluation", [whole]),
        measuring.ratio("seconds, whole", whole, TARGET, at_least=False),
        measuring.row("test accuracy", [result["test"]["accuracy"]], ""),
    ]
    measuring.report("recipe_time", __doc__, rows)


if __name__ == "__main__":
    main()
