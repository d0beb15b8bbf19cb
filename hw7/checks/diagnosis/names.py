"""Task 4.2: names that are lost or another, entries in another order, and names that compress takes for itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from hw7.checks.cases import Case
from hw7.checks.diagnosis import Asked
from hw7.checks.diagnosis.entries import Entry, Returned, file_of, in_common, kinds_of, listed
from hw7.checks.there_and_back import state_dict_of

WRAPPERS = ("module.", "_orig_mod.", "model.")


def _without(head: str) -> Callable[[str], str]:
    return lambda name: name.removeprefix(head)


def _without_any(head: str) -> Callable[[str], str]:
    return lambda name: name if not name.startswith(head) else _without_any(head)(name.removeprefix(head))


RENAMED: dict[str, Callable[[str], str]] = {
    "in small letters": str.lower,
    "in capitals": str.upper,
    "without letters that are not ASCII": lambda name: name.encode("ascii", "ignore").decode(),
    "without their last part": lambda name: name.rpartition(".")[0],
    "with nothing but their last part": lambda name: name.rpartition(".")[2],
    "without spaces": lambda name: name.replace(" ", ""),
    "without quotes": lambda name: name.replace('"', "").replace("'", ""),
    **{f"without {head} in front": _without(head) for head in WRAPPERS},
    **{f"without any {head} in front": _without_any(head) for head in WRAPPERS},
}


def names_found(returned: Sequence[Returned]) -> dict[str, str]:
    """What is wrong with the names of each answer, or with their order, by the case's name."""
    wrong = [each for each in returned if each.wrong and _is_wrong(each)]
    if not wrong:
        return {}
    if not any(each.got for each in returned):
        none = "No entry comes back: whatever decompress needs must be in the file, since it runs in a new process."
        return {each.case.name: none for each in wrong}
    if words := _renamed(returned):
        asked = "They are to come back as they were, every letter."
        return {each.case.name: f"Names come back {words}. {asked}" for each in wrong}
    entries = [(each, Entry(name, tensor)) for each in returned for name, tensor in each.given.items()]
    lost = [entry for each, entry in entries if entry.name not in each.got]
    common = in_common(lost, [entry for each, entry in entries if entry.name in each.got])
    found = {}
    for each in wrong:
        if missing := [name for name in each.given if name not in each.got]:
            kind = f" Lost are {common}, and no others." if common else ""
            found[each.case.name] = f"These entries do not come back under their names: {listed(missing)}.{kind}"
        elif len(each.got) > len(each.given):
            found[each.case.name] = (
                f"{len(each.got) - len(each.given)} entries come back that were not in the state_dict."
            )
        else:
            found[each.case.name] = (
                f"The entries come back {_order(each)}. They are to keep the order of the state_dict."
            )
    return found


def _is_wrong(each: Returned) -> bool:
    if each.exact:
        return list(each.got) != list(each.given)
    return not {entry.name for entry in each.judged()} <= set(each.got)


def _renamed(returned: Sequence[Returned]) -> str:
    """What was done to all names, in words."""
    found = [words for words, change in RENAMED.items() if all(_are(change, each) for each in returned)]
    return found[0] if found else _rewritten(returned)


def _are(change: Callable[[str], str], each: Returned) -> bool:
    return list(each.got) == list(dict.fromkeys(map(change, each.given)))


def _rewritten(returned: Sequence[Returned]) -> str:
    """With something in front of all, at the end of all, or in the place of every dot."""
    name, back = next(
        ((name, back) for each in returned for name, back in zip(each.given, each.got, strict=False)), ("", "")
    )
    changes: dict[str, Callable[[str], str]] = {}
    if back.endswith(name):
        changes["with something in front that was not there"] = lambda each: back.removesuffix(name) + each
    if back.startswith(name):
        changes["with something at the end that was not there"] = lambda each: each + back.removeprefix(name)
    if longest := max((len(back) for each in returned for back in each.got), default=0):
        changes[f"cut off after {longest} letters"] = lambda each: each[:longest]
    if len(back) == len(name) and "." in name:
        changes["with every . turned into another sign"] = lambda each: each.replace(".", back[name.index(".")])
    return next((words for words, change in changes.items() if all(_are(change, each) for each in returned)), "")


def _order(each: Returned) -> str:
    given, got = list(each.given), list(each.got)
    sizes = {name: tensor.numel() for name, tensor in each.given.items()}
    for words, order in (
        ("in alphabetical order", sorted(given)),
        ("backwards", given[::-1]),
        ("by size, small ones first", sorted(given, key=lambda name: sizes[name])),
        ("by size, large ones first", sorted(given, key=lambda name: -sizes[name])),
    ):
        if got == order:
            return words
    entries = [Entry(name, each.given[name]) for name in given]
    first = [
        words
        for words, holds in kinds_of(entries).items()
        if got == [e.name for e in entries if holds(e)] + [e.name for e in entries if not holds(e)]
    ]
    if len(first) == 1:
        return f"with {first[0]} first"
    return "in another order"


# ---- names that are taken -----------------------------------------------------------------------------------------


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
