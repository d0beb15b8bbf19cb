"""Names that platforms give to files: whose a file is, which attempt, and whether it was late."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import takewhile
from typing import NamedTuple

from autograder.intake.entries import readable

# ---- names that say whose ---------------------------------------------------------------------------------


class NamedEntry(NamedTuple):
    """What the name of an entry says. number: the platform's own, of the student. order: which attempt is the last."""

    student: str
    number: str = ""
    file: str = ""  # its name in the submission; "" for a folder, whose content is the submission
    order: tuple[object, ...] = ()
    attempt: str = ""  # in words
    late: bool = False
    nothing: bool = False  # it comes with each submission and is no file of it


_MOODLE = re.compile(
    r"(?P<student>(?P<name>.+)_\d+)_assignsubmission_(?P<plugin>file|onlinetext)(_(?P<file>.*))?", re.S
)
_CANVAS = re.compile(r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<number>\d+)_(?P<upload>\d+)_(?P<file>.+)", re.S)
_CANVAS_AGAIN = re.compile(r"(?P<stem>.+)-(?P<times>\d{1,3})(?P<ending>\.[^.]+)?", re.S)
_BLACKBOARD = re.compile(
    r"(?P<who>.+)_attempt_(?P<when>\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)(?P<note>\.txt$)?(_(?P<file>.+))?", re.S
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_D2L = re.compile(
    r"(?P<number>\d+)-\d+ ?- ?(?P<name>.+?) ?- ?"
    rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.? (?P<day>\d\d?), (?P<year>\d{{4}}) (?P<time>\d{{3,4}}) (?P<half>[AP]M)"
    r"( ?- ?(?P<file>.+))?",
    re.S,
)


def moodle(name: str, kind: str) -> NamedEntry | None:
    """Name_12345_assignsubmission_file_/ with files in it, or the files themselves with that before their names."""
    match = _MOODLE.fullmatch(name)
    if match is None:
        return None
    text = match["plugin"] == "onlinetext"
    return NamedEntry(match["student"], file="" if kind == "folder" else match["file"] or name, nothing=text)


def canvas(name: str, kind: str) -> NamedEntry | None:
    """doejane_LATE_12345_67890_hw7-1.zip: the name run together, a mark, the user, the upload, the file, whose name
    ends in -1 when it was handed in for the second time."""
    match = _CANVAS.fullmatch(name)
    if match is None or kind == "folder":
        return None
    file, times = match["file"], 0
    if again := _CANVAS_AGAIN.fullmatch(file):
        file, times = again["stem"] + (again["ending"] or ""), int(again["times"])
    order = (times, int(match["upload"]))
    attempt = f"attempt {times + 1}, {match['file']}"
    return NamedEntry(f"{match['name']}_{match['number']}", match["number"], file, order, attempt, bool(match["late"]))


def blackboard(name: str, kind: str) -> NamedEntry | None:
    """HW7_jdoe_attempt_2020-05-01-12-30-00_hw7.zip, and a note HW7_jdoe_attempt_2020-05-01-12-30-00.txt with each."""
    match = _BLACKBOARD.fullmatch(name)
    if match is None or (kind != "folder" and not match["note"] and not match["file"]):
        return None
    attempt = f"the one of {match['when']}"
    return NamedEntry(
        match["who"], file=match["file"] or "", order=(match["when"],), attempt=attempt, nothing=bool(match["note"])
    )


def d2l(name: str, kind: str) -> NamedEntry | None:
    """39786-640693 - Jane Doe - Oct 10, 2025 1022 AM/, or with - hw7.zip behind it."""
    match = _D2L.fullmatch(name)
    if match is None or (kind != "folder" and not match["file"]):
        return None
    hour, minute = divmod(int(match["time"]), 100)
    month = 1 + _MONTHS.index(match["month"])
    order = (int(match["year"]), month, int(match["day"]), hour % 12 + 12 * (match["half"] == "PM"), minute)
    attempt = f"the one of {match['month']} {match['day']}, {match['year']} {match['time']} {match['half']}"
    return NamedEntry(f"{match['name']}_{match['number']}", match["number"], match["file"] or "", order, attempt)


BY_NAME: dict[str, Callable[[str, str], NamedEntry | None]] = {
    "moodle": moodle, "canvas": canvas, "blackboard": blackboard, "d2l": d2l,
}  # fmt: skip


def last_attempt(layout: str, entries: list[tuple[str, NamedEntry]]) -> tuple[list[tuple[str, NamedEntry]], list[str]]:
    """The entries of the last attempt. Where only files are numbered, and not attempts, of each file the last; and of
    several zips the last."""
    if layout == "moodle" or len(entries) <= 1:
        return entries, []
    if layout in ("blackboard", "d2l"):
        newest = max(parsed.order for _, parsed in entries)
        last = [entry for entry in entries if entry[1].order == newest]
    else:
        newest_of: dict[str, tuple[str, NamedEntry]] = {}
        for entry in entries:
            key = "a zip" if entry[1].file.lower().endswith(".zip") else entry[1].file
            if key not in newest_of or newest_of[key][1].order < entry[1].order:
                newest_of[key] = entry
        last = list(newest_of.values())
    attempts = {parsed.order for _, parsed in entries}
    if len(last) == len(entries):
        return last, []
    taken = "; ".join(dict.fromkeys(readable(parsed.attempt) for _, parsed in last))
    return last, [f"Of {len(attempts)} attempts the last was taken: {taken}."]


def without_assignment(students: dict[str, list[tuple[str, NamedEntry]]]) -> dict[str, list[tuple[str, NamedEntry]]]:
    """Blackboard puts the assignment before each name: what all have in common, up to the last _ of it."""
    heads = {who.rpartition("_")[0] for who in students}
    columns = zip(*students, strict=False)  # the letters that all names have in one place
    common = "".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))
    cut = len(next(iter(heads)) + "_") if len(heads) == 1 else common.rfind("_") + 1
    return {who[cut:] or who: entries for who, entries in students.items()}
