"""Wrong solutions: each loses points in its own task and in no earlier one; the mistake that it is made of is named."""

import os
from collections import Counter

import pytest
from submissions import EVERY, HIDDEN, Entry, last_grades, mutants, one_in_many, outcomes, reference_files, rubric

from autograder.batch import Settings, grade_one
from autograder.grading import hidden_cases
from autograder.jail import best_tier
from autograder.rubric import Rubric
from hw7.checks.cases import Verdict
from hw7.checks.mistakes import load_mistakes
from hw7.support.workers import Workers

# A mutant changes what its own task asks for. Later tasks may be built on that, earlier ones are not; but sizes (5.1)
# count only with a network that works (5.2).
ALSO = {"5.2": {"5.1"}}


def lost(mutant: Entry, tasks: set[str]) -> dict[str, list[str]]:
    """The mistakes that are named ("" for none), a wrong part each, by task; found out in this process."""
    found: dict[str, list[str]] = {}
    for task in rubric().tasks:
        if task.id not in tasks or not task.has_cases:
            continue
        questions = hidden_cases(rubric(), HIDDEN)[task.id]
        wrong: dict[str, list[str]] = {}
        by_case = outcomes(mutant.files, questions)
        for case in questions:
            if by_case[case.name].verdict is not Verdict.RIGHT and task.points[case.part] > 0:
                wrong.setdefault(case.part, []).append(by_case[case.name].mistake)
        if wrong:  # of several wrong cases of a part a student sees the first that shows a known mistake
            found[task.id] = [next(filter(None, part), "") for part in wrong.values()]
    if tasks & {"5.1", "5.2"}:
        for graded in last_grades(mutant.submission()):
            if graded.task in tasks and graded.points < graded.out_of:
                found[graded.task] = [part.outcome.mistake for part in graded.parts if part.points < part.out_of]
    return found


def test_there_are_enough_for_every_task() -> None:
    by_task = Counter(mutant.task for mutant in mutants())
    assert set(by_task) == {task.id for task in rubric().tasks}
    assert sum(by_task.values()) >= 120
    assert min(by_task.values()) >= 5


def test_each_is_one_of_a_kind() -> None:
    assert len({mutant.id for mutant in mutants()}) == len(mutants())
    bodies = Counter((mutant.task, repr(sorted(mutant.files.items())), mutant.weights_by) for mutant in mutants())
    assert [body for body, times in bodies.items() if times > 1] == []
    assert all(mutant.files != reference_files() or mutant.weights_by != "reference" for mutant in mutants())


def test_mistakes_are_those_of_the_table() -> None:
    for mutant in mutants():
        assert all(mutant.task in load_mistakes()[mistake].tasks for mistake in mutant.mistakes), mutant.id
    # No row of the table is without an example.
    assert {mistake for mutant in mutants() for mistake in mutant.mistakes} == set(load_mistakes())


@pytest.mark.rounding
@pytest.mark.parametrize("mutant", one_in_many(mutants()))
def test_loses_points_and_is_told_why(mutant: Entry) -> None:
    named = lost(mutant, {mutant.task}).get(mutant.task)
    assert named, f"not caught: {mutant.about}"
    assert set(filter(None, named)) == set(mutant.mistakes), mutant.about


@pytest.mark.slow
def test_through_the_jail() -> None:
    """As they would be graded, in one run; and what earlier tasks say of them. Others of them than the daily ones, and
    one in so many: all take ten minutes (HW7_EVERY_MUTANT=1), and say the same as the tests in this process."""
    tier = best_tier()[0]
    whole = Settings(rubric(), HIDDEN.seed, tier=tier)
    early = tuple(task for task in rubric().tasks if task.has_cases)  # the network tells nothing of these
    without = Settings(Rubric(early, "without the last tasks", rubric().path), HIDDEN.seed, tier=tier)
    chosen = mutants() if os.environ.get("HW7_EVERY_MUTANT") else mutants()[1::EVERY]
    with Workers(2) as workers:
        grades = [
            workers.submit(grade_one, mutant.submission(), whole if mutant.task.startswith("5") else without)
            for mutant in chosen
        ]
        for mutant, future in zip(chosen, grades, strict=True):
            grade = future.result()
            short = [task.task for task in grade.tasks if task.points < task.out_of]
            assert mutant.task in short, f"{mutant.id} is not caught: {mutant.about}"
            order = [task.task for task in grade.tasks]
            earlier = set(order[: order.index(mutant.task)]) - ALSO.get(mutant.task, set())
            assert not earlier & set(short), f"{mutant.id} costs points in {earlier & set(short)}"
