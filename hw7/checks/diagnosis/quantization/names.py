"""Task 4.2: names that compress takes for itself, and that are an entry's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from hw7.checks.cases import Case
from hw7.checks.diagnosis.frame import Asked
from hw7.checks.diagnosis.quantization.entries import file_of
from hw7.checks.there_and_back import state_dict_of


def names_taken(asked: Sequence[Asked]) -> dict[str, str]:
    """Entries whose names are those under which compress stores something else, as its other files show."""
    files = [(each.case, file) for each in asked if (file := file_of(each)) is not None]
    found = {}
    for case in (each.case for each in asked if each.outcome.verdict != "RIGHT"):
        names = list(state_dict_of(case))
        others = [(other, file) for other, file in files if state_dict_of(other).keys() != set(names)]
        tails, own = _made_up(others)
        parts = [(name, name + tail) for name in names for tail in tails if name + tail in names]
        alone = [name for name in names if name in own]
        if parts:
            name, part = parts[0]
            pair = f"{part} is an entry of its own here, and compress stores a part of {name} under this name"
        elif alone:
            pair = f"{alone[0]} is an entry here, and compress stores something of its own under this name"
        else:
            continue
        found[case.name] = f"{pair}. Any name may be an entry's: what compress stores must be told apart from entries."
    return found


def _made_up(files: Sequence[tuple[Case, Mapping[str, Tensor]]]) -> tuple[list[str], set[str]]:
    """What compress puts behind the names of entries, and the other names that it uses, in the order of its files;
    nothing where it does not store entries under their own names."""
    tails: dict[str, None] = {}
    own: set[str] = set()
    kept = made = 0
    for case, file in files:
        names = list(state_dict_of(case))
        kept, made = kept + len(file.keys() & set(names)), made + len(file)
        for key in file:
            heads = [name for name in names if key.startswith(name)]
            if key not in names and heads:
                tails[key.removeprefix(max(heads, key=len))] = None
            elif key not in names:
                own.add(key)
    return ([], set()) if kept < made / 4 else (list(tails), own)
