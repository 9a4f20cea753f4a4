"""Tables and figures of the robustness paper, from runs that they share."""

from training.tables.robustness import appendix
from training.tables.robustness import registry

TABLES = {**registry.TABLES, **appendix.TABLES}
