"""The tables of the papers on products of polynomials."""

import dataclasses

from training.tables.comparison import ComparisonTable
from training.tables.comparison import Figure
from training.tables.comparison import Measure
from training.tables.comparison import Row

CURVES = "Test accuracy, mean and deviation over the seeds"
ACCURACY = Measure(paper="test accuracy")
TOP_ERRORS = (
    Measure("top-1 error (%)", error=True),
    Measure("top-5 error (%)", top=5, error=True),
)
TOP_ACCURACIES = (
    Measure("top-1 accuracy (%)"),
    Measure("top-5 accuracy (%)", top=5),
)


def _rates(*rates):
    """Returns trials of the learning rate."""
    return tuple({"optimizer.learning_rate": rate} for rate in rates)


RATES = _rates(0.1, 0.03, 0.01, 0.003)
SPEECH_RATES = _rates(0.03, 0.01, 0.003, 0.001)
PAIR = ("ResNet18", "Prodpoly-ResNet18")
ORDERS = (2, 3, 4, 5)
LINEAR_CLAIMS = (
    "without activation functions products of polynomials come close "
    "to .945, and the network without them stays at .391",
    "a higher order is less accurate; the number of blocks matters little",
)


def _linear_rows(tag, trials=({},), deep=ORDERS):
    """Returns the rows of the products without activation functions.

    Args:
        tag: The tag of the recipes, without the orders.
        trials: The trials of each row.
        deep: The orders of the networks of eight blocks.
    """
    return tuple(
        Row(
            f"no activations, {blocks}, order {order}",
            f"prodpoly_resnet18_linear.{tag}_order{order}{suffix}",
            trials,
        )
        for blocks, suffix, orders in (
            ("1111", "_1111", ORDERS),
            ("2222", "", deep),
        )
        for order in orders
    )


def _normalized_rows(tag, trials=({},)):
    """Returns rows with a batch normalisation behind every product."""
    return tuple(
        dataclasses.replace(
            row,
            name=f"{row.name}, normalized",
            recipe=f"{row.recipe}_normalized",
        )
        for row in _linear_rows(tag, trials, deep=(2,))
    )


def _figure8(plain):
    """Returns the figure of the products that train, `plain` beside them."""
    bare = _linear_rows("")[0].name
    rows = (plain, bare, *(row.name for row in _normalized_rows("")))
    return Figure("Without activation functions", rows, "runs")


# Of the spoken digits. The speaker who validates is no test's.
SPEAKERS = ("theo", "jackson", "lucas", "nicolas", "yweweler")
DIGIT_FOLDS = {
    "index": ({},),
    "speaker": tuple(
        {"data.split": f"speaker:{speaker}"} for speaker in SPEAKERS
    ),
}
DIGITS_HELD_OUT = {
    "index": {"data.validation": 300},
    "speaker": {
        "data.split": f"speaker:{SPEAKERS[0]},george",
        "data.own_validation": True,
    },
}


def _digit_rows():
    return tuple(
        Row(
            f"{label}, by {split}",
            f"{model}.fsdd_w16_{split}",
            SPEECH_RATES,
            ".951",
            folds=folds,
            held_out=DIGITS_HELD_OUT[split],
        )
        for split, folds in DIGIT_FOLDS.items()
        for label, model in (
            ("ResNet34", "resnet34_speech"),
            ("Prodpoly-ResNet34", "prodpoly_resnet34_speech"),
        )
    )


def _plain_table(title, rows, claims, *measures, **curves):
    """Returns a table at full scale, its one figure that of all its rows.

    Args:
        title: As of the table.
        rows: Tuples of a name, a recipe and the paper's numbers.
        claims: As of the table.
        *measures: Those of the table.
        **curves: Further arguments of the figure.
    """
    rows = tuple(Row(*row[:2], paper=row[2:]) for row in rows)
    names = tuple(row.name for row in rows)
    figures = {"test_curves": Figure(CURVES, names, "runs", **curves)}
    return ComparisonTable(
        title=title,
        rows=rows,
        measures=measures or (ACCURACY,),
        claims=claims,
        figures=figures,
    )


TABLES = {
    "prodpoly-cifar10-jpeg": ComparisonTable(
        title="Chrysos et al., CVPR 2020, Figure 8, and TPAMI 2021, Table 5: "
        "products of polynomials on CIFAR-10 (a JPEG copy, a quarter of the "
        "width, ten epochs)",
        measures=(Measure(paper="test accuracy, full scale"),),
        tuning_share=0.3,
        held_out={"data.validation": 5000},
        rows=(
            Row("ResNet18", "resnet18.cifar10_jpeg_w16", RATES, ".945"),
            Row(
                "Prodpoly-ResNet18",
                "prodpoly_resnet18.cifar10_jpeg_w16",
                RATES,
                ".945",
            ),
            Row(
                "no activations, 1111",
                "resnet18_linear.cifar10_jpeg_w16_1111",
                RATES,
            ),
            Row(
                "no activations, 2222",
                "resnet18_linear.cifar10_jpeg_w16",
                RATES,
                ".391",
            ),
            *_linear_rows("cifar10_jpeg_w16", RATES, deep=(2,)),
            *_normalized_rows("cifar10_jpeg_w16", RATES),
        ),
        claims=(
            "Prodpoly-ResNet18 has the accuracy of ResNet18 with 46 % fewer "
            "parameters",
            *LINEAR_CLAIMS,
        ),
        figures={
            "figure8": _figure8("no activations, 1111"),
            "figure9": Figure(CURVES, PAIR, "runs"),
        },
    ),
    "prodpoly-fsdd": ComparisonTable(
        title="Chrysos et al., TPAMI 2021, Table 4: products of polynomials on "
        "spoken digits (Free Spoken Digit Dataset, a quarter of the width, 30 "
        "epochs). By speaker another speaker tests with every seed: "
        f"{', '.join(SPEAKERS)}",
        measures=(
            Measure(paper="test accuracy, Speech Commands at full scale"),
        ),
        tuning_share=0.5,
        rows=_digit_rows(),
        claims=(
            "Prodpoly-ResNet34 has the accuracy of ResNet34 with 38 % fewer "
            "parameters",
            "over all pairs of the papers: the same accuracy with 30 to 46 % "
            "fewer parameters",
        ),
        figures={
            f"figure9_{split}": Figure(
                f"{CURVES}, by {split}",
                tuple(
                    row.name
                    for row in _digit_rows()
                    if row.name.endswith(split)
                ),
                "runs",
            )
            for split in DIGIT_FOLDS
        },
    ),
    "prodpoly-cifar10": ComparisonTable(
        title="Chrysos et al., CVPR 2020, Figure 8, and TPAMI 2021, Table 5: "
        "products of polynomials on CIFAR-10, at full scale",
        measures=(ACCURACY,),
        rows=(
            Row("ResNet18", "resnet18.cifar10", paper=".945 ± .000"),
            Row(
                "Prodpoly-ResNet18",
                "prodpoly_resnet18.cifar10",
                paper=".945 ± .001",
            ),
            Row("ResNet34", "resnet34.cifar10", paper=".948 ± .001"),
            Row(
                "Prodpoly-ResNet34",
                "prodpoly_resnet34.cifar10",
                paper=".949 ± .002",
            ),
            Row(
                "no activations, 2222", "resnet18_linear.cifar10", paper=".391"
            ),
            *_linear_rows("cifar10"),
            *_normalized_rows("cifar10"),
        ),
        claims=(
            "each Prodpoly-ResNet has the accuracy of its ResNet with about "
            "40 % fewer parameters",
            *LINEAR_CLAIMS,
        ),
        figures={
            "figure8": _figure8("no activations, 2222"),
            "figure9": Figure(CURVES, PAIR, "runs"),
        },
    ),
    "prodpoly-cifar100": _plain_table(
        "Chrysos et al., TPAMI 2021, Table 6: products of polynomials on "
        "CIFAR-100, at full scale",
        (
            ("ResNet34", "resnet34.cifar100", ".769 ± .003"),
            (
                "Prodpoly-ResNet34",
                "prodpoly_resnet34_cifar100.cifar100",
                ".769 ± .001",
            ),
        ),
        ("the same accuracy with about 30 % fewer parameters",),
    ),
    "prodpoly-cifar100-linear": ComparisonTable(
        title="Chrysos et al., CVPR 2020, Figure 8: products of polynomials "
        "without activation functions on CIFAR-100, at full scale",
        measures=(ACCURACY,),
        rows=(
            Row("ResNet18", "resnet18.cifar100", paper=".769"),
            Row(
                "no activations, 2222",
                "resnet18_linear.cifar100",
                paper=".168",
            ),
            *_linear_rows("cifar100"),
            *_normalized_rows("cifar100"),
        ),
        claims=(
            "without activation functions products of polynomials come close "
            "to .769, and the network without them stays at .168",
            *LINEAR_CLAIMS[1:],
        ),
        figures={"figure8": _figure8("no activations, 2222")},
    ),
    "prodpoly-speech": _plain_table(
        "Chrysos et al., TPAMI 2021, Table 4: products of polynomials on "
        "Speech Commands, at full scale; the set's own validation recordings "
        "say where the accuracy is on a plateau",
        (
            ("ResNet34", "resnet34_speech.speech_commands", ".951 ± .002"),
            (
                "Prodpoly-ResNet34",
                "prodpoly_resnet34_speech.speech_commands",
                ".951 ± .002",
            ),
        ),
        ("the same accuracy with 38 % fewer parameters",),
        metric="val_accuracy",
    ),
    "prodpoly-imagenet-cvpr": _plain_table(
        "Chrysos et al., CVPR 2020, Table 4: products of polynomials on "
        "ImageNet, at full scale",
        (
            ("ResNet50", "resnet50.imagenet_cvpr", "23.570", "6.838"),
            (
                "Prodpoly-ResNet50",
                "prodpoly_resnet50.imagenet_cvpr",
                "22.875",
                "6.358",
            ),
        ),
        ("Prodpoly-ResNet50 has a lower error than ResNet50",),
        *TOP_ERRORS,
        error=True,
    ),
    "prodpoly-imagenet": _plain_table(
        "Chrysos et al., TPAMI 2021, Table 7 and Figure 10: products of "
        "polynomials on ImageNet, at full scale",
        (
            ("ResNet50", "resnet50.imagenet_tpami", "23.546", "6.904"),
            (
                "Prodpoly-ResNet50",
                "prodpoly_resnet50.imagenet_tpami",
                "22.827",
                "6.431",
            ),
        ),
        (
            "Prodpoly-ResNet50 has a top-1 error that is 0.719 points lower, "
            "for a negligible cost",
        ),
        *TOP_ERRORS,
        error=True,
    ),
    "pinet18-imagenet": _plain_table(
        "The released logs of Chrysos et al., TPAMI 2021: ImageNet without "
        "activation functions, at full scale",
        (
            ("ResNet18", "resnet18.imagenet", "69.90", "89.43"),
            (
                "ResNet18, no ReLU",
                "resnet18_linear.imagenet",
                "18.348",
                "36.718",
            ),
            ("Π-net18, no ReLU", "pinet18.imagenet", "63.666", "84.340"),
            (
                "Π-net18, 1×1, no ReLU",
                "pinet18.imagenet_1x1",
                "65.306",
                "85.830",
            ),
            ("Π-net18, ReLU", "pinet18.imagenet_relu", "70.350", "89.434"),
            (
                "Π-net18, 1×1, ReLU",
                "pinet18.imagenet_1x1_relu",
                "71.644",
                "90.232",
            ),
        ),
        (
            "without activation functions products of polynomials come close "
            "to the network that has them",
        ),
        *TOP_ACCURACIES,
    ),
}
