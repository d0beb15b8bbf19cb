"""Identities: what a folder's run depends on, and how one that is there differs from the one that is asked for."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hw7 import HW7Error

_DIGEST = r"\b(?=\d*[a-f])[0-9a-f]{16,64}\b"
# What a person changes comes first: what follows from that differs, too, and is not named beside it.
_FOLLOWS = {"shapes": ("network",), "first weights": ("network", "shapes", "seed")}


def check_identity(directory: Path, found: dict[str, Any], wanted: dict[str, Any], what: str = "run") -> None:
    """Raises HW7Error, with every setting that differs, unless a folder's run is the one that is wanted.

    what: what the folder is for, in the message.
    """
    keys = [key for key in wanted if found.get(key) != wanted[key]]
    if keys:
        named = [key for key in keys if not set(_FOLLOWS.get(key, ())) & set(keys)]
        differing = "; ".join(text for key in named for text in _differences(key, found.get(key), wanted[key]))
        raise HW7Error(
            f"{directory} holds another {what} ({differing}). Choose another folder, or delete this one to start anew."
        )


def _differences(name: str, found: Any, wanted: Any) -> Iterator[str]:
    """What differs, setting by setting, in words: "epochs: 3 there, 5 here"."""
    if found == wanted:
        return
    if name == "shapes":
        yield "a network of other shapes"
    elif isinstance(found, dict) and isinstance(wanted, dict):
        for key in wanted | found:
            yield from _differences(key.replace("_", " "), found.get(key), wanted.get(key))
    elif isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            yield f"{name}: {len(found)} there, {len(wanted)} here"
        for number, pair in enumerate(zip(found, wanted, strict=False), start=1):
            where = f"{name.removesuffix('s')} {number}: " if len(wanted) > 1 else ""
            yield from (f"{where}{text}" for text in _differences("", *pair))
    else:
        yield _in_words(name, found, wanted)


def _in_words(name: str, found: Any, wanted: Any) -> str:
    """Of texts in parts, "20 images, 32 px", only the parts that differ; of digests, which say nothing, no more than
    that they are others."""
    before, now = ("some" if isinstance(v, dict | list) else "none" if v is None else str(v) for v in (found, wanted))
    parts = [text.split(", ") for text in (before, now)]
    if len(parts[0]) == len(parts[1]):
        pairs = [pair for pair in zip(*parts, strict=True) if pair[0] != pair[1]]
        before, now = (", ".join(pair[side] for pair in pairs) for side in (0, 1))
    plain = [re.sub(rf" (?:by|from) (?={_DIGEST})|{_DIGEST}", "", text) for text in (before, now)]
    if plain[0] == plain[1]:
        return f"{name}: not the same"
    return f"{name}: {plain[0]} there, {plain[1]} here".lstrip(": ")
