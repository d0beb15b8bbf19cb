"""How names came back, where not as they were: lost, changed, or in another order. In words, and without new names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

WRAPPERS = ("module.", "_orig_mod.", "model.")
FEW = 3  # names in a message


def listed(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


def renamed(given: Sequence[str], got: Sequence[str]) -> str:
    """What follows "the names come back": "in small letters", "without fc.bias", "backwards"."""
    changes = {**RENAMED, **_rewritten(given, got)}
    for words, change in changes.items():
        if list(got) == list(dict.fromkeys(map(change, given))):
            return words
    if missing := [name for name in given if name not in got]:
        return f"without {listed(missing)}"
    if len(got) > len(given):
        return f"with {len(got) - len(given)} more that were not there"
    if list(got) == sorted(given):
        return "in alphabetical order"
    return "backwards" if list(got) == list(given)[::-1] else "in another order"


def _without(head: str) -> Callable[[str], str]:
    return lambda name: name.removeprefix(head)


def _without_any(head: str) -> Callable[[str], str]:
    return lambda name: name if not name.startswith(head) else _without_any(head)(name.removeprefix(head))


def _with_dots_as(sign: str) -> Callable[[str], str]:
    return lambda name: name.replace(".", sign)


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


def _rewritten(given: Sequence[str], got: Sequence[str]) -> dict[str, Callable[[str], str]]:
    """What may have been done to all names, if it was done to the first one."""
    name, back = next(zip(given, got, strict=False), ("", ""))
    changes: dict[str, Callable[[str], str]] = {}
    if back.endswith(name) and back != name:
        changes["with something in front that was not there"] = lambda each: back.removesuffix(name) + each
    if back.startswith(name) and back != name:
        changes["with something at the end that was not there"] = lambda each: each + back.removeprefix(name)
    longest = max(map(len, got), default=0)
    if longest:
        changes[f"cut off after {longest} letters"] = lambda each: each[:longest]
    for before, after in zip(given, got, strict=False):  # the first that has a dot
        if "." in before and len(after) == len(before):
            return changes | {"with every . turned into another sign": _with_dots_as(after[before.index(".")])}
    return changes
