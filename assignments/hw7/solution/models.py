"""Task 1, compact networks by design, and task 5.2, the network that is handed in."""

from torch import nn

from hw7.models import StudentNet, teacher_resnet18  # noqa: F401 (you will need it)


def depthwise_separable(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """Task 1.1: a depthwise 3x3 convolution and a pointwise 1x1 convolution in place of one full convolution.

    DW 3x3 (padding 1, no bias, carries the stride) -> BN -> ReLU -> PW 1x1 (no bias) -> BN -> ReLU.

    Shapes: [N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)].
    Source: Howard et al., "MobileNets", 2017, figure 3.
    """
    raise NotImplementedError("Task 1.1: depthwise_separable")


def small_resnet18(num_classes: int = 11) -> nn.Module:
    """Task 1.2: ResNet-18 whose 3x3 convolutions are made depthwise + pointwise; 1,454,603 parameters.

    Every 3x3 convolution inside a BasicBlock becomes DW 3x3 (no bias) -> BN -> ReLU -> PW 1x1 (no bias); the block's
    own batch norm follows, as before. The 7x7 stem and the 1x1 downsamples stay.

    Shapes: [N, 3, H, W] -> [N, num_classes].
    """
    raise NotImplementedError("Task 1.2: small_resnet18")


def student_cnn(num_classes: int = 11) -> nn.Module:
    """Task 1.3: the plain CNN student of question 1; 1,720,107 parameters.

    Seven 3x3 convolutions (padding 1, no bias), each followed by BN and ReLU6: channels 32, 64, 128, 128, 256, 256,
    256 with strides 2, 1, 2, 1, 2, 1, 1; 2x2 max pooling after each of the first three; global average pooling;
    a linear layer.

    Shapes: [N, 3, H, W] -> [N, num_classes], H and W at least 32.
    """
    raise NotImplementedError("Task 1.3: student_cnn")


def student_dw(num_classes: int = 11) -> nn.Module:
    """Task 1.3: the depthwise + pointwise student of question 2; 274,763 parameters.

    A 3x3 convolution 3 -> 32 (stride 2, padding 1, no bias) with BN and ReLU; seven blocks of task 1.1 with channels
    64, 128, 128, 256, 256, 256, 256, the second and the fourth with stride 2; global average pooling; a linear layer.

    Shapes: [N, 3, H, W] -> [N, num_classes], H and W at least 32.
    """
    raise NotImplementedError("Task 1.3: student_dw")


def final_model(num_classes: int = 11) -> nn.Module:
    """Task 5.2: the network you hand in; its weights, compressed, are `weights.safetensors` (at most 300,000 bytes).

    Input float32 [N, 3, 128, 128] in [0, 1], output logits [N, num_classes]. Whatever your network does to its input
    first (normalising, resizing) is part of it.
    """
    raise NotImplementedError("Task 5.2: final_model")
