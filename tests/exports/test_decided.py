"""What people decided, in every export: the points that count, the grader's beside them, and who decided it when."""

import csv
import email
import io
import json
from dataclasses import replace
from email.policy import default
from pathlib import Path

import pytest
from made_up_grades import HOSTILE, RUBRIC, broken, decided, grade, hostile

from autograder.cli import format_grade
from autograder.exports import export
from autograder.exports.gradescope import results
from autograder.exports.html import class_page, student_page
from autograder.exports.mail import body, message
from autograder.grades import Grade
from autograder.marks import ABSENT, Late, Override, Standing, mark
from autograder.rubric import LatePolicy

RIGHT = decided(grade("ada"), "So it was said")
LINES = (
    "100 points by the grader.",
    "2.1 Distillation loss: 6.5 instead of 14 of 14 points. So it was said. (So it was said, 2026-11-28)",
    "2 days late: 2 points taken off. So it was said. (So it was said, 2026-11-28)",
)


def test_the_points_that_count() -> None:
    assert (RIGHT.given, RIGHT.earned, RIGHT.penalty, RIGHT.total) == (100, 92.5, 2, 90.5)
    assert RIGHT.how == list(LINES)


def test_a_mark_is_kept_as_its_grade() -> None:
    assert RIGHT.to_json() == grade("ada").to_json()


def test_every_export_says_how_the_total_comes_about(tmp_path: Path) -> None:
    page = student_page(RIGHT)
    assert "<strong>90.5</strong> <span>of 100 points" in page
    shown = {
        "page": page, "class": class_page([RIGHT], RUBRIC), "mail": body(RIGHT), "terminal": format_grade(RIGHT),
        "gradescope": results(RIGHT)["output"],
    }  # fmt: skip
    for where, text in shown.items():
        for line in LINES if where != "class" else LINES[1:]:
            assert line in text, where
    assert results(RIGHT)["score"] == 90.5
    (test,) = [test for test in results(RIGHT)["tests"] if test.get("number") == "2.1"]
    assert test["score"] == 6.5
    assert test["output"].startswith("By hand: 6.5 instead of 14 of 14 points.")
    row = next(csv.DictReader(export("csv", [RIGHT], RUBRIC, tmp_path).open(encoding="utf-8")))
    assert (row["total"], row["grader"], row["2.1"]) == ("90.5", "100", "6.5")


def test_to_look_again_is_told_to_teachers_alone() -> None:
    assert RIGHT.look_again == ["2.1: look again, for it was decided about other files"]
    for text in (student_page(RIGHT), body(RIGHT), format_grade(RIGHT), json.dumps(results(RIGHT))):
        assert "look again" not in text
    assert "look again" in class_page([RIGHT], RUBRIC)


def test_an_override_is_worth_no_more_than_its_task() -> None:
    override = Override(student="a", by="t", task="3.1", points=5, out_of=5, submission=grade("a").submission)
    made = mark(grade("a", 0.0), RUBRIC, Standing.of([override]))
    (task,) = [task for task in made.tasks if task.task == "3.1"]
    assert (task.points, task.out_of) == (3, 3)
    assert made.look_again == ["3.1: look again, for the task was worth 5 then"]


def test_who_handed_in_nothing_is_in_the_table_and_in_no_mean() -> None:
    nothing = mark(Grade("zoe", "", "", "", "", (), problem=ABSENT), RUBRIC, absent=True)
    page = class_page([mark(grade("ada"), RUBRIC), nothing], RUBRIC)
    assert "<dt>mean</dt><dd>100</dd>" in page
    assert "<dt>handed in nothing</dt><dd>1</dd>" in page
    assert '<span class="why">Handed in nothing.</span>' in page
    assert "Nothing was handed in under your name." in student_page(nothing)
    assert results(nothing)["output"].startswith("Handed in nothing.")


# ---- mail -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_gets_out_of_its_place_in_a_message(text: str) -> None:
    mail = decided(hostile(text), text, name=f"Ada {text}\r\nBcc: eve@example.org", address="ada@example.org")
    data = message(mail, body(decided(hostile("x"), "x")), student_page(mail).encode())
    read = email.message_from_bytes(data, policy=default)
    assert set(read.keys()) == {"Subject", "To", "MIME-Version", "Content-Type"}
    (address,) = read["To"].addresses
    assert address.addr_spec == "ada@example.org"
    assert [part.get_content_type() for part in read.walk()] == ["multipart/mixed", "text/plain", "text/html"]
    (page,) = read.iter_attachments()
    assert page.get_content() == student_page(mail)
    assert page.get_filename() == "homework-7.html"
    assert not read.defects


def test_the_same_marks_are_the_same_mail(tmp_path: Path) -> None:
    marks = [RIGHT, decided(broken("bob")), mark(grade("eve", 0.5), RUBRIC)]
    first, second = (export("mail", marks, RUBRIC, tmp_path / name).parent for name in "ab")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 1 + 3 + 3
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)
    rows = list(csv.DictReader(io.StringIO((first / "messages.csv").read_text(encoding="utf-8"))))
    assert [row["student"] for row in rows] == ["ada", "bob", "eve"]
    assert all((first / row["attachment"]).is_file() for row in rows)
    assert "could not be graded: The zip file is damaged" in rows[1]["text"]
    assert "What to do next:" in rows[2]["text"]


# ---- nbgrader ----------------------------------------------------------------------------------------------------


def test_the_gradebook_follows_decisions_and_leaves_other_peoples_points(tmp_path: Path) -> None:
    api = pytest.importorskip("nbgrader.api")
    path = tmp_path / "gradebook.db"

    def scores() -> tuple[float, float | None, bool, float, float | None]:
        with api.Gradebook(f"sqlite:///{path}") as gradebook:
            cell = gradebook.find_grade("task-2-1", "hw7", "hw7", "ada")
            notebook = gradebook.find_submission_notebook("hw7", "hw7", "ada")
            return (cell.auto_score, cell.manual_score, cell.needs_manual_grade, cell.score,
                    notebook.late_submission_penalty)  # fmt: skip

    late = replace(RUBRIC, late=LatePolicy(points_per_day=1))
    override = Override(student="ada", by="t", task="2.1", points=6.5, submission=grade("ada").submission, out_of=14)
    days = Late(student="ada", by="t", days=2)
    export("nbgrader", [mark(grade("ada"), late, Standing.of([override, days]))], late, path)
    assert scores() == (14, 6.5, False, 6.5, 2)
    export("nbgrader", [RIGHT], late, path)  # about other files
    assert scores() == (14, 6.5, True, 6.5, 2)
    undone = [override, days, replace(override, undo=True), replace(days, undo=True)]
    export("nbgrader", [mark(grade("ada"), late, Standing.of(undone))], late, path)
    assert scores()[:2] + scores()[3:] == (14, None, 14, None)
    with api.Gradebook(f"sqlite:///{path}") as gradebook:  # in the formgrader
        gradebook.find_grade("task-2-1", "hw7", "hw7", "ada").manual_score = 9
        gradebook.find_submission_notebook("hw7", "hw7", "ada").late_submission_penalty = 3
        gradebook.db.commit()
    export("nbgrader", [mark(grade("ada"), late)], late, path)
    assert scores()[1] == 9
    assert scores()[4] == 3
