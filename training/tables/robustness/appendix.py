"""Figures 4 to 7 of the robustness paper, of its Appendix H.1 to H.3."""

from training.tables.robustness.lifted_bounds import Networks
from training.tables.robustness.lifted_bounds import RandomFigure
from training.tables.robustness.lifted_bounds import TrainingFigure
from training.tables.robustness.ranks import RankFigure
from training.tables.robustness.registry import PAPER
from training.tables.robustness.steps import Attacked
from training.tables.robustness.steps import StepsFigure

TABLES = {
    "robustness-figure4": TrainingFigure(
        title=f"{PAPER}, Figure 4: the theoretical over the "
        "algorithmic bound while PN-4 is trained on Fashion-MNIST",
        claims=(
            "the algorithm bounds the product of the norms of the factors, an "
            "upper bound of the norm of their face-splitting product; the "
            "ratio says how tight it is",
        ),
        notes=(
            "the matrices have the row and the column of the constant, which "
            "absorb the skips; 'U_n alone' leaves them out",
            "where the projection makes the rows of every U_n equally long, "
            "the ratio is 1",
        ),
        recipe="pn4.fashion_mnist",
        projected="pn4.fashion_mnist_projected",
    ),
    "robustness-figure5": RandomFigure(
        title=f"{PAPER}, Figure 5: the theoretical over the "
        "algorithmic bound of networks that are not trained",
        claims=(
            "it names the ratio for randomly initialised matrices, and makes "
            "no claim of it",
        ),
        notes=(
            "weights are drawn as those of PN-4 and NCP-4: factors uniform in "
            "±1/√inputs, states of NCP by Glorot, its constants 1",
            "mean and deviation over the draws",
        ),
        panels=(
            Networks("CCP, 784 inputs", "ccp", 784, (2, 4, 6, 8, 10)),
            Networks("CCP, 8 inputs", "ccp", 8, (2, 3, 4, 5, 6)),
            # The lifted matrix of NCP has a column for every monomial.
            Networks("NCP, 8 inputs", "ncp", 8, (2, 3, 4, 5, 6), "log"),
        ),
        ranks=(2, 4, 8, 16, 32, 64),
        draws=100,
    ),
    "robustness-figure6": RankFigure(
        title=f"{PAPER}, Figure 6: PN-4 and PN-10 of several "
        "hidden ranks on Fashion-MNIST",
        claims=(
            "PN-10 is more accurate on the training set than PN-4, and as "
            "accurate on the test set",
            "a higher rank raises the accuracy on the training set, but not "
            "on the test set",
        ),
        notes=(
            "all 60,000 training images train, and the weights after the last "
            "epoch are measured: nothing is selected",
        ),
        models={"PN-4": "pn4.fashion_mnist", "PN-10": "pn10.fashion_mnist"},
        ranks=(2, 4, 8, 16, 32, 64),
    ),
    "robustness-figure7": StepsFigure(
        title=f"{PAPER}, Figure 7: accuracy on Fashion-MNIST "
        "under PGD against the number of steps",
        claims=(
            "from some number of steps on (lost in the copy at hand) the "
            "accuracy does not vary significantly: the projection holds "
            "against stronger attacks",
            "PN-4 and PN-Conv behave alike",
        ),
        notes=(
            "ε = 0.1 in units of the input; at the step size 0.01 fewer than "
            "10 steps do not reach that distance, at 2.5 ε / steps all do",
            "of Fashion-MNIST, the first of the 2,000 embedded test images are "
            "attacked",
            "the first seed is the published one; of PN-Conv there is no other",
        ),
        attacked=(
            Attacked("PN-4", False, "pn4.fashion_mnist"),
            Attacked("PN-4", True, "pn4.fashion_mnist_projected"),
            # A training takes 20 minutes, so that there is one seed.
            *(
                Attacked(
                    "PN-Conv",
                    projected,
                    f"pn_conv.fashion_mnist{'_projected' * projected}",
                    images=500,
                    most_seeds=1,
                )
                for projected in (False, True)
            ),
        ),
    ),
}
