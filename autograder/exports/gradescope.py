"""Gradescope's results.json: a visible test for each task, and what only teachers may see in a hidden one.

Gradescope shows students the tests that are visible and the overall output, and keeps its standard output and hidden
tests for the staff. So both are made of different fields: a student's text never has a part's note or student output.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autograder.exports.common import aligned, file_name, hint, parts_of, printable
from autograder.grades import Grade
from autograder.marks import Mark, TaskMark, as_mark, points, sentence
from autograder.rubric import Rubric
from hw7.checks.cases import Verdict
from hw7.support.files import write_json


def export_gradescope(grades: Sequence[Grade], rubric: Rubric, out: Path) -> Path:
    """Writes a results.json for each student into the folder OUT; with one grade, and OUT ending in .json, that file.

    Raises HW7Error where the grades do not belong to the rubric, or a file cannot be written.
    """
    grades = aligned(grades, rubric)
    if len(grades) == 1 and out.suffix == ".json":
        write_json(out, results(grades[0]))
        return out
    for grade in grades:
        write_json(out / f"{file_name(grade.student)}.json", results(grade))
    return out


def results(grade: Grade) -> dict[str, Any]:
    """The contents of results.json for a mark, or a grade that has all tasks of its rubric."""
    grade = as_mark(grade)
    return {
        "score": round(grade.total, 6),
        "execution_time": math.ceil(grade.seconds),  # finer, student code could tell what it saw by waiting
        **_output(_overall(grade)),
        "stdout_visibility": "hidden",
        "tests": [*map(_test, grade.tasks), *_hidden(_for_teachers(grade))],
        "extra_data": {"submission": grade.submission, "grader": grade.grader},  # no rubric: the seed is in its digest
    }


def exact_figures(grade: Mark) -> list[str]:
    """For the container's output, which Gradescope shows to teachers only: what students read rounded."""
    lines = [f"{task.task}: exactly {part.outcome.exact}" for task, part in parts_of(grade) if part.outcome.exact]
    return list(dict.fromkeys(lines))


def failed(message: str, out_of: float, for_teachers: str = "") -> dict[str, Any]:
    """The contents of results.json where there is no grade at all: no points, and who has to do something now."""
    return {
        "score": 0.0,
        **_output(message),
        "stdout_visibility": "hidden",
        "tests": [
            {"name": "Grading", "score": 0.0, "max_score": out_of, "status": "failed", **_output(message)},
            *_hidden(for_teachers),
        ],
    }


def _output(text: str, visibility: str = "visible") -> dict[str, str]:
    return {"output": printable(text), "output_format": "text", "visibility": visibility}


def _hidden(text: str) -> list[dict[str, Any]]:
    """A test that only teachers see, where there is something to say."""
    return [{"name": "For teachers", **_output(text, "hidden")}] if text else []


def _test(task: TaskMark) -> dict[str, Any]:
    return {
        "number": task.task,
        "name": printable(task.title),
        "name_format": "text",
        "score": round(task.points, 6),  # sums of decimals, without their binary dust
        "max_score": round(task.out_of, 6),
        "status": "passed" if task.verdict is Verdict.RIGHT else "failed",
        **_output(_feedback(task)),
    }


def _feedback(task: TaskMark) -> str:
    """What a student reads of a task: what a person decided, and a paragraph for each part."""
    paragraphs = [f"By hand: {task.changed}"] if task.changed else []
    for part in task.parts:
        lines = [f"{part.part}: {part.outcome.verdict.lower()}, {points(part.points)} of {points(part.out_of)}"]
        if not part.right:
            told = {"asked": part.case, "expected": part.outcome.expected, "got": part.outcome.got}
            lines += [part.outcome.message, *(f"{name}: {value}" for name, value in told.items() if value)]
            lines += [f"hint: {text}"] if (text := hint(part)) else []
        paragraphs.append("\n  ".join(line for line in lines if line))
    return "\n".join(paragraphs)


def _overall(grade: Mark) -> str:
    automatic = "" if grade.how else " automatic"
    lines = [f"{points(grade.total)} of {points(grade.out_of)}{automatic} points."]
    if grade.problem:
        problem = grade.problem if grade.absent else f"Your submission could not be graded: {grade.problem}"
        lines = [problem, *lines]
    lines += [*grade.how, *(f"{sentence(comment.text)} ({comment.who})" for comment in grade.comments)]
    if grade.tier == "D":
        lines.append("Not an official grade: it was found without a jail.")
    lines += [f"Your files: {remark}" for remark in grade.remarks]
    lines += [f"{question}: to be graded by hand" for question in grade.manual]
    return "\n".join(lines)


def _for_teachers(grade: Mark) -> str:
    """Notes and student output, or nothing: a hidden test hides the total from students until grades are published.
    The exact accuracy, which nearly every grade has, is not worth that; it stands in the container's output."""
    notes = [
        f"{task.task} {part.part}: {part.outcome.verdict}: {part.outcome.note}"
        for task, part in parts_of(grade)
        if part.outcome.note
    ]
    output = ["What student code printed:", grade.output] if grade.output else []
    return "\n".join([f"Tier {grade.tier}", *exact_figures(grade), *notes, *output]) if notes or output else ""
