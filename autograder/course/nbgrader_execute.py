"""nbgrader's `Execute` in the jail: a student's notebook runs where submissions run, in one process.

The notebook's own files go through a pipe into a jail of tier A or B (see docs/jail.md), where IPython runs one cell
after the other in a file system in memory. There is no kernel that a client would talk to, no socket and no connection
file. What comes back of a cell are labelled texts on one pipe, counted before they are kept; this side makes outputs of
them, and nothing but texts, pictures in base64 and errors. Where there is no such jail, nothing is run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute
from traitlets import Enum, Integer, Unicode

from autograder.course.nbgrader_steps import PICTURES, WORDS
from autograder.intake.entries import Refused, folder_entries
from autograder.jail import Jail, Tier, best_tier
from autograder.jail.child import Child
from autograder.jail.jail import FilesRefused
from autograder.jail.protocol import weight
from hw7 import HW7Error
from hw7.checks.cases import Call, Status

TIERS = ("A", "B")  # taken unasked: what is written there is in memory, and on no disk of this machine
PATIENCE = 300.0  # seconds for an empty jail to start IPython, on a very busy machine
GRACE = 10.0  # seconds for a cell that was told to stop
MAX_FILES = 20_000  # that a notebook may have at once
MAX_READ, MAX_FILES_READ = 32_000_000, 2_000  # bytes and files beside a notebook that go with it into the jail
MAX_PATH = 255  # bytes
MAX_TRACEBACK = 100_000  # characters
MAX_THREADS = 64
STREAMS = ("stdout", "stderr")
_LABEL = re.compile(r"(\d{1,4}) (stream|display_data|execute_result|error) ([\w.+/-]{1,80})", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]*+={0,2}+\s*+", re.ASCII)


@cache
def why_not() -> str:
    """Why notebooks may not be run here without being asked for it by a tier's name; "" where they may."""
    best, reasons = best_tier()
    return "" if best in TIERS else "; ".join(f"tier {tier}: {reasons[tier]}" for tier in TIERS if tier in reasons)


@cache
def jail_of(tier: Tier, scratch_mb: int) -> Jail:
    """For all notebooks of this program, one after the other; it ends with the program."""
    return Jail(tier, scratch_mb=scratch_mb)


class JailedExecute(Execute):
    """Runs a notebook in the jail. However it ends (loops, dies, floods), the notebook goes on to be graded."""

    timeout = Integer(600, help="Seconds for one cell.").tag(config=True)
    seconds = Integer(1200, help="Seconds for all cells of a notebook together.").tag(config=True)
    memory_mb = Integer(8000, help="Address space of a notebook's process, in MiB.").tag(config=True)
    scratch_mb = Integer(512, help="What a notebook may write, in MiB of memory.").tag(config=True)
    output_mb = Integer(8, help="Output of one cell that is kept, in MiB.").tag(config=True)
    outputs_mb = Integer(32, help="Output of all cells together, in MiB.").tag(config=True)
    public_tests = Unicode("source/hw7/tests", help="The data of the public tests.").tag(config=True)
    tier = Enum(["", "A", "B", "C", "D"], "", help="Of the jail; empty: A or B, or nothing is run.").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Any = None, km: Any = None) -> Any:
        """Raises HW7Error where there is no jail."""
        if not self.enabled:
            return nb, resources
        if not self.tier and (reason := why_not()):
            raise HW7Error(
                f"notebooks are not run here, because there is no jail to run them in: {reason}. "
                "`nbgrader autograde hw7 --no-execute` grades them with the outputs that were handed in. "
                "What tier C would keep in stands in docs/jail.md; `c.JailedExecute.tier` takes it by name"
            )
        folder = Path((resources or {}).get("metadata", {}).get("path") or ".")
        try:
            files = _files_beside(folder, _files_of_tests(Path(self.public_tests)))
            with self._child(jail_of(self.tier or best_tier()[0], self.scratch_mb), files) as child:
                self._run(nb, child)
        except (Refused, FilesRefused) as refused:
            _run_nothing(nb, str(refused))
        return nb, resources

    def _child(self, jail: Jail, files: Mapping[str, bytes]) -> Child:
        settings = {"output_bytes": self.output_mb * 2**20, "shown": [*PICTURES, *WORDS]}
        child = jail.child(
            files, memory_mb=self.memory_mb, scratch_mb=self.scratch_mb, scratch_files=MAX_FILES,
            limits={"CPU": MAX_THREADS * self.seconds}, notebook=settings,
        )  # fmt: skip
        started, written = child.ask([Call("start", {}), Call("write", {})], PATIENCE)
        if started.status is not Status.RETURNED:  # nothing of the submission has been looked at so far
            raise HW7Error(f"IPython does not start in the jail: {started.note or child.stopped_by}")
        if written.status is not Status.RETURNED:
            raise Refused("the files beside the notebook cannot be written in the jail")
        return child

    def _run(self, nb: NotebookNode, child: Child) -> None:
        ended, seconds, room, number = "", float(self.seconds), self.outputs_mb * 2**20, 0
        for cell in nb.cells:
            if cell.cell_type != "code":
                continue
            cell.outputs, cell.execution_count = [], None
            if not cell.source.strip() or "skip-execution" in cell.metadata.get("tags", []):
                continue
            if not ended and seconds <= 0:
                ended = f"the notebook's {self.seconds} seconds were over"
            if ended:
                _fail(cell, "NotRun", f"Not run: {ended}.")
                continue
            number += 1
            cell.execution_count = number
            limit = max(1.0, min(self.timeout, seconds))
            source = cell.source.encode("utf-8", "replace").decode()  # JSON may have half a letter
            (answer,) = child.ask([Call("cell", {"source": source, "seconds": limit})], limit + GRACE)
            seconds -= child.seconds
            texts = [bytes(tensor.reshape(-1).numpy()).decode("utf-8", "replace") for tensor in answer.tensors]
            room -= sum(map(weight, texts))
            if room < 0:
                _fail(cell, "OutputError", f"The notebook put out more than {self.outputs_mb} MiB.")
                ended = "the notebook had put out too much"
            else:
                cell.outputs = list(_outputs(texts, number))
                ended = _ended(cell, answer.status, child, limit)


def _ended(cell: NotebookNode, status: Status, child: Child, limit: float) -> str:
    """Says in the cell what was wrong with it; why the notebook has ended, "" while it has not."""
    if status is Status.TIME:
        _fail(cell, "CellTimeoutError", f"This cell took more than {limit:g} s and did not stop when it was told to.")
        return "the notebook was stopped in a cell that did not end"
    if status is Status.FLOOD:
        _fail(cell, "OutputError", f"This cell sent too much, or what is no output ({child.stopped_by}).")
        return "the notebook was stopped in a cell that sent too much"
    if not child.alive:
        _fail(cell, "DeadKernelError", f"The kernel died in this cell ({child.stopped_by}).")
        return "the kernel had died"
    if status is not Status.RETURNED:
        _fail(cell, "NotWhole", "This cell's outputs could not be sent: an error, or no memory.")
    return ""


def _outputs(texts: Sequence[str], count: int) -> Iterator[NotebookNode]:
    """Outputs made of labels and texts. What has another form is left out."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for label, text in zip(texts[::2], texts[1::2], strict=False):
        if match := _LABEL.fullmatch(label):
            number, kind, name = match.groups()
            found.setdefault(number, (kind, {}))[1][name] = text
    for kind, parts in found.values():
        if kind == "stream":
            yield from (new_output(kind, name=name, text=parts[name]) for name in STREAMS if name in parts)
        elif kind == "error":
            name, value, trace = (parts.get(each, "")[:MAX_TRACEBACK] for each in ("ename", "evalue", "traceback"))
            yield new_output(kind, ename=name, evalue=value, traceback=trace.split("\n"))
        else:
            data = {name: parts[name] for name in WORDS if parts.get(name)}
            data |= {name: parts[name] for name in PICTURES if parts.get(name) and _BASE64.fullmatch(parts[name])}
            data = data or {"text/plain": f"[{', '.join(parts)}: not shown]"}
            yield new_output(kind, data=data, **({"execution_count": count} if kind == "execute_result" else {}))


def _files_beside(folder: Path, tests: Mapping[str, bytes]) -> dict[str, bytes]:
    """The regular files of a notebook's folder, without notebooks and results of earlier runs, with the course's tests
    in the place of its own. Raises Refused where it is too much."""
    files: dict[str, bytes] = {}
    room = MAX_READ
    for entry in folder_entries(folder):
        theirs = entry.parts[0] == "out" or entry.name.endswith(".ipynb") or (bool(tests) and entry.parts[0] == "tests")
        if entry.refused or theirs or len(entry.path.encode()) > MAX_PATH:
            continue
        if len(files) == MAX_FILES_READ:
            raise Refused(f"there are more than {MAX_FILES_READ:,} files beside the notebook")
        if entry.size > room:
            raise Refused(f"the files beside the notebook have more than {MAX_READ:,} bytes")
        files[entry.path] = entry.read(room)
        room -= len(files[entry.path])
    return {**files, **tests}


def _files_of_tests(tests: Path) -> dict[str, bytes]:
    """The public tests as the course has them, in the place of the student's."""
    paths = (path for path in sorted(tests.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"tests/{path.relative_to(tests).as_posix()}": path.read_bytes() for path in paths}


def _run_nothing(nb: NotebookNode, reason: str) -> None:
    """Marks every cell that would have run."""
    for cell in nb.cells:
        if cell.cell_type == "code" and cell.source.strip():
            cell.outputs, cell.execution_count = [], None
            _fail(cell, "NotRun", f"Not run: {reason}.")


def _fail(cell: NotebookNode, name: str, text: str) -> None:
    """An error among the outputs of a cell, as a kernel would report it."""
    cell.outputs.append(new_output("error", ename=name, evalue=text, traceback=[f"{name}: {text}"]))
