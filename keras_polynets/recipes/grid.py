"""The members of a grid of bounds: trained many at a time and measured."""

import numpy as np
from keras import ops

from keras_polynets import data
from keras_polynets import models
from keras_polynets import robustness
from keras_polynets import zoo
from keras_polynets.optimizers._delegating import innermost
from keras_polynets.recipes import building
from keras_polynets.recipes import examples
from keras_polynets.recipes.running import projection
from keras_polynets.recipes.sections import Augmentation


def check_recipe(recipe):
    """Raises a `ValueError` where a grid would train in another way.

    Args:
        recipe: The `Recipe` of the members.
    """
    optimizer, method = recipe.optimizer, recipe.projection
    needs = {
        "[projection] with 0 < start_epoch < epochs": method is not None
        and 0 < method.start_epoch < recipe.epochs,
        "data.validation above 0": recipe.holds_out,
        "plain SGD: no momentum, global_clipnorm or relinear": (
            optimizer.name.lower() == "sgd"
            and not optimizer.momentum
            and optimizer.global_clipnorm is None
            and optimizer.relinear is None
        ),
        "schedule.name 'constant' or 'step'": recipe.schedule.name
        in ("constant", "step"),
        "strategy = 'default'": recipe.strategy == "default",
        "no [adversarial], [jacobian], [stream] or [augmentation]": (
            recipe.adversarial is recipe.jacobian is recipe.stream is None
            and recipe.augmentation == Augmentation()
        ),
    }
    missing = [need for need, is_met in needs.items() if not is_met]
    if missing:
        raise ValueError(
            "A search of the bounds of layers needs a recipe with "
            f"{'; '.join(missing)}. Received the recipe {recipe.name!r} "
            "without."
        )


def layers_of(bounds):
    """Returns the bounds of `U_1, ..., U_N, C` as `projection.layers`."""
    *factors, output_map = bounds
    return {"factors": factors, "output_map": output_map}


class Grid:
    """The networks of one recipe that differ in the bounds of their layers.

    Args:
        recipe: The `Recipe`, which passes `check_recipe`.
        attack: Text of the attack that they are measured under.
        verbose: 0, 1 or 2.

    Raises:
        ValueError: If the model is no dense CCP network, or the attack is not
            known.
    """

    def __init__(self, recipe, attack, verbose):
        self.recipe, self.attack, self.verbose = recipe, attack, verbose
        building.fix_seeds(recipe)
        splits = examples.examples_of(recipe)
        self.network = building.network(recipe, splits.dataset)
        self.shape = _shape_of(self.network)
        self.order = self.shape["order"]
        self.x, self.y = self._inputs(splits.x), splits.y
        images, labels = splits.validation
        self.validation = self._inputs(images), labels
        # An attack that cannot run is an error before the training.
        self._accuracy(attack, tuple(part[:2] for part in self.validation))

    def start_from(self, path):
        """Sets the file of weights that all members start from."""
        zoo.weights.load_into(self.network, path)
        self.weights = self.network.get_weights()

    def measure(self, members, epochs):
        """Trains members at once and measures each.

        Args:
            members: List of tuples, the bounds of a member.
            epochs: The number of epochs with projection.

        Returns:
            Dictionary from the bounds to the pair of the accuracy and the
            robust accuracy on the validation set, 0 for members that diverge.
        """
        trained = self.train(members, epochs)
        return dict(zip(members, map(self._measured, trained), strict=True))

    def _measured(self, weights):
        if not all(np.isfinite(weight).all() for weight in weights):
            return 0.0, 0.0
        self.network.set_weights(weights)
        return tuple(
            self._accuracy(attack, self.validation)
            for attack in (None, self.attack)
        )

    def train(self, members, epochs):
        """Trains members at once, from the first epoch with projection on.

        Args:
            members: List of tuples, the bounds of a member.
            epochs: The number of epochs.

        Returns:
            List of the weights of each member.
        """
        recipe = self.recipe
        start = recipe.projection.start_epoch
        steps = -(-len(self.y) // recipe.batch_size)
        stack = models.PolynomialNetStack(len(members), **self.shape)
        stack.set_members([self.weights] * len(members))
        bounds = stack.projection_bounds([layers_of(m) for m in members])
        zoo.compile_model(
            stack,
            building.optimizer_table(recipe, steps),
            steps_per_execution=building.choose_steps_per_execution(
                recipe, steps, 0
            ),
            jit_compile=False if recipe.deterministic else "auto",
        )
        innermost(stack.optimizer).iterations.assign(start * steps)
        stack.fit(
            data.Batches(
                self.x, self.y, recipe.batch_size, recipe.seed, start * steps
            ),
            initial_epoch=start,
            epochs=start + epochs,
            callbacks=projection(recipe.replace({"projection.layers": bounds})),
            verbose=self.verbose,
        )
        return stack.get_members()

    def _inputs(self, images):
        return ops.convert_to_numpy(self.network.preprocessor(images))

    def _accuracy(self, attack, examples):
        return robustness.robust_accuracy(
            self.network,
            examples,
            attack,
            batch_size=self.recipe.evaluation.batch_size,
            verbose=0,
        )


def _shape_of(network):
    """Returns the arguments of `PolynomialNetStack` for such networks."""
    config = network.get_config()
    if (
        not isinstance(network, models.PolynomialNet)
        or config["decomposition"] != "ccp"
    ):
        raise ValueError(
            "A search of the bounds of layers takes models that are one dense "
            "CCP layer, such as 'pn4' and 'pn10'. Received the model "
            f"{network.name!r}."
        )
    arguments = ("input_shape", "classes", "order", "rank", "use_factor_bias")
    return {key: config[key] for key in (*arguments, "dtype")}
