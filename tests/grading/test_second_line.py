"""The second line of defence: what still fails on one submission, wherever, is its own verdict, and the run goes on."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from handed_in import packed
from made_up_class import REAL_RUBRIC
from submissions import HIDDEN, reference_files

from autograder import grading
from autograder.batch import Settings, run
from autograder.grading import UNGRADABLE, grade_submission, written_answers
from autograder.intake import submission as intake
from autograder.intake.submission import Location, Submission, take_in
from autograder.jail import Jail, best_tier
from autograder.rubric import Rubric, load_rubric
from hw7 import HW7Error
from hw7.checks.cases import Verdict
from hw7.checks.scoring import AnswerSheet


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    with Jail(best_tier()[0]) as jail:
        yield jail


@pytest.fixture
def schedule(tmp_path: Path) -> Rubric:
    """One quick task."""
    (tmp_path / "rubric.toml").write_text(REAL_RUBRIC)
    return load_rubric(tmp_path / "rubric.toml")


MARKS = b'{"grade": true, "solution": true, "points": 1'


def of(files: Mapping[str, bytes], notebook: bytes | None = None) -> Submission:
    return Submission("ann", {**reference_files(), **files}, None, notebook, "digest")


def test_files_that_intake_should_not_have_taken(schedule: Rubric, jail: Jail) -> None:
    grade = grade_submission(of({"solution/losses.py/b.py": b""}), schedule, HIDDEN, jail)
    assert (grade.problem, grade.total, grade.out_of) == (UNGRADABLE, 0, 100)
    assert {part.outcome.verdict for part in grade.tasks[0].parts} == {Verdict.MISSING}
    assert "FilesRefused" in grade.output
    assert grade_submission(of({}), schedule, HIDDEN, jail).total == 100


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("judge", RecursionError("too deep")),
        ("parts", MemoryError()),
        ("json", ValueError("no NaN")),
        ("notebook", OverflowError("int too large")),
    ],
)
def test_a_mistake_of_ours_that_one_submission_leads_to(
    schedule: Rubric, jail: Jail, monkeypatch: pytest.MonkeyPatch, place: str, error: Exception
) -> None:
    """Wherever it comes from, its student's page says none of its words, and the next one is graded."""

    def fails(*arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        match place:
            case "judge":
                patch.setattr(AnswerSheet, "add", fails)
            case "parts":
                patch.setattr(grading, "score", fails)
            case "json":
                results = iter([error])
                to_json = grading.Grade.to_json
                patch.setattr(
                    grading.Grade, "to_json", lambda grade: fails() if next(results, None) else to_json(grade)
                )
            case "notebook":
                answers = iter([error])
                patch.setattr(
                    grading, "written_answers", lambda data: fails() if next(answers, None) else written_answers(data)
                )
        grade = grade_submission(of({}), schedule, HIDDEN, jail)
    assert (grade.problem, grade.total, grade.out_of) == (UNGRADABLE, 0, 100)
    assert type(error).__name__ in grade.output
    assert not [
        part for part in grade.tasks[0].parts if str(error) and str(error) in str(replace(part.outcome, note=""))
    ]
    assert grade_submission(of({}), schedule, HIDDEN, jail).total == 100


def test_a_jail_that_holds_nothing_is_the_teachers(schedule: Rubric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where not even a child without files starts is it no submission's fault."""

    def broken(jail: Jail, job: object) -> None:
        raise HW7Error("no processes here")

    monkeypatch.setattr(Jail, "_start_child", broken)
    with Jail("D") as jail, pytest.raises(HW7Error, match="no processes here"):
        grade_submission(of({}), schedule, HIDDEN, jail)


def test_whatever_fails_at_intake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of our own paths or words stands in what its student reads."""

    def fails(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", "/home/teacher/secret")

    monkeypatch.setattr(intake, "entries_at", fails)
    assert take_in(Location("ann", tmp_path)).problem == "It cannot be read (Permission denied)."
    monkeypatch.setattr(intake, "entries_at", lambda *arguments: [][0])
    assert take_in(Location("ann", tmp_path)).problem == "It cannot be read (IndexError)."


def test_a_run_goes_on(schedule: Rubric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class with submissions that stopped it: everybody has a grade, and the exit is that of a good run."""
    (tmp_path / "class").mkdir()
    archives = {
        "ann": {"solution/a.py": b"", "solution/a.py/b.py": b""},
        "bob": {"solution/x.PY": b"", "solution/x.py/b.py": b""},
        "cy": {"solution/" + "/".join("d" * 90 for _ in range(4)) + "/x.py": b""},
        "dora": {"hw7.ipynb": b'{"cells": [{"metadata": {"nbgrader": %s%s}}}]}' % (MARKS, b"0" * 400)},
        "eve": {"solution/losses.py": b"raise SystemExit"},
        "fay": {},
    }  # fmt: skip
    for student, files in archives.items():
        (tmp_path / "class" / f"{student}.zip").write_bytes(packed({**reference_files(), **files}))
    settings = Settings(schedule, HIDDEN.seed, tier=best_tier()[0])
    with ThreadPoolExecutor(1) as executor:
        result = run(tmp_path / "class", tmp_path / "out", settings, executor=executor, in_flight=2)
    assert (result.failures, result.missing) == ((), ())
    assert {grade.student: (grade.problem, grade.total) for grade in result.grades} == dict.fromkeys(
        archives, ("", 100)
    )
