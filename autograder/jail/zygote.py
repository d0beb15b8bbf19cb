"""The fork server: loads torch once, then forks a jailed process for each piece of work. It holds nothing secret.

It runs from a staged copy of this package and of `hw7`, in an environment of its own, and takes orders in lines of JSON
over a Unix socket; the three pipes of a job come along as descriptors. It never reads them: the forked child does, once
it is a process of its own, so that no byte of a submission and no hidden input is ever in here for the next child to
find. When the other end of the socket is gone, so are all children, the staged files and this process.

    grader -> zygote    {"spawn": job} + descriptors (input, answers, output)     {"kill": true}
    zygote -> grader    {"ready": true}    {"started": folder}    {"exit": wait status}    {"map": pid}
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from . import confine

CPU_SECONDS = 900  # of one process, whatever its deadlines are
MAX_THREADS = 64
MAX_OPEN_FILES = 128
MAX_FILES = 4096  # in the scratch folder
STACK = 8 * 2**20
MEMORY_RESERVE = 8 * 2**20  # set free to say that there was no more
MANY_THREADS = 512  # where threads are counted by uid and the uid is shared
ONE_ID = 60000  # the uid inside a user namespace that knows only one
INPUT, ANSWERS = 3, 4  # a child's descriptors, beside 0 to 2
MESSAGE = 2**16
STANDARD_PATHS = sys.path[1:]  # the standard library's: started without `site`, python knows no other


def main() -> None:
    """`python -c "…; main()" CONFIGURATION`: see `tiers._Zygote` for what is in it."""
    config = json.loads(sys.argv[1])
    control = socket.socket(fileno=config["control"])
    if config["tier"] == "A":
        _become_init(config, control)
    serve(config, control)


def _become_init(config: Mapping[str, Any], control: socket.socket) -> None:
    """Makes namespaces and goes on as the first process in them: when it ends, the kernel ends all others."""
    uid, gid = os.getuid(), os.getgid()
    if confine.has_capability(confine.CAP_SYS_ADMIN):
        confine.unshare(confine.EVERY_NAMESPACE)
    else:
        confine.unshare(confine.CLONE_NEWUSER | confine.EVERY_NAMESPACE)
        if config["uids"]:
            _send(control, {"map": os.getpid()})
            if not json.loads(control.recv(MESSAGE))["mapped"]:
                raise OSError("newuidmap failed")
        else:
            confine.map_one_id(ONE_ID, uid, gid)
    pid = os.fork()
    if pid:  # waits, and has nothing in its hands
        confine.close_descriptors([2])
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    confine.die_with_parent()


def preload(config: Mapping[str, Any]) -> Any:
    """Imports and warms up whatever a submission may need, so that a child starts with it. Gives the programs."""
    use_library(config["libraries"]["full"], config["paths"])
    importlib.import_module(f"{__package__}.protocol")
    programs = importlib.import_module("hw7.checks.programs")
    _warm_up()
    _seed()
    sys.path_importer_cache.clear()  # names of thousands of files: a child that dropped them would copy their pages
    gc.collect()
    gc.freeze()  # children would copy every page whose counters a collection touches
    if confine.LINUX:
        confine.use_huge_pages()
    return programs


def _warm_up() -> None:
    import numpy
    import safetensors.torch
    import torch

    from hw7.models import StudentNet

    for name in ("hw7.vision", "torchvision.transforms.v2.functional"):  # in this order: the first opens the door
        importlib.import_module(name)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    safetensors.torch.save({"": torch.zeros(1)})
    numpy.random.default_rng(0)
    network = StudentNet((2,) * 8, 2)
    for kind in (torch.optim.SGD, torch.optim.AdamW):
        optimizer = kind(network.parameters(), lr=0.1)
        torch.nn.functional.cross_entropy(network(torch.rand(2, 3, 32, 32)), torch.tensor([0, 1])).backward()
        optimizer.step()
    with torch.no_grad():  # two libraries below torch read /proc when they are first used
        torch.nn.Conv2d(16, 16, 3, padding=1)(torch.rand(16, 16, 32, 32))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        torch.rand(64).to(dtype).float()


def _seed() -> None:
    """The same random numbers in every child: the same submission gets the same grade.

    `random` seeds itself anew after a fork, so its turn comes in the child.
    """
    import numpy
    import torch

    numpy.random.seed(0)  # noqa: NPY002  (the one that a submission uses without asking)
    torch.manual_seed(0)


def use_library(folder: str, paths: list[str], submission: str | None = None) -> None:
    """From now on the submission and `hw7` are imported from here. The submission's folder comes first, so that no
    installed package can answer for it."""
    sys.path[:] = [*([submission] if submission else []), folder, *STANDARD_PATHS, *paths]
    for name, path in (("hw7", "hw7"), ("hw7.checks", "hw7/checks")):
        if name in sys.modules:
            sys.modules[name].__path__ = [f"{folder}/{path}"]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


# ---- the server -----------------------------------------------------------------------------------------------


def serve(config: Mapping[str, Any], control: socket.socket) -> None:
    """Forks children until the other end hangs up."""
    programs = preload(config)
    if confine.LINUX:
        if len(os.listdir("/proc/self/task")) > 1:
            raise RuntimeError("something that was imported started threads: a fork would lose them")
        size = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    else:
        size = 0
    own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY) if config["tier"] == "A" else None
    if config["tier"] == "A":
        confine.enter_new_root(config["root"], config["readable"], config["hidden"], ["/scratch", "/submission"])
        confine.filter_bytes(1)  # every child's pid, in a namespace of its own: one filter for all
    server = _Server(config, control, programs, size, own_pids)
    _send(control, {"ready": True})
    server.run()


class _Server:
    """One child at a time."""

    def __init__(
        self, config: Mapping[str, Any], control: socket.socket, programs: Any, size: int, own_pids: int | None
    ) -> None:
        self.config, self.control, self.programs, self.size, self.own_pids = config, control, programs, size, own_pids
        self.pid: int | None = None
        self.folder = ""  # of the running job, where it has one on a disk
        self.started = 0
        self.first_uid = config["uids"][0] + random.SystemRandom().randrange(config["uids"][1]) if config["uids"] else 0
        self.woken, self._wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(self._wake, False)

    def run(self) -> None:
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, _nothing)
        try:
            while True:
                ready, _, _ = select.select([self.control.fileno(), self.woken], [], [])
                if self.woken in ready:
                    os.read(self.woken, 4096)
                    self.reap()
                if self.control.fileno() in ready and not self.obey():
                    return
        finally:
            self.kill()
            if self.pid:
                os.waitpid(self.pid, 0)
            with contextlib.suppress(OSError):
                remove_tree(self.config["parent"], self.config["name"])

    def obey(self) -> bool:
        """Does what one message says; whether there was one."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, MESSAGE, 3)
        except ConnectionError:
            return False
        if not data:
            return False
        message = json.loads(data)
        if "kill" in message:
            self.kill()
        else:
            self.spawn(message["spawn"], descriptors)
        return True

    def kill(self) -> None:
        """The pid is ours until it is waited for, so nobody else is hit."""
        if self.pid:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)
            self.kill_group(self.pid)

    def kill_group(self, pid: int) -> None:
        """Where children may fork, their group goes with them."""
        if self.config["tier"] == "D":
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def reap(self) -> None:
        if self.pid is None:
            return
        pid, status, _ = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self.kill_group(pid)
            self.pid = None
            if self.folder:
                with contextlib.suppress(OSError):
                    remove_tree(None, self.folder)
            _send(self.control, {"exit": status})

    def spawn(self, job: Mapping[str, Any], descriptors: list[int]) -> None:
        uid = None
        if self.config["uids"]:
            first, count = self.config["uids"]
            uid = first + (self.first_uid - first + self.started) % count
        self.started += 1
        self.folder = f"{self.config['jobs']}/{self.started}" if self.config["jobs"] else ""
        parent = os.getpid()
        if self.own_pids is not None:
            confine.unshare(confine.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            try:
                _Child(self, job, uid, parent).run(descriptors)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        self.pid = pid
        if self.own_pids is not None:
            confine.setns(self.own_pids, confine.CLONE_NEWPID)
        for descriptor in descriptors:
            os.close(descriptor)
        _send(self.control, {"started": self.folder})


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler that only wakes `select`."""


def _send(control: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):
        control.sendall(json.dumps(message).encode() + b"\n")


def remove_tree(parent: int | None, name: str) -> None:
    """Removes a folder whoever filled it, however deep it is. Follows no link, and never opens what is no folder."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(name, flags, dir_fd=parent)
    try:
        os.fchmod(top, 0o700)
        fresh = 0
        while entries := list(os.scandir(top)):
            for entry in entries:
                if not _is_folder(entry):
                    os.unlink(entry.name, dir_fd=top)
            for folder in [entry.name for entry in entries if _is_folder(entry)]:
                os.chmod(folder, 0o700, dir_fd=top)
                inner = os.open(folder, flags, dir_fd=top)
                try:
                    for entry in list(os.scandir(inner)):
                        if _is_folder(entry):  # up beside its parent: no recursion, however deep they are
                            fresh += 1
                            os.chmod(entry.name, 0o700, dir_fd=inner)
                            os.rename(entry.name, f"{os.getpid()}.moved.{fresh}", src_dir_fd=inner, dst_dir_fd=top)
                        else:
                            os.unlink(entry.name, dir_fd=inner)
                finally:
                    os.close(inner)
                os.rmdir(folder, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


# ---- the child ------------------------------------------------------------------------------------------------


class _Child:
    """The forked process: closes the jail behind itself, then answers calls until its input ends."""

    def __init__(self, server: _Server, job: Mapping[str, Any], uid: int | None, parent: int) -> None:
        self.config, self.programs, self.size, self.folder = server.config, server.programs, server.size, server.folder
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
        confine.seccomp()

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
        from hw7.checks.cases import Answer, Call, Status

        solution = self.programs.LazySolution()
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
