"""Building cases: random numbers from a seed, mistakes worked out late, and only those that can be told apart.

A builder is a generator of cases: `for each in kd_loss(Numbers(task, seed))`. It yields what `case` and `refusal` make;
`finished` gives a case its task, and leaves out the mistakes that cannot be told from the right answer or each other.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

from hw7.checks.cases import Call, Case, Value
from hw7.checks.compare import as_mistakes, difference
from hw7.models import StudentNet

Mistakes = Mapping[str, Mapping[str, Value]]  # what each would change of the values expected


class Lazy(Mapping[str, Mapping[str, Value]]):
    """Mistakes that are worked out when the first wrong answer asks for them: right submissions do not pay for them."""

    def __init__(self, work_out: Callable[[], Mistakes]) -> None:
        self._work_out = work_out

    @cached_property
    def _mistakes(self) -> Mistakes:
        return self._work_out()

    def __getitem__(self, key: str) -> Mapping[str, Value]:
        return self._mistakes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mistakes)

    def __len__(self) -> int:
        return len(self._mistakes)


# ---- random numbers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """The random numbers of a task. Each is drawn for a purpose: the same seed and purpose always give the same."""

    task: str
    seed: bytes

    def number(self, *purpose: object) -> int:
        """31 bits of the seed for one purpose."""
        digest = hashlib.sha256(b"\0".join([self.seed, self.task.encode(), *(str(p).encode() for p in purpose)]))
        return int.from_bytes(digest.digest()[:4]) >> 1

    def generator(self, *purpose: object) -> torch.Generator:
        return torch.Generator().manual_seed(self.number(*purpose))

    def whole(self, low: int, high: int, *purpose: object) -> int:
        """A whole number in low..high."""
        return low + self.number("whole", *purpose) % (high - low + 1)

    def normal(self, *shape: int, purpose: object, size: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normally distributed numbers of standard deviation `size`."""
        return (size * torch.randn(shape, generator=self.generator(purpose), dtype=torch.float64)).to(dtype)

    def network(self, purpose: str, widths: Sequence[int], classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The floating entries [n] of a StudentNet with live activations, distinct batch-norm scales of both signs, and
        statistics that are no defaults."""
        generator = self.generator("network", purpose)
        entries = []
        for name, tensor in StudentNet(widths, classes).state_dict().items():
            if not tensor.is_floating_point():
                continue
            normal = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            uniform = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("bn.weight"):
                values = (0.3 + 1.7 * uniform) * normal.sign()
            elif name.endswith("running_var"):
                values = 0.5 + 1.5 * uniform
            else:
                values = normal * ((2 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.5)
            entries.append(values.flatten())
        return torch.cat(entries).to(dtype)


# ---- cases -------------------------------------------------------------------------------------------------------


def case(
    part: str,
    name: str,
    call: Call,
    expected: Mapping[str, Value],
    mistakes: Mistakes | Callable[[], Mistakes] | None = None,
    judge: str = "values",
    then: Call | None = None,
    needs: str = "",
    evidence: Mistakes | Callable[[], Mistakes] | None = None,
) -> Case:
    """A case that has no task yet; see `hw7.checks.cases.Case`. mistakes, evidence: the table, or what makes it."""
    # Not `table or {}`: to ask whether a lazy one is empty would work it out.
    tables = [Lazy(table) if callable(table) else {} if table is None else table for table in (mistakes, evidence)]
    return Case("", part, name, call, judge, expected, tables[0], then, needs, tables[1])


def refusal(part: str, name: str, call: Call, reason: str, mistake: str) -> Case:
    """A call that must raise ValueError."""
    return case(part, name, call, {"reason": reason}, {mistake: {}}, "refuses")


def finished(made: Case, task: str) -> Case:
    """The case of this task, without the mistakes that cannot be told apart."""
    return replace(made, task=task, mistakes=Lazy(partial(_told_apart, made)))


def _told_apart(made: Case) -> Mistakes:
    """The mistakes that give another answer than the right one and, where values are compared, than other mistakes."""
    if made.judge not in ("values", "outputs", "layers", "pruned"):
        return made.mistakes
    shown = {id_: c for id_, c in made.mistakes.items() if not c or not _alike(made.expected, {}, c)}
    if made.judge == "layers":
        return shown
    options = as_mistakes(made.expected)

    def has_a_double(id_: str) -> bool:
        others = [other for other in shown if other.partition("#")[0] != id_.partition("#")[0]]
        return any(_alike(options, shown[id_], shown[other]) for other in others)

    return {id_: change for id_, change in shown.items() if not has_a_double(id_)}


def _alike(expected: Mapping[str, Value], one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    """Whether two changes of what is expected give the same values. What is known by other signs is like no other."""
    if not all(isinstance(value, Tensor) for value in (*one.values(), *other.values())):
        return False
    pairs = ((name, one.get(name, expected[name]), other.get(name, expected[name])) for name in {*one, *other})
    return all(difference(name, right, value, expected) is None for name, right, value in pairs)  # type: ignore[arg-type]


def only_these(mistakes: Mistakes, names: Sequence[str], without: Sequence[str] = ()) -> Mistakes:
    """What the mistakes change of these entries, without those that these entries do not prove."""
    names = (*names, "other_count")
    shown = {id_: {key: value for key, value in change.items() if key in names} for id_, change in mistakes.items()}
    return {id_: change for id_, change in shown.items() if change and id_ not in without}


def possible(wrongs: Iterable[str], make_it: Callable[[str], Mapping[str, Value]]) -> dict[str, Mapping[str, Value]]:
    """What these mistakes give; without those that cannot be made here: another shape, an index that is not there."""
    found = {}
    for wrong in wrongs:
        with suppress(IndexError, RuntimeError):
            found[wrong] = make_it(wrong)
    return found
