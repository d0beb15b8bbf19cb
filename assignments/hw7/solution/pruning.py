"""Task 3, structured pruning by batch-norm scale: rank the channels, keep the best, cut the rest out of the network."""

from collections.abc import Callable, Sequence

import torch  # noqa: F401 (you will need it)
from torch import Tensor, nn

from hw7.models import StudentNet

PRUNED_STAGES = range(3, 7)


def channel_importance(bn: nn.BatchNorm2d) -> Tensor:
    """Task 3.1: how much each channel of a batch norm matters: the absolute value of its scale, [C], detached.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    """
    raise NotImplementedError("Task 3.1: channel_importance")


def select_channels(importance: Tensor, keep: int) -> Tensor:
    """Task 3.2: the `keep` most important channels, int64 [keep], in ascending order of their index.

    Of equally important channels the one with the lower index stays.

    Shapes: importance [C]. Raises ValueError where keep is outside 1..C.
    """
    raise NotImplementedError("Task 3.2: select_channels")


def network_slimming(model: StudentNet, widths: Sequence[int]) -> StudentNet:
    """Task 3.3: a new StudentNet of these widths, made of the model's most important channels.

    The channels that stay in stage k are those that `select_channels` picks by the importance of the batch norm in
    stage k + 1, which is the one that scales them. The model is unchanged and shares no storage with the result;
    equal widths give a copy. Where the channels that go were dead (scale and shift 0), the outputs are the same.

    Raises ValueError where a width is larger than the model's or below 1, where there are not as many widths as
    stages, or where a stage outside 3..6 changes.
    """
    raise NotImplementedError("Task 3.3: network_slimming")


def width_schedule(widths: Sequence[int], keep_rate: float, steps: int) -> list[tuple[int, ...]]:
    """Task 3.4: the widths after each of `steps` pruning steps.

    After step s = 1..steps, stages 3 to 6 have max(1, int(width * keep_rate ** s)) channels, of the ORIGINAL width;
    the others stay.

    Raises ValueError where keep_rate is outside (0, 1).
    """
    raise NotImplementedError("Task 3.4: width_schedule")


def iterative_prune(
    model: StudentNet,
    keep_rate: float,
    steps: int,
    finetune: Callable[[StudentNet], object],
) -> list[StudentNet]:
    """Task 3.5: prune a little, fine-tune, prune on; one network a step, along `width_schedule`.

    Each network is slimmed from the fine-tuned one before it and then handed to `finetune`, which trains it in place
    (what it returns is ignored). The given model is unchanged.
    """
    raise NotImplementedError("Task 3.5: iterative_prune")
