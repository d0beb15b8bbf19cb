"""The forked process: it closes the jail behind itself, then answers calls until its input ends."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import confine, seccomp

CPU_SECONDS = 900  # of one process, whatever its deadlines are
MAX_THREADS = 64
MAX_OPEN_FILES = 128
MAX_FILES = 4096  # in the scratch folder
STACK = 8 * 2**20
MEMORY_RESERVE = 8 * 2**20  # set free to say that there was no more
MANY_THREADS = 512  # where threads are counted by uid and the uid is shared
INPUT, ANSWERS = 3, 4  # a child's descriptors, beside 0 to 2
STANDARD_PATHS = sys.path[1:]  # the standard library's: started without `site`, python knows no other


def use_library(folder: str, paths: list[str], submission: str | None = None) -> None:
    """From now on the submission and `hw7` are imported from here. The submission's folder comes first, so that no
    installed package can answer for it."""
    sys.path[:] = [*([submission] if submission else []), folder, *STANDARD_PATHS, *paths]
    for name, module in sys.modules.items():
        if name.partition(".")[0] == "hw7" and hasattr(
            module, "__path__"
        ):  # every package: what is loaded later is below
            module.__path__ = [f"{folder}/{name.replace('.', '/')}"]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


# ---- the child ------------------------------------------------------------------------------------------------


class Inside:
    """The forked process: closes the jail behind itself, then answers calls until its input ends."""

    def __init__(
        self, config: Mapping[str, Any], programs: Any, size: int, folder: str, job: Mapping[str, Any], uid: int | None,
        parent: int,
    ) -> None:  # fmt: skip
        self.config, self.programs, self.size, self.folder = config, programs, size, folder
        self.job, self.uid, self.parent = job, uid, parent
        self.tier: str = self.config["tier"]
        self.library: str = self.config["libraries"][job["library"]]

    def run(self, descriptors: list[int]) -> None:
        from . import protocol

        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        self._arrange(descriptors)
        records = self._records()
        try:
            self._close_jail(next(records).values)
        except BaseException:
            _write(protocol.encode(0, 3, traceback.format_exc(limit=-3), {}))
            os._exit(1)
        _write(protocol.encode(0, 0, "", {}))
        self._answer(records)

    def _arrange(self, descriptors: list[int]) -> None:
        """Nothing is open but nothing (0), the output (1 and 2), the input and the answers."""
        moved = [_high_copy(descriptor) for descriptor in descriptors]
        null = os.open("/dev/null", os.O_RDONLY)
        for source, target in ((null, 0), (moved[2], 1), (moved[2], 2), (moved[0], INPUT), (moved[1], ANSWERS)):
            os.dup2(source, target)
        confine.close_descriptors(range(5))

    def _records(self) -> Iterator[Any]:
        from . import protocol

        reader = protocol.Reader(protocol.TRUSTED)
        while data := os.read(INPUT, 2**20):
            yield from reader.feed(data)

    def _close_jail(self, files: Mapping[str, bytes]) -> None:
        memory, disk = self.job["memory_mb"] * 2**20, self.job["scratch_mb"] * 2**20
        if self.tier == "A":
            scratch, submission = self._private_mounts(files)
        else:
            scratch, submission = self._folders(files)
        use_library(self.library, self.config["paths"], submission)
        os.umask(0o077)
        os.chdir(scratch)
        os.environ.update(HOME=scratch, TMPDIR=scratch, PWD=scratch)
        random.seed(0)
        tempfile.tempdir = scratch  # what was imported may have asked for it already
        confine.set_limits(
            {
                "AS": self.size + memory, "CPU": CPU_SECONDS, "FSIZE": disk, "NOFILE": MAX_OPEN_FILES, "CORE": 0,
                "NPROC": MAX_THREADS if self.config["threads_are_counted"] else _tasks_of_this_user() + MANY_THREADS,
                "STACK": STACK, "MEMLOCK": 0, "MSGQUEUE": 0, "SIGPENDING": 128, "NICE": 0, "RTPRIO": 0,
            }
        )  # fmt: skip
        if confine.LINUX:
            self._give_up_powers(submission, scratch)
        _prove_readable(Path(submission), files)

    def _give_up_powers(self, submission: str, scratch: str) -> None:
        if self.tier == "D":
            confine.die_with_parent()
            return
        confine.fresh_keyring()
        confine.become(self.uid, confine.CAP_DAC_READ_SEARCH if self.config["keep_reading"] else None)
        confine.die_with_parent()
        if self.tier != "A" and os.getppid() != self.parent:
            os._exit(1)
        listed = self.config["listed"]
        confine.landlock(
            [*self.config["visible"], self.library, submission, "/dev/urandom", "/dev/zero"],
            [scratch], ["/dev/null"], listed,
        )  # fmt: skip
        seccomp.close_system_calls()

    def _private_mounts(self, files: Mapping[str, bytes]) -> tuple[str, str]:
        confine.unshare(confine.CLONE_NEWNS)
        owner = self.uid if self.uid is not None else os.getuid()
        group = self.uid if self.uid is not None else os.getgid()
        size = f"size={self.job['scratch_mb']}m,nr_inodes={MAX_FILES}"
        confine.tmpfs("/scratch", f"{size},mode=700,uid={owner},gid={group}")
        confine.tmpfs("/submission", f"size={2 * sum(map(len, files.values())) // 2**20 + 8}m,mode=755")
        _write_files(Path("/submission"), files)
        confine.read_only("/submission")
        if self.job["library"] != "full":
            confine.tmpfs(self.config["libraries"]["full"], "size=4k,nr_inodes=1,mode=755")
            confine.read_only(self.config["libraries"]["full"])
        return "/scratch", "/submission"

    def _folders(self, files: Mapping[str, bytes]) -> tuple[str, str]:
        folder = Path(self.folder)
        os.umask(0o022)
        folder.mkdir()
        scratch, submission = folder / "scratch", folder / "submission"
        scratch.mkdir(0o700)
        submission.mkdir()
        _write_files(submission, files)
        if self.uid is not None:
            os.chown(scratch, self.uid, self.uid)
        return str(scratch), str(submission)

    def _answer(self, records: Iterator[Any]) -> None:
        from hw7.checks.calls.contract import LazySolution
        from hw7.checks.cases import Answer, Call, Status

        solution = LazySolution()
        for record in records:
            reserve = bytearray(MEMORY_RESERVE)
            answer = None
            try:
                answer = self.programs.run_call(solution, Call(record.note, record.values))
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
        os._exit(0)


def _high_copy(descriptor: int) -> int:
    """A copy above all numbers that are given out here."""
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, 20)


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _prove_readable(folder: Path, files: Mapping[str, bytes]) -> None:
    """Raises OSError where a file is not there as it was handed over: the grader's fault, not the submission's, which
    would be told that it has no such file."""
    for name, data in files.items():
        if (folder / name).read_bytes() != data:
            raise OSError(f"{name} is not in the jail as it was handed over")


def _frame(index: int, answer: Any) -> bytes:
    """An answer as a frame. Tensors from the first on that has no place in one are left out, and the note says why."""
    from . import protocol

    tensors = list(answer.tensors)
    note = answer.note
    while True:
        try:
            return protocol.encode(index, int(answer.status), note, {str(i): t for i, t in enumerate(tensors)})
        except protocol.Unsendable as error:
            kept = next(i for i, tensor in enumerate(tensors) if not _sendable(tensor))
            tensors, note = tensors[:kept], f"{note} [tensor {kept}: {error}]"


def _sendable(tensor: Any) -> bool:
    from . import protocol

    try:
        protocol.encode(0, 0, "", {"": tensor})
    except protocol.Unsendable:
        return False
    return True


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(ANSWERS, view) :]


def _tasks_of_this_user() -> int:
    """Threads of this uid: the limit counts all of them, not only the child's."""
    uid, count = os.getuid(), 0
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if entry.stat().st_uid == uid:
                        count += os.stat(f"/proc/{entry.name}/task").st_nlink - 2
    return count
