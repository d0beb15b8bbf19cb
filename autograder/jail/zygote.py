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
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from . import confine, seccomp
from .inside import Inside, use_library
from .trees import remove_tree

ONE_ID = 60000  # the uid inside a user namespace that knows only one
MESSAGE = 2**16


def _send(control: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):
        control.sendall(json.dumps(message).encode() + b"\n")


def main() -> None:
    """`python -c "…; main()" CONFIGURATION`: see `launch.Zygote` for what is in it."""
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
    programs = importlib.import_module("hw7.checks.calls.run")
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

    for name in (
        "hw7.support.torchvision_import",
        "torchvision.transforms.v2.functional",
    ):  # in this order: the first opens the door
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
        seccomp.filter_bytes(1)  # every child's pid, in a namespace of its own: one filter for all
    server = Server(config, control, programs, size, own_pids)
    _send(control, {"ready": True})
    server.run()


class Server:
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
                Inside(self.config, self.programs, self.size, self.folder, job, uid, parent).run(descriptors)
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
