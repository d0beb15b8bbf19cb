"""Report notebooks for tests: as released, and as students leave them."""

import zlib
from typing import Any

from hw7.handin.notebook_repair import grade_id, to_bytes

Cell = dict[str, Any]


ANSWER = "It learns *more* from T = 20 than from T = 1, because ..."


def code(source: str, name: str = "", **marks: Any) -> Cell:
    return _cell("code", source, name, marks) | {"outputs": [], "execution_count": None}


def words(source: str, name: str = "", **marks: Any) -> Cell:
    return _cell("markdown", source, name, marks)


def _cell(kind: str, source: str, name: str, marks: dict[str, Any]) -> Cell:
    metadata: dict[str, Any] = {}
    if name:
        marks = {"grade": False, "solution": False, "locked": False, "task": False, "schema_version": 3} | marks
        metadata = {"nbgrader": {"grade_id": name, "cell_type": kind, **marks}}
    name = name or str(zlib.crc32(source.encode()))
    return {"cell_type": kind, "id": f"id-{name}", "metadata": metadata, "source": source}


def task(number: int) -> Cell:
    return code(f'lab.check("1.{number}")', f"task-1-{number}", grade=True, locked=True, points=5)


def question(letter: str) -> Cell:
    return words("YOUR ANSWER HERE", f"question-{letter}", grade=True, solution=True, points=4)


def released() -> Cell:
    cells = [
        words("# Homework 7"),
        code("from hw7.notebook import Lab\nlab = Lab()", "setup", locked=True),
        *(task(number) for number in (1, 2, 3)),
        words("**A.** What does the temperature do?"),
        question("a"),
        words("**B.** And alpha?"),
        question("b"),
        words("**C.** And pruning?"),
        question("c"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}


RELEASED = to_bytes(released())


def answered() -> Cell:
    """A notebook as it should be handed in."""
    notebook = released()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            stream = {"output_type": "stream", "name": "stdout", "text": ["fine\n"]}
            cell |= {"outputs": [stream], "execution_count": 3}
        if grade_id(cell).startswith("question"):
            cell["source"] = f"{grade_id(cell)}: {ANSWER}"
    notebook["cells"].insert(5, code("my_own = 1"))
    return notebook


def at(notebook: Cell, name: str) -> int:
    (place,) = [i for i, cell in enumerate(notebook["cells"]) if grade_id(cell) == name]
    return place


def graded(notebook: Cell) -> dict[str, Cell]:
    return {grade_id(cell): cell for cell in notebook["cells"] if grade_id(cell)}
