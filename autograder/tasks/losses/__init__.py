"""Knowledge distillation: tasks 2.1 and 2.2."""

CHECKS = {
    "kd_loss": ("values", "gradient", "confident", "shift", "teacher"),
    "distillation_step": ("student", "loss", "teacher"),
}
