"""What the builders of cases share: numbers from a seed, and mistakes that can be told from the right answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from hw7.checks.cases import Call, Case, Value
from hw7.checks.compare import as_mistakes, difference
from hw7.models import StudentNet

Changes = Mapping[str, Mapping[str, Value]]


class Lazy(Mapping[str, Mapping[str, Value]]):
    """Mistakes that are worked out when the first wrong answer asks for them: right submissions do not pay for them."""

    def __init__(self, work_out: Callable[[], Changes]) -> None:
        self._work_out = work_out

    @cached_property
    def _changes(self) -> Changes:
        return self._work_out()

    def __getitem__(self, key: str) -> Mapping[str, Value]:
        return self._changes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)


@dataclass
class Maker:
    """Collects the cases of one task."""

    task: str
    seed: bytes
    made: list[Case] = field(default_factory=list)

    def number(self, *purpose: object) -> int:
        """31 bits of the seed for one purpose."""
        digest = hashlib.sha256(b"\0".join([self.seed, self.task.encode(), *(str(p).encode() for p in purpose)]))
        return int.from_bytes(digest.digest()[:4]) >> 1

    def random(self, *purpose: object) -> torch.Generator:
        return torch.Generator().manual_seed(self.number(*purpose))

    def whole(self, low: int, high: int, *purpose: object) -> int:
        """A whole number in low..high."""
        return low + self.number("whole", *purpose) % (high - low + 1)

    def normal(self, *shape: int, purpose: object, size: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
        return (size * torch.randn(shape, generator=self.random(purpose), dtype=torch.float64)).to(dtype)

    def add(
        self,
        part: str,
        name: str,
        call: Call,
        judge: str,
        expected: Mapping[str, Value],
        mistakes: Changes | Callable[[], Changes] | None = None,
        then: Call | None = None,
    ) -> None:
        """Leaves out the mistakes that cannot be told from the right answer here."""

        def shown() -> Changes:
            changes = mistakes() if callable(mistakes) else mistakes or {}
            if judge not in ("values", "outputs"):
                return changes
            return _told_apart(expected, {id_: change for id_, change in changes.items() if _shows(expected, change)})

        self.made.append(Case(self.task, part, name, call, judge, expected, Lazy(shown), then))

    def refuse(self, part: str, name: str, call: Call, reason: str, mistake: str) -> None:
        self.add(part, name, call, "refuses", {"reason": reason}, {mistake: {}})


def _shows(expected: Mapping[str, Value], change: Mapping[str, Value]) -> bool:
    """Whether a mistake gives other values than the right answer; what is known by other signs always does."""
    tensors = {name: value for name, value in change.items() if isinstance(value, Tensor)}
    if len(tensors) < len(change) or not tensors:
        return True
    for name, value in tensors.items():
        right = expected[name]
        assert isinstance(right, Tensor)
        if difference(name, right, value, expected) is not None:
            return True
    return False


def _told_apart(expected: Mapping[str, Value], changes: Changes) -> Changes:
    """Without the mistakes that give the same values as another one."""

    options = as_mistakes(expected)

    def alike(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
        if not all(isinstance(value, Tensor) for value in (*one.values(), *other.values())):
            return False
        return all(
            difference(name, one.get(name, expected[name]), other.get(name, expected[name]), options) is None  # type: ignore[arg-type]
            for name in {*one, *other}
        )

    return {
        id_: change
        for id_, change in changes.items()
        if not any(
            id_.partition("#")[0] != other.partition("#")[0] and alike(change, changes[other]) for other in changes
        )
    }


def network_vector(
    make: Maker, name: str, widths: Sequence[int], classes: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The floating entries of a StudentNet with live activations, distinct batch-norm scales of both signs, and
    statistics that are no defaults."""
    generator = make.random("network", name)
    entries = []
    for key, tensor in StudentNet(widths, classes).state_dict().items():
        if not tensor.is_floating_point():
            continue
        normal = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        uniform = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        if key.endswith("bn.weight"):
            values = (0.3 + 1.7 * uniform) * normal.sign()
        elif key.endswith("running_var"):
            values = 0.5 + 1.5 * uniform
        elif tensor.ndim > 1:
            values = normal * (2 / tensor[0].numel()) ** 0.5
        else:
            values = normal / 2
        entries.append(values.flatten())
    return torch.cat(entries).to(dtype)


def only_these(changes: Changes, names: Sequence[str], without: Sequence[str] = ()) -> Changes:
    """What the mistakes change of these entries, without those that these entries do not prove."""
    names = (*names, "other_count")
    shown = {id_: {key: value for key, value in change.items() if key in names} for id_, change in changes.items()}
    return {id_: change for id_, change in shown.items() if change and id_ not in without}


def possible(wrongs: Iterable[str], make_it: Callable[[str], Mapping[str, Value]]) -> dict[str, Mapping[str, Value]]:
    """What these mistakes give; without those that cannot be made here: another shape, an index that is not there."""
    found = {}
    for wrong in wrongs:
        with suppress(IndexError, RuntimeError):
            found[wrong] = make_it(wrong)
    return found
