"""Chapter 1, networks by design: the parts that each of its checks tells apart."""

CHECKS = {
    "depthwise_separable": ("structure", "output"),
    "small_resnet18": ("parameters", "output", "classes"),
    "students": ("cnn_parameters", "cnn_output", "dw_parameters", "dw_output"),
}
