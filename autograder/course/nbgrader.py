"""`hw7-grade course DIR`: a course folder for nbgrader, ready to use: the assignment as its source, its configuration.

What the configuration says is said here, in `configure`, so that a course made earlier follows a newer grader.
"""

import json
import re
from pathlib import Path
from typing import Any

from autograder.course.files import files_below
from autograder.rubric import Rubric, load_rubric
from hw7 import HW7Error
from hw7.handin.notebook_repair import Notebook, grade_id, to_bytes
from hw7.solution import NOTEBOOK, PROJECT, need_clone
from hw7.support.files import read_json, write_file

ASSIGNMENT = PROJECT / "assignments" / "hw7"
CONFIG, SOURCE = "nbgrader_config.py", "source/hw7"
FOR_PACK = "tests/notebook.json"  # the same notebook, for `hw7 pack`; not named as one, or nbgrader would take it
RELEASED = f"release/hw7/{NOTEBOOK}"  # as nbgrader writes it
SECONDS = 600  # for one cell of the report, on a slow machine

_CONFIG = """\
# nbgrader's configuration, made by `hw7-grade course`. Yours to add to; below are the lines that you may want.
from pathlib import Path

from autograder.course.nbgrader import configure

c = get_config()  # noqa: F821 (nbgrader gives it)
configure(c, course={course}, root=Path(__file__).parent)

# c.Exchange.root = "/srv/nbgrader/exchange"
# c.JailedExecute.timeout = 600    # seconds for one cell of a student's notebook
# c.JailedExecute.seconds = 1200   # seconds for all cells together
"""


def set_up(directory: Path, course: str = "", rubric: Rubric | None = None, assignment: Path = ASSIGNMENT) -> list[str]:
    """Writes source/hw7 and nbgrader_config.py; the names of the files. A second time, it brings source/hw7 up to date.

    course: nbgrader's course id; default: the folder's name. Tasks are worth what the rubric says, as in the export.
    Raises HW7Error where there is no assignment, or a name that nbgrader cannot use.
    """
    course = course or directory.resolve().name
    if not re.fullmatch(r"[\w.-]+", course):
        raise HW7Error(f"the course's name {course!r} may have letters, digits, '.', '-' and '_' only: say --name")
    if assignment == ASSIGNMENT:
        need_clone("assignments")
    if not (assignment / NOTEBOOK).is_file():
        raise HW7Error(f"{assignment / NOTEBOOK} is missing: make the assignment with `hw7-grade release`")
    files = {f"{SOURCE}/{name}": data for name, data in files_below(assignment, assignment).items()}
    notebook = with_check_cells(read_json(assignment / NOTEBOOK), rubric or load_rubric())
    files |= {f"{SOURCE}/{name}": notebook for name in (NOTEBOOK, FOR_PACK) if f"{SOURCE}/{name}" in files}
    if not (directory / CONFIG).exists():  # else it may have lines of the teacher's own
        files[CONFIG] = _CONFIG.format(course=json.dumps(course)).encode()
    for name, data in files.items():
        write_file(directory / name, data)
    return sorted(files)


def with_check_cells(notebook: Notebook, rubric: Rubric) -> bytes:
    """The notebook, in which every task of the rubric gets a locked cell that checks it, worth the rubric's points.

    A task that has none gets one behind the cell of the task before it; the first task, before all others.
    """
    from autograder.exports.nbgrader import cell_name

    cells = notebook["cells"]
    behind = next((place for place, cell in enumerate(cells) if grade_id(cell).startswith(cell_name(""))), len(cells))
    for task in rubric.tasks:
        name = cell_name(task.id)
        place = next((place for place, cell in enumerate(cells) if grade_id(cell) == name), None)
        if place is None:
            place = behind
            cells.insert(place, _check_cell(task.id, name))
        points = task.out_of
        cells[place]["metadata"]["nbgrader"]["points"] = int(points) if points == int(points) else points
        behind = place + 1
    return to_bytes(notebook)


def _check_cell(task: str, name: str) -> dict[str, Any]:
    mark = {"cell_type": "code", "grade": True, "grade_id": name, "locked": True, "points": 0}
    mark |= {"schema_version": 3, "solution": False, "task": False}
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {"nbgrader": mark},
        "outputs": [],
        "source": [f'lab.check("{task}")'],
    }


def configure(c: Any, course: str, root: Path) -> None:
    """Sets up nbgrader's configuration object `c` for this course. root: the course's folder."""
    from nbgrader.converters import Autograde
    from nbgrader.preprocessors import AssignLatePenalties, Execute, OverwriteCells, SaveAutoGrades

    from autograder.course.nbgrader_execute import JailedExecute
    from autograder.course.nbgrader_steps import Harmless, ReadRepaired, SaveAnswers

    c.CourseDirectory.course_id = course
    c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", ".pytest_cache", ".git", "out"]
    c.Execute.timeout = SECONDS
    # What students wrote under solution/ is not replaced by the stubs of the same names.
    source = root.resolve() / SOURCE
    own = [path.relative_to(source).as_posix() for path in sorted((source / "solution").rglob("*.py"))]
    c.Autograde.exclude_overwriting = {"hw7": own}
    c.Autograde.exporter_class = ReadRepaired
    c.ReadRepaired.released = str(root.resolve() / RELEASED)
    c.JailedExecute.public_tests = str(source / "tests")
    # Days late come from `hw7-grade late` with the export; nbgrader's own step would take them back.
    ours = {Execute: (JailedExecute, Harmless), SaveAutoGrades: (SaveAnswers,), AssignLatePenalties: ()}
    steps = Autograde().autograde_preprocessors
    c.Autograde.autograde_preprocessors = [own for step in steps for own in ours.get(step, (step,))]
    # Cells are as released already; this step would fail where the rubric's points changed since.
    c.Autograde.sanitize_preprocessors = [s for s in Autograde().sanitize_preprocessors if s is not OverwriteCells]
