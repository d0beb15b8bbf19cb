"""Chapter pruning: what a wrong function does, found out from its answers."""

from hw7.checks.diagnosis import Finder
from hw7.checks.diagnosis.pruning_beside import beside
from hw7.checks.diagnosis.pruning_finetuning import finetunings
from hw7.checks.diagnosis.pruning_importance import importances
from hw7.checks.diagnosis.pruning_schedule import schedules
from hw7.checks.diagnosis.pruning_selection import selections
from hw7.checks.diagnosis.pruning_slimming import slimmings

FINDERS: dict[Finder, tuple[str, ...]] = {  # with the calls whose answers each looks at
    beside: (
        "channel_importance",
        "select_channels",
        "slim",
        "slim_outputs",
        "slim_alone",
        "slim_in_use",
        "iterative_prune",
    ),
    importances: ("channel_importance",),
    selections: ("select_channels",),
    slimmings: ("slim", "slim_outputs", "slim_alone"),
    schedules: ("width_schedule", "iterative_prune"),
    finetunings: ("iterative_prune",),
}
