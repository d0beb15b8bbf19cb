"""Networks by design: tasks 1.1 to 1.3. To the oracle they are lists of layers."""

CHECKS = {
    "depthwise_separable": ("structure", "output"),
    "small_resnet18": ("parameters", "output", "classes"),
    "students": ("cnn_parameters", "cnn_output", "dw_parameters", "dw_output"),
}
