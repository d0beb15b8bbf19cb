"""How long it takes to write a class's grades into nbgrader's gradebook, ours and nbgrader's own way.

    python benchmarks/gradebook.py [--students 1000] [--repeat 5] [--nbgrader]

Prints a Markdown table, seconds as median (worst): a new gradebook, the same export again, all scores changed, and
nbgrader's own `nbgrader export` reading it back. With --nbgrader also the same grades through nbgrader's own methods
(`update_or_create_student`, `update_or_create_submission`, `find_grade`), which takes a hundred times as long.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nbgrader.api import Gradebook
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from made_up_grades import RUBRIC, a_class

from autograder.exports.nbgrader import cell_name, export_nbgrader
from autograder.grades import Grade
from hw7.checks.cases import Outcome, Verdict


def changed(grades: list[Grade]) -> list[Grade]:
    """The same students, without any points."""
    return [
        replace(
            grade,
            tasks=tuple(
                replace(task, parts=tuple(replace(part, outcome=Outcome(Verdict.WRONG)) for part in task.parts))
                for task in grade.tasks
            ),
        )
        for grade in grades
    ]


def read_back(path: Path) -> None:
    command = [sys.executable, "-m", "nbgrader", "export", "--db", f"sqlite:///{path}", "--to", str(path) + ".csv"]
    subprocess.run(command, check=True, capture_output=True, cwd=path.parent)


def nbgraders_way(grades: list[Grade], path: Path) -> None:
    export_nbgrader([], RUBRIC, path)  # the assignment and its cells
    with Gradebook(f"sqlite:///{path}") as gradebook:
        for grade in grades:
            gradebook.update_or_create_student(grade.student)
            gradebook.update_or_create_submission("hw7", grade.student)
            for task in grade.tasks:
                score = gradebook.find_grade(cell_name(task.task), "hw7", "hw7", grade.student)
                score.auto_score, score.needs_manual_grade = task.points, False
            gradebook.db.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--nbgrader", action="store_true")
    options = parser.parse_args()

    grades = [grade for grade in a_class(options.students) if grade.tasks]
    seconds: dict[str, list[float]] = {}

    def timed(what: str, function: Callable[..., object], *arguments: object) -> None:
        start = time.perf_counter()
        function(*arguments)
        seconds.setdefault(what, []).append(time.perf_counter() - start)

    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "gradebook.db"
            timed("a new gradebook", export_nbgrader, grades, RUBRIC, path)
            timed("the same again", export_nbgrader, grades, RUBRIC, path)
            timed("all scores changed", export_nbgrader, changed(grades), RUBRIC, path)
            timed("read back by `nbgrader export`", read_back, path)
    if options.nbgrader:
        with tempfile.TemporaryDirectory() as folder:
            timed("a new gradebook, nbgrader's own methods", nbgraders_way, grades, Path(folder) / "gradebook.db")
    rows = [(what, f"{statistics.median(times):.2f} ({max(times):.2f})") for what, times in seconds.items()]
    print(tabulate(rows, headers=(f"{len(grades):,} students", "seconds"), tablefmt="github"))


if __name__ == "__main__":
    main()
