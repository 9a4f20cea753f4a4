"""How far the algorithm's bound is above the norm that the theorem asks for.

The ratio is the infinity norm of the lifted matrix over the product of the
norms of its factors: see `keras_polynets.robustness.lifted_norms`.
"""

import dataclasses
import functools
import itertools

from training.tables import figure_curves
from training.tables.paper_table import PaperTable
from training.tables.text import cell
from training.tables.text import share_of_epochs

QUANTITIES = ("ratio", "ratio_without_constant", "theoretical", "algorithmic")


def measure(model):
    """Returns the norms of a dense polynomial network.

    Args:
        model: A network of `keras_polynets.models.PolynomialNet`.
    """
    from keras_polynets.robustness import lifted_norms

    layer = model.get_layer("polynomial")
    norms, plain = (lifted_norms(layer, constant=c) for c in (True, False))
    found = norms.ratio, plain.ratio, norms.theoretical, norms.algorithmic
    return dict(zip(QUANTITIES, found, strict=True))


@dataclasses.dataclass(frozen=True)
class TrainingFigure(PaperTable):
    """The ratio after every epoch of a training.

    Args:
        recipe: Name of the recipe without projection.
        projected: Name of the recipe with it.
    """

    recipe: str
    projected: str

    options = ("bounds", "epochs", "overrides", "scale", "seeds")

    def run(self, arguments, folder):
        """Trains, and returns the report.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of the runs.
        """
        from keras_polynets import recipes
        from keras_polynets.recipes.directory import RunDirectory

        curves = {}
        for name, recipe in self._recipes(arguments).items():
            histories = []
            for seed in range(recipe.seed, recipe.seed + arguments.seeds):
                path = folder / name.replace(" ", "-") / f"seed-{seed}"
                recipes.run(
                    recipe.replace({"seed": seed}),
                    path,
                    test=False,
                    measure=measure,
                )
                histories.append(RunDirectory(path).read_history())
            curves[name] = {
                key: figure_curves.spread_of_curves([h[key] for h in histories])
                for key in QUANTITIES
            }
        return self.report(
            curves=curves,
            epochs=recipe.epochs,
            start_epoch=recipe.projection.start_epoch,
            seeds=arguments.seeds,
            recipe=recipe.portable().to_dict(),
        )

    def _recipes(self, arguments):
        """Returns the recipes of the curves, by the curves' names."""
        from keras_polynets import recipes
        from keras_polynets.recipes.scaling import scaled

        plain, projected = (
            recipes.load(name, arguments.overrides).replace(
                {"evaluation.attacks": []}
            )
            for name in (self.recipe, self.projected)
        )
        share = share_of_epochs(plain, arguments)
        found = {"without projection": scaled(plain, share)}
        bounds = arguments.bounds or [projected.projection.max_value]
        for bound in bounds:
            changed = projected.replace({"projection.max_value": bound})
            found[f"bound {bound:g}"] = scaled(changed, share)
        return found

    def table(self, report):
        """Returns the table: the ratio after some of the epochs."""
        last = report["epochs"]
        epochs = sorted({max(1, round(last * q / 4)) for q in range(5)})
        rows = [["ratio", *(f"epoch {epoch}" for epoch in epochs)]]
        parts = {"ratio": "", "ratio_without_constant": ", U_n alone"}
        for name, found in report["curves"].items():
            for key, words in parts.items():
                cells = [
                    cell(figure_curves.point(found[key], epoch - 1), digits=4)
                    for epoch in epochs
                ]
                rows.append([name + words, *cells])
        return rows

    def draw(self, report):
        """Returns the figure."""
        from keras_polynets import _figures

        canvas = _figures.figure(6.4, 4.2)
        axes = canvas.subplots()
        epochs = range(1, report["epochs"] + 1)
        first = 0
        for color, (name, found) in zip(
            itertools.cycle(_figures.COLORS),
            report["curves"].items(),
            strict=False,
        ):
            shown = {k: v[first:] for k, v in found["ratio"].items()}
            line = {"color": color, "label": name}
            figure_curves.plot(axes, epochs[first:], shown, **line)
            # Before their projection the others are the first one.
            first = max(0, report["start_epoch"] - 1)
        if report["start_epoch"]:
            axes.axvline(
                report["start_epoch"] + 0.5,
                color="#777777",
                linestyle=":",
                label="projection begins",
            )
        axes.set(xlabel="Epoch", ylabel="Theoretical / algorithmic bound")
        axes.set_title("PN-4 on Fashion-MNIST", loc="left")
        axes.legend()
        return {"figure": canvas}


@dataclasses.dataclass(frozen=True)
class Networks:
    """Random networks of one panel.

    Args:
        title: What the panel is called.
        decomposition: `"ccp"` or `"ncp"`.
        inputs: The number of inputs.
        orders: The orders of the polynomials.
        scale: The scale of the panel's ratios, as Matplotlib calls it.
    """

    title: str
    decomposition: str
    inputs: int
    orders: tuple
    scale: str = "linear"

    def curve(self, order, ranks, draws, path):
        """Returns the ratios of an order: curves over the ranks.

        Args:
            order: Integer.
            ranks: The ranks.
            draws: How many networks are drawn for each.
            path: `pathlib.Path` of the ratios that are known.
        """
        points = [
            figure_curves.remembered(
                path,
                {
                    "decomposition": self.decomposition,
                    "inputs": self.inputs,
                    "order": order,
                    "rank": rank,
                    "draws": draws,
                },
                functools.partial(self._ratios, order, rank, draws),
            )
            for rank in ranks
        ]
        return {
            key: {
                part: [point[key][part] for point in points]
                for part in ("mean", "deviation")
            }
            for key in QUANTITIES[:2]
        }

    def _ratios(self, order, rank, draws):
        """Returns the mean and the deviation of the ratios of networks."""
        import keras

        from keras_polynets.models import PolynomialNet
        from keras_polynets.recipes.comparing import spread

        found = []
        for seed in range(draws):
            keras.utils.set_random_seed(seed)
            network = PolynomialNet(
                input_shape=(self.inputs,),
                decomposition=self.decomposition,
                order=order,
                rank=rank,
            )
            found.append(measure(network))
        summary = {}
        for key in QUANTITIES[:2]:
            summary[key] = spread([norms[key] for norms in found])
            del summary[key]["values"]
        return summary


@dataclasses.dataclass(frozen=True)
class RandomFigure(PaperTable):
    """The ratio of networks that were drawn and not trained.

    Args:
        panels: Sequence of `Networks`.
        ranks: The hidden ranks.
        draws: The number of networks of each kind.
    """

    panels: tuple
    ranks: tuple
    draws: int

    options = ("draws", "ranks")

    def run(self, arguments, folder):
        """Draws the networks, and returns the report.

        Args:
            arguments: Those of `training.reproduce`.
            folder: `pathlib.Path` of what is found.
        """
        draws = self.draws if arguments.draws is None else arguments.draws
        if draws < 1:
            raise ValueError(f"Needed is at least 1 draw. Received: {draws}")
        ranks = arguments.ranks or list(self.ranks)
        path = folder / "ratios.json"
        return self.report(
            panels=[
                {
                    "title": panel.title,
                    "scale": panel.scale,
                    "curves": {
                        f"order {order}": panel.curve(order, ranks, draws, path)
                        for order in panel.orders
                    },
                }
                for panel in self.panels
            ],
            ranks=ranks,
            draws=draws,
        )

    def table(self, report):
        """Returns the table: a row for each panel and order."""
        rows = [["ratio", *(f"rank {rank}" for rank in report["ranks"])]]
        for panel in report["panels"]:
            for name, found in panel["curves"].items():
                cells = [
                    _cell(figure_curves.point(found["ratio"], index))
                    for index in range(len(report["ranks"]))
                ]
                rows.append([f"{panel['title']}, {name}", *cells])
        return rows

    def draw(self, report):
        """Returns the figure."""
        from keras_polynets import _figures

        count = len(report["panels"])
        canvas = _figures.figure(3.4 * count, 3.8)
        panels = canvas.subplots(1, count, squeeze=False)[0]
        for axes, panel in zip(panels, report["panels"], strict=True):
            axes.set_xscale("log", base=2)
            axes.set(yscale=panel["scale"])
            axes.set_title(panel["title"], loc="left")
            axes.set(xlabel="Hidden rank", xticks=report["ranks"])
            axes.set_xticklabels(report["ranks"])
            for look, (name, found) in zip(
                _figures.looks(), panel["curves"].items(), strict=False
            ):
                figure_curves.plot(
                    axes,
                    report["ranks"],
                    found["ratio"],
                    label=name,
                    **look,
                )
            # No ratio is above 1.
            axes.set_ylim(top=1)
            axes.legend()
        panels[0].set_ylabel("Theoretical / algorithmic bound")
        return {"figure": canvas}


def _cell(found):
    """Returns the words of a ratio, which may be tiny."""
    if found["mean"] >= 0.001:
        return cell(found)
    deviation = found["deviation"]
    words = f"{found['mean']:.1e}"
    return words if deviation is None else f"{words} ± {deviation:.1e}"
