"""The data of a check: what is asked of a submission, what came back, what was made of it, and what it earns.

Shared by both sides of a jail, and free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:  # grades are counted and shown without torch
    from torch import Tensor

Value: TypeAlias = "Tensor | int | float | str | bool | tuple[int, ...] | None"
"""What an input may be: it has to survive a pipe."""


class Status(IntEnum):
    """How one call ended. The side that runs the submission writes the first six; the rest is seen from outside."""

    RETURNED = 0
    VALUE_ERROR = 1  # it raised ValueError (not a subclass that Python itself raises, such as UnicodeError)
    NOT_IMPLEMENTED = 2  # NotImplementedError: a stub
    RAISED = 3  # any other exception
    ABSENT = 4  # there is no such file or function
    NO_MEMORY = 5  # MemoryError, or torch could not allocate
    TIME = 6  # stopped at the deadline
    DIED = 7  # the process ended before it answered
    FLOOD = 8  # more, larger or other records than may come back (`Call.most`)
    UNANSWERED = 9  # the process had been stopped by an earlier call


class Bound(NamedTuple):
    """How much may come back of one call: tensors, and bytes of all that is sent."""

    tensors: int
    size: int


@dataclass(frozen=True)
class Call:
    """One run of a program of `hw7.checks.calls` with these inputs. most: how much a jail takes as its answer; None
    where nobody has said so, as at home.

    Several cases may hold the very same Call: it is enough to ask it once, and each judge looks at its own share.
    """

    program: str
    inputs: Mapping[str, Value]
    most: Bound | None = None


@dataclass(frozen=True)
class Answer:
    """What came back of one call: tensors, in the order the program gives them, and nothing that can be believed.

    Where the submission raised in the middle, these are the tensors that were there before.
    """

    status: Status
    tensors: tuple[Tensor, ...] = ()
    note: str = ""  # exception and place, cut to 2,000 characters: for the teacher's eyes, never the student's
    most: Bound | None = None  # the bound that it passed, where it is a FLOOD


class Verdict(StrEnum):
    """What is made of an answer."""

    RIGHT = "RIGHT"
    WRONG = "WRONG"
    TIME = "TIME"
    MEMORY = "MEMORY"
    OUTPUT = "OUTPUT"
    CRASH = "CRASH"
    MISSING = "MISSING"


@dataclass(frozen=True)
class Outcome:
    """A judge's word on one case. `message` is for the student: expected, got, and what to do."""

    verdict: Verdict
    message: str = ""
    expected: str = ""
    got: str = ""
    fits: tuple[str, ...] = ()  # the keys of the case's mistakes that would give this answer: one of them is named
    equals: tuple[str, ...] = ()  # those whose values the answer has in every entry: it follows from them
    mistake: str = ""  # an id of checks/mistakes: the one that all answers agree with (`AnswerSheet.named`)
    clear: bool = False  # whether the message, expected and got alone say what is wrong: another dtype, no tensor, …
    note: str = ""  # for the teacher only
    exact: str = ""  # for the teacher only: the figure that `got` has rounded


@dataclass(frozen=True)
class Case:
    """One question: a call, and all that is needed to judge its answer. Flat enough to be saved as safetensors + JSON.

    part: the line of the rubric it belongs to (a key of the task's `points`); all cases of a part must be right.
    judge: a function of `hw7.checks.judges`. expected: what it compares with, by name.
    mistakes: for known mistakes, what replaces entries of `expected` if the mistake were none; None stands for any
    value, False for any but the right one, an entry `not_finite` for infinities or NaN anywhere, an entry `free` says
    that an answer may be right all the same. What follows a # in their names tells forms of one mistake apart.
    evidence: what `hw7.checks.diagnosis` compares a wrong answer with, by names of its own: terms of a loss, rankings.
    then: a second call whose inputs are completed with the first answer's tensors (`judges.second_call`), run in a NEW
    process that got nothing else; the judge then sees both answers.
    needs: "CHECK: NAME; …", cases of earlier tasks, or of another part; where an answer to one is wrong, and paid for
    there, this one is not judged. For special input that a function must hand on to another one.
    """

    task: str
    part: str
    name: str  # unique in the task; says what is special: "confident logits, T = 1"
    call: Call
    judge: str
    expected: Mapping[str, Value]
    mistakes: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    then: Call | None = None
    needs: str = ""
    evidence: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)


ONCE = 0.2  # of a task's `seconds`: for all its questions, asked once


@dataclass(frozen=True)
class Task:
    """One task of the rubric, and a row of the public tests' tasks.json. points: by part. seconds: all the time that a
    submission's code has for it, however often it is asked. thresholds: of task 5.2, the share of right answers by kind
    of data and part."""

    id: str
    title: str
    check: str
    seconds: float
    points: Mapping[str, float]
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def out_of(self) -> float:
        return sum(self.points.values())

    @property
    def chapter(self) -> str:
        return self.id.partition(".")[0]

    @property
    def seconds_once(self) -> float:
        """How long all of its questions and ways back may take, asked once.

        What is right is asked twice more. So whoever is in time once has time for that even where the machine is half
        as fast by then: 1/5 + 2 * 2/5 = 1.
        """
        return ONCE * self.seconds

    @property
    def has_cases(self) -> bool:
        """The network that is handed in is judged as it is."""
        return self.check not in ("size", "accuracy")

    @property
    def mark(self) -> str:
        """What `pytest -m` calls it."""
        return f"task_{self.id.replace('.', '_')}"


@dataclass(frozen=True)
class PartScore:
    """One part of a task, all or nothing, and what was made of it.

    excuses: for each wrong case, the parts of earlier tasks ("3.1 values") from whose loss it follows. Where each case
    has one that lost points, the part is right, and `otherwise` is the (case, outcome) that it had without.
    """

    part: str
    out_of: float
    outcome: Outcome
    case: str = ""  # the first case that was not right
    excuses: tuple[tuple[str, ...], ...] = ()
    otherwise: tuple[str, Outcome] | None = None

    @property
    def right(self) -> bool:
        return self.outcome.verdict is Verdict.RIGHT

    @property
    def points(self) -> float:
        return self.out_of if self.right else 0.0
