"""What students read of their accuracy on hidden images is rounded down; teachers have the exact figure."""

import re
from dataclasses import replace
from fractions import Fraction

import pytest
from made_up_grades import RUBRIC, grade

from autograder.cli import format_grade
from autograder.exports.common import aligned
from autograder.exports.gradescope import exact_figures, results
from autograder.exports.html import student_page
from autograder.grades import Grade
from autograder.rubric import load_rubric
from hw7.checks.cases import Outcome
from hw7.checks.handed_in import HandedIn, Measured

SIZES = {"weights": 1, "source": 1}
(TASK,) = (task for task in load_rubric().tasks if task.check == "accuracy")


def outcomes(hits: int, images: int, data: str, hidden: bool = True) -> dict[str, Outcome]:
    """Of each part of task 5.2."""
    handed_in = HandedIn(SIZES, lambda: Measured(hits / images), data, images, "images", hidden)
    return {part: handed_in.accurate(TASK, part) for part in TASK.points}


def levels(data: str) -> dict[str, Fraction]:
    return {part: Fraction(str(level)) for part, level in TASK.thresholds[data].items()}


def read(outcome: Outcome) -> Fraction:
    found = re.fullmatch(r"at least (\d+\.\d)% of [\d,]+ images", outcome.got)
    assert found, outcome.got
    return Fraction(found[1]) / 100


@pytest.mark.parametrize("data", ["plates", "food11", "fashion-mnist"])
@pytest.mark.parametrize("images", [100, 330, 999, 1000])
def test_never_more_is_told_than_was_reached(images: int, data: str) -> None:
    """Of every possible number of hits."""
    for hits in range(images + 1):
        for part, outcome in outcomes(hits, images, data).items():
            told = read(outcome)
            assert told <= Fraction(hits, images)
            reached = Fraction(hits, images) >= levels(data)[part]
            assert (outcome.verdict == "RIGHT") == reached
            assert (told >= levels(data)[part]) == reached


@pytest.mark.parametrize("data", ["plates", "food11", "fashion-mnist"])
def test_students_read_one_of_few_things(data: str) -> None:
    """21 steps of five percent, and one more for each threshold between two of them, at most."""
    told = [str([(o.verdict, o.got, o.message) for o in outcomes(hits, 1000, data).values()]) for hits in range(1001)]
    assert len(set(told)) <= 21 + 3
    assert len({outcomes(hits, 1000, data)["strong"].exact for hits in range(1001)}) == 1001


def test_at_home_the_figure_is_exact() -> None:
    """There, the images and their labels are the student's own."""
    told = outcomes(217, 330, "plates", hidden=False)["strong"]
    assert told.got == "65.8% ± 2.6% of 330 images"  # sqrt(0.658 * 0.342 / 330)
    assert told.exact == ""


# ---- where it is read --------------------------------------------------------------------------------------------


def graded(exact: str) -> Grade:
    """A grade with this figure in task 5.2, right in one part and wrong in the other."""
    made = grade("ann")
    *others, last = made.tasks
    right, wrong = last.parts
    right = replace(right, outcome=replace(right.outcome, exact=exact, got="at least 55.0%"))
    wrong = replace(wrong, outcome=Outcome(type(right.outcome.verdict).WRONG, got="at least 60.0%", exact=exact))
    return replace(made, tasks=(*others, replace(last, parts=(right, wrong))))


def test_only_teachers_read_the_exact_figure() -> None:
    first, second = graded("61.30% ± 1.5%"), graded("63.90% ± 1.5%")
    assert "61.30%" in first.to_json()
    one, other = (aligned([each], RUBRIC)[0] for each in (first, second))
    assert student_page(one) == student_page(other)
    assert results(one) == results(other)
    assert format_grade(one) == format_grade(other)
    assert "at least 60.0%" in format_grade(one)
    assert "61.30%" in format_grade(one, teacher=True)
    assert exact_figures(one) == ["5.2: exactly 61.30% ± 1.5%"]
    assert all(test["visibility"] == "visible" for test in results(one)["tests"])  # it hides no total from students
    noisy = results(replace(one, output="printed"))["tests"]
    assert ["61.30%" in test["output"] for test in noisy if test["visibility"] == "hidden"] == [True]


def test_gradescope_tells_whole_seconds() -> None:
    """Finer ones could carry out what student code saw."""
    times = [results(replace(graded(""), seconds=seconds))["execution_time"] for seconds in (0.0, 1.01, 1.99, 2.0)]
    assert times == [0, 2, 2, 2]
