"""The launch of fork servers: a loader with its staged files and its configuration, and a zygote's messages."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import hw7
from hw7 import HW7Error
from hw7.support.system import login

from . import confine, visible, zygote
from .removal import remove_tree

Tier = Literal["A", "B", "C", "D"]

# Seconds.
START_SECONDS = 900.0  # for a zygote: a first import of torch from a cold disk; 300 were too few on a very busy machine
READY_SECONDS = 60.0  # for a child to close its jail
END_SECONDS = 60.0  # for a killed child to be gone
STALE_SECONDS = 60.0  # staged files that nobody holds are removed after this time

# What is staged, and where.
PREFIX = "hw7-jail-"
CODE = ("zygote", "library", "inside", "protocol", "confine", "seccomp", "syscalls", "scratch", "removal", "cells")
VIEWS = {
    "full": ("**/*",),
    "minimal": (
        "__init__.py", "models.py", "support/__init__.py", "support/torchvision_import.py",
        "checks/__init__.py", "checks/cases.py", "checks/held.py", "checks/rows.py", "checks/savable.py",
        "checks/tensors.py", "checks/watchful.py", "checks/calls/*.py",
    ),
}  # fmt: skip

# What root needs to give each job a uid of its own, to fill its folders and to end it; in a container it may lack some.
_ENDING, _FILLING = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_DAC_OVERRIDE"), ("CAP_CHOWN", "CAP_FOWNER")
ROOTS_POWERS = {"A": ("CAP_SYS_ADMIN", *_ENDING), "B": (*_ENDING, *_FILLING), "C": (*_ENDING, *_FILLING)}
JOB_UIDS = (2**30, 2**30)  # the first, and how many: far above what systems give out
SCRATCH_BYTES = 64 * 2**20  # of a bubblewrap: the folders of its children together
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def missing_powers(tier: Tier) -> list[str]:
    """The capabilities that this tier needs and root lacks here; none where the grader is not root."""
    return [] if os.geteuid() else [name for name in ROOTS_POWERS.get(tier, ()) if not confine.has_capability(name)]


def subordinate_ids() -> list[tuple[int, int]] | None:
    """(first, count) of the uids and of the gids that /etc/subuid and /etc/subgid grant this user, if usable."""
    if not all(shutil.which(tool) for tool in ("newuidmap", "newgidmap")):
        return None
    granted, names = [], (str(os.getuid()), login())
    for table in ("/etc/subuid", "/etc/subgid"):
        try:
            rows = [line.strip().split(":") for line in Path(table).read_text(encoding="utf-8").splitlines()]
            first, count = next(row[1:] for row in rows if len(row) == 3 and row[0] in names)
            granted.append((int(first), int(count)))
        except (OSError, ValueError, StopIteration):
            return None
    return granted


class Loader:
    """A process that loads torch once, and forks a zygote for each jail that asks for one, also after a fork.

    It loads while the grader does other things. Only the process that has started it ends it.
    """

    def __init__(self, tier: Tier, scratch_mb: int = 0) -> None:
        """scratch_mb: of a bubblewrap, of all children in it together; 0: the usual."""
        self.tier: Tier = tier
        self.subordinate = subordinate_ids() if tier == "A" and os.geteuid() != 0 else None
        self._scratch_bytes = scratch_mb * 2**20 or SCRATCH_BYTES
        self._owner = os.getpid()
        sweep()
        self.stage = tempfile.mkdtemp(prefix=PREFIX)
        with contextlib.ExitStack() as ends:  # the last first
            self._parent = os.open(os.path.dirname(self.stage), os.O_RDONLY | os.O_DIRECTORY)
            ends.callback(os.close, self._parent)
            self._lock = os.open(self.stage, os.O_RDONLY | os.O_DIRECTORY)
            ends.callback(os.close, self._lock)
            ends.callback(self._remove_stage)
            fcntl.flock(self._lock, fcntl.LOCK_EX)  # held by the loader, too: free means that both are gone
            stage(Path(self.stage))
            self._orders, other = socket.socketpair()
            ends.callback(self._orders.close)
            with other:
                self._process = self._launch(other.fileno())
            ends.callback(self._end_process)
            self._ends = ends.pop_all()
        self.ready_by = time.monotonic() + START_SECONDS

    @property
    def pid(self) -> int:
        return self._process.pid

    def fork(self, control: int) -> None:
        """Has a zygote forked that takes its orders from this socket. Raises HW7Error where it has ended."""
        try:
            socket.send_fds(self._orders, [b"!"], [control])
        except OSError as error:
            raise HW7Error(f"the jail of tier {self.tier} did not start: {self.complaint()}") from error

    def close(self) -> None:
        """Ends it once its zygotes have ended, and removes what it had."""
        if os.getpid() == self._owner:
            self._ends.close()

    def _remove_stage(self) -> None:
        with contextlib.suppress(OSError):  # the loader removes it, too
            remove_tree(self._parent, os.path.basename(self.stage))

    def _end_process(self) -> None:
        self._orders.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def complaint(self) -> str:
        """The last line that it or a zygote of its wrote."""
        try:
            lines = Path(f"{self.stage}/log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:300] if lines else "it said nothing"

    # ---- the start -----------------------------------------------------------------------------------------

    def _launch(self, orders: int) -> subprocess.Popen[bytes]:
        config, options = self._configuration(orders)
        environment = {
            "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
            **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")},
            **({"TMPDIR": "/scratch"} if self.tier == "B" else {}),
            **{name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ},
        }  # fmt: skip
        # As -I, but with the hash seed of this environment, which is ours: the same grade every time.
        code = f"import sys; sys.path.insert(0, {self.stage + '/code'!r}); from hw7_jail.zygote import main; main()"
        python = [os.path.realpath(sys.executable), "-s", "-S", "-P", "-B", "-u", "-c", code, json.dumps(config)]
        with open(f"{self.stage}/log", "wb") as log:
            return subprocess.Popen(
                [*options, *python], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment,
                pass_fds=(orders, self._parent, self._lock), start_new_session=True,
                umask=0o022,  # whatever the teacher's is: a job's uid must read what the zygote writes for it
            )  # fmt: skip

    def _configuration(self, orders: int) -> tuple[dict[str, Any], list[str]]:
        """What the loader is told, and the words before its command line."""
        modules = visible.module_folders()
        readable = visible.readable_paths(modules)
        hidden = visible.hidden_folders(readable, modules)
        root = os.geteuid() == 0
        keep_reading = root and not visible.readable_by_all(readable, parents=self.tier == "C")
        uids: tuple[int, int] | None = JOB_UIDS if root and self.tier != "D" else None
        if self.subordinate and visible.readable_by_all(readable, parents=False):
            uids = (1, min(count for _, count in self.subordinate))
        whole, listed = visible.around(hidden, readable) if self.tier == "C" else (readable, [])
        config = {
            "tier": self.tier,
            "orders": orders,
            "parent": self._parent,
            "stage": self.stage,
            "paths": modules,
            "hidden": hidden,
            "visible": whole,
            "listed": listed,
            "jobs": {"A": "", "B": "/scratch"}.get(self.tier, f"{self.stage}/jobs"),
            "uids": uids,
            "keep_reading": keep_reading,
            "threads_are_counted": uids is not None or self.tier in "AB",
        }
        return config, self._bubblewrap(readable, hidden, keep_reading) if self.tier == "B" else []

    def _bubblewrap(self, readable: Sequence[str], hidden: Sequence[str], keep_reading: bool) -> list[str]:
        program = shutil.which("bwrap")
        if program is None:
            raise HW7Error("bubblewrap is not installed")
        words = [program, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        if os.geteuid() == 0:
            powers = ["CAP_SETPCAP", *ROOTS_POWERS["B"], *["CAP_DAC_READ_SEARCH"] * keep_reading]
            words += ["--cap-drop", "ALL", *(word for power in powers for word in ("--cap-add", power))]
        else:
            words += ["--unshare-user", "--uid", str(zygote.ONE_ID), "--gid", str(zygote.ONE_ID)]
        bound = [*readable, os.path.realpath(sys.executable)]
        inner = [f"{self.stage}/{name}" for name in (*VIEWS, "code")]
        above = [parent for path in [*bound, inner[0], DEVICES[0]] for parent in reversed(Path(path).parents[:-1])]
        for folder in dict.fromkeys(map(str, above)):  # bubblewrap would make them for its own uid only
            words += ["--perms", "0755", "--dir", folder]
        for path in bound:
            words += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind", path, path]
        for path in hidden:
            words += ["--tmpfs", path]
        # The zygote looks at the processor; its children see neither of the two.
        words += ["--proc", "/proc", "--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
        for option, paths in (("--ro-bind", inner), ("--dev-bind", DEVICES)):
            words += [word for path in paths for word in (option, path, path)]
        words += ["--size", str(self._scratch_bytes), "--tmpfs", "/scratch", "--remount-ro", "/", "--new-session", "--"]
        return words


class Zygote:
    """The grader's end of a fork server: the socket to it. It is ready once somebody has waited for it."""

    def __init__(self, loader: Loader) -> None:
        """Raises HW7Error where the loader has ended."""
        self.tier: Tier = loader.tier
        self.stage = loader.stage
        self.alive = True
        self._loader = loader
        self._pid = 0
        self._ready = False
        self._received = b""
        self._waiting: list[dict[str, Any]] = []
        self._control, other = socket.socketpair()
        with other:
            loader.fork(other.fileno())

    def close(self) -> None:
        """Ends it and its children."""
        self.alive = False
        with contextlib.suppress(OSError), self._control:
            self._control.shutdown(socket.SHUT_WR)
            if not self._has_ended() and self._pid:  # it is still its own, for the socket is open at the other end
                os.kill(self._pid, signal.SIGKILL)
                self._has_ended()

    def _has_ended(self) -> bool:
        self._control.settimeout(END_SECONDS)
        try:
            while self._control.recv(zygote.MESSAGE):
                continue
        except TimeoutError:
            return False
        return True

    def wait(self) -> None:
        """Until it is ready to fork. Raises HW7Error where it does not get there."""
        while not self._ready:
            message = self.message(self._loader.ready_by)
            if message is None:
                if self.alive:
                    reason = f"it was not ready after {START_SECONDS:g} s. Is this machine very busy?"
                else:
                    why = ", ".join(missing_powers(self.tier))
                    reason = f"root has no {why} here" if why else self._loader.complaint()
                raise HW7Error(f"the jail of tier {self.tier} did not start: {reason}")
            if "map" in message:
                self._send({"mapped": self._map(int(message["map"]))})
            if "ready" in message:
                self._ready, self._pid = True, int(message["ready"])

    def complaint(self) -> str:
        return self._loader.complaint()

    def _map(self, pid: int) -> bool:
        """Gives the zygote's user namespace this user, as 0, and the ids that are granted to it."""
        if self._loader.subordinate is None:  # root that may make no namespaces
            return False
        granted = zip(("newuidmap", "newgidmap"), (os.getuid(), os.getgid()), self._loader.subordinate, strict=True)
        words = ([tool, *map(str, (pid, 0, own, 1, 1, first, count))] for tool, own, (first, count) in granted)
        return all(subprocess.run(each, capture_output=True).returncode == 0 for each in words)

    # ---- messages ------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the process that it began as; where there are namespaces, the fork server is a descendant of it."""
        return self._pid or self._loader.pid

    def fileno(self) -> int:
        """Of its socket, to wait for it and others together."""
        return self._control.fileno()

    def message(self, deadline: float = 0.0) -> dict[str, Any] | None:
        """The next message; None when the deadline has passed (without one: at once) or the zygote has ended."""
        while not self._waiting and self.alive:
            self._control.settimeout(max(0.0, deadline - time.monotonic()))
            try:
                data = self._control.recv(zygote.MESSAGE)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError:
                data = b""
            self.alive = bool(data)
            *lines, self._received = (self._received + data).split(b"\n")
            self._waiting += map(json.loads, lines)
        return self._waiting.pop(0) if self._waiting else None

    def _send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        try:
            self._control.settimeout(END_SECONDS)
            socket.send_fds(self._control, [json.dumps(message).encode()], list(descriptors))
        except OSError:
            self.alive = False

    def spawn(self, job: Mapping[str, Any], descriptors: Sequence[int]) -> bool:
        """Whether there is a child now."""
        self._send({"spawn": job}, descriptors)
        return self.message(time.monotonic() + READY_SECONDS) is not None

    def kill_child(self) -> None:
        """Asks for it; the message of its exit follows."""
        self._send({"kill": True})


# ---- the staged files --------------------------------------------------------------------------------------------


def stage(folder: Path) -> None:
    """Copies what a zygote and its children need: this package's own side, and `hw7` in two views."""
    library, own = Path(hw7.__file__).resolve().parent, Path(__file__).resolve().parent
    sources = {f"{view}/hw7": (library, patterns) for view, patterns in VIEWS.items()}
    sources["code/hw7_jail"] = own, tuple(f"{name}.py" for name in CODE)
    for name, (source, patterns) in sources.items():
        for path in (path for pattern in patterns for path in source.glob(pattern)):
            if path.is_file() and path.parent.name != "__pycache__":
                copy = folder / name / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    (folder / "code/hw7_jail/__init__.py").touch()  # this package's own imports the grader's side
    for name in ("root", "jobs"):
        (folder / name).mkdir()
    for path in folder.rglob("*"):  # for all to read, and for nobody to change
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in (folder, folder / "jobs"):
        path.chmod(0o711)


def sweep() -> None:
    """Removes what was staged by graders and zygotes that were both killed."""
    for entry in os.scandir(tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            if not entry.name.startswith(PREFIX) or entry.is_symlink() or entry.stat().st_uid != os.geteuid():
                continue
            if time.time() - entry.stat().st_mtime < STALE_SECONDS:
                continue
            lock = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(None, entry.path)
            finally:
                os.close(lock)
