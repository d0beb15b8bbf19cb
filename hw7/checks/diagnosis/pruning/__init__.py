"""Chapter pruning: which channels were taken, of which ranking, and which tensors were left as they were.

importance, selection, schedule   the rules of tasks 3.1, 3.2 and 3.4
slimming, results                 what each tensor of a slimmed network holds
finetuning                        the chain of task 3.5
beside                            what was done beside the answer: flags, storage, the given model
answers                           reading an answer, which may be anything
"""

from hw7.checks.diagnosis.frame import Finder
from hw7.checks.diagnosis.pruning.beside import beside
from hw7.checks.diagnosis.pruning.finetuning import finetunings
from hw7.checks.diagnosis.pruning.importance import importances
from hw7.checks.diagnosis.pruning.schedule import schedules
from hw7.checks.diagnosis.pruning.selection import selections
from hw7.checks.diagnosis.pruning.slimming import slimmings

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
