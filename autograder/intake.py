"""What students handed in, whatever it is, made into a `Submission`: bytes in memory, of files the contract lists.

`find_submissions` tells the layout of a folder or zip by its names: one folder or zip a student, an nbgrader tree
`submitted/`, a Gradescope export, a Moodle export. `take_in` lists one student's entries, looks for the folder
`solution` among them and reads what belongs to a submission. Nothing is written to disk, no link is followed, no FIFO
waited for; everything is counted and bounded before it is read. All that was left out, moved or refused is said in a
remark, in words for the student.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import tokenize
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

import yaml

from hw7.account import expanded
from hw7.errors import HW7Error

MODULES = ("models.py", "losses.py", "pruning.py", "quantization.py")
SOURCE, WEIGHTS, NOTEBOOK = "solution", "weights.safetensors", "hw7.ipynb"

MAX_SOURCE = 1_000_000  # bytes of all files under solution/ together: far above the contract's, as MAX_WEIGHTS is
MAX_WEIGHTS = 64_000_000  # so that the grade can say how much too large a file is
MAX_NOTEBOOK = 32_000_000
MAX_ZIP = 256_000_000  # of a student's zip, packed
MAX_INNER_ZIP = 64_000_000  # of a zip in a zip or folder, unpacked into memory
MAX_INNER_ZIPS = 8
MAX_UNPACKED = 4_000_000_000  # declared, of all that is in a student's zip
MAX_RATIO = 200  # unpacked to packed, of a zip that unpacks to more than RATIO_FROM
RATIO_FROM = 100_000_000
MAX_DIRECTORY = 8_000_000  # bytes of a zip's table of contents
MAX_ENTRIES = 20_000
MAX_SOURCE_FILES = 200
MAX_DEPTH = 16
MAX_NAME = 100  # characters of one folder's or file's name
MAX_METADATA = 50_000_000  # Gradescope keeps the output of its own grader there
MAX_REMARKS = 30
TOO_MANY = f"More than {MAX_ENTRIES:,} files: leave data and environments out."

_LITTER = re.compile(r"\.[^/]*|__MACOSX|__pycache__|Thumbs\.db|desktop\.ini|.*\.py[co]", re.IGNORECASE)
_NO_STUDENT = re.compile(r".*\.(csv|ya?ml|txt|md|json|jsonl|html?|pdf|log|xlsx?|sh|toml)", re.IGNORECASE)
_MOODLE = re.compile(r"(?P<student>.+_\d+)_assignsubmission_(?P<plugin>file|onlinetext)(_(?P<file>.*))?", re.DOTALL)
_GRADESCOPE = re.compile(r"submission_\d+")
_METADATA = "submission_metadata.yml"


@dataclass(frozen=True)
class Found:
    """One student's place. members: where `path` is shared, the entries in it that are this student's, each with the
    name it has in the submission ("" for a folder: its content is the submission)."""

    student: str
    path: Path
    kind: str  # "folder", "zip", "nbgrader", "gradescope" or "moodle"
    members: tuple[tuple[str, str], ...] = ()
    problem: str = ""


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


class _Refused(Exception):
    """Why a submission, or one entry of it, is not read; in words for the student."""


@dataclass(frozen=True)
class _Entry:
    """A file, or what stands in a file's place. read: all its bytes, at most so many, or `_Refused`."""

    parts: tuple[str, ...]
    size: int
    read: Callable[[int], bytes]
    refused: str = ""  # why it is not read: "is a link"

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    @property
    def name(self) -> str:
        return self.parts[-1]


# ---- finding submissions ------------------------------------------------------------------------------------


def find_submissions(root: Path | str, assignment: str = "hw7") -> list[Found]:
    """All students' submissions in a folder or zip, in order of their names.

    assignment: the folder's name in an nbgrader tree. Raises HW7Error where there is nothing that could be one.
    """
    root = expanded(root)
    try:
        with ExitStack() as stack:
            place = _Place(root, stack)
            found = _found_in(place, assignment)
    except (OSError, zipfile.BadZipFile, _Refused, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise HW7Error(f"the submissions {root} cannot be read: {reason or error}") from error
    if not found:
        raise HW7Error(
            f"there are no submissions in {root}: it should hold a folder or a zip for each student, or be an nbgrader "
            "folder `submitted`, a Gradescope export or a Moodle export"
        )
    return _without_doubles(found)


class _Place:
    """A folder of the disk or of a zip, for a look at its first level."""

    def __init__(self, path: Path, stack: ExitStack, prefix: str = "") -> None:
        self.path, self.prefix, self.stack = path, prefix, stack
        self.zip: zipfile.ZipFile | None = None
        if not path.is_dir():
            self.zip = stack.enter_context(zipfile.ZipFile(path))

    def below(self, name: str) -> _Place:
        if self.zip is None:
            return _Place(self.path / name, self.stack)
        place = object.__new__(_Place)
        place.__dict__.update(self.__dict__, prefix=f"{self.prefix}{name}/")
        return place

    def children(self) -> dict[str, str]:
        """Name -> "folder", "file" or "other", sorted; no litter."""
        kinds: dict[str, str] = {}
        if self.zip is None:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    folder, file = entry.is_dir(follow_symlinks=False), entry.is_file(follow_symlinks=False)
                    kinds[entry.name] = "folder" if folder else "file" if file else "other"
        else:
            for name in self.zip.namelist():
                if name.startswith(self.prefix):
                    first, slash, _ = name[len(self.prefix) :].partition("/")
                    if slash or first not in kinds:
                        kinds[first] = "folder" if slash else "file"
        return {name: kinds[name] for name in sorted(kinds) if name not in ("", "..") and not _LITTER.fullmatch(name)}

    def read(self, name: str, limit: int) -> bytes:
        if self.zip is None:
            return next(_folder_entries(self.path, [name])).read(limit)
        return _zip_entry(self.zip, self.zip.getinfo(self.prefix + name), (name,)).read(limit)

    def found(self, student: str, kind: str, name: str, problem: str = "") -> Found:
        """The entry of this name as a student's own."""
        if self.zip is None:
            return Found(student, self.path / name, kind, problem=problem)
        return Found(student, self.path, kind, ((self.prefix + name, ""),), problem)


def _found_in(place: _Place, assignment: str) -> list[Found]:
    children = place.children()
    if _METADATA in children:
        return _in_gradescope(place, children)
    if any(_MOODLE.fullmatch(name) for name in children):
        return _in_moodle(place, children)
    if children.get("submitted") == "folder":
        place = place.below("submitted")
        return _in_nbgrader(place, place.children(), assignment)
    if place.zip is None and place.path.name == "submitted":
        return _in_nbgrader(place, children, assignment)
    if children.get(SOURCE) == "folder":  # one submission, not a folder of them
        student = _student(place.path.stem if place.zip else place.path.resolve().name)
        return [Found(student, place.path, "zip" if place.zip else "folder")]
    if list(children.values()) == ["folder"]:  # an export that was unpacked into a folder of its own
        below = place.below(next(iter(children)))
        names = below.children()
        if _METADATA in names or any(_MOODLE.fullmatch(name) for name in names) or (place.zip and SOURCE not in names):
            return _found_in(below, assignment)
    return [
        place.found(
            _student(name if kind == "folder" else PurePosixPath(name).stem),
            "folder" if kind == "folder" else "zip",
            name,
        )
        for name, kind in children.items()
        if kind == "folder" or not _NO_STUDENT.fullmatch(name)
    ]


def _in_nbgrader(place: _Place, children: dict[str, str], assignment: str) -> list[Found]:
    """submitted/STUDENT/ASSIGNMENT/. Raises `_Refused` where no student has the assignment and others are there."""
    folders = {student: place.below(student).children() for student, kind in children.items() if kind == "folder"}
    names = {name for inside in folders.values() for name, kind in inside.items() if kind == "folder"}
    if assignment not in names:
        if len(names) != 1:
            raise _Refused(
                f"no student has a folder {assignment}; there are {', '.join(sorted(names)) or 'none at all'}"
            )
        (assignment,) = names
    return [
        place.below(student).found(_student(student), "nbgrader", assignment)
        for student, inside in folders.items()
        if assignment in inside
    ]


def _in_moodle(place: _Place, children: dict[str, str]) -> list[Found]:
    """Name_12345_assignsubmission_file_/ with files in it, or the files themselves with that before their names."""
    students: dict[str, list[tuple[str, str]]] = {}
    for name in children:
        match = _MOODLE.fullmatch(name)
        if match and match["plugin"] == "file":
            students.setdefault(match["student"], []).append((name, match["file"] or ""))
        elif match:
            students.setdefault(match["student"], [])
    found = []
    for student, members in students.items():
        readable = _student(student)
        if not members:
            found.append(Found(readable, place.path, "moodle", problem="Only a text was handed in, no files."))
        elif len(members) == 1 and children[members[0][0]] == "folder":
            found.append(place.found(readable, "moodle", members[0][0]))
        else:
            named = tuple((place.prefix + name, file or name) for name, file in members)
            found.append(Found(readable, place.path, "moodle", named))
    return found


def _in_gradescope(place: _Place, children: dict[str, str]) -> list[Found]:
    """submission_NNN/ folders; the students of each stand in submission_metadata.yml, one or a group."""
    known: dict[str, list[str]] = {}
    with suppress(_Refused, yaml.YAMLError, RecursionError, UnicodeError, OSError, zipfile.BadZipFile):
        known = _submitters(place.read(_METADATA, MAX_METADATA))
    return [
        place.found(_student(student), "gradescope", name)
        for name, kind in children.items()
        if kind == "folder" and _GRADESCOPE.fullmatch(name)
        for student in known.get(name) or [name]
    ]


def _submitters(data: bytes) -> dict[str, list[str]]:
    """Folder -> its students: the id, else the e-mail address, else the name. The loader makes strings, lists and dicts
    of them, nothing else."""
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    table = yaml.load(data, Loader=loader)
    known: dict[str, list[str]] = {}
    for folder, record in table.items() if isinstance(table, dict) else ():
        people = record.get(":submitters") if isinstance(record, dict) else None
        for person in people if isinstance(people, list) else ():
            names = [person.get(key) for key in (":sid", ":email", ":name")] if isinstance(person, dict) else []
            name = next((name for name in names if isinstance(name, str) and name.strip()), None)
            if name is not None and isinstance(folder, str):
                known.setdefault(folder, []).append(name.strip())
    return known


def _without_doubles(found: Sequence[Found]) -> list[Found]:
    """One entry a student; whoever is there more than once cannot be graded until the teacher has chosen."""
    students: dict[str, list[Found]] = {}
    for each in found:
        students.setdefault(each.student, []).append(each)
    single = []
    for several in students.values():
        first = several[0]
        if len(several) > 1:
            places = ", ".join(_readable(each.members[0][0] if each.members else each.path.name) for each in several)
            first = replace(
                first, problem=f"There are {len(several)} submissions of this student ({places}): keep one."
            )
        single.append(first)
    return sorted(single, key=lambda each: each.student)


def _readable(name: str) -> str:
    """A name that can be printed, compared and written to any file: no control characters, no lone surrogates."""
    text = unicodedata.normalize("NFC", name.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    text = "".join(" " if char.isspace() else char if char.isprintable() else "?" for char in text).strip()
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 9]}~{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _student(name: str) -> str:
    """A student's name as the key of a grade, and as the name of a file."""
    return re.sub(r"[/\\]", "_", _readable(name)).lstrip(".") or "(no name)"


# ---- taking one in ------------------------------------------------------------------------------------------


def take_in(found: Found) -> Submission:
    """Reads one submission. Never raises for anything in it: what cannot be graded has a `problem`."""
    intake = _Intake(found)
    try:
        if found.problem:
            raise _Refused(found.problem)
        with ExitStack() as stack:
            intake.read(stack)
    except _Refused as reason:
        intake.problem = str(reason)
    except Exception as error:  # whatever else a submission leads to, it must not end the run
        intake.problem = f"It cannot be read ({_readable(str(error))})."
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
        self.remarks: list[str] = []
        self.problem = ""
        self.used: set[int] = set()  # entries that were taken or remarked on, by identity

    def remark(self, text: str, entry: _Entry | None = None) -> None:
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
                self.remark(f"{_readable(entry.path)} {entry.refused}: not read.", entry)
        if folder is None:
            raise _Refused(self.nothing(entries))
        self.take_source(entries, folder)
        base = folder[:-1] if folder and folder[-1].lower() == SOURCE else folder
        self.weights = self.take_one(entries, base, WEIGHTS, MAX_WEIGHTS)
        self.notebook = self.take_one(entries, base, NOTEBOOK, MAX_NOTEBOOK)
        self.remark_leftovers(entries)

    @staticmethod
    def bytes_of(entry: _Entry, limit: int) -> bytes:
        """Raises `_Refused` with a whole sentence."""
        try:
            if entry.refused:
                raise _Refused(entry.refused)
            return entry.read(limit)
        except _Refused as reason:
            raise _Refused(f"{_readable(entry.path)} {reason}: not read.") from reason

    # ---- where the submission is ---------------------------------------------------------------------------

    def locate(self, entries: Sequence[_Entry]) -> tuple[str, ...] | None:
        """The folder with the source. Raises `_Refused` where there are several and none is in its right place."""
        modules: dict[tuple[str, ...], set[str]] = {}
        for entry in entries:
            if not entry.refused and entry.name.lower().endswith(".py"):
                modules.setdefault(entry.parts[:-1], set()).add(entry.name.lower())
        named = {folder: names for folder, names in modules.items() if folder and folder[-1].lower() == SOURCE}
        candidates = [folder for folder, names in named.items() if names & set(MODULES)] or list(named)
        if not candidates:  # the modules, but not in a folder of this name
            candidates = [folder for folder, names in modules.items() if len(names & set(MODULES)) >= 2]
        outermost = [f for f in candidates if not any(f != g and f[: len(g)] == g for g in candidates)]
        if not outermost:
            return None
        chosen = next((folder for folder in outermost if folder in ((SOURCE,), ())), outermost[0])
        others = sorted("/".join((*folder, "")) for folder in outermost if folder != chosen)
        shown = _readable("/".join((*chosen, "")))
        if others and chosen not in ((SOURCE,), ()):
            listed = ", ".join([shown, *map(_readable, others[:4])])
            raise _Refused(f"There are {len(outermost)} folders that could be your submission ({listed}): hand in one.")
        if others:
            self.remark(f"Only {shown or 'the first level'} was graded, not {', '.join(map(_readable, others[:4]))}.")
        if chosen != (SOURCE,):
            self.remark(f"{shown or 'The first level'} was taken for solution/.")
        return chosen

    def unpacked(self, entries: Sequence[_Entry], zips: Sequence[_Entry], stack: ExitStack) -> list[_Entry]:
        """The entries, and those of the zips among them, as if each zip were a folder."""
        alone = len(entries) == 1  # then the zip is the submission, as if it had been unpacked all along
        result = [] if alone else list(entries)
        if len(zips) > MAX_INNER_ZIPS:
            self.remark(f"Of {len(zips)} zips only {MAX_INNER_ZIPS} were opened.")
        for entry in sorted(zips, key=lambda entry: entry.parts)[:MAX_INNER_ZIPS]:
            name = _readable(entry.path)
            try:
                inner = stack.enter_context(_open_zip(BytesIO(self.bytes_of(entry, MAX_INNER_ZIP)), name))
                result += _zip_entries(inner, inner.infolist(), () if alone else entry.parts)
            except _Refused as reason:
                if alone:
                    raise
                self.remark(str(reason), entry)
            else:
                if not alone:
                    self.remark(f"{name} was unpacked.", entry)
        return result

    def nothing(self, entries: Sequence[_Entry]) -> str:
        reason = "There is no folder solution/ with Python files in it."
        if entries and all(entry.refused for entry in entries):
            first = entries[0]
            return f"{reason} Nothing could be read: {_readable(first.path)} {first.refused}."
        names = ", ".join(sorted({_readable(entry.parts[0]) for entry in entries})[:6])
        return f"{reason} What is there: {names}." if names else f"{reason} It is empty."

    # ---- what is taken --------------------------------------------------------------------------------------

    def take_source(self, entries: Sequence[_Entry], folder: tuple[str, ...]) -> None:
        below = [
            entry
            for entry in entries
            if entry.parts[: len(folder)] == folder and entry.name.lower().endswith(".py") and not entry.refused
        ]
        if not folder or folder[-1].lower() != SOURCE:  # loose modules: what lies below is not theirs
            below = [entry for entry in below if len(entry.parts) == len(folder) + 1]
        if len(below) > MAX_SOURCE_FILES:
            raise _Refused(f"{len(below)} Python files are too many: at most {MAX_SOURCE_FILES}.")
        total = sum(entry.size for entry in below)
        if total > MAX_SOURCE:
            raise _Refused(f"The source under solution/ has {total:,} bytes; at most {MAX_SOURCE:,} are allowed.")
        exact = {entry.parts[len(folder) :] for entry in below}
        for entry in below:
            inside = entry.parts[len(folder) :]
            wanted = (*inside[:-1], inside[-1][:-3] + ".py")
            if len(inside) == 1 and inside[0].lower() in (*MODULES, "__init__.py"):
                wanted = (inside[0].lower(),)
            path = "/".join((SOURCE, *wanted))
            if (wanted != inside and wanted in exact) or path in self.files:
                self.remark(f"{_readable(entry.path)} was ignored: there is a {path}.", entry)
                continue
            try:
                data = self.bytes_of(entry, MAX_SOURCE)
            except _Refused as reason:
                self.remark(str(reason), entry)
                continue
            self.used.add(id(entry))
            self.files[path] = data
            if wanted != inside:
                self.remark(f"{_readable(entry.path)} was taken for {path}.")
            if trouble := _encoding_trouble(data):
                self.remark(f"{path} {trouble}")
        self.files = dict(sorted(self.files.items()))
        if not self.files:
            raise _Refused("No Python file under solution/ can be read.")
        for module in MODULES:
            if f"{SOURCE}/{module}" not in self.files and f"{SOURCE}/{module[:-3]}/__init__.py" not in self.files:
                self.remark(f"{SOURCE}/{module} is missing.")

    def take_one(self, entries: Sequence[_Entry], base: tuple[str, ...], name: str, limit: int) -> bytes | None:
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
            data = self.bytes_of(entry, limit)
        except _Refused as reason:
            self.remark(str(reason), entry)
            return None
        self.used.add(id(entry))
        if entry.parts != (*base, name):
            self.remark(f"{_readable(entry.path)} was taken for {name}.")
        return data

    def remark_leftovers(self, entries: Sequence[_Entry]) -> None:
        """What is no part of a submission, by its first folder."""
        left = [entry for entry in entries if id(entry) not in self.used]
        for entry in left:
            if entry.refused:
                self.remark(f"{_readable(entry.path)} {entry.refused}: not read.")
        counts = Counter(
            entry.parts[0] if len(entry.parts) == 1 else f"{entry.parts[0]}/" for entry in left if not entry.refused
        )
        if counts:
            names = [
                f"{_readable(name)} ({count:,} files)" if name.endswith("/") else _readable(name)
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
            else f"is not UTF-8 but {_readable(encoding)}: better save it as UTF-8."
        )
    except (SyntaxError, UnicodeError, LookupError, ValueError):
        return "is not UTF-8 text, and does not say what else it is: save it as UTF-8."


# ---- entries of folders -------------------------------------------------------------------------------------


def _entries(found: Found, stack: ExitStack) -> Iterator[_Entry]:
    """Everything that is this student's, without litter. Raises `_Refused` for what is too much or no submission."""
    kind = stat.S_IFMT(os.lstat(found.path).st_mode) if not found.members else 0
    if found.members:
        yield from _member_entries(found, stack)
    elif kind == stat.S_IFDIR:
        yield from _folder_entries(found.path)
    elif kind == stat.S_IFLNK:
        raise _Refused("The submission is a link, which is not followed.")
    elif kind != stat.S_IFREG:
        raise _Refused("The submission is neither a folder nor a file.")
    elif found.path.suffix.lower() != ".zip":
        raise _Refused(f"{_readable(found.path.name)} is neither a folder nor a zip: hand in a zip.")
    else:
        (entry,) = _folder_entries(found.path.parent, [found.path.name])
        if entry.refused:
            raise _Refused(f"{_readable(found.path.name)} {entry.refused}: not read.")
        file = stack.enter_context(_open_beneath(found.path.parent, entry.parts))
        if entry.size > MAX_ZIP:
            raise _Refused(f"{_readable(found.path.name)} has {entry.size:,} bytes; at most {MAX_ZIP:,} are read.")
        opened = stack.enter_context(_open_zip(file, _readable(found.path.name)))
        yield from _zip_entries(opened, opened.infolist())


def _member_entries(found: Found, stack: ExitStack) -> Iterator[_Entry]:
    """The members of a shared folder or zip."""
    if found.path.is_dir():
        listed = _folder_entries(found.path, [name for name, _ in found.members])
        for (_, called), entry in zip(found.members, listed, strict=True):
            yield replace(entry, parts=(called,))
        return
    outer = stack.enter_context(zipfile.ZipFile(found.path))
    for name, called in found.members:
        folder = [info for info in outer.infolist() if info.filename.startswith(f"{name}/")]
        if len(folder) > MAX_ENTRIES:
            raise _Refused(TOO_MANY)
        yield from _zip_entries(outer, folder, (called,) if called else (), f"{name}/")
        for info in outer.infolist():
            if info.filename == name:
                yield _zip_entry(outer, info, (called or PurePosixPath(name).name,))


def _folder_entries(root: Path, names: Iterable[str] | None = None) -> Iterator[_Entry]:
    """All files below a folder, or those of its entries that are named; folders of a listing are not descended into."""
    if names is not None:
        for name in names:
            yield _disk_entry(root, (name,), os.lstat(root / name))
        return
    count = 0
    folders: list[tuple[str, ...]] = [()]
    while folders:
        parts = folders.pop()
        descriptor = _descend(root, parts)
        try:
            with os.scandir(descriptor) as found:
                listing = sorted(found, key=lambda entry: entry.name)
                for entry in listing:
                    path = (*parts, entry.name)
                    count += 1
                    if count > MAX_ENTRIES:
                        raise _Refused(TOO_MANY)
                    if _LITTER.fullmatch(entry.name):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if trouble := _name_trouble(path):
                        yield _Entry(path, 0, _unread, trouble)
                    elif stat.S_ISDIR(status.st_mode):
                        folders.append(path)
                    else:
                        yield _disk_entry(root, path, status)
        except PermissionError:
            yield _Entry((*parts, ""), 0, _unread, "cannot be opened")
        finally:
            os.close(descriptor)


def _disk_entry(root: Path, parts: tuple[str, ...], status: os.stat_result) -> _Entry:
    return _Entry(parts, status.st_size, lambda limit: _read_file(root, parts, limit), _file_trouble(status))


def _file_trouble(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_nlink > 1:  # it may be another student's, or none of this course's
        return "is a hard link, which may belong to somebody else (copy the folder)"
    return ""


def _descend(root: Path, parts: tuple[str, ...]) -> int:
    """A descriptor of the folder, reached from `root` without following a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)  # the teacher's own path may have links in it
    for part in parts:
        try:
            below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _open_beneath(root: Path, parts: tuple[str, ...]) -> IO[bytes]:
    """Raises `_Refused` for everything but a regular file of one name; never blocks on what is none."""
    folder = _descend(root, parts[:-1])
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, dir_fd=folder)
    except OSError as error:
        raise _Refused(f"cannot be opened ({error.strerror})") from error
    finally:
        os.close(folder)
    file = os.fdopen(descriptor, "rb")
    if trouble := _file_trouble(os.fstat(descriptor)):
        file.close()
        raise _Refused(trouble)
    return file


def _read_file(root: Path, parts: tuple[str, ...], limit: int) -> bytes:
    with _open_beneath(root, parts) as file:
        return _bounded(file.read(limit + 1), limit, os.fstat(file.fileno()).st_size)


def _bounded(data: bytes, limit: int, size: int) -> bytes:
    if len(data) > limit:
        raise _Refused(f"has {max(size, len(data)):,} bytes, more than the {limit:,} that are read")
    return data


def _unread(limit: int) -> bytes:
    raise _Refused("is not read")


def _name_trouble(parts: Sequence[str]) -> str:
    if len(parts) > MAX_DEPTH:
        return "lies too deep in folders"
    if len(parts[-1]) > MAX_NAME:
        return "has too long a name"
    if not parts[-1].isprintable() or "\\" in parts[-1]:
        return "has a name with characters that cannot be used"
    return ""


# ---- entries of zips ----------------------------------------------------------------------------------------


class _Frugal:
    """A file for `zipfile` that lends no more at once than a table of contents may take."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size if 0 <= size <= MAX_DIRECTORY else MAX_DIRECTORY + 1)
        if len(data) > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its table of contents is too large")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _open_zip(file: IO[bytes], name: str) -> zipfile.ZipFile:
    """Raises `_Refused` for what is no zip, and for one that unpacks to too much or whose entries overlap."""
    try:
        opened = zipfile.ZipFile(_Frugal(file))
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        NotImplementedError,
        struct.error,
        UnicodeError,
        OverflowError,
    ) as error:
        raise _Refused(f"{name} is no zip that can be read ({_readable(str(error))}).") from error
    infos = opened.infolist()
    packed, unpacked = sum(info.compress_size for info in infos), sum(info.file_size for info in infos)
    trouble = ""
    if len(infos) > MAX_ENTRIES:
        trouble = f"holds {len(infos):,} files, more than {MAX_ENTRIES:,}: leave data and environments out"
    elif unpacked > MAX_UNPACKED or (unpacked > RATIO_FROM and unpacked > MAX_RATIO * packed):
        trouble = f"has {packed:,} bytes that unpack to {unpacked:,}: it is a zip bomb"
    elif _overlap(infos):
        trouble = "has entries that lie one over the other: it is a zip bomb"
    if trouble:
        opened.close()
        raise _Refused(f"{name} {trouble}.")
    return opened


def _overlap(infos: Iterable[zipfile.ZipInfo]) -> bool:
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < end:
            return True
        end = info.header_offset + 30 + info.compress_size  # 30: a local header without its name
    return False


def _zip_entries(
    opened: zipfile.ZipFile, infos: Iterable[zipfile.ZipInfo], base: tuple[str, ...] = (), prefix: str = ""
) -> Iterator[_Entry]:
    """The files among these entries of a zip, without litter, their paths below `prefix` made safe."""
    seen: set[tuple[str, ...]] = set()
    for info in infos:
        name = info.filename[len(prefix) :].replace("\\", "/")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if info.is_dir() or name.endswith("/") or any(_LITTER.fullmatch(part) and part != ".." for part in parts):
            continue
        entry = _zip_entry(opened, info, (*base, *(parts or ("?",))))
        troubles = [_name_trouble(parts[: depth + 1]) for depth in range(min(len(parts), MAX_DEPTH + 1))]
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            entry = replace(entry, refused="leads out of the submission")
        elif not parts or any(troubles):
            entry = replace(entry, refused=next(filter(None, troubles), "has no name"))
        elif parts in seen:
            raise _Refused(f"{_readable(name)} is there twice in the zip.")
        seen.add(parts)
        yield entry


def _zip_entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo, parts: tuple[str, ...]) -> _Entry:
    mode = stat.S_IFMT(info.external_attr >> 16)
    refused = ""
    if mode == stat.S_IFLNK:
        refused = "is a link"
    elif mode not in (0, stat.S_IFREG):
        refused = "is no regular file"
    elif info.flag_bits & 0x1:
        refused = "is encrypted"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refused = "is packed by a method that is not read here (zip it again)"
    return _Entry(parts, info.file_size, lambda limit: _read_member(opened, info, limit), refused)


def _read_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Never unpacks more than `limit` + 1 bytes, whatever the zip says of itself."""
    if info.file_size > limit:
        raise _Refused(f"has {info.file_size:,} bytes, more than the {limit:,} that are read")
    try:
        with opened.open(info) as file:
            data = _bounded(file.read(limit + 1), limit, info.file_size)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
        struct.error,
    ) as e:
        raise _Refused("is damaged in the zip") from e
    if len(data) != info.file_size:
        raise _Refused("is damaged in the zip")
    return data
