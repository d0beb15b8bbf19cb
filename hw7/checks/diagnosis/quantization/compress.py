"""Task 4.2: which entries do not come back as they were, what they have in common, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from torch import Tensor

from hw7.checks.cases import Case, Status
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.quantization.became import became, steps_of
from hw7.checks.diagnosis.quantization.entries import Entry, Returned, in_common, kinds_of, returned_of
from hw7.checks.diagnosis.quantization.names import names_taken
from hw7.checks.tensors import reorder
from hw7.checks.there_and_back import state_dict_of

HALF_A_STEP = "At most half a step of 8 bits, (max - min) / 255, is allowed."
EXACT = "Statistics, whole numbers and bools are to come back bit for bit."


def compress_found(asked: Sequence[Asked]) -> dict[str, Diagnosis]:
    """What is wrong in each answer, by the case's name."""
    returned = [each for each in map(returned_of, asked) if each is not None and each.kept]
    found = {name: Diagnosis("other-values", words) for name, words in _values(returned).items()}
    found |= {name: Diagnosis("fails-for-some", words) for name, words in _failures(asked).items()}
    return found | {name: Diagnosis("names-taken", words) for name, words in names_taken(asked).items()}


# ---- values -------------------------------------------------------------------------------------------------------


def _values(returned: Sequence[Returned]) -> dict[str, str]:
    bad = {each.case.name: [entry for entry in each.judged() if each.is_bad(entry)] for each in returned if each.wrong}
    lost = [entry for entries in bad.values() for entry in entries]
    good = [entry for each in returned for entry in each.judged() if entry.name not in {e.name for e in lost}]
    common = in_common(lost, good)
    said = {each.case.name: [_became(each, entry) for entry in bad.get(each.case.name, ())] for each in returned}
    # Of what several ways give, the one that all wrong entries agree on comes first.
    counts = Counter(words for lists in said.values() for some in lists for words in some)
    steps = _steps(returned)
    found = {}
    for each in returned:
        for entry, some in zip(bad.get(each.case.name, ()), said[each.case.name], strict=True):
            some = [words for words in some if words in steps] if some and some[0].startswith("in steps of ") else some
            if some and each.case.name not in found:
                words = max(some, key=lambda words: counts[words])
                kind = f" Wrong are {common}, and no others." if common else ""
                asked = HALF_A_STEP if entry.floating and not entry.statistic else EXACT
                found[each.case.name] = f"{entry.name} comes back {words}.{kind} {asked}"
    return found


def _steps(returned: Sequence[Returned]) -> set[str]:
    """The steps that all quantized entries may have, the right ones too."""
    found: set[str] | None = None
    for each in returned:
        for entry in each.judged():
            ranges, got = each.case.evidence.get(entry.name), each.got.get(entry.name)
            if ranges and got is not None and got.numel() == entry.tensor.numel() and got.is_floating_point():
                steps = set(steps_of(got.double(), ranges))
                found = steps if found is None or not steps else found & steps if found else steps
    return found or set()


def _became(each: Returned, entry: Entry) -> list[str]:
    """All that may have become of an entry, in words that follow "comes back"."""
    got = each.got[entry.name].reshape(entry.tensor.shape)
    if each.case.call.inputs.get("again"):
        reorder(before := entry.tensor.clone())
        if (got.double() - before.double()).abs().max() <= each.case.expected[f"allowed:{entry.name}"].max():  # type: ignore[union-attr]
            return ["with the numbers that the same tensor held in an earlier call"]
    if same := [name for name, other in each.given.items() if name != entry.name and _near(other, got)]:
        return [f"with the numbers of {same[0]}"]
    return became(entry, got, each.case.evidence.get(entry.name, {}))


def _near(other: Tensor, got: Tensor) -> bool:
    if other.shape != got.shape or not other.is_floating_point() or other.numel() < 2:
        return False
    return bool(((other.double() - got.double()).abs() <= 1e-2 * (other.max() - other.min()).double()).all())


# ---- what fails ---------------------------------------------------------------------------------------------------

OF_CASES: dict[str, Callable[[Case], bool]] = {
    "where entries require a gradient": lambda case: bool(case.call.inputs.get("parameters")),
    "where entries do not lie in memory row by row": lambda case: bool(case.call.inputs.get("channels_last")),
    "where two entries are one and the same tensor": lambda case: bool(case.call.inputs.get("tied")),
    "where there is no entry at all": lambda case: not state_dict_of(case),
}


def _failures(asked: Sequence[Asked]) -> dict[str, str]:
    """For which kind of entries a function raises an exception, if it returns for all others."""
    failed = [each for each in asked if each.answers[-1].status in (Status.RAISED, Status.VALUE_ERROR)]
    if not failed:
        return {}
    fine = [each for each in asked if each.answers[-1].status is Status.RETURNED]
    lengths = {len(each.answers) for each in failed}
    entries = [[Entry(*pair) for pair in state_dict_of(each.case).items()] for each in failed]
    others = [Entry(*pair) for each in fine for pair in state_dict_of(each.case).items()]
    kinds = [
        words
        for words, holds in OF_CASES.items()
        if all(holds(each.case) for each in failed) and not any(holds(each.case) for each in fine)
    ]
    some = {
        words
        for words, holds in kinds_of(entry for each in entries for entry in each).items()
        if all(any(map(holds, each)) for each in entries) and not any(map(holds, others))
    }
    kinds += [
        f"where there are {words}"
        for words in sorted(some)
        if not any(words.startswith(f"{e.split()[-1]} ") for e in some)
    ]
    if len(lengths) != 1 or not 1 <= len(kinds) <= 3 or not fine:
        return {}
    name = "compress" if lengths == {1} else "decompress"
    message = (
        f"{name} raises an exception {', or '.join(kinds)}, and not elsewhere. Run the public tests: they show it."
    )
    return {each.case.name: message for each in failed}
