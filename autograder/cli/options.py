"""What the options of several commands have in common."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class TierName(StrEnum):
    A = "A"
    B = "B"
    C = "C"
    D = "D"


To = StrEnum("To", "csv gradescope nbgrader html mail")
LayoutName = StrEnum("LayoutName", "folders nbgrader gradescope moodle canvas blackboard d2l one")

OutOption = Annotated[Path, typer.Option(help="The folder of the run: its journal, grades.csv and exports.")]
RubricOption = Annotated[Path | None, typer.Option(help="Another rubric than the course's.")]
DataOption = Annotated[
    str,
    typer.Option(
        metavar="<source>", help="Where the hidden images come from: plates, food11:DIR, fashion-mnist[:DIR]."
    ),
]
StudentArgument = Annotated[
    str, typer.Argument(metavar="STUDENT", help="The student's name, or a part of it that no other's has.")
]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="The task's id, for example 3.3.")]
SubmissionsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SUBMISSIONS", help="A folder or zip for each student, nbgrader's `submitted`, or an export."
    ),
]
LayoutOption = Annotated[
    LayoutName | None, typer.Option(help="How SUBMISSIONS is laid out. Default: told by the names there.")
]
AssignmentOption = Annotated[
    str, typer.Option(metavar="<name>", help="The name of the assignment in nbgrader's `submitted`.")
]
RosterOption = Annotated[
    Path | None,
    typer.Option(
        help="A CSV file with id, name and, if known, email of all students: names become ids, and who handed in "
        "nothing is listed."
    ),
]
