"""The journal: append-only JSON lines, one fsync for each grade. All else in OUT is made from it and can be made again.

A line is a grade's JSON with the moment it was written, `at`, in front. Only the coordinator of a run writes, and only
while it holds the journal's lock. A cluster's shards write a journal each (`journal-3-of-16.jsonl`); what is read is
always all of them together. A line that a crash tore off is cut away when the journal is opened again, and its
submission is graded again.
"""

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

import filelock

from autograder.grades import Grade
from hw7 import HW7Error
from hw7.support.words import reason


class Key(NamedTuple):
    """What a grade depends on. Where none of it has changed, the grade stands."""

    student: str
    submission: str
    rubric: str
    grader: str

    @classmethod
    def of(cls, grade: Grade) -> Self:
        return cls(grade.student, grade.submission, grade.rubric, grade.grader)


def journal_name(shard: tuple[int, int] | None = None) -> str:
    """The file of a whole run, or of shard (index, count)."""
    return "journal.jsonl" if shard is None else f"journal-{shard[0]}-of-{shard[1]}.jsonl"


def read_journals(out: Path) -> list[Grade]:
    """Every grade of every journal in this folder, oldest first. Changes nothing, so a run may be writing meanwhile.

    A line that cannot be read is passed over with a warning; the unfinished last one without: it may still be written.
    """
    dated: list[tuple[str, Grade]] = []
    for path in sorted(out.glob("journal*.jsonl")):
        latest = ""
        for at, grade in _read(path):
            latest = max(latest, at)  # within one file its order counts, even where the clock was set back
            dated.append((latest, grade))
    return [grade for _, grade in sorted(dated, key=lambda pair: pair[0])]


def last_of_each(grades: Iterable[Grade], rubric: str, grader: str) -> dict[str, Grade]:
    """The current grades by student: the last that was given under this rubric and by this grader."""
    return {grade.student: grade for grade in grades if (grade.rubric, grade.grader) == (rubric, grader)}


def _read(path: Path) -> Iterator[tuple[str, Grade]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HW7Error(f"the journal {path} cannot be read: {error.strerror}") from error
    *lines, _unfinished = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            raw = json.loads(line)
            at = str(raw.pop("at"))
            grade = Grade.from_dict(raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            warnings.warn(f"{path}, line {number} is no grade and is passed over ({error!r:.80})", stacklevel=2)
        else:
            yield at, grade


class Journal:
    """One journal, open for writing and locked; a context manager.

    Raises HW7Error where another run holds it, or where OUT cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
        self._file = -1

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
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

    def append(self, grade: Grade) -> None:
        """Writes one grade; when this returns, it is on the disk. Raises HW7Error where there is no room, and then
        nothing of it is left."""
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        line = f'{{"at": "{at}", {grade.to_json()[1:]}\n'.encode()
        end = os.fstat(self._file).st_size
        try:
            rest = memoryview(line)
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
                f"{self.path}: the last line was torn off by a crash and is cut away; its submission is graded again",
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
