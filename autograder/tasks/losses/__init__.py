"""Chapter 2, knowledge distillation: the parts that each of its checks tells apart."""

CHECKS = {
    "kd_loss": ("values", "gradient", "confident", "shift", "teacher"),
    "distillation_step": ("student", "loss", "teacher"),
}
