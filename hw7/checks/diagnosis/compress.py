"""Task 4.2: which entries do not come back as they were, what they have in common, and what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hw7.checks.cases import Case, Status
from hw7.checks.diagnosis import Asked, Diagnosis
from hw7.checks.diagnosis.became import became, steps_of
from hw7.checks.diagnosis.entries import Entry, Returned, in_common, kinds_of, returned_of
from hw7.checks.diagnosis.names import names_found, names_taken
from hw7.checks.tensors import reorder
from hw7.checks.there_and_back import state_dict_of

HALF_A_STEP = "At most half a step of 8 bits, (max - min) / 255, is allowed."
EXACT = "Statistics, whole numbers and bools are to come back bit for bit."


def compress_found(asked: Sequence[Asked]) -> dict[str, Diagnosis]:
    """What is wrong in each answer, by the case's name."""
    returned = [each for each in map(returned_of, asked) if each is not None]
    found: dict[str, Diagnosis] = {}
    for mistake, finder in (
        ("file-too-large", _too_large),
        ("other-values", _values),
        ("other-dtypes", _dtypes),
        ("other-shapes", _shapes),
        ("other-names", names_found),
    ):
        found |= {name: Diagnosis(mistake, words) for name, words in finder(returned).items()}
    found |= {name: Diagnosis("fails-for-some", words) for name, words in _failures(asked).items()}
    return found | {name: Diagnosis("names-taken", words) for name, words in names_taken(asked).items()}


# ---- shapes and dtypes --------------------------------------------------------------------------------------------


def _pairs(returned: Sequence[Returned]) -> list[tuple[Returned, Entry, Tensor]]:
    """Each entry that came back under its name, and what came back."""
    return [
        (each, Entry(name, each.given[name]), got)
        for each in returned
        for name, got in each.got.items()
        if name in each.given
    ]


def _shapes(returned: Sequence[Returned]) -> dict[str, str]:
    pairs = _pairs(returned)
    bad = [(each, entry, got) for each, entry, got in pairs if entry.tensor.shape != got.shape]
    good = [entry for _, entry, got in pairs if entry.tensor.shape == got.shape]
    common = in_common([entry for _, entry, _ in bad], good)
    found: dict[str, str] = {}
    for each, entry, got in bad:
        if each.wrong and each.exact:
            was, now = list(entry.tensor.shape), list(got.shape)
            kind = f" So do {common}, and no others." if common else ""
            how = " flat" if len(now) == 1 and now[0] == entry.tensor.numel() and len(was) > 1 else ""
            how = (
                " with the numbers of another entry"
                if got.numel() != entry.tensor.numel() and _owner(each, got)
                else how
            )
            found.setdefault(each.case.name, f"{entry.name} has the shape {was} and comes back{how} as {now}.{kind}")
    return found


def _owner(each: Returned, got: Tensor) -> bool:
    return any(tensor.shape == got.shape and torch.equal(tensor, got) for tensor in each.given.values())


def _dtypes(returned: Sequence[Returned]) -> dict[str, str]:
    pairs = _pairs(returned)
    bad = [(each, entry, got) for each, entry, got in pairs if entry.tensor.dtype != got.dtype]
    good = [entry for _, entry, got in pairs if entry.tensor.dtype == got.dtype]
    common = in_common([entry for _, entry, _ in bad], good)
    into = {got.dtype for _, _, got in bad}
    kept = {entry.tensor.dtype for entry in good}
    found: dict[str, str] = {}
    for each, entry, got in bad:
        if each.wrong:
            was, now = (str(dtype).removeprefix("torch.") for dtype in (entry.tensor.dtype, got.dtype))
            kind = f" So do {common}, and no others." if common and not common.endswith(was) else ""
            kind = f" All others come back as {now}, too." if into == kept else kind
            found.setdefault(each.case.name, f"{entry.name} is {was} and comes back as {now}.{kind}")
    return found


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


# ---- too large ----------------------------------------------------------------------------------------------------


def _too_large(returned: Sequence[Returned]) -> dict[str, str]:
    """Where all else is right: which weight takes more than a byte a number, or what lies beside the levels."""
    found = {}
    for each in returned:
        big = [Entry(name, t) for name, t in each.given.items() if t.is_floating_point() and t.numel() >= 1024]
        big = [entry for entry in big if not entry.statistic]
        most = each.case.expected.get("most_bytes")
        if each.wrong and big and isinstance(most, int) and each.size > most and (words := _bytes(each, big)):
            found[each.case.name] = words
    return found


def _bytes(each: Returned, big: Sequence[Entry]) -> str:
    file = list(each.file.values())
    wide = {t.numel(): t for t in file if t.element_size() > 1}
    narrow = Counter(t.numel() for t in file if t.element_size() == 1)
    for entry in big:
        if (stored := wide.get(entry.tensor.numel())) is not None:
            dtype, beside = str(stored.dtype).removeprefix("torch."), narrow[stored.numel()]
            return (
                f"{entry.name} has {entry.tensor.numel():,} numbers, and the file holds as many {dtype}"
                f"{' beside its levels' if beside else ''}: {stored.element_size()} bytes a number. "
                "At most 1.1 are allowed."
            )
    if any(narrow[entry.tensor.numel()] == 0 for entry in big):
        return ""
    levels = sum(entry.tensor.numel() for entry in big)
    small = {name: t for name, t in each.given.items() if name not in {entry.name for entry in big}}
    rest = sum(t.numel() * t.element_size() for t in file) - sum(t.numel() * t.element_size() for t in small.values())
    return (
        f"The levels take one byte a number, and what belongs to them (scales, zero points, …) "
        f"{rest / levels - 1:.2f} bytes more. At most 0.1 are allowed: let more numbers share a scale, or store it in "
        "fewer bytes."
    )


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
