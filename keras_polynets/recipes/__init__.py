"""Recipes: from a file that says how a model is trained to a finished run."""

from keras_polynets.recipes.recipe import Recipe
from keras_polynets.recipes.recipe import load
from keras_polynets.recipes.running import run
from keras_polynets.recipes.sweeping import sweep

__all__ = ["Recipe", "load", "run", "sweep"]
