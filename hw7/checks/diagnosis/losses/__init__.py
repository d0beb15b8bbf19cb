"""Chapter losses: the formula of a wrong loss, and the update that a wrong step makes.

loss      the finders of task 2.1; formula searches, terms names what a formula may be made of
steps     those of task 2.2; updates has what a step may have done to the weights
"""

from hw7.checks.diagnosis.frame import Finder
from hw7.checks.diagnosis.losses.loss import OF_ARGUMENTS, arguments, loss_formula
from hw7.checks.diagnosis.losses.steps import many_steps, one_step

FINDERS: dict[Finder, tuple[str, ...]] = {  # with the calls whose answers each looks at
    loss_formula: ("kd_value", "kd_gradient", *OF_ARGUMENTS),
    arguments: OF_ARGUMENTS,
    one_step: ("distillation_step",),
    many_steps: ("distillation_step", "distillation_steps"),
}
