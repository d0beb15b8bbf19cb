"""Whether a report notebook can be graded: a student's hw7.ipynb beside the released one, and its mending where not.

Grading goes by the cells that have a grade_id: questions, whose text is the student's, and locked cells, whose text is
the course's. `examine` finds what is deleted, doubled, moved or edited among them and puts it right. No text of a
student is dropped: what cannot stay where it is becomes an ordinary cell. Needs nothing but json, for students run it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

from hw7 import HW7Error
from hw7.solution import MOST_READ, NOTEBOOK

Cell: TypeAlias = dict[str, Any]
Notebook: TypeAlias = dict[str, Any]

MAX_OUTPUT = 2_000_000  # bytes that one cell's outputs may take in the file; a plot takes some 50,000
KINDS = ("code", "markdown", "raw")
GRADED_BY = ("grade_id", "cell_type", "grade", "solution", "locked", "task", "points")  # of the metadata `nbgrader`
SHOWN = 60  # characters of a cell that has no name
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """What is wrong with a notebook, in words for its student. mended: whether it is put right in what is returned."""

    text: str
    mended: bool = True


@dataclass(frozen=True)
class Examined:
    """notebook: mended, or None where nothing can be made of it. unanswered: the questions as they were released."""

    notebook: Notebook | None
    findings: tuple[Finding, ...]
    unanswered: tuple[str, ...] = ()


def examine(data: bytes, released: bytes) -> Examined:
    """Compares the bytes of a notebook with those of the released one. Never raises for anything in `data`.

    Raises HW7Error where `released` is no notebook.
    """
    wanted, trouble = _parsed(released)
    if wanted is None:
        raise HW7Error(f"the released notebook cannot be used: {trouble[0].text}")
    wanted["cells"] = list(_readable_cells(wanted["cells"], []))
    _make_valid(wanted)
    notebook, findings = _parsed(data)
    if notebook is None:
        return Examined(None, tuple(findings))
    cells = notebook["cells"] = list(_readable_cells(notebook["cells"], findings))
    graded = {grade_id(cell): cell for cell in wanted["cells"] if grade_id(cell)}
    notebook["cells"] = _with_graded_cells(cells, graded, findings)
    if "kernelspec" in wanted["metadata"]:
        notebook["metadata"]["kernelspec"] = wanted["metadata"]["kernelspec"]
    notebook["nbformat_minor"] = max(notebook["nbformat_minor"], wanted["nbformat_minor"])
    _cut_outputs(notebook["cells"], findings)
    _make_valid(notebook)
    _find_conflicts(notebook["cells"], findings)
    unanswered = [
        name
        for name, cell in graded.items()
        if _is_answer(cell) and any(grade_id(own) == name and text(own) == text(cell) for own in notebook["cells"])
    ]
    return Examined(notebook, tuple(findings), tuple(unanswered))


def to_bytes(notebook: Notebook) -> bytes:
    """A notebook as Jupyter writes it."""
    return (json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def grade_id(cell: Mapping[str, Any]) -> str:
    """The name by which a cell is graded, or ""."""
    name = _nbgrader(cell).get("grade_id")
    return name if isinstance(name, str) else ""


def text(cell: Mapping[str, Any]) -> str:
    """A cell's text, without what editors do to the ends of lines and of the text."""
    lines = _joined(cell["source"]).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def _joined(source: str | Sequence[str]) -> str:
    return source if isinstance(source, str) else "".join(source)


def _nbgrader(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = cell.get("metadata")
    found = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def _is_answer(cell: Mapping[str, Any]) -> bool:
    """Whether the text of a graded cell is the student's."""
    marks = _nbgrader(cell)
    return bool(marks.get("solution")) or not (marks.get("grade") or marks.get("locked"))


# ---- reading ----------------------------------------------------------------------------------------------------


def _parsed(data: bytes) -> tuple[Notebook | None, list[Finding]]:
    """A dict that has a list of cells, of notebook format 4; or None, and why."""
    if len(data) > MOST_READ[NOTEBOOK]:
        return None, [
            Finding(
                f"The notebook has {len(data):,} bytes; at most {MOST_READ[NOTEBOOK]:,} are read: clear its outputs.",
                False,
            )
        ]
    findings = []
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None, [
            Finding("The notebook is not UTF-8 text, so it is no notebook: open it in JupyterLab and save it.", False)
        ]
    try:
        notebook = _json(content)
    except (ValueError, RecursionError) as error:
        conflict = _CONFLICT.search(content)
        if conflict is None:
            why = f"The notebook is no JSON ({error}), so no notebook: copy your text into an older copy."
            return None, [Finding(why, False)]
        where = content.count("\n", 0, conflict.start()) + 1
        notebook = _merged(content)
        if notebook is None:
            why = "keep one side of each place in a text editor, take out the marks <<<<<<<, =======, >>>>>>>, save."
            return None, [
                Finding(f"The notebook has a merge conflict in line {where} whose sides differ: {why}", False)
            ]
        findings.append(Finding(f"The notebook had a merge conflict in line {where}; both sides had the same text."))
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        return None, [Finding("This is no notebook of format 4: open it in JupyterLab and save it.", False)]
    minor, metadata = notebook.get("nbformat_minor"), notebook.get("metadata")
    notebook["nbformat_minor"] = minor if type(minor) is int else 0
    notebook["metadata"] = metadata if isinstance(metadata, dict) else {}
    return notebook, findings


def _json(content: str) -> Any:
    """JSON without NaN and without halves of surrogate pairs, which no file can hold."""
    value = json.loads(content, parse_constant=lambda _: None)
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _merged(content: str) -> Notebook | None:
    """The first side of all conflicts, if the second one differs from it in outputs, counts and the like only."""
    sides: tuple[list[str], list[str]] = ([], [])
    on: tuple[int, ...] = (0, 1)  # the sides that the present line belongs to
    for line in content.split("\n"):
        if mark := _CONFLICT.match(line):
            on = {"<": (0,), "|": (), "=": (1,), ">": (0, 1)}[mark[0][0]]
            continue
        for side in on:
            sides[side].append(line)
    try:
        first, second = (_json("\n".join(side)) for side in sides)
        return first if _texts(first) == _texts(second) else None
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _texts(notebook: Notebook) -> list[tuple[str, str, str]]:
    return [(cell["cell_type"], grade_id(cell), text(cell)) for cell in notebook["cells"]]


def _readable_cells(raw: Sequence[Any], findings: list[Finding]) -> Iterator[Cell]:
    """Cells with a kind, a text and metadata."""
    for number, cell in enumerate(raw, 1):
        source = cell.get("source") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            findings.append(Finding(f"Cell {number} is no cell: it was left out."))
            continue
        kind = cell.get("cell_type") if cell.get("cell_type") in KINDS else "raw"
        metadata = cell["metadata"] if isinstance(cell.get("metadata"), dict) else {}
        yield cell | {"cell_type": kind, "source": source, "metadata": metadata}


# ---- graded cells -----------------------------------------------------------------------------------------------


def _with_graded_cells(cells: list[Cell], graded: Mapping[str, Cell], findings: list[Finding]) -> list[Cell]:
    """The student's cells, and among them each graded one once, in the released order, as it was released."""
    places = _places(cells, graded, findings)
    result: list[tuple[str, Cell]] = []  # with the grade_id, "" for ordinary cells
    kept = {name: _choice(name, graded[name], [cells[i] for i in found]) for name, found in places.items() if found}
    owner = {place: name for name, found in places.items() for place in found}
    for place, cell in enumerate(cells):
        name = owner.get(place, "")
        if not name:
            if grade_id(cell):
                findings.append(Finding(f"{grade_id(cell)} is no cell of this notebook: kept as an ordinary cell."))
            result.append(("", _ordinary(cell)))
        elif cell is kept[name]:
            result += _restored(name, cell, graded[name], findings)
        else:
            result += _copy(name, cell, kept[name], graded[name], findings)
    _put_in_order(result, list(graded), findings)
    for name, cell in graded.items():
        if name not in kept:
            answer = ", without an answer" if _is_answer(cell) else ""
            findings.append(Finding(f"{name} was deleted: it is back{answer}."))
            result.insert(_place_of(name, result, list(graded)), (name, deepcopy(cell)))
    return [cell for _, cell in result]


def _places(cells: Sequence[Cell], graded: Mapping[str, Cell], findings: list[Finding]) -> dict[str, list[int]]:
    """Where each graded cell stands, by its grade_id; where that is lost, by its id or its text."""
    places: dict[str, list[int]] = {name: [] for name in graded}
    for place, cell in enumerate(cells):
        if grade_id(cell) in places:
            places[grade_id(cell)].append(place)
    free = {place: cell for place, cell in enumerate(cells) if grade_id(cell) not in places}
    for name, released in graded.items():
        if places[name]:
            continue
        same_id = [place for place, cell in free.items() if cell.get("id") and cell["id"] == released.get("id")]
        same_text = [place for place, cell in free.items() if text(cell) == text(released) and not _is_answer(released)]
        for place in (same_id or same_text)[:1]:
            places[name].append(place)
            del free[place]
            findings.append(Finding(f"{name} had lost its name, by which it is graded: it has it again."))
    return places


def _choice(name: str, released: Cell, found: Sequence[Cell]) -> Cell:
    """Of several cells of one name: the first answer that is one, or the first locked cell that is as released."""
    wanted = [cell for cell in found if (text(cell) != text(released)) == _is_answer(released)]
    return (wanted or found)[0]


def _restored(name: str, cell: Cell, released: Cell, findings: list[Finding]) -> list[tuple[str, Cell]]:
    """A graded cell in its released frame: kind, metadata and, of a locked one, text."""
    marks, wanted = _nbgrader(cell), _nbgrader(released)
    # A name that was lost has been told of already.
    if marks.get("grade_id") == name and any(marks.get(key) != wanted.get(key) for key in GRADED_BY):
        findings.append(Finding(f"{name} had other data for grading: they are as released."))
    if cell["cell_type"] != released["cell_type"]:
        findings.append(Finding(f"{name} had become a {cell['cell_type']} cell: it is {released['cell_type']} again."))
    fixed = {**deepcopy(released), "metadata": cell["metadata"] | deepcopy(released["metadata"])}
    fixed |= {key: cell[key] for key in ("id", "attachments") if key in cell}
    edited = text(cell) != text(released)
    if _is_answer(released):
        fixed["source"] = cell["source"]
    if released["cell_type"] == "code" == cell["cell_type"] and (_is_answer(released) or not edited):
        fixed |= {key: cell[key] for key in ("outputs", "execution_count") if key in cell}
    result = [(name, fixed)]
    if edited and not _is_answer(released):
        findings.append(Finding(f"{name} is locked and was edited: it is as released, your version stands below it."))
        result.append(("", _ordinary(cell, "raw" if cell["cell_type"] == "code" else cell["cell_type"])))
    return result


def _copy(name: str, cell: Cell, kept: Cell, released: Cell, findings: list[Finding]) -> list[tuple[str, Cell]]:
    """What becomes of a second cell of one name: nothing, if it says nothing new."""
    if text(cell) in (text(released), text(kept)):
        findings.append(Finding(f"{name} was there twice: the copy was left out."))
        return []
    which = "the first answer is graded" if _is_answer(released) else "the one as released stays"
    findings.append(Finding(f"{name} was there twice, with other text: {which}, the other is an ordinary cell."))
    return [("", _ordinary(cell))]


def _ordinary(cell: Cell, kind: str = "") -> Cell:
    """The cell as one that is not graded."""
    kind = kind or cell["cell_type"]
    keys = ("id", "source", "attachments", *(("outputs", "execution_count") if kind == "code" else ()))
    metadata = {
        key: value for key, value in cell["metadata"].items() if key not in ("nbgrader", "deletable", "editable")
    }
    ordinary = {key: cell[key] for key in keys if key in cell} | {"cell_type": kind, "metadata": metadata}
    if kind != cell["cell_type"]:
        ordinary.pop("id", None)  # it stands beside the one that keeps it
    return ordinary


def _put_in_order(result: list[tuple[str, Cell]], names: Sequence[str], findings: list[Finding]) -> None:
    """Moves the fewest graded cells, each behind the one it follows in the release."""
    rank = {name: i for i, name in enumerate(names)}
    present = [name for name, _ in result if name]
    staying = {present[i] for i in _longest_rising([rank[name] for name in present])}
    for name in sorted(set(present) - staying, key=rank.__getitem__):
        findings.append(Finding(f"{name} had been moved: it is in its place again."))
        place = next(i for i, (other, _) in enumerate(result) if other == name)
        cell = result.pop(place)[1]
        others = [entry if entry[0] in staying else ("", entry[1]) for entry in result]
        result.insert(_place_of(name, others, names), (name, cell))
        staying.add(name)


def _place_of(name: str, result: Sequence[tuple[str, Cell]], names: Sequence[str]) -> int:
    """Behind the nearest graded cell before it in the release; else before the nearest after it; else at the end."""
    where = {other: place for place, (other, _) in enumerate(result) if other}
    before = [where[other] + 1 for other in names[: names.index(name)] if other in where]
    after = [where[other] for other in names[names.index(name) :] if other in where]
    return [*after[:1], *before[-1:]][-1] if before or after else len(result)


def _longest_rising(ranks: Sequence[int]) -> list[int]:
    """The places of a longest strictly rising subsequence."""
    tails: list[int] = []  # place of the smallest end of a rising subsequence of each length
    previous: list[int] = []
    for place, value in enumerate(ranks):
        length = bisect_left([ranks[i] for i in tails], value)
        previous.append(tails[length - 1] if length else -1)
        tails[length:] = [place] if length == len(tails) else [place, *tails[length + 1 :]]
    chosen, place = [], tails[-1] if tails else -1
    while place >= 0:
        chosen.append(place)
        place = previous[place]
    return chosen[::-1]


# ---- all cells --------------------------------------------------------------------------------------------------


def _cut_outputs(cells: Sequence[Cell], findings: list[Finding]) -> None:
    """Leaves out outputs that no grader wants to see: damaged ones, and far too much."""
    for number, cell in enumerate(cells, 1):
        outputs = cell.get("outputs")
        if cell["cell_type"] != "code" or not isinstance(outputs, list):
            continue
        cell["outputs"] = [output for output in outputs if _is_output(output)]
        size = len(json.dumps(cell["outputs"]))
        if size > MAX_OUTPUT:
            findings.append(Finding(f"{_called(cell, number)} has {size:,} bytes of output: they were left out."))
            note = f"[{size:,} bytes of output were left out: at most {MAX_OUTPUT:,} are kept]\n"
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": note}]


def _is_output(output: Any) -> bool:
    """Whether it is one of the four kinds, with what every reader of notebooks looks for in it."""
    if not isinstance(output, dict):
        return False
    kind = output.get("output_type")
    if kind == "stream":
        return output.get("name") in ("stdout", "stderr") and _is_text(output.get("text"))
    if kind == "error":
        return all(_is_text(output.get(key)) for key in ("ename", "evalue", "traceback"))
    if kind not in ("display_data", "execute_result") or (kind == "execute_result" and "execution_count" not in output):
        return False
    data = output.get("data")
    shown = isinstance(data, dict) and all(_is_text(value) or kind.endswith("json") for kind, value in data.items())
    return shown and isinstance(output.get("metadata"), dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(line, str) for line in value))


def _make_valid(notebook: Notebook) -> None:
    """What the format asks of cells, and changes no meaning: outputs, counts, an id that no other cell has."""
    seen: set[str] = set()
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "code":
            cell["outputs"] = cell["outputs"] if isinstance(cell.get("outputs"), list) else []
            count = cell.get("execution_count")
            cell["execution_count"] = count if type(count) is int else None
        else:
            cell.pop("outputs", None)
            cell.pop("execution_count", None)
        if not isinstance(cell.get("attachments", {}), dict) or cell["cell_type"] == "code":
            cell.pop("attachments", None)
        if notebook["nbformat_minor"] < 5:
            cell.pop("id", None)
            continue
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", str(cell.get("id", ""))) or cell["id"] in seen:
            cell["id"] = next(name for n in range(len(seen) + 1) if (name := f"cell-{number}-{n}") not in seen)
        seen.add(cell["id"])


def _find_conflicts(cells: Sequence[Cell], findings: list[Finding]) -> None:
    for number, cell in enumerate(cells, 1):
        if len(set(re.findall(r"^(<{7}|={7}|>{7})(?: |$)", _joined(cell["source"]), re.MULTILINE))) == 3:
            why = "keep one of its sides, and take out the marks <<<<<<<, =======, >>>>>>>."
            findings.append(Finding(f"{_called(cell, number)} has a merge conflict in its text: {why}", False))


def _called(cell: Cell, number: int) -> str:
    first = _joined(cell["source"]).strip().partition("\n")[0][:SHOWN]
    return grade_id(cell) or f"Cell {number} ({first})"
