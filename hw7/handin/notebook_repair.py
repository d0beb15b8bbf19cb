"""Notebook repair: a student's hw7.ipynb beside the released one, and what must be put right before it can be graded.

Grading goes by the cells that have a grade_id: questions, whose text is the student's, and locked cells, whose text is
the course's. What is deleted, doubled, moved or edited among them is put right. No text of a student is dropped: what
cannot stay where it is becomes an ordinary cell. Needs no nbformat, because students run it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

from hw7 import HW7Error
from hw7.solution import MOST_READ, NOTEBOOK
from hw7.support.bounded_json import TooMuchError, read_bounded

Cell: TypeAlias = dict[str, Any]
Notebook: TypeAlias = dict[str, Any]

MAX_OUTPUT = 2_000_000  # bytes that one cell's outputs may take in the file; a plot takes some 50,000
KINDS = ("code", "markdown", "raw")
GRADED_BY = ("grade_id", "cell_type", "grade", "solution", "locked", "task", "points")  # of the metadata `nbgrader`
SHOWN = 60  # characters of a cell that has no name
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)
_MARKS = "the marks <<<<<<<, =======, >>>>>>>"


@dataclass(frozen=True)
class Repair:
    """What became of a notebook, in words for its student.

    notebook: the repaired one, or None where nothing can be made of it. fixed: what was wrong and is right in
    `notebook`. to_fix: what only the student can put right. unanswered: the questions as they were released.
    """

    notebook: Notebook | None
    fixed: tuple[str, ...] = ()
    to_fix: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()


class _UnreadableError(Exception):
    """Nothing can be made of this notebook; the reason is for its student."""


def repair_notebook(data: bytes, released: bytes) -> Repair:
    """Compares the bytes of a notebook with those of the released one. Never raises for anything in `data`.

    Raises HW7Error where `released` is no notebook.
    """
    try:
        wanted = _parsed(released, [])
    except _UnreadableError as error:
        raise HW7Error(f"the released notebook cannot be used: {error}") from error
    fixed: list[str] = []
    try:
        notebook = _parsed(data, fixed)
    except _UnreadableError as error:
        return Repair(None, to_fix=(str(error),))
    _make_valid(wanted)
    graded = {grade_id(cell): cell for cell in wanted["cells"] if grade_id(cell)}
    cells = notebook["cells"] = _with_graded_cells(notebook["cells"], graded, fixed)
    if "kernelspec" in wanted["metadata"]:
        notebook["metadata"]["kernelspec"] = wanted["metadata"]["kernelspec"]
    notebook["nbformat_minor"] = max(notebook["nbformat_minor"], wanted["nbformat_minor"])
    _cut_outputs(cells, fixed)
    _make_valid(notebook)
    own = {(grade_id(cell), text(cell)) for cell in cells}
    unanswered = tuple(name for name, cell in graded.items() if _is_answer(cell) and (name, text(cell)) in own)
    return Repair(notebook, tuple(fixed), tuple(_conflicts(cells)), unanswered)


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


def _parsed(data: bytes, fixed: list[str]) -> Notebook:
    """A notebook of format 4 whose cells have a kind, a text and metadata. Raises _UnreadableError."""
    if len(data) > MOST_READ[NOTEBOOK]:
        size, most = f"{len(data):,}", f"{MOST_READ[NOTEBOOK]:,}"
        raise _UnreadableError(f"The notebook has {size} bytes; at most {most} are read: clear its outputs.")
    try:
        content = data.decode("utf-8-sig")
        notebook = _json(content)
    except UnicodeDecodeError:
        why = "The notebook is not UTF-8 text, so it is no notebook: open it in JupyterLab and save it."
        raise _UnreadableError(why) from None
    except TooMuchError as error:
        raise _UnreadableError(f"The notebook {error}: clear its outputs.") from None
    except ValueError as error:
        notebook = _merged(content, error, fixed)
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4 or not isinstance(notebook.get("cells"), list):
        raise _UnreadableError("This is no notebook of format 4: open it in JupyterLab and save it.")
    minor, metadata = notebook.get("nbformat_minor"), notebook.get("metadata")
    notebook["nbformat_minor"] = minor if type(minor) is int else 0
    notebook["metadata"] = metadata if isinstance(metadata, dict) else {}
    notebook["cells"] = list(_readable_cells(notebook["cells"], fixed))
    return notebook


def _json(content: str) -> Any:
    """Bounded JSON without halves of surrogate pairs, which no file can hold."""
    return json.loads(json.dumps(read_bounded(content), ensure_ascii=False).encode("utf-8", "replace"))


def _merged(content: str, why: Exception, fixed: list[str]) -> Any:
    """What is no JSON for its merge conflicts: their first side, where the second one differs from it in outputs,
    counts and the like only."""
    conflict = _CONFLICT.search(content)
    if conflict is None:
        raise _UnreadableError(f"The notebook is no JSON ({why}), so no notebook: copy your text into an older copy.")
    where = content.count("\n", 0, conflict.start()) + 1
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
        same = _texts(first) == _texts(second)
    except (ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        how = f"keep one side of each place in a text editor, take out {_MARKS}, save."
        raise _UnreadableError(f"The notebook has a merge conflict in line {where} whose sides differ: {how}")
    fixed.append(f"The notebook had a merge conflict in line {where}; both sides had the same text.")
    return first


def _texts(notebook: Notebook) -> list[tuple[str, str, str]]:
    return [(cell["cell_type"], grade_id(cell), text(cell)) for cell in notebook["cells"]]


def _readable_cells(raw: Sequence[Any], fixed: list[str]) -> Iterator[Cell]:
    for number, cell in enumerate(raw, 1):
        source: Any = cell.get("source") if isinstance(cell, dict) else None
        if not _is_text(source):
            fixed.append(f"Cell {number} is no cell: it was left out.")
            continue
        kind = cell.get("cell_type") if cell.get("cell_type") in KINDS else "raw"
        metadata = cell["metadata"] if isinstance(cell.get("metadata"), dict) else {}
        yield cell | {"cell_type": kind, "source": _joined(source), "metadata": metadata}


# ---- graded cells -----------------------------------------------------------------------------------------------


def _with_graded_cells(cells: list[Cell], graded: Mapping[str, Cell], fixed: list[str]) -> list[Cell]:
    """The student's cells, and among them each graded one once, in the released order, as it was released."""
    places = _places(cells, graded, fixed)
    result: list[tuple[str, Cell]] = []  # with the grade_id, "" for ordinary cells
    kept = {name: _choice(graded[name], [cells[i] for i in found]) for name, found in places.items() if found}
    owner = {place: name for name, found in places.items() for place in found}
    for place, cell in enumerate(cells):
        name = owner.get(place, "")
        if not name:
            if grade_id(cell):
                fixed.append(f"{grade_id(cell)} is no cell of this notebook: kept as an ordinary cell.")
            result.append(("", _ordinary(cell)))
        elif cell is kept[name]:
            result += _restored(name, cell, graded[name], fixed)
        else:
            result += _copy(name, cell, kept[name], graded[name], fixed)
    _put_in_order(result, list(graded), fixed)
    for name, cell in graded.items():
        if name not in kept:
            answer = ", without an answer" if _is_answer(cell) else ""
            fixed.append(f"{name} was deleted: it is back{answer}.")
            result.insert(_place_of(name, result, list(graded)), (name, deepcopy(cell)))
    return [cell for _, cell in result]


def _places(cells: Sequence[Cell], graded: Mapping[str, Cell], fixed: list[str]) -> dict[str, list[int]]:
    """Where each graded cell stands, by its grade_id; where that is lost, by its id or its text."""
    ids = [grade_id(cell) for cell in cells]
    places = {name: [place for place, own in enumerate(ids) if own == name] for name in graded}
    free = {place: cell for place, cell in enumerate(cells) if ids[place] not in places}
    for name, released in graded.items():
        if places[name]:
            continue
        same_id = [place for place, cell in free.items() if cell.get("id") and cell["id"] == released.get("id")]
        same_text = [place for place, cell in free.items() if text(cell) == text(released) and not _is_answer(released)]
        for place in (same_id or same_text)[:1]:
            places[name].append(place)
            del free[place]
            fixed.append(f"{name} had lost its name, by which it is graded: it has it again.")
    return places


def _choice(released: Cell, found: Sequence[Cell]) -> Cell:
    """Of several cells of one name: the first answer that is one, or the first locked cell that is as released."""
    wanted = [cell for cell in found if (text(cell) != text(released)) == _is_answer(released)]
    return (wanted or found)[0]


def _restored(name: str, cell: Cell, released: Cell, fixed: list[str]) -> list[tuple[str, Cell]]:
    """A graded cell in its released frame: kind, metadata and, of a locked one, text."""
    marks, wanted = _nbgrader(cell), _nbgrader(released)
    # A name that was lost has been reported already.
    if marks.get("grade_id") == name and any(marks.get(key) != wanted.get(key) for key in GRADED_BY):
        fixed.append(f"{name} had other data for grading: they are as released.")
    if cell["cell_type"] != released["cell_type"]:
        fixed.append(f"{name} had become a {cell['cell_type']} cell: it is {released['cell_type']} again.")
    frame = {**deepcopy(released), "metadata": cell["metadata"] | deepcopy(released["metadata"])}
    frame |= {key: cell[key] for key in ("id", "attachments") if key in cell}
    edited = text(cell) != text(released)
    if _is_answer(released):
        frame["source"] = cell["source"]
    if released["cell_type"] == "code" == cell["cell_type"] and (_is_answer(released) or not edited):
        frame |= {key: cell[key] for key in ("outputs", "execution_count") if key in cell}
    result = [(name, frame)]
    if edited and not _is_answer(released):
        fixed.append(f"{name} is locked and was edited: it is as released, your version stands below it.")
        result.append(("", _ordinary(cell, "raw" if cell["cell_type"] == "code" else cell["cell_type"])))
    return result


def _copy(name: str, cell: Cell, kept: Cell, released: Cell, fixed: list[str]) -> list[tuple[str, Cell]]:
    """What becomes of a second cell of one name: nothing, if it says nothing new."""
    if text(cell) in (text(released), text(kept)):
        fixed.append(f"{name} was there twice: the copy was left out.")
        return []
    which = "the first answer is graded" if _is_answer(released) else "the one as released stays"
    fixed.append(f"{name} was there twice, with other text: {which}, the other is an ordinary cell.")
    return [("", _ordinary(cell))]


def _ordinary(cell: Cell, kind: str = "") -> Cell:
    """The cell as one that is not graded."""
    kind = kind or cell["cell_type"]
    keys = ["source", "attachments"]
    keys += ["outputs", "execution_count"] if kind == "code" else []
    keys += ["id"] if kind == cell["cell_type"] else []  # else it stands beside the one that keeps it
    hidden = ("nbgrader", "deletable", "editable")
    metadata = {key: value for key, value in cell["metadata"].items() if key not in hidden}
    return {key: cell[key] for key in keys if key in cell} | {"cell_type": kind, "metadata": metadata}


def _put_in_order(result: list[tuple[str, Cell]], names: Sequence[str], fixed: list[str]) -> None:
    """Moves the fewest graded cells, each behind the one it follows in the release."""
    rank = {name: i for i, name in enumerate(names)}
    present = [name for name, _ in result if name]
    staying = {present[i] for i in _longest_rising([rank[name] for name in present])}
    for name in sorted(set(present) - staying, key=rank.__getitem__):
        fixed.append(f"{name} had been moved: it is in its place again.")
        _, cell = result.pop([other for other, _ in result].index(name))
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
    """The places of a longest rising subsequence; of several, of one that ends lowest."""

    def longest(chains: Sequence[list[int]]) -> list[int]:
        return max(chains, key=lambda chain: (len(chain), -ranks[chain[-1]]), default=[])

    chains: list[list[int]] = []  # the longest that ends at each place
    for place, rank in enumerate(ranks):
        chains.append([*longest([chain for chain in chains if ranks[chain[-1]] < rank]), place])
    return longest(chains)


# ---- all cells --------------------------------------------------------------------------------------------------


def _cut_outputs(cells: Sequence[Cell], fixed: list[str]) -> None:
    """Leaves out outputs that no grader wants to see: damaged ones, and far too much."""
    for number, cell in enumerate(cells, 1):
        outputs = cell.get("outputs")
        if cell["cell_type"] != "code" or not isinstance(outputs, list):
            continue
        cell["outputs"] = [output for output in outputs if _is_output(output)]
        size = len(json.dumps(cell["outputs"]))
        if size > MAX_OUTPUT:
            fixed.append(f"{_called(cell, number)} has {size:,} bytes of output: they were left out.")
            note = f"[{size:,} bytes of output were left out: at most {MAX_OUTPUT:,} are kept]\n"
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": note}]


def _is_output(output: Any) -> bool:
    """Whether it is one of the four kinds, with what every reader of notebooks looks for in it."""
    match output:
        case {"output_type": "stream", "name": "stdout" | "stderr", "text": shown}:
            return _is_text(shown)
        case {"output_type": "error", "ename": name, "evalue": value, "traceback": trace}:
            return all(map(_is_text, (name, value, trace)))
        case {"output_type": "display_data"} | {"output_type": "execute_result", "execution_count": _}:
            data = output.get("data")
            shown = isinstance(data, dict) and all(
                _is_text(each) or kind.endswith("json") for kind, each in data.items()
            )
            return shown and isinstance(output.get("metadata"), dict)
    return False


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


def _conflicts(cells: Sequence[Cell]) -> Iterator[str]:
    for number, cell in enumerate(cells, 1):
        if len(set(re.findall(r"^(<{7}|={7}|>{7})(?: |$)", cell["source"], re.MULTILINE))) == 3:
            how = f"keep one of its sides, and take out {_MARKS}."
            yield f"{_called(cell, number)} has a merge conflict in its text: {how}"


def _called(cell: Cell, number: int) -> str:
    first = cell["source"].strip().partition("\n")[0][:SHOWN]
    return grade_id(cell) or f"Cell {number} ({first})"
