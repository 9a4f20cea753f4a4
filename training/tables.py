"""The tables that `training.reproduce` repeats."""

from training.bound_figures import Networks
from training.bound_figures import RandomFigure
from training.bound_figures import TrainingFigure
from training.comparison_tables import ComparisonTable
from training.comparison_tables import Figure
from training.comparison_tables import Row
from training.rank_figure import RankFigure
from training.steps_figure import Attacked
from training.steps_figure import StepsFigure
from training.sweep_tables import SweepTable

RATES = tuple({"optimizer.learning_rate": rate} for rate in (0.1, 0.05, 0.2))

LOW_RATES = tuple(
    {"optimizer.learning_rate": rate} for rate in (0.1, 0.03, 0.01)
)


def _factors(*factors):
    """Returns trials of ReLinear_sg: gate and power terms are alike."""
    keys = ("gate_factor", "power_factor")
    return tuple(
        {f"optimizer.relinear.{key}": factor for key in keys}
        for factor in factors
    )


def _shrinkages(kind, *amounts):
    """Returns trials of ReLinear_sw in the plain form of the paper."""
    return tuple(
        {
            "optimizer.relinear": {
                "gate_shrinkage": amount,
                "power_shrinkage": amount,
                "shrinkage": kind,
                "proximal": False,
            }
        }
        for amount in amounts
    )


FACTORS = _factors(1e-2, 1e-4, 1.0)
# From the first, the second and the third stage of the conventional network:
# its epochs, then those of the quadratic one, from the rate it has reached.
STAGES = tuple(
    {
        "transfer.epochs": before,
        "epochs": after,
        "optimizer.learning_rate": rate,
        "schedule": schedule,
        **FACTORS[0],
    }
    for before, after, rate, schedule in (
        (5, 5, 0.1, {"name": "step", "epochs": [1, 3]}),
        (8, 2, 0.01, {"name": "step", "epochs": [1]}),
        (9, 1, 0.001, {}),
    )
)

# Test errors of Table IV, in percent: a conventional network, and quadratic
# ones from a random initialisation, with ReZero and with weight transfer.
FULL_SCALE = {
    20: ("8.75", "7.78", "7.97", "7.17"),
    32: ("7.51", "7.18", "6.90", "6.38"),
    56: ("6.97", "6.43", "6.34", "6.22"),
}


def _full_scale_rows():
    rows = []
    for depth, errors in FULL_SCALE.items():
        plain, fresh, rezero, transfer = errors
        name = f"qresnet{depth}.cifar10"
        rows += [
            Row(f"ResNet{depth}", f"resnet{depth}.cifar10", paper=plain),
            Row(f"QResNet{depth}", name, paper=fresh),
            Row(f"QResNet{depth}, ReZero", f"{name}_rezero", paper=rezero),
            Row(
                f"QResNet{depth}, weight transfer",
                f"{name}_transfer",
                paper=transfer,
            ),
        ]
    return tuple(rows)


TABLES = {
    "table1-pn4": SweepTable(
        title="Zhu et al., ICLR 2022, Table 1: PN-4 on Fashion-MNIST",
        recipe="pn4.fashion_mnist_projected",
        attacks={
            "fgsm:0.1": "FGSM-0.1",
            "pgd:0.1,20,0.01": "PGD-(0.1, 20, 0.01)",
            "pgd:0.3,20,0.03": "PGD-(0.3, 20, 0.03)",
        },
        # The cells did not survive in the copy of the paper at hand.
        paper={},
        claims=(
            "without regularisation the accuracy decreases substantially "
            "under stronger attacks",
            "projection outperforms the other methods under every attack, and "
            "the more the stronger the attack",
            "projection does not hurt the clean accuracy at intermediate "
            "bounds",
        ),
    ),
    "qresnet20-cifar10-jpeg": ComparisonTable(
        title="Fan et al., 2021, Tables IV and V: QResNet20 on CIFAR-10 (a "
        "JPEG copy, half of the width, ten epochs)",
        paper_column="paper: test error (%), full scale",
        tuning_share=0.5,
        rows=(
            Row("ResNet20", "resnet20.cifar10_jpeg_w8", RATES, "8.75"),
            Row(
                "QResNet20, random initialisation",
                "qresnet20.cifar10_jpeg_w8",
                FACTORS,
                "7.78",
            ),
            Row(
                "QResNet20, ReZero",
                "qresnet20.cifar10_jpeg_w8_rezero",
                FACTORS,
                "7.97",
            ),
            Row(
                "QResNet20, weight transfer",
                "qresnet20.cifar10_jpeg_w8_transfer",
                STAGES,
                "7.17",
                # The stages are parts of the ten epochs.
                tuning_share=1.0,
            ),
            Row(
                "QResNet20, compact",
                "qresnet20.cifar10_jpeg_w8_compact",
                FACTORS,
                "7.76",
            ),
            Row(
                "parabolic",
                "qresnet20.cifar10_jpeg_w8_parabolic",
                FACTORS,
                "7.89",
            ),
            Row("poly", "qresnet20.cifar10_jpeg_w8_poly", FACTORS, "9.80"),
            Row(
                "sw-l1",
                "qresnet20.cifar10_jpeg_w8",
                _shrinkages("l1", 1e-6, 1e-5, 1e-4),
                runs=False,
            ),
            Row(
                "sw-l2",
                "qresnet20.cifar10_jpeg_w8",
                _shrinkages("l2", 1e-4, 1e-3, 1e-2),
                runs=False,
            ),
        ),
        claims=(
            "QResNet20 has a lower error than ResNet20, 7.78 % against 8.75 %, "
            "and weight transfer lowers it to 7.17 %",
            "training is unstable where the factors of ReLinear_sg are large; "
            "ReZero steadies it",
            "sw-l1 does not stabilise the training; sw-l2 does, and is less "
            "accurate than sg",
            "weights transferred from the first stage are the best",
        ),
        figures={
            "figure6": Figure(
                "ReLinear sg",
                ("QResNet20, random initialisation",),
                "trials",
            ),
            "figure7": Figure("ReLinear sw", ("sw-l1", "sw-l2"), "trials"),
            "figure8": Figure(
                "Weight transfer", ("QResNet20, weight transfer",), "trials"
            ),
            "figure9": Figure(
                "ReLinear sg and ReZero", ("QResNet20, ReZero",), "trials"
            ),
            "test_curves": Figure(
                "Test accuracy, mean and deviation over the seeds",
                (
                    "ResNet20",
                    "QResNet20, random initialisation",
                    "QResNet20, ReZero",
                    "QResNet20, compact",
                    "parabolic",
                    "poly",
                ),
                "runs",
            ),
        },
    ),
    "qresnet-cifar10": ComparisonTable(
        title="Fan et al., 2021, Table IV: quadratic networks on CIFAR-10, at "
        "full scale",
        paper_column="paper: test error (%)",
        rows=_full_scale_rows(),
        claims=(
            "quadratic networks have lower errors than conventional ones of "
            "the same depth, and weight transfer lowers them most",
        ),
        figures={
            f"test_curves_{depth}": Figure(
                f"Networks of {depth} layers",
                tuple(
                    row.name
                    for row in _full_scale_rows()
                    if f"ResNet{depth}" in row.name
                ),
                "runs",
            )
            for depth in FULL_SCALE
        },
    ),
    "prodpoly-cifar10-jpeg": ComparisonTable(
        title="Chrysos et al., CVPR 2020, Figure 8, and TPAMI 2021, Table 5: "
        "products of polynomials on CIFAR-10 (a JPEG copy, a quarter of the "
        "width, ten epochs)",
        paper_column="paper: test accuracy, full scale",
        tuning_share=0.3,
        rows=(
            Row("ResNet18", "resnet18.cifar10_jpeg_w16", LOW_RATES, ".945"),
            Row(
                "Prodpoly-ResNet18",
                "prodpoly_resnet18.cifar10_jpeg_w16",
                LOW_RATES,
                ".945",
            ),
            Row(
                "no activations, 1111",
                "resnet18_linear.cifar10_jpeg_w16_1111",
                LOW_RATES,
            ),
            *(
                Row(
                    f"no activations, 1111, order {order}",
                    "prodpoly_resnet18_linear."
                    f"cifar10_jpeg_w16_order{order}_1111",
                    LOW_RATES,
                )
                for order in (2, 3, 4, 5)
            ),
            Row(
                "no activations, 2222",
                "resnet18_linear.cifar10_jpeg_w16",
                LOW_RATES,
                ".391",
            ),
            Row(
                "no activations, 2222, order 2",
                "prodpoly_resnet18_linear.cifar10_jpeg_w16_order2",
                LOW_RATES,
            ),
        ),
        claims=(
            "Prodpoly-ResNet18 has the accuracy of ResNet18 with 46 % fewer "
            "parameters",
            "without activation functions products of polynomials come close "
            "to .945, and the network without them stays at .391",
            "a higher order is less accurate; the number of blocks matters "
            "little",
        ),
        figures={
            "figure8": Figure(
                "Without activation functions",
                (
                    "no activations, 1111",
                    *(
                        f"no activations, 1111, order {order}"
                        for order in (2, 3, 4, 5)
                    ),
                    "no activations, 2222, order 2",
                ),
                "runs",
            ),
            "figure9": Figure(
                "Test accuracy, mean and deviation over the seeds",
                ("ResNet18", "Prodpoly-ResNet18"),
                "runs",
            ),
        },
    ),
    "robustness-figure4": TrainingFigure(
        title="Zhu et al., ICLR 2022, Figure 4: the theoretical over the "
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
        title="Zhu et al., ICLR 2022, Figure 5: the theoretical over the "
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
        title="Zhu et al., ICLR 2022, Figure 6: PN-4 and PN-10 of several "
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
        title="Zhu et al., ICLR 2022, Figure 7: accuracy on Fashion-MNIST "
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
