"""What finders of chapter pruning share: answers by name, explanations that cost least, words for lists."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from hw7.checks.cases import Status, Verdict
from hw7.checks.compare import tensor_names
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.support.words import joined

MOST = 100_000  # entries of one tensor that is looked at: all right ones have fewer


class Explanation(NamedTuple):
    """What a function may compute. cost: how far it is from what is asked for; the least is believed."""

    cost: float
    words: str


def answer_of(asked: Asked) -> dict[str, Tensor] | None:
    """What came back by name; None where it is of another kind, or more than anybody should send."""
    names, (answer, *_) = tensor_names(asked.case.expected), asked.answers
    if answer.status is not Status.RETURNED or len(answer.tensors) != len(names):
        return None
    if any(tensor.numel() > MOST or tensor.is_complex() for tensor in answer.tensors):
        return None
    return dict(zip(names, answer.tensors, strict=True))


def is_wrong(asked: Asked) -> bool:
    return asked.outcome.verdict is not Verdict.RIGHT


def told(asked: Iterable[Asked], mistake: str, message: str) -> dict[str, Diagnosis]:
    """The same of every wrong answer."""
    return {each.case.name: Diagnosis(mistake, message) for each in asked if is_wrong(each)}


def simplest(found: Sequence[Explanation]) -> Explanation | None:
    """The one that costs least; None where two do."""
    ranked = sorted(found)
    if not ranked or (len(ranked) > 1 and ranked[1].cost == ranked[0].cost):
        return None
    return ranked[0]


def of_evidence(asked: Asked, table: str) -> dict[str, Tensor]:
    """A table of tensors; Raises LookupError where there is none, as in questions from before there was evidence."""
    return {name: value for name, value in asked.case.evidence[table].items() if isinstance(value, Tensor)}


def listed(words: Sequence[str], most: int = 4) -> str:
    """ "a, b and c"; of many, the first ones."""
    if len(words) > most:
        return f"{', '.join(words[: most - 1])} and {len(words) - most + 1} more"
    return joined(words)


def stages(numbers: Iterable[int]) -> str:
    """ "stage 3", "stages 3 to 6", "stages 3, 5 and 6"."""
    found = sorted(set(numbers))
    if len(found) == 1:
        return f"stage {found[0]}"
    if len(found) > 2 and found[-1] - found[0] == len(found) - 1:
        return f"stages {found[0]} to {found[-1]}"
    return f"stages {listed([str(number) for number in found], 8)}"


def blocks(numbers: Iterable[int]) -> str:
    """ "block 3", "blocks 3 to 6"."""
    return stages(numbers).replace("stage", "block")


def entries_named(names: Iterable[str], among: Iterable[str]) -> str:
    """ "`fc`, `bn.bias` of blocks 3 to 6": a module's name where all that it has is meant. among: all entries."""
    chosen, every = set(names), list(among)
    if chosen == set(every):
        return "all tensors"
    alone: dict[str, None] = {}  # in order
    of_blocks: dict[str, list[int]] = {}
    for name in [name for name in every if name in chosen]:
        head, _, rest = name.partition(".")
        number, _, field = rest.partition(".")
        if head == "blocks":
            of_blocks.setdefault(field, []).append(int(number))
        else:
            whole = {each for each in every if each.startswith(f"{head}.")} <= chosen
            alone[f"`{head}`" if whole else f"`{name}`"] = None
    fields: dict[tuple[int, ...], list[str]] = {}
    for field, places in of_blocks.items():
        fields.setdefault(tuple(places), []).append(field)
    all_fields = {name.split(".", 2)[2] for name in every if name.startswith("blocks.")}
    parts = [
        blocks(places) if set(own) == all_fields else f"{listed([f'`{field}`' for field in own])} of {blocks(places)}"
        for places, own in fields.items()
    ]
    return listed([*alone, *parts])


def in_questions(asked: Sequence[Asked]) -> str:
    """ "in the question 'ties'", by their names."""
    names = [f"'{each.case.name}'" for each in asked]
    return f"in the question{'s' if len(names) > 1 else ''} {listed(names, 3)}"


def only_again(asked: Sequence[Asked], what: str) -> dict[str, Diagnosis]:
    """Where nothing is wrong but answers about what had other numbers in an earlier call."""
    wrong = [each for each in asked if is_wrong(each)]
    if not wrong or not all(each.case.call.inputs.get("again") for each in wrong) or len(wrong) == len(asked):
        return {}
    message = (
        f"Only where {what} held other numbers in an earlier call is the answer wrong: it still follows from those. "
        "Each call must look at the numbers as they are then."
    )
    return told(wrong, "pruning-keeps-earlier", message)


def first_of(finders: Iterable[Callable[[], Mapping[str, Diagnosis]]]) -> dict[str, Diagnosis]:
    """What the first finder says that says anything."""
    return dict(next(filter(None, (finder() for finder in finders)), {}))
