"""One submission to one grade: its code answers in the jail, the judging happens here, outside.

Right submissions take the short way: every question of every task in one process, all of them twice in a second one in
another order, and what feeds on an earlier answer in a third. Whatever is not right on the way is asked again, alone in
fresh processes, before it costs a point, so that a task never pays for another's crash or global state. Only a deadline
is final at once: an endless loop costs one limit, and its own task only. A task has one budget for all rounds, so
that who was in time in the first one has time for all.

A score is a function of the submission's bytes and of `Hidden`. Nothing that student code printed or raised reaches
what a student reads.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import groupby
from typing import Any, Literal, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from autograder.grades import Grade, PartGrade, TaskGrade
from autograder.intake.submission import Submission
from autograder.jail import Jail
from autograder.jail.child import Child
from autograder.rubric import Rubric, Task, rubric_digest
from autograder.tasks.hidden import Hidden
from autograder.tasks.table import CHAPTER, OUTSIDE, cases
from hw7 import HW7Error
from hw7.checks.cases import Answer, Call, Case, Outcome, Status, Verdict
from hw7.checks.judges import judge, outcome_of_status, second_call
from hw7.checks.scoring import hits, of_accuracy, of_cases, of_size, too_large, unfit, with_mistakes
from hw7.data.load import load_split
from hw7.data.plates.render import draw
from hw7.data.plates.source import plates_options
from hw7.models import StudentNet
from hw7.solution import MODULES

IMAGE_SIZE = 128
STOPPED = (Status.TIME, Status.DIED, Status.FLOOD, Status.NO_MEMORY)
BUDGET = 12  # times its `seconds` a task has in all: questions and second halves, thrice, and again where one is wrong
SLACK = 4  # times its `seconds` a later round has: it asks all twice, and the machine may be slower by then
MIN_SECONDS = 10.0  # for the accuracy task, however fast the machine: starting up is no inference
OUTPUT_KEPT = 4_000


@dataclass(frozen=True, eq=False)
class Question:
    """Cases that look at one and the same call, which is asked once for all of them."""

    cases: tuple[Case, ...]

    @property
    def call(self) -> Call:
        return self.cases[0].call


@dataclass(frozen=True, eq=False)
class Images:
    """The hidden images, shuffled: uint8 [N, 3, 128, 128], their labels [N], and how fast our own network is."""

    images: Tensor
    labels: Tensor
    reference_seconds: float

    def batches(self, size: int) -> Iterable[Tensor]:
        for start in range(0, len(self.images), size):
            yield self.images[start : start + size].float() / 255


@lru_cache(maxsize=4)
def hidden_questions(rubric: Rubric, hidden: Hidden) -> Mapping[str, tuple[Question, ...]]:
    """What is asked in every task that has cases, by task id; made once in a process."""
    questions: dict[str, tuple[Question, ...]] = {}
    for task in rubric.tasks:
        if task.check not in OUTSIDE:
            by_call: dict[int, list[Case]] = {}
            for case in cases(task.id, task.check, task.parameters, hidden.derive("cases", task.id)):
                by_call.setdefault(id(case.call), []).append(case)
            questions[task.id] = tuple(Question(tuple(group)) for group in by_call.values())
    return questions


@lru_cache(maxsize=2)
def hidden_images(hidden: Hidden, count: int) -> Images:
    """`count` labelled images that no student has seen; made once in a process.

    Pictures of `plates` are drawn from the hidden seed and never touch the disk. Raises HW7Error where the source has
    no labelled split to test on.
    """
    kind, _, options = hidden.source.partition(":")
    if kind == "plates":
        _, difficulty = plates_options(options)
        seed = int.from_bytes(hidden.derive("images")[:16])
        images, labels = draw("testing", count, IMAGE_SIZE, seed=seed, difficulty=difficulty)
    else:
        split = load_split(hidden.source, "testing", IMAGE_SIZE, progress=False)
        if not split.labelled:  # Food-11's testing images may come without labels
            split = load_split(hidden.source, "validation", IMAGE_SIZE, progress=False)
        images, labels = split.images, split.labels
    generator = torch.Generator().manual_seed(int.from_bytes(hidden.derive("image order")[:7]))
    order = torch.randperm(len(labels), generator=generator)[:count]
    images, labels = images[order], labels[order]
    return Images(images, labels, _seconds_of_given_network(images[:50]) * len(images) / len(images[:50]))


def _seconds_of_given_network(images: Tensor) -> float:
    """How long the network of question 3 computes on these images here, on one thread; the best of three."""
    network, times, threads = StudentNet().eval(), [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            for _ in range(3):
                start = time.thread_time()  # as the submission's own, without what others take of the processor
                network(images.float() / 255)
                times.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return min(times)


def grade_submission(submission: Submission, rubric: Rubric, hidden: Hidden, jail: Jail) -> Grade:
    """The grade of one submission. Never raises for anything that the submission did.

    Raises HW7Error for what the teacher must mend: a data source that is not there, thresholds that are missing for it.
    """
    start = time.perf_counter()
    work = _Work(submission, rubric, hidden, jail)
    tasks = tuple(work.grade(task) for task in rubric.tasks) if submission.problem else work.run()
    return Grade(
        student=submission.student,
        submission=submission.digest,
        rubric=rubric_digest(rubric, hidden),
        grader="",
        tier=jail.tier,
        tasks=tasks,
        manual=written_answers(submission.notebook),
        remarks=submission.remarks,
        problem=submission.problem,
        output=work.output[:OUTPUT_KEPT],
        seconds=round(time.perf_counter() - start, 3),
    )


class _Half(NamedTuple):
    """A first answer that has a second question to it."""

    task: Task
    case: Case
    answer: Answer
    following: Call


class _Process:
    """A child of the jail that is replaced when it has died. One deadline holds for all calls of an `ask`."""

    def __init__(self, work: _Work, library: Literal["full", "minimal"] = "full") -> None:
        self.work, self.library = work, library
        self.child: Child | None = None
        self.seconds = 0.0  # of the last `ask`

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self.child is not None:
            self.child.close()
            self.work.output += self.child.output
            self.child = None

    def ask(self, calls: Sequence[Call], seconds: float, *, resume: bool = True) -> list[Answer]:
        """An answer for each call. After a death the calls that are left go to a new process, if `resume`."""
        answers: list[Answer] = []
        self.seconds = 0.0
        while len(answers) < len(calls):
            if self.child is None or not self.child.alive:
                self.close()
                self.child = self.work.jail.child(self.work.submission.files, library=self.library)
            got = self.child.ask(calls[len(answers) :], max(0.0, seconds - self.seconds))
            self.seconds += self.child.seconds
            # A process that was gone before the first question counts as one that died of it.
            answers += [answer for answer in got if answer.status is not Status.UNANSWERED] or [Answer(Status.DIED)]
            if not self.child.alive:
                answers[-1] = last = _with_note(answers[-1], self.child.stopped_by)
                if last.status is Status.TIME or not resume:
                    answers += [Answer(last.status, note=last.note)] * (len(calls) - len(answers))
        return answers


def _with_note(answer: Answer, stopped_by: str) -> Answer:
    return replace(answer, note=f"{answer.note} [{stopped_by}]".strip()[:2000])


@dataclass
class _Work:
    """The state of grading one submission."""

    submission: Submission
    rubric: Rubric
    hidden: Hidden
    jail: Jail
    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict)  # task -> case -> outcome
    begun: set[tuple[str, bool]] = field(default_factory=set)  # task and half that had their first round
    seconds: dict[str, float] = field(default_factory=dict)  # of all rounds, by task
    output: str = ""

    def run(self) -> tuple[TaskGrade, ...]:
        asked = [task for task in self.rubric.tasks if task.check not in OUTSIDE]
        with _Process(self) as process:
            broken = self.broken_modules(process)
            for task in asked:
                if (module := CHAPTER[task.check]) in broken:
                    self.settle(task, broken[module])
            asked = [task for task in asked if task.id not in self.outcomes]
            halves = self.first_halves(process, asked, tuple)
        self.ask_twice(asked, halves)
        for task in asked:
            if not self.right(task) and not self.out_of_time(task):
                self.outcomes[task.id] = {}
                with _Process(self) as process:
                    halves = self.first_halves(process, [task], tuple)
                self.ask_twice([task], halves)
        return tuple(self.grade(task) for task in self.rubric.tasks)

    def ask_twice(self, tasks: Sequence[Task], halves: list[_Half]) -> None:
        """After a first round: what is right so far is asked again, and all second halves are asked."""
        again: list[_Half] = []
        good = self.shuffled([task for task in tasks if self.right(task)], "tasks")
        if good:
            with _Process(self) as process:
                again = self.first_halves(process, good, self.again)
        with _Process(self) as process:  # it has seen nothing of the first halves
            self.second_halves(process, halves)
            self.second_halves(process, again)

    # ---- tasks with cases ----------------------------------------------------------------------------------

    def broken_modules(self, process: _Process) -> dict[str, Answer]:
        """The modules whose import does not come to an end, with what came instead; each costs a limit once.

        A module that raises is not among them: that costs nothing, and each task says so for itself.
        """
        limit = min(task.seconds for task in self.rubric.tasks)
        broken: dict[str, Answer] = {}
        for module in ("", *MODULES):  # the package itself, then its modules
            (answer,) = process.ask([Call("import_module", {"module": module})], limit)
            if answer.status in STOPPED:
                broken[module] = answer
                if module == "":
                    return dict.fromkeys(("", *MODULES), answer)
        return broken

    def settle(self, task: Task, answer: Answer) -> None:
        """The same answer to every question of a task."""
        for question in hidden_questions(self.rubric, self.hidden)[task.id]:
            for case in question.cases:
                self.note(task, case, judge(case, answer))

    def first_halves(
        self, process: _Process, tasks: Sequence[Task], order: Callable[[Sequence[Question]], Sequence[Question]]
    ) -> list[_Half]:
        """Asks every question of these tasks and judges the answers, but for those with a second half to them."""
        halves: list[_Half] = []
        for task in tasks:
            questions = order(hidden_questions(self.rubric, self.hidden)[task.id])
            answers = self.ask(process, task, [question.call for question in questions])
            for question, answer in zip(questions, answers, strict=True):
                for case in question.cases:
                    following = second_call(case, answer)
                    if following is None:
                        self.note(task, case, judge(case, answer))
                    else:
                        halves.append(_Half(task, case, answer, following))
        return halves

    def second_halves(self, process: _Process, halves: Sequence[_Half]) -> None:
        for task, group in groupby(halves, key=lambda half: half.task):
            waiting = list(group)
            answers = self.ask(process, task, [half.following for half in waiting], second=True)
            for half, answer in zip(waiting, answers, strict=True):
                self.note(task, half.case, judge(half.case, half.answer, answer))

    def ask(self, process: _Process, task: Task, calls: Sequence[Call], *, second: bool = False) -> list[Answer]:
        """The answers of one round. The first round has the task's `seconds`; later ones have more, because they ask
        more and because a machine may have become slower since; and all of them have one budget."""
        limit = SLACK * task.seconds if (task.id, second) in self.begun else task.seconds
        left = BUDGET * task.seconds - self.seconds.get(task.id, 0.0)
        answers = process.ask(calls, min(left, limit))
        self.begun.add((task.id, second))
        self.spend(task, process.seconds)
        return answers

    def spend(self, task: Task, seconds: float) -> None:
        self.seconds[task.id] = self.seconds.get(task.id, 0.0) + seconds

    def note(self, task: Task, case: Case, outcome: Outcome) -> None:
        """The first answer that is not right stays."""
        known = self.outcomes.setdefault(task.id, {})
        if case.name not in known or known[case.name].verdict is Verdict.RIGHT:
            known[case.name] = outcome

    def right(self, task: Task) -> bool:
        """Whether nothing is wrong so far."""
        return all(outcome.verdict is Verdict.RIGHT for outcome in self.outcomes.get(task.id, {}).values())

    def out_of_time(self, task: Task) -> bool:
        """Whether asking again would cost the limit again."""
        return any(outcome.verdict is Verdict.TIME for outcome in self.outcomes[task.id].values())

    def shuffled(self, things: Sequence[Any], purpose: str) -> list[Any]:
        """Another order, the same for every submission."""
        things = list(things)
        random.Random(self.hidden.derive("order", purpose)).shuffle(things)
        return things

    def again(self, questions: Sequence[Question]) -> Sequence[Question]:
        """The questions in another order, each of them twice."""
        return self.shuffled([*questions, *questions], questions[0].cases[0].task)

    # ---- the network that was handed in --------------------------------------------------------------------

    @property
    def source_bytes(self) -> int:
        return sum(len(data) for data in self.submission.files.values())

    @cached_property
    def handed_in(self) -> Outcome | float:
        """The accuracy on the hidden images, or why there is none."""
        weights, task = self.submission.weights, self.rubric.of_check("accuracy")
        assert task is not None
        if weights is None:
            return Outcome(Verdict.MISSING, "There is no weights.safetensors in the submission.")
        for part, size in (("weights", len(weights)), ("source", self.source_bytes)):
            if outcome := too_large(part, size):
                return outcome
        try:
            safetensors.torch.load(weights)
        except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            message = "weights.safetensors is not a whole safetensors file. Write it with safetensors.torch.save_file."
            if weights[:2] in (b"PK", b"\x80\x02"):
                message = "weights.safetensors was written by torch.save. Write it with safetensors.torch.save_file."
            return Outcome(Verdict.WRONG, message, note=str(error)[:300])
        return self.accuracy(task, weights)

    def accuracy(self, task: Task, weights: bytes) -> Outcome | float:
        """Hands over the images batch by batch; labels stay here. Only a row with one largest logit can be right."""
        images = hidden_images(self.hidden, int(task.parameters["images"]))
        limit = min(task.seconds, max(MIN_SECONDS, task.parameters["times_reference"] * images.reference_seconds))
        right, start = 0, 0
        with _Process(self, "minimal") as process:
            data = torch.frombuffer(bytearray(weights), dtype=torch.uint8)
            (answer,) = process.ask([Call("final_model", {"weights": data})], limit, resume=False)
            self.spend(task, process.seconds)
            if answer.status is not Status.RETURNED:
                return outcome_of_status(answer)
            for batch in images.batches(int(task.parameters["batch"])):
                (answer,) = process.ask([Call("final_logits", {"images": batch})], limit, resume=False)
                self.spend(task, process.seconds)
                limit -= process.seconds
                if outcome := unfit(answer, len(batch)):
                    return outcome
                right += hits(answer.tensors[0].float(), images.labels[start : start + len(batch)])
                start += len(batch)
        return right / start

    def accuracy_parts(self, task: Task) -> list[PartGrade]:
        result, parts = self.handed_in, []
        kind = self.hidden.source.partition(":")[0]
        if kind not in task.thresholds:
            raise HW7Error(
                f"the rubric {self.rubric.path} has no thresholds for {kind} in task {task.id}; it has them for "
                f"{', '.join(task.thresholds)}. Add [task.thresholds.{kind}] there."
            )
        for part, points in task.points.items():
            if isinstance(result, float):
                got = f"{result:.1%} of {int(task.parameters['images']):,} hidden images"
                parts.append(_part(part, points, of_accuracy(result, task.thresholds[kind][part], got)))
            else:
                parts.append(_part(part, points, result))
        return parts

    def size_parts(self, task: Task) -> list[PartGrade]:
        """The budgets; they count only with a network that works, that is, earns the first accuracy points."""
        weights, missing = self.submission.weights, None
        if weights is None:
            missing = Outcome(Verdict.MISSING, "There is no weights.safetensors in the submission.")
        sizes = {"weights": len(weights or b""), "source": self.source_bytes}
        accuracy = self.rubric.of_check("accuracy")
        works = accuracy is not None and any(part.points > 0 for part in self.accuracy_parts(accuracy))
        return [_part(part, points, of_size(part, sizes[part], missing, works)) for part, points in task.points.items()]

    # ---- adding up -----------------------------------------------------------------------------------------

    def grade(self, task: Task) -> TaskGrade:
        if self.submission.problem:
            outcome = Outcome(Verdict.MISSING, "Nothing could be graded; the reason stands above.")
            parts = [_part(part, points, outcome) for part, points in task.points.items()]
        elif task.check == "accuracy":
            parts = self.accuracy_parts(task)
        elif task.check == "size":
            parts = self.size_parts(task)
        else:
            parts = [self.case_part(task, part, points) for part, points in task.points.items()]
        return TaskGrade(task.id, task.title, tuple(parts), round(self.seconds.get(task.id, 0.0), 3))

    def case_part(self, task: Task, part: str, points: float) -> PartGrade:
        cases, outcomes = self.cases(task), self.named(task)
        name, outcome = of_cases(part, cases, outcomes, partial(self.mistakes_before, task))
        return _part(part, points, outcome, name)

    def cases(self, task: Task) -> list[Case]:
        return [case for question in hidden_questions(self.rubric, self.hidden)[task.id] for case in question.cases]

    def named(self, task: Task) -> dict[str, Outcome]:
        """What became of each case in the end, with the mistakes named."""
        return with_mistakes(self.cases(task), self.outcomes[task.id])

    def mistakes_before(self, task: Task) -> set[str]:
        """Those that the earlier tasks of the chapter show."""
        chapter = [each for each in self.rubric.tasks if each.id.partition(".")[0] == task.id.partition(".")[0]]
        earlier = [each for each in chapter[: chapter.index(task)] if each.id in self.outcomes]
        return {outcome.mistake for each in earlier for outcome in self.named(each).values()} - {""}


def _part(part: str, points: float, outcome: Outcome, case: str = "") -> PartGrade:
    return PartGrade(
        part=part,
        points=points if outcome.verdict is Verdict.RIGHT else 0.0,
        out_of=points,
        verdict=outcome.verdict,
        case=case,
        message=outcome.message,
        expected=outcome.expected,
        got=outcome.got,
        mistake=outcome.mistake,
        note=outcome.note,
    )


def written_answers(notebook: bytes | None) -> tuple[str, ...]:
    """The cells of the report notebook that a human grades: "question-1 (2 points)"; empty ones are named as such."""
    if notebook is None:
        return ("no hw7.ipynb: there are no written answers to grade",)
    found = []
    try:
        for cell in json.loads(notebook)["cells"]:
            mark = cell.get("metadata", {}).get("nbgrader", {})
            if mark.get("grade") and mark.get("solution"):
                text = cell.get("source", "")
                text = "".join(text) if isinstance(text, list) else text
                state = "" if text.strip() else ", left empty"
                found.append(f"{str(mark.get('grade_id'))[:60]} ({float(mark.get('points', 0)):g} points{state})")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ("hw7.ipynb cannot be read as a notebook: look at it by hand",)
    return tuple(found[:100])
