"""Published numbers come out of their recipes again."""

import pytest

from keras_polynets import recipes
from keras_polynets import zoo


@pytest.mark.slow
def test_pn4_is_retrained_to_its_published_accuracy(tmp_path):
    recipe = recipes.load("pn4.fashion_mnist", {"evaluation.attacks": []})
    try:
        result = recipes.run(recipe, tmp_path, verbose=0)
    except FileNotFoundError as error:
        pytest.skip(f"no Fashion-MNIST here: {error}")
    published = zoo.info("pn4.fashion_mnist")["tags"]["fashion_mnist"]
    accuracy = published["results"]["test"]["accuracy"]
    assert abs(result["test"]["accuracy"] - accuracy) < 0.005
