"""Whose submission is what: the layout of a class's folder or zip, told by the names on its first level.

    folders      a folder or a zip for each student, named after the student
    nbgrader     submitted/STUDENT/ASSIGNMENT/
    gradescope   submission_NNN/, and whose they are in submission_metadata.yml
    moodle, canvas, blackboard, d2l    files or folders whose names say student, and time or attempt
    one          the folder or zip is one submission itself

A layout is that of the whole: what a student could have put into one submission decides nothing. Where the names leave
it open, `find_submissions` says so, and the teacher names the layout. Every entry becomes somebody's submission, or is
listed as not taken, with the reason.
"""

import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

import yaml

from autograder.intake.entries import Folder, Refused
from autograder.intake.platforms import PLATFORMS, Named, last_attempt, parse_name, without_assignment
from autograder.intake.roster import by_roster, read_addresses, read_roster
from autograder.intake.submission import FILES, Location
from autograder.intake.text import readable
from hw7 import HW7Error
from hw7.solution import SOURCE
from hw7.support.system import expanded

MAX_METADATA = 50_000_000  # Gradescope keeps the output of its own grader there
METADATA = "submission_metadata.yml"
EXPORTS = (*PLATFORMS, "gradescope")  # which may lie in a folder of their own
LAYOUTS = ("folders", "nbgrader", "gradescope", *PLATFORMS, "one")
_NO_STUDENT = re.compile(
    r".*\.(csv|ya?ml|txt|md|rst|json|jsonl|html?|pdf|log|xlsx?|ods|sh|toml|db)|\.[^/]*", re.IGNORECASE
)
_NBGRADERS = ("source", "release", "submitted", "autograded", "feedback", "grades", "downloaded", "exchange")


@dataclass(frozen=True)
class FoundSubmissions:
    """Where all submissions are. layout: which one. not_taken: entries that are nobody's submission, with the reason.
    roster: ids and names of all students, addresses: of mail, where there is a roster. strangers: submissions of nobody
    on it."""

    found: tuple[Location, ...]
    layout: str
    not_taken: Mapping[str, str] = field(default_factory=dict)
    roster: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()
    doubt: str = ""  # why another layout than this one may have been meant

    @property
    def absent(self) -> dict[str, str]:
        """Ids and names of the students of the roster who handed in nothing."""
        present = {each.student for each in self.found}
        return {id_: name for id_, name in self.roster.items() if id_ not in present}


class NotTaken(NamedTuple):
    """An entry that is nobody's submission."""

    name: str
    reason: str


Entries: TypeAlias = Iterator[Location | NotTaken]


def find_submissions(
    root: Path | str,
    assignment: str = "hw7",
    layout: str | None = None,
    roster: Path | None = None,
    without: Iterable[Path] = (),
) -> FoundSubmissions:
    """All students' submissions in a folder or zip, in order of their names.

    assignment: the folder's name in an nbgrader tree. layout: one of LAYOUTS, where the names do not tell it. roster: a
    CSV file with the columns id and name; submissions then belong to ids. without: entries that are the teacher's own.
    Raises HW7Error where there is nothing that could be a submission, or where the layout must be named.
    """
    root = expanded(root)
    if layout is not None and layout not in LAYOUTS:
        raise HW7Error(f"there is no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    try:
        with ExitStack() as stack:
            opened = None if root.is_dir() else stack.enter_context(zipfile.ZipFile(root))
            folder = Folder(root, opened, without={path.resolve() for path in (roster, *without) if path is not None})
            name = layout or _layout_of(folder)
            if layout and name in EXPORTS and not _fitting(name, folder) and len(folder.folders) == 1:
                folder = folder.below(*folder.folders)  # the export was packed in a folder of its own
            entries = list(_entries_of(folder, name, assignment))
            doubt = "" if layout else _doubt(folder, name)
    except (OSError, zipfile.BadZipFile, Refused, struct.error) as error:
        raise HW7Error(f"the submissions {root} cannot be read: {getattr(error, 'strerror', '') or error}") from error
    not_taken = dict(entry for entry in entries if isinstance(entry, NotTaken))
    found = [entry for entry in entries if isinstance(entry, Location)]
    if not found:
        lines = [f"\n  {readable(name)}: {reason}" for name, reason in list(not_taken.items())[:10]]
        seen = "".join([" Not taken:", *lines]) if lines else ""
        raise HW7Error(
            f"there are no submissions in {root}, read as {name}: it should hold a folder or a zip for each student, "
            f"be an nbgrader folder `submitted`, or an export of Gradescope, Moodle, Canvas, Blackboard or D2L.{seen}"
        )
    names, addresses, strangers = dict[str, str](), dict[str, str](), list[str]()
    if roster is not None:
        names, addresses = read_roster(roster), read_addresses(roster)
        found, strangers = by_roster(found, names, exactly=name == "nbgrader")
    return FoundSubmissions(
        tuple(_one_of_each(found)), name, not_taken, names, addresses, strangers=tuple(strangers), doubt=doubt
    )


def _one_of_each(found: Iterable[Location]) -> Iterator[Location]:
    """One entry a student; whoever is there more than once cannot be graded until the teacher has chosen."""
    for _, group in groupby(sorted(found, key=lambda each: each.student), key=lambda each: each.student):
        first, *others = group
        if others:
            places = [each.members[0][0] if each.members else each.path.name for each in (first, *others)]
            where = ", ".join(map(readable, places))
            problem = f"There are {len(places)} submissions of this student ({where}): keep one."
            first = replace(first, problem=problem)
        yield first


# ---- which layout --------------------------------------------------------------------------------------------


def _fits(layout: str, name: str, kind: str) -> bool:
    if layout == "gradescope":
        return kind == "folder" and re.fullmatch(r"submission_\d+", name) is not None
    return parse_name(layout, name, kind) is not None


def _fitting(layout: str, folder: Folder) -> int:
    return sum(_fits(layout, name, kind) for name, kind in folder.children.items())


def _layout_of(folder: Folder) -> str:
    """The layout of a class. Raises `Refused` where its names leave it open."""
    if folder.zip is None and folder.path.resolve().name == "submitted":
        return "nbgrader"
    if any(_is_source(folder, name) for name in folder.folders) or _has_modules(folder):
        return "one"
    entries = [name for name, kind in folder.children.items() if kind == "folder" or not _NO_STUDENT.fullmatch(name)]
    possible = EXPORTS if METADATA in folder.children else tuple(PLATFORMS)
    fitting = {layout: _fitting(layout, folder) for layout in possible}
    best = max(fitting, key=lambda layout: fitting[layout])
    if fitting[best] and 2 * fitting[best] > len(entries):
        return best
    if "submitted" not in folder.folders:
        return "folders"
    if others := [name for name in folder.folders if name not in _NBGRADERS]:
        raise Refused(
            f"it holds `submitted`, as nbgrader's courses do, and {_some(others)}. Say --layout nbgrader, or "
            "--layout folders where `submitted` is a student"
        )
    return "nbgrader"


def _has_modules(folder: Folder) -> bool:
    return len({name.lower() for name in folder.children} & set(FILES)) >= 2


def _may_be_a_submission(folder: Folder) -> bool:
    return _has_modules(folder) or any(name.lower() == SOURCE for name in folder.folders)


def _below(folder: Folder, name: str) -> Folder | None:
    """The folder of one student; None where it cannot be opened, of which `take_in` will tell that student."""
    try:
        return folder.below(name)
    except OSError:
        return None


def _is_source(folder: Folder, name: str) -> bool:
    """Whether the folder is `solution` of one submission, and not a student of that name."""
    below = _below(folder, name) if name.lower() == SOURCE else None
    return below is not None and SOURCE not in map(str.lower, below.children)


def _doubt(folder: Folder, layout: str) -> str:
    """Why another layout may have been meant; "" for no reason. It is told, not believed: a student may have written
    what there is in one folder."""
    if layout == "one":
        others = [each for each in _that_may_be_submissions(folder) if not _is_source(folder, each)]
        said = f"it was taken for one submission: if {_some(others)} are students', say --layout folders"
        return said if others else ""
    if layout != "folders" or list(folder.children.values()) != ["folder"]:
        return ""
    below = _below(folder, *folder.folders)
    if below is None or _may_be_a_submission(below):
        return ""
    here = f"{readable(*folder.folders)}/ was taken for one student's, and"
    for export in EXPORTS:
        if _fitting(export, below):
            return f"{here} has names in it as in an export of {export}: if it is one, say --layout {export}"
    several = _that_may_be_submissions(below)
    inner = f"name that folder, {below.path}" if folder.zip is None else "unpack it, and name that folder"
    return f"{here} holds {_some(several)}: if these are students', {inner}" if len(several) > 1 else ""


def _that_may_be_submissions(folder: Folder) -> list[str]:
    below = {name: _below(folder, name) for name in folder.folders}
    folders = [name for name, each in below.items() if each and _may_be_a_submission(each)]
    return folders + [name for name in folder.children if name.lower().endswith(".zip")]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(readable, names[:3])) + more


# ---- the layouts ---------------------------------------------------------------------------------------------


def _location(folder: Folder, student: str, name: str) -> Location:
    """The entry of this name as a student's own."""
    if folder.zip is None:
        return Location(student, folder.path / name)
    return Location(student, folder.path, ((folder.prefix + name, ""),))


def _entries_of(folder: Folder, layout: str, assignment: str) -> Entries:
    match layout:
        case "folders":
            return _folders(folder)
        case "nbgrader":
            return _nbgrader(folder, assignment)
        case "gradescope":
            return _gradescope(folder)
        case "one":
            student = folder.path.stem if folder.zip else folder.path.resolve().name
            return iter([Location(student or "submission", folder.path)])
        case platform:
            return _platform(folder, platform)


def _folders(folder: Folder) -> Entries:
    for name, kind in folder.children.items():
        if name in ("/", ".", ".."):
            yield NotTaken(name, "its path leads out of the zip")
        elif kind != "folder" and _NO_STUDENT.fullmatch(name) and not name.lower().endswith(".zip"):
            yield NotTaken(name, "it is neither a folder nor a zip, and its name is not that of a submission")
        else:
            yield _location(folder, name if kind == "folder" else PurePosixPath(name).stem, name)


def _nbgrader(folder: Folder, assignment: str) -> Entries:
    """submitted/STUDENT/ASSIGNMENT/. Raises `Refused` where no student has the assignment and others are there."""
    if "submitted" in folder.folders:
        folder = folder.below("submitted")
    students = {name: _below(folder, name) for name in folder.folders}
    names = {name for student in students.values() if student for name in student.folders}
    if len(names) == 1 and assignment not in names:
        (assignment,) = names
    elif assignment not in names and (names or None not in students.values()):
        there = ", ".join(sorted(map(readable, names))) or "none at all"
        raise Refused(f"no student has a folder {assignment}; there are {there}")
    for name in folder.children:
        if name not in students:
            yield NotTaken(name, "it is no student's folder")
        elif (student := students[name]) is None:
            yield Location(name, folder.path / name / assignment)
        elif assignment in student.folders:
            yield _location(student, name, assignment)
        else:
            there = _some(list(student.children)) or "nothing"
            yield NotTaken(name, f"it has no folder {assignment}, but {there}")


def _gradescope(folder: Folder) -> Entries:
    """submission_NNN/ folders; the students of each stand in submission_metadata.yml, one or a group."""
    known: dict[str, list[str]] = {}
    try:
        known = _submitters(folder.read(METADATA, MAX_METADATA))
    except (Refused, yaml.YAMLError, OSError, zipfile.BadZipFile, KeyError, RecursionError, UnicodeError):
        yield NotTaken(METADATA, "it cannot be read, so that submissions are named by their folders")
    for name, kind in folder.children.items():
        if _fits("gradescope", name, kind):
            for student in known.get(name) or [name]:
                yield _location(folder, student, name)
        elif name != METADATA:
            yield NotTaken(name, "it is no folder submission_NNN")
    for name, students in known.items():
        if name not in folder.children:
            yield NotTaken(f"{name} ({', '.join(students)})", f"{METADATA} names it, and there is no such folder")


def _submitters(data: bytes) -> dict[str, list[str]]:
    """Folder -> its students: the id, else the e-mail address, else the name. The loader makes strings, lists and dicts
    of them, nothing else."""
    table = yaml.load(data, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    known: dict[str, list[str]] = {}
    for folder, record in table.items() if isinstance(table, dict) else ():
        people = record.get(":submitters") if isinstance(record, dict) else None
        for person in people if isinstance(people, list) else ():
            names = [person.get(key) for key in (":sid", ":email", ":name")] if isinstance(person, dict) else []
            name = next((name for name in names if isinstance(name, str) and name.strip()), None)
            if name is not None and isinstance(folder, str):
                known.setdefault(folder, []).append(name.strip())
    return known


def _platform(folder: Folder, platform: str) -> Entries:
    """Exports whose names say whose each entry is. Of several attempts the last counts, and a remark says so."""
    students: dict[str, Named] = {}
    for name, kind in folder.children.items():
        parsed = parse_name(platform, name, kind)
        if parsed is not None:
            students.setdefault(parsed.student, []).append((name, parsed))
        elif (platform, name) != ("d2l", "index.html"):  # which comes with each export
            yield NotTaken(name, f"its name is none that {platform} gives; --layout folders takes it for a student's")
    if platform == "blackboard":
        students = without_assignment(students)
    for student, entries in students.items():
        members, remarks = last_attempt(platform, [(name, parsed) for name, parsed in entries if not parsed.extra])
        if any(parsed.late for _, parsed in entries):
            remarks.append(f"Handed in late, by the mark of {platform.capitalize()}.")
        if not members:
            location = Location(student, folder.path, problem="Only a text was handed in, no files.")
        elif len(members) == 1 and not members[0][1].file:
            location = _location(folder, student, members[0][0])
        else:
            named = tuple((folder.prefix + name, parsed.file or name) for name, parsed in members)
            location = Location(student, folder.path, named)
        yield replace(location, remarks=tuple(remarks))
