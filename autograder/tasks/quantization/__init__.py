"""Chapter 4, quantization: the parts that each of its checks tells apart."""

CHECKS = {
    "quantize": ("tensor", "channel", "constant", "bits"),
    "compress": ("names", "values", "statistics", "size"),
}
