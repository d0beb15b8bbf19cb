"""Task 4.2 as it was answered: state_dicts that were asked of, what came back, and what entries have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from hw7.checks.cases import Case, Status
from hw7.checks.diagnosis.frame import Asked
from hw7.checks.there_and_back import names_in, parts_of, state_dict_of


class Entry(NamedTuple):
    name: str
    tensor: Tensor

    @property
    def floating(self) -> bool:
        return self.tensor.is_floating_point()

    @property
    def statistic(self) -> bool:
        return self.name.endswith(("running_mean", "running_var"))


# ---- what some have in common ------------------------------------------------------------------------------------

Holds = Callable[[Entry], bool]

KINDS: dict[str, Holds] = {
    "batch-norm statistics": lambda e: e.statistic,
    "running means": lambda e: e.name.endswith("running_mean"),
    "running variances": lambda e: e.name.endswith("running_var"),
    "floating entries": lambda e: e.floating,
    "floating entries that are no statistics": lambda e: e.floating and not e.statistic,
    "whole numbers and bools": lambda e: not e.floating,
    "whole numbers": lambda e: not e.floating and e.tensor.dtype != torch.bool,
    "entries without dimensions": lambda e: e.tensor.ndim == 0,
    "entries without numbers": lambda e: e.tensor.numel() == 0,
    "entries of one number": lambda e: e.tensor.numel() == 1,
    "entries of one number that have dimensions": lambda e: e.tensor.numel() == 1 and e.tensor.ndim > 0,
    "entries of one number and more than one dimension": lambda e: e.tensor.numel() == 1 and e.tensor.ndim > 1,
    "entries of shape [1]": lambda e: list(e.tensor.shape) == [1],
    "entries whose numbers are all equal": lambda e: bool(e.tensor.numel()) and len(e.tensor.unique()) == 1,
    "names with capitals": lambda e: e.name != e.name.lower(),
    "names with letters that are not ASCII": lambda e: not e.name.isascii(),
    "numbers of steps": lambda e: e.name.endswith("num_batches_tracked"),
}  # fmt: skip
BIG: dict[str, Holds] = {
    "floating entries of 1,024 numbers or more": lambda e: e.floating and not e.statistic and e.tensor.numel() >= 1024,
    "floating entries of fewer than 1,024": lambda e: e.floating and not e.statistic and e.tensor.numel() < 1024,
    "entries of 1,024 numbers or more": lambda e: e.tensor.numel() >= 1024,
    "entries of exactly 1,024 numbers": lambda e: e.tensor.numel() == 1024,
}  # fmt: skip


def kinds_of(entries: Iterable[Entry]) -> dict[str, Holds]:
    """What to look for in these, by name: dtypes, signs in names, and the kinds above."""
    entries = list(entries)
    dtypes = {str(e.tensor.dtype).removeprefix("torch."): e.tensor.dtype for e in entries}
    found: dict[str, Holds] = {f"entries of {name}": lambda e, t=t: e.tensor.dtype == t for name, t in dtypes.items()}  # type: ignore[misc]
    found |= KINDS | BIG
    for dtype, of in dtypes.items():
        found[f"{dtype} entries of 1,024 numbers or more"] = lambda e, t=of: (
            e.tensor.dtype == t and e.tensor.numel() >= 1024
        )  # type: ignore[misc]
        found[f"{dtype} statistics"] = lambda e, t=of: e.tensor.dtype == t and e.statistic  # type: ignore[misc]
    for sign in sorted({letter for e in entries for letter in e.name if not letter.isalnum() and letter != "."}):
        found[f"names that hold {'a space' if sign == ' ' else sign}"] = lambda e, s=sign: s in e.name  # type: ignore[misc]
    for head in ("module.", "_orig_mod.", "model."):
        found[f"names that begin with {head}"] = lambda e, h=head: e.name.startswith(h)  # type: ignore[misc]
    return found


def in_common(bad: Iterable[Entry], good: Iterable[Entry]) -> str:
    """The one kind that all of the bad are, and none of the good; "" where there is none, or another one as well."""
    bad, good = list(bad), list(good)
    if not bad or not good:
        return ""
    found = [words for words, holds in kinds_of(bad).items() if all(map(holds, bad)) and not any(map(holds, good))]
    return found[0] if len(found) == 1 else ""


# ---- what came back -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Returned:
    """A state_dict that was asked of, and the one that came back."""

    case: Case
    wrong: bool
    got: dict[str, Tensor]

    @cached_property
    def given(self) -> dict[str, Tensor]:
        return state_dict_of(self.case)

    @cached_property
    def kept(self) -> bool:
        """Whether all names came back, and with their dtypes what is judged bit for bit: else that is what is wrong."""
        exact = [entry for entry in self.judged() if not entry.floating or entry.statistic]
        return self.given.keys() <= self.got.keys() and all(self.got[e.name].dtype == e.tensor.dtype for e in exact)

    def judged(self) -> list[Entry]:
        """The entries whose values are."""
        return [Entry(name, tensor) for name, tensor in self.given.items() if f"allowed:{name}" in self.case.expected]

    def is_bad(self, entry: Entry) -> bool:
        """Whether its values are too far off; False where it did not come back."""
        got, bounds = self.got.get(entry.name), self.case.expected[f"allowed:{entry.name}"]
        if got is None or got.numel() != entry.tensor.numel() or got.is_complex():
            return False
        assert isinstance(bounds, Tensor)
        off = (entry.tensor.double() - got.reshape(entry.tensor.shape).double()).abs().nan_to_num(torch.inf)
        same = torch.equal(entry.tensor, got.reshape(entry.tensor.shape)) or bool(bounds.any())
        return not bool((off <= bounds).all()) or not same or (not bounds.any() and self._other_signs(entry, got))

    @staticmethod
    def _other_signs(entry: Entry, got: Tensor) -> bool:
        return not torch.equal(entry.tensor.signbit().flatten(), got.signbit().flatten())


def returned_of(asked: Asked) -> Returned | None:
    if len(asked.answers) != 2 or any(answer.status is not Status.RETURNED for answer in asked.answers):
        return None
    first, back = asked.answers
    names = names_in(back.tensors[0]) if back.tensors else None
    parts = parts_of(asked.case, first)
    if parts is None or names is None or len(names) > len(back.tensors) - 1:
        return None
    _, after = parts
    if not all(map(torch.equal, state_dict_of(asked.case).values(), after)):
        return None  # it was changed: that is said by the judge
    got = dict(zip(names, back.tensors[1:], strict=False))
    return Returned(asked.case, asked.outcome.verdict != "RIGHT", got)


def file_of(asked: Asked) -> dict[str, Tensor] | None:
    """What compress made, by name."""
    tensors = asked.answers[0].tensors
    names = names_in(tensors[1]) if len(tensors) > 1 else None
    return None if names is None else dict(zip(names, tensors[2:], strict=False))
