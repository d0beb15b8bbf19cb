"""Batch grading: hundreds of submissions to grades, on any executor, losing nothing.

The coordinator reads submissions, hands them out, and is the only one who writes: each grade goes to the journal the
moment it is there. It never loads torch. A worker keeps one jail and its hidden questions, and knows no other
submission; one that dies (kill -9, no memory) costs only time: its submission goes to a new one. Where the coordinator
has workers of its own, they are forked from one process that has all this ready.

OUT holds `journal.jsonl`, `hidden-seed`, `run.json` and `rubric.toml` (what the last run was asked), and `grades.csv`.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tqdm import tqdm

from autograder.exports.csv_table import export_csv
from autograder.grades import Grade
from autograder.intake.layouts import FoundSubmissions, find_submissions
from autograder.intake.submission import Submission, take_in
from autograder.journal import Journal, Key, journal_name, last_of_each, read_journals
from autograder.rubric import Rubric, load_rubric, rubric_digest
from autograder.tasks.hidden import Hidden, new_seed, read_seed, stretched, write_seed
from hw7 import HW7Error
from hw7.solution import PROJECT
from hw7.support.digests import digest_files
from hw7.support.files import read_json, write_file
from hw7.support.words import reason
from hw7.support.workers import Workers

if TYPE_CHECKING:
    from autograder.jail import Jail, Loader, Tier

GradeOne: TypeAlias = "Callable[[Submission, Settings], Grade]"
ATTEMPTS = 3  # a submission whose worker died is graded again twice
PACKAGES = ("autograder", "hw7")


# ---- what a grade depends on ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """All that a grade depends on besides the submission. Goes to every worker."""

    rubric: Rubric
    seed: bytes = field(repr=False)  # the key that `hidden_seed` gives; no log shows it
    source: str = "plates"
    tier: Tier = "A"

    @property
    def hidden(self) -> Hidden:
        return Hidden(self.seed, self.source)

    @property
    def rubric_digest(self) -> str:
        return rubric_digest(self.rubric, self.hidden)

    @property
    def grader_digest(self) -> str:
        return grader_digest(self.tier)

    def key(self, submission: Submission) -> Key:
        return Key(submission.student, submission.digest, self.rubric_digest, self.grader_digest)


@cache
def grader_digest(tier: str) -> str:
    """sha256 of the grader's and the library's own files, of torch's version and of the tier.

    Of their bytes, comments too: a grade names the very grader that gave it, as it names the very bytes graded.
    """
    paths = chain.from_iterable((PROJECT / package).rglob("*") for package in PACKAGES)
    files = (path for path in paths if path.is_file() and "__pycache__" not in path.parts)
    return digest_files(PROJECT, files, f"torch {importlib.metadata.version('torch')}\0tier {tier}\0")


def hidden_seed(out: Path, given: Path | None = None) -> bytes:
    """The key for `Settings`, from the seed of this OUT: what `hidden-seed` there holds, else the one in the file
    `given`, else a new one; kept there from now on.

    Raises HW7Error where a seed cannot be read or could be guessed, and where another one is given than OUT has: its
    grades could never be found out again.
    """
    path = out / "hidden-seed"
    seed = None if given is None else read_seed(given)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_seed(path, seed or new_seed())
    except OSError as error:
        raise HW7Error(f"the hidden seed {path} cannot be written: {reason(error)}") from error
    kept = read_seed(path)
    if seed not in (None, kept):
        raise HW7Error(
            f"{path} holds another seed than {given}: leave --hidden-seed-file out, name another --out, or delete "
            f"{path} to have everything graded again"
        )
    return stretched(kept)


# ---- in the worker ----------------------------------------------------------------------------------------------


_this_thread = threading.local()
_loader: Loader | None = None  # of this machine's workers, where they are forked from one process


def prepare(settings: Settings) -> None:
    """Has loaded and made what every worker needs, before they are forked: torch, the jail's own copy of it, the hidden
    questions and images. Without it each worker does so itself."""
    os.environ |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}  # a fork would lose threads
    from autograder.jail import Loader

    global _loader
    if settings.tier != "B":  # where every submission has a cold start
        _loader = Loader(settings.tier)  # loads beside this process
        atexit.register(_loader.close)
    from autograder.grading import get_ready

    get_ready(settings.rubric, settings.hidden, images=True)


def grade_one(submission: Submission, settings: Settings) -> Grade:
    """Grades one submission here, in the jail that this thread keeps.

    Raises HW7Error for what the teacher must fix, such as another version of the grader on this machine.
    """
    jail = _jail(settings)  # first: it starts what takes longest
    from autograder.grading import grade_submission

    grade = grade_submission(submission, settings.rubric, settings.hidden, jail)
    return replace(grade, rubric=settings.rubric_digest, grader=settings.grader_digest)


def _jail(settings: Settings) -> Jail:
    """One thread, one jail: a jail serves one child at a time. It is tested before anything is graded in it."""
    from autograder.jail import Jail

    kept: Jail | None = getattr(_this_thread, "jail", None)
    if kept is None or kept.tier != settings.tier:
        if kept is not None:
            kept.close()
        kept = Jail(settings.tier, loader=_loader if _loader and _loader.tier == settings.tier else None)
        kept.start()  # it loads torch while this process does, and makes its questions
        from autograder.grading import get_ready

        get_ready(settings.rubric, settings.hidden)
        if settings.tier != "D":
            try:
                kept.self_test()
            except HW7Error as error:
                raise HW7Error(f"{error}. See `hw7-grade doctor`.") from error
        _this_thread.jail = kept
    return kept


def check_and_grade(grade: GradeOne, submission: Submission, settings: Settings, grader: str) -> Grade:
    """What a worker runs: first of all it makes sure that it is the same grader as the coordinator's."""
    if settings.grader_digest != grader:
        raise HW7Error("a worker has another version of the grader, of hw7 or of torch: install the same everywhere")
    return grade(submission, settings)


# ---- the run ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunReport:
    """How a run ended: the current grades, and who has none yet. submissions: what was found, and what not taken."""

    grades: tuple[Grade, ...]
    missing: tuple[str, ...]
    submissions: FoundSubmissions
    graded: int  # in this run
    failures: tuple[str, ...]  # students on whom the grader itself failed; graded again by the next run
    interrupted: bool = False


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
    opened: Journal | None = None,
    grade: GradeOne = grade_one,
) -> RunReport:
    """Grades what is not graded yet, and writes grades.csv, also when interrupted by Ctrl-C.

    assignment, layout, roster: as in `find_submissions`.
    executor: any of concurrent.futures; without one, `jobs` local processes. in_flight: how many submissions may be
    out at once (a bound on memory); 2 for each job if not given. shard: (index, count), every count-th student only.
    timeout: what --timeout was, for the record; `settings.rubric` has it already. opened: this run's journal, where it
    is open already. grade: a function that can be sent to the executor's workers. Raises HW7Error where the teacher
    must fix something; what was graded before is kept.
    """
    submitted = find_submissions(submissions, assignment, layout, roster, without=[out])
    found = submitted.found
    mine = found if shard is None else found[shard[0] :: shard[1]]
    most = in_flight or 2 * jobs
    graded: list[Grade] = []
    interrupted = False
    with ExitStack() as stack:
        journal = opened or stack.enter_context(Journal(out / journal_name(shard)))
        _record(out, settings, timeout, [each.student for each in found])
        earlier = read_journals(out)
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
                if old is not None and old.problem == submission.problem:
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
                grades, rubric, missing = current_grades(out)
                export_csv(grades, rubric, out / "grades.csv")
    failures = tuple(each.student for each in graded if not each.tasks)
    return RunReport(tuple(grades), tuple(missing), submitted, len(graded), failures, interrupted)


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
        text = ", ".join(f"{self.counts[word]} {word}" for word in ("right", "wrong", "failed"))
        if not self.bar.disable:
            self.bar.initial += not new  # takes no time, so says nothing about the time left
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update()
        elif now - self.told >= self.every:
            self.told, done = now, self.counts.total()
            each = (now - self.start) / (self.new - 1) if self.new > 1 else 0.0
            left = f"{each * (self.total - done):.0f} s left" if self.new > 1 else "at work"
            print(f"graded {done} of {self.total}: {text}; {left}", file=sys.stderr, flush=True)


def standing(grade: Grade) -> str:
    """right: every point; failed: could not be graded; wrong: all others."""
    if grade.problem:
        return "failed"
    return "right" if grade.total >= grade.out_of - 1e-9 else "wrong"


# ---- OUT --------------------------------------------------------------------------------------------------------


def _record(out: Path, settings: Settings, timeout: float | None, students: Sequence[str]) -> None:
    """Writes down what this run was asked, so that journals can be read by it later."""
    write_file(out / "rubric.toml", settings.rubric.path.read_bytes())
    asked = {
        "rubric": settings.rubric_digest,
        "grader": settings.grader_digest,
        "source": settings.source,
        "tier": settings.tier,
        "timeout": timeout,
        "students": list(students),
    }
    write_file(out / "run.json", (json.dumps(asked, indent=1) + "\n").encode())


def current_grades(out: Path) -> tuple[list[Grade], Rubric, list[str]]:
    """The current grades of the last run's students, its rubric, and the students that have none yet.

    A grade under an older rubric or by an older grader is not current. Raises HW7Error where OUT holds no run.
    """
    if not (out / "run.json").exists():
        raise HW7Error(f"{out} holds no grades; make some with `hw7-grade run SUBMISSIONS --out {out}`")
    asked = read_json(out / "run.json")
    rubric = load_rubric(out / "rubric.toml")
    if asked["timeout"] is not None:
        rubric = rubric.with_timeout(asked["timeout"])
    current = last_of_each(read_journals(out), asked["rubric"], asked["grader"])
    grades = [current[student] for student in asked["students"] if student in current]
    return grades, rubric, [student for student in asked["students"] if student not in current]
