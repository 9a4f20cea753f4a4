"""The tables and figures that `training.reproduce` repeats."""

from training.tables import prodpoly
from training.tables import quadratic
from training.tables import robustness

TABLES = {**quadratic.TABLES, **prodpoly.TABLES, **robustness.TABLES}
