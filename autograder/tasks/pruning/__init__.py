"""Chapter 3, network slimming: the parts that each of its checks tells apart."""

CHECKS = {
    "channel_importance": ("values", "detached"),
    "select_channels": ("values", "ties", "bounds"),
    "network_slimming": ("channels", "dead", "copy", "refusals"),
    "width_schedule": ("ladders", "floor", "refusals"),
    "iterative_prune": ("schedule", "chain", "unchanged"),
}
