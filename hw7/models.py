"""The networks that are given: the teacher, the prunable student of question 3, and question 4's rivals of equal size.

Every network takes float32 images [N, 3, H, W] in [0, 1] and gives logits [N, num_classes].
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hw7 import HW7Error

if TYPE_CHECKING:
    from hw7.support.torchvision_import import ResNet

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STUDENT_WIDTHS = (16, 32, 64, 128, 256, 256, 256, 256)


def teacher_resnet18(num_classes: int = 11, weights: str | None = None) -> "ResNet":
    """torchvision's ResNet-18 with `num_classes` outputs: 11,182,155 parameters for 11 classes.

    `weights="imagenet"` starts from torchvision's ImageNet weights (IMAGENET1K_V1) with a new last layer. Their input
    normalisation is folded into the first convolution and batch norm, so that this network, too, takes images in
    [0, 1]; only at the zero-padded border does that differ from normalising first.

    Raises HW7Error where the weights cannot be reached, or are not known.
    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
    """
    # Here: nothing else needs torchvision, which takes a second.
    from hw7.support.torchvision_import import ResNet18_Weights, resnet18

    if weights is None:
        return resnet18(num_classes=num_classes)
    if weights != "imagenet":
        raise HW7Error(f"teacher_resnet18: weights={weights!r} is not known; take None or 'imagenet'")
    source = ResNet18_Weights.IMAGENET1K_V1
    try:
        network = resnet18(weights=source)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:  # no network, or half a file
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise HW7Error(
            f"the ImageNet weights could not be had ({error}). Fetch {source.url} where there is a network and put the "
            f"whole file into {folder}, or pretrain on plates: hw7 train teacher --split pretraining"
        ) from error
    _fold_normalisation(network.conv1, network.bn1)
    network.fc = nn.Linear(network.fc.in_features, num_classes)
    return network


@torch.no_grad()
def _fold_normalisation(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> None:
    """conv((x - mean) / std) = conv'(x) - shift, and a batch norm takes a shift of its input in its running mean."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    conv.weight /= std[:, None, None]
    assert bn.running_mean is not None
    bn.running_mean += (conv.weight.sum(dim=(2, 3)) * mean).sum(dim=1)


class Stem(nn.Module):
    """Stage 0 of StudentNet: conv 3x3 -> BN -> ReLU6. [N, 3, H, W] -> [N, C, H, W]."""

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, out_channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, images: Tensor) -> Tensor:
        return F.relu6(self.bn(self.conv(images)))

    def extra_repr(self) -> str:
        return "(conv) -> (bn) -> ReLU6"


class Block(nn.Module):
    """A stage of StudentNet: DW 3x3 -> BN -> ReLU6 -> PW 1x1; nothing after the pointwise convolution.

    Its batch norm sees the channels that come IN: they are the outputs of the stage before.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels)
        self.bn = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(F.relu6(self.bn(self.depthwise(x))))

    def extra_repr(self) -> str:
        return "(depthwise) -> (bn) -> ReLU6 -> (pointwise)"


class StudentNet(nn.Module):
    """Question 3's network, with as many channels in each stage as `widths` says; 256,779 parameters as given.

    Stage 0 is `stem`, stage k = 1..7 is `blocks[k - 1]`, then global average pooling and `fc`. 2x2 max pooling follows
    stages 0 to 3. `widths[k]` is the number of channels that stage k puts out; it is saved with the weights (buffer
    `stage_widths`, int64 [8]), so that `from_state_dict` can rebuild a pruned network.
    """

    stem: Stem
    blocks: Sequence[Block]
    fc: nn.Linear
    stage_widths: Tensor

    def __init__(self, widths: Sequence[int] = STUDENT_WIDTHS, num_classes: int = 11) -> None:
        super().__init__()
        widths = tuple(int(width) for width in widths)
        if len(widths) != len(STUDENT_WIDTHS) or min(widths) < 1:
            raise HW7Error(f"StudentNet: widths must be {len(STUDENT_WIDTHS)} numbers of at least 1, got {widths}")
        self.stem = Stem(widths[0])
        self.blocks = nn.ModuleList(Block(*pair) for pair in pairwise(widths))  # type: ignore[assignment]
        self.fc = nn.Linear(widths[-1], num_classes)
        self.register_buffer("stage_widths", torch.tensor(widths))
        self.widths: tuple[int, ...] = widths

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor]) -> Self:
        """The network that these weights belong to, pruned or not, with the weights in it."""
        try:
            network = cls(state_dict["stage_widths"].tolist(), num_classes=len(state_dict["fc.bias"]))
            network.load_state_dict(state_dict)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise HW7Error(f"these are not the weights of a StudentNet: {error}") from error
        return network

    def forward(self, images: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(images), 2)
        for stage, block in enumerate(self.blocks, start=1):
            x = block(x)
            if stage <= 3:
                x = F.max_pool2d(x, 2)
        return self.fc(x.mean(dim=(2, 3)))

    def extra_repr(self) -> str:
        return "(stem) and (blocks) 0 to 2, each -> MaxPool2d(2); (blocks) 3 to 6 -> mean over the map -> (fc)"


ConvBlock = Callable[[int, int, int], nn.Module]
"""(in_channels, out_channels, stride) -> a module [N, in, H, W] -> [N, out, ceil(H / stride), ceil(W / stride)]."""


def grouped_convolution(groups: int) -> ConvBlock:
    """Conv 3x3 in `groups` groups (1: the plain convolution), no bias -> BN -> ReLU."""

    def block(in_channels: int, out_channels: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())

    return block


def stacked_convolutions(block: ConvBlock, width: int, num_classes: int = 11) -> nn.Module:
    """Question 4's network: a plain stem, seven blocks of one kind, global average pooling, a linear layer.

    Depth, strides and the growth of the widths are those of the 274,763-parameter student; `width` is the stem's.
    """
    growth = ((1, 2, 1), (2, 4, 2), (4, 4, 1), (4, 8, 2), (8, 8, 1), (8, 8, 1), (8, 8, 1))
    blocks = [block(width * before, width * after, stride) for before, after, stride in growth]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * growth[-1][1], num_classes))
    return nn.Sequential(grouped_convolution(1)(3, width, 2), *blocks, *head)


class AtSize(nn.Module):
    """A network that sees its images at the side length it was trained at, whatever their size; area resampling."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.size:
            images = F.adaptive_avg_pool2d(images, self.size)
        return cast(Tensor, self.network(images))
