"""Release: what students receive, made from the reference solutions, the rubric and the library.

    hw7/                        the library, with the checks
    assignments/hw7/            in the shape of a submission: stubs, bugs, the notebook, public tests with their data
    docs/, README.md, …         the handout, how to begin, how to install

`release(OUT)` writes that tree. Into the project itself it writes `assignments/hw7/` only: the rest is there already.
Nothing is written before every file has been looked through for answers (`leaks`).
"""

import json
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import torch

from autograder.course import ASSIGNMENT, REFERENCE
from autograder.course.differences import differences, same
from autograder.course.files import files_below, rendered
from autograder.course.leaks import Scanner, listed
from autograder.course.nbgrader import FOR_PACK, with_check_cells
from autograder.course.plain_tests import filled_in
from autograder.course.stripping import secrets, stated, strip
from autograder.rubric import Rubric, load_rubric
from autograder.tasks.table import cases
from hw7 import HW7Error
from hw7.checks.public import write_tasks
from hw7.checks.storage import save_cases
from hw7.solution import NOTEBOOK, PROJECT, need_clone
from hw7.support.files import write_file

PUBLIC_SEED = b"public"
SOURCES = (".py", ".ipynb")  # of the reference: what is stripped and released; weights are not
GIVEN = ("LICENSE", "constraints.txt", "docs/colab.md", "docs/handout.md", "docs/students.md")
LIBRARY = (".py", ".toml", ".j2")
# Beside what the library needs. Low bounds: where Jupyter is there already, on Colab for example, it stays as it is.
FOR_STUDENTS = ("pytest>=8", "ipykernel>=6", "jupyterlab>=4")
CASES = PROJECT / ASSIGNMENT / "tests"
Files = dict[str, bytes]


def release(out: Path, check: bool = False) -> list[str]:
    """Writes the students' tree to `out`, or with `check` only compares; the names of its files.

    `out` may be the project itself; then only `assignments/hw7/` is meant. What stands there and belongs to no release
    is removed in the project's `assignments/hw7/`, and refused elsewhere.

    Raises HW7Error where something would give an answer away, where `check` finds differences (each is named), or
    where `out` holds other files.
    """
    need_clone(REFERENCE, "pyproject.toml", *GIVEN)
    files = student_tree()
    inside = out.resolve() == PROJECT
    if inside:
        files = {name: data for name, data in files.items() if name.startswith(f"{ASSIGNMENT}/")}
    if out.exists() and not out.is_dir():
        raise HW7Error(f"{out} is a file: name a folder")
    there = files_below(out / ASSIGNMENT if inside else out, out)
    if check:
        if found := list(differences(files, there)):
            raise HW7Error(f"{out} is not what is released now: {listed(found, 'difference')}")
        return sorted(files)
    extra = sorted(there.keys() - files.keys())
    if extra and not inside:
        raise HW7Error(f"{out} holds other files ({', '.join(extra[:5])}); name an empty folder")
    for name in extra:
        (out / name).unlink()
    for name, data in files.items():
        if name not in there or not same(name, data, there[name]):
            write_file(out / name, data)
    return sorted(files)


def student_tree(rubric: Rubric | None = None) -> Files:
    """Every file that students receive, by its path in their tree. Raises HW7Error where one gives an answer away."""
    rubric = rubric or load_rubric()
    files = {name: (PROJECT / name).read_bytes() for name in GIVEN}
    files |= files_below(PROJECT / "hw7", PROJECT, LIBRARY)
    hidden, public = list[str](), list[str]()
    for name, text in reference_sources().items():
        place = f"{REFERENCE}/{name}"
        files[f"{ASSIGNMENT}/{name}"] = filled_in(strip(text, place)).encode()
        hidden += secrets(text, place)
        public += stated(text, place) if name.endswith(".py") else []
    files |= {f"{ASSIGNMENT}/tests/{name}": data for name, data in public_tests(rubric).items()}
    notebook = with_check_cells(json.loads(files[f"{ASSIGNMENT}/{NOTEBOOK}"]), rubric)
    files |= {f"{ASSIGNMENT}/{name}": notebook for name in (NOTEBOOK, FOR_PACK)}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    files["pyproject.toml"] = rendered("pyproject.toml", project=project, extra=list(FOR_STUDENTS))
    files["README.md"] = rendered("README.md", tasks=rubric.tasks)
    Scanner(hidden, public).refuse(files)
    return dict(sorted(files.items()))


def reference_sources() -> dict[str, str]:
    """The hand-written files of the reference that have a student's version, by their path in a submission."""
    root = PROJECT / REFERENCE
    return {name: data.decode() for name, data in files_below(root, root, SOURCES).items()}


def public_tests(rubric: Rubric) -> Files:
    """The data of the public tests: points and limits, and for each task its questions with the answers expected.

    Where this processor rounds in another way than the one that made the committed answers, those stay.
    """
    files = {"tasks.json": write_tasks(rubric.tasks)}
    for task in rubric.tasks:
        if task.has_cases:
            name = f"cases/{task.id}.safetensors"
            new, committed = _cases(task.id, task.check, json.dumps(dict(task.parameters))), CASES / name
            old = committed.read_bytes() if committed.is_file() else b""
            files[name] = old if same(name, new, old) else new
    return files


@cache
def _cases(task: str, check: str, parameters: str) -> bytes:
    """Made on one thread, which makes them the same at every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        made = cases(task, check, json.loads(parameters), PUBLIC_SEED)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cases.safetensors"
            save_cases(made, path)
            return path.read_bytes()
    finally:
        torch.set_num_threads(threads)
