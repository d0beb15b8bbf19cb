"""A worker: all that a grade depends on besides the submission, and the grading of one submission in a jail of its own.

The settings come from the coordinator (`batch`), who never loads torch; a worker does, and makes sure that it is the
same grader.
"""

from __future__ import annotations

import atexit
import importlib.metadata
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from autograder.grades import Grade
from autograder.intake.submission import Submission
from autograder.journal import Key
from autograder.rubric import DEFAULT_RUBRIC, Rubric, asked_digest, rubric_digest
from autograder.tasks.hidden import Hidden, new_seed, read_seed, stretched, write_seed
from hw7 import HW7Error
from hw7.solution import PROJECT
from hw7.support.digests import digest_files
from hw7.support.words import reason

if TYPE_CHECKING:
    from autograder.jail import Jail, Loader, Tier

GradeOne: TypeAlias = "Callable[[Submission, Settings], Grade]"
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
        return rubric_digest(self.rubric, self.hidden.digest())

    @property
    def asked_digest(self) -> str:
        return asked_digest(self.rubric, self.hidden.digest())

    @property
    def grader_digest(self) -> str:
        return grader_digest(self.tier)

    def key(self, submission: Submission) -> Key:
        return Key(submission.student, submission.digest, self.rubric_digest, self.grader_digest)


@cache
def grader_digest(tier: str) -> str:
    """sha256 of the grader's and the library's own files, of torch's version and of the tier.

    Of their bytes, comments too: a grade names the very grader that gave it, as it names the very bytes graded. The
    rubric has a digest of its own.
    """
    paths = chain.from_iterable((PROJECT / package).rglob("*") for package in PACKAGES)
    files = (path for path in paths if path.is_file() and "__pycache__" not in path.parts and path != DEFAULT_RUBRIC)
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
