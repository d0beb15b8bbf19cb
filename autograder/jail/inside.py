"""The jailed process: closes the jail behind itself, then answers calls until its input ends.

The fork server has imported this file, torch and the programs of `hw7.checks.calls` before it forks.
"""

import contextlib
import fcntl
import gc
import os
import random
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy

from hw7.checks.calls.contract import LazySolution
from hw7.checks.calls.run import run_call
from hw7.checks.cases import Answer, Call, Status

from . import confine, protocol, seccomp
from .library import use_library

INPUT, ANSWERS = 3, 4  # its descriptors, beside 0 to 2
# Limits of one process; memory and scratch are the job's own.
CPU_SECONDS = 900  # whatever its deadlines are
MAX_THREADS = 64
MANY_THREADS = 512  # where threads are counted by uid and the uid is shared
MAX_OPEN_FILES = 128
STACK_BYTES = 8 * 2**20
NO_CORE = 1  # bytes: as 0, and where dumps are piped to a program none is started for it
MEMORY_RESERVE = 8 * 2**20  # set free to say that there was no more


@dataclass
class JailedProcess:
    """One piece of work. folder: of its own on a disk, "" in tier A. server: the pid of its parent."""

    config: Mapping[str, Any]
    job: Mapping[str, Any]
    folder: str
    uid: int | None
    server: int

    def run(self, descriptors: list[int]) -> NoReturn:
        """From the fork to its end. descriptors: of its input, its answers and its output."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        descriptors = [*descriptors, os.open("/dev/null", os.O_RDONLY)]
        calls, answers, output, null = (fcntl.fcntl(each, fcntl.F_DUPFD, 20) for each in descriptors)  # out of the way
        for source, target in ((null, 0), (output, 1), (output, 2), (calls, INPUT), (answers, ANSWERS)):
            os.dup2(source, target)
        confine.close_descriptors(range(5))
        records = _records()
        try:
            files = next(records).values
            respond = self._answering(files)
            self._close_jail({} if "notebook" in self.job else files)
        except BaseException:
            _write(protocol.encode(0, Status.RAISED, traceback.format_exc(limit=-3), {}))
            os._exit(1)
        _write(protocol.encode(0, Status.RETURNED, "", {}))
        try:
            _answer(records, respond)
        except MemoryError:  # outside of any call: earlier ones have kept it
            os._exit(protocol.EXIT_WITHOUT_MEMORY)
        os._exit(0)

    def _answering(self, files: Mapping[str, bytes]) -> Callable[[Call], Answer]:
        """What answers calls: on the submission that can be imported, or as the cells of a notebook in its folder."""
        if "notebook" not in self.job:
            return partial(run_call, LazySolution())
        from .cells import Cells  # and IPython with it: out of reach once the jail is closed

        return Cells(self.job["notebook"], files).respond

    def _view(self) -> str:
        return f"{self.config['stage']}/{self.job['library']}"

    def _close_jail(self, files: Mapping[str, bytes]) -> None:
        scratch, submission = (self._private_mounts if self.config["tier"] == "A" else self._folders)(files)
        use_library(self._view(), self.config["paths"], self.config["packages"], submission)
        os.umask(0o077)
        os.chdir(scratch)
        for name in ("HOME", "TMPDIR", "PWD"):  # `update` would touch hundreds of pages: it looks for kinds of mappings
            os.environ[name] = scratch
        random.seed(0)
        tempfile.tempdir = scratch  # what was imported may have asked for it already
        confine.set_limits(
            {
                "AS": self.config["address_space"] + self.job["memory_mb"] * 2**20, "CPU": CPU_SECONDS,
                "FSIZE": self.job["scratch_mb"] * 2**20, "NOFILE": MAX_OPEN_FILES, "CORE": NO_CORE,
                "NPROC": MAX_THREADS if self.config["threads_are_counted"] else _tasks_of_this_user() + MANY_THREADS,
                "STACK": STACK_BYTES, "MEMLOCK": 0, "MSGQUEUE": 0, "SIGPENDING": 128, "NICE": 0, "RTPRIO": 0,
            }
            | self.job.get("limits", {})
        )  # fmt: skip
        if confine.LINUX:
            self._give_up_powers(submission, scratch)
        for name, data in files.items():  # or the submission would be told that it has no such file
            with open(f"{submission}/{name}", "rb", buffering=0) as file:
                whole = file.read() == data
            if not whole:
                raise OSError(f"{name} is not in the jail as it was handed over")

    def _give_up_powers(self, submission: str, scratch: str) -> None:
        tier = self.config["tier"]
        if tier != "D":
            confine.fresh_keyring()
            keep = "CAP_DAC_READ_SEARCH" if self.config["keep_reading"] else None
            # In tier C the fork server counts what it holds; a plain user may not look into one that is not dumpable.
            confine.become(self.uid, keep, dumpable=tier == "C" and self.uid is None)
        confine.die_with_parent()
        if tier != "A" and os.getppid() != self.server:  # in A it is the first process of its namespace
            os._exit(1)
        if tier != "D":
            readable = [*self.config["visible"], self._view(), submission, "/dev/urandom", "/dev/zero"]
            confine.landlock(readable, [scratch], ["/dev/null"], self.config["listed"])
            seccomp.close_system_calls()

    def _private_mounts(self, files: Mapping[str, bytes]) -> tuple[str, str]:
        """Tier A: scratch and submission on file systems of its own; the full library is gone where it has no part."""
        confine.unshare(confine.CLONE_NEWNS)
        owner = f"uid={os.getuid()},gid={os.getgid()}" if self.uid is None else f"uid={self.uid},gid={self.uid}"
        size = f"size={self.job['scratch_mb']}m,nr_inodes={self.job['scratch_files']}"
        confine.tmpfs("/scratch", f"{size},mode=700,{owner}")
        confine.tmpfs("/submission", f"size={2 * sum(map(len, files.values())) // 2**20 + 8}m,mode=755")
        _write_files("/submission", files)
        confine.read_only("/submission")
        if self.job["library"] != "full":
            confine.empty(f"{self.config['stage']}/full")
        return "/scratch", "/submission"

    def _folders(self, files: Mapping[str, bytes]) -> tuple[str, str]:
        """Other tiers: both are folders of its own, which the fork server removes after it."""
        os.umask(0o022)
        scratch, submission = f"{self.folder}/scratch", f"{self.folder}/submission"
        os.makedirs(submission)
        os.mkdir(scratch, 0o700)
        _write_files(submission, files)
        if self.uid is not None:
            os.chown(scratch, self.uid, self.uid)
        return scratch, submission


def _write_files(folder: str, files: Mapping[str, bytes]) -> None:
    made = {""}
    for name, data in files.items():
        if (parent := os.path.dirname(name)) not in made:
            os.makedirs(f"{folder}/{parent}", exist_ok=True)
            made.add(parent)
        with open(f"{folder}/{name}", "wb", buffering=0) as file:
            file.write(data)


def _tasks_of_this_user() -> int:
    """Threads of this uid: the limit counts all of them, not only the child's."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/task"):
        with contextlib.suppress(OSError):  # it has ended
            status = path.stat()
            count += status.st_nlink - 2 if status.st_uid == os.getuid() else 0
    return count


# ---- calls and answers -----------------------------------------------------------------------------------------


def _records() -> Iterator[protocol.Record]:
    """What the grader sends: the files, then calls."""
    reader = protocol.Reader(protocol.TRUSTED)
    while data := os.read(INPUT, 2**20):
        yield from reader.feed(data)


def _answer(records: Iterator[protocol.Record], respond: Callable[[Call], Answer]) -> None:
    for record in records:
        reserve = numpy.empty(MEMORY_RESERVE, numpy.uint8)  # of its address space: no page is touched
        answer = None
        try:
            answer = respond(Call(record.note, record.values))
            frame = _frame(record.index, answer)
        except MemoryError:
            frame = b""
        except BaseException as error:  # the submission's own kind
            answer = Answer(Status.RAISED, note=type(error).__name__[:200])
            frame = _frame(record.index, answer)
        if not frame:  # here, so that what the exception held is free
            del reserve, answer
            gc.collect()
            frame = _frame(record.index, Answer(Status.NO_MEMORY))
        _write(frame)


def _frame(index: int, answer: Answer) -> bytes:
    """An answer as a frame. Tensors from the first on that has no place in one are left out, and the note says why."""
    values = {str(number): tensor for number, tensor in enumerate(answer.tensors)}
    try:
        return protocol.encode(index, answer.status, answer.note, values)
    except protocol.Unsendable as error:
        note = f"{answer.note} [tensor {error.name}: {error}]"
        return protocol.encode(index, answer.status, note, dict(list(values.items())[: int(error.name)]))


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(ANSWERS, view) :]
