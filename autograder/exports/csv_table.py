"""grades.csv: a line for each student, safe in any spreadsheet."""

import csv
import io
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from autograder.exports.common import aligned, display_name, printable, student_id
from autograder.grades import Grade
from autograder.marks import Mark, points
from autograder.rubric import Rubric
from hw7.support.files import write_file

_SIGNS = "=+@＝＋－＠-"
# What ends a cell, whatever a spreadsheet takes for that: separators, quotes, ends of lines.
_ENDS = r"""[;,|:"'`~^!#$%&*<>?\\{}\[\]；，｜：、]|[^\S ]"""
# Behind a space that ends a cell, a sign with a space behind it is alone in its own: "hw7 - Copy" is no formula.
_FORMULA = re.compile(rf"(^|{_ENDS})(?=\s*[{_SIGNS}])|( )(?=[{_SIGNS}](?! ))")
NOT_SECURE = "not secure: graded in tier D, where student code can do what the teacher's account can"


def export_csv(grades: Sequence[Grade], rubric: Rubric, out: Path) -> Path:
    """grades.csv: student, total, the points of each task, the verdict of each task; then how the total comes about:
    the grader's own total, what people decided, days late, comments; and remarks. By student.

    OUT is the file, or a folder for it. No cell is a formula, whichever of the usual separators a spreadsheet reads.
    """
    path = out if out.suffix == ".csv" else out / "grades.csv"
    tasks = [task.id for task in rubric.tasks]
    decided = ["grader", "overrides", "late", "comments"]
    rows: list[list[str]] = [["student", "total", *tasks, *(f"verdict {task}" for task in tasks), *decided, "remarks"]]
    for mark in aligned(grades, rubric):
        earned = [points(task.points) for task in mark.tasks]
        verdicts = [task.verdict for task in mark.tasks]
        rows.append([mark.student, points(mark.total), *earned, *verdicts, *_decided(mark), _remarks(mark)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [_student_cell(name), *map(one_cell, cells)] for name, *cells in rows
    )
    write_file(path, text.getvalue().encode())
    return path


def _decided(mark: Mark) -> list[str]:
    """The grader's total, and what people decided."""
    overrides = "; ".join(f"{task.task}: {task.changed}" for task in mark.tasks if task.changed)
    comments = "; ".join(f"{comment.text} ({comment.who})" for comment in mark.comments)
    return [points(mark.given), overrides, mark.lateness, comments]


def _remarks(mark: Mark) -> str:
    remarks = [mark.problem, NOT_SECURE if mark.tier == "D" else "", *mark.look_again, *mark.remarks]
    return "; ".join(filter(None, remarks))


@lru_cache(maxsize=4096)  # nearly all cells are points and verdicts
def one_cell(text: str) -> str:
    """One line that a spreadsheet takes for text."""
    return no_formula(" ".join(printable(text).split()))


def _student_cell(student: str) -> str:
    """The id as it is, spaces and accents too, unless it would break the line."""
    plain = printable(student) == student and len(student.splitlines()) == 1 and "\t" not in student
    return no_formula(student_id(student) if plain else display_name(student))


def no_formula(text: str) -> str:
    """The text with an apostrophe before each sign that would begin a formula, where a spreadsheet may begin a cell: at
    the start, and behind whatever it may take for the end of another cell."""
    return _FORMULA.sub(r"\1\2'", text)
