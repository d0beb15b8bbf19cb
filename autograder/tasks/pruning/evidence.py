"""What a diagnosis of wrong pruning compares answers with: terms, rankings, channels that stay, a schedule's shares."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from autograder.tasks.builder import Mistakes
from autograder.tasks.pruning import oracle
from hw7.models import Block, StudentNet


def of_importance(scale: Tensor) -> Mistakes:
    """What a batch norm of the call `channel_importance` has for each channel, [C] each; the right importance first."""
    shift = scale.flip(0) + 3
    return {
        "the terms": {
            "|scale|": scale.abs(), "scale (with its sign)": scale, "shift": shift, "|shift|": shift.abs(),
            "running_var": torch.ones_like(scale), "running_mean": torch.zeros_like(scale),
        }
    }  # fmt: skip


def of_selection(importance: Tensor) -> Mistakes:
    """All channels, the most important first, by how ties are broken: int16 [C]. The right one first."""
    values, channels = importance.tolist(), range(len(importance))
    orders = [sorted(channels, key=lambda i: (-values[i], sign * i)) for sign in (1, -1)]
    names = dict(zip(("the lower index first", "the higher index first"), orders, strict=True))
    return {"the rankings": {name: torch.tensor(order, dtype=torch.int16) for name, order in names.items()}}


# ---- network slimming ------------------------------------------------------------------------------------------

_Criterion = Callable[[StudentNet, int], Tensor]
NEXT_SCALE = "|scale| in the batch norm of the next stage"


def _next(of: Callable[[Block], Tensor]) -> _Criterion:
    return lambda model, stage: of(model.blocks[stage])


def _own(of: Callable[[Block], Tensor]) -> _Criterion:
    return lambda model, stage: of(model.blocks[stage - 1])


_CRITERIA: dict[str, _Criterion] = {
    NEXT_SCALE: _next(lambda block: block.bn.weight.abs()),
    "|scale| in the batch norm of the stage itself": _own(lambda block: block.bn.weight.abs()),
    "|scale| in the batch norm two stages on": lambda model, stage: model.blocks[stage + 1].bn.weight.abs(),
    "scale, with its sign, in the batch norm of the next stage": _next(lambda block: block.bn.weight),
    "|shift| in the batch norm of the next stage": _next(lambda block: block.bn.bias.abs()),
    "shift, with its sign, in the batch norm of the next stage": _next(lambda block: block.bn.bias),
    "|scale| + |shift| in the batch norm of the next stage": _next(
        lambda block: block.bn.weight.abs() + block.bn.bias.abs()
    ),
    "|scale| times |shift| in the batch norm of the next stage": _next(
        lambda block: block.bn.weight.abs() * block.bn.bias.abs()
    ),
    "running_var in the batch norm of the next stage": _next(lambda block: _var(block)),
    "|running_mean| in the batch norm of the next stage": _next(lambda block: _mean(block).abs()),
    "|scale| over the standard deviation in the batch norm of the next stage": _next(
        lambda block: block.bn.weight.abs() / (_var(block) + block.bn.eps).sqrt()
    ),
    "|scale| times the standard deviation in the batch norm of the next stage": _next(
        lambda block: block.bn.weight.abs() * (_var(block) + block.bn.eps).sqrt()
    ),
    "|weights|, summed, of the pointwise convolution that puts them out": _own(
        lambda block: block.pointwise.weight.abs().sum(dim=(1, 2, 3))
    ),
    "squared weights, summed, of the pointwise convolution that puts them out": _own(
        lambda block: block.pointwise.weight.square().sum(dim=(1, 2, 3))
    ),
    "|weights|, summed, of the pointwise convolution that they go into": _next(
        lambda block: block.pointwise.weight.abs().sum(dim=(0, 2, 3))
    ),
    "squared weights, summed, of the pointwise convolution that they go into": _next(
        lambda block: block.pointwise.weight.square().sum(dim=(0, 2, 3))
    ),
    "|weights|, summed, of the depthwise convolution of the next stage": _next(
        lambda block: block.depthwise.weight.abs().sum(dim=(1, 2, 3))
    ),
    "squared weights, summed, of the depthwise convolution of the next stage": _next(
        lambda block: block.depthwise.weight.square().sum(dim=(1, 2, 3))
    ),
    "|bias| of the pointwise convolution that puts them out": _own(lambda block: block.pointwise.bias.abs()),  # type: ignore[union-attr]
    **{
        f"|scale| in blocks.{place}.bn, for every stage": lambda model, _, place=place: model.blocks[
            place
        ].bn.weight.abs()  # type: ignore[misc]
        for place in range(2, 7)
    },
}


def _var(block: Block) -> Tensor:
    assert block.bn.running_var is not None
    return block.bn.running_var


def _mean(block: Block) -> Tensor:
    assert block.bn.running_mean is not None
    return block.bn.running_mean


_OF_ASKED = {  # the right importance, another choice
    "select-first": "the first ones, whatever their importance",
    "select-last": "the last ones, whatever their importance",
    "select-ties-high": "of equally important ones those with the higher index",
    "select-not-sorted": "the right ones, in order of their importance",
    "select-descending": "the right ones, in descending order of their index",
}


@torch.no_grad()
def of_slimming(model: StudentNet, to: Sequence[int]) -> Mistakes:
    """The channels that stay in stages 3 to 6 by what they are called, int16 [4, k], filled up with -1, and with -2
    where a stage has no such ranking; the right ones first. And the right importance of all channels of these stages.
    """
    tables = {"right": _table(oracle.kept_channels(model, to)[3:7])}
    for name, table in _choices(model, to):
        tables[name] = table
    importances = {str(stage): model.blocks[stage].bn.weight.detach().abs() for stage in oracle.PRUNED}
    return {"the channels": tables, "the importance": importances}


def _choices(model: StudentNet, to: Sequence[int]) -> Iterator[tuple[str, Tensor]]:
    def table(criterion: _Criterion, wrong: str = "") -> Tensor:
        return _table([_kept(model, stage, to[stage], criterion, wrong) for stage in oracle.PRUNED])

    for name, criterion in _CRITERIA.items():
        if name != NEXT_SCALE:
            yield f"those of the largest {name}", table(criterion)
        yield f"those of the smallest {name}", table(criterion, "select-least-important")
    for wrong, name in _OF_ASKED.items():
        yield name, table(_CRITERIA[NEXT_SCALE], wrong)
    even = [torch.linspace(0, model.widths[stage] - 1, to[stage]).long().tolist() for stage in oracle.PRUNED]
    yield "evenly spaced ones, whatever their importance", _table(even)


def _kept(model: StudentNet, stage: int, keep: int, criterion: _Criterion, wrong: str) -> list[int]:
    """None where there is no such layer, or where it has other channels than the stage."""
    with suppress(IndexError):
        chosen = oracle.best(criterion(model, stage), keep, wrong)
        if len(chosen) == keep and max(chosen) < model.widths[stage]:
            return chosen
    return []


def _table(kept: Sequence[Sequence[int]]) -> Tensor:
    most = max(map(len, kept))
    rows = [[*channels, *[-1 if channels else -2] * (most - len(channels))] for channels in kept]
    return torch.tensor(rows, dtype=torch.int16)


# ---- the schedule ------------------------------------------------------------------------------------------------


def of_schedule(keep_rate: float, steps: int) -> Mistakes:
    """The share of its channels that a stage keeps in each step, [steps], by its formula; the right one first.

    Those in float32 are multiplied in it.
    """
    r, numbers = keep_rate, range(1, steps + 1)
    shares: dict[str, list[float]] = {
        "keep_rate^s": [r**s for s in numbers],
        "keep_rate^s, multiplied up step by step": [_multiplied(r, s) for s in numbers],
        "keep_rate^(s - 1)": [r ** (s - 1) for s in numbers],
        "keep_rate^(s + 1)": [r ** (s + 1) for s in numbers],
        "keep_rate^(2s)": [r ** (2 * s) for s in numbers],
        "keep_rate^(s / 2)": [r ** (s / 2) for s in numbers],
        "keep_rate^(s / steps)": [r ** (s / steps) for s in numbers],
        "keep_rate^(s²)": [r ** (s * s) for s in numbers],
        "keep_rate": [r for _ in numbers],
        "(1 - keep_rate)": [1 - r for _ in numbers],
        "(1 - keep_rate)^s": [(1 - r) ** s for s in numbers],
        "(1 - keep_rate^s)": [1 - r**s for s in numbers],
        "(1 - s · (1 - keep_rate))": [1 - (1 - r) * s for s in numbers],
        "(1 - (s - 1) · (1 - keep_rate))": [1 - (1 - r) * (s - 1) for s in numbers],
        "(1 - s · (1 - keep_rate) / steps)": [1 - (1 - r) * s / steps for s in numbers],
        "(1 - s · keep_rate)": [1 - r * s for s in numbers],
        "keep_rate · s": [r * s for s in numbers],
        "keep_rate / s": [r / s for s in numbers],
        "s^keep_rate": [s**r for s in numbers],
        "s^(-keep_rate)": [s**-r for s in numbers],
        "e^(-s · (1 - keep_rate))": [torch.e ** (-s * (1 - r)) for s in numbers],
        "1": [1.0 for _ in numbers],
        **{f"{fixed}^s, whatever keep_rate is": [fixed**s for s in numbers] for fixed in (0.5, 0.9, 0.95, 0.975)},
    }
    tables = {name: torch.tensor(share, dtype=torch.float64) for name, share in shares.items()}
    in_float32 = torch.tensor(r) ** torch.arange(1, steps + 1)
    return {"the shares": {**tables, "keep_rate^s, all in float32": in_float32}}


def _multiplied(rate: float, times: int) -> float:
    product = 1.0
    for _ in range(times):
        product *= rate
    return product
