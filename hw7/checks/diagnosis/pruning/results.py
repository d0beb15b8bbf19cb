"""Task 3.3: where each tensor of a slimmed network comes from: which rows and columns of the given model's, or what."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from hw7.checks.compare import tensor_names
from hw7.checks.diagnosis.frame import Asked
from hw7.checks.diagnosis.pruning.answers import answer_of, is_wrong, of_evidence
from hw7.checks.held import entries_of
from hw7.checks.tensors import student_net

PRUNED = range(3, 7)
RIGHT = "right"
AS_NEW = "as in a new network"
FRESH = {"bn.weight": 1.0, "bn.bias": 0.0, "bn.running_mean": 0.0, "bn.running_var": 1.0}


class Side(NamedTuple):
    """The rows or the columns of an entry: the axis along which it is cut to the channels of one stage."""

    block: int
    field: str
    side: str  # "rows" or "columns"

    @property
    def stage(self) -> int:
        """Whose channels they are: those that stage puts out."""
        return self.block + (self.side == "rows" and self.field.startswith("pointwise"))

    @property
    def entry(self) -> str:
        return ".".join(("blocks", str(self.block), self.field))


def sides_of(stage: int) -> list[Side]:
    """All that are cut to the channels of a stage."""
    inside = ["depthwise.weight", "depthwise.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    before = [Side(stage - 1, f"pointwise.{each}", "rows") for each in ("weight", "bias")]
    return [*before, *(Side(stage, each, "rows") for each in inside), Side(stage, "pointwise.weight", "columns")]


@dataclass(frozen=True, eq=False)
class Result:
    """A slimmed network that came back, entry by entry, beside the right one and the given one; all in float32."""

    asked: Asked
    got: Mapping[str, Tensor]
    right: Mapping[str, Tensor]
    given: Mapping[str, Tensor]
    channels: Mapping[str, Tensor]  # by ranking, [4, k]

    def kept(self, ranking: str, stage: int) -> tuple[int, ...]:
        """The channels that stay in a stage by this ranking; none where there is no such ranking."""
        return tuple(channel for channel in self.channels[ranking][stage - 3].tolist() if channel >= 0)

    @cached_property
    def lists(self) -> dict[Side, frozenset[tuple[int, ...]] | None]:
        """The channels to which each side may have been cut; None where the entry does not come from the given one."""
        found: dict[Side, frozenset[tuple[int, ...]] | None] = {}
        for stage in PRUNED:
            for side in sides_of(stage):
                found[side] = self._lists_of(side)
        return found

    def _lists_of(self, side: Side) -> frozenset[tuple[int, ...]] | None:
        got, given = self.got[side.entry], self.given[side.entry]
        if side.field == "pointwise.weight":
            pair = _rows_and_columns(got.flatten(1), given.flatten(1))
            return None if pair is None else frozenset([pair[side.side == "columns"]])
        candidates = {self.kept(name, side.stage) for name in self.channels} - {()}
        if side.field == "bn.weight":  # where numbers may occur twice
            candidates |= self._lists_of(Side(side.block, "depthwise.weight", "rows")) or set()
        fitting = [kept for kept in candidates if torch.equal(given[list(kept)], got)]
        if fitting:
            return frozenset(fitting)
        rows = _rows(
            got.flatten(1) if got.ndim > 1 else got[:, None], given.flatten(1) if given.ndim > 1 else given[:, None]
        )
        return None if rows is None else frozenset([rows])

    def rankings(self, side: Side) -> frozenset[str]:
        """The names of the rankings to whose channels this side may have been cut, and of those that it lacks."""
        lists = (self.lists[side] or frozenset()) | {()}
        return frozenset(name for name in self.channels if self.kept(name, side.stage) in lists)

    def is_wrong(self, entry: str) -> bool:
        right = self.right[entry]
        return not bool((self.got[entry] - right).abs().max() <= 1e-6 * max(right.abs().max().item(), 1e-30))


def results(asked: Sequence[Asked]) -> list[Result]:
    """The networks of these answers whose entries have the right shapes, and nothing but finite numbers."""
    return [each for each in map(_result, asked) if each is not None]


def _result(asked: Asked) -> Result | None:
    answer, inputs = answer_of(asked), asked.case.call.inputs
    if answer is None or not asked.case.evidence:
        return None
    names = tensor_names(asked.case.expected)[2:]
    right = {name: _single(asked.case.expected[name]) for name in names}  # type: ignore[arg-type]
    if any(answer[name].shape != right[name].shape or not answer[name].is_floating_point() for name in names):
        return None
    got = {name: _single(answer[name]) for name in names}
    if not all(bool(tensor.isfinite().all()) for tensor in got.values()):
        return None
    entries = entries_of(student_net(inputs["widths"], inputs["model"]))  # type: ignore[arg-type]
    given = {name: _single(entries[name]) for name in names}
    return Result(asked, got, right, given, of_evidence(asked, "the channels"))


def _single(tensor: Tensor) -> Tensor:
    return tensor.detach().float()


def _rows(got: Tensor, given: Tensor) -> tuple[int, ...] | None:
    """Of which row of `given` each row of `got` is a copy; None where there is none, or more than one."""
    same = (got[:, None] == given[None]).all(dim=2)
    return tuple(same.int().argmax(dim=1).tolist()) if bool((same.sum(dim=1) == 1).all()) else None


def _rows_and_columns(got: Tensor, given: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Rows and columns of `given` whose crossings `got` has; None where there are none, or numbers occur twice."""
    same = got.flatten()[:, None] == given.flatten()[None]
    if not bool((same.sum(dim=1) == 1).all()):
        return None
    places = same.int().argmax(dim=1).reshape(got.shape)
    rows, columns = places[:, 0] // given.shape[1], places[0] % given.shape[1]
    if not torch.equal(given[rows][:, columns], got):
        return None
    return tuple(rows.tolist()), tuple(columns.tolist())


# ---- entries that are no rows of the given one --------------------------------------------------------------------

_CHANGES: dict[str, Callable[[Tensor], Tensor]] = {  # what was made of the right numbers
    "the right numbers without their signs": torch.abs,
    "the right numbers with other signs": torch.neg,
    "the squares of the right numbers": torch.square,
    "the right numbers, rounded to float16": lambda x: x.half().float(),
    "the right numbers, rounded to bfloat16": lambda x: x.bfloat16().float(),
    "the right numbers, rounded to whole ones": torch.round,
    "the right numbers in reversed order": lambda x: x.flip(0),
    "the right numbers, sorted": lambda x: x.sort(dim=0).values,
    "the right numbers, negative ones set to 0": lambda x: x.clamp(min=0),
    "the right numbers, brought to a norm of 1": lambda x: x / x.norm(),
    "1 over the right numbers": lambda x: 1 / x,
}


def made_of(result: Result, entry: str) -> list[str]:
    """All that a wrong entry may hold that is no choice of rows and columns of the given model's own; the simplest
    first."""
    got, right = result.got[entry], result.right[entry]
    field = entry.split(".", 2)[-1] if entry.startswith("blocks.") else entry.partition(".")[2]
    numbers = set(got.flatten().tolist())
    found = []
    if len(numbers) == 1:
        (number,) = numbers
        found.append(f"{number:.6g} everywhere" + f", {AS_NEW}" * (FRESH.get(field) == number))
    found += [words for words, change in _CHANGES.items() if _close(got, change(right))]
    largest = int(right.abs().argmax())
    factor, added = got.flatten()[largest] / right.flatten()[largest], got.flatten()[largest] - right.flatten()[largest]
    found += ["the right numbers, all times one factor"] * _close(got, right * factor)
    found += ["the right numbers, all with one number added"] * _close(got, right + added)
    for name, other in result.right.items():
        if name != entry and other.shape == got.shape and _close(got, other):
            found.append(f"what belongs into `{_neighbour(name, entry)}`")
    if numbers.isdisjoint(result.given[entry].flatten().tolist()):
        fan_in = right[0].numel() if right.ndim > 1 else result.right[entry.replace("bias", "weight")][0].numel()
        new = max(map(abs, numbers)) <= fan_in**-0.5 and not field.startswith("bn.")
        found += [f"numbers that are not in the given model: drawn anew, it seems, {AS_NEW}"] * new
        found.append("numbers that are not in the given model")
    return found


def _neighbour(name: str, entry: str) -> str:
    """The name of an entry, by its field alone where it is of the same block."""
    same = name.startswith("blocks.") and name.split(".")[:2] == entry.split(".")[:2]
    return name.split(".", 2)[2] if same else name


def _close(got: Tensor, wanted: Tensor) -> bool:
    return bool(((got - wanted).abs() <= 1e-6 * wanted.abs().max()).all())


def wrong_entries(looks: Sequence[Result]) -> dict[str, list[Result]]:
    """The entries that are wrong anywhere, with the results in which they are."""
    names = dict.fromkeys(name for look in looks if is_wrong(look.asked) for name in look.right if look.is_wrong(name))
    return {name: [look for look in looks if look.is_wrong(name)] for name in names}
