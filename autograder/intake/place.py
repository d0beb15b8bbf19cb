"""A folder of the disk or of a zip, for a look at its first level."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from autograder.intake.entries import folder_entries, zip_entry
from autograder.intake.submission import Found

# What systems and editors leave behind: nobody's submission, and nothing to tell of.
LITTER = re.compile(r"\.DS_Store|\._.*|__MACOSX|Thumbs\.db|desktop\.ini|\.git(ignore|attributes|keep)?|__pycache__|"
                     r"\.ipynb_checkpoints", re.IGNORECASE)  # fmt: skip


# ---- a look at the first level ------------------------------------------------------------------------------


class Place:
    """A folder of the disk or of a zip, for a look at its first level."""

    def __init__(self, path: Path, stack: ExitStack, prefix: str = "") -> None:
        self.path, self.prefix, self.stack = path, prefix, stack
        self.zip: zipfile.ZipFile | None = None
        if not path.is_dir():
            self.zip = stack.enter_context(zipfile.ZipFile(path))

    def below(self, name: str) -> Place:
        if self.zip is None:
            return Place(self.path / name, self.stack)
        place = object.__new__(Place)
        place.__dict__.update(self.__dict__, prefix=f"{self.prefix}{name}/")
        return place

    def children(self, without: Collection[Path] = ()) -> dict[str, str]:
        """Name -> "folder", "file" or "other", sorted; no litter, and none of the paths in `without`."""
        kinds: dict[str, str] = {}
        if self.zip is None:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    folder, file = entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)
                    kinds[entry.name] = "folder" if folder else "file" if file else "other"
            here = self.path.resolve()
            kinds = {name: kind for name, kind in kinds.items() if here / name not in without}
        else:
            for name in self.zip.namelist():
                if name.startswith(self.prefix):
                    first, slash, _ = name[len(self.prefix) :].partition("/")
                    if slash or first not in kinds:
                        kinds[first] = "folder" if slash else "file"
            if not self.prefix.rstrip("/"):
                kinds = {name or "/": kind for name, kind in kinds.items()}
        return {name: kinds[name] for name in sorted(kinds) if name and not LITTER.fullmatch(name)}

    def read(self, name: str, limit: int) -> bytes:
        if self.zip is None:
            return next(folder_entries(self.path, [name])).read(limit)
        return zip_entry(self.zip, self.zip.getinfo(self.prefix + name), (name,)).read(limit)

    def found(self, student: str, kind: str, name: str, problem: str = "") -> Found:
        """The entry of this name as a student's own."""
        if self.zip is None:
            return Found(student, self.path / name, kind, problem=problem)
        return Found(student, self.path, kind, ((self.prefix + name, ""),), problem)
