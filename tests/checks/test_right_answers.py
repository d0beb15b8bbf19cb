"""Right solutions, written differently: each gets full points. They keep to the contract, line by line; where a check
refuses one, the check is wrong."""

import pytest
from submissions import HIDDEN, Entry, alternatives, last_grades, one_in_many, outcomes, reference_files, rubric

from autograder.batch import Settings, grade_one
from autograder.grading import hidden_cases
from autograder.jail import best_tier
from hw7.checks.cases import Verdict
from hw7.support.workers import Workers

CHAPTERS = {"models": "1", "losses": "2", "pruning": "3", "quantization": "4"}


def chapters(entry: Entry) -> set[str]:
    """The chapters whose code is not the reference's; of an entry that changes none, all."""
    changed = {name for name, data in entry.files.items() if reference_files().get(name) != data}
    return {chapter for module, chapter in CHAPTERS.items() if f"solution/{module}.py" in changed} or set(
        CHAPTERS.values()
    )


def test_there_are_enough() -> None:
    assert len(alternatives()) >= 24
    assert len({entry.id for entry in alternatives()}) == len(alternatives())
    assert all(entry.files != reference_files() or entry.weights_by != "reference" for entry in alternatives())
    assert set.union(*map(chapters, alternatives())) == set(CHAPTERS.values())


@pytest.mark.parametrize("entry", one_in_many(alternatives()))
def test_gets_full_points(entry: Entry) -> None:
    """In this process, in the chapters that it writes anew; the network handed in only where it or its file is."""
    for task in rubric().tasks:
        if not task.has_cases or task.id[0] not in chapters(entry):
            continue
        wrong = [
            (name, outcome)
            for name, outcome in outcomes(entry.files, hidden_cases(rubric(), HIDDEN)[task.id]).items()
            if outcome.verdict is not Verdict.RIGHT
        ]
        assert wrong == [], task.id
    if entry.weights_by != "reference" or entry.id.startswith("5"):
        for graded in last_grades(entry.submission()):
            assert graded.points == graded.out_of, graded


@pytest.mark.slow
def test_all_through_the_jail() -> None:
    settings = Settings(rubric(), HIDDEN.seed, tier=best_tier()[0])
    with Workers(2) as workers:
        grades = [workers.submit(grade_one, entry.submission(), settings) for entry in alternatives()]
        for entry, future in zip(alternatives(), grades, strict=True):
            grade = future.result()
            wrong = [part for task in grade.tasks for part in task.parts if part.outcome.verdict is not Verdict.RIGHT]
            assert (wrong, grade.total) == ([], grade.out_of), entry.id
