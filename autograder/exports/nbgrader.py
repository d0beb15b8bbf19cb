"""Automatic scores into nbgrader's gradebook: a grade cell for each task, all students in one transaction.

It goes through nbgrader's own tables (SQLAlchemy), in bulk: nbgrader's `add_*` and `find_*` methods ask and commit for
every cell of every student. What a person wrote there (manual scores, extra credit, comments) is never touched, and
what is there already is updated, so that the same export twice is the same gradebook. Points that `hw7-grade override`
gave are manual scores beside the automatic ones, and go when they are undone; days late are nbgrader's late penalty.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from uuid import uuid4

from autograder.exports.common import aligned, student_id
from autograder.grades import Grade
from autograder.marks import LATE, Mark, TaskMark
from autograder.rubric import Rubric
from hw7 import HW7Error

try:
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from nbgrader import api
    from sqlalchemy import URL, bindparam, create_engine, insert, or_, select, update
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.orm import Session
except ImportError as error:
    raise HW7Error(f"the gradebook needs nbgrader ({error}): pip install 'hw7[nbgrader]'") from error

ASSIGNMENT = NOTEBOOK = "hw7"
GRADEBOOK = "gradebook.db"


def cell_name(task: str) -> str:
    """The grade_id of a task's cell: task-2-1 for 2.1."""
    return f"task-{task.replace('.', '-')}"


def export_nbgrader(grades: Sequence[Grade], rubric: Rubric, out: Path) -> Path:
    """Writes into the gradebook OUT (a .db file, made where there is none; or a folder for gradebook.db); its path.

    Raises HW7Error where the file is no gradebook, or the grades do not belong to the rubric.
    """
    grades = aligned(grades, rubric)
    path = out if out.suffix == ".db" else out / GRADEBOOK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _gradebook(path) as gradebook, gradebook.db.begin():
            _Writer(gradebook.db).write(gradebook.course_id, grades, rubric)
    except (OSError, SQLAlchemyError) as error:
        reason = getattr(error, "orig", None) or error
        raise HW7Error(
            f"the gradebook {path} cannot be written: {reason}. Its grades are as they were. Close what has it open; "
            "if another version of nbgrader made it, run `nbgrader db upgrade` beside it first"
        ) from error
    return path


def _gradebook(path: Path) -> api.Gradebook:
    """nbgrader's gradebook, made where there is none.

    nbgrader would ask an `alembic` process for the version of its tables, which takes seconds and must be on the PATH.
    Asked here, it takes milliseconds, and an environment need not be activated to be used.
    """
    url = URL.create("sqlite", database=str(path.resolve()))
    if not path.exists():
        versions = ScriptDirectory(str(resources.files("nbgrader").joinpath("alembic")))
        engine = create_engine(url)
        with engine.begin() as connection:
            api.Base.metadata.create_all(connection)
            MigrationContext.configure(connection).stamp(versions, "head")
        engine.dispose()
    return api.Gradebook(url)


def _dusted(points: float) -> float:
    """A sum of decimals without its binary dust."""
    return round(points, 6)


class _Writer:
    """One transaction: each table is read once, what is missing is inserted at once, and scores that differ are set."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def write(self, course: str, marks: Sequence[Mark], rubric: Rubric) -> None:
        assignment = self.fill(api.Assignment, ["name"], [{"name": ASSIGNMENT, "course_id": course}])[ASSIGNMENT,]
        notebook = self.fill(
            api.Notebook, ["assignment_id", "name"], [{"assignment_id": assignment, "name": NOTEBOOK}]
        )[assignment, NOTEBOOK]
        cells = self.cells(notebook, rubric)

        self.fill(api.Student, ["id"], [{"id": student_id(mark.student)} for mark in marks])
        # To nbgrader, who handed in nothing is a student without a submission, unless a person gave points.
        handing_in = [mark for mark in marks if not mark.absent or mark.is_decided or mark.ever]
        students = {mark.student: student_id(mark.student) for mark in handing_in}
        submissions = self.fill(
            api.SubmittedAssignment,
            ["assignment_id", "student_id"],
            [{"assignment_id": assignment, "student_id": student} for student in students.values()],
        )
        mine = [submissions[assignment, student] for student in students.values()]
        handed_in = self.mirror(assignment, mine)
        scores: list[dict[str, Any]] = []
        for mark in handing_in:
            own = handed_in[notebook, submissions[assignment, students[mark.student]]]
            places = [{"cell": cells[cell_name(task.task)], "notebook": own} for task in mark.tasks]
            scores += [place | {"score": _dusted(task.given)} for place, task in zip(places, mark.tasks, strict=True)]
            for place, task in zip(places, mark.tasks, strict=True):
                self.override(place, task, mark.ever.get(task.task, set()))
            if LATE in mark.ever:
                penalty = _dusted(mark.penalty) if mark.late else None
                table = api.SubmittedNotebook.__table__
                self.session.execute(update(table).where(table.c.id == own).values(late_submission_penalty=penalty))
        self.score(scores)

    def cells(self, notebook: str, rubric: Rubric) -> dict[str, str]:
        """The ids of the tasks' grade cells by name, made where they are missing, worth what the rubric says."""
        kind = api.GradeCell.__mapper_args__["polymorphic_identity"]
        points = {cell_name(task.id): task.out_of for task in rubric.tasks}
        rows = [{"notebook_id": notebook, "name": name, "type": kind} for name in points]
        ids = self.fill(api.BaseCell, ["notebook_id", "name", "type"], rows)
        cells = {name: ids[notebook, name, kind] for name in points}
        worth = [{"id": cells[name], "max_score": points[name]} for name in points]
        self.fill(api.GradeCell, ["id"], [row | {"cell_type": "code"} for row in worth])
        self.session.execute(update(api.GradeCell), worth)
        return cells

    def mirror(self, assignment: str, submissions: Sequence[str]) -> dict[tuple[str, ...], str]:
        """Gives every submission all notebooks of the assignment, with the grades and comments that nbgrader looks for.

        The ids of the submitted notebooks by (notebook, submission).
        """
        notebooks = self.session.scalars(select(api.Notebook.id).where(api.Notebook.assignment_id == assignment)).all()
        handed_in = self.fill(
            api.SubmittedNotebook,
            ["notebook_id", "assignment_id"],
            [{"notebook_id": notebook, "assignment_id": each} for notebook in notebooks for each in submissions],
        )
        for model, kinds in (
            (api.Grade, (api.GradeCell, api.TaskCell)),
            (api.Comment, (api.SolutionCell, api.TaskCell)),
        ):
            wanted = select(api.BaseCell.id, api.BaseCell.notebook_id).where(
                api.BaseCell.notebook_id.in_(notebooks),
                api.BaseCell.type.in_([kind.__mapper_args__["polymorphic_identity"] for kind in kinds]),
            )
            rows = [
                {"cell_id": cell, "notebook_id": handed_in[notebook, each]}
                for cell, notebook in self.session.execute(wanted)
                for each in submissions
            ]
            self.fill(model, ["cell_id", "notebook_id"], rows)
        return handed_in

    def score(self, scores: Iterable[Mapping[str, Any]]) -> None:
        """Sets automatic scores. Where one changes under a manual score, a person should look again, as in nbgrader."""
        table = api.Grade.__table__
        changed = or_(table.c.auto_score.is_(None), table.c.auto_score != bindparam("score"))
        statement = (
            update(table)
            .where(table.c.cell_id == bindparam("cell"), table.c.notebook_id == bindparam("notebook"), changed)
            .values(auto_score=bindparam("score"), needs_manual_grade=table.c.manual_score.is_not(None))
        )
        if rows := list(scores):
            self.session.execute(statement, rows)

    def override(self, place: Mapping[str, str], task: TaskMark, ever: set[float]) -> None:
        """Sets a manual score where somebody decided the points of a task, and takes back one that was undone."""
        if task.override is None and not ever:
            return
        table = api.Grade.__table__
        here = update(table).where(table.c.cell_id == place["cell"], table.c.notebook_id == place["notebook"])
        if task.override is None:  # a manual score of other points is somebody's own
            ours = [_dusted(min(points, task.out_of)) for points in ever]
            self.session.execute(here.where(table.c.manual_score.in_(ours)).values(manual_score=None))
        else:
            values = {"manual_score": _dusted(task.points), "auto_score": _dusted(task.given)}
            self.session.execute(here.values(**values, needs_manual_grade=bool(task.stale)))

    def fill(self, model: Any, key: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], str]:
        """Inserts the rows whose key is not in the table yet; the ids of all of its rows by key."""
        table = model.__table__
        columns = select(table.c.id, *(table.c[name] for name in key))
        ids = {tuple(values): id for id, *values in self.session.execute(columns)}
        new = {tuple(row[name] for name in key): {"id": uuid4().hex} | dict(row) for row in rows}
        missing = [row for values, row in new.items() if values not in ids]
        if missing:
            self.session.execute(insert(table), missing)
        return ids | {tuple(row[name] for name in key): row["id"] for row in missing}
