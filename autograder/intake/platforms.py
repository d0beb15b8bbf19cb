"""File names of Moodle, Canvas, Blackboard and D2L: whose a file is, which attempt, and whether it was late."""

import re
from itertools import takewhile
from typing import NamedTuple

from autograder.intake.text import readable


class ParsedName(NamedTuple):
    """What the name of an entry says. order: of several attempts, the largest is the last."""

    student: str
    file: str = ""  # its name in the submission; "" for a folder, whose content is the submission
    order: tuple[object, ...] = ()
    attempt: str = ""  # in words
    late: bool = False
    extra: bool = False  # it comes with each submission and is no file of it: a note, or a text typed in a form


Named = list[tuple[str, ParsedName]]  # the names of entries, and what they say


def _before(marker: str) -> str:
    """A name in front of the first marker, which is the platform's: what stands behind it may be the student's."""
    return rf"(?P<name>(?:(?!{marker}).)+)"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
PLATFORMS = {
    # Name_12345_assignsubmission_file_/ with files in it, or the files themselves with that before their names
    "moodle": _before(r"_\d+_assignsubmission_")
    + r"_(?P<number>\d+)_assignsubmission_(file|(?P<extra>onlinetext))(_(?P<file>.*))?",
    # doejane_LATE_12345_67890_hw7-1.zip: the name run together, a mark, the user, the upload, the file, whose name ends
    # in -1 when it was handed in for the second time
    "canvas": r"(?P<name>[^_]+)_(?P<late>LATE_)?(?P<number>\d+)_(?P<upload>\d{1,20})_(?P<file>.+)",
    # HW7_jdoe_attempt_2020-05-01-12-30-00_hw7.zip, and a note HW7_jdoe_attempt_2020-05-01-12-30-00.txt with each
    "blackboard": _before(r"_attempt_\d{4}(-\d\d){5}")
    + r"_attempt_(?P<when>\d{4}(-\d\d){5})(?P<extra>\.txt$)?(_(?P<file>.+))?",
    # 39786-640693 - Jane Doe - Oct 10, 2025 1022 AM/, or with - hw7.zip behind it; of several dates the first counts
    "d2l": r"(?P<number>\d+)-\d+ ?- ?(?P<name>.+?) ?- ?"
    rf"(?P<month>{'|'.join(_MONTHS)})[a-z]*\.? (?P<day>\d\d?), (?P<year>\d{{4}}) (?P<time>\d{{3,4}}) (?P<half>[AP]M)"
    r"( ?- ?(?P<file>.+))?",
}
_CANVAS_AGAIN = re.compile(r"(?P<stem>.+)-(?P<times>\d{1,3})(?P<ending>\.[^.]+)?", re.DOTALL)


def parse_name(platform: str, name: str, kind: str) -> ParsedName | None:
    """What a name says on this platform; None for one that the platform does not give to an entry of this kind."""
    match = re.fullmatch(PLATFORMS[platform], name, re.DOTALL)
    if match is None or (kind == "folder" and platform == "canvas"):
        return None
    said = match.groupdict()
    student = f"{said['name']}_{said['number']}" if "number" in said else said["name"]
    file, extra, late = said["file"] or "", bool(said.get("extra")), bool(said.get("late"))
    if platform == "moodle":
        return ParsedName(student, "" if kind == "folder" else file or name, extra=extra)
    if kind != "folder" and not file and not extra:
        return None
    if platform == "canvas":
        again = _CANVAS_AGAIN.fullmatch(file)
        times = int(again["times"]) if again else 0
        order: tuple[object, ...] = (times, int(said["upload"]))
        attempt = f"attempt {times + 1}, {file}"
        file = again["stem"] + (again["ending"] or "") if again else file
    elif platform == "blackboard":
        order, attempt = (said["when"],), f"the one of {said['when']}"
    else:
        month, day, year, time, half = (said[word] for word in ("month", "day", "year", "time", "half"))
        hour, minute = divmod(int(time), 100)
        order = (int(year), _MONTHS.index(month), int(day), hour % 12 + 12 * (half == "PM"), minute)
        attempt = f"the one of {month} {day}, {year} {time} {half}"
    return ParsedName(student, file, order, attempt, late, extra)


def last_attempt(platform: str, entries: Named) -> tuple[Named, list[str]]:
    """The entries of the last attempt, and a remark where there are others. Canvas numbers files, not attempts: of each
    file the last, and of several zips the last."""
    if platform == "canvas":
        last_of: dict[str, tuple[str, ParsedName]] = {}
        for entry in entries:
            file = "a zip" if entry[1].file.lower().endswith(".zip") else entry[1].file
            last_of[file] = max(last_of.get(file, entry), entry, key=lambda each: each[1].order)
        last = list(last_of.values())
    else:
        newest = max((parsed.order for _, parsed in entries), default=())
        last = [(name, parsed) for name, parsed in entries if parsed.order == newest]
    if len(last) == len(entries):
        return last, []
    attempts = {parsed.order for _, parsed in entries}
    taken = "; ".join(dict.fromkeys(readable(parsed.attempt) for _, parsed in last))
    return last, [f"Of {len(attempts)} attempts the last was taken: {taken}."]


def without_assignment(students: dict[str, Named]) -> dict[str, Named]:
    """Blackboard puts the assignment before each name: what all have in common, up to the last _ of it."""
    columns = zip(*students, strict=False)  # the letters that all names have in one place
    common = "".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))
    cut = common.rfind("_") + 1
    return {name[cut:] or name: entries for name, entries in students.items()}
