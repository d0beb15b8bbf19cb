"""Stripping solutions: from what an instructor writes to what a student gets, with nbgrader's marker words.

    ### BEGIN SOLUTION … ### END SOLUTION            in a function: `raise NotImplementedError("Task 3.1: name")`;
                                                     at the top of a module: vanishes, with all that is in it
    ### BEGIN HIDDEN TESTS … ### END HIDDEN TESTS    vanishes
    ### BEGIN BROKEN … ### END BROKEN                comments that become code in place of the solution that follows:
                                                     `# x = 1` is released as `x = 1`

A marker stands alone in its line, at the indentation of the statements it encloses. Nested, unclosed, empty and wrongly
indented regions are errors with file and line: a marker that is passed over in silence is an answer given away.

Imports: those of torch, numpy and the library stay, because every way to solve a task needs them, and carry a word for
linters; what else only the solution used vanishes, because it would tell how the reference does it.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from hw7 import HW7Error

if TYPE_CHECKING:
    from nbformat import NotebookNode

KINDS = ("SOLUTION", "HIDDEN TESTS", "BROKEN")
TOOLS = ("torch", "torchvision", "numpy", "hw7")  # imports that stay although only the solution used them
KEPT_WORD = "  # noqa: F401 (you will need it)"
CODE_STUB, TEXT_STUB = "# YOUR CODE HERE\nraise NotImplementedError", "YOUR ANSWER HERE"

_MARKER = re.compile(rf"(?P<indent> *)### (?P<edge>BEGIN|END) (?P<kind>{'|'.join(KINDS)})")
_LIKE_A_MARKER = re.compile(
    rf"\s*#+\s*(begin|end)\s+({'|'.join(KINDS).lower()})|\s*#{{3,}}\s*(BEGIN|END)\b", re.IGNORECASE
)
_TASK = re.compile(r"Task ([\w.-]+):")


@dataclass(frozen=True)
class Region:
    """The lines between two markers, which stand in the lines start and stop of a text. Counted from 0."""

    kind: str
    indent: str
    start: int
    stop: int
    content: tuple[str, ...]


def find_regions(text: str, name: str) -> list[Region]:
    """All regions of a text, in order. Raises HW7Error, with `name` and the line, for markers that do not pair up."""
    lines, regions = text.split("\n"), list[Region]()
    begun, start = None, 0  # the BEGIN of an open region, and its line
    for number, line in enumerate(lines):
        marker = _MARKER.fullmatch(line)
        if marker is None:
            if _LIKE_A_MARKER.match(line):
                words = ", ".join(f"### BEGIN {kind}" for kind in KINDS)
                reason = f"is no marker, but looks like one; markers are {words} and the same with END"
                raise _refuse(name, number, f"{line.strip()!r} {reason}")
        elif marker["edge"] == "BEGIN":
            if begun is not None:
                raise _refuse(name, number, f"a region begins inside the one of line {start + 1}")
            begun, start = marker, number
        elif begun is None or begun["kind"] != marker["kind"]:
            raise _refuse(name, number, f"END {marker['kind']} ends nothing that has begun")
        elif begun["indent"] != marker["indent"]:
            raise _refuse(name, number, f"END {marker['kind']} is not indented like its BEGIN in line {start + 1}")
        else:
            region = Region(marker["kind"], marker["indent"], start, number, tuple(lines[start + 1 : number]))
            for offset, inner in enumerate(region.content, start=start + 1):
                if inner.strip() and not inner.startswith(region.indent):
                    raise _refuse(name, offset, f"this is indented less than the marker in line {start + 1}")
            if not any(map(str.strip, region.content)):
                raise _refuse(name, number, f"the region that begins in line {start + 1} is empty")
            regions.append(region)
            begun = None
    if begun is not None:
        raise _refuse(name, start, f"BEGIN {begun['kind']} is never ended")
    return regions


def _refuse(name: str, number: int, reason: str) -> HW7Error:
    return HW7Error(f"{name}, line {number + 1}: {reason}")


# ---- Python ----------------------------------------------------------------------------------------------------


def strip_python(text: str, name: str, outside: str = "") -> str:
    """A source file as students get it. `name` is for errors; `outside` stands for solutions outside of functions.

    Raises HW7Error with file and line for regions that do not pair up, stand in the wrong place, or leave no Python.
    """
    regions = find_regions(text, name)
    if not regions:
        return text
    _check_pairs(regions, name)
    tree, lines = _parse(text, name), text.split("\n")
    stubbed: dict[ast.AST, Region] = {}
    fixes = {region.stop + 1 for region in regions if region.kind == "BROKEN"}  # where their solutions start
    out: list[str] = []
    done = 0
    for region in regions:
        out += lines[done : region.start]
        replacement: list[str] = []
        if region.kind == "BROKEN":
            replacement = list(_uncomment(region, name))
        elif region.kind == "SOLUTION":
            function = _check_place(region, tree, name, stubbed)
            if region.start not in fixes:
                replacement = _stub(region, function, name, outside)
        out += replacement
        done = region.stop + 1
        if not replacement:  # of the blank lines on both sides, one side's stay
            while out and not out[-1] and done < len(lines) and not lines[done]:
                done += 1
    return _without_unused_imports("\n".join(out + lines[done:]), tree, name)


def _check_pairs(regions: Sequence[Region], name: str) -> None:
    for region, after in zip(regions, [*regions[1:], None], strict=True):
        if region.kind == "BROKEN" and (after is None or (after.kind, after.start) != ("SOLUTION", region.stop + 1)):
            place = after.start if after else region.stop
            raise _refuse(name, place, "after BROKEN comes the SOLUTION that fixes it, without a gap")


def _parse(text: str, name: str) -> ast.Module:
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise _refuse(name, (error.lineno or 1) - 1, f"this is not Python: {error.msg}") from error


Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def _check_place(region: Region, tree: ast.Module, name: str, stubbed: dict[ast.AST, Region]) -> Function | None:
    """The function that a solution stands in, if any. Raises HW7Error where it may not stand there."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]  # from the outside in
    if not any(region.start < node.lineno - 1 < region.stop for node in statements):
        raise _refuse(name, region.stop, f"the region that begins in line {region.start + 1} has no statement")
    around = [node for node in statements if node.lineno - 1 < region.start < (node.end_lineno or 0)]
    bodies = [node for node in around if isinstance(node, Function | ast.ClassDef)]
    wanted = bodies[-1].body[0].col_offset if bodies else 0
    if len(region.indent) != wanted:
        raise _refuse(name, region.start, f"the marker is indented by {len(region.indent)}, the statements by {wanted}")
    function = next((node for node in reversed(bodies) if isinstance(node, Function)), None)
    if function is not None and (earlier := stubbed.setdefault(function, region)) is not region:
        raise _refuse(name, region.start, f"{function.name} has a solution in line {earlier.start + 1} already")
    return function


def _stub(region: Region, function: Function | None, name: str, outside: str) -> list[str]:
    """What stands for a solution: `raise NotImplementedError` with the task in a function, `outside` elsewhere."""
    task = _TASK.search(ast.get_docstring(function) or "") if function else None
    if function and task:
        return [f'{region.indent}raise NotImplementedError("Task {task[1]}: {function.name}")']
    if function and not outside:
        raise _refuse(name, function.lineno - 1, f"the docstring of {function.name} does not say 'Task x.y:'")
    return [region.indent + line for line in outside.split("\n")] if outside else []


def _uncomment(region: Region, name: str) -> Iterator[str]:
    """Lines of a BROKEN region as code. A line's text begins two characters after the marker's indentation."""
    for number, line in enumerate(region.content, start=region.start + 1):
        text = line[len(region.indent) :]
        if text.strip() and not re.match(r"#( |$)", text):
            raise _refuse(name, number, "a line of a BROKEN region is a comment: '# ' and the broken code")
        yield (region.indent + text[2:]).rstrip()


def _without_unused_imports(text: str, original: ast.Module, name: str) -> str:
    """`text` without the imports that `original` uses and it does not; those of TOOLS are kept, with a word."""
    tree = _parse(text, f"{name}, stripped")
    lost = _names(original) - _names(tree)
    lines = text.split("\n")
    for node in reversed(tree.body):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        unused = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in lost]
        if not unused:
            continue
        module = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        if last - first > 1 or "#" in lines[first]:
            raise _refuse(name, first, "an import that a solution needs stands in one line, without a comment")
        if module.partition(".")[0] in TOOLS:
            lines[first] += KEPT_WORD
        elif len(unused) < len(node.names):
            node.names = [alias for alias in node.names if alias not in unused]
            lines[first] = ast.unparse(node)
        else:
            del lines[first]
            while first < len(lines) and not lines[first] and (first == 0 or not lines[first - 1]):
                del lines[first]
    return "\n".join(lines)


def _names(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


# ---- notebooks -------------------------------------------------------------------------------------------------


def strip_notebook(text: str, name: str) -> str:
    """A notebook as students get it: solutions stripped; no output, no count, no metadata but nbgrader's; ids by place.

    A solution cell of nbgrader's without markers is emptied as a whole, as nbgrader does it. Raises HW7Error with the
    cell for what `strip_python` refuses, for a grade_id that stands twice, and for what is no notebook.
    """
    import nbformat

    notebook = _read(text, name)
    ids: set[str] = set()
    for number, cell in enumerate(notebook.cells, start=1):
        place = f"{name}, cell {number}"
        cell.source = _strip_cell(cell, place)
        mark = cell.metadata.get("nbgrader")
        cell.metadata = {"nbgrader": mark} if mark else {}
        cell.id = mark["grade_id"] if mark else f"cell-{number:02}"
        if cell.id in ids:
            raise HW7Error(f"{place}: the grade_id {cell.id!r} is another cell's already")
        ids.add(cell.id)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _read(text: str, name: str) -> NotebookNode:
    import nbformat

    try:
        return nbformat.reads(text, as_version=4)
    except Exception as error:  # nbformat raises nearly anything on a text that is no notebook
        raise HW7Error(f"{name} is no notebook: {error}") from error


def _strip_cell(cell: Any, place: str) -> str:
    regions = find_regions(cell.source, place)
    whole = cell.metadata.get("nbgrader", {}).get("solution", False) and not regions
    if cell.cell_type == "code":
        return CODE_STUB if whole else strip_python(cell.source, place, CODE_STUB)
    lines, out, done = cell.source.split("\n"), list[str](), 0
    for region in regions:
        out += [*lines[done : region.start], *([TEXT_STUB] if region.kind == "SOLUTION" else [])]
        done = region.stop + 1
    return TEXT_STUB if whole else "\n".join(out + lines[done:])


# ---- both ------------------------------------------------------------------------------------------------------


def strip(text: str, name: str) -> str:
    """`strip_notebook` or `strip_python`, by the end of the name."""
    return strip_notebook(text, name) if name.endswith(".ipynb") else strip_python(text, name)


def secrets(text: str, name: str) -> list[str]:
    """What `strip` takes out: the contents of solutions and hidden tests, a text for each."""
    if not name.endswith(".ipynb"):
        return ["\n".join(each.content) for each in find_regions(text, name) if each.kind != "BROKEN"]
    found = []
    for number, cell in enumerate(_read(text, name).cells, start=1):
        regions = find_regions(cell.source, f"{name}, cell {number}")
        whole = not regions and cell.metadata.get("nbgrader", {}).get("solution", False)
        found += [cell.source] if whole else ["\n".join(each.content) for each in regions]
    return found


def stated(text: str, name: str) -> list[str]:
    """What a Python file tells students on purpose: its docstrings, its signatures, its broken code."""
    tree, lines = _parse(text, name), text.split("\n")
    broken = [each for each in find_regions(text, name) if each.kind == "BROKEN"]
    found = [textwrap.dedent("\n".join(_uncomment(each, name))) for each in broken]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function):
            found.append(ast.get_docstring(node) or "")
        if isinstance(node, Function):
            found.append("\n".join(lines[node.lineno - 1 : node.body[0].lineno - 1]))
    return found
