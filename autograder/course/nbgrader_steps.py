"""nbgrader's own steps, made safe for this course: which notebook is graded, and which of its scores nbgrader writes.

`ReadRepaired` reads each notebook through `hw7.handin.notebook_repair`; nothing in `submitted/` is changed.
`SaveAnswers` leaves the scores of tasks to `hw7-grade`, whichever of the two comes first. `Harmless` takes out of a
graded notebook what could act in the browser of the teacher who reads it.
"""

import re
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades
from traitlets import Unicode

from autograder.exports.nbgrader import cell_name
from hw7 import HW7Error
from hw7.handin.notebook_repair import Notebook, grade_id, repair_notebook
from hw7.support.words import reason

NOTE = {"tags": ["repaired"]}
PICTURES, WORDS = ("image/png", "image/jpeg"), ("text/markdown", "text/latex", "text/plain")  # output that is shown
METADATA = ("nbgrader", "deletable", "editable")  # of a cell, that is kept


class ReadRepaired(NotebookExporter):
    """Takes a notebook as `notebook_repair` repairs it, with what was found in a cell at its top.

    One that cannot be read at all is taken for an unanswered one, so that its student gets feedback that says why.
    """

    released = Unicode("release/hw7/hw7.ipynb", help="The released notebook.").tag(config=True)

    def from_file(self, file_stream: Any, resources: Any = None, **options: Any) -> Any:
        data = file_stream.buffer.read() if hasattr(file_stream, "buffer") else file_stream.read().encode()
        notebook = repaired(data, Path(self.released))
        return self.from_notebook_node(notebook, resources=resources, **options)


def repaired(data: bytes, released: Path) -> nbformat.NotebookNode:
    """A valid notebook with every graded cell. Raises HW7Error where the released one is not there."""
    try:
        original = released.read_bytes()
    except OSError as error:
        raise HW7Error(
            f"{released} cannot be read ({reason(error)}): run `nbgrader generate_assignment hw7` first"
        ) from error
    repair = repair_notebook(data, original)
    findings = [*repair.fixed, *repair.to_fix]
    if repair.notebook is not None:
        try:
            return _noted(repair.notebook, findings, "Before grading, this notebook was repaired")
        except nbformat.ValidationError as error:
            findings.append(f"It is no valid notebook: {str(error).partition(chr(10))[0]}")
    blank = repair_notebook(original, original).notebook
    assert blank is not None
    return _noted(blank, findings, "The notebook that was handed in cannot be read, so this one is as it was released")


def _noted(notebook: Notebook, findings: list[str], heading: str) -> nbformat.NotebookNode:
    if findings:
        lines = [f"**{heading}:**", "", *(f"- {_plain(finding)}" for finding in findings)]
        note = {"cell_type": "markdown", "metadata": NOTE, "source": "\n".join(lines), "id": "repaired"}
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


class Harmless(NbGraderPreprocessor):
    """The same words and pictures, without anything that could run: HTML, JavaScript, widgets.

    nbconvert's own cleaning would take headings and paragraphs as well.
    """

    def preprocess_cell(self, cell: nbformat.NotebookNode, resources: Any, index: int) -> Any:
        note = NOTE if cell.metadata.get("tags") == NOTE["tags"] else {}
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in METADATA if key in cell.metadata} | note)
        if cell.cell_type != "code":
            cell.source = _without_tags(cell.source)
        for output in cell.get("outputs", []):
            if "data" in output:
                shown = {kind: output.data[kind] for kind in PICTURES if kind in output.data}
                shown |= {kind: _without_tags(output.data[kind]) for kind in WORDS if kind in output.data}
                output.data = nbformat.from_dict(shown or {"text/plain": f"[{', '.join(output.data)}: not shown]"})
                output.metadata = nbformat.from_dict({})
        return cell, resources


_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"(\]\(\s*+<?+|\]:\s*+<?+)(?!https?://|mailto:|attachment:|data:image/|#)", re.IGNORECASE)


def _without_tags(text: str) -> str:
    """A space of no width behind each < that would begin a tag, and before each address that is none of the web's:
    Markdown and code look as before, nothing is HTML, and no link runs."""
    return _LINK.sub("\\1\u200b", _TAG.sub("<\u200b", text))
