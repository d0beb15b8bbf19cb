"""Any text in any field of a grade: it goes to the journal and back, to every export, and to a terminal."""

import json
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

import made_up_grades
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autograder.cli import format_grade
from autograder.exports import EXPORTERS, export
from autograder.journal import Journal, read_entries, read_journals
from autograder.marks import Late

TEXTS = st.text(st.characters(), max_size=30) | st.sampled_from(
    [
        "",
        " ",
        ".",
        "..",
        "a/b",
        "NUL",
        "\0",
        "\ud800",
        "\udcff\udcfe",
        "\u2028",
        "\r\n",
        "a" * 5000,
        "\ufeff",
        "e\u0301",
    ]
)
KINDS = [to for to in EXPORTERS if to != "nbgrader" or find_spec("nbgrader")]


@settings(
    derandomize=True, database=None, deadline=None, max_examples=int(os.environ.get("HW7_EXAMPLES", "10")),
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4, unique_by=lambda pair: pair[0]))
def test_any_text(pairs: list[tuple[str, str]]) -> None:
    made = [(made_up_grades.hostile(text, student or "a"), text) for student, text in pairs]
    marks = list({grade.student: made_up_grades.decided(grade, text, name=text) for grade, text in made}.values())
    grades = list({grade.student: grade for grade, _ in made}.values())
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        with Journal(out / "journal.jsonl") as journal:
            for grade in grades:
                journal.append(grade)
            for mark in marks:
                journal.append(*(each for each in (mark.late, *mark.comments) if each))
        assert read_journals(out) == grades
        assert [each.because for each in read_entries(out) if isinstance(each, Late)] == [
            mark.late.because for mark in marks if mark.late
        ]
        for to in KINDS:
            export(to, marks, made_up_grades.RUBRIC, out / to)
        for to in ("gradescope", "html/students", "mail/messages", "mail/pages"):
            assert len([path for path in (out / to).iterdir() if path.is_file()]) == len(grades)
        for path in (out / "gradescope").iterdir():
            json.loads(path.read_text(encoding="utf-8"))
        for mark in marks:
            assert all(line.isprintable() for line in format_grade(mark, teacher=True).split("\n"))
