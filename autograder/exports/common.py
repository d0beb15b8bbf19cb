"""What exporters share: marks in order and complete, names that no reader stumbles over, points, hints."""

import hashlib
import math
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

from autograder.grades import Grade
from autograder.intake.text import is_seen
from autograder.marks import Mark, TaskMark, mark
from autograder.rubric import Rubric
from hw7 import HW7Error
from hw7.checks.cases import PartScore
from hw7.checks.mistakes import Mistake, load_mistakes

_HASHED = re.compile(r"(^| )#[0-9a-f]{12}\Z")  # how `display_name` ends where it is not the name itself


def aligned(grades: Sequence[Grade], rubric: Rubric) -> list[Mark]:
    """The marks by student, each with every task of the rubric in its order: one that could not be graded has zeros.

    Raises HW7Error where a student has two grades, or a grade was given under another rubric.
    """
    grades = sorted(grades, key=lambda grade: grade.student)
    for grade, after in pairwise(grades):
        if grade.student == after.student:
            raise HW7Error(f"there are two grades of {grade.student!r}; export only the current one of each student")
    return [_aligned(grade, rubric) for grade in grades]


def _aligned(grade: Grade, rubric: Rubric) -> Mark:
    wanted = {task.id: task.out_of for task in rubric.tasks}
    # Points are written with a few decimals.
    other = [task.task for task in grade.tasks if abs(task.out_of - wanted.get(task.task, math.inf)) > 1e-6]
    if other:
        raise HW7Error(
            f"{grade.student!r} was graded under another rubric (tasks {', '.join(other)} differ): "
            "grade again with this one, or name the rubric of then with --rubric"
        )
    return grade if isinstance(grade, Mark) else mark(grade, rubric)


def parts_of(grade: Mark) -> list[tuple[TaskMark, PartScore]]:
    return [(task, part) for task in grade.tasks for part in task.parts]


def known(mistake: str) -> Mistake | None:
    """The row of the table of known mistakes; None for no mistake, or one that the table no longer has."""
    return load_mistakes().get(mistake)


def hint(part: PartScore) -> str:
    """What to do against the part's known mistake, unless its message says so already; "" where none is known."""
    row = known(part.outcome.mistake)
    return row.hint if row and not row.diagnosed and row.hint not in part.outcome.message else ""


def printable(text: str) -> str:
    """The text without what no file can hold (lone surrogates) and what no reader sees (controls, turned directions,
    characters of no width), also where some script has a use for it."""
    return "".join(
        char if char in "\n\t" or is_seen(char) or unicodedata.category(char).startswith("Z") else "\ufffd"
        for char in text
    )


def digest(text: str) -> str:
    """SHA-256 of any text, lone surrogates included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def display_name(student: str) -> str:
    """The student as one printable line. Where that is not the name, a hash keeps it apart from any other's: so a name
    that looks as if it had one gets its own, too."""
    line = " ".join(printable(student).split())
    as_it_is = line and line == student and not _HASHED.search(line)
    return line if as_it_is else f"{line} #{digest(student)[:12]}".strip()


def student_id(student: str) -> str:
    """The student for tables of others, who know this name byte for byte; the display name where none can hold it."""
    made_up = not student or re.search("[\0\ud800-\udfff]", student) or _HASHED.search(student)
    return display_name(student) if made_up else student


def file_name(student: str) -> str:
    """A name for the student's file that any system takes, without its ending: a readable part and a hash."""
    ascii_only = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:40].strip("-")
    return f"{slug or 'student'}-{digest(student)[:16]}"
