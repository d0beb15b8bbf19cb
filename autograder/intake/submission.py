"""What one student handed in, whatever it is, made into a `Submission`: bytes in memory, of files the contract lists.

`take_in` lists the student's entries (`entries`), looks for the folder `solution` among them and reads what
belongs to a submission. Nothing is written to disk; everything is counted and bounded before it is read. All that was
left out, moved or refused is said in a remark, in words for the student. Whose submission is where in a class's folder
is for `layouts` to find out.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tokenize
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath

from autograder.intake.entries import (
    MAX_ENTRIES,
    TOO_MANY,
    Entry,
    Refused,
    folder_entries,
    open_beneath,
    open_zip,
    readable,
    zip_entries,
    zip_entry,
)
from hw7.solution import (
    HANDED_OUT,
    HANDED_OUT_ABOVE,
    MAX_SOURCE_FILES,
    MODULES,
    MOST_READ,
    NOTEBOOK,
    SOURCE,
    WEIGHTS,
)

FILES = tuple(f"{module}.py" for module in MODULES)

NBGRADERS = "timestamp.txt"  # which it writes into each submission

MAX_ZIP = 256_000_000  # of a student's zip, packed
MAX_INNER_ZIP = 64_000_000  # of a zip in a zip or folder, unpacked into memory
MAX_INNER_ZIPS = 8
MAX_REMARKS = 30


@dataclass(frozen=True)
class Found:
    """One student's place. members: where `path` is shared, the entries in it that are this student's, each with the
    name it has in the submission ("" for a folder: its content is the submission)."""

    student: str  # as it stands there, byte for byte: the key of grades
    path: Path
    kind: str  # "folder", "zip", or the layout of the whole that it was found in
    members: tuple[tuple[str, str], ...] = ()
    problem: str = ""
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submission:
    """What is graded. files: the source by path ("solution/losses.py"). problem: why nothing can be graded, or ""."""

    student: str
    files: dict[str, bytes] = field(default_factory=dict)
    weights: bytes | None = None
    notebook: bytes | None = None
    digest: str = ""
    remarks: tuple[str, ...] = ()
    problem: str = ""


def take_in(found: Found) -> Submission:
    """Reads one submission. Never raises for anything in it: what cannot be graded has a `problem`."""
    intake = _Intake(found)
    try:
        if found.problem:
            raise Refused(found.problem)
        with ExitStack() as stack:
            intake.read(stack)
    except Refused as reason:
        intake.problem = str(reason)
    except Exception as error:  # whatever else a submission leads to, it must not end the run
        intake.problem = f"It cannot be read ({readable(str(error))})."
    if intake.problem:
        intake.files, intake.weights, intake.notebook = {}, None, None
    return Submission(
        student=found.student,
        files=intake.files,
        weights=intake.weights,
        notebook=intake.notebook,
        digest=_digest(intake),
        remarks=tuple(intake.remarks),
        problem=intake.problem,
    )


class _Intake:
    def __init__(self, found: Found) -> None:
        self.found = found
        self.files: dict[str, bytes] = {}
        self.weights: bytes | None = None
        self.notebook: bytes | None = None
        self.remarks: list[str] = list(found.remarks)
        self.problem = ""
        self.used: set[int] = set()  # entries that were taken or remarked on, by identity

    def remark(self, text: str, entry: Entry | None = None) -> None:
        if entry is not None:
            self.used.add(id(entry))
        if len(self.remarks) < MAX_REMARKS:
            self.remarks.append(text)
        elif len(self.remarks) == MAX_REMARKS:
            self.remarks.append("There is more to remark on that is not listed here.")

    def read(self, stack: ExitStack) -> None:
        entries = list(_entries(self.found, stack))
        folder = self.locate(entries)
        if folder is None and (zips := [entry for entry in entries if entry.name.lower().endswith(".zip")]):
            entries = self.unpacked(entries, zips, stack)
            folder = self.locate(entries)
        for entry in entries:
            if entry.refused and entry.name.lower().endswith((".py", WEIGHTS, NOTEBOOK)):
                self.remark(f"{readable(entry.path)} {entry.refused}: not read.", entry)
        if folder is None:
            raise Refused(self.nothing(entries))
        self.take_source(entries, folder)
        base = folder[:-1] if folder and folder[-1].lower() == SOURCE else folder
        self.weights = self.take_one(entries, base, WEIGHTS)
        self.notebook = self.take_one(entries, base, NOTEBOOK)
        self.pass_over_what_was_given(entries, base)
        self.remark_leftovers(entries)

    @staticmethod
    def bytes_of(entry: Entry, limit: int) -> bytes:
        """Raises `Refused` with a whole sentence."""
        try:
            if entry.refused:
                raise Refused(entry.refused)
            return entry.read(limit)
        except Refused as reason:
            raise Refused(f"{readable(entry.path)} {reason}: not read.") from reason

    # ---- where the submission is ---------------------------------------------------------------------------

    def locate(self, entries: Sequence[Entry]) -> tuple[str, ...] | None:
        """The folder with the source. Raises `Refused` where there are several and none is in its right place."""
        modules: dict[tuple[str, ...], set[str]] = {}
        for entry in entries:
            if not entry.refused and entry.name.lower().endswith(".py"):
                modules.setdefault(entry.parts[:-1], set()).add(entry.name.lower())
        named = {folder: names for folder, names in modules.items() if folder and folder[-1].lower() == SOURCE}
        candidates = [folder for folder, names in named.items() if names & set(FILES)] or list(named)
        if not candidates:  # the modules, but not in a folder of this name
            candidates = [folder for folder, names in modules.items() if len(names & set(FILES)) >= 2]
        outermost = [f for f in candidates if not any(f != g and f[: len(g)] == g for g in candidates)]
        if not outermost:
            return None
        chosen = next((folder for folder in outermost if folder in ((SOURCE,), ())), outermost[0])
        others = sorted("/".join((*folder, "")) for folder in outermost if folder != chosen)
        shown = readable("/".join((*chosen, "")))
        if others and chosen not in ((SOURCE,), ()):
            listed = ", ".join([shown, *map(readable, others[:4])])
            raise Refused(f"There are {len(outermost)} folders that could be your submission ({listed}): hand in one.")
        if others:
            self.remark(f"Only {shown or 'the first level'} was graded, not {', '.join(map(readable, others[:4]))}.")
        if chosen != (SOURCE,):
            self.remark(f"{shown or 'The first level'} was taken for solution/.")
        return chosen

    def unpacked(self, entries: Sequence[Entry], zips: Sequence[Entry], stack: ExitStack) -> list[Entry]:
        """The entries, and those of the zips among them, as if each zip were a folder."""
        alone = len(entries) == 1  # then the zip is the submission, as if it had been unpacked all along
        result = [] if alone else list(entries)
        if len(zips) > MAX_INNER_ZIPS:
            self.remark(f"Of {len(zips)} zips only {MAX_INNER_ZIPS} were opened.")
        for entry in sorted(zips, key=lambda entry: entry.parts)[:MAX_INNER_ZIPS]:
            name = readable(entry.path)
            try:
                inner = stack.enter_context(open_zip(BytesIO(self.bytes_of(entry, MAX_INNER_ZIP)), name))
                result += zip_entries(inner, inner.infolist(), () if alone else entry.parts)
            except Refused as reason:
                if alone:
                    raise
                self.remark(str(reason), entry)
            else:
                if not alone:
                    self.remark(f"{name} was unpacked.", entry)
        return result

    def nothing(self, entries: Sequence[Entry]) -> str:
        reason = "There is no folder solution/ with Python files in it."
        if entries and all(entry.refused for entry in entries):
            first = entries[0]
            return f"{reason} Nothing could be read: {readable(first.path)} {first.refused}."
        names = ", ".join(sorted({readable(entry.parts[0]) for entry in entries})[:6])
        return f"{reason} What is there: {names}." if names else f"{reason} It is empty."

    # ---- what is taken --------------------------------------------------------------------------------------

    def take_source(self, entries: Sequence[Entry], folder: tuple[str, ...]) -> None:
        below = [
            entry
            for entry in entries
            if entry.parts[: len(folder)] == folder and entry.name.lower().endswith(".py") and not entry.refused
        ]
        if not folder or folder[-1].lower() != SOURCE:  # loose modules: what lies below is not theirs
            below = [entry for entry in below if len(entry.parts) == len(folder) + 1]
        if len(below) > MAX_SOURCE_FILES:
            raise Refused(f"{len(below)} Python files are too many: at most {MAX_SOURCE_FILES}.")
        total = sum(entry.size for entry in below)
        if total > MOST_READ[SOURCE]:
            raise Refused(f"The source under solution/ has {total:,} bytes; at most {MOST_READ[SOURCE]:,} are allowed.")
        exact = {entry.parts[len(folder) :] for entry in below}
        for entry in below:
            inside = entry.parts[len(folder) :]
            wanted = (*inside[:-1], inside[-1][:-3] + ".py")
            if len(inside) == 1 and inside[0].lower() in (*FILES, "__init__.py"):
                wanted = (inside[0].lower(),)
            path = "/".join((SOURCE, *wanted))
            if (wanted != inside and wanted in exact) or path in self.files:
                self.remark(f"{readable(entry.path)} was ignored: there is a {path}.", entry)
                continue
            try:
                data = self.bytes_of(entry, MOST_READ[SOURCE])
            except Refused as reason:
                self.remark(str(reason), entry)
                continue
            self.used.add(id(entry))
            self.files[path] = data
            if wanted != inside:
                self.remark(f"{readable(entry.path)} was taken for {path}.")
            if trouble := _encoding_trouble(data):
                self.remark(f"{path} {trouble}")
        self.files = dict(sorted(self.files.items()))
        if not self.files:
            raise Refused("No Python file under solution/ can be read.")
        for module in FILES:
            if f"{SOURCE}/{module}" not in self.files and f"{SOURCE}/{module[:-3]}/__init__.py" not in self.files:
                self.remark(f"{SOURCE}/{module} is missing.")

    def take_one(self, entries: Sequence[Entry], base: tuple[str, ...], name: str) -> bytes | None:
        """The file of this name beside solution/, or else the only one anywhere."""
        alike = [entry for entry in entries if entry.name.lower() == name and not entry.refused]
        beside = [entry for entry in alike if entry.parts[:-1] == base]
        beside = [entry for entry in beside if entry.name == name] or beside
        chosen = beside or alike
        if not chosen:
            self.remark(f"{name} is missing.")
            return None
        if len(chosen) > 1:
            self.remark(f"There are {len(chosen)} files {name}, none of them beside solution/: none was taken.")
            return None
        (entry,) = chosen
        try:
            data = self.bytes_of(entry, MOST_READ[name])
        except Refused as reason:
            self.remark(str(reason), entry)
            return None
        self.used.add(id(entry))
        if entry.parts != (*base, name):
            self.remark(f"{readable(entry.path)} was taken for {name}.")
        return data

    def pass_over_what_was_given(self, entries: Sequence[Entry], base: tuple[str, ...]) -> None:
        """What was handed out, and what nbgrader adds, is nothing to remark on."""
        above = base[:-2] if base[-2:] == ("assignments", "hw7") else None
        for entry in entries:
            inside = entry.parts[len(base) :] if entry.parts[: len(base)] == base else ()
            beside = entry.parts[len(above) :] if above is not None and entry.parts[: len(above)] == above else ()
            given = inside[:1] in [(name,) for name in HANDED_OUT] or inside == (NBGRADERS,)
            if given or beside[:1] in [(name,) for name in HANDED_OUT_ABOVE]:
                self.used.add(id(entry))

    def remark_leftovers(self, entries: Sequence[Entry]) -> None:
        """What is no part of a submission, by its first folder."""
        left = [entry for entry in entries if id(entry) not in self.used]
        for entry in left:
            if entry.refused:
                self.remark(f"{readable(entry.path)} {entry.refused}: not read.")
        counts = Counter(
            entry.parts[0] if len(entry.parts) == 1 else f"{entry.parts[0]}/" for entry in left if not entry.refused
        )
        if counts:
            names = [
                f"{readable(name)} ({count:,} files)" if name.endswith("/") else readable(name)
                for name, count in counts.most_common(6)
            ]
            more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
            self.remark(f"No part of a submission, ignored: {', '.join(names)}{more}.")


def _digest(intake: _Intake) -> str:
    """sha256 over length-prefixed records: no two submissions that are graded differently have the same."""
    records: list[tuple[str, bytes | None]] = list(intake.files.items())
    records += [(WEIGHTS, intake.weights), (NOTEBOOK, intake.notebook), ("problem", intake.problem.encode())]
    digest = hashlib.sha256()
    for name, data in records:
        if data is not None:
            for part in (name.encode(), data):
                digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


_COMMON_ENCODINGS = ("utf-8", "utf-8-sig", "ascii", "us-ascii", "iso-8859-1", "iso-8859-15", "cp1252", "latin-1")


def _encoding_trouble(data: bytes) -> str:
    """What is odd about a source file's encoding; nothing is compiled here."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "is UTF-16, which Python cannot read: save it as UTF-8."
    if b"\0" in data:
        return "has zero bytes in it, which Python cannot read: save it as UTF-8 text."
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)
        if encoding in _COMMON_ENCODINGS:
            data.decode(encoding)
        return (
            ""
            if encoding in ("utf-8", "utf-8-sig")
            else f"is not UTF-8 but {readable(encoding)}: better save it as UTF-8."
        )
    except (SyntaxError, UnicodeError, LookupError, ValueError):
        return "is not UTF-8 text, and does not say what else it is: save it as UTF-8."


# ---- the entries of a place ---------------------------------------------------------------------------------------


def _entries(found: Found, stack: ExitStack) -> Iterator[Entry]:
    """Everything that is this student's, without litter. Raises `Refused` for what is too much or no submission."""
    kind = stat.S_IFMT(os.lstat(found.path).st_mode) if not found.members else 0
    if found.members:
        yield from _member_entries(found, stack)
    elif kind == stat.S_IFDIR:
        yield from folder_entries(found.path)
    elif kind == stat.S_IFLNK:
        raise Refused("The submission is a link, which is not followed.")
    elif kind != stat.S_IFREG:
        raise Refused("The submission is neither a folder nor a file.")
    elif found.path.suffix.lower() != ".zip":
        raise Refused(f"{readable(found.path.name)} is neither a folder nor a zip: hand in a zip.")
    else:
        (entry,) = folder_entries(found.path.parent, [found.path.name])
        if entry.refused:
            raise Refused(f"{readable(found.path.name)} {entry.refused}: not read.")
        file = stack.enter_context(open_beneath(found.path.parent, entry.parts))
        if entry.size > MAX_ZIP:
            raise Refused(f"{readable(found.path.name)} has {entry.size:,} bytes; at most {MAX_ZIP:,} are read.")
        opened = stack.enter_context(open_zip(file, readable(found.path.name)))
        yield from zip_entries(opened, opened.infolist())


def _member_entries(found: Found, stack: ExitStack) -> Iterator[Entry]:
    """The members of a shared folder or zip."""
    if found.path.is_dir():
        listed = folder_entries(found.path, [name for name, _ in found.members])
        for (_, called), entry in zip(found.members, listed, strict=True):
            yield replace(entry, parts=(called,))
        return
    outer = stack.enter_context(zipfile.ZipFile(found.path))
    for name, called in found.members:
        folder = [info for info in outer.infolist() if info.filename.startswith(f"{name}/")]
        if len(folder) > MAX_ENTRIES:
            raise Refused(TOO_MANY)
        yield from zip_entries(outer, folder, (called,) if called else (), f"{name}/")
        for info in outer.infolist():
            if info.filename == name:
                yield zip_entry(outer, info, (called or PurePosixPath(name).name,))
