"""The loader, which loads torch once, and the fork servers (zygotes) that are forked from it, one for each jail.

All of them run from a staged copy of this package and of `hw7`, in an environment of their own, and hold nothing
secret. The loader gets a Unix socket for each zygote, and ends when nobody is left who could send one and its zygotes
have ended; the staged files go with it.

A zygote has namespaces of its own, and forks a jailed process for each piece of work. It takes orders in lines of JSON
over its socket; the three pipes of a job come along as descriptors. It never reads them: the forked process does,
so that no byte of a submission and no hidden input is ever in here for the next one to find. When the other end of the
socket is gone, so are all children and this process.

    grader -> loader    one byte + a descriptor (socket)
    grader -> zygote    {"spawn": job} + descriptors (input, answers, output)     {"kill": true}
    zygote -> grader    {"ready": pid}    {"started": true}    {"exit": wait status, "full": limit}    {"map": pid}

Nothing here imports torch or `hw7` at its top: where they are is known once the configuration has been read.
"""

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
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import confine, scratch, seccomp
from .library import loaded_packages, use_library
from .removal import remove_tree

ONE_ID = 60000  # the uid inside a user namespace that knows only one
MESSAGE = 2**16  # bytes, more than any order has
LOOK_SECONDS = 0.1  # how often what a child has written is counted, where its folder has no limit of its own
OWN_FILES = 1000  # of a submission itself, and the folders around it


def main() -> None:
    """`python -c "…; main()" CONFIGURATION`: see `launch.Loader` for what is in it. Ends when the graders hang up."""
    config = json.loads(sys.argv[1])
    use_library(f"{config['stage']}/full", config["paths"], [])
    _preload()
    config["packages"] = loaded_packages()
    config["address_space"] = 0
    if confine.LINUX:
        if len(os.listdir("/proc/self/task")) > 1:
            raise RuntimeError("something that was imported started threads: a fork would lose them")
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        config["address_space"] = pages * resource.getpagesize()
    if config["tier"] == "A":
        seccomp.filter_bytes(1)  # every child's pid, in a namespace of its own: one filter for all
    try:
        _fork_zygotes(config)
    finally:
        with contextlib.suppress(OSError):
            remove_tree(config["parent"], os.path.basename(config["stage"]))


def _fork_zygotes(config: Mapping[str, Any]) -> None:
    """One for each socket that comes. Returns when there can be no more and all have ended."""
    orders = socket.socket(fileno=config["orders"])
    signal.signal(signal.SIGCHLD, _reap)
    while True:
        data, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
        if not data:
            break
        for descriptor in descriptors:
            if os.fork() == 0:
                try:
                    orders.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _serve(config, socket.socket(fileno=descriptor))
                except BaseException:
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            os.close(descriptor)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue


def _serve(config: Mapping[str, Any], control: socket.socket) -> None:
    """A zygote: from its fork to its end."""
    tier, stage, jobs, own_pids = config["tier"], config["stage"], config["jobs"], None
    pid = 0 if tier == "B" else os.getpid()  # as the grader knows it
    os.close(config["parent"])
    if tier == "A":
        _become_init(config, control)
        own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY)
        readable = [*config["visible"], *(f"{stage}/{view}" for view in ("full", "minimal", "code"))]
        confine.enter_new_root(f"{stage}/root", readable, config["hidden"], ("/scratch", "/submission"))
    elif tier != "B":
        jobs = tempfile.mkdtemp(dir=jobs)  # whose name no child of another jail can guess
        os.chmod(jobs, 0o711)
    server = ForkServer({**config, "jobs": jobs}, control, own_pids)
    _send(control, {"ready": pid})
    server.run()


def _send(control: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):
        control.sendall(json.dumps(message).encode() + b"\n")


def _become_init(config: Mapping[str, Any], control: socket.socket) -> None:
    """Makes namespaces and goes on as the first process in them: when it ends, the kernel ends all others."""
    uid, gid = os.getuid(), os.getgid()
    if confine.has_capability("CAP_SYS_ADMIN"):
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
    if pid:  # waits, and has nothing else in its hands
        confine.close_descriptors([2, control.fileno()])  # whose end tells the grader that all of it has ended
        _, status = os.waitpid(pid, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    confine.die_with_parent()


def _preload() -> None:
    """Imports and warms up whatever a submission may need, so that a child starts with it."""
    gc.disable()  # until all is imported: next to nothing of it is garbage
    for name in ("hw7.support.torchvision_import", "torchvision.transforms.v2.functional", f"{__package__}.inside"):
        importlib.import_module(name)  # in this order: torchvision may need the first one
    _warm_up()
    sys.path_importer_cache.clear()  # names of thousands of files: a child that dropped them would copy their pages
    gc.collect()
    gc.freeze()  # children would copy every page whose counters a collection touches
    gc.enable()
    if confine.LINUX:
        confine.use_huge_pages()


def _warm_up() -> None:
    """Has done before the fork what torch does at the first use of many things, and seeds the random numbers.

    The same ones in every child: the same submission gets the same grade. `random` seeds itself anew after a fork, so
    its turn comes in the child.
    """
    import numpy
    import safetensors.torch
    import torch

    from hw7.models import StudentNet

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
    numpy.random.seed(0)  # noqa: NPY002  (the one that a submission uses without asking)
    torch.manual_seed(0)


class ForkServer:
    """Forks one child at a time, kills it when it is told to, and reports its end."""

    def __init__(self, config: Mapping[str, Any], control: socket.socket, own_pids: int | None) -> None:
        self.config, self.control, self.own_pids = config, control, own_pids
        self.pid: int | None = None  # of the running child
        self.ended: int | None = None  # the pid of the last one, until it is waited for
        self.folder = ""  # of its own on a disk, where it has one
        self.job: Mapping[str, Any] = {}  # of the running child
        self.full = ""  # the limit that it has broken
        self.next_look = 0.0  # at what it has written
        self.started = random.SystemRandom().randrange(2**30)  # jails side by side use other uids
        self.woken, self._wake = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(self._wake, False)

    def run(self) -> None:
        signal.set_wakeup_fd(self._wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # which only wakes `select`
        try:
            while True:
                waiting = LOOK_SECONDS if self.pid and self.folder else None
                ready, _, _ = select.select([self.control.fileno(), self.woken], [], [], waiting)
                if waiting and time.monotonic() >= self.next_look:
                    self.look()
                    self.next_look = time.monotonic() + LOOK_SECONDS
                if self.woken in ready:
                    os.read(self.woken, 4096)
                    self.notice()
                if self.control.fileno() in ready and not self.obey():
                    return
        finally:
            self.kill()
            if self.pid:
                os.waitpid(self.pid, 0)
            if self.config["tier"] in "CD":
                with contextlib.suppress(OSError):
                    remove_tree(None, self.config["jobs"])

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

    def look(self) -> None:
        """Ends the child where it has taken more than its share of the disk, or in tier B of files in a tmpfs."""
        assert self.pid
        most_mb, most = self.job["scratch_mb"], self.job["scratch_files"]
        if self.config["tier"] == "B":  # the size is the kernel's business
            held = os.statvfs(self.config["jobs"])
            size, files = 0, held.f_files - held.f_ffree - OWN_FILES
        else:
            size, files = scratch.taken(f"{self.folder}/scratch", self.pid, most)
        if size > most_mb * 2**20 or files > most:
            self.full = f"more than {most_mb} MiB or {most} files"
            self.kill()

    def kill_group(self, pid: int) -> None:
        """Where children may fork, their group goes with them."""
        if self.config["tier"] == "D":
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def notice(self) -> None:
        """Reports the end of the child. On Linux its entry in /proc stays until the next one starts: the grader reads
        there how long it has waited for a processor."""
        if self.pid is None:
            return
        if confine.LINUX:
            end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is None:
                return
            status, self.ended = end.si_status << 8 if end.si_code == os.CLD_EXITED else end.si_status, self.pid
        else:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return
        self.kill_group(self.pid)
        self.pid = None
        if self.folder:
            with contextlib.suppress(OSError):
                remove_tree(None, self.folder)
        _send(self.control, {"exit": status, "full": self.full})

    def spawn(self, job: Mapping[str, Any], descriptors: list[int]) -> None:
        from .inside import JailedProcess  # loaded by `_preload`

        if self.ended:
            os.waitpid(self.ended, 0)
            self.ended = None
        self.started += 1
        self.job, self.full = job, ""
        first, count = self.config["uids"] or (0, 0)
        uid = first + self.started % count if count else None
        self.folder = f"{self.config['jobs']}/{self.started}" if self.config["jobs"] else ""
        server = os.getpid()
        if self.own_pids is not None:
            confine.unshare(confine.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            try:
                JailedProcess(self.config, job, self.folder, uid, server).run(descriptors)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        self.pid = pid
        if self.own_pids is not None:
            confine.setns(self.own_pids, confine.CLONE_NEWPID)
        for descriptor in descriptors:
            os.close(descriptor)
        _send(self.control, {"started": True})
