"""Notebooks in the jail: cells that no student writes by mistake, and those that every student writes."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jailed import linux

from autograder.jail import best_tier
from hw7 import HW7Error

pytest.importorskip("nbgrader")
from nbformat.v4 import new_code_cell, new_notebook

from autograder.course import nbgrader_execute
from autograder.course.nbgrader_execute import JailedExecute

pytestmark = linux

CORPUS = Path(__file__).parent.parent / "attacks" / "notebooks" / "cells.toml"
CELLS = tomllib.loads(CORPUS.read_text())["cell"]
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run")
NAME = "hw7-attack"  # how everything is named that a cell would leave behind
TIERS = ["A", *(pytest.param(tier, marks=pytest.mark.slow) for tier in "BC")]
MEMORY = 400 * 2**20  # of the grader, for what one notebook may put out: far less than one of these cells tries


@pytest.fixture(params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    if (reason := best_tier()[1][request.param]) != "works":
        pytest.skip(f"tier {request.param} does not work here: {reason}")
    return str(request.param)


@pytest.fixture(autouse=True, scope="module")
def end_jails() -> Iterator[None]:
    yield
    for tier in "ABC":
        nbgrader_execute.jail_of(tier, 512).close()


@pytest.fixture(autouse=True, scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The folder of a notebook that names none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        yield


def run(tier: str, *sources: str, folder: Path | str = ".", **options: Any) -> list[Any]:
    """The outputs of these cells."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    options = {"timeout": 60, "memory_mb": 2000, "public_tests": "none"} | options
    resources = {"metadata": {"path": str(folder)}}
    JailedExecute(tier=tier, **options).preprocess(notebook, resources)
    return [cell.outputs for cell in notebook.cells]


def said(outputs: Any) -> str:
    return json.dumps(outputs)


def got(outputs: Any) -> bool:
    """Whether a cell says that it got what it must not. A traceback shows these words in the code."""
    return any(output.output_type == "stream" and "GOT" in output.text for output in outputs)


def left_behind() -> list[str]:
    return [entry.path for place in PLACES if os.path.isdir(place) for entry in os.scandir(place) if NAME in entry.name]


def peak() -> int:
    """Bytes that this process has held at once since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


# ---- hostile cells -----------------------------------------------------------------------------------------------


def test_hostile_cells_leave_nothing_and_get_nowhere(tier: str) -> None:
    """Those that end nothing, in one notebook; the last cell is honest."""
    cells = [c for c in CELLS if not c.get("ends") and not c.get("alone") and tier in c.get("tiers", "ABC")]
    assert len(cells) > 15
    before = forget_peak()
    *outputs, last = run(tier, *(cell["code"] for cell in cells), "6 * 7", outputs_mb=200)
    assert peak() - before < MEMORY
    wrong = {
        cell["id"]: said(found)[-600:]
        for cell, found in zip(cells, outputs, strict=True)
        if got(found) or not re.search(cell["says"], said(found), re.DOTALL)
    }
    assert wrong == {}
    assert last[0]["data"] == {"text/plain": "42"}
    assert left_behind() == []


@pytest.mark.slow
def test_any_source_is_its_cells_own_trouble() -> None:
    sources = [
        "'\ud800'",
        "1\0",
        "(" * 10**6,
        "x = " + "-" * 10**5 + "1",
        "%%nothing\n1",
        "!" * 10**3,
        "?" * 100,
        "\x1b[",
    ]
    *outputs, last = run("A", *sources, "6 * 7")
    assert all(output.output_type in ("error", "stream", "execute_result") for found in outputs for output in found)
    assert last[0]["data"] == {"text/plain": "42"}


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(cell, id=cell["id"], marks=[] if cell["id"] == "own-answer" else pytest.mark.slow)
        for cell in CELLS
        if cell.get("ends") or cell.get("alone")
    ],
)
def test_a_cell_may_end_its_own_notebook_only(tier: str, cell: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbgrader_execute, "GRACE", 3.0)
    before = forget_peak()
    first, then = run(tier, cell["code"], "6 * 7", timeout=3 if cell.get("ends") else 60)
    assert peak() - before < MEMORY
    assert not got(first)
    assert re.search(cell["says"], said(first), re.DOTALL), said(first)[-600:]
    if cell.get("ends"):
        assert then[0]["ename"] == "NotRun"
    assert left_behind() == []
    assert said(run(tier, "6 * 7")).count("42") == 1  # the next one's


def test_all_cells_together_put_out_no_more_than_a_notebook_may(tier: str) -> None:
    *kept, over, behind = run(tier, *["print('x' * 900_000)"] * 4, outputs_mb=2)
    assert [len(outputs) for outputs in kept] == [1, 1]
    assert over[0]["evalue"] == "The notebook put out more than 2 MiB."
    assert behind[0]["ename"] == "NotRun"


@pytest.mark.slow
def test_a_notebook_has_no_more_time_than_it_may() -> None:
    first, second, third = run("A", "import time; time.sleep(60)", "while True: pass", "1", seconds=3, timeout=2)
    assert first[-1]["ename"] == second[-1]["ename"] == "CellTimeoutError"
    assert third[0]["evalue"] == "Not run: the notebook's 3 seconds were over."


# ---- what comes back ---------------------------------------------------------------------------------------------


def test_outputs_are_made_of_nothing_but_labelled_texts() -> None:
    made = nbgrader_execute._outputs
    assert list(made(["0 stream stdin", "x", "stream stdout", "x", "00000 stream stdout", "x"], 1)) == []
    assert list(made(["0 stream stdout\n", "x", "\u0660 stream stdout", "x", "lonely"], 1)) == []
    (error,) = made(["0 error traceback", "a\nb"], 1)
    assert (error.ename, error.evalue, error.traceback) == ("", "", ["a", "b"])
    (shown,) = made(["7 execute_result image/png", "QUJD\n", "7 execute_result text/html", "<b>"], 5)
    assert (shown.data, shown.execution_count) == ({"image/png": "QUJD\n"}, 5)
    (none,) = made(["7 display_data image/png", '"><script>', "7 display_data text/html", "<b>"], 5)
    assert none.data == {"text/plain": "[image/png, text/html: not shown]"}
    (long,) = made(["7 display_data image/png", " " * 2**20 + '"'], 5)  # no pattern may look at it a million times
    assert long.data == {"text/plain": "[image/png: not shown]"}


# ---- honest cells ------------------------------------------------------------------------------------------------

HONEST = {
    "print('a')\nimport sys\nprint('b', file=sys.stderr)\n3": ["a", "b", "3"],
    "x = 1;\nx;": [],
    "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);": ["image/png"],
    "figure, axes = plt.subplots()\nplt.show()": ["image/png"],
    "1 / 0": ["ZeroDivisionError"],
    "def f(:": ["SyntaxError"],
    "from IPython.display import HTML, Markdown, Latex, clear_output, display": [],
    "display(Markdown('**a**'), Latex('$x$'), HTML('<b>b</b>'))": ["**a**", "$x$", "IPython.core.display.HTML"],
    "handle = display('x', display_id=True)\nhandle.update('y')": ["'y'"],
    "print('gone')\nclear_output(wait=True)\nprint('stays')": ["stays"],
    "%%capture kept\nprint('kept')": [],
    "kept.stdout": ["kept"],
    "from tqdm.auto import tqdm\nfor _ in tqdm(range(3)): pass": ["100%"],
    "%%time\nx = 1": ["CPU times"],
    "open('own.txt', 'w').write('mine')\nimport shutil\nshutil.copy('own.txt', 'copy.txt')": ["copy.txt"],
    "import solution.losses, helper\nhelper.VALUE, solution.losses.__file__": ["(7, "],
    "import os; print(*sorted(os.listdir('.')))": ["copy.txt helper.py own.txt picture.png solution tests"],
    "import torch\n(torch.rand(300, 300, requires_grad=True) @ torch.rand(300, 300)).sum().backward()": [],
    # what `Lab` does beside training: a lock, results, threads
    "from hw7.support.files import alone_in, read_json, write_json\nfrom pathlib import Path\n"
    "with alone_in(Path('out')):\n    write_json(Path('out/a.json'), 'read')\nread_json(Path('out/a.json'))": ["read"],
    "from concurrent.futures import ThreadPoolExecutor\n"
    "with ThreadPoolExecutor(4) as pool:\n    print(sum(pool.map(len, ['ab'] * 50)))": ["100"],
    "exit()": [],
    "import sys; sys.exit(1)": ["SystemExit", "To exit"],
    "def counted():\n    yield 1\nsum(counted())": ["1"],
}  # fmt: skip


def test_honest_cells_are_shown_as_jupyter_shows_them(tier: str, tmp_path: Path) -> None:
    for name, text in (("solution/losses.py", ""), ("helper.py", "VALUE = 7"), ("picture.png", "x"), ("out/r", "x")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "hw7.ipynb").write_text("{}")
    (tmp_path / "tests").write_text("a file where the course has a folder")
    tests = tmp_path.with_name(f"{tmp_path.name}-tests")
    tests.mkdir()
    (tests / "tasks.json").write_text("[]")
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    outputs = run(tier, *HONEST, folder=tmp_path, public_tests=str(tests))
    wrong = {
        source: said(found)[-400:]
        for (source, words), found in zip(HONEST.items(), outputs, strict=True)
        if not all(word in said(found) for word in words) or len(found) > max(1, len(words))
    }
    assert wrong == {}
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name in ("own.txt", "copy.txt")) == []


@pytest.mark.parametrize("name", ["sitecustomize", "IPython", "torch", "matplotlib", "numpy", "hw7_jail", "traitlets"])
def test_a_file_named_like_a_package_is_its_own_notebooks_trouble(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('mine')")
    (outputs,) = run("A", "1 + 1", folder=tmp_path)
    assert outputs[0]["data"] == {"text/plain": "2"}


def test_what_is_too_much_to_be_sent_along_is_said_in_the_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ("a" * 90)).mkdir()
    (tmp_path / ("a" * 90) / ("b" * 90)).mkdir()
    (tmp_path / ("a" * 90) / ("b" * 90) / ("c" * 90)).write_text("has a path that is too long, and stays here")
    assert said(run("A", "1 + 1", folder=tmp_path)).count('"2"') == 1
    monkeypatch.setattr(nbgrader_execute, "MAX_READ", 1000)
    (tmp_path / "large").write_bytes(bytes(1001))
    (outputs,) = run("A", "1 + 1", folder=tmp_path)
    assert "the files beside the notebook have more than 1,000 bytes" in outputs[0]["evalue"]
    (tmp_path / "large").unlink()
    monkeypatch.setattr(nbgrader_execute, "MAX_FILES_READ", 2)
    for number in range(3):
        (tmp_path / f"small{number}").touch()
    (outputs,) = run("A", "1 + 1", folder=tmp_path)
    assert "there are more than 2 files beside" in outputs[0]["evalue"]


# ---- where it may run --------------------------------------------------------------------------------------------


def test_without_namespaces_nothing_runs_unless_it_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"A": "no namespaces here", "B": "bubblewrap is not installed", "C": "works", "D": "works"}
    monkeypatch.setattr(nbgrader_execute, "best_tier", lambda: ("C", reasons))
    nbgrader_execute.why_not.cache_clear()
    try:
        with pytest.raises(HW7Error, match=r"A: no namespaces here; tier B: bubblewrap is not.*c\.JailedExecute\.tier"):
            run("", "1 + 1")
    finally:
        nbgrader_execute.why_not.cache_clear()
