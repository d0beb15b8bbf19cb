"""Identities: what a folder's run depends on, and how one that is there differs from the one that is asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hw7 import HW7Error


def check_identity(directory: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raises HW7Error, with every setting that differs, unless a folder's run is the one that is wanted."""
    if differing := "; ".join(_differences("", found, wanted)):
        raise HW7Error(
            f"{directory} holds another run ({differing}). Choose another folder, or delete this one to start anew."
        )


def _differences(name: str, found: Any, wanted: Any) -> Iterator[str]:
    """What differs, setting by setting, in words: "epochs 3, not 5"."""
    if found == wanted:
        return
    if name == "shapes":
        yield "a network of other shapes"
    elif isinstance(found, dict) and isinstance(wanted, dict):
        for key in wanted:
            yield from _differences(key.replace("_", " "), found.get(key), wanted[key])
    elif isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            yield f"{len(found)} {name}, not {len(wanted)}"
        for number, pair in enumerate(zip(found, wanted, strict=False), start=1):
            where = f"{name.removesuffix('s')} {number}: " if len(wanted) > 1 else ""
            yield from (f"{where}{text}" for text in _differences("", *pair))
    else:
        before, now = ("some" if isinstance(v, dict | list) else "none" if v is None else v for v in (found, wanted))
        yield f"{name} {before}, not {now}".lstrip()
