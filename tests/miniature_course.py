"""A course in miniature: twelve students, from the assignment to feedback, through nbgrader's own commands, an exchange
and `hw7-grade`. `finished` is the whole course, each step once.

The notebook is the released one without the cells that train: those take minutes for each student.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbgrader import api
from submissions import REFERENCE, Files, mutants, reference_files, reference_weights, with_code, write

from autograder.course import nbgrader
from autograder.rubric import load_rubric
from hw7.handin.notebook_repair import grade_id, to_bytes
from hw7.solution import PROJECT

COURSE = "compression"
CELL_STARTS = 5  # a cell may take as long as so many starts of the grader; most take less than one
CANARY = "canary-5f1d0c"  # stands in what no notebook may read
Cell = dict[str, Any]


# ---- who hands in what -----------------------------------------------------------------------------------------


@dataclass
class Student:
    """points: what `hw7-grade` gives. change: what the student does to the notebook's cells after answering."""

    points: float
    files: Files = field(default_factory=lambda: dict(reference_files()))
    weights: bytes | None = field(default_factory=reference_weights)
    answers: int = 6
    deleted: int = 0  # answers that the change deletes
    change: Callable[[list[Cell]], object] = lambda cells: None
    raw: bytes = b""  # in place of a notebook

    @property
    def written(self) -> float:
        return 0.0 if self.raw else GIVEN * (self.answers - self.deleted)


GIVEN = 1.5  # of 2 points, to each answer


def mutant(name: str) -> Files:
    (entry,) = [entry for entry in mutants() if entry.id == name]
    return dict(entry.files)


def stubs(*modules: str) -> Files:
    released = PROJECT / "assignments" / "hw7"
    return {f"solution/{name}.py": (released / "solution" / f"{name}.py").read_bytes() for name in modules}


def code(source: str) -> Cell:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}


def place(cells: list[Cell], name: str) -> int:
    return next(i for i, cell in enumerate(cells) if grade_id(cell) == name)


def careless(cells: list[Cell]) -> None:
    """A deleted task and question, an untouched copy of a question before its answer, a moved cell."""
    for name in ("task-1-1", "question-2"):
        del cells[place(cells, name)]
    answer = place(cells, "question-3")
    cells.insert(answer, json.loads(json.dumps(cells[answer])) | {"source": "YOUR ANSWER HERE", "id": "copy"})
    cells.append(cells.pop(place(cells, "task-3-1")))


def cheat(cells: list[Cell]) -> None:
    """Each task's cell says that all points are there, and more."""
    for cell in cells:
        if grade_id(cell).startswith("task"):
            cell["metadata"]["nbgrader"]["points"] = 1000
            cell |= {"source": "1000.0", "outputs": [_result("1000.0")], "execution_count": 1}


def hostile(cells: list[Cell], *sources: str, at: int) -> None:
    """Own cells at a place; and before the last two tasks, which look at images for a while, the kernel ends itself."""
    end = place(cells, "task-5-1")
    cells[end:end] = [code(EXITS), code("1 + 1")]
    cells[at:at] = map(code, sources)


def _result(text: str) -> Cell:
    return {"output_type": "execute_result", "data": {"text/plain": text}, "metadata": {}, "execution_count": 1}


LOOPS = "reached = 'before the loop'\nwhile True:\n    pass"
EXITS = "import os; os._exit(0)"
FLOODS = "for _ in range(300):\n    print('x' * 100_000)"
LOOKS = """
import os, socket, sys
def tried(what, attempt):
    try:
        print(what, "GOT", attempt())
    except BaseException as error:
        print(what, "failed:", type(error).__name__)
for path in {paths}:
    tried(path, lambda: open(path, "rb").read()[:100])
    tried("list " + path, lambda: os.listdir(os.path.dirname(path)))
    tried("write " + path, lambda: open(path, "ab").write(b"x"))
tried("connect", lambda: socket.create_connection(("127.0.0.1", {port}), 2))
tried("library", lambda: open(sys.modules["hw7"].__file__, "ab"))
tried("grader", lambda: __import__("autograder"))
print("environment", sorted(name for name in os.environ if {canary!r} in os.environ[name]))
tried("root", lambda: os.listdir("/"))
print("home", os.path.expanduser("~"))
open("own.txt", "w").write("a notebook may write in its own copy")
"""


def class_of(paths: list[str], port: int) -> dict[str, Student]:
    looks = LOOKS.format(paths=paths, port=port, canary=CANARY)
    rubric = {task.id: task.out_of for task in load_rubric().tasks}
    first_two = sum(points for task, points in rubric.items() if task < "3")
    last = rubric["5.1"] + rubric["5.2"]
    half = reference_files() | stubs("pruning", "quantization")
    # kd_loss with the two sides of the divergence exchanged: wrong wherever values count, also inside the step of 2.2.
    reversed_loses = 5 + 4 + 3  # in 2.1; what 2.2 makes of it is not charged again
    return {
        "perfect": Student(100),
        "stubs": Student(0, stubs("__init__", "models", "losses", "pruning", "quantization"), None, answers=0),
        "half": Student(first_two, dict(half), None, answers=3),
        "attached": Student(100 - 1, mutant("3.1-not-detached")),
        "careless-no-refusal": Student(100 - 1, mutant("3.4-no-check"), change=careless, deleted=1),
        "reversed": Student(100 - reversed_loses, mutant("2.1-reversed-divergence")),
        "no-weights": Student(100 - last, weights=None),
        "cheat": Student(0, stubs("__init__", "models", "losses", "pruning", "quantization"), None, 0, change=cheat),
        "broken": Student(100, raw=b'{"cells": [\n<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> laptop\n]}'),
        "exits": Student(
            100 - rubric["2.1"] - rubric["2.2"],
            with_code({"losses.py": "import os\n\n\ndef kd_loss(*inputs, **options):\n    os._exit(0)\n"}),
        ),
        "hostile-loops": Student(100, change=lambda cells: hostile(cells, LOOPS, at=2)),
        "hostile-looks": Student(100, change=lambda cells: hostile(cells, looks, FLOODS, at=3)),
    }


# ---- the course ------------------------------------------------------------------------------------------------

Score = tuple[float | None, float, bool]
Scores = dict[str, dict[str, Score]]


@dataclass
class Course:
    """The folders, and the commands in them."""

    base: Path
    students: Mapping[str, Student] = field(default_factory=dict)
    typed: set[str] = field(default_factory=set)  # the commands
    before: Scores = field(default_factory=dict)  # what the gradebook said before nbgrader's autograde
    after: Scores = field(default_factory=dict)  # and after it

    @property
    def folder(self) -> Path:
        return self.base / COURSE

    def run(self, *words: str, cwd: Path | None = None, fails: bool = False) -> str:
        """A command as it is typed; what it prints."""
        self.typed.add(" ".join(words))
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.base / "home"), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "SECRET": CANARY,
            "HW7_CACHE": str(self.base / "cache"),
            "JUPYTER_CONFIG_DIR": str(self.base / "jupyter"), "JUPYTER_DATA_DIR": str(self.base / "jupyter"),
            "JUPYTER_RUNTIME_DIR": str(self.base / "jupyter"),
        }  # fmt: skip
        done = subprocess.run(
            words, cwd=cwd or self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def nbgrader(self, *words: str, **options: Any) -> str:
        return self.run("nbgrader", *words, **options)

    def gradebook(self) -> api.Gradebook:
        return api.Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}", COURSE)

    def scores(self) -> Scores:
        """student -> cell -> (automatic score, worth, whether a person should look)."""
        with self.gradebook() as gradebook:
            return {
                submission.student_id: {
                    grade.name: (grade.auto_score, grade.max_score, grade.needs_manual_grade)
                    for notebook in submission.notebooks
                    for grade in notebook.grades
                }
                for submission in gradebook.assignment_submissions("hw7")
            }

    def graded(self, student: str) -> list[Cell]:
        """The cells of a student's notebook after autograde."""
        path = self.folder / "autograded" / student / "hw7" / "hw7.ipynb"
        notebook = nbformat.read(path, as_version=4)
        return list(notebook.cells)


def make_small(notebook: Path) -> None:
    """Leaves out the cells that train."""
    content = json.loads(notebook.read_bytes())
    content["cells"] = [
        cell
        for cell in content["cells"]
        if cell["cell_type"] == "markdown" or grade_id(cell) or "lab = Lab()" in "".join(cell["source"])
    ]
    notebook.write_bytes(to_bytes(content))


def answer(notebook: Cell, student: Student) -> bytes:
    if student.raw:
        return student.raw
    for cell in notebook["cells"]:
        name = grade_id(cell)
        if name.startswith("question") and int(name.removeprefix("question-")) <= student.answers:
            cell["source"] = f"Because of what I measured ({name})."
    student.change(notebook["cells"])
    return to_bytes(notebook)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The whole course, each step once; the tests below look at what it left."""
    made = Course(tmp_path_factory.mktemp("course"))
    for name in ("home", "jupyter", "exchange"):
        (made.base / name).mkdir()
    (made.base / "exchange").chmod(0o777)
    begun = time.monotonic()
    made.run("hw7-grade", "course", COURSE, cwd=made.base)
    cell_seconds = max(20, round(CELL_STARTS * (time.monotonic() - begun)))
    make_small(made.folder / nbgrader.SOURCE / "hw7.ipynb")
    exchange = f"--Exchange.root={made.base / 'exchange'}"
    with (made.folder / "nbgrader_config.py").open("a") as config:
        config.write(f"\nc.Exchange.root = {str(made.base / 'exchange')!r}\n")
        config.write(f"c.JailedExecute.timeout = {cell_seconds}\n")
    made.nbgrader("generate_assignment", "hw7")
    made.nbgrader("release_assignment", "hw7")

    # A student fetches it; the others have the same folder.
    fetched = made.base / "fetched"
    fetched.mkdir()
    made.nbgrader("fetch_assignment", "hw7", f"--course={COURSE}", exchange, cwd=fetched)
    released = (fetched / "hw7" / "hw7.ipynb").read_bytes()
    (made.base / "notebook.json").write_bytes(released)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        secrets = [
            made.folder / "gradebook.db",
            made.folder / "source" / "hw7" / "hw7.ipynb",
            made.base / "home" / "key",
        ]
        secrets[-1].write_text(CANARY)
        secrets.append(REFERENCE / "solution" / "losses.py")
        made.students = class_of([str(path) for path in secrets], server.getsockname()[1])
        for name, student in made.students.items():
            folder = made.base / "students" / name / "hw7"
            shutil.copytree(fetched / "hw7", folder)
            write(student.files, student.weights, folder)
            (folder / "hw7.ipynb").write_bytes(answer(json.loads(released), student))
        submit_all(made, exchange)
        made.nbgrader("collect", "hw7")
        made.run("hw7-grade", "run", "submitted", "--out", "grades")
        # Automatic points first, then nbgrader: it must leave them as they are.
        made.run("hw7-grade", "export", "--to", "nbgrader", "--target", "gradebook.db", "--out", "grades")
        made.before = made.scores()
        made.nbgrader("autograde", "hw7", "--student=hostile-*")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()  # nobody came
    made.nbgrader("autograde", "hw7", "--no-execute")
    made.after = made.scores()
    made.run("hw7-grade", "export", "--to", "nbgrader", "--target", "gradebook.db", "--out", "grades")
    grade_by_hand(made)
    made.nbgrader("export")
    made.run("hw7-grade", "export", "--to", "html", "--out", "grades")
    made.nbgrader("generate_feedback", "hw7")
    made.nbgrader("release_feedback", "hw7")
    return made


def submit_all(made: Course, exchange: str) -> None:
    """`nbgrader submit hw7` in each student's folder: nbgrader's own entry point, in one process for all of them."""
    lines = [
        "import os, sys",
        "from nbgrader.apps.nbgraderapp import NbGraderApp",
        "for name in sys.argv[2:]:",
        f"    os.chdir(os.path.join({str(made.base / 'students')!r}, name))",
        "    NbGraderApp.clear_instance()",
        f"    words = ['submit', 'hw7', '--course={COURSE}', sys.argv[1], '--student=' + name]",
        "    NbGraderApp.launch_instance(words)",
    ]
    made.run(sys.executable, "-c", "\n".join(lines), exchange, *made.students, cwd=made.base)


def grade_by_hand(made: Course) -> None:
    """What a teacher does in the formgrader: points for what is waiting for a person."""
    with made.gradebook() as gradebook:
        for submission in gradebook.assignment_submissions("hw7"):
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    if grade.needs_manual_grade:
                        grade.manual_score, grade.needs_manual_grade = GIVEN, False
        gradebook.db.commit()
