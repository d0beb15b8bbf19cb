"""A mark: what the grader gave, and what people decided about it. Nothing of either is ever changed in place.

A decision is an entry of its own in the journal, with who made it and when, and is undone by another one: the points of
a task set by hand (`Override`), a word to the student (`Comment`), days late (`Late`). A decision is about a student:
it stands when the student hands in again or the rubric changes. Where it was made about other files, or when the task
was worth something else, the mark says so, and a person should look again.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from autograder.grades import Grade, TaskGrade
from autograder.rubric import LatePolicy, Rubric
from hw7.checks.cases import Outcome, PartScore, Task, Verdict
from hw7.support.words import counted

ABSENT = "Handed in nothing."
LATE = "late"


def points(value: float) -> str:
    """Points as a teacher writes them: at most two decimals, and none for nothing."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


# ---- decisions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What somebody decided about a student. at: when, in UTC; the journal writes it."""

    kind: ClassVar[str]
    student: str
    by: str
    because: str = ""
    undo: bool = False  # takes back what was decided before
    at: str = ""

    @property
    def who(self) -> str:
        """ "ada, 2026-11-28"."""
        return f"{self.by}, {self.at[:10]}"

    @property
    def words(self) -> str:
        """What was decided, in a line."""
        return " ".join(filter(None, [self._what, sentence(self.because) if self.because else "", f"({self.by})"]))

    @property
    def _what(self) -> str:
        raise NotImplementedError

    def same(self, other: "Decision") -> bool:
        """Whether both decide the same, whenever that was."""
        return replace(self, at="") == replace(other, at="")

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind} | {each.name: getattr(self, each.name) for each in fields(self) if each.name != "at"}


@dataclass(frozen=True, kw_only=True)
class Override(Decision):
    """The points of a task, whatever the grader gave. submission, out_of: the files and the task's worth then."""

    kind: ClassVar[str] = "override"
    task: str
    points: float = 0.0
    submission: str = ""
    out_of: float = 0.0

    @property
    def _what(self) -> str:
        said = "the grader's points again" if self.undo else f"{points(self.points)} of {points(self.out_of)} points"
        return f"{self.task}: {said}."


@dataclass(frozen=True, kw_only=True)
class Comment(Decision):
    """A word to the student."""

    kind: ClassVar[str] = "comment"
    text: str = ""

    @property
    def _what(self) -> str:
        return "The last one is taken back." if self.undo else sentence(self.text)


@dataclass(frozen=True, kw_only=True)
class Late(Decision):
    """How many days late the submission was."""

    kind: ClassVar[str] = LATE
    days: float = 0.0

    @property
    def _what(self) -> str:
        return "In time." if self.undo or not self.days else f"{counted(self.days, 'day')}."


DECISIONS: dict[str, type[Decision]] = {each.kind: each for each in (Override, Comment, Late)}


@dataclass
class Standing:
    """What stands of all that was decided about one student. ever: the points that overrides ever gave, by task, undone
    ones too; and at LATE, how many days late it ever was."""

    overrides: dict[str, Override]
    comments: list[Comment]
    late: Late | None
    ever: defaultdict[str, set[float]]

    @classmethod
    def of(cls, decisions: Iterable[Decision]) -> Self:
        """From decisions about this student, oldest first."""
        standing = cls({}, [], None, defaultdict(set))
        for each in decisions:
            standing.add(each)
        return standing

    def add(self, decision: Decision) -> None:
        match decision:
            case Override(undo=True):
                self.overrides.pop(decision.task, None)
            case Override():
                self.overrides[decision.task] = decision
                self.ever[decision.task].add(decision.points)
            case Comment(undo=True):
                self.comments = self.comments[:-1]
            case Comment():
                self.comments.append(decision)
            case Late():
                self.late = None if decision.undo or not decision.days else decision
                self.ever[LATE].add(decision.days)

    def has(self, decision: Decision) -> bool:
        """Whether it would change nothing."""
        match decision:
            case Override(undo=True):
                return decision.task not in self.overrides
            case Override():
                return decision.task in self.overrides and decision.same(self.overrides[decision.task])
            case Comment(undo=True):
                return not self.comments
            case Comment():
                return any(decision.same(each) for each in self.comments)
            case Late(undo=True) | Late(days=0):
                return self.late is None
            case Late():
                return self.late is not None and decision.same(self.late)
        raise TypeError(f"no decision: {decision!r}")


# ---- marks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaskMark(TaskGrade):
    """A task with the points that count: a person's, where somebody set them, else the grader's."""

    override: Override | None = None
    stale: str = ""  # why a person should look at the override again

    @property
    def given(self) -> float:
        """The grader's points."""
        return super().points

    @property
    def points(self) -> float:
        return self.given if self.override is None else min(self.override.points, self.out_of)

    @property
    def changed(self) -> str:
        """What a person decided about it, in a line; "" for nothing."""
        if self.override is None:
            return ""
        because = f" {sentence(self.override.because)}" if self.override.because else ""
        of = f"{points(self.points)} instead of {points(self.given)} of {points(self.out_of)} points."
        return f"{of}{because} ({self.override.who})"


@dataclass(frozen=True)
class Mark(Grade):
    """A grade with all tasks of its rubric, in its order, and with what people decided about it.

    ever: as in `Standing`. absent: nothing was handed in. name: by the roster. address: of mail.
    """

    tasks: tuple[TaskMark, ...]
    comments: tuple[Comment, ...] = ()
    late: Late | None = None
    policy: LatePolicy | None = None
    ever: Mapping[str, set[float]] = field(default_factory=dict)
    absent: bool = False
    name: str = ""
    address: str = ""

    @property
    def given(self) -> float:
        """The grader's total."""
        return sum(task.given for task in self.tasks)

    @property
    def earned(self) -> float:
        """The total before days late."""
        return sum(task.points for task in self.tasks)

    @property
    def penalty(self) -> float:
        return self.policy.penalty(self.late.days, self.earned) if self.policy and self.late else 0.0

    @property
    def total(self) -> float:
        return self.earned - self.penalty

    @property
    def lateness(self) -> str:
        """What days late cost, in a line; "" for none."""
        if self.late is None:
            return ""
        cost = f"{points(self.penalty)} points taken off" if self.policy else "the rubric has no late policy"
        because = f" {sentence(self.late.because)}" if self.late.because else ""
        return f"{counted(self.late.days, 'day')} late: {cost}.{because} ({self.late.who})"

    @property
    def is_decided(self) -> bool:
        """Whether a person decided anything about it that still stands."""
        return bool(self.late or self.comments or any(task.override for task in self.tasks))

    @property
    def look_again(self) -> list[str]:
        """For teachers: what was decided about something else than there is now."""
        return [f"{task.task}: look again, for {task.stale}" for task in self.tasks if task.stale]

    @property
    def how(self) -> list[str]:
        """How the total comes about, where it is not simply the grader's: lines to be read under it."""
        changed = [f"{task.task} {task.title}: {task.changed}" for task in self.tasks if task.changed]
        if not changed and not self.late:
            return []
        return [f"{points(self.given)} points by the grader.", *changed, *filter(None, [self.lateness])]


def sentence(text: str) -> str:
    """The text with a full stop behind it, unless it ends in one."""
    return text if text.rstrip().endswith((".", "!", "?", "…")) else f"{text.rstrip()}."


def as_mark(grade: Grade) -> Mark:
    """The mark of a grade by itself, about which nobody has decided anything."""
    return grade if isinstance(grade, Mark) else Mark(**_shallow(grade) | {"tasks": tuple(map(_given, grade.tasks))})


def _given(task: TaskGrade) -> TaskMark:
    return TaskMark(**_shallow(task))


def mark(grade: Grade, rubric: Rubric, standing: Standing | None = None, **more: Any) -> Mark:
    """The mark of a grade; a task that the grade does not have has zeros. more: further fields of the mark."""
    standing = standing or Standing.of([])
    graded = {task.task: task for task in grade.tasks}
    tasks = []
    for task in rubric.tasks:
        given = graded.get(task.id) or _ungraded(task, grade.problem)
        override = standing.overrides.get(task.id)
        stale = _stale(override, grade, task) if override else ""
        tasks.append(TaskMark(**_shallow(given), override=override, stale=stale))
    return Mark(
        **_shallow(grade) | {"tasks": tuple(tasks)}, comments=tuple(standing.comments), late=standing.late,
        policy=rubric.late, ever=standing.ever, **more,
    )  # fmt: skip


def _shallow(record: Any) -> dict[str, Any]:
    return {each.name: getattr(record, each.name) for each in fields(record)}


def _ungraded(task: Task, why: str) -> TaskGrade:
    outcome = Outcome(Verdict.MISSING, why or "This task was not graded.")
    return TaskGrade(task.id, task.title, tuple(PartScore(*part, outcome) for part in task.points.items()))


def _stale(override: Override, grade: Grade, task: Task) -> str:
    """Why what was decided may no longer hold."""
    reasons = []
    if override.submission != grade.submission:
        reasons.append("it was decided about other files")
    if abs(override.out_of - task.out_of) > 1e-6:
        reasons.append(f"the task was worth {points(override.out_of)} then")
    return ", and ".join(reasons)


# ---- what has changed -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """Where the points of a student are others than before: in a task, or in the total for days late (task "")."""

    student: str
    task: str
    old: float
    new: float
    why: str


def changes(old: Sequence[Mark], new: Sequence[Mark]) -> Iterator[Change]:
    """Whose points are others in the new marks, where and why; by student, then task. Also who came and who left."""
    before, after = ({mark.student: mark for mark in marks} for marks in (old, new))
    for student in sorted(before.keys() | after.keys()):
        first, then = before.get(student), after.get(student)
        if first is None or then is None:
            here, why = (then, "not in the old one") if first is None else (first, "not in the new one")
            assert here is not None
            yield Change(student, "", first.total if first else 0.0, then.total if then else 0.0, why)
        else:
            yield from _of_student(first, then)


def _of_student(old: Mark, new: Mark) -> Iterator[Change]:
    before, after = ({task.task: task for task in mark.tasks} for mark in (old, new))
    for task in dict.fromkeys((*before, *after)):
        first, then = before.get(task), after.get(task)
        points_before, points_after = (each.points if each else 0.0 for each in (first, then))
        if abs(points_before - points_after) > 1e-9:
            yield Change(old.student, task, points_before, points_after, "; ".join(_reasons(old, new, first, then)))
    if abs(old.penalty - new.penalty) > 1e-9:
        why = new.lateness or (f"no longer: {old.lateness}" if old.late else "")
        if old.late and new.late and old.late.same(new.late):
            why = f"{new.late.days:g} days late, of other points earned"
            why = why if old.policy == new.policy else "the rubric's late policy is another"
        yield Change(old.student, "", -old.penalty, -new.penalty, why)


def _reasons(old: Mark, new: Mark, first: TaskMark | None, then: TaskMark | None) -> Iterator[str]:
    if first is None or then is None:
        yield "the rubric has this task no longer" if then is None else "the rubric has this task now"
        return
    if then.override != first.override:
        yield f"by hand: {then.changed}" if then.override else f"no longer by hand: {points(then.given)} by the grader"
        if then.override:
            return
    elif then.override:
        yield f"by hand, and the task is worth {points(then.out_of)} now"
        return
    if old.submission != new.submission:
        yield "other files were handed in" if new.submission else "nothing was handed in"
    before = {part.part: part for part in first.parts}
    for part in then.parts:
        if (was := before.get(part.part)) is None:
            continue
        if part.outcome.verdict is not was.outcome.verdict:
            yield f"{part.part}: {was.outcome.verdict.lower()}, now {part.outcome.verdict.lower()}"
        if abs(part.out_of - was.out_of) > 1e-9 and (part.right or was.right):
            yield f"{part.part}: worth {points(part.out_of)} instead of {points(was.out_of)}"
    if old.grader != new.grader and old.submission == new.submission:
        yield "another version of the grader"
