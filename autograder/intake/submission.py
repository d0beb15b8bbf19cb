"""One submission, read into memory: bytes of the files that the contract lists, whatever was handed in.

`take_in` lists the student's entries (`entries`), looks for the folder `solution` among them and reads what
belongs to a submission. Nothing is written to disk; everything is counted and bounded before it is read. All that was
left out, moved or refused is said in a remark, in words for the student. Whose submission is where in a class's folder
is for `layouts` to find out.
"""

import hashlib
import tokenize
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from autograder.intake.entries import MAX_ENTRIES, TOO_MANY, Entry, Refused, entries_at, open_zip, zip_entries
from autograder.intake.text import readable
from hw7.solution import (
    HANDED_OUT,
    HANDED_OUT_ABOVE,
    MAX_SOURCE_FILES,
    MODULES,
    MOST_READ,
    NOTEBOOK,
    SOURCE,
    WEIGHTS,
    file_above,
    source_path_trouble,
)  # fmt: skip
from hw7.support.words import counted

FILES = tuple(f"{module}.py" for module in MODULES)
TIMESTAMP = "timestamp.txt"  # nbgrader writes it into each submission
MAX_INNER_ZIPS = 8
MAX_INNER_BYTES = 64_000_000  # of all zips in a zip or folder together, unpacked into memory
MAX_REMARKS = 30
_COMMON_ENCODINGS = ("utf-8", "utf-8-sig", "ascii", "us-ascii", "iso-8859-1", "iso-8859-15", "cp1252", "latin-1")


@dataclass(frozen=True)
class Location:
    """Where one student's submission is. members: where `path` is shared, the entries in it that are this student's,
    each with the name it has in the submission ("" for a folder: its content is the submission)."""

    student: str  # as it stands there, byte for byte: the key of grades
    path: Path
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


def take_in(location: Location) -> Submission:
    """Reads one submission. Never raises for anything in it: what cannot be graded has a `problem`."""
    reader, problem = _Reader(location.remarks), location.problem
    try:
        with ExitStack() as stack:
            if not problem:
                reader.read(list(entries_at(location.path, location.members, stack)), stack)
    except Refused as reason:
        problem = str(reason)
    except Exception as error:  # whatever else a submission leads to, it must not end the run
        why = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__  # none of our own paths
        problem = f"It cannot be read ({readable(why)})."
    taken = ({}, None, None) if problem else (reader.files, reader.weights, reader.notebook)
    return Submission(location.student, *taken, _digest(*taken, problem), tuple(reader.remarks), problem)


def _digest(files: dict[str, bytes], weights: bytes | None, notebook: bytes | None, problem: str) -> str:
    """sha256 over length-prefixed records: no two submissions that are graded differently have the same."""
    digest = hashlib.sha256()
    for name, data in (*files.items(), (WEIGHTS, weights), (NOTEBOOK, notebook), ("problem", problem.encode())):
        if data is not None:
            for part in (name.encode("utf-8", "surrogatepass"), data):
                digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


class _Reader:
    """Reads what belongs to a submission from its entries, and remarks on all else."""

    def __init__(self, remarks: Sequence[str]) -> None:
        self.files: dict[str, bytes] = {}
        self.weights: bytes | None = None
        self.notebook: bytes | None = None
        self.remarks = list(remarks)
        self.entries: list[Entry] = []
        self.done: set[int] = set()  # entries that were taken or remarked on, by identity

    def read(self, entries: list[Entry], stack: ExitStack) -> None:
        """Raises `Refused` where there is no submission among the entries."""
        self.entries = entries
        folder = self.locate()
        if folder is None and (zips := [entry for entry in entries if entry.name.lower().endswith(".zip")]):
            self.unpack(zips, stack)
            folder = self.locate()
        for entry in self.entries:
            if entry.refused and entry.name.lower().endswith((".py", WEIGHTS, NOTEBOOK)):
                self.remark(f"{readable(entry.path)} {entry.refused}: not read.", entry)
        if folder is None:
            raise Refused(self.nothing())
        self.take_source(folder)
        base = folder[:-1] if _is_source(folder) else folder
        self.weights = self.take_one(base, WEIGHTS)
        self.notebook = self.take_one(base, NOTEBOOK)
        self.pass_over_what_was_given(base)
        self.remark_leftovers()

    def remark(self, text: str, entry: Entry | None = None) -> None:
        if entry is not None:
            self.done.add(id(entry))
        if len(self.remarks) < MAX_REMARKS:
            self.remarks.append(text)
        elif len(self.remarks) == MAX_REMARKS:
            self.remarks.append("There is more to remark on that is not listed here.")

    def take(self, entry: Entry, limit: int) -> bytes | None:
        """All its bytes; None, and a remark, where they cannot be read."""
        self.done.add(id(entry))
        try:
            return _bytes_of(entry, limit)
        except Refused as reason:
            self.remark(str(reason))
            return None

    def modules(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.refused and entry.name.lower().endswith(".py")]

    # ---- where the submission is ---------------------------------------------------------------------------

    def locate(self) -> tuple[str, ...] | None:
        """The folder with the source. Raises `Refused` where there are several and none is in its right place."""
        modules: dict[tuple[str, ...], set[str]] = {}
        for entry in self.modules():
            modules.setdefault(entry.parts[:-1], set()).add(entry.name.lower())
        named = [folder for folder in modules if _is_source(folder)]
        candidates = [folder for folder in named if modules[folder] & set(FILES)] or named
        if not candidates:  # the modules, but not in a folder of this name
            candidates = [folder for folder, names in modules.items() if len(names & set(FILES)) >= 2]
        known = set(candidates)  # of which there may be thousands
        outermost = [f for f in candidates if not any(f[:depth] in known for depth in range(len(f)))]
        if not outermost:
            return None
        right = [folder for folder in outermost if folder in ((SOURCE,), ())]
        chosen, *_ = right or outermost
        shown = readable("/".join((*chosen, "")))
        if others := sorted("/".join((*folder, "")) for folder in outermost if folder != chosen):
            listed = ", ".join(map(readable, others[:4]))
            if not right:
                many = f"There are {len(outermost)} folders that could be your submission"
                raise Refused(f"{many} ({shown}, {listed}): hand in one.")
            self.remark(f"Only {shown or 'the first level'} was graded, not {listed}.")
        if chosen != (SOURCE,):
            self.remark(f"{shown or 'The first level'} was taken for solution/.")
        return chosen

    def unpack(self, zips: Sequence[Entry], stack: ExitStack) -> None:
        """Adds the entries of these zips, as if each were a folder. A zip that is all there is counts as what was
        handed in."""
        alone = len(self.entries) == 1
        if alone:
            self.entries = []
        if len(zips) > MAX_INNER_ZIPS:
            self.remark(f"Of {len(zips)} zips only {MAX_INNER_ZIPS} were opened.")
        left = MAX_INNER_BYTES
        for entry in sorted(zips, key=lambda entry: entry.parts)[:MAX_INNER_ZIPS]:
            name = readable(entry.path)
            try:
                data = _bytes_of(entry, left)
                inner = stack.enter_context(open_zip(BytesIO(data), name))
                left -= len(data)
                if len(self.entries) + len(inner.infolist()) > MAX_ENTRIES:
                    raise Refused(f"{name} was not unpacked. {TOO_MANY}")
                self.entries += zip_entries(inner, () if alone else entry.parts)
            except Refused as reason:
                if alone:
                    raise
                self.remark(str(reason), entry)
            else:
                if not alone:
                    self.remark(f"{name} was unpacked.", entry)

    def nothing(self) -> str:
        reason = "There is no folder solution/ with Python files in it."
        if not self.entries:
            return f"{reason} It is empty."
        if all(entry.refused for entry in self.entries):
            first = self.entries[0]
            return f"{reason} Nothing could be read: {readable(first.path)} {first.refused}."
        there = ", ".join(sorted({readable(entry.parts[0]) for entry in self.entries})[:6])
        closed = next((f" {readable(e.path)} {e.refused}." for e in self.entries if e.refused), "")
        return f"{reason} What is there: {there}.{closed}"

    # ---- what is taken --------------------------------------------------------------------------------------

    def take_source(self, folder: tuple[str, ...]) -> None:
        deep = len(folder) if _is_source(folder) else None  # what lies in folders beside loose modules is not theirs
        found = [(e.parts[len(folder) :], e) for e in self.modules() if e.parts[:-1][:deep] == folder]
        if len(found) > MAX_SOURCE_FILES:
            raise Refused(f"{len(found)} Python files are too many: at most {MAX_SOURCE_FILES}.")
        total = sum(entry.size for _, entry in found)
        if total > MOST_READ[SOURCE]:
            raise Refused(f"The source under solution/ has {total:,} bytes; at most {MOST_READ[SOURCE]:,} are allowed.")
        exact = {inside for inside, _ in found}
        for inside, entry in sorted(found, key=lambda pair: len(pair[0])):  # a file comes before a folder of its name
            wanted = (*inside[:-1], inside[-1][:-3] + ".py")
            if len(inside) == 1 and inside[0].lower() in (*FILES, "__init__.py"):
                wanted = (inside[0].lower(),)
            path = "/".join((SOURCE, *wanted))
            if (wanted != inside and wanted in exact) or path in self.files:
                self.remark(f"{readable(entry.path)} was ignored: there is a {path}.", entry)
            elif file := file_above(path, self.files):
                self.remark(f"{readable(entry.path)} was ignored: {readable(file)} is a file, not a folder.", entry)
            elif trouble := source_path_trouble(path):
                self.remark(f"{readable(entry.path)} {trouble}: not read.", entry)
            elif (data := self.take(entry, MOST_READ[SOURCE])) is not None:
                self.files[path] = data
                if wanted != inside:
                    self.remark(f"{readable(entry.path)} was taken for {path}.")
                if trouble := _encoding_trouble(data):
                    self.remark(f"{path} {trouble}")
        self.files = dict(sorted(self.files.items()))
        if not self.files:
            raise Refused("No Python file under solution/ can be read.")
        for module in MODULES:
            if not self.files.keys() & {f"{SOURCE}/{module}.py", f"{SOURCE}/{module}/__init__.py"}:
                self.remark(f"{SOURCE}/{module}.py is missing.")

    def take_one(self, base: tuple[str, ...], name: str) -> bytes | None:
        """The file of this name beside solution/, or else the only one anywhere."""
        alike = [entry for entry in self.entries if entry.name.lower() == name and not entry.refused]
        beside = [entry for entry in alike if entry.parts[:-1] == base]
        chosen = [entry for entry in beside if entry.name == name] or beside or alike
        if len(chosen) > 1:
            self.remark(f"There are {len(chosen)} files {name}, none of them beside solution/: none was taken.")
        elif not chosen:
            self.remark(f"{name} is missing.")
        else:
            data = self.take(chosen[0], MOST_READ[name])
            if data is not None and chosen[0].parts != (*base, name):
                self.remark(f"{readable(chosen[0].path)} was taken for {name}.")
            return data
        return None

    def pass_over_what_was_given(self, base: tuple[str, ...]) -> None:
        """What was handed out, and what nbgrader adds, is nothing to remark on."""
        given = [(*base, name) for name in (*HANDED_OUT, TIMESTAMP)]
        if base[-2:] == ("assignments", "hw7"):
            given += [(*base[:-2], name) for name in HANDED_OUT_ABOVE]
        self.done |= {id(e) for e in self.entries if any(e.parts[: len(path)] == path for path in given)}

    def remark_leftovers(self) -> None:
        """What is no part of a submission, by its first folder."""
        left = [entry for entry in self.entries if id(entry) not in self.done]
        for entry in left:
            if entry.refused:
                self.remark(f"{readable(entry.path)} {entry.refused}: not read.")
        counts = Counter(e.parts[0] + "/" * (len(e.parts) > 1) for e in left if not e.refused)
        if counts:
            names = [
                readable(name) + f" ({counted(count, 'file')})" * name.endswith("/")
                for name, count in counts.most_common(6)
            ]
            more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
            self.remark(f"No part of a submission, ignored: {', '.join(names)}{more}.")


def _is_source(folder: tuple[str, ...]) -> bool:
    return bool(folder) and folder[-1].lower() == SOURCE


def _bytes_of(entry: Entry, limit: int) -> bytes:
    """Raises `Refused` with a whole sentence."""
    try:
        if entry.refused:
            raise Refused(entry.refused)
        return entry.read(limit)
    except Refused as reason:
        raise Refused(f"{readable(entry.path)} {reason}: not read.") from reason


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
    except (SyntaxError, UnicodeError, LookupError, ValueError):
        return "is not UTF-8 text, and does not say what else it is: save it as UTF-8."
    utf8 = encoding in ("utf-8", "utf-8-sig")
    return "" if utf8 else f"is not UTF-8 but {readable(encoding)}: better save it as UTF-8."
