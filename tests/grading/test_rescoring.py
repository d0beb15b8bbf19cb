"""A rubric of other points or thresholds: the verdicts in the journal earn what asking again would."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import made_up_grades
import pytest
from made_up_class import Class, made_up
from submissions import HIDDEN, answered, mutants, rubric

from autograder import batch
from autograder.grades import Grade, Network, TaskGrade, handed_in, rescored
from autograder.grading import hidden_cases
from autograder.intake.submission import Submission
from autograder.journal import Journal, current_marks, journal_name, read_entries, read_journals
from autograder.rubric import DEFAULT_RUBRIC, Rubric, asked_digest, load_rubric
from autograder.worker import Settings
from hw7 import HW7Error
from hw7.checks.cases import Outcome, Task, Verdict
from hw7.checks.diagnosis.frame import Diagnosis
from hw7.checks.handed_in import HandedIn, Measured
from hw7.checks.scoring import AnswerSheet, score

# Mistakes from which much follows in later tasks; then some from which nothing follows.
FOLLOWED = ("3.1-signed", "3.2-least-important", "3.4-rounded", "4.1-rounded-zero-point")
ALONE = ("3.2-ties-by-topk", "4.1-symmetric")


def other_points(tasks: tuple[Task, ...], draw: random.Random) -> tuple[Task, ...]:
    """The same tasks, worth something else; some parts are worth nothing."""
    return tuple(
        replace(
            task,
            points={part: draw.choice([0.0, 1.0, 2.5]) for part in task.points},
            thresholds={
                data: {part: draw.choice([0.1, 0.4, 0.6, 0.9]) for part in levels}
                for data, levels in task.thresholds.items()
            },
        )
        for task in tasks
    )


def networks() -> Iterator[Network]:
    sizes = {"weights": 200_000, "source": 20_000}
    for share in (0.05, 0.39, 0.4, 0.61, 0.95):
        yield Network(sizes, Measured(share), "plates", 1000)
    yield Network(sizes, Measured(0.1, Diagnosis("some-mistake", "The channels are swapped.")), "plates", 1000)
    yield Network(sizes, Outcome(Verdict.CRASH, "It raised.", note="ValueError"), "plates", 1000)
    yield Network(sizes | {"weights": None}, Outcome(Verdict.MISSING, "None."), "plates", 1000)
    yield Network(sizes | {"weights": 10**6}, Outcome(Verdict.WRONG, "Too large."), "plates", 1000)


@pytest.mark.parametrize("name", [*FOLLOWED, *ALONE])
def test_the_same_as_to_score_the_answers_themselves(name: str) -> None:
    """Under many rubrics, from any of them to any other: what follows from a mistake is charged where that cost
    nothing."""
    (files,) = (entry.files for entry in mutants() if entry.id == name)
    asked = tuple(task for task in rubric().tasks if task.chapter == name[0])
    sheets = {task.id: answered(files, hidden_cases(rubric(), HIDDEN)[task.id]) for task in asked}

    def sheet_of(task: Task) -> AnswerSheet:
        return sheets[task.id]

    def graded(tasks: tuple[Task, ...]) -> Grade:
        none = HandedIn({}, lambda: Outcome(Verdict.MISSING), "plates", 1, "")
        made = (TaskGrade(task.id, task.title, score(task, tasks, sheet_of, none)) for task in tasks)
        return Grade("a", "1", "2", "3", "A", tuple(made))

    draw = random.Random(name)
    old = Grade.from_dict(json_of(graded(asked)))
    seen = set()
    for _ in range(20):
        tasks = other_points(asked, draw)
        new = rescored(old, Rubric(tasks, "", Path("r.toml")), "2")
        assert new.tasks == graded(tasks).tasks
        old = new
        seen.add(tuple(part.right for task in new.tasks for part in task.parts))
    assert (len(seen) > 1) == (name in FOLLOWED)  # what follows is forgiven, or charged


def json_of(grade: Grade) -> dict[str, object]:
    read: dict[str, object] = json.loads(grade.to_json())
    return read


@pytest.mark.parametrize("network", list(networks()), ids=str)
def test_a_network_under_other_thresholds(network: Network) -> None:
    tasks = tuple(task for task in load_rubric().tasks if not task.has_cases)

    def graded(tasks: tuple[Task, ...]) -> Grade:
        parts = (handed_in(network).parts(task, tasks) for task in tasks)
        made = (TaskGrade(task.id, task.title, each) for task, each in zip(tasks, parts, strict=True))
        return Grade("a", "1", "2", "3", "A", tuple(made), network=network)

    old, draw = Grade.from_dict(json_of(graded(tasks))), random.Random(1)
    for _ in range(20):
        others = other_points(tasks, draw)
        assert rescored(old, Rubric(others, "", Path("r.toml")), "2").tasks == graded(others).tasks


def test_what_could_not_be_graded_stays_so() -> None:
    problem = made_up_grades.broken("a", "No zip.")
    rubric = load_rubric()
    outcome = Outcome(Verdict.MISSING, "Nothing could be graded.")
    tasks = tuple(
        TaskGrade(task.id, task.title, tuple(made_up_grades.PartScore(*each, outcome) for each in task.points.items()))
        for task in rubric.tasks
    )
    new = rescored(replace(problem, tasks=tasks), rubric, "2")
    assert (new.total, new.problem) == (0, "No zip.")
    assert new.tasks == tasks


# ---- a folder ---------------------------------------------------------------------------------------------------


def test_a_whole_class_without_anybodys_code(tmp_path: Path) -> None:
    out = made_up_grades.a_folder(tmp_path / "out", 30)
    before = current_marks(out)
    text = DEFAULT_RUBRIC.read_text()
    (tmp_path / "rubric.toml").write_text(text.replace("values = 5, gradient = 4", "values = 4, gradient = 5"))
    marks, new = batch.rescore(out, load_rubric(tmp_path / "rubric.toml"))
    assert new == 30
    assert batch.rescore(out, load_rubric(tmp_path / "rubric.toml"))[1] == 0
    for old, mark in zip(before.marks, marks.marks, strict=True):
        right = {part.part: part.right for task in old.tasks if task.task == "2.1" for part in task.parts}
        assert mark.total == pytest.approx(old.total - right["values"] + right["gradient"])
    assert len(read_journals(out)) == 60
    batch.rescore(out, load_rubric())  # back: the grades of then are there
    assert len(read_journals(out)) == 60
    assert [mark.total for mark in current_marks(out).marks] == [mark.total for mark in before.marks]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('id = "3.1"\ntitle = "Channel importance"', 'id = "3.7"\ntitle = "Channel importance"', "task 3.1 is gone"),
        ("seconds = 120", "seconds = 60", "seconds of task 5.2 changed"),
        ("images = 1000", "images = 500", "parameters of task 5.2 changed"),
    ],
)
def test_what_asks_something_else_is_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    out = made_up_grades.a_folder(tmp_path / "out", 3)
    text = DEFAULT_RUBRIC.read_text()
    assert before in text
    (tmp_path / "rubric.toml").write_text(text.replace(before, after))
    entries = read_entries(out)
    with pytest.raises(HW7Error, match=said):
        batch.rescore(out, load_rubric(tmp_path / "rubric.toml"))
    assert read_entries(out) == entries


def test_words_points_and_days_late_ask_nothing_new(tmp_path: Path) -> None:
    text = DEFAULT_RUBRIC.read_text()
    first = asked_digest(load_rubric(), "hidden")
    changes = {"Two students": "Both students", "strong = 0.65": "strong = 0.7", "cap = 0.5": "cap = 1"}
    for before, after in changes.items():
        assert before in text
        (tmp_path / "rubric.toml").write_text(text.replace(before, after))
        assert asked_digest(load_rubric(tmp_path / "rubric.toml"), "hidden") == first
    assert asked_digest(load_rubric(), "another seed") != first


def test_another_run_in_the_folder_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = made_up_grades.a_folder(tmp_path / "out", 3)
    monkeypatch.setattr(batch, "PATIENCE", 0.1)
    with Journal(out / journal_name()), pytest.raises(HW7Error, match="another run"):
        batch.rescore(out, load_rubric())


def test_shards_score_their_own_students_only(a_class: Class) -> None:
    """Or each of them would write every grade again."""

    def asked(submission: Submission, settings: Settings) -> Grade:
        return replace(made_up(submission, settings), asked=settings.asked_digest)

    def run(rubric: Rubric, shard: tuple[int, int] | None = None) -> batch.RunReport:
        with ThreadPoolExecutor(2) as executor:
            settings = replace(a_class.settings, rubric=rubric)
            return a_class.run(settings, executor=executor, grade=asked, shard=shard)

    rubric = a_class.settings.rubric
    assert run(rubric).graded == 12
    rubric.path.write_text(rubric.text.replace("values = 60.0, gradient = 40.0", "values = 50.0, gradient = 50.0"))
    changed = load_rubric(rubric.path)
    reports = [run(changed, (n, 3)) for n in range(3)]
    assert [(each.graded, each.rescored) for each in reports] == [(0, 4)] * 3
    assert a_class.lines() == 24
    assert {float(row["total"]) for row in a_class.csv().values()} <= {0, 50, 100}
