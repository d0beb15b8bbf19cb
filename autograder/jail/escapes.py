"""The self-test's attempts to escape: this file runs in the jail as solution/pruning.py, and raises where one works.

It answers a question as well: that nothing was raised tells nothing of a file that was never run.
"""

# What opens a file here is not to succeed.
# ruff: noqa: SIM115, PLW1514

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial

escaped: list[str] = []
library = os.open(os.__file__, os.O_RDONLY)


def attempt(name: str, action: Callable[[], object]) -> None:
    """Notes what succeeds."""
    try:
        result = action()
    except (OSError, ValueError):  # ValueError: what setrlimit makes of EPERM
        return
    escaped.append(f"{name} ({result!r:.60})")


def fork() -> str:
    if os.fork() == 0:
        os._exit(0)
    return "a child"


attempt("read /etc/passwd", lambda: open("/etc/passwd").read())
attempt("read /proc", lambda: open("/proc/1/environ", "rb").read())
attempt("list /proc", lambda: os.listdir("/proc"))
attempt("list /", lambda: os.listdir("/home"))
attempt("read a program", lambda: open("/bin/sh", "rb").read(4))
attempt("write outside", lambda: open("/tmp/hw7-escaped", "w"))
attempt("write into the library", lambda: open(os.path.join(sys.path[1], "hw7", "escaped"), "w"))
attempt("write into the submission", lambda: open(os.path.join(sys.path[0], "solution", "escaped"), "w"))
attempt("fork", fork)
attempt("run a program", lambda: subprocess.run(["/bin/true"]))
attempt("signal its parent", lambda: os.kill(os.getppid(), 0))
attempt("signal all", lambda: os.kill(-1, 0))
attempt("raise a limit", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
attempt("change its owner", lambda: os.chmod(__file__, 0o777))
attempt("change what is cached", lambda: os.posix_fadvise(library, 0, 0, os.POSIX_FADV_DONTNEED))
attempt("see what is cached", lambda: os.preadv(library, [bytearray(1)], 0, os.RWF_NOWAIT))
attempt("see its page faults", lambda: resource.getrusage(resource.RUSAGE_SELF))
attempt("lock what others read", lambda: fcntl.flock(library, fcntl.LOCK_SH))
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        attempt(f"open a socket of family {int(family)}", partial(socket.socket, family, kind))
if escaped:
    raise RuntimeError("it can " + "; ".join(escaped))

# And what it must let happen.
with open("scratch", "w") as scratch:
    scratch.write("x" * 1000)
os.remove("scratch")
with tempfile.NamedTemporaryFile() as file:
    file.write(b"x")

import threading  # noqa: E402

import torch  # noqa: E402
import torchvision.ops  # noqa: E402, F401

thread = threading.Thread(target=signal.getsignal, args=(signal.SIGTERM,))
thread.start()
thread.join()
weight = torch.ones(3, 3, requires_grad=True)
optimizer = torch.optim.AdamW([weight])
(weight @ weight).sum().backward()
optimizer.step()


def select_channels(importance: torch.Tensor, keep: int) -> torch.Tensor:
    """The self-test's question."""
    return importance.flip(0) * keep
