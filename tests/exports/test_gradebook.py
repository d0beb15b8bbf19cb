"""nbgrader's gradebook: scores of tasks go in, and what a person wrote there stays."""

import csv
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_grades import HOSTILE, RUBRIC, a_class, grade
from test_exports import one

from autograder.exports.common import (
    student_id,
)
from autograder.intake.layouts import find_submissions
from hw7 import HW7Error


# ---- nbgrader --------------------------------------------------------------------------------------------------------
@pytest.fixture
def nbgrader() -> Callable[..., Path]:
    pytest.importorskip("nbgrader", reason="nbgrader, an optional extra, is not installed")
    from autograder.exports.nbgrader import export_nbgrader

    return export_nbgrader


def exported(gradebook: Path) -> dict[str, dict[str, str]]:
    """What nbgrader's own export says of each student."""
    csv_file = gradebook.with_suffix(".csv")
    command = [sys.executable, "-m", "nbgrader", "export", "--db", f"sqlite:///{gradebook}", "--to", str(csv_file)]
    subprocess.run(command, check=True, capture_output=True, cwd=gradebook.parent)
    with csv_file.open(newline="") as file:
        return {row["student_id"]: row for row in csv.DictReader(file)}


@pytest.mark.slow  # nbgrader takes its time to read them back
def test_nbgrader_exports_a_thousand_students_again(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    grades = a_class(1000)
    gradebook = nbgrader(grades, RUBRIC, tmp_path)
    assert gradebook == tmp_path / "gradebook.db"
    rows = exported(gradebook)
    assert len(rows) == 1000
    for made in grades:
        row = rows[made.student]
        assert row["assignment"] == "hw7"
        assert float(row["score"]) == pytest.approx(made.total, abs=1e-4)  # sums of scores with six decimals
        assert float(row["max_score"]) == 100


def test_nbgraders_own_api_reads_the_scores_by_task(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    made = one(grade("a", 0.5))
    with Gradebook(f"sqlite:///{nbgrader([made, grade('b')], RUBRIC, tmp_path / 'g.db')}") as gradebook:
        for task in made.tasks:
            cell = gradebook.find_grade(f"task-{task.task.replace('.', '-')}", "hw7", "hw7", "a")
            assert cell.score == pytest.approx(task.points)
            assert cell.max_score == task.out_of
            assert cell.needs_manual_grade is False
        # What the formgrader's tables of assignments, students and submissions are made of.
        assert gradebook.average_assignment_score("hw7") == pytest.approx((made.total + 100) / 2)
        assert [s["max_score"] for s in gradebook.submission_dicts("hw7")] == [100, 100]
        assert {s["id"]: s["score"] for s in gradebook.student_dicts()} == pytest.approx({"a": made.total, "b": 100})
        assert len(gradebook.notebook_submission_dicts("hw7", "hw7")) == 2


def test_again_updates_and_keeps_what_a_person_wrote(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    from nbgrader.api import Comment, Grade, Gradebook

    path = nbgrader([grade("a", 0.0), grade("b", 0.5)], RUBRIC, tmp_path)
    with Gradebook(f"sqlite:///{path}") as gradebook:
        overruled = gradebook.find_grade("task-2-1", "hw7", "hw7", "a")
        overruled.manual_score, overruled.extra_credit, overruled.needs_manual_grade = 7.0, 1.5, False
        count = gradebook.db.query(Grade).count()
        gradebook.db.commit()

    for _ in range(2):  # another grade of a, the same of b, and one more student
        nbgrader([grade("a"), grade("b", 0.5), grade("c")], RUBRIC, tmp_path)
        with Gradebook(f"sqlite:///{path}") as gradebook:
            overruled = gradebook.find_grade("task-2-1", "hw7", "hw7", "a")
            assert (overruled.auto_score, overruled.manual_score, overruled.extra_credit) == (14.0, 7.0, 1.5)
            assert overruled.needs_manual_grade  # the automatic score under it is another one now
            assert gradebook.find_submission("hw7", "a").score == 100 - 14 + 7 + 1.5
            assert gradebook.find_submission("hw7", "b").score == pytest.approx(one(grade("b", 0.5)).total)
            assert gradebook.db.query(Grade).count() == count * 3 // 2
            assert gradebook.db.query(Comment).count() == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # of nbgrader's own way to add a submission
def test_it_joins_an_assignment_that_nbgrader_made(
    nbgrader: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbgrader.api import Gradebook

    # Where nbgrader itself makes the file, it runs `alembic` by its bare name.
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts"), prepend=os.pathsep)
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as gradebook:
        gradebook.add_assignment("hw7")
        gradebook.add_notebook("hw7", "hw7")
        gradebook.add_grade_cell("task-2-1", "hw7", "hw7", max_score=1, cell_type="code")
        gradebook.add_grade_cell("question-1", "hw7", "hw7", max_score=10, cell_type="markdown")
        gradebook.add_solution_cell("question-1", "hw7", "hw7")
        gradebook.add_student("early", first_name="E")
        gradebook.add_submission("hw7", "early")
        gradebook.find_grade("question-1", "hw7", "hw7", "early").manual_score = 8.0
        gradebook.db.commit()

    path = nbgrader([grade("early"), grade("late")], RUBRIC, tmp_path)
    with Gradebook(f"sqlite:///{path}") as gradebook:
        assert gradebook.find_assignment("hw7").max_score == 110
        assert gradebook.find_grade("task-2-1", "hw7", "hw7", "early").max_score == 14  # the rubric's
        assert gradebook.find_submission("hw7", "early").score == 108
        assert gradebook.find_student("early").first_name == "E"
        question = gradebook.find_grade("question-1", "hw7", "hw7", "late")  # there for a person to fill in
        assert question.score == 0
        assert question.needs_manual_grade
        assert gradebook.find_comment("question-1", "hw7", "hw7", "late").comment is None


def test_hostile_students_have_grades_as_well(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    names = [*HOSTILE, "x'; DROP TABLE student; --", "a\nb", "a b"]
    with Gradebook(f"sqlite:///{nbgrader([grade(name) for name in names], RUBRIC, tmp_path)}") as gradebook:
        assert {s["student"]: s["score"] for s in gradebook.submission_dicts("hw7")} == {
            student_id(name): 100 for name in names
        }


def test_an_nbgrader_student_s_points_reach_nobody_else(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    """From the folder's name to the gradebook's row: accents of one or two characters, spaces at the end, in pairs."""
    from nbgrader.api import Gradebook

    names = ["jose\u0301", "jos\u00e9", "ada", "ada ", "x y", "x  y"]
    for name in names:
        (tmp_path / "submitted" / name / "hw7" / "solution").mkdir(parents=True)
    found = find_submissions(tmp_path / "submitted").found
    grades = {each.student: grade(each.student, 0.5) for each in found}
    nbgrader([grade(name, 0.0) for name in names], RUBRIC, tmp_path)
    with Gradebook(f"sqlite:///{nbgrader(list(grades.values()), RUBRIC, tmp_path)}") as gradebook:
        scores = {row["student"]: row["score"] for row in gradebook.submission_dicts("hw7")}
        assert scores == pytest.approx({name: grades[name].total for name in names})
        assert len(gradebook.students) == len(names)


def test_what_is_no_gradebook_is_said_to_be_none(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    other = tmp_path / "notes.db"
    other.write_text("these are my notes, and they are worth more than any grade " * 30)
    before = other.read_bytes()
    with pytest.raises(HW7Error, match=r"notes\.db cannot be written"):
        nbgrader([grade("a")], RUBRIC, other)
    assert other.read_bytes() == before


@pytest.mark.slow
def test_a_failed_export_changes_no_grade(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    path = nbgrader([grade("a", 0.5), grade("b")], RUBRIC, tmp_path)
    before = exported(path)
    with pytest.raises(HW7Error, match="another rubric"):
        nbgrader([grade("a"), replace(grade("b"), tasks=(replace(grade("b").tasks[0], task="9.9"),))], RUBRIC, tmp_path)
    assert exported(path) == before
