"""Grading: one submission to one grade. Its code answers in the jail; the judging happens here, outside.

Right submissions take the short way: every question of every task in one process, all of them twice in a second one in
another order, and what feeds on an earlier answer in a third. Whatever is not right on the way is asked again, alone in
fresh processes, before it costs a point, so that a task never pays for another's crash or global state. Only a deadline
is final at once. A task has one clock: its `seconds` are for all rounds, imports and repetitions together, and a fifth
of them for the first, so that who was in time once has time for all (`Task.seconds_once`).

What one submission makes the grader hold is bounded: each answer by what its question expects (`checks.bounds`), and
what waits for its way back by HELD.

A score is a function of the submission's bytes and of `Hidden`. Nothing that student code printed or raised reaches
what a student reads.
"""

import random
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, TypeVar

import torch

from autograder.grades import IMAGES, Grade, Network, TaskGrade
from autograder.intake.submission import Submission
from autograder.jail import EMPTY, Jail
from autograder.jail.child import Child
from autograder.rubric import Rubric, asked_digest, rubric_digest
from autograder.tasks.final.images import hidden_images
from autograder.tasks.hidden import Hidden
from autograder.tasks.table import CHAPTER, cases
from hw7 import HW7Error
from hw7.checks.bounds import bound
from hw7.checks.cases import Answer, Bound, Call, Case, Outcome, PartScore, Status, Task, Verdict
from hw7.checks.final import NEEDED, hits, logits_of, why_low
from hw7.checks.handed_in import HandedIn, Measured
from hw7.checks.importable import RAISES, told
from hw7.checks.outcomes import not_imported
from hw7.checks.scoring import AnswerSheet, SecondHalf, score
from hw7.data.load import plan_split
from hw7.solution import MODULES, source_size
from hw7.support.bounded_json import TooMuchError, read_bounded
from hw7.support.words import counted

T = TypeVar("T")
STOPPED = (Status.TIME, Status.DIED, Status.FLOOD, Status.NO_MEMORY)
HELD = 64 * 2**20  # bytes of first answers that wait for their second halves
MIN_SECONDS = 10.0  # for the accuracy task, however fast the machine: starting up is no inference
OUTPUT_KEPT = 4_000
LOOK_SECONDS, MAX_REASON = 3.0, 2_000  # for why a module cannot be imported: time to look, bytes of what is said
_ENDED = {
    Status.TIME: "the import does not come to an end",
    Status.DIED: "the import ends the process",
    Status.NO_MEMORY: "the import asks for more memory than there is",
}
UNGRADABLE = "The grader failed on these files, and does not fail without them: a teacher has to look at them."


@lru_cache(maxsize=4)
def hidden_cases(rubric: Rubric, hidden: Hidden) -> Mapping[str, tuple[Case, ...]]:
    """What is asked in every task that has cases, by task id; made once in a process."""
    return {task.id: hidden_cases_of(task, hidden) for task in rubric.tasks if task.has_cases}


def hidden_cases_of(task: Task, hidden: Hidden) -> tuple[Case, ...]:
    """What is asked in one task."""
    return tuple(cases(task.id, task.check, task.parameters, hidden.derive("cases", task.id)))


def get_ready(rubric: Rubric, hidden: Hidden, *, images: bool = False) -> None:
    """Makes all questions, with `images` also those that the accuracy task asks. From now on torch has one thread: the
    cores are for other workers. Raises HW7Error where the source's images are not there: nothing is graded without."""
    torch.set_num_threads(1)
    plan_split(hidden.source, "testing")
    hidden_cases(rubric, hidden)
    if images and (task := rubric.of_check("accuracy")) is not None:
        hidden_images(hidden, int(task.parameters["images"]))


def grade_submission(submission: Submission, rubric: Rubric, hidden: Hidden, jail: Jail) -> Grade:
    """The grade of one submission. Never raises for anything that the submission did.

    Raises HW7Error for what the teacher must fix: a data source that is not there, thresholds that are missing for it,
    a jail that does not even hold EMPTY files.
    """
    try:
        return _graded(submission, rubric, hidden, jail)
    except HW7Error:
        raise
    except Exception:  # a mistake of ours, but one that these bytes lead to: it must not stop the others
        trace = traceback.format_exc()
    jail.child(EMPTY).close()
    grade = _graded(replace(submission, problem=UNGRADABLE), rubric, hidden, jail)
    return replace(grade, output=trace[-OUTPUT_KEPT:])


def _graded(submission: Submission, rubric: Rubric, hidden: Hidden, jail: Jail) -> Grade:
    start = time.perf_counter()
    grading = _Grading(submission, rubric, hidden, jail)
    grade = Grade(
        student=submission.student,
        submission=submission.digest,
        rubric=rubric_digest(rubric, hidden.digest()),
        grader="",
        tier=jail.tier,
        tasks=grading.run(),
        manual=written_answers(submission.notebook),
        remarks=submission.remarks,
        problem=submission.problem,
        output=grading.output,
        seconds=round(time.perf_counter() - start, 3),
        asked=asked_digest(rubric, hidden.digest()),
        network=grading.measured(),
    )
    grade.to_json()  # here, where an error is this submission's alone
    return grade


class _Process:
    """A child of the jail that is replaced when it has died. One deadline holds for all calls of an `ask`."""

    def __init__(self, grading: "_Grading", library: Literal["full", "minimal"] = "full") -> None:
        self.grading, self.library = grading, library
        self.child: Child | None = None
        self.seconds = 0.0  # of the last `ask`

    def close(self) -> None:
        if self.child is not None:
            self.child.close()
            self.grading.output = (self.grading.output + self.child.output)[:OUTPUT_KEPT]
            self.child = None

    def ask(self, calls: Sequence[Call], seconds: float, *, resume: bool = True) -> list[Answer]:
        """An answer for each call. After a death the calls that are left go to a new process, if `resume`."""
        answers: list[Answer] = []
        self.seconds = 0.0
        while len(answers) < len(calls):
            if self.child is None or not self.child.alive:
                self.close()
                self.child = self.grading.jail.child(self.grading.submission.files, library=self.library)
            got = self.child.ask(calls[len(answers) :], max(0.0, seconds - self.seconds))
            self.seconds += self.child.seconds
            # A process that was gone before the first question counts as one that died of it.
            answers += [answer for answer in got if answer.status is not Status.UNANSWERED] or [Answer(Status.DIED)]
            if not self.child.alive:
                note = f"{answers[-1].note} [{self.child.stopped_by}]".strip()[:2000]
                answers[-1] = last = replace(answers[-1], note=note)
                if last.status is Status.TIME or not resume:
                    answers += [Answer(last.status, note=note)] * (len(calls) - len(answers))
        return answers


@dataclass
class _Grading:
    """The state of grading one submission."""

    submission: Submission
    rubric: Rubric
    hidden: Hidden
    jail: Jail
    sheets: dict[str, AnswerSheet] = field(default_factory=dict)  # by task id
    once: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # of first rounds, by task id
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))  # of all rounds, by task id
    not_imported: dict[str, str] = field(default_factory=dict)  # why, by module, of those whose import failed
    output: str = ""

    def __post_init__(self) -> None:
        self.handed_in = self.network()  # thresholds that are missing are found out before anything is run

    def run(self) -> tuple[TaskGrade, ...]:
        if not self.submission.problem:
            self.ask_all()
        return tuple(
            TaskGrade(task.id, task.title, self.parts(task), round(self.seconds[task.id], 3))
            for task in self.rubric.tasks
        )

    # ---- tasks with cases ----------------------------------------------------------------------------------

    def ask_all(self) -> None:
        asked = [self.open(task) for task in self.rubric.tasks if task.has_cases]
        with closing(_Process(self)) as process:
            broken = self.broken_modules(process)
            for task in asked:
                if answer := broken.get(CHAPTER[task.check]):
                    self.sheets[task.id].fill(answer)
            asked = [task for task in asked if CHAPTER[task.check] not in broken]
            self.ask(asked, process)
        for task in asked:
            earlier = self.sheets[task.id]
            if not self.right(task) and not self.late(task):
                with closing(_Process(self)) as process:
                    self.ask([self.open(task)], process)
                if self.late(task):  # there was too little time left
                    self.sheets[task.id] = earlier
        for task in self.rubric.tasks:
            if task.has_cases:
                self.sheets[task.id].not_imported = self.not_imported.get(CHAPTER[task.check], "")

    def open(self, task: Task) -> Task:
        """With an empty sheet."""
        self.sheets[task.id] = AnswerSheet(hidden_cases(self.rubric, self.hidden)[task.id])
        self.once[task.id] = 0.0
        return task

    def right(self, task: Task) -> bool:
        """Whether nothing is wrong so far."""
        return self.sheets[task.id].verdicts <= {Verdict.RIGHT}

    def late(self, task: Task) -> bool:
        """Whether a deadline was reached."""
        return Verdict.TIME in self.sheets[task.id].verdicts

    def broken_modules(self, process: _Process) -> dict[str, Answer]:
        """The modules whose import does not come to an end, with what came instead. The time is that of the first task
        that needs the module.

        A module that raises is not among them: that costs nothing, and each task finds out for itself. But why it does
        is asked here, for all of its tasks.
        """
        asked = [task for task in self.rubric.tasks if task.has_cases]
        broken: dict[str, Answer] = {}
        for module in ("", *MODULES):  # the package itself, then its modules
            task = next((each for each in asked if module in ("", CHAPTER[each.check])), None)
            if task is None:
                continue
            call = Call("import_module", {"module": module}, Bound(0, 0))
            (answer,) = self.answers(process, task, [call], first=True)
            if answer.status not in (Status.RETURNED, Status.ABSENT):
                self.find_out(module, answer)
            if answer.status in STOPPED:
                broken[module] = answer
                if module == "":
                    return dict.fromkeys(MODULES, answer)
        return broken

    def find_out(self, module: str, answer: Answer) -> None:
        """Why the import of a module failed, in words, from a process in which nothing of the submission runs."""
        ended = _ENDED.get(answer.status, RAISES)
        with closing(_Process(self)) as process:
            call = Call("why_not_imported", {"module": module, "ended": ended}, bound(1, MAX_REASON))
            (found,) = process.ask([call], LOOK_SECONDS, resume=False)
        text = told(module, None, ended)
        if [(each.dtype, each.numel() <= MAX_REASON) for each in found.tensors] == [(torch.uint8, True)]:
            text = bytes(found.tensors[0].tolist()).decode(errors="replace")
        self.not_imported |= dict.fromkeys([module] if module else MODULES, text)

    def ask(self, tasks: Sequence[Task], process: _Process) -> None:
        """Puts all questions of these tasks in this process, and closes it. Then what is right so far is asked again in
        another one, each question twice, in another order; and all second halves in a third."""

        def put(task: Task, calls: Sequence[Call], first: bool) -> None:
            sheet = self.sheets[task.id]
            for half in sheet.add(calls, self.answers(process, task, sheet.bounded(calls), first)):
                if half.size + sum(other.size for _, other, _ in halves) <= HELD:
                    halves.append((task, half, first))
                else:
                    note = f"more than {HELD:,} bytes wait for their second halves"
                    sheet.add_second([half], [Answer(Status.FLOOD, note=note)])

        halves: deque[tuple[Task, SecondHalf, bool]] = deque()
        for task in tasks:
            put(task, self.sheets[task.id].calls, True)
        process.close()
        for task in self.shuffled([task for task in tasks if self.right(task)], "tasks"):
            put(task, self.shuffled(2 * self.sheets[task.id].calls, task.id), False)
        process.close()  # the next has seen nothing of the first halves
        while halves:  # one at a time, each forgotten once it is judged
            task, half, first = halves.popleft()
            if not self.sheets[task.id].is_wrong(half.case):
                self.sheets[task.id].add_second([half], self.answers(process, task, [half.call], first))

    def answers(self, process: _Process, task: Task, calls: Sequence[Call], first: bool) -> list[Answer]:
        """The answers of one round, in what is left of the task's time. first: what is asked for the first time."""
        left = task.seconds - self.seconds[task.id]
        if first:
            left = min(left, task.seconds_once - self.once[task.id])
        if left <= 0 or self.late(task):
            return [Answer(Status.TIME)] * len(calls)
        answers = process.ask(calls, left)
        self.seconds[task.id] += process.seconds
        self.once[task.id] += process.seconds if first else 0.0
        return answers

    def shuffled(self, things: Sequence[T], purpose: str) -> list[T]:
        """Another order, the same for every submission."""
        things = list(things)
        random.Random(self.hidden.derive("order", purpose)).shuffle(things)
        return things

    # ---- parts, and the network that was handed in ---------------------------------------------------------

    def parts(self, task: Task) -> tuple[PartScore, ...]:
        if self.submission.problem:
            outcome = Outcome(Verdict.MISSING, "Nothing could be graded; the reason stands above.")
            return tuple(PartScore(part, points, outcome) for part, points in task.points.items())
        return score(task, self.rubric.tasks, lambda other: self.sheets[other.id], self.handed_in)

    def network(self) -> HandedIn:
        self.rubric.check_thresholds(self.hidden.source)
        task, data = self.rubric.of_check("accuracy"), self.hidden.source.partition(":")[0]
        weights = self.submission.weights
        source = source_size({path: len(data) for path, data in self.submission.files.items()})
        sizes = {"weights": None if weights is None else len(weights), "source": source}
        count = int(task.parameters["images"]) if task else 0
        return HandedIn(sizes, self.accuracy, data, count, IMAGES, hidden=True)

    def measured(self) -> Network | None:
        """What is known of the network; None where nothing was graded, or the rubric has no task for it."""
        if self.submission.problem or self.rubric.of_check("accuracy") is None:
            return None
        return Network(self.handed_in.sizes, self.handed_in.accuracy, self.handed_in.data, self.handed_in.count)

    def accuracy(self) -> Outcome | Measured:
        task, weights = self.rubric.of_check("accuracy"), self.submission.weights
        assert task is not None
        assert weights is not None
        hidden = hidden_images(self.hidden, int(task.parameters["images"]))
        left = min(task.seconds, max(MIN_SECONDS, task.parameters["times_reference"] * hidden.reference_seconds))
        with closing(_Process(self, "minimal")) as process:

            def ask(call: Call) -> Answer:
                nonlocal left
                (answer,) = process.ask([call], left, resume=False)
                self.seconds[task.id] += process.seconds
                left -= process.seconds
                return answer

            logits = logits_of(weights, hidden.images, int(task.parameters["batch"]), ask)
            if isinstance(logits, Outcome):
                why = next((self.not_imported[name] for name in NEEDED if name in self.not_imported), "")
                return not_imported(logits, why) if why else logits
            share = hits(logits, hidden.labels) / len(logits)
            enough = min(task.thresholds[self.handed_in.data].values())
            if share >= enough:
                return Measured(share)
            return Measured(share, why_low(logits, hidden.images, hidden.labels, enough, ask))


def written_answers(notebook: bytes | None) -> tuple[str, ...]:
    """The cells of the report notebook that a human grades: "question-1 (2 points)"; empty ones are named as such."""
    if notebook is None:
        return ("no hw7.ipynb: there are no written answers to grade",)
    try:
        cells = read_bounded(notebook.decode("utf-8-sig"))["cells"]
        real = [cell for cell in cells if isinstance(cell, dict)]
    except TooMuchError as error:
        return (f"hw7.ipynb {error}: look at it by hand",)
    except (ValueError, KeyError, TypeError):
        return ("hw7.ipynb cannot be read as a notebook: look at it by hand",)
    found = list(islice(filter(None, map(_written_answer, real)), 100))
    if broken := len(cells) - len(real):
        found.append(f"{counted(broken, 'cell')} of hw7.ipynb cannot be read: look at it by hand")
    return tuple(found)


def _written_answer(cell: Mapping[str, Any]) -> str:
    """A cell that a human grades, as a line; "" for any other."""
    metadata = cell.get("metadata")
    mark = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if not isinstance(mark, dict) or not (mark.get("grade") and mark.get("solution")):
        return ""
    name, worth, text = mark.get("grade_id"), mark.get("points", 0), cell.get("source", "")
    lines = text if isinstance(text, list) else [text]
    said = [counted(worth, "point")] if type(worth) in (int, float) and 0 <= worth <= 1000 else ["of unknown worth"]
    said += [] if any(isinstance(line, str) and line.strip() for line in lines) else ["left empty"]
    return f"{name[:60] if isinstance(name, str) else 'a cell without a name'} ({', '.join(said)})"
