"""A course in miniature: twelve submissions from the assignment to feedback, through nbgrader's own commands, an
exchange and `hw7-grade`. Every score is the expected one, and no notebook gets out of its jail.

The notebook is the released one without the cells that train: those take minutes for each student.
"""

from __future__ import annotations

import json
import os
import re
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
from submissions import REFERENCE, Files, mutants, reference_files, reference_weights, with_code, write

from hw7.handin import pack
from hw7.handin.notebook_repair import grade_id, to_bytes
from hw7.solution import PROJECT

pytest.importorskip("nbgrader")
from nbgrader import api
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from autograder.course import nbgrader, nbgrader_kernel
from autograder.exports.nbgrader import cell_name
from autograder.intake import submission
from autograder.intake.layouts import find_submissions
from autograder.rubric import load_rubric

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(nbgrader_kernel.why_not()), reason="no jail for notebooks here"),
]

COURSE = "compression"
TEACHING_ASSISTANTS = PROJECT / "docs" / "teaching-assistants.md"
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
print("home", os.path.expanduser("~"), os.listdir("/"))
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


# ---- what came of it -------------------------------------------------------------------------------------------


def test_every_score_is_the_expected_one(finished: Course) -> None:
    with finished.gradebook() as gradebook:
        totals = {each.student_id: (each.score, each.max_score) for each in gradebook.assignment_submissions("hw7")}
    wanted = {name: (pytest.approx(each.points + each.written), 112) for name, each in finished.students.items()}
    assert totals == wanted


def test_the_points_of_tasks_are_those_of_the_grader_in_either_order(finished: Course) -> None:
    rubric = load_rubric()
    graded = {row["student"]: row for row in rows(finished.folder / "grades" / "grades.csv")}
    assert set(graded) == set(finished.students)
    # exported before nbgrader's autograde, after it, and once more
    for scores in (finished.before, finished.after, finished.scores()):
        for student, row in graded.items():
            for task in rubric.tasks:
                points, worth, _ = scores[student][cell_name(task.id)]
                assert points == pytest.approx(float(row[task.id])), (student, task.id)
                assert worth == task.out_of


def test_autograde_again_changes_no_points_also_where_the_rubric_has_others_now(finished: Course) -> None:
    before = finished.scores()
    with finished.gradebook() as gradebook:
        gradebook.find_grade_cell("task-2-1", "hw7", "hw7").max_score = 30
        gradebook.db.commit()
    finished.nbgrader("autograde", "hw7", "--no-execute", "--student=perfect", "--force")
    with finished.gradebook() as gradebook:
        gradebook.find_grade_cell("task-2-1", "hw7", "hw7").max_score = before["perfect"]["task-2-1"][1]
        gradebook.db.commit()
    assert finished.scores() == before | {"perfect": manual_again(before["perfect"])}


def manual_again(scores: dict[str, Score]) -> dict[str, Score]:
    """nbgrader asks a person to look again at what has a manual score."""
    return {name: (auto, worth, name.startswith("question") or look) for name, (auto, worth, look) in scores.items()}


def rows(path: Path) -> list[dict[str, str]]:
    import csv

    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_nbgraders_own_export_says_the_same(finished: Course) -> None:
    table = {row["student_id"]: row for row in rows(finished.folder / "grades.csv")}
    for name, student in finished.students.items():
        assert float(table[name]["score"]) == pytest.approx(student.points + student.written)
        assert float(table[name]["max_score"]) == 112


def test_the_formgrader_can_show_it(finished: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the interface that its pages ask."""
    monkeypatch.chdir(finished.folder)
    answers = NbGraderAPI(CourseDirectory(root=str(finished.folder), course_id=COURSE))
    (assignment,) = answers.get_assignments()
    assert (assignment["name"], assignment["num_submissions"], assignment["max_score"]) == ("hw7", 12, 112)
    submissions = {each["student"]: each for each in answers.get_submissions("hw7")}
    for name, student in finished.students.items():
        assert submissions[name]["autograded"], name
        assert submissions[name]["score"] == pytest.approx(student.points + student.written)
        assert submissions[name]["code_score"] == pytest.approx(student.points)
        assert submissions[name]["written_score"] == pytest.approx(student.written)
    notebooks = answers.get_notebook_submissions("hw7", "hw7")
    assert {each["student"] for each in notebooks} == set(finished.students)
    assert len(answers.get_students()) == 12


def test_each_student_gets_feedback(finished: Course) -> None:
    for name in finished.students:
        page = finished.folder / "feedback" / name / "hw7" / "hw7.html"
        text = page.read_text()
        assert "task-2-1" in text, name
        assert "question-6" in text, name
        assert "<script>alert" not in text
    released = list((finished.base / "exchange" / COURSE / "feedback").glob("*.html"))
    assert len(released) == 12


def test_the_students_zip_is_graded_like_what_was_collected(finished: Course, tmp_path: Path) -> None:
    for name in finished.students:
        folder = finished.base / "students" / name / "hw7"
        pack.pack(folder, tmp_path / "zips" / f"{name}.zip", check=False, released=finished.base / "notebook.json")
    packed = {each.student: submission.take_in(each) for each in find_submissions(tmp_path / "zips").found}
    collected = {
        each.student: submission.take_in(each) for each in find_submissions(finished.folder / "submitted").found
    }
    assert set(packed) == set(collected) == set(finished.students)
    for name in finished.students:
        assert packed[name].digest == collected[name].digest, name


def test_what_students_wrote_under_solution_is_not_replaced_by_stubs(finished: Course) -> None:
    for name, student in finished.students.items():
        for path, data in student.files.items():
            assert (finished.folder / "autograded" / name / "hw7" / path).read_bytes() == data


def test_the_page_for_teaching_assistants_has_the_commands_that_were_typed(finished: Course) -> None:
    """All but those that would open a browser, need a student's own name, or are a student's."""
    page = TEACHING_ASSISTANTS.read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    others = {"cd compression", "jupyter lab", "hw7 check --solution hw7", "hw7 pack hw7 --repair"}
    exchange = f" --Exchange.root={finished.base / 'exchange'}"
    typed = {line.replace(exchange, "").replace("hostile-*", "ada") for line in finished.typed}
    typed.add("nbgrader submit hw7 --course=compression")  # by nbgrader's entry point, for all in one process
    assert len(lines) > 15
    assert [line for line in lines if line not in typed | others] == []


# ---- notebooks that needed help ---------------------------------------------------------------------------------


def notes(cells: list[Cell]) -> str:
    return "\n".join(cell["source"] for cell in cells if "preflight" in cell["metadata"].get("tags", []))


def test_good_notebooks_get_no_note(finished: Course) -> None:
    for name in ("perfect", "stubs", "half", "attached"):
        assert notes(finished.graded(name)) == ""


def test_a_careless_notebook_was_mended_and_says_so(finished: Course) -> None:
    cells = finished.graded("careless-no-refusal")
    note = notes(cells)
    for what in (
        "task-1-1 was deleted",
        "question-2 was deleted",
        "question-3 was there twice",
        "task-3-1 had been moved",
    ):
        assert what in note
    names = [grade_id(cell) for cell in cells if grade_id(cell)]
    released = nbformat.read(finished.folder / "release" / "hw7" / "hw7.ipynb", as_version=4)
    assert names == [grade_id(cell) for cell in released.cells if grade_id(cell)]


def test_cells_that_were_made_to_say_all_points_say_what_they_should(finished: Course) -> None:
    cells = finished.graded("cheat")
    tasks = [cell for cell in cells if grade_id(cell).startswith("task")]
    assert all("lab.check" in cell["source"] and not cell["outputs"] for cell in tasks)
    assert "is locked and was edited" in notes(cells)


def test_a_notebook_that_cannot_be_read_costs_its_answers_only(finished: Course) -> None:
    assert "merge conflict in line 2" in notes(finished.graded("broken"))
    page = (finished.folder / "feedback" / "broken" / "hw7" / "hw7.html").read_text()
    assert "merge conflict in line 2" in page
    submitted = finished.folder / "submitted" / "broken" / "hw7" / "hw7.ipynb"
    assert submitted.read_bytes() == finished.students["broken"].raw


# ---- the jail --------------------------------------------------------------------------------------------------


def printed(cell: Cell) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def test_a_hostile_notebook_reaches_nothing(finished: Course) -> None:
    cells = finished.graded("hostile-looks")
    (looks,) = [cell for cell in cells if "def tried" in cell["source"]]
    said = printed(looks)
    assert "GOT" not in said
    assert said.count("failed:") == 4 * 3 + 3
    assert "environment []" in said
    assert "home /home/student" in said
    assert CANARY not in json.dumps([cell["outputs"] for cell in cells if cell["cell_type"] == "code"])
    assert not [output for output in looks["outputs"] if output["output_type"] == "error"]
    for name in ("gradebook.db", "source/hw7/hw7.ipynb"):
        assert (finished.folder / name).exists()
    assert not (finished.folder / "autograded" / "hostile-looks" / "hw7" / "own.txt").exists()


def test_a_kernel_that_ends_does_not_end_the_grading(finished: Course) -> None:
    cells = finished.graded("hostile-looks")
    (at,) = [i for i, cell in enumerate(cells) if cell["source"] == EXITS]
    ends, after = cells[at], cells[at + 1]
    assert ends["outputs"][-1]["ename"] == "DeadKernelError"
    assert after["outputs"][-1]["ename"] == "NotRun"


def test_a_flood_of_output_is_cut(finished: Course) -> None:
    (cell,) = [cell for cell in finished.graded("hostile-looks") if cell["source"] == FLOODS]
    assert printed(cell).endswith("[more than 8 MiB of output: cut off]\n")
    assert len(printed(cell)) < 9_000_000


def test_an_endless_cell_is_cut_and_the_cells_behind_it_run(finished: Course) -> None:
    cells = finished.graded("hostile-loops")
    place = next(i for i, cell in enumerate(cells) if cell["source"] == LOOPS)
    assert any(output.get("ename") in ("CellTimeoutError", "KeyboardInterrupt") for output in cells[place]["outputs"])
    tasks = [cell for cell in cells[place:] if grade_id(cell).startswith("task")][:12]
    assert [cell["outputs"][-1]["data"]["text/plain"] for cell in tasks] == [
        str(float(cell["metadata"]["nbgrader"]["points"])) for cell in tasks
    ]  # the public tests ran in the jail


def test_validate_says_what_is_right_and_what_is_not(finished: Course, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.base / "students" / "perfect" / "hw7", tmp_path / "hw7")
    command = re.search(r"`nbgrader (validate --.*)`", TEACHING_ASSISTANTS.read_text())
    assert command  # nbgrader's own limits are too short for a busy machine
    words = command[1].split()
    assert "Success! Your notebook passes all the tests." in finished.nbgrader(*words, cwd=folder)
    write(stubs("pruning"), None, folder)
    said = finished.nbgrader(*words, cwd=folder)
    assert "VALIDATION FAILED ON" in said
    assert 'lab.check("3.1")' in said
    assert 'lab.check("2.1")' not in said
