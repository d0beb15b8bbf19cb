"""Network slimming: tasks 3.1 to 3.5."""

CHECKS = {
    "channel_importance": ("values", "detached"),
    "select_channels": ("values", "ties", "bounds"),
    "network_slimming": ("channels", "dead", "copy", "refusals"),
    "width_schedule": ("ladders", "floor", "refusals"),
    "iterative_prune": ("schedule", "chain", "unchanged"),
}
