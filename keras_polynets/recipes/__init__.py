"""Recipes: from a file that says how a model is trained to a finished run."""

from keras_polynets.recipes.comparing import Contender
from keras_polynets.recipes.comparing import compare
from keras_polynets.recipes.recipe import Recipe
from keras_polynets.recipes.recipe import load
from keras_polynets.recipes.running import run
from keras_polynets.recipes.searching import search_layer_bounds
from keras_polynets.recipes.sweeping import sweep

__all__ = [
    "Contender",
    "Recipe",
    "compare",
    "load",
    "run",
    "search_layer_bounds",
    "sweep",
]
