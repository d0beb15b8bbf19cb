"""Pages to hand out: one for each student, and one of the class for the teacher. Each is one file that needs no other.

A student's page shows what the grader wrote for the student (message, expected, got, hint) and never a part's note or
what student code printed; those stand on the class page, for the failures that a human should look at. Everything is
escaped; a content security policy forbids the pages to load anything, and to run any script but the class page's own
few lines that sort its table.
"""

import base64
import hashlib
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from autograder.exports.common import aligned, display_name, file_name, hint, known, parts_of, printable
from autograder.grades import Grade, TaskGrade
from autograder.marks import Mark, as_mark, points
from autograder.rubric import Rubric
from hw7.checks.cases import PartScore, Verdict
from hw7.checks.worth import findings
from hw7.support.files import write_file
from hw7.support.words import counted

ADVICE: Mapping[Verdict, str] = {
    Verdict.WRONG: "It runs, and its answer is another one: compare expected and got, then try the numbers by hand.",
    Verdict.CRASH: "It raised an exception or ended the process: call it yourself with inputs of the same shapes.",
    Verdict.TIME: "It was stopped before it answered: look for a loop that never ends, or for work done twice.",
    Verdict.MEMORY: "It took more memory than there is: look for something that grows with every call.",
    Verdict.OUTPUT: "It gave back other things than asked for, or far too much of them: read what the task returns.",
}
BY_HAND = (Verdict.CRASH, Verdict.MEMORY, Verdict.OUTPUT)
"""Verdicts that a human should look at: they can be an accident of the grader's machine, or an attack."""

INSECURE = "D"
BIN = 5  # percent of all points, in the histogram of totals
FIRST = 3  # as many things are named to be done next


@dataclass(frozen=True)
class Step:
    """One thing to do next: the tasks that it is about, what can be gained there, and how."""

    tasks: tuple[TaskGrade, ...]
    gain: float
    text: str


def export_html(grades: Sequence[Grade], rubric: Rubric, out: Path) -> Path:
    """Writes OUT/class.html and a page for each student under OUT/students; the path of the class page.

    Raises HW7Error where the grades do not belong to the rubric, or a file cannot be written.
    """
    grades = aligned(grades, rubric)
    for grade in grades:
        write_file(out / _page_of(grade), student_page(grade).encode())
    write_file(out / "class.html", class_page(grades, rubric).encode())
    return out / "class.html"


def student_page(grade: Grade) -> str:
    """The page of one mark, or of a grade that has all tasks of its rubric."""
    grade = as_mark(grade)
    return ENVIRONMENT.get_template("student.html.j2").render(grade=grade, steps=next_steps(grade))


def class_page(grades: Sequence[Grade], rubric: Rubric) -> str:
    """The teacher's page of these marks or grades, each with all tasks of the rubric. Who handed in nothing stands in
    the table, and in no count or mean."""
    marks = list(map(as_mark, grades))
    handed_in = [mark for mark in marks if not mark.absent]
    script = resources.files("autograder.exports").joinpath("templates", "sort.js").read_text("utf-8")
    return ENVIRONMENT.get_template("class.html.j2").render(
        marks=marks,
        grades=handed_in,
        rubric=rubric,
        script=script,
        # The policy names the script by its hash: whatever else came into the page would not run.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        totals=_totals(handed_in, len(marks) - len(handed_in)),
        histogram=histogram([100 * share(grade) for grade in handed_in]),
        tasks=_tasks(handed_in),
        mistakes=_mistakes(handed_in),
        lost=_lost(handed_in),
        failures=list(_failures(handed_in)),
        versions={name: sorted({getattr(grade, name) for grade in handed_in}) for name in ("rubric", "grader", "tier")},
        page_of=_page_of,
    )


def unexplained(task: TaskGrade) -> set[Verdict]:
    """The verdicts of a task that no known mistake explains, and whose message needs advice beside it."""
    wrong = [part.outcome for part in task.parts if not part.right]
    return {outcome.verdict for outcome in wrong if outcome.verdict in ADVICE and not known(outcome.mistake)}


def next_steps(grade: Mark) -> list[Step]:
    """What to do first: the tasks with the most points to gain, in the order in which they are solved.

    Tasks of which the same is said, as of a module that cannot be imported, are one step.
    """
    to_do: dict[str, list[TaskGrade]] = {}
    for task in grade.tasks:
        if task.verdict is not Verdict.RIGHT and task.points < task.out_of:
            to_do.setdefault(_advice(next(part for part in task.parts if not part.right)), []).append(task)
    steps = [Step(tuple(tasks), sum(t.out_of - t.points for t in tasks), text) for text, tasks in _apart(to_do)]
    first = sorted(steps, key=lambda step: -step.gain)[:FIRST]
    return sorted(first, key=lambda step: grade.tasks.index(step.tasks[0]))


def _apart(to_do: Mapping[str, list[TaskGrade]]) -> Iterator[tuple[str, list[TaskGrade]]]:
    """General advice stands with each task of its own."""
    for text, tasks in to_do.items():
        yield from ((text, [task]) for task in tasks) if text in ADVICE.values() else [(text, tasks)]


def _advice(part: PartScore) -> str:
    """What to do about a part: what is said of its mistake; of what is not there, its message."""
    row = known(part.outcome.mistake)
    if row and not row.diagnosed:
        return row.hint
    return part.outcome.message if row else ADVICE.get(part.outcome.verdict, part.outcome.message)


def share(graded: Grade | TaskGrade | PartScore) -> float:
    """The part of the points that was earned, 0 to 1; 1 where there are none to earn."""
    earned = graded.total if isinstance(graded, Grade) else graded.points
    return earned / graded.out_of if graded.out_of else 1.0


def score_class(graded: Grade | TaskGrade | PartScore) -> str:
    """The CSS class of a score: all, some or nothing of its points."""
    return "good" if share(graded) > 1 - 1e-9 else "some" if share(graded) > 0 else "bad"


# ---- the class -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """One bar of the histogram, in percent of the width and of the tallest: percents `low` to `high` of all points."""

    low: int
    high: int
    count: int
    height: float


@dataclass(frozen=True)
class Counted:
    """Something that happened to `count` students, in a task."""

    task: str
    what: str
    text: str
    count: int


def _page_of(grade: Grade) -> str:
    return f"students/{file_name(grade.student)}.html"


def _totals(grades: Sequence[Mark], absent: int) -> list[tuple[str, str]]:
    """The facts of a class in a few numbers; none where there is nobody."""
    decided = sum(mark.is_decided for mark in grades)
    if not grades:
        return []
    totals = [grade.total for grade in grades]
    quarters = statistics.quantiles(totals, n=4, method="inclusive") if len(totals) > 1 else totals * 3
    return [
        ("students", str(len(totals))),
        ("mean", points(statistics.fmean(totals))),
        ("median", points(quarters[1])),
        ("middle half", f"{points(quarters[0])} to {points(quarters[2])}"),
        ("lowest, highest", f"{points(min(totals))}, {points(max(totals))}"),
        ("all points", str(sum(score_class(grade) == "good" for grade in grades))),
        *([("handed in nothing", str(absent))] if absent else []),
        *([("decided by hand", str(decided))] if decided else []),
    ]


def histogram(percents: Sequence[float]) -> list[Bar]:
    """Counts in bins of BIN percent; the last one has the full score in it."""
    # A sum of points in binary can be a hair below the bin that it belongs to.
    counts = Counter(min(math.floor(percent + 1e-9) // BIN, 100 // BIN - 1) for percent in percents)
    tallest = max(counts.values(), default=1)
    return [
        Bar(BIN * n, min(BIN * n + BIN - 1, 100) if n < 100 // BIN - 1 else 100, counts[n], 100 * counts[n] / tallest)
        for n in range(100 // BIN)
    ]


def _tasks(grades: Sequence[Grade]) -> list[tuple[TaskGrade, float, Counter[str]]]:
    """How each task went: a grade of it, for its name; the mean of its points; its students by `score_class`."""
    return [
        (tasks[0], statistics.fmean(task.points for task in tasks), Counter(map(score_class, tasks)))
        for tasks in zip(*(grade.tasks for grade in grades), strict=True)
    ]


def _mistakes(grades: Sequence[Mark]) -> list[Counted]:
    """Known mistakes by the number of students who made them, each with its hint."""
    made = Counter[tuple[str, str]]()
    for grade in grades:
        made.update({(task.task, part.outcome.mistake) for task, part in parts_of(grade) if part.outcome.mistake})
    rows = []
    for (task_id, mistake), count in made.items():
        row = known(mistake)
        rows.append(Counted(task_id, row.title if row else mistake, row.hint if row else "", count))
    return _most_first(rows)


def _lost(grades: Sequence[Mark]) -> list[Counted]:
    """Parts by the number of students who lost points there, and the cases at which most of them did."""
    lost: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for grade in grades:
        for task, part in parts_of(grade):
            if part.points < part.out_of:
                lost[task.task, part.part][part.case or part.outcome.verdict.lower()] += 1
    return _most_first(
        Counted(task_id, name, "; ".join(f"{case} ({count})" for case, count in cases.most_common(2)), cases.total())
        for (task_id, name), cases in lost.items()
    )


def _most_first(rows: Iterable[Counted]) -> list[Counted]:
    return sorted(rows, key=lambda row: (-row.count, row.task, row.what))


def _failures(grades: Sequence[Mark]) -> Iterator[tuple[Mark, list[tuple[str, str]], list[str]]]:
    """What a human should look at: grades, why (each with what is known), and what only the teacher may read."""
    for grade in grades:
        by_hand = [(task.task, part) for task, part in parts_of(grade) if part.outcome.verdict in BY_HAND]
        reasons = [("not graded", grade.problem)] if grade.problem else []
        reasons += [("tier D", "Graded without a jail: not an official grade.")] if grade.tier == INSECURE else []
        reasons += [(f"{task} {part.outcome.verdict.lower()}", part.outcome.message) for task, part in by_hand]
        notes = [f"{task} {part.part}: {part.outcome.note}" for task, part in by_hand if part.outcome.note]
        if reasons:
            yield grade, list(dict.fromkeys(reasons)), list(dict.fromkeys(notes))


def _finalize(value: Any) -> Any:
    """Every text that enters a page, but for what is markup already."""
    return printable(value) if type(value) is str else value


ENVIRONMENT = jinja2.Environment(
    loader=jinja2.ChoiceLoader([jinja2.PackageLoader("autograder.exports"), jinja2.PackageLoader("hw7.report")]),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_finalize,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {each.__name__: each for each in (points, share, score_class, hint, display_name)}
ENVIRONMENT.filters |= {"count_of": counted}
ENVIRONMENT.globals |= {"Verdict": Verdict, "ADVICE": ADVICE, "INSECURE": INSECURE}
ENVIRONMENT.globals |= {each.__name__: each for each in (unexplained, findings)}
