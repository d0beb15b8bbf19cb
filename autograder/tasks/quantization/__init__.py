"""Quantization: tasks 4.1 and 4.2."""

CHECKS = {
    "quantize": ("tensor", "channel", "constant", "bits"),
    "compress": ("names", "values", "statistics", "size"),
}
