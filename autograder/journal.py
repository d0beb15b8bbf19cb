"""The journal: append-only JSON lines, one fsync for each grade. All else in OUT is made from it and can be made again.

A line is an entry's JSON with the moment it was written, `at`, in front: a grade; what a run was asked; a decision of a
person. Nothing is ever changed in place: what counts is what the last entries say (`current_marks`). A run writes to
its journal while it holds that journal's lock; a cluster's shards write one each (`journal-3-of-16.jsonl`); decisions,
which may be made meanwhile, stand in `journal-decisions.jsonl`. What is read is always all of them together. A line
that a crash tore off is cut away when the journal is opened again: nobody was told that it is there.
"""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Self, TypeAlias, TypeVar

import filelock

from autograder.grades import Grade, rescored
from autograder.marks import ABSENT, DECISIONS, Decision, Mark, Standing, mark
from autograder.rubric import Rubric, asked_of, parse_rubric
from hw7 import HW7Error
from hw7.support.words import counted, joined, reason

if TYPE_CHECKING:
    from autograder.jail import Tier


P = ParamSpec("P")
T = TypeVar("T")


class Key(NamedTuple):
    """What a grade depends on. Where none of it has changed, the grade stands."""

    student: str
    submission: str
    rubric: str
    grader: str

    @classmethod
    def of(cls, grade: Grade) -> Self:
        return cls(grade.student, grade.submission, grade.rubric, grade.grader)


DECISIONS_NAME = "journal-decisions.jsonl"


def journal_name(shard: tuple[int, int] | None = None) -> str:
    """The file of a whole run, or of shard (index, count)."""
    return "journal.jsonl" if shard is None else f"journal-{shard[0]}-of-{shard[1]}.jsonl"


@dataclass(frozen=True)
class Run:
    """What a run was asked: with it, and the grades and decisions before the next one, all marks can be made again."""

    rubric: str  # digest of rubric and hidden set: the grades of this run name it
    text: str  # the rubric itself
    timeout: float | None
    asked: str
    hidden: str  # digest of data source and hidden seed
    grader: str
    source: str
    tier: Tier
    students: tuple[str, ...]  # who handed in
    roster: Mapping[str, str] = field(default_factory=dict)  # ids and names of all students, where there is one
    addresses: Mapping[str, str] = field(default_factory=dict)  # of mail, by the roster
    submissions: Mapping[str, str | None] = field(default_factory=dict)  # where they were, and how they were read

    def load_rubric(self) -> Rubric:
        rubric = parse_rubric(self.text, Path("rubric.toml"))
        return rubric if self.timeout is None else rubric.with_timeout(self.timeout)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "run"} | asdict(self)


Entry: TypeAlias = "Grade | Decision | Run"


def uncollected(function: Callable[P, T]) -> Callable[P, T]:
    """The function without Python's collector of cycles: it makes a million small things and no cycle, and looking at
    all of them again and again would take more than half of the time."""

    @wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> T:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return function(*arguments, **options)
        finally:
            if was_enabled:
                gc.enable()

    return called


@dataclass(frozen=True)
class Line:
    """A line of a journal, as JSON; an entry is made of it where one is needed, for most grades are not current."""

    at: str
    raw: Mapping[str, Any]
    where: str

    @property
    def kind(self) -> str:
        return str(self.raw.get("kind", "grade"))

    def entry(self) -> Entry | None:
        """None, with a warning, for a line that is no entry."""
        fields = {name: value for name, value in self.raw.items() if name not in ("at", "kind")}
        try:
            if self.kind == "grade":
                return Grade.from_dict(fields)
            if self.kind == "run":
                return Run(**fields | {"students": tuple(fields["students"])})
            return DECISIONS[self.kind](**fields, at=self.raw["at"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _pass_over(self.where, error)
            return None


def _pass_over(where: str, error: Exception) -> None:
    warnings.warn(f"{where} cannot be read and is passed over ({error!r:.80})", stacklevel=3)


def read_lines(out: Path) -> list[Line]:
    """Every line of every journal in this folder, oldest first. Changes nothing, so a run may be writing meanwhile.

    A line that cannot be read is passed over with a warning; the unfinished last one without: it may still be written.
    """
    found: list[Line] = []
    for path in sorted(out.glob("journal*.jsonl")):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise HW7Error(f"the journal {path} cannot be read: {error.strerror}") from error
        *lines, _unfinished = data.split(b"\n")
        latest = ""
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            try:
                raw = json.loads(line)
                latest = max(latest, str(raw["at"]))  # within one file its order counts, even if the clock was set back
            except (ValueError, KeyError, TypeError) as error:
                _pass_over(where, error)
            else:
                found.append(Line(latest, raw, where))
    return sorted(found, key=lambda line: line.at)


@uncollected
def read_entries(out: Path, kinds: Collection[str] = ()) -> list[Entry]:
    """Every entry of every journal in this folder, oldest first; or those of these kinds only."""
    lines = (line for line in read_lines(out) if not kinds or line.kind in kinds)
    return [entry for line in lines if (entry := line.entry()) is not None]


def read_journals(out: Path) -> list[Grade]:
    """Every grade of every journal in this folder, oldest first."""
    return [entry for entry in read_entries(out) if isinstance(entry, Grade)]


@dataclass(frozen=True)
class ClassMarks:
    """The current marks: of the last run's students in its order, then of those who handed in nothing."""

    marks: tuple[Mark, ...]
    rubric: Rubric
    missing: tuple[str, ...]  # who has no grade under this rubric and grader yet
    run: Run
    decisions: Mapping[str, tuple[Decision, ...]]  # of every student, oldest first

    @property
    def graded(self) -> list[Mark]:
        return [mark for mark in self.marks if not mark.absent]


@uncollected
def current_marks(out: Path, run: int | None = None, rubric: Rubric | None = None) -> ClassMarks:
    """The marks in OUT; run: as they stood before the next run began, counted from 1. rubric: the run's, where it is at
    hand; it is read from the journal otherwise.

    A grade under an older rubric or by an older grader is not current. Raises HW7Error where OUT holds no such run.
    """
    lines = read_lines(out)
    runs = [place for place, line in enumerate(lines) if line.kind == "run"]
    if runs and run is not None and not 0 < run <= len(runs):
        many = counted(len(runs), "run")
        raise HW7Error(f"{out} has {many}, and no run {run}; `hw7-grade log --out {out}` lists them")
    if runs and run is not None:
        lines = lines[: [*runs, len(lines)][run]]
    others = [entry for line in lines if line.kind != "grade" and (entry := line.entry()) is not None]
    last = last_run(out, others)
    current: dict[str, Grade] = {}
    for line in reversed(lines):
        asked = line.kind == "grade" and (line.raw.get("rubric"), line.raw.get("grader")) == (last.rubric, last.grader)
        if asked and line.raw.get("student") not in current and isinstance(grade := line.entry(), Grade):
            current[grade.student] = grade
    decided: dict[str, list[Decision]] = {}
    for entry in others:
        if isinstance(entry, Decision):
            decided.setdefault(entry.student, []).append(entry)
    rubric = rubric or last.load_rubric()
    standing = {student: Standing.of(decisions) for student, decisions in decided.items()}

    def mark_of(student: str) -> Mark:
        grade = current.get(student) or Grade(student, "", "", "", "", (), problem=ABSENT)
        known = {"name": last.roster.get(student, ""), "address": last.addresses.get(student, "")}
        return mark(grade, rubric, standing.get(student), absent=student not in current, **known)

    present = set(last.students)
    marks = [mark_of(student) for student in last.students if student in current]
    marks += [mark_of(student) for student in last.roster if student not in present]
    missing = tuple(student for student in last.students if student not in current)
    return ClassMarks(tuple(marks), rubric, missing, last, {who: tuple(each) for who, each in decided.items()})


def rescored_grades(
    grades: Sequence[Grade], asked: Run, rubric: Rubric, students: Collection[str] | None = None
) -> list[Grade]:
    """What is to be added to these grades, oldest first, for this run: the last of each student (of these, or of all)
    that was asked the same by the same grader, under its rubric. None of those that are there already."""
    known = {Key.of(grade) for grade in grades}
    last = {grade.student: grade for grade in grades if (grade.asked, grade.grader) == (asked.asked, asked.grader)}
    others = (grade for grade in last.values() if grade.tasks and grade.rubric != asked.rubric)
    others = (grade for grade in others if students is None or grade.student in students)
    new = (rescored(grade, rubric, asked.rubric) for grade in others)
    return [grade for grade in new if Key.of(grade) not in known]


def other_questions(last: Run, asked: Run, rubric: Rubric) -> Iterator[str]:
    """Why not all verdicts of the last run hold now."""
    if last.grader != asked.grader:
        yield "the grader is another than the last run's"
    before = {task.id: asked_of(task) for task in last.load_rubric().tasks}
    after = {task.id: asked_of(task) for task in rubric.tasks}
    for task in dict.fromkeys((*before, *after)):
        if task not in after or task not in before:
            yield f"task {task} is {'gone' if task in before else 'new'}"
        elif changed := [name for name in before[task] if before[task][name] != after[task][name]]:
            yield f"{joined(changed)} of task {task} changed"
    if list(before) != list(after) and before.keys() == after.keys():
        yield "its tasks stand in another order"


def last_run(out: Path, entries: Sequence[Entry]) -> Run:
    """The last of these entries of OUT that is a run. Raises HW7Error where there is none."""
    for entry in reversed(entries):
        if isinstance(entry, Run):
            return entry
    raise HW7Error(f"{out} holds no grades; make some with `hw7-grade run SUBMISSIONS --out {out}`")


class Journal:
    """One journal, open for writing and locked; a context manager.

    Raises HW7Error where another run holds it, or where OUT cannot be written to.
    """

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        """patience: seconds to wait for another that holds it."""
        self.path, self.patience = path, patience
        self._lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        self._file = -1

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=self.patience)
        except filelock.Timeout as error:
            raise HW7Error(
                f"another run is writing to {self.path}: wait for its end, or name another folder with --out"
            ) from error
        except (OSError, NotImplementedError) as error:  # the latter where a file system knows no locks
            raise HW7Error(
                f"cannot write to {self.path.parent}: {reason(error)}. Name another folder with --out."
            ) from error
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            self._cut_torn_line()
            _sync_folder(self.path.parent)
        except OSError as error:
            self.close()
            raise HW7Error(f"cannot write {self.path}: {error.strerror}") from error
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._lock.release()

    def append(self, *entries: Entry) -> None:
        """Writes these entries; when this returns, they are on the disk. Raises HW7Error where there is no room, and
        then nothing of them is left."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        lines = [entry.to_json() if isinstance(entry, Grade) else json.dumps(entry.to_dict()) for entry in entries]
        end = os.fstat(self._file).st_size
        try:
            rest = memoryview("".join(f'{{"at": "{at}", {line[1:]}\n' for line in lines).encode())
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except BaseException as error:  # Ctrl-C as well: the next line must not be written behind half a line
            with suppress(OSError):
                os.ftruncate(self._file, end)
            if not isinstance(error, OSError):
                raise
            raise HW7Error(
                f"cannot write {self.path}: {error.strerror}. What was written before is safe: "
                "make room, then run the same again."
            ) from error

    def _cut_torn_line(self) -> None:
        """Cuts off what a crash left of a last line."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
            warnings.warn(
                f"{self.path}: the last line was torn off by a crash and is cut away; run the same again",
                stacklevel=3,
            )


def _sync_folder(folder: Path) -> None:
    """Makes the journal's own name durable; not every system can do that for a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
