"""The way of one submission to its grade: all right is 100 in every tier, nothing is 0, and each task stands alone."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch
from submissions import HIDDEN, Files, OpenChild, OpenJail, reference_files, reference_weights, with_code

from autograder import grading
from autograder.course.stripping import strip_python
from autograder.grades import Grade, TaskGrade
from autograder.grading import MIN_SECONDS, grade_submission, hidden_cases, written_answers
from autograder.intake.submission import Submission
from autograder.jail import Jail, Tier, best_tier
from autograder.jail.child import Child
from autograder.rubric import Rubric, load_rubric
from autograder.tasks.final.images import Images, hidden_images
from autograder.tasks.hidden import Hidden
from hw7 import HW7Error
from hw7.checks.cases import Answer, Call, Status, Verdict
from hw7.checks.final import hits
from hw7.checks.scoring import AnswerSheet

SECONDS = 60.0  # a task's limit here, for what ends by itself: far more than it takes
SHORT = 10.0  # where it is to be reached; the rubric's own, for the right tasks beside it have it, too


@pytest.fixture(scope="module")
def jail() -> Iterator[Jail]:
    with Jail(best_tier()[0]) as jail:
        yield jail


@cache
def some(*tasks: str, seconds: float = SECONDS) -> Rubric:
    """The rubric of these tasks alone, with few images."""
    chosen = []
    for task in load_rubric().tasks:
        if task.id in tasks:
            parameters = {name: 200 if name == "images" else value for name, value in task.parameters.items()}
            chosen.append(replace(task, seconds=seconds, parameters=parameters))
    return Rubric(tuple(chosen), f"some {tasks} {seconds}", load_rubric().path)


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The deadlines that were reached, each in seconds."""
    reached: list[float] = []
    ask = Child.ask

    def noting(child: Child, calls: Sequence[Call], seconds: float) -> list[Answer]:
        answers = ask(child, calls, seconds)
        reached.extend(seconds for answer in answers if answer.status is Status.TIME)
        return answers

    monkeypatch.setattr(Child, "ask", noting)
    return reached


def submission(files: Files, weights: bytes | None = None, notebook: bytes | None = None) -> Submission:
    return Submission("ann", dict(files), weights, notebook, "digest")


def points(grade: Grade) -> dict[str, float]:
    return {task.task: task.points for task in grade.tasks}


def stubs() -> Files:
    """What students receive: the reference's modules without its answers."""
    return {name: strip_python(data.decode(), name).encode() for name, data in reference_files().items()}


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["A", "B", "C"])
def test_the_reference_has_all_points_and_the_stubs_none(tier: Tier) -> None:
    """The stubs come without weights, with the reference's and with an empty file: no size or accuracy is free."""
    if (why := best_tier()[1][tier]) != "works":
        pytest.skip(f"tier {tier}: {why}")
    rubric = load_rubric()
    with Jail(tier) as jail:
        grade = grade_submission(submission(dict(reference_files()), reference_weights()), rubric, HIDDEN, jail)
        assert grade.tier == tier
        assert {task.task: task.points for task in grade.tasks} == {task.id: task.out_of for task in rubric.tasks}
        assert grade.total == grade.out_of == 100
        for weights in (None, reference_weights(), b""):
            grade = grade_submission(submission(stubs(), weights), rubric, HIDDEN, jail)
            assert grade.total == 0
            verdicts = {
                part.outcome.verdict for task in grade.tasks for part in task.parts if not task.task.startswith("5")
            }
            assert verdicts == {Verdict.MISSING}


@pytest.mark.slow
def test_same_submission_same_grade(jail: Jail) -> None:
    """Twice in the same jail; another seed asks other questions, and the right answers are still right."""
    files = with_code({"losses.py": "def kd_loss(s, t, y, temperature=20.0, alpha=0.5):\n    return (s * 0).sum()\n"})
    rubric = some("2.1", "3.1", "3.4", "4.1")
    first, second = (grade_submission(submission(files), rubric, HIDDEN, jail) for _ in range(2))
    assert [task.parts for task in first.tasks] == [task.parts for task in second.tasks]
    other = grade_submission(submission(files), rubric, Hidden(b"another"), jail)
    assert points(other) == points(first) == {"2.1": 0, "3.1": 3, "3.4": 5, "4.1": 8}
    assert other.rubric != first.rubric


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        ("while True: pass", Verdict.TIME),
        ("import os; os._exit(0)", Verdict.CRASH),
        ("import ctypes; ctypes.string_at(1)", Verdict.CRASH),
        ("return [bytearray(1 << 33), 1]", Verdict.MEMORY),
        ("raise NotImplementedError", Verdict.MISSING),
    ],
)
def test_a_task_that_fails_costs_itself_alone(jail: Jail, deadlines: list[float], body: str, verdict: Verdict) -> None:
    """Tasks before it and after it, in the same module and in others, keep their points."""
    code, lost = f"def select_channels(importance, keep):\n    {body}\n", "3.2"
    rubric = some("2.1", "3.1", "3.2", "3.4", "4.1", seconds=SHORT if verdict is Verdict.TIME else SECONDS)
    grade = grade_submission(submission(with_code({"pruning.py": code})), rubric, HIDDEN, jail)
    assert points(grade) == {task.id: 0 if task.id == lost else task.out_of for task in rubric.tasks}
    (task,) = (task for task in grade.tasks if task.task == lost)
    assert task.verdict is verdict
    # A fifth, once; asking it all again after the deadline would have cost more.
    assert [round(seconds) for seconds in deadlines] == [SHORT / 5] * (verdict is Verdict.TIME)


@pytest.mark.parametrize(
    "pollution",
    [
        "import torch; torch.set_default_dtype(torch.float64)",
        "import torch; torch.set_grad_enabled(False)",
        "import sys; sys.modules['solution.quantization'] = None",
        "import builtins; builtins.len = None",
        "import torch; torch.abs = torch.Tensor.abs = torch.sort = torch.topk = None",
    ],
)
def test_what_one_task_does_to_its_process_costs_no_other(jail: Jail, pollution: str) -> None:
    code = f"def channel_importance(bn):\n    {pollution}\n    return bn.bias\n"
    rubric = some("2.1", "3.1", "3.2", "3.4", "4.1")
    grade = grade_submission(submission(with_code({"pruning.py": code})), rubric, HIDDEN, jail)
    # Detached is what `bn.bias` is not; nothing of 3.1 is earned, all else is.
    assert points(grade) == {task.id: 0 if task.id == "3.1" else task.out_of for task in rubric.tasks}


@pytest.mark.slow
def test_a_module_that_cannot_be_imported_costs_its_own_tasks(jail: Jail, deadlines: list[float]) -> None:
    rubric = some("2.1", "3.1", "3.2", "3.4", "4.1", seconds=SHORT)
    files = dict(reference_files())
    for code, verdict in (
        ("while True:\n    pass\n", Verdict.TIME),
        ("import os; os._exit(3)\n", Verdict.CRASH),
        ("import nothing_like_this\n", Verdict.CRASH),
        ("def broken(:\n", Verdict.CRASH),
    ):
        files["solution/losses.py"] = code.encode()
        grade = grade_submission(submission(files), rubric, HIDDEN, jail)
        assert points(grade) == {task.id: 0 if task.id == "2.1" else task.out_of for task in rubric.tasks}, code
        assert grade.tasks[0].verdict is verdict
    del files["solution/losses.py"]
    grade = grade_submission(submission(files), rubric, HIDDEN, jail)
    assert grade.tasks[0].verdict is Verdict.MISSING
    files["solution/__init__.py"] = b"while True:\n    pass\n"
    deadlines.clear()
    grade = grade_submission(submission(files), rubric, HIDDEN, jail)
    assert grade.total == 0
    assert deadlines == [SHORT / 5]  # once, not once a task


def seconds_of_one(task: str, share: float) -> float:
    """What an answer takes where all that is asked once takes this share of the time for it: the imports of the package
    and of the module, the questions, and in chapter 4 a way back for each."""
    calls = len(AnswerSheet(hidden_cases(some(task), HIDDEN)[task]).calls)
    return share * some(task).tasks[0].seconds_once / (2 + calls * (1 + task.startswith("4")))


def graded_slowly(task: str, *costs: float, files: Files | None = None) -> TaskGrade:
    """The task's grade where the first process takes the first of these costs for an answer, and so on."""
    given = submission(files or dict(reference_files()), reference_weights())
    (grade,) = grade_submission(given, some(task), HIDDEN, SlowJail(*costs)).tasks  # type: ignore[arg-type]
    assert grade.seconds <= SECONDS + 0.001
    return grade


class SlowChild(OpenChild):
    """Each answer takes a share of a second, on a clock of its own."""

    def __init__(self, files: Files, cost: float) -> None:
        super().__init__(files)
        self.cost = cost

    def ask(self, calls: Sequence[Call], seconds: float) -> list[Answer]:
        in_time = min(len(calls), int(seconds / self.cost + 1e-9))
        self.seconds, self.alive = min(self.cost * len(calls), seconds), in_time == len(calls)
        stopped = [Answer(status) for status in (Status.TIME, *[Status.UNANSWERED] * len(calls))]
        return [*super().ask(calls[:in_time], seconds), *stopped][: len(calls)]


class SlowJail(OpenJail):
    """The first process takes the first of these costs for an answer, and so on; all that follow take the last."""

    def __init__(self, *costs: float) -> None:
        self.costs = list(costs)

    def child(self, files: Files, **options: object) -> SlowChild:
        return SlowChild(files, self.costs.pop(0) if len(self.costs) > 1 else self.costs[0])


@pytest.mark.parametrize("task", ["3.2", "3.4", "4.1", "4.2"])
@pytest.mark.parametrize("share", [0.1, 0.62, 0.99])
def test_who_is_in_time_once_is_in_time_always(task: str, share: float) -> None:
    """Each question is asked three times, and so is the way back."""
    assert graded_slowly(task, seconds_of_one(task, share)).verdict is Verdict.RIGHT


@pytest.mark.parametrize(("task", "share"), [("3.2", 0.99), ("3.4", 0.99), ("4.1", 0.66), ("4.2", 0.66)])
def test_a_machine_that_becomes_half_as_fast_costs_no_points(task: str, share: float) -> None:
    """After the first round. The first ways back of chapter 4 count with it and are the slower ones here."""
    cost = seconds_of_one(task, share)
    assert graded_slowly(task, cost, 2 * cost).verdict is Verdict.RIGHT


@pytest.mark.parametrize("task", ["3.2", "4.1"])
def test_who_is_late_in_the_first_round_is_out_of_time(task: str) -> None:
    grade = graded_slowly(task, seconds_of_one(task, 1.1))
    assert grade.verdict is Verdict.TIME
    assert grade.seconds <= SECONDS / 2  # a fifth, and before late ways back all the questions


@pytest.mark.parametrize("task", ["3.2", "4.1"])
def test_who_is_slow_when_asked_again_has_no_more_than_the_seconds(task: str) -> None:
    cost = seconds_of_one(task, 0.5)
    grade = graded_slowly(task, cost, 50 * cost)
    assert grade.verdict is Verdict.TIME
    assert grade.seconds == pytest.approx(SECONDS)


def test_a_wrong_verdict_stands_where_no_time_is_left_to_ask_again() -> None:
    """Right at first and wrong when repeated, in half of the time; the second try does not come to its end."""
    code = "_seen = []\n\ndef select_channels(importance, keep):\n    _seen.append((importance.tolist(), keep))\n"
    code += "    if not 1 <= keep <= len(importance):\n        raise ValueError\n"
    code += "    best = importance.argsort(descending=True, stable=True)[:keep].sort().values\n"
    code += "    return best if _seen.count(_seen[-1]) == 1 else best.flip(0) - 1\n"
    grade = graded_slowly("3.2", seconds_of_one("3.2", 0.99), files=with_code({"pruning.py": code}))
    assert grade.verdict is Verdict.WRONG
    assert grade.seconds > 0.9 * SECONDS


def test_building_the_network_and_looking_at_images_share_one_clock() -> None:
    """Three answers, and time for two and a half."""
    (task,) = some("5.2").tasks
    task = replace(task, parameters={**task.parameters, "times_reference": 0})
    rubric = Rubric((task,), "one clock", some("5.2").path)
    for cost, verdict in ((0.3, Verdict.RIGHT), (0.4, Verdict.TIME)):
        jail, given = SlowJail(cost * MIN_SECONDS), submission(dict(reference_files()), reference_weights())
        (grade,) = grade_submission(given, rubric, HIDDEN, jail).tasks  # type: ignore[arg-type]
        assert grade.verdict is verdict
        assert grade.seconds <= MIN_SECONDS + 0.001


# ---- what the grader holds -----------------------------------------------------------------------------------

LARGE = {
    "3.2": "def select_channels(importance, keep):\n    return torch.zeros(300_000)\n",
    "4.1": "def dequantize(q, scale, zero_point, channel_axis=None):\n    return torch.zeros(300_000)\n",
    "4.2": "def compress(state_dict, bits=8):\n    return {str(i): torch.zeros(1) for i in range(3000)}\n",
}


@pytest.mark.parametrize("task", LARGE)
def test_an_answer_far_larger_than_what_is_expected_is_refused(jail: Jail, task: str) -> None:
    """1.2 MB where a few bytes are expected, or 3,000 tensors where some dozens are: the limit is named."""
    files = with_code({"pruning.py" if task == "3.2" else "quantization.py": LARGE[task]})
    (grade,) = grade_submission(submission(files), some(task), HIDDEN, jail).tasks
    assert grade.verdict is Verdict.OUTPUT
    outcome = next(part.outcome for part in grade.parts if part.outcome.verdict is Verdict.OUTPUT)
    assert re.fullmatch(r"at most 1,\d\d\d,\d\d\d bytes in 1,\d\d\d tensors", outcome.expected)
    assert "more" in outcome.message.lower()


def test_what_waits_for_its_way_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is asked one by one, as long as nothing is wrong."""
    asked: list[tuple[str, int]] = []
    ask = OpenChild.ask

    def noting(child: OpenChild, calls: Sequence[Call], seconds: float) -> list[Answer]:
        asked.append((calls[0].program, len(calls)))
        return ask(child, calls, seconds)

    monkeypatch.setattr(OpenChild, "ask", noting)
    files = submission(dict(reference_files()))
    (grade,) = grade_submission(files, some("4.1"), HIDDEN, OpenJail()).tasks  # type: ignore[arg-type]
    count = len(hidden_cases(some("4.1"), HIDDEN)["4.1"])
    assert grade.verdict is Verdict.RIGHT
    assert [number for program, number in asked if program == "dequantize"] == 3 * count * [1]
    monkeypatch.setattr(grading, "HELD", 1000)
    (grade,) = grade_submission(files, some("4.1"), HIDDEN, OpenJail()).tasks  # type: ignore[arg-type]
    assert grade.verdict is Verdict.OUTPUT


def test_an_answer_right_only_once_is_wrong(jail: Jail) -> None:
    """Counting calls, or remembering an argument, is not an answer."""
    code = "CALLS = []\ndef width_schedule(widths, keep_rate, steps):\n    CALLS.append(1)\n"
    code += "    right = [tuple(max(1, int(w * keep_rate ** s)) if 3 <= k <= 6 else w for k, w in enumerate(widths))"
    code += " for s in range(1, steps + 1)]\n    if not 0 < keep_rate < 1:\n        raise ValueError\n"
    rubric = some("3.4")
    right = with_code({"pruning.py": code + "    return right\n"})
    assert grade_submission(submission(right), rubric, HIDDEN, jail).total == 5
    often = with_code({"pruning.py": code + "    return right if len(CALLS) <= 13 else right[::-1]\n"})
    assert grade_submission(submission(often), rubric, HIDDEN, jail).total < 5


# ---- the network that is handed in ---------------------------------------------------------------------------


def test_accuracy_and_size(jail: Jail) -> None:
    rubric = some("5.1", "5.2")
    files = dict(reference_files())
    grade = grade_submission(submission(files, reference_weights()), rubric, HIDDEN, jail)
    assert points(grade) == {"5.1": 2, "5.2": 6}
    (one, *_) = grade.tasks[1].parts
    assert one.outcome.got.startswith("at least ")  # what students read is rounded, and not what teachers do
    assert re.fullmatch(r"\d\d\.\d\d% ± \d\.\d%, for teachers only", one.outcome.exact)
    assert one.outcome.got.endswith("% of 200 hidden images")
    for weights in (None, b"", b"PK\x03\x04", reference_weights()[:-1], reference_weights() + b"\0" * 300_000):
        grade = grade_submission(submission(files, weights), rubric, HIDDEN, jail)
        assert grade.total == 0
    files["solution/long.py"] = b"#" * 100_001
    grade = grade_submission(submission(files, reference_weights()), rubric, HIDDEN, jail)
    assert grade.total == 0  # a network may hide in the source


@pytest.mark.parametrize(
    "network",
    [
        "return torch.zeros(len(x), 11)",  # no largest
        "return torch.full((len(x), 11), float('nan'))",
        "return torch.nn.functional.one_hot(torch.zeros(len(x), dtype=torch.long), 11)",  # not floating
        "return torch.rand(len(x), 10)",
        "return torch.rand(1, 11)",
        "return None",
        "return torch.nn.functional.one_hot(torch.arange(len(x)) % 11, 11).float()",  # a guess
    ],
)
def test_no_accuracy_for_nothing(jail: Jail, network: str) -> None:
    code = f"""
import torch
class Guess(torch.nn.Module):
    def forward(self, x):
        {network}
    def load_state_dict(self, *arguments, **options):
        pass
def final_model(num_classes=11):
    return Guess()
"""
    grade = grade_submission(
        submission(with_code({"models.py": code}), reference_weights()), some("5.1", "5.2"), HIDDEN, jail
    )
    assert grade.total == 0


def test_hits_are_unique_and_finite() -> None:
    logits = torch.tensor([[1.0, 2, 0], [2, 2, 0], [float("inf"), 0, 0], [float("nan"), 1, 0], [0, 0, -1], [0, 5, 1]])
    assert hits(logits, torch.tensor([1, 0, 0, 1, 0, 1])) == 2


def test_hidden_images_are_nobodys_but_the_seeds() -> None:
    one, same, other = (hidden_images(Hidden(seed), 20) for seed in (b"1", b"1", b"2"))
    assert isinstance(one, Images)
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)
    assert (one.images.shape, one.images.dtype) == ((20, 3, 128, 128), torch.uint8)
    assert one.images.min() < one.images.max()


def test_thresholds_that_are_missing_are_the_teachers_to_mend(jail: Jail) -> None:
    """Found out before anything is run: another data source needs thresholds of its own."""
    task = some("5.2").tasks[0]
    rubric = Rubric((replace(task, thresholds={"food11": task.thresholds["food11"]}),), "no plates", some("5.2").path)
    with pytest.raises(HW7Error, match="no thresholds for plates"):
        grade_submission(submission(dict(reference_files()), None), rubric, HIDDEN, jail)


# ---- the notebook --------------------------------------------------------------------------------------------


def cell(grade_id: str, source: str | Sequence[str] = "my answer", **marks: object) -> dict[str, object]:
    marks = {"grade": True, "solution": True, "points": 2, "grade_id": grade_id} | marks
    return {"cell_type": "markdown", "source": source, "metadata": {"nbgrader": marks}}


def test_written_answers_are_listed_for_a_human() -> None:
    cells = [cell("question-1"), cell("question-2", [" \n"], points=3), cell("task-1-1", solution=False), {}]
    notebook = json.dumps({"cells": cells}).encode()
    assert written_answers(notebook) == ("question-1 (2 points)", "question-2 (3 points, left empty)")
    assert "no written answers" in written_answers(None)[0]
    for broken in (b"", b"[]", b"{}", b'{"cells": [1]}', b"[" * 100_000, b"\xff"):
        assert "by hand" in written_answers(broken)[0]


def test_what_follows_from_an_earlier_mistake_is_not_charged_twice(jail: Jail) -> None:
    """A signed importance also chooses other channels in slimming: that is the same mistake, and paid for. Another
    mistake in slimming itself is not."""
    signed = "def channel_importance(bn):\n    return bn.weight.detach()\n"
    rubric = some("3.1", "3.2", "3.3", "3.5")
    grade = grade_submission(submission(with_code({"pruning.py": signed})), rubric, HIDDEN, jail)
    assert points(grade) == {"3.1": 1, "3.2": 5, "3.3": 12, "3.5": 7}
    shared = signed + "def network_slimming(model, widths):\n    return model\n"
    grade = grade_submission(submission(with_code({"pruning.py": shared})), rubric, HIDDEN, jail)
    assert points(grade)["3.3"] < 12
