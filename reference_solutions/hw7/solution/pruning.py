"""Task 3, structured pruning by batch-norm scale: rank the channels, keep the best, cut the rest out of the network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hw7.models import StudentNet

PRUNED_STAGES = range(3, 7)


def channel_importance(bn: nn.BatchNorm2d) -> Tensor:
    """Task 3.1: how much each channel of a batch norm matters: the absolute value of its scale, [C], detached.

    Source: Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017.
    """
    ### BEGIN SOLUTION
    return bn.weight.detach().abs()
    ### END SOLUTION


def select_channels(importance: Tensor, keep: int) -> Tensor:
    """Task 3.2: the `keep` most important channels, int64 [keep], in ascending order of their index.

    Of equally important channels the one with the lower index stays.

    Shapes: importance [C]. Raises ValueError where keep is outside 1..C.
    """
    ### BEGIN SOLUTION
    if not 1 <= keep <= len(importance):
        raise ValueError(f"select_channels: keep must be in 1..{len(importance)}, got {keep}")
    ranking = torch.sort(importance, descending=True, stable=True).indices
    return ranking[:keep].sort().values
    ### END SOLUTION


def network_slimming(model: StudentNet, widths: Sequence[int]) -> StudentNet:
    """Task 3.3: a new StudentNet of these widths, made of the model's most important channels.

    The channels that stay in stage k are those that `select_channels` picks by the importance of the batch norm in
    stage k + 1, which is the one that scales them. The model is unchanged and shares no storage with the result;
    equal widths give a copy. Where the channels that go were dead (scale and shift 0), the outputs are the same.

    Raises ValueError where a width is larger than the model's or below 1, where there are not as many widths as
    stages, or where a stage outside 3..6 changes.
    """
    ### BEGIN SOLUTION
    widths = tuple(widths)
    if len(widths) != len(model.widths):
        raise ValueError(f"network_slimming: {len(model.widths)} widths are needed, got {len(widths)}")
    for stage, (width, old_width) in enumerate(zip(widths, model.widths, strict=True)):
        lowest = 1 if stage in PRUNED_STAGES else old_width
        if not lowest <= width <= old_width:
            raise ValueError(f"network_slimming: stage {stage} must keep {lowest}..{old_width} channels, got {width}")

    device, dtype = model.fc.weight.device, model.fc.weight.dtype
    slim = StudentNet(widths, num_classes=model.fc.out_features).to(device, dtype)
    kept = [torch.arange(width, device=device) for width in widths]
    for stage in PRUNED_STAGES:
        next_stage = model.blocks[stage]  # blocks[k - 1] is stage k
        kept[stage] = select_channels(channel_importance(next_stage.bn), widths[stage])

    state = dict(model.state_dict(), stage_widths=slim.stage_widths)
    for index in range(len(model.blocks)):
        incoming, outgoing = kept[index], kept[index + 1]
        for name, tensor in model.blocks[index].state_dict().items():
            if name == "pointwise.weight":
                tensor = tensor[outgoing][:, incoming]
            elif name == "pointwise.bias":
                tensor = tensor[outgoing]
            elif tensor.ndim > 0:  # the depthwise convolution and the batch norm, but not its step counter
                tensor = tensor[incoming]
            state[f"blocks.{index}.{name}"] = tensor
    slim.load_state_dict(state)  # copies, so nothing is shared
    return slim
    ### END SOLUTION


def width_schedule(widths: Sequence[int], keep_rate: float, steps: int) -> list[tuple[int, ...]]:
    """Task 3.4: the widths after each of `steps` pruning steps.

    After step s = 1..steps, stages 3 to 6 have max(1, int(width * keep_rate ** s)) channels, of the ORIGINAL width;
    the others stay.

    Raises ValueError where keep_rate is outside (0, 1).
    """
    ### BEGIN SOLUTION
    if not 0 < keep_rate < 1:
        raise ValueError(f"width_schedule: keep_rate must be between 0 and 1, got {keep_rate}")
    return [
        tuple(
            max(1, int(width * keep_rate**step)) if stage in PRUNED_STAGES else width
            for stage, width in enumerate(widths)
        )
        for step in range(1, steps + 1)
    ]
    ### END SOLUTION


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
    ### BEGIN SOLUTION
    networks: list[StudentNet] = []
    for widths in width_schedule(model.widths, keep_rate, steps):
        model = network_slimming(model, widths)
        finetune(model)
        networks.append(model)
    return networks
    ### END SOLUTION
