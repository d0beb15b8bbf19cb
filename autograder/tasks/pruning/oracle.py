"""The right pruning, and pruning with one thing wrong: chapter 3."""

import copy
import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn

from hw7.checks.tensors import perturb, useless
from hw7.models import StudentNet

PRUNED = (3, 4, 5, 6)


def best(importance: Tensor, keep: int, wrong: str = "") -> list[int]:
    """Task 3.2: the channels that stay, in ascending order."""
    values = importance.tolist()
    wrong_keys: dict[str, Callable[[int], tuple[float, int]]] = {
        "select-least-important": lambda i: (values[i], i),
        "select-first": lambda i: (0, i),
        "select-last": lambda i: (0, -i),
        "select-ties-high": lambda i: (-values[i], -i),
    }
    ranking = sorted(range(len(values)), key=wrong_keys.get(wrong, lambda i: (-values[i], i)))
    chosen = ranking[keep:] if wrong == "select-removed" else ranking[:keep]
    if wrong == "select-not-sorted":
        return chosen
    return sorted(chosen)[::-1] if wrong == "select-descending" else sorted(chosen)


_IMPORTANCES: dict[str, Callable[[nn.BatchNorm2d], Tensor]] = {
    "": lambda bn: bn.weight.abs(),
    "importance-signed": lambda bn: bn.weight,
    "importance-of-the-shift": lambda bn: bn.bias.abs(),
    "importance-by-statistics": lambda bn: bn.running_var,  # type: ignore[dict-item,return-value]
    "importance-by-statistics#scaled": lambda bn: bn.weight.abs() / (bn.running_var + bn.eps) ** 0.5,  # type: ignore[operator]
}


SELECT_MISTAKES = (
    "select-not-sorted", "select-least-important", "select-first", "select-last", "select-ties-high",
    "select-descending", "select-removed",
)  # fmt: skip


def kept_channels(model: StudentNet, to: Sequence[int], wrong: str = "") -> list[list[int]]:
    """The channels that stay in each of the eight stages."""
    kept = [list(range(width)) for width in to]
    for stage in PRUNED:
        bn = model.blocks[stage - (wrong == "slim-own-batch-norm")].bn
        importance = _IMPORTANCES.get(wrong, _IMPORTANCES[""])(bn).detach()
        if wrong == "slim-by-weights":
            importance = model.blocks[stage - 1].pointwise.weight.detach().abs().sum(dim=(1, 2, 3))
        kept[stage] = best(importance, to[stage], wrong if wrong.startswith("select") else "")
    return kept


def slimmed(model: StudentNet, to: Sequence[int], wrong: str = "", ranked_by: StudentNet | None = None) -> StudentNet:
    """Task 3.3. ranked_by: the model whose importances count, if not its own.

    Raises IndexError or RuntimeError where the mistake cannot be made at these widths.
    """
    kept = kept_channels(ranked_by or model, to, wrong)
    result = StudentNet(to, model.fc.out_features).to(model.fc.weight.dtype)
    old = model.state_dict()
    for name, target in result.state_dict().items():
        if name == "stage_widths":
            continue
        source = old[name]
        if name.startswith("blocks."):
            _, number, field = name.split(".", maxsplit=2)
            incoming, outgoing = kept[int(number)], kept[int(number) + 1]
            if field == "pointwise.weight":
                columns = list(range(len(incoming))) if wrong == "slim-pointwise-inputs" else incoming
                source = source[outgoing][:, columns]
            elif field == "pointwise.bias":
                source = source[outgoing]
            elif source.ndim:
                source = source[incoming]
        target.copy_(source)
    return result


# Entries of a network that are forgotten, or cut in the wrong place: any value, where all the others are right. Those
# that are WRONG_SURELY are so: what is wrong in fewer entries is another mistake.
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
WRONG_SURELY = {
    "slim-batch-norm-forgotten": SLIM_FORGOTTEN["slim-batch-norm-forgotten"],
    "slim-depthwise": ("depthwise.weight",),
    "slim-pointwise-weight": ("pointwise.weight",),
}
SLIM_CHOICES = (
    "importance-signed", "importance-of-the-shift", "importance-by-statistics", "importance-by-statistics#scaled",
    "select-least-important", "select-first", "select-last", "select-descending",
    "select-not-sorted", "slim-own-batch-norm", "slim-by-weights", "slim-pointwise-inputs",
)  # fmt: skip


def free_entries(network: StudentNet) -> dict[str, Tensor]:
    """The floating entries of a StudentNet by name."""
    return {name: tensor.detach() for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


def _power(width: int, rate: float, step: int, last: int) -> float:
    """The number of channels, before it is cut to a whole one, from a stage's original width and its last number."""
    return width * rate**step


_Rule = Callable[[int, float, int, int], float | Tensor]
_SCHEDULES: dict[str, tuple[_Rule, Collection[int], int]] = {  # rule, stages, smallest width
    "schedule-rounds": (lambda width, rate, step, last: round(width * rate**step), PRUNED, 1),
    "schedule-ceils": (lambda width, rate, step, last: math.ceil(width * rate**step), PRUNED, 1),
    "schedule-compounds": (lambda width, rate, step, last: last * rate, PRUNED, 1),
    "schedule-linear": (lambda width, rate, step, last: width * (1 - (1 - rate) * step), PRUNED, 1),
    "schedule-prune-rate": (lambda width, rate, step, last: width * (1 - rate) ** step, PRUNED, 1),
    "schedule-starts-at-0": (lambda width, rate, step, last: width * rate ** (step - 1), PRUNED, 1),
    "schedule-no-floor": (_power, PRUNED, 0),
    "schedule-one-stage-more": (_power, (2, *PRUNED), 1),
    "schedule-one-stage-less": (_power, PRUNED[1:], 1),
    "schedule-all-stages": (_power, range(8), 1),
    "schedule-stage-7": (_power, (*PRUNED, 7), 1),
    "schedule-stage-missed": (_power, PRUNED[:-1], 1),
    "schedule-other-arithmetic": (lambda width, rate, step, last: width * math.prod([rate] * step), PRUNED, 1),
    "schedule-other-arithmetic#float32": (
        lambda width, rate, step, last: torch.tensor(float(width)) * torch.tensor(rate) ** step, PRUNED, 1,
    ),
}  # fmt: skip
SCHEDULE_MISTAKES = tuple(_SCHEDULES)


def width_schedule(widths: Sequence[int], keep_rate: float, steps: int, wrong: str = "") -> list[tuple[int, ...]]:
    """Task 3.4."""
    rule, stages, lowest = _SCHEDULES.get(wrong, (_power, PRUNED, 1))
    rows = [tuple(widths)]
    for step in range(1, steps + 1):
        row = (
            max(lowest, int(rule(width, keep_rate, step, last))) if stage in stages else width
            for stage, (width, last) in enumerate(zip(widths, rows[-1], strict=True))
        )
        rows.append(tuple(row))
    return rows[1:]


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
