"""Tables and figures of the paper on quadratic networks."""

from training.tables.comparison import ComparisonTable
from training.tables.comparison import Figure
from training.tables.comparison import Measure
from training.tables.comparison import Row

RATES = tuple({"optimizer.learning_rate": rate} for rate in (0.1, 0.05, 0.2))
RATE_NAMES = ("rate .1", "rate .05", "rate .2")


def _factors(*factors):
    """Returns trials of ReLinear_sg: gate and power terms are alike."""
    keys = ("gate_factor", "power_factor")
    return tuple(
        {f"optimizer.relinear.{key}": factor for key in keys}
        for factor in factors
    )


FACTORS = _factors(1e-2, 1e-4, 1.0)
FACTOR_NAMES = ("factors .01", "factors .0001", "factors 1")
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

STAGE_NAMES = ("after 5 epochs", "after 8 epochs", "after 9 epochs")
SHRINKAGES = {"l1": (1e-6, 1e-5, 1e-4, 1e-3), "l2": (1e-4, 1e-3, 1e-2, 1e-1)}

# Test errors of Table IV, in percent: a conventional network, and quadratic
# ones from a random initialisation, with ReZero and with weight transfer.
FULL_SCALE = {
    20: ("8.75", "7.78", "7.97", "7.17"),
    32: ("7.51", "7.18", "6.90", "6.38"),
    56: ("6.97", "6.43", "6.34", "6.22"),
}


def _shrinkage_row(kind):
    """Returns the trials of ReLinear_sw in the plain form of the paper."""
    amounts = SHRINKAGES[kind]
    trials = tuple(
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
    names = tuple(f"shrinkage {amount:g}" for amount in amounts)
    return Row(
        f"sw-{kind}",
        "qresnet20.cifar10_jpeg_w8",
        trials,
        trial_names=names,
        runs=False,
    )


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
    "qresnet20-cifar10-jpeg": ComparisonTable(
        title="Fan et al., 2021, Tables IV and V: QResNet20 on CIFAR-10 (a "
        "JPEG copy, half of the width, ten epochs)",
        measures=(
            Measure("test error (%)", "test error (%), full scale", error=True),
        ),
        tuning_share=0.5,
        held_out={"data.validation": 5000},
        rows=(
            Row(
                "ResNet20",
                "resnet20.cifar10_jpeg_w8",
                RATES,
                "8.75",
                RATE_NAMES,
            ),
            Row(
                "ResNet20, wider",
                "resnet20.cifar10_jpeg_w14",
                RATES,
                trial_names=RATE_NAMES,
            ),
            Row(
                "QResNet20, random initialisation",
                "qresnet20.cifar10_jpeg_w8",
                FACTORS,
                "7.78",
                FACTOR_NAMES,
            ),
            Row(
                "QResNet20, ReZero",
                "qresnet20.cifar10_jpeg_w8_rezero",
                FACTORS,
                "7.97",
                FACTOR_NAMES,
            ),
            Row(
                "QResNet20, weight transfer",
                "qresnet20.cifar10_jpeg_w8_transfer",
                STAGES,
                "7.17",
                STAGE_NAMES,
                # The stages are parts of the ten epochs.
                tuning_share=1.0,
            ),
            Row(
                "QResNet20, compact",
                "qresnet20.cifar10_jpeg_w8_compact",
                FACTORS,
                "7.76",
                FACTOR_NAMES,
                tuning_share=0.3,
            ),
            Row(
                "parabolic",
                "qresnet20.cifar10_jpeg_w8_parabolic",
                FACTORS,
                "7.89",
                FACTOR_NAMES,
                tuning_share=0.3,
            ),
            Row(
                "poly",
                "qresnet20.cifar10_jpeg_w8_poly",
                FACTORS,
                "9.80",
                FACTOR_NAMES,
                tuning_share=0.3,
            ),
            _shrinkage_row("l1"),
            _shrinkage_row("l2"),
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
                    "ResNet20, wider",
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
        measures=(Measure("test error (%)", error=True),),
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
}
