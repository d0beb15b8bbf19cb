"""The cells of a notebook, run in a jailed process by IPython's shell: no kernel's sockets, and no second process.

The fork server does not import this file; a child does that runs a notebook. Calls are "start", "write"
and "cell". A cell is answered by pairs of uint8 tensors, a label and its text; the texts of one output have one number.

    0 stream stdout        1 display_data image/png        2 execute_result text/plain        3 error evalue

Nothing here is believed: the submission's code shares the process. The grader's side makes the notebook's outputs of
texts alone, and holds to its limits by itself.
"""

import base64
import fcntl
import io
import os
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from torch import Tensor
from traitlets.config import Config

from hw7.checks.cases import Answer, Call, Status

from .protocol import weight

MAX_OUTPUTS, MAX_KINDS = 500, 4  # of a cell and of an output: with labels, fewer than a frame may have values
MAX_ERROR = 20_000  # characters of an error's text, and of its traceback
MAX_THREADS = 16  # of torch: each of them has address space of its own
AGAIN_SECONDS = 3.0  # for a cell that does not stop when it is told to
INLINE = "module://matplotlib_inline.backend_inline"


class CellTimeoutError(KeyboardInterrupt):
    """Raised in a cell that has had its time."""


class Outputs:
    """What the running cell has put out, no more than so many bytes."""

    def __init__(self, most: int, shown: list[str]) -> None:
        """shown: the kinds of data that are passed on; of others, their names."""
        self.most, self.shown = most, shown
        self.lock = threading.RLock()  # a cell's threads print, too
        self.clear()

    def clear(self, wait: bool = False) -> None:
        """Forgets the cell's outputs, or will do so when the next one comes."""
        self.waiting = wait
        if not wait:
            self.left, self.full = self.most, False
            self.kept: list[tuple[str, dict[str, bytearray]]] = []
            self.places: dict[str, int] = {}  # of outputs that may be updated

    def add(self, kind: str, texts: Mapping[str, str | bytes], place: str = "", update: bool = False) -> None:
        """A new output; or more text of the stream that was the last; or in the place of an earlier one."""
        with self.lock:
            if self.waiting:
                self.clear()
            if self.full or (update and place not in self.places):
                return
            if update:
                old = self.kept[self.places[place]][1]
                self.left += sum(weight(part.decode()) for part in old.values())
            parts = {name: bytearray(self.take(text)) for name, text in texts.items()}
            last, ongoing = self.kept[-1] if self.kept else ("", {})
            if kind == "stream" == last and parts.keys() == ongoing.keys():
                for name, part in parts.items():
                    ongoing[name] += part
            elif len(self.kept) == MAX_OUTPUTS and not update:
                self.stop(f"{MAX_OUTPUTS:,} outputs")
            elif self.left >= 0 or kind == "stream":  # half a picture is none
                at = self.places[place] if update else len(self.kept)
                self.kept[at : at + 1] = [(kind, parts)]
                self.places |= {place: at} if place else {}
            if self.left < 0 and not self.full:
                self.stop(f"{self.most >> 20} MiB of output")

    def take(self, text: str | bytes) -> bytes:
        """As much of it as there is room for; where that is not all, there is none any more."""
        part = text if isinstance(text, str) else text.decode("ascii", "replace")
        part = part[: max(0, self.left)]
        if weight(part) > max(0, self.left):
            part = part[: len(part) * self.left // weight(part)]
        self.left = self.left - weight(part) if len(part) == len(text) else -1
        return part.encode("utf-8", "replace")

    def stop(self, what: str) -> None:
        self.full = True
        self.kept.append(("stream", {"stdout": bytearray(f"[more than {what}: cut off]\n".encode())}))

    def display(self, kind: str, data: Mapping[str, Any], place: str = "", update: bool = False) -> None:
        """A display or a result. data: by MIME type."""
        texts: dict[str, str | bytes] = {}
        for name in sorted(data, key=lambda name: name not in self.shown)[:MAX_KINDS]:
            if re.fullmatch(r"[\w.+/-]{1,80}", name, re.ASCII):
                value = data[name]
                text = base64.b64encode(value) if name.startswith("image/") and isinstance(value, bytes) else value
                texts[name] = text if name in self.shown and isinstance(text, (str, bytes)) else ""
        self.add(kind, texts, place, update)

    def tensors(self) -> Iterator[Tensor]:
        for number, (kind, texts) in enumerate(self.kept):
            for name, text in texts.items():
                for data in (f"{number} {kind} {name}".encode(), text):
                    yield torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0).byte()


class _Stream(io.TextIOBase):
    """sys.stdout or sys.stderr."""

    encoding, errors = "utf-8", "replace"

    def __init__(self, outputs: Outputs, name: str) -> None:
        self.outputs, self.stream = outputs, name

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if text:
            self.outputs.add("stream", {self.stream: text})
        return len(text)


class _Publisher(DisplayPublisher):
    def publish(self, data: Any, metadata: Any = None, *_: Any, transient: Any = None, **options: Any) -> None:
        place = str((transient or {}).get("display_id", ""))
        self.shell.outputs.display("display_data", data, place, bool(options.get("update")))

    def clear_output(self, wait: bool = False) -> None:
        self.shell.outputs.clear(wait)


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None:
        """The notebook has the numbers of cells already."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self.shell.outputs.display("execute_result", format_dict)


class Shell(InteractiveShell):
    """IPython without a terminal and without a kernel, whose outputs are kept until the cell has ended."""

    outputs: Outputs  # given before it is made

    def enable_gui(self, gui: Any = None) -> None:
        """There is no window."""

    def ask_exit(self) -> None:
        """`exit` ends no notebook, as in Jupyter's own."""

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        try:
            text = str(evalue)
        except Exception:  # a __str__ of the submission's own
            text = "(no text)"
        if isinstance(evalue, CellTimeoutError):  # where it was is of no use, and `Cells.run` says that it was
            return
        traceback = "\n".join(stb)[-MAX_ERROR:]
        self.outputs.add("error", {"ename": etype.__name__[:200], "evalue": text[:MAX_ERROR], "traceback": traceback})


def _times(who: int) -> resource.struct_rusage:
    """What %%time asks for, of a call that is allowed."""
    times = os.times()
    return resource.struct_rusage((times.user, times.system, *[0] * 14))


class Cells:
    """Answers calls with the outputs of cells."""

    def __init__(self, settings: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """settings: "output_bytes" of a cell, "shown" kinds of data. files: of the notebook's folder."""
        self.files = files
        self.outputs = Outputs(settings["output_bytes"], settings["shown"])

    def respond(self, call: Call) -> Answer:
        calls: dict[str, Callable[..., None]] = {"start": self.start, "write": self.write, "cell": self.run}
        calls[call.program](**call.inputs)
        return Answer(Status.RETURNED, tuple(self.outputs.tensors()))

    def start(self) -> None:
        """Starts the shell, before there is a file of the submission that it could import."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        torch.set_num_threads(min(MAX_THREADS, cores))
        os.environ |= {"MPLBACKEND": INLINE, "NBGRADER_EXECUTION": "autograde"}
        os.environ["HW7_JOBS"] = "1"  # experiments at a time, for there is one process
        for module, name in ((os, "chmod"), (os, "utime"), (fcntl, "flock")):  # refused, or nobody to keep out
            setattr(module, name, lambda *_, **__: None)  # IPython, shutil.copy and `Lab` ask for them
        resource.getrusage = _times
        Shell.outputs = self.outputs
        config = Config()
        config.HistoryManager.enabled = False
        config.InteractiveShell.colors = "nocolor"
        self.shell = Shell.instance(config=config, display_pub_class=_Publisher, displayhook_class=_Hook)
        sys.stdout, sys.stderr = _Stream(self.outputs, "stdout"), _Stream(self.outputs, "stderr")
        signal.signal(signal.SIGALRM, self.overdue)

    def write(self) -> None:
        """Puts the submission's files where a notebook finds them."""
        for name, data in self.files.items():
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        sys.path.insert(0, os.getcwd())

    def run(self, source: str, seconds: float) -> None:
        self.outputs.clear()
        self.late = False
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
            self.shell.run_cell(source, store_history=True)
        except CellTimeoutError:  # between two of IPython's own steps
            pass
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self.late:
            name, text = CellTimeoutError.__name__, f"this cell took more than {seconds:g} s"
            self.outputs.add("error", {"ename": name, "evalue": text, "traceback": f"{name}: {text}"})

    def overdue(self, *_: Any) -> None:
        self.late = True
        raise CellTimeoutError
