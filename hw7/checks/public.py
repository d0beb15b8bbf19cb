"""The public tests: the grader's own checks with inputs that everybody may see, for `pytest` and `hw7 check`.

Programs and judges are those of `hw7.checks`; the questions and the answers that are expected come as data, written by
the release beside the tests: `tasks.json` (points, limits) and `cases/TASK.safetensors`. The code that is checked is
one's own and runs in this process: no jail, but every exception in full.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from hw7 import HW7Error
from hw7.checks.calls.contract import LazySolution
from hw7.checks.calls.run import PROGRAMS, run_call
from hw7.checks.cases import Answer, Call, Case, Outcome, Status, Verdict
from hw7.checks.judges import judge, outcome_of_status, second_call
from hw7.checks.own_test import try_test
from hw7.checks.scoring import hits, of_accuracy, of_cases, of_size, too_large, unfit, with_mistakes
from hw7.checks.storage import load_cases
from hw7.checks.time_limit import OutOfTime, TimeLimit
from hw7.solution import PROJECT, default_directory, running, select_solution
from hw7.support.account import expanded
from hw7.support.files import read_json

TESTS = PROJECT / "assignments" / "hw7" / "tests"
IMAGES = 330  # public images for task 5.2, 30 of each class: one standard error is 2 to 3 points
BATCH = 66
PATIENCE = 3  # times the grader's limit: machines at home may be slow


def public_tests(folder: Path) -> Path:
    """The folder of the public tests; where hw7 is installed without the assignment, that beside `solution`."""
    return TESTS if TESTS.is_dir() else folder / "tests"


@dataclass(frozen=True)
class Task:
    """A row of tasks.json, which the release writes from the rubric. points: by part."""

    id: str
    title: str
    check: str
    seconds: float
    points: Mapping[str, float]
    thresholds: Mapping[str, float]  # task 5.2: by part, the share of right answers on `plates`

    @property
    def out_of(self) -> float:
        return sum(self.points.values())

    @property
    def mark(self) -> str:
        """What `pytest -m` calls it."""
        return f"task_{self.id.replace('.', '_')}"


@dataclass(frozen=True)
class Result:
    """One part of a task, and what was made of it."""

    task: Task
    part: str
    outcome: Outcome
    case: str = ""
    trace: str = ""  # of the exception that was raised, if one was

    @property
    def right(self) -> bool:
        return self.outcome.verdict is Verdict.RIGHT

    @property
    def out_of(self) -> float:
        return self.task.points[self.part]

    @property
    def points(self) -> float:
        return self.out_of if self.right else 0.0

    def __str__(self) -> str:
        """What a failing test prints."""
        outcome = self.outcome
        lines = [f"Task {self.task.id}, {self.task.title}: {self.part}, 0 of {self.out_of:g} points: {outcome.verdict}"]
        lines += [f"  case:      {self.case}"] if self.case else []
        lines += [f"  expected:  {outcome.expected}"] if outcome.expected else []
        lines += [f"  got:       {outcome.got}"] if outcome.got else []
        lines += [f"  hint:      {outcome.message}"] if outcome.message else []
        lines += ["", self.trace] if self.trace else []
        return "\n".join(lines)


@dataclass
class Checks:
    """The public tests of one submission. A task is asked once, however many of its parts are looked at."""

    directory: Path  # holds `solution`, and weights.safetensors when there are some
    tests: Path = TESTS
    _results: dict[str, tuple[Result, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path | str | None = None) -> Checks:
        """Of a folder; default: the one of one's own. Raises HW7Error where it holds no solution."""
        folder = expanded(directory or default_directory()).resolve()
        if not (folder / "solution").is_dir():
            raise HW7Error(f"{folder} holds no `solution` package; name the folder that does with --solution DIR")
        return cls(folder, public_tests(folder))

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks in the rubric's order. Raises HW7Error where the tests' data is missing or damaged."""
        path = self.tests / "tasks.json"
        if not path.is_file():
            raise HW7Error(f"there are no public tests: {path} is missing; take it from the assignment as handed out")
        return tuple(Task(**row) for row in read_json(path))

    def task(self, task_id: str) -> Task:
        """Raises HW7Error where there is none."""
        for task in self.tasks:
            if task.id == task_id:
                return task
        raise HW7Error(f"there is no task {task_id!r}; there are {', '.join(task.id for task in self.tasks)}")

    def check(self, task_id: str) -> tuple[Result, ...]:
        """All parts of a task, in the rubric's order."""
        if task_id not in self._results:
            task = self.task(task_id)
            special = {"accuracy": self._accuracy, "size": self._sizes}.get(task.check, self._cases)
            self._results[task_id] = tuple(special(task))
        return self._results[task_id]

    def part(self, task_id: str, part: str) -> Result:
        return next(result for result in self.check(task_id) if result.part == part)

    # ---- tasks with cases ----------------------------------------------------------------------------------

    def _cases(self, task: Task) -> Iterator[Result]:
        cases = load_cases(self.tests / "cases" / f"{task.id}.safetensors")
        outcomes = with_mistakes(cases, self._ask(task, cases))
        for part in task.points:
            name, outcome = of_cases(part, cases, outcomes, partial(self._mistakes_before, task))
            call = next((case.call for case in cases if case.name == name), None)
            yield Result(task, part, outcome, name, self._trace(call) if call is not None and outcome.note else "")

    def _mistakes_before(self, task: Task) -> set[str]:
        """Those that the earlier tasks of the chapter show."""
        chapter = [each.id for each in self.tasks if each.id.partition(".")[0] == task.id.partition(".")[0]]
        earlier = chapter[: chapter.index(task.id)]
        return {result.outcome.mistake for each in earlier for result in self.check(each)} - {""}

    def _ask(self, task: Task, cases: Sequence[Case]) -> dict[str, Outcome]:
        """The outcome of each case by its name. Second halves are asked of a solution that is imported anew."""
        answers: dict[int, Answer] = {}
        outcomes, waiting = dict[str, Outcome](), list[tuple[Case, Answer, Call]]()
        select_solution(self.directory)
        limit = TimeLimit(PATIENCE * task.seconds)
        try:
            with limit:
                for case in cases:
                    answer = answers.get(id(case.call)) or run_call(LazySolution(), case.call)
                    answers[id(case.call)] = answer
                    if (following := second_call(case, answer)) is None:
                        outcomes[case.name] = judge(case, answer)
                    else:
                        waiting.append((case, answer, following))
                if waiting:
                    select_solution(self.directory)
                for case, answer, following in waiting:
                    outcomes[case.name] = judge(case, answer, run_call(LazySolution(), following))
        except OutOfTime:
            for case in cases:
                late = outcome_of_status(Answer(Status.TIME), case)
                outcomes.setdefault(case.name, replace(late, message=limit.message))
        return outcomes

    def _trace(self, call: Call) -> str:
        """The traceback of what a call raises, from the first line of the solution on."""
        inputs = {
            name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in call.inputs.items()
        }
        try:
            for _ in PROGRAMS[call.program](LazySolution(), **inputs):
                pass
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            inside = [i for i, frame in enumerate(frames) if Path(frame.filename).is_relative_to(self.directory)]
            shown = traceback.StackSummary.from_list(frames[inside[0] if inside else len(frames) :])
            return "".join([*shown.format(), *traceback.format_exception_only(error)]).rstrip()
        return ""

    # ---- the network that is handed in ---------------------------------------------------------------------

    @property
    def _weights(self) -> Path:
        return self.directory / "weights.safetensors"

    @property
    def _source_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.directory / "solution").rglob("*.py"))

    def _no_weights(self) -> Outcome | None:
        if self._weights.is_file():
            return None
        message = (
            "There is no weights.safetensors beside `solution`. Train final_model, compress its state_dict, save it."
        )
        return Outcome(Verdict.MISSING, message)

    def _sizes(self, task: Task) -> Iterator[Result]:
        """The budgets; they count only with a network that works, that is, passes the first accuracy threshold."""
        missing = self._no_weights()
        sizes = {"weights": 0 if missing else self._weights.stat().st_size, "source": self._source_bytes}
        accuracy = next((each for each in self.tasks if each.check == "accuracy"), None)
        works = accuracy is not None and any(result.right for result in self.check(accuracy.id))
        for part in task.points:
            yield Result(task, part, of_size(part, sizes[part], missing, works))

    def _accuracy(self, task: Task) -> Iterator[Result]:
        limit = TimeLimit(PATIENCE * task.seconds)
        try:
            with limit:
                accuracy = self._measured()
        except OutOfTime:
            accuracy = Outcome(Verdict.TIME, limit.message)
        for part in task.points:
            if isinstance(accuracy, Outcome):
                yield Result(task, part, accuracy)
                continue
            error = (accuracy * (1 - accuracy) / IMAGES) ** 0.5
            got = f"{accuracy:.1%} ± {error:.1%} of {IMAGES} public images; the grader has others"
            yield Result(task, part, of_accuracy(accuracy, task.thresholds[part], got))

    def _measured(self) -> Outcome | float:
        """The share of public images whose one largest logit is the label's, or why there is none."""
        from hw7.data.plates.render import draw

        if missing := self._no_weights():
            return missing
        for part, size in (("weights", self._weights.stat().st_size), ("source", self._source_bytes)):
            if outcome := too_large(part, size):
                return outcome
        select_solution(self.directory)
        data = torch.frombuffer(bytearray(self._weights.read_bytes()), dtype=torch.uint8)
        answer = run_call(LazySolution(), Call("final_model", {"weights": data}))
        if answer.status is not Status.RETURNED:
            outcome = outcome_of_status(answer)
            return Outcome(outcome.verdict, f"{outcome.message} {answer.note}".strip())
        right = 0
        images, labels = draw("validation", IMAGES, 128)
        for batch, truth in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            answer = run_call(LazySolution(), Call("final_logits", {"images": batch.float() / 255}))
            if outcome := unfit(answer, len(batch)):
                return replace(outcome, message=f"{outcome.message} {answer.note}".strip())
            right += hits(answer.tensors[0].float(), truth)
        return right / IMAGES


# ---- the test that students write ------------------------------------------------------------------------------

OWN_TEST = "own-test"


def try_own_test(checks: Checks, kd_loss_task: str = "2.1") -> tuple[bool, str]:
    """Whether solution/own_test.py lets one's own right loss pass and catches every wrong one; and that in words."""
    wrong = [result for result in checks.check(kd_loss_task) if not result.right]
    if wrong:
        return False, f"A test of `kd_loss` is tried on your own one, which must be right first.\n\n{next_step(wrong)}"
    select_solution(checks.directory)
    solution = LazySolution()
    with running("own_test.test_kd_loss", checks.directory):
        verdict = try_test(solution.own_test.test_kd_loss, solution.losses.kd_loss)
    rows = [
        ("your kd_loss, which is right", f"fails: {verdict.right}" if verdict.right else "passes", not verdict.right)
    ]
    rows += [(f"wrong: {name}", "is caught", True) for name in verdict.caught]
    rows += [(f"wrong: {name}", "passes", False) for name in verdict.missed]
    table = tabulate(
        [(name, state, "good" if good else "to do") for name, state, good in rows], ("loss", "your test", "")
    )
    caught, count = len(verdict.caught), len(verdict.caught) + len(verdict.missed)
    last = f"It catches {caught} of {count} wrong losses." if not verdict.right else "It must let a right loss pass."
    return all(good for *_, good in rows), f"{table}\n\n{last}"


# ---- as a table ------------------------------------------------------------------------------------------------


def format_overview(checks: Checks) -> str:
    """A row a task, the sum, and what to do next."""
    results = {task.id: checks.check(task.id) for task in checks.tasks}
    rows = []
    for task in checks.tasks:
        parts = results[task.id]
        wrong = [result for result in parts if not result.right]
        state = ", ".join(f"{result.part}: {result.outcome.verdict}" for result in wrong) or "right"
        if all(result.outcome.verdict is Verdict.MISSING for result in parts):
            state = "not done yet"
        rows.append((task.id, task.title, f"{sum(result.points for result in parts):g} of {task.out_of:g}", state))
    flat = [result for parts in results.values() for result in parts]
    total = f"{sum(result.points for result in flat):g} of {sum(result.out_of for result in flat):g}"
    rows.append(("", "all public tests", total, ""))
    table = tabulate(rows, ("task", "", "points", ""), maxcolwidths=[None, 40, None, 50], disable_numparse=True)
    return f"{table}\n\n{next_step(flat)}"


def format_task(results: Sequence[Result]) -> str:
    """A row a part, and what is wrong with each that is."""
    rows = [(result.part, f"{result.points:g} of {result.out_of:g}", result.outcome.verdict) for result in results]
    title = f"Task {results[0].task.id}, {results[0].task.title}"
    table = tabulate(rows, ("part", "points", ""), disable_numparse=True)
    return "\n\n".join([title, table, *(str(result) for result in results if not result.right)])


def next_step(results: Sequence[Result]) -> str:
    """The first part that is not right, in full, and the command that runs its task alone."""
    wrong = next((result for result in results if not result.right), None)
    if wrong is None:
        return "Every public test passes. The grader asks the same of other inputs. Next: the report, hw7.ipynb."
    return f"Next: {wrong}\n\nRun it alone with `hw7 check {wrong.task.id}` or `pytest -m {wrong.task.mark}`."


def write_tasks(tasks: Sequence[Mapping[str, Any]]) -> bytes:
    """tasks.json: rows with the fields of `Task`."""
    return (json.dumps([dict(task) for task in tasks], indent=1, ensure_ascii=False) + "\n").encode()
