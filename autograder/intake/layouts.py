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

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import yaml

from autograder.intake.entries import Refused, readable
from autograder.intake.place import Place
from autograder.intake.platforms import BY_NAME, NamedEntry, last_attempt, without_assignment
from autograder.intake.roster import by_roster, read_roster
from autograder.intake.submission import FILES, Found
from hw7 import HW7Error
from hw7.solution import SOURCE
from hw7.support.account import expanded

MAX_METADATA = 50_000_000  # Gradescope keeps the output of its own grader there
METADATA = "submission_metadata.yml"
_NO_STUDENT = re.compile(
    r".*\.(csv|ya?ml|txt|md|rst|json|jsonl|html?|pdf|log|xlsx?|ods|sh|toml|db)|\.[^/]*", re.IGNORECASE
)


@dataclass(frozen=True)
class Submissions:
    """What was found. layout: which one. not_taken: entries that are nobody's submission, with the reason. absent:
    students of the roster who handed in nothing. strangers: submissions of nobody on the roster."""

    found: tuple[Found, ...]
    layout: str
    not_taken: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    strangers: tuple[str, ...] = ()
    doubt: str = ""  # why another layout than this one may have been meant


def find_submissions(
    root: Path | str,
    assignment: str = "hw7",
    layout: str | None = None,
    roster: Path | None = None,
    without: Iterable[Path] = (),
) -> Submissions:
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
            place = Place(root, stack)
            children = place.children({path.resolve() for path in (roster, *without) if path is not None})
            name = layout or _layout_of(place, children)
            if layout and name in _INNER and not any(_fits(name, each, kind) for each, kind in children.items()):
                place, children = _only_folder(place, children)  # an export that was packed in a folder of its own
            hunt = Hunt(place, children, name, assignment)
            LAYOUTS[name](hunt)
            doubt = "" if layout else _doubt(place, children, name)
    except (OSError, zipfile.BadZipFile, Refused, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise HW7Error(f"the submissions {root} cannot be read: {reason or error}") from error
    if not hunt.found:
        raise HW7Error(_nothing(root, name, hunt.not_taken))
    found, absent, strangers = hunt.found, list[str](), list[str]()
    if roster is not None:
        found, absent, strangers = by_roster(found, read_roster(roster), exactly=name == "nbgrader")
    single = _without_doubles(found)
    return Submissions(tuple(single), name, hunt.not_taken, tuple(absent), tuple(strangers), doubt)


def _nothing(root: Path, layout: str, not_taken: Mapping[str, str]) -> str:
    lines = [f"  {readable(name)}: {reason}" for name, reason in list(not_taken.items())[:10]]
    seen = "\n".join([" Not taken:", *lines]) if lines else ""
    return (
        f"there are no submissions in {root}, read as {layout}: it should hold a folder or a zip for each student, be "
        f"an nbgrader folder `submitted`, or an export of Gradescope, Moodle, Canvas, Blackboard or D2L.{seen}"
    )


def _folders_of(children: Mapping[str, str]) -> list[str]:
    return [name for name, kind in children.items() if kind == "folder"]


def _only_folder(place: Place, children: Mapping[str, str]) -> tuple[Place, dict[str, str]]:
    folders = _folders_of(children)
    if len(folders) != 1:
        return place, dict(children)
    below = place.below(folders[0])
    return below, below.children()


_BESIDE = {"d2l": ("index.html",), "gradescope": (METADATA,)}  # files that come with an export
_INNER = (*BY_NAME, "gradescope")  # exports, which may lie in a folder of their own


def _fits(layout: str, name: str, kind: str) -> bool:
    if layout == "gradescope":
        return kind == "folder" and re.fullmatch(r"submission_\d+", name) is not None
    return BY_NAME[layout](name, kind) is not None


# ---- which layout --------------------------------------------------------------------------------------------


def _layout_of(place: Place, children: Mapping[str, str]) -> str:
    """The layout of a place. Raises `Refused` where its names leave it open."""
    folders = _folders_of(children)
    lower = {name.lower() for name in children}
    if place.zip is None and place.path.resolve().name == "submitted":
        return "nbgrader"
    if any(_is_source(place, name) for name in folders) or len(lower & set(FILES)) >= 2:
        return "one"
    entries = [name for name in children if not _NO_STUDENT.fullmatch(name) or children[name] == "folder"]
    fitting = {
        layout: sum(_fits(layout, name, kind) for name, kind in children.items())
        for layout in _INNER
        if layout != "gradescope" or METADATA in children
    }
    best = max(fitting, key=lambda layout: fitting[layout])
    if 2 * fitting[best] > len(entries) and fitting[best]:
        return best
    if "submitted" in folders:
        strange = [name for name in folders if name not in _NBGRADERS]
        if strange:
            raise Refused(
                f"it holds `submitted`, as nbgrader's courses do, and {_some(strange)}. Say --layout nbgrader, or "
                "--layout folders where `submitted` is a student"
            )
        return "nbgrader"
    return "folders"


_NBGRADERS = ("source", "release", "submitted", "autograded", "feedback", "grades", "downloaded", "exchange")


def _may_be_a_submission(place: Place) -> bool:
    names = {name.lower(): kind for name, kind in place.children().items()}
    return names.get(SOURCE) == "folder" or len(set(names) & set(FILES)) >= 2


def _is_source(place: Place, folder: str) -> bool:
    """Whether the folder is `solution` of one submission, and not a student of that name."""
    return folder.lower() == SOURCE and SOURCE not in {name.lower() for name in place.below(folder).children()}


def _doubt(place: Place, children: Mapping[str, str], layout: str) -> str:
    """Why another layout may have been meant; "" for no reason. It is told, not believed: a student may have written
    what there is in one folder."""
    folders = _folders_of(children)
    if layout == "one":
        others = [name for name in folders if not _is_source(place, name) and _may_be_a_submission(place.below(name))]
        others += [name for name in children if name.lower().endswith(".zip")]
        return (
            f"it was taken for one submission: if {_some(others)} are students', say --layout folders" if others else ""
        )
    if layout != "folders" or len(folders) != 1 or len(children) != 1:
        return ""
    (folder,) = folders
    below = place.below(folder)
    children = below.children()
    if _may_be_a_submission(below):
        return ""
    here = f"{readable(folder)}/ was taken for one student's, and"
    for layout in _INNER:
        if any(_fits(layout, name, kind) for name, kind in children.items()):
            return f"{here} has names in it as in an export of {layout}: if it is one, say --layout {layout}"
    several = [name for name, kind in children.items() if kind == "folder" and _may_be_a_submission(below.below(name))]
    several += [name for name in children if name.lower().endswith(".zip")]
    inner = f"name that folder, {place.path / folder}" if place.zip is None else "unpack it, and name that folder"
    return f"{here} holds {_some(several)}: if these are students', {inner}" if len(several) > 1 else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(readable, names[:3])) + more


# ---- the layouts ---------------------------------------------------------------------------------------------


@dataclass
class Hunt:
    """The search of one place."""

    place: Place
    children: Mapping[str, str]
    layout: str
    assignment: str
    found: list[Found] = field(default_factory=list)
    not_taken: dict[str, str] = field(default_factory=dict)

    def leave_out(self, name: str, reason: str) -> None:
        self.not_taken[name] = reason


def _one(hunt: Hunt) -> None:
    place = hunt.place
    student = place.path.stem if place.zip else place.path.resolve().name
    hunt.found.append(Found(student or "submission", place.path, "zip" if place.zip else "folder"))


def _folders(hunt: Hunt) -> None:
    for name, kind in hunt.children.items():
        if name in ("/", ".", ".."):
            hunt.leave_out(name, "its path leads out of the zip")
        elif kind == "folder":
            hunt.found.append(hunt.place.found(name, "folder", name))
        elif _NO_STUDENT.fullmatch(name) and not name.lower().endswith(".zip"):
            hunt.leave_out(name, "it is neither a folder nor a zip, and its name is not that of a submission")
        else:
            hunt.found.append(hunt.place.found(PurePosixPath(name).stem, "zip", name))


def _nbgrader(hunt: Hunt) -> None:
    """submitted/STUDENT/ASSIGNMENT/. Raises `Refused` where no student has the assignment and others are there."""
    if hunt.children.get("submitted") == "folder":
        hunt.place = hunt.place.below("submitted")
        hunt.children = hunt.place.children()
    inside = {name: hunt.place.below(name).children() for name, kind in hunt.children.items() if kind == "folder"}
    names = {name for each in inside.values() for name, kind in each.items() if kind == "folder"}
    assignment = hunt.assignment
    if assignment not in names:
        if len(names) != 1:
            there = ", ".join(sorted(map(readable, names))) or "none at all"
            raise Refused(f"no student has a folder {assignment}; there are {there}")
        (assignment,) = names
    for name in hunt.children:
        if name not in inside:
            hunt.leave_out(name, "it is no student's folder")
        elif inside[name].get(assignment) == "folder":
            hunt.found.append(hunt.place.below(name).found(name, "nbgrader", assignment))
        else:
            there = _some(list(inside[name])) or "nothing"
            hunt.leave_out(name, f"it has no folder {assignment}, but {there}")


def _gradescope(hunt: Hunt) -> None:
    """submission_NNN/ folders; the students of each stand in submission_metadata.yml, one or a group."""
    known: dict[str, list[str]] = {}
    try:
        known = _submitters(hunt.place.read(METADATA, MAX_METADATA))
    except (
        Refused,
        yaml.YAMLError,
        RecursionError,
        UnicodeError,
        OSError,
        zipfile.BadZipFile,
        KeyError,
        StopIteration,
    ):
        hunt.leave_out(METADATA, "it cannot be read, so that submissions are named by their folders")
    for name, kind in hunt.children.items():
        if _fits("gradescope", name, kind):
            hunt.found += [hunt.place.found(student, "gradescope", name) for student in known.get(name) or [name]]
        elif name != METADATA:
            hunt.leave_out(name, "it is no folder submission_NNN")
    for name, students in known.items():
        if name not in hunt.children:
            hunt.leave_out(f"{name} ({', '.join(students)})", f"{METADATA} names it, and there is no such folder")


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


def _by_name(hunt: Hunt) -> None:
    """Exports whose names say whose each entry is. Of several attempts the last counts, and a remark says so."""
    students: dict[str, list[tuple[str, NamedEntry]]] = {}
    for name, kind in hunt.children.items():
        parsed = BY_NAME[hunt.layout](name, kind)
        if parsed is not None:
            students.setdefault(parsed.student, []).append((name, parsed))
        elif name not in _BESIDE.get(hunt.layout, ()):
            hunt.leave_out(
                name, f"its name is none that {hunt.layout} gives; --layout folders takes it for a student's"
            )
    if hunt.layout == "blackboard":
        students = without_assignment(students)
    for student, entries in students.items():
        members, remarks = last_attempt(hunt.layout, [entry for entry in entries if not entry[1].nothing])
        if any(parsed.late for _, parsed in entries):
            remarks.append(f"Handed in late, by the mark of {hunt.layout.capitalize()}.")
        hunt.found.append(_found(hunt, student, members, remarks))


def _found(hunt: Hunt, student: str, members: list[tuple[str, NamedEntry]], remarks: Sequence[str]) -> Found:
    place, kind = hunt.place, hunt.layout
    if not members:
        return Found(student, place.path, kind, problem="Only a text was handed in, no files.", remarks=tuple(remarks))
    if len(members) == 1 and not members[0][1].file:
        return replace(place.found(student, kind, members[0][0]), remarks=tuple(remarks))
    named = tuple((place.prefix + name, parsed.file or name) for name, parsed in members)
    return Found(student, place.path, kind, named, remarks=tuple(remarks))


LAYOUTS: dict[str, Callable[[Hunt], None]] = {
    "folders": _folders,
    "nbgrader": _nbgrader,
    "gradescope": _gradescope,
    **dict.fromkeys(BY_NAME, _by_name),
    "one": _one,
}


def _without_doubles(found: Sequence[Found]) -> list[Found]:
    """One entry a student; whoever is there more than once cannot be graded until the teacher has chosen."""
    students: dict[str, list[Found]] = {}
    for each in found:
        students.setdefault(each.student, []).append(each)
    single = []
    for several in students.values():
        first = several[0]
        if len(several) > 1:
            places = ", ".join(readable(each.members[0][0] if each.members else each.path.name) for each in several)
            first = replace(
                first, problem=f"There are {len(several)} submissions of this student ({places}): keep one."
            )
        single.append(first)
    return sorted(single, key=lambda each: each.student)
