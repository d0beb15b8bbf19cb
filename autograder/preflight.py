"""nbgrader's own steps, made safe for this course: which notebook is graded, and which of its scores nbgrader writes.

`ReadMended` reads each notebook through `hw7.preflight`; nothing in `submitted/` is changed. `SaveAnswers` leaves the
scores of tasks to `hw7-grade`, whichever of the two comes first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbgrader.preprocessors import SaveAutoGrades
from traitlets import Unicode

from autograder.exports.nbgrader import cell_name
from hw7.errors import HW7Error
from hw7.preflight import Finding, Notebook, examine, grade_id

NOTE = {"tags": ["preflight"]}


class ReadMended(NotebookExporter):
    """Takes a notebook as the preflight mends it, with what was found in a cell at its top.

    One that cannot be read at all is taken for an unanswered one, so that its student gets feedback that says why.
    """

    released = Unicode("release/hw7/hw7.ipynb", help="The released notebook, from the course's folder.").tag(
        config=True
    )

    def from_file(self, file_stream: Any, resources: Any = None, **options: Any) -> Any:
        data = file_stream.buffer.read() if hasattr(file_stream, "buffer") else file_stream.read().encode()
        notebook = mended(data, Path(self.released))
        return self.from_notebook_node(notebook, resources=resources, **options)


def mended(data: bytes, released: Path) -> nbformat.NotebookNode:
    """A valid notebook with every graded cell. Raises HW7Error where the released one is not there."""
    try:
        original = released.read_bytes()
    except OSError as error:
        raise HW7Error(f"{released} cannot be read ({error}): run `nbgrader generate_assignment hw7` first") from error
    examined = examine(data, original)
    findings = examined.findings
    if examined.notebook is not None:
        try:
            return _noted(examined.notebook, findings, "Before grading, this notebook was mended")
        except nbformat.ValidationError as error:
            findings = (*findings, Finding(f"It is no valid notebook: {str(error).partition(chr(10))[0]}", False))
    blank = examine(original, original).notebook
    assert blank is not None
    return _noted(blank, findings, "The notebook that was handed in cannot be read, so this one is as it was released")


def _noted(notebook: Notebook, findings: tuple[Finding, ...], heading: str) -> nbformat.NotebookNode:
    if findings:
        lines = [f"**{heading}:**", "", *(f"- {_plain(finding.text)}" for finding in findings)]
        note = {"cell_type": "markdown", "metadata": NOTE, "source": "\n".join(lines), "id": "preflight"}
        notebook = notebook | {"cells": [note, *notebook["cells"]]}
    node = nbformat.from_dict(notebook)
    nbformat.validate(node)
    return node


def _plain(text: str) -> str:
    """Words of a student's notebook, in which nothing is markup."""
    return "".join(f"&#{ord(char)};" if char in "<>&*_`[]()!|\\" else char for char in text)


class SaveAnswers(SaveAutoGrades):
    """Saves what nbgrader makes of answers, and leaves tasks alone: their points are `hw7-grade`'s."""

    def _add_score(self, cell: nbformat.NotebookNode, resources: Any) -> None:
        if not grade_id(cell).startswith(cell_name("")):
            super()._add_score(cell, resources)
