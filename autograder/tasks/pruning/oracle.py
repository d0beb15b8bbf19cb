"""The right pruning, and pruning with one thing wrong: chapter 3."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hw7.checks.tensors import perturb, useless
from hw7.models import StudentNet

PRUNED = (3, 4, 5, 6)


def best(importance: Tensor, keep: int, wrong: str = "") -> list[int]:
    """Task 3.2: the channels that stay, in ascending order."""
    values = importance.tolist()
    order = range(len(values))
    match wrong:
        case "select-least-important":
            ranking = sorted(order, key=lambda i: (values[i], i))
        case "select-first":
            ranking = list(order)
        case "select-last":
            ranking = list(order)[::-1]
        case "select-ties-high":
            ranking = sorted(order, key=lambda i: (-values[i], -i))
        case _:
            ranking = sorted(order, key=lambda i: (-values[i], i))
    chosen = ranking[keep:] if wrong == "select-removed" else ranking[:keep]
    if wrong == "select-not-sorted":
        return chosen
    return sorted(chosen)[::-1] if wrong == "select-descending" else sorted(chosen)


SELECT_MISTAKES = (
    "select-not-sorted", "select-least-important", "select-first", "select-last", "select-ties-high",
    "select-descending", "select-removed",
)  # fmt: skip


def kept_channels(model: StudentNet, to: Sequence[int], wrong: str = "") -> list[list[int]]:
    """The channels that stay in each of the eight stages."""
    kept = [list(range(width)) for width in to]
    for stage in PRUNED:
        bn = model.blocks[stage - 1].bn if wrong == "slim-own-batch-norm" else model.blocks[stage].bn
        scale = bn.weight.detach()
        importance = scale if wrong == "importance-signed" else scale.abs()
        if wrong == "slim-by-weights":
            importance = model.blocks[stage - 1].pointwise.weight.detach().abs().sum(dim=(1, 2, 3))
        kept[stage] = best(importance, to[stage], wrong if wrong.startswith("select") else "")
    return kept


def slimmed(model: StudentNet, to: Sequence[int], wrong: str = "") -> StudentNet:
    """Task 3.3. Raises IndexError or RuntimeError where the mistake cannot be made at these widths."""
    kept = kept_channels(model, to, wrong)
    result = StudentNet(to, model.fc.out_features).to(model.fc.weight.dtype)
    old, new = model.state_dict(), result.state_dict()
    for name, target in new.items():
        source = old[name]
        if name == "stage_widths":
            continue
        if name.startswith("blocks."):
            index, field = int(name.split(".")[1]), name.partition(".")[2].partition(".")[2]
            incoming, outgoing = kept[index], kept[index + 1]
            if field == "pointwise.weight":
                columns = list(range(len(incoming))) if wrong == "slim-pointwise-inputs" else incoming
                source = source[outgoing][:, columns]
            elif field == "pointwise.bias":
                source = source[outgoing]
            elif source.ndim:
                source = source[incoming]
        target.copy_(source)
    return result


# Entries of a network that are forgotten, or cut in the wrong place: any value, where all the others are right.
SLIM_FORGOTTEN: dict[str, tuple[str, ...]] = {
    "slim-statistics-forgotten": ("bn.running_mean", "bn.running_var"),
    "slim-shift-forgotten": ("bn.bias",),
    "slim-scale-forgotten": ("bn.weight",),
    "slim-batch-norm-forgotten": ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"),
    "slim-pointwise-bias": ("pointwise.bias",),
    "slim-pointwise-weight": ("pointwise.weight",),
    "slim-depthwise-bias": ("depthwise.bias",),
    "slim-depthwise": ("depthwise.weight", "depthwise.bias"),
}
SLIM_CHOICES = (
    "importance-signed", "select-least-important", "select-first", "select-last", "select-ties-high",
    "select-not-sorted", "slim-own-batch-norm", "slim-by-weights", "slim-pointwise-inputs",
)  # fmt: skip


def free_entries(network: StudentNet) -> dict[str, Tensor]:
    """The floating entries of a StudentNet by name."""
    return {name: tensor.detach() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


# The number of channels, before it is cut to a whole one, from the stage's original width and its last number.
_RULES: dict[str, Callable[[int, float, int, int], float | Tensor]] = {
    "": lambda width, rate, step, last: width * rate**step,
    "schedule-rounds": lambda width, rate, step, last: round(width * rate**step),
    "schedule-ceils": lambda width, rate, step, last: math.ceil(width * rate**step),
    "schedule-compounds": lambda width, rate, step, last: last * rate,
    "schedule-linear": lambda width, rate, step, last: width * (1 - (1 - rate) * step),
    "schedule-prune-rate": lambda width, rate, step, last: width * (1 - rate) ** step,
    "schedule-starts-at-0": lambda width, rate, step, last: width * rate ** (step - 1),
    "schedule-other-arithmetic": lambda width, rate, step, last: width * math.prod([rate] * step),
    "schedule-other-arithmetic#float32": lambda width, rate, step, last: (
        torch.tensor(float(width)) * torch.tensor(rate) ** step
    ),
}
_STAGES = {
    "schedule-one-stage-more": (2, *PRUNED), "schedule-all-stages": range(8), "schedule-one-stage-less": PRUNED[1:],
    "schedule-stage-7": (*PRUNED, 7), "schedule-stage-missed": PRUNED[:-1],
}  # fmt: skip


def width_schedule(widths: Sequence[int], keep_rate: float, steps: int, wrong: str = "") -> list[tuple[int, ...]]:
    """Task 3.4."""
    rule, stages = _RULES.get(wrong, _RULES[""]), _STAGES.get(wrong, PRUNED)
    lowest = 0 if wrong == "schedule-no-floor" else 1
    rows = [tuple(widths)]
    for step in range(1, steps + 1):
        numbers = zip(widths, rows[-1], strict=True)
        row = [
            max(lowest, int(rule(width, keep_rate, step, last))) if stage in stages else width
            for stage, (width, last) in enumerate(numbers)
        ]
        rows.append(tuple(row))
    return rows[1:]


SCHEDULE_MISTAKES = (
    "schedule-rounds", "schedule-ceils", "schedule-compounds", "schedule-linear", "schedule-prune-rate",
    "schedule-starts-at-0", "schedule-no-floor", "schedule-one-stage-more", "schedule-one-stage-less",
    "schedule-all-stages", "schedule-stage-7", "schedule-stage-missed", "schedule-other-arithmetic",
    "schedule-other-arithmetic#float32",
)  # fmt: skip


def iterative_prune(
    model: StudentNet, keep_rate: float, steps: int, wrong: str = ""
) -> tuple[list[StudentNet], StudentNet]:
    """Task 3.5: the networks and the given model as they are at the end, fine-tuned by `tensors.perturb`.

    Since fine-tuning changes what is important, a network cut from one that was not fine-tuned is another one.
    Raises IndexError or RuntimeError as `slimmed` does.
    """
    given = copy.deepcopy(model)
    networks: list[StudentNet] = []
    current = given
    schedule = width_schedule(model.widths, keep_rate, steps, wrong if wrong.startswith("schedule") else "")
    for step, widths in enumerate(schedule, start=1):
        if wrong == "prune-finetunes-first":
            perturb(current, step)
        source = given if wrong == "prune-from-the-original" else current
        net = slimmed(source, widths, wrong if wrong.startswith(("select", "importance", "slim")) else "")
        before = copy.deepcopy(net)
        if wrong == "prune-trains-the-old-network":
            perturb(current, step)
        elif wrong == "prune-trains-the-old-network#given":
            perturb(given, step)
        elif wrong == "prune-takes-what-finetune-returns":
            net = useless(net, step)
        elif wrong not in ("prune-finetunes-first", "prune-finetunes-a-copy", "prune-never-finetunes"):
            perturb(net, step)
        networks.append(before if wrong == "prune-keeps-unfinetuned" else net)
        current = net
    if wrong == "prune-one-network-only":
        networks = networks[-1:] * steps
    return networks, given


PRUNE_MISTAKES = (
    "prune-from-the-original", "prune-trains-the-old-network", "prune-trains-the-old-network#given",
    "prune-finetunes-first", "prune-finetunes-a-copy",
    "prune-keeps-unfinetuned", "prune-never-finetunes", "prune-one-network-only", "prune-takes-what-finetune-returns",
)  # fmt: skip
