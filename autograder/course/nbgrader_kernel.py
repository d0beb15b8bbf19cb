"""nbgrader's `Execute` with a kernel in a jail: what a student's notebook runs sees no network, no home and no course.

The kernel starts inside bubblewrap: namespaces of its own (no network at all), Python, its packages and `hw7`
read-only, a copy of this one submission in a small file system in memory, limits on memory, processes and CPU time.
Client and kernel talk through Unix sockets in a folder that is made for this one kernel. Where bubblewrap does not
work, nothing is run.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute
from traitlets import Bool, Integer, Unicode

import hw7
from autograder.jail.visible import hidden_folders, module_folders, readable_paths
from hw7 import HW7Error

HOME, LIBRARY, SUBMISSION = "/home/student", "/library", "/submission"  # as the kernel sees them
PATIENCE = 300  # seconds for an empty jail to start Python and its kernel, on a very busy machine
SHOWN = ("stream", "display_data", "execute_result", "error", "update_display_data")  # messages that are output

# Run in the jail, before the kernel: limits, then a copy that the notebook may write beside. Results of earlier runs
# stay out of it: what the grader sees was computed here.
_BEGIN = """
import os, resource, shutil, sys
from contextlib import suppress
for name, limit in {limits}.items():
    resource.setrlimit(getattr(resource, name), (limit, limit))
with suppress(OSError, shutil.Error):
    leave = shutil.ignore_patterns("out", "__pycache__", ".*")
    shutil.copytree({submission!r}, {home!r}, symlinks=True, ignore=leave, dirs_exist_ok=True)
os.chdir({home!r})
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""


@cache
def why_not() -> str:
    """Why notebooks may not be run here; "" where they may."""
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    try:
        with tempfile.TemporaryDirectory() as folder:
            words = [*_jail(folder, Path(folder), None), "-c", "import socket, ipykernel"]
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here: {error}"
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return f"bubblewrap does not work here: {last[0]}" if done.returncode else ""


def _jail(sockets: str, submission: Path, tests: Path | None) -> list[str]:
    """The words that start Python in the jail. sockets: the one folder that it may write to outside of its memory."""
    modules = module_folders()
    readable = readable_paths(modules)
    python = os.path.realpath(sys.executable)
    words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    words += ["--hostname", "jail", "--size", str(64 * 2**20), "--tmpfs", "/tmp"]  # first: an installation may be there
    for path in [*readable, *([] if any(python.startswith(f"{p}/") for p in readable) else [python])]:
        words += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind", path, path]
    for path in hidden_folders(readable, modules):
        words += ["--tmpfs", path, "--remount-ro", path]
    words += ["--proc", "/proc", "--dev", "/dev", "--size", str(512 * 2**20), "--tmpfs", HOME]
    words += ["--ro-bind", str(Path(hw7.__file__).resolve().parent), f"{LIBRARY}/hw7"]
    if tests is not None:
        words += ["--ro-bind", str(tests), f"{LIBRARY}/assignments/hw7/tests"]
    words += ["--ro-bind", str(submission), SUBMISSION, "--bind", sockets, sockets, "--remount-ro", "/"]
    environment = {
        "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": HOME, "USER": "student", "LOGNAME": "student",
        "PYTHONPATH": os.pathsep.join([LIBRARY, *modules]), "PYTHONDONTWRITEBYTECODE": "1",
        "NBGRADER_EXECUTION": "autograde",
    }  # fmt: skip
    for name, value in environment.items():
        words += ["--setenv", name, value]
    return [*words, "--", python, "-s", "-S"]


class JailedKernelManager(AsyncKernelManager):
    """Starts Python's own kernel, whatever the notebook asks for, in the jail, with a folder for its sockets."""

    def __init__(self, folder: str, command: list[str], **options: Any) -> None:
        super().__init__(kernel_name=NATIVE_KERNEL_NAME, **options)
        self.transport = "ipc"
        self.connection_file = f"{folder}/kernel.json"
        self.command = command
        assert self.kernel_spec is not None
        self.kernel_spec.interrupt_mode = "message"  # a signal would end bubblewrap, and the kernel with it

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        return [*self.command, "-f", self.connection_file, *(extra_arguments or [])]


class JailedExecute(Execute):
    """Runs a notebook in the jail. However it ends (loops, dies, floods), the notebook goes on to be graded."""

    startup_timeout = Integer(600, help="Seconds until the kernel is there.").tag(config=True)  # on a busy machine
    timeout = Integer(300, help="Seconds for one cell.").tag(config=True)
    seconds = Integer(1200, help="Seconds for all cells of a notebook together.").tag(config=True)
    memory_mb = Integer(8000, help="Address space of each process, in MiB.").tag(config=True)
    output_mb = Integer(8, help="Output of one cell that is kept, in MiB.").tag(config=True)
    public_tests = Unicode("source/hw7/tests", help="The data of the public tests.").tag(config=True)
    store_widget_state = Bool(False).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Any = None, km: Any = None) -> Any:
        """Raises HW7Error where there is no jail."""
        if not self.enabled:
            return nb, resources
        if reason := why_not():
            raise HW7Error(
                f"notebooks are not run here, because there is no jail to run them in: {reason}. "
                "`nbgrader autograde hw7 --no-execute` grades them with the outputs that were handed in"
            )
        self._ended, self._until = "", time.monotonic() + self.seconds
        self.timeout_func = lambda cell: max(1, min(self.timeout, int(self._until - time.monotonic())))
        with tempfile.TemporaryDirectory(prefix="hw7-kernel-", dir="/tmp") as self._folder:  # a socket's name is short
            return super().preprocess(nb, resources)

    def create_kernel_manager(self) -> JailedKernelManager:
        submission = Path(self.resources["metadata"]["path"] or ".").resolve()
        tests = Path(self.public_tests).resolve()
        limits = {"RLIMIT_AS": self.memory_mb * 2**20, "RLIMIT_CPU": 2 * self.seconds, "RLIMIT_FSIZE": 512 * 2**20}
        limits |= {"RLIMIT_CORE": 0, "RLIMIT_NPROC": 512, "RLIMIT_NOFILE": 1024}
        allowed = {name: _at_most(name, limit) for name, limit in limits.items()}
        begin = _BEGIN.format(limits=json.dumps(allowed), submission=SUBMISSION, home=HOME)
        command = [*_jail(self._folder, submission, tests if tests.is_dir() else None), "-c", begin]
        self.km = JailedKernelManager(self._folder, command, config=self.config)
        return self.km

    def start_new_kernel(self, **options: Any) -> None:
        """What the kernel's process itself prints goes nowhere, least of all to a teacher's terminal."""
        silent = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        super().start_new_kernel(**silent, **options)

    def preprocess_cell(self, cell: NotebookNode, resources: Any, index: int) -> Any:
        if cell.cell_type != "code":
            return cell, resources
        if not self._ended and time.monotonic() > self._until:
            self._ended = f"the notebook's {self.seconds} seconds were over"
        if self._ended:
            cell.outputs, cell.execution_count = [], None
            _fail(cell, "NotRun", f"Not run: {self._ended}.")
            return cell, resources
        self._printed = 0
        try:
            return super().preprocess_cell(cell, resources, index)
        except DeadKernelError:
            self._ended = "the kernel had died"
            _fail(cell, "DeadKernelError", "The kernel died in this cell.")
        except CellTimeoutError as error:  # more output than could be read in time
            _fail(cell, "CellTimeoutError", str(error).partition("\n")[0])
        return cell, resources

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> Any:
        if msg["msg_type"] in SHOWN:
            self._printed += len(json.dumps(msg["content"], default=str))
            if self._printed > self.output_mb * 2**20:
                text = f"[more than {self.output_mb} MiB of output: cut off]\n"
                if not cell.outputs or cell.outputs[-1].get("text") != text:
                    cell.outputs.append(new_output("stream", name="stdout", text=text))
                return None
        return super().process_message(msg, cell, cell_index)


def _at_most(name: str, limit: int) -> int:
    """The limit, or the one that this process has itself, if that is lower."""
    hard = resource.getrlimit(getattr(resource, name))[1]
    return limit if hard == resource.RLIM_INFINITY else min(limit, hard)


def _fail(cell: NotebookNode, name: str, text: str) -> None:
    """An error among the outputs of a cell, as a kernel would report it."""
    cell.outputs.append(new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"]))
