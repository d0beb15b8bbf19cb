"""Batch grading: hundreds of submissions to grades, on any executor, losing nothing.

The coordinator reads submissions, hands them out, and is the only one who writes: each grade goes to the journal the
moment it is there. It never loads torch. A worker keeps one jail and its hidden questions, and knows no other
submission; one that dies (kill -9, no memory) costs only time: its submission goes to a new one. Where the coordinator
has workers of its own, they are forked from one process that has all this ready.

OUT holds the journal (what each run was asked, its grades, what people decided), `hidden-seed`, and `grades.csv`.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import filelock
from tqdm import tqdm

from autograder.exports.csv_table import export_csv
from autograder.grades import Grade
from autograder.intake.layouts import FoundSubmissions, find_submissions
from autograder.intake.roster import the_one
from autograder.intake.submission import Location, Submission, take_in
from autograder.journal import (
    ClassMarks,
    Journal,
    Key,
    Run,
    current_marks,
    journal_name,
    last_run,
    other_questions,
    read_entries,
    read_journals,
    rescored_grades,
    uncollected,
)
from autograder.marks import Mark
from autograder.rubric import Rubric, asked_digest, rubric_digest
from autograder.worker import GradeOne, Settings, check_and_grade, grade_one, grader_digest, prepare
from hw7 import HW7Error
from hw7.support.system import expanded
from hw7.support.words import joined
from hw7.support.workers import Workers

PATIENCE = 60.0  # seconds to wait for whoever holds a journal
ATTEMPTS = 3  # a submission whose worker died is graded again twice


# ---- the run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunReport:
    """How a run ended: the current marks, and who has none yet. submissions: what was found, and what not taken."""

    marks: ClassMarks
    submissions: FoundSubmissions
    graded: int  # in this run
    rescored: int  # whose verdicts were scored again, under other points
    failures: tuple[str, ...]  # students on whom the grader itself failed; graded again by the next run
    interrupted: bool = False

    @property
    def grades(self) -> list[Mark]:
        """Of those who handed in."""
        return self.marks.graded

    @property
    def missing(self) -> tuple[str, ...]:
        return self.marks.missing


def run(
    submissions: Path,
    out: Path,
    settings: Settings,
    *,
    assignment: str = "hw7",
    layout: str | None = None,
    roster: Path | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    in_flight: int | None = None,
    shard: tuple[int, int] | None = None,
    timeout: float | None = None,
    students: Sequence[str] = (),
    again: bool = False,
    opened: Journal | None = None,
    grade: GradeOne = grade_one,
) -> RunReport:
    """Grades what is not graded yet, and writes grades.csv, also when interrupted by Ctrl-C.

    assignment, layout, roster: as in `find_submissions`. students: only these, by name or a part that no other's has.
    again: also what is graded. What was asked under a rubric of other points or thresholds only is not asked again.
    executor: any of concurrent.futures; without one, `jobs` local processes. in_flight: how many submissions may be
    out at once (a bound on memory); 2 for each job if not given. shard: (index, count), every count-th student only.
    timeout: what --timeout was, for the record; `settings.rubric` has it already. opened: this run's journal, where it
    is open already. grade: a function that can be sent to the executor's workers. Raises HW7Error where the teacher
    must fix something; what was graded before is kept.
    """
    submitted = find_submissions(submissions, assignment, layout, roster, without=[out])
    mine = _mine(submitted.found, shard, students)
    most = in_flight or 2 * jobs
    graded: list[Grade] = []
    interrupted = False
    with ExitStack() as stack:
        journal = opened or stack.enter_context(Journal(out / journal_name(shard)))
        asked = _asked(settings, timeout, submitted, submissions, assignment, roster)
        earlier = read_journals(out)
        shared = {each.student for each in mine} if shard else None  # the others are another shard's
        again_scored = rescored_grades(earlier, asked, settings.rubric, shared)
        journal.append(*again_scored, asked)  # last: what was before counts until all of it is there
        earlier += again_scored
        known = {Key.of(old): old for old in earlier}
        last = {old.student: Key.of(old) for old in earlier}
        progress = Progress(len(mine))
        stack.enter_context(progress.bar)
        ready = partial(prepare, settings) if grade is grade_one else None
        sent = _InFlight(executor or stack.enter_context(Workers(jobs, ready)), settings, grade)

        def keep(grades: Iterable[Grade]) -> None:
            for each in grades:
                journal.append(each)
                progress.add(each)
                graded.append(each)

        try:
            for each in mine:
                submission = take_in(each)
                key = settings.key(submission)
                old = known.get(key)
                # A grade whose problem is not the submission's own tells that the grader failed: that is not for ever.
                if old is not None and old.problem == submission.problem and not again:
                    if last[key.student] != key:  # it changed and changed back: the last line is the current one
                        journal.append(old)
                    progress.add(old, new=False)
                    continue
                while len(sent.futures) >= most:
                    keep(sent.wait())
                sent.send(submission)
            while sent.futures:
                keep(sent.wait())
        except KeyboardInterrupt:
            interrupted = True
        finally:
            keep(sent.cancel())
            with suppress(HW7Error) if sys.exc_info()[0] else nullcontext():  # the first error is the one to fix
                marks = write_table(out, settings.rubric)
    failures = tuple(each.student for each in graded if not each.tasks)
    return RunReport(marks, submitted, len(graded), len(again_scored), failures, interrupted)


def _mine(found: Sequence[Location], shard: tuple[int, int] | None, students: Sequence[str]) -> Sequence[Location]:
    """What this run is to grade."""
    names = [each.student for each in found]
    only = {the_one(student, names) for student in students} or set(names)
    mine = found if shard is None else found[shard[0] :: shard[1]]
    return [each for each in mine if each.student in only]


def _asked(
    settings: Settings, timeout: float | None, found: FoundSubmissions, place: Path, assignment: str,
    roster: Path | None,
) -> Run:  # fmt: skip
    """What this run is asked, as the journal keeps it."""
    return Run(
        rubric=settings.rubric_digest,
        text=settings.rubric.text,
        timeout=timeout,
        asked=settings.asked_digest,
        hidden=settings.hidden.digest(),
        grader=settings.grader_digest,
        source=settings.source,
        tier=settings.tier,
        students=tuple(each.student for each in found.found),
        roster=found.roster,
        addresses=found.addresses,
        submissions={
            "root": str(expanded(place).resolve()),
            "layout": found.layout,
            "assignment": assignment,
            "roster": None if roster is None else str(expanded(roster).resolve()),
        },
    )


# ---- the same verdicts under another rubric ---------------------------------------------------------------------


@uncollected
def rescore(out: Path, rubric: Rubric) -> tuple[ClassMarks, int]:
    """Puts the class in OUT under this rubric from the verdicts in the journal, without anybody's code, and writes
    grades.csv; the marks, and how many grades are new.

    Raises HW7Error where the rubric asks something else than the last run, which must be asked of submissions.
    """
    with Journal(out / journal_name(), patience=PATIENCE) as journal:
        entries = read_entries(out)
        last = last_run(out, entries)
        if last.timeout is not None:
            rubric = rubric.with_timeout(last.timeout)
        asked = replace(
            last, rubric=rubric_digest(rubric, last.hidden), text=rubric.text, asked=asked_digest(rubric, last.hidden),
            grader=grader_digest(last.tier),
        )  # fmt: skip
        rubric.check_thresholds(last.source)
        if differences := list(other_questions(last, asked, rubric)):
            more = [f"{len(differences) - 3} more"] if len(differences) > 3 else []
            raise HW7Error(
                f"{rubric.path} cannot be scored from the journal alone, because {joined([*differences[:3], *more])}: "
                f"run `hw7-grade run SUBMISSIONS --out {out}` with it"
            )
        new = rescored_grades([entry for entry in entries if isinstance(entry, Grade)], asked, rubric)
        if asked != last:
            journal.append(*new, asked)  # last: what was before counts until all of it is there
    return write_table(out), len(new)


def write_table(out: Path, rubric: Rubric | None = None) -> ClassMarks:
    """Writes OUT/grades.csv; the marks in it. rubric: the last run's, where it is at hand. One writer at a time, so
    that the last one has read the latest."""
    with filelock.FileLock(out / ".grades.csv.lock"):
        marks = current_marks(out, rubric=rubric)
        export_csv(marks.marks, marks.rubric, out / "grades.csv")
    return marks


class _InFlight:
    """The submissions that are with the executor."""

    def __init__(self, executor: Executor, settings: Settings, grade: GradeOne) -> None:
        self.executor, self.settings, self.grade = executor, settings, grade
        self.futures: dict[Future[Grade], Submission] = {}
        self.attempts: Counter[str] = Counter()

    def send(self, submission: Submission) -> None:
        self.attempts[submission.student] += 1
        arguments = (self.grade, submission, self.settings, self.settings.grader_digest)
        try:
            future = self.executor.submit(check_and_grade, *arguments)
        except BrokenExecutor as error:  # not one of ours, which replace a dead worker
            raise HW7Error(f"the executor is broken ({error}); what is graded is kept: run the same again") from error
        self.futures[future] = submission

    def wait(self) -> Iterator[Grade]:
        """Waits for some, and gives the grades that are there. What failed is sent again, or is a grade in the end."""
        done, _ = wait(self.futures, return_when=FIRST_COMPLETED)
        for future in done:
            submission = self.futures.pop(future)
            if future.cancelled():  # not by us: its scheduler is gone
                raise HW7Error("the executor gave up; what is graded is kept: run the same again")
            error = future.exception()
            if error is None:
                yield future.result()
            elif isinstance(error, HW7Error):
                raise error
            elif self.attempts[submission.student] < ATTEMPTS:
                self.send(submission)
            else:
                yield self.failure(submission, error)

    def cancel(self) -> Iterator[Grade]:
        """Gives what has come back meanwhile, and cancels the rest."""
        for future in list(self.futures):
            if not future.cancel() and future.done() and future.exception() is None:
                yield future.result()
            del self.futures[future]

    def failure(self, submission: Submission, error: BaseException) -> Grade:
        """The grade of a submission on which the grader failed each time."""
        died = isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"  # the latter is Dask's
        return Grade(
            *self.settings.key(submission),
            tier=self.settings.tier,
            tasks=(),
            remarks=submission.remarks,
            problem="the grader's worker died" if died else "the grader failed",
            output=f"{ATTEMPTS} times: {error}"[-4000:],
        )


class Progress:
    """Counts and the time left, on stderr: a bar on a terminal, elsewhere a line every so many seconds."""

    def __init__(self, total: int, every: float = 10.0) -> None:
        self.total, self.every, self.counts, self.new = total, every, Counter[str](), 0
        self.start = self.told = time.monotonic()
        silent = not sys.stderr.isatty()
        self.bar = tqdm(total=total, unit="", smoothing=0, miniters=1, desc="grading", disable=silent)

    def add(self, grade: Grade, new: bool = True) -> None:
        self.counts[standing(grade)] += 1
        self.new += new
        now = time.monotonic()
        if self.new <= 1:
            self.start = now  # how long it took to get to work says nothing about the rest
        text = how_many(self.counts)
        if not self.bar.disable:
            self.bar.initial += not new  # takes no time, so says nothing about the time left
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif now - self.told >= self.every:
            self.told, done = now, self.counts.total()
            each = (now - self.start) / (self.new - 1) if self.new > 1 else 0.0
            left = f"{each * (self.total - done):.0f} s left" if self.new > 1 else "at work"
            print(f"graded {done} of {self.total}: {text}; {left}", file=sys.stderr, flush=True)


STANDINGS = ("with full marks", "with some", "not gradable")


def standing(grade: Grade) -> str:
    """In one word of STANDINGS how a submission stands with the grader."""
    if grade.problem:
        return STANDINGS[2]
    return STANDINGS[0] if grade.total >= grade.out_of - 1e-9 else STANDINGS[1]


def how_many(standings: Mapping[str, int]) -> str:
    """ "2 with full marks, 4 with some, 3 not gradable"."""
    return ", ".join(f"{standings.get(word, 0)} {word}" for word in STANDINGS)
