"""The launch of a fork server: what it is started with, and the messages that it takes and gives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import shutil
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
from hw7.support.account import login

from . import confine, zygote
from .trees import remove_tree
from .visible import hidden_folders, module_folders, parents, readable_by_all, readable_paths, split_at

Tier = Literal["A", "B", "C", "D"]
START_SECONDS = 900.0  # for a zygote: a first import of torch from a cold disk; 300 were too few on a very busy machine
READY_SECONDS = 60.0  # for a child to close its jail
END_SECONDS = 60.0  # for a killed child to be gone
SCRATCH_BYTES = 64 * 2**20  # of a bubblewrap: the folders of its children together
STALE_SECONDS = 60.0  # staged files that nobody holds are removed after this time
PREFIX = "hw7-jail-"
MINIMAL = (
    "__init__", "models", "support/__init__", "support/torchvision_import",
    "checks/__init__", "checks/cases", "checks/tensors", "checks/calls",
)  # fmt: skip
CODE = ("protocol", "zygote", "inside", "trees", "confine", "seccomp", "syscalls")
JOB_UIDS = (2**30, 2**30)  # the first, and how many: far above what systems give out
NAMESPACE_ID = str(zygote.ONE_ID)
# What root needs to give each job a uid of its own, to fill its folders and to end it; in a container it may lack some.
ROOTS_POWERS = {
    "A": ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_DAC_OVERRIDE"),
    "B": ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER"),
    "C": ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_FOWNER"),
}


def _subordinate_ids() -> list[tuple[int, int]] | None:
    """(first, count) of the uids and of the gids that /etc/subuid and /etc/subgid grant this user, if usable."""
    if not all(shutil.which(tool) for tool in ("newuidmap", "newgidmap")):
        return None
    granted = []
    for table in ("/etc/subuid", "/etc/subgid"):
        try:
            rows = [line.strip().split(":") for line in Path(table).read_text(encoding="utf-8").splitlines()]
            names = (str(os.getuid()), login())
            rows = [row for row in rows if len(row) == 3 and row[0] in names]
            granted.append((int(rows[0][1]), int(rows[0][2])))
        except (OSError, ValueError, IndexError):
            return None
    return granted


class Zygote:
    """A fork server: its process, the socket to it, and its staged files. It loads while others do other things."""

    def __init__(self, tier: Tier) -> None:
        self.tier: Tier = tier
        self.alive = False
        self.waiting: list[dict[str, Any]] = []
        self._received = b""
        self._subordinate = _subordinate_ids() if tier == "A" and os.geteuid() != 0 else None
        sweep()
        self.stage = tempfile.mkdtemp(prefix=PREFIX)
        self._parent = os.open(os.path.dirname(self.stage), os.O_RDONLY | os.O_DIRECTORY)
        self._lock = os.open(self.stage, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # held by the zygote, too: free means that both are gone
        try:
            self._launch()
        except BaseException:
            self.close()
            raise

    def _launch(self) -> None:
        stage(Path(self.stage))
        self.control, other = socket.socketpair()
        with other:
            config, options = self._configuration(other.fileno())
            descriptors = (other.fileno(), self._parent, self._lock)
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
                self._process = subprocess.Popen(
                    [*options, *python], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=environment,
                    pass_fds=descriptors, start_new_session=True,
                    umask=0o022,  # whatever the teacher's is: a job's uid must read what the zygote writes for it
                )  # fmt: skip
        self.alive = True
        self._ready_by = time.monotonic() + START_SECONDS
        self._ready = False

    def wait(self) -> None:
        """Until it is ready to fork. Raises HW7Error where it does not get there."""
        while not self._ready:
            message = self.message(self._ready_by)
            if message is None:
                if self.alive:
                    reason = f"it was not ready after {START_SECONDS:g} s. Is this machine very busy?"
                else:
                    why = ", ".join(missing_powers(self.tier))
                    reason = f"root has no {why} here" if why else self.complaint()
                raise HW7Error(f"the jail of tier {self.tier} did not start: {reason}")
            if "ready" in message:
                self._ready = True
            elif "map" in message:
                self._send({"mapped": self._map(int(message["map"]))})

    def complaint(self) -> str:
        try:
            lines = Path(f"{self.stage}/log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1][:300] if lines else "it said nothing"

    def _configuration(self, control: int) -> tuple[dict[str, Any], list[str]]:
        """What the zygote is told, and the words before its command line."""
        modules = module_folders()
        readable = readable_paths(modules)
        hidden = hidden_folders(readable, modules)
        root = os.geteuid() == 0
        keep_reading = root and not readable_by_all(readable, parents=self.tier == "C")
        libraries = {view: f"{self.stage}/{view}" for view in ("full", "minimal")}
        uids: tuple[int, int] | None = JOB_UIDS if root and self.tier != "D" else None
        if self._subordinate and readable_by_all(readable, parents=False):
            uids = (1, min(count for _, count in self._subordinate))
        split = [item for path in readable for item in split_at(path, hidden)] if self.tier == "C" else []
        config = {
            "tier": self.tier,
            "control": control,
            "parent": self._parent,
            "name": os.path.basename(self.stage),
            "libraries": libraries,
            "paths": modules,
            "root": f"{self.stage}/root",
            "readable": [*readable, *libraries.values()],
            "hidden": hidden,
            "visible": [path for path, only_listed in split if not only_listed] if split else readable,
            "listed": [path for path, only_listed in split if only_listed],
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
            words += ["--cap-drop", "ALL"]
            powers = ["SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "DAC_OVERRIDE", "FOWNER"]
            for name in powers + ["DAC_READ_SEARCH"] * keep_reading:
                words += ["--cap-add", f"CAP_{name}"]
        else:
            words += ["--unshare-user", "--uid", NAMESPACE_ID, "--gid", NAMESPACE_ID]
        bound = [*readable, os.path.realpath(sys.executable)]
        for folder in dict.fromkeys(
            str(p) for path in [*bound, f"{self.stage}/full", "/dev/null"] for p in parents(path)
        ):
            words += ["--perms", "0755", "--dir", folder]  # bubblewrap makes them for its own uid only
        for path in bound:
            if os.path.islink(path):
                words += ["--symlink", os.readlink(path), path]
            else:
                words += ["--ro-bind", path, path]
        for path in hidden:
            words += ["--tmpfs", path]
        for name in ("full", "minimal", "code"):
            words += ["--ro-bind", f"{self.stage}/{name}", f"{self.stage}/{name}"]
        for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
            words += ["--dev-bind", device, device]
        # The zygote looks at the processor; its children see neither of the two.
        words += ["--proc", "/proc", "--ro-bind-try", "/sys/devices/system/cpu", "/sys/devices/system/cpu"]
        words += ["--size", str(SCRATCH_BYTES), "--tmpfs", "/scratch", "--remount-ro", "/", "--new-session", "--"]
        return words

    def _map(self, pid: int) -> bool:
        """Gives the zygote's user namespace this user, as 0, and the ids that are granted to it."""
        if self._subordinate is None:  # root that may make no namespaces
            return False
        own = (os.getuid(), os.getgid())
        for tool, me, (first, count) in zip(("newuidmap", "newgidmap"), own, self._subordinate, strict=True):
            words = [tool, str(pid), "0", str(me), "1", "1", str(first), str(count)]
            if subprocess.run(words, capture_output=True).returncode:
                return False
        return True

    # ---- messages ------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of the process that was started; where there are namespaces, the fork server is a child of it."""
        return self._process.pid

    def fileno(self) -> int:
        return self.control.fileno()

    def receive(self) -> list[dict[str, Any]]:
        """The messages that are there, without waiting."""
        try:
            data = self.control.recv(zygote.MESSAGE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.alive = False
            return []
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def message(self, deadline: float) -> dict[str, Any] | None:
        """The next message; None when the deadline passed or the zygote ended."""
        while not self.waiting and self.alive:
            with selectors.DefaultSelector() as selector:
                selector.register(self.control, selectors.EVENT_READ)
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
            self.waiting += self.receive()
        return self.waiting.pop(0) if self.waiting else None

    def _send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        try:
            socket.send_fds(self.control, [json.dumps(message).encode()], list(descriptors))
        except OSError:
            self.alive = False

    def spawn(self, job: Mapping[str, Any], descriptors: Sequence[int]) -> str | None:
        """The folder of the new child, if it has one; None where there is no child."""
        self._send({"spawn": job}, descriptors)
        message = self.message(time.monotonic() + READY_SECONDS)
        return None if message is None else str(message.get("started", ""))

    def kill_child(self) -> None:
        self._send({"kill": True})

    def close(self) -> None:
        """Ends it and its children, and removes what it had."""
        if hasattr(self, "control"):
            self.control.close()
        if hasattr(self, "_process"):
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with contextlib.suppress(OSError):
            remove_tree(self._parent, os.path.basename(self.stage))
        for descriptor in (self._parent, self._lock):
            os.close(descriptor)
        self.alive = False


def stage(stage: Path) -> None:
    """Copies what a zygote and its children need: this package's own side, and `hw7` in two views."""
    library, own = Path(hw7.__file__).resolve().parent, Path(__file__).resolve().parent
    stage.chmod(0o711)
    for folder in ("root", "jobs", "code/hw7_jail"):
        (stage / folder).mkdir(parents=True)
    for name in CODE:
        shutil.copyfile(own / f"{name}.py", stage / "code" / "hw7_jail" / f"{name}.py")
    (stage / "code" / "hw7_jail" / "__init__.py").write_text("")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(library, stage / "full" / "hw7", ignore=ignore, copy_function=shutil.copyfile)
    for name in MINIMAL:
        target = stage / "minimal" / "hw7" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (library / name).is_dir():
            shutil.copytree(library / name, target, ignore=ignore, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(library / f"{name}.py", target.with_suffix(".py"))
    for view in ("full", "minimal", "code"):
        for path in sorted((stage / view).rglob("*"), reverse=True):
            path.chmod(0o555 if path.is_dir() else 0o444)
        (stage / view).chmod(0o555)
    (stage / "jobs").chmod(0o711)


def sweep() -> None:
    """Removes what was staged by graders and zygotes that were both killed."""
    base = tempfile.gettempdir()
    for entry in os.scandir(base):
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


def missing_powers(tier: Tier) -> list[str]:
    """The capabilities that this tier needs and root lacks here; none where the grader is not root."""
    if os.geteuid() != 0:
        return []
    return [name for name in ROOTS_POWERS.get(tier, ()) if not confine.has_capability(confine.CAPABILITIES[name])]
