"""The tables and figures that `training.reproduce` repeats."""

from training import appendix_registry
from training import prodpoly_tables
from training import quadratic_tables
from training import robustness_registry

TABLES = {
    **quadratic_tables.TABLES,
    **prodpoly_tables.TABLES,
    **robustness_registry.TABLES,
    **appendix_registry.TABLES,
}
