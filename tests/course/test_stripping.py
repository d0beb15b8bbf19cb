"""What becomes of marked regions, and that nothing wrongly marked passes in silence."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from autograder.course.stripping import secrets, stated, strip, strip_notebook, strip_python
from hw7 import HW7Error
from hw7.solution import PROJECT

REFERENCE = PROJECT / "reference_solutions" / "hw7"
SOURCES = sorted((REFERENCE / "solution").glob("*.py"))

MODULE = '''\
"""A module."""

import json
import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

LIMIT = math.pi


def first(x: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Task 1.1: the first one."""
    ### BEGIN SOLUTION
    secret = json.dumps({"x": 1})
    return F.relu(apply(x) * _helper(len(secret)))
    ### END SOLUTION


### BEGIN SOLUTION
def _helper(n: int) -> int:
    """Known to the reference only."""
    return n + 1


### END SOLUTION


class Thing:
    """A class."""

    def second(self, y: int) -> Mapping[str, int]:
        """Task 1.2: the second one."""
        z = y + LIMIT  # given
        ### BEGIN SOLUTION
        return {"z": z, "w": torch.tensor(0)}
        ### END SOLUTION


### BEGIN HIDDEN TESTS
assert first is not None
### END HIDDEN TESTS
'''

STRIPPED = '''\
"""A module."""

import math
from collections.abc import Callable, Mapping

import torch  # noqa: F401 (you will need it)
import torch.nn.functional as F  # noqa: F401 (you will need it)
from torch import Tensor

LIMIT = math.pi


def first(x: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Task 1.1: the first one."""
    raise NotImplementedError("Task 1.1: first")


class Thing:
    """A class."""

    def second(self, y: int) -> Mapping[str, int]:
        """Task 1.2: the second one."""
        z = y + LIMIT  # given
        raise NotImplementedError("Task 1.2: second")


'''


def test_a_stub_keeps_what_is_asked_and_loses_the_answer() -> None:
    assert strip_python(MODULE, "m.py").rstrip() == STRIPPED.rstrip()


def test_what_is_stripped_is_what_is_secret() -> None:
    found = "\n".join(secrets(MODULE, "m.py"))
    for line in ('secret = json.dumps({"x": 1})', "def _helper(n: int) -> int:", "assert first is not None"):
        assert line in found
        assert line not in STRIPPED
    assert "LIMIT = math.pi" not in found


def test_text_without_markers_is_left_alone() -> None:
    text = "import json\n\n\n\nx = json\n"
    assert strip_python(text, "m.py") == text


@pytest.mark.parametrize("path", SOURCES, ids=[path.stem for path in SOURCES])
def test_stubs_of_the_reference_have_its_signatures_and_docstrings(path: Path) -> None:
    text = path.read_text()
    stubs = strip(text, "m.py")

    def asked(source: str) -> dict[str, tuple[str, str | None]]:
        functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
        public = [node for node in functions if not node.name.startswith("_")]
        return {
            node.name: (
                f"{ast.unparse(node.args)} {node.returns and ast.unparse(node.returns)}",
                ast.get_docstring(node),
            )
            for node in public
        }

    assert asked(stubs) == asked(text)
    tasks = re.findall(r'raise NotImplementedError\("Task ([\w.-]+): (\w+)"\)', stubs)
    assert [name for _, name in tasks] == list(asked(stubs))


# ---- broken code and its fix ------------------------------------------------------------------------------------

BUG = '''\
def total(values: list[float]) -> float:
    """The sum."""
    ### BEGIN BROKEN
    # result = 1.0
    #
    # for value in values:
    #     result += value  # looks right
    # return result
    ### END BROKEN
    ### BEGIN SOLUTION
    return sum(values)
    ### END SOLUTION
'''


def test_broken_code_stands_where_the_fixed_code_was() -> None:
    stripped = strip_python(BUG, "bug.py")
    assert stripped == (
        'def total(values: list[float]) -> float:\n    """The sum."""\n    result = 1.0\n\n    for value in values:\n'
        "        result += value  # looks right\n    return result\n"
    )
    scope: dict[str, object] = {}
    exec(stripped, scope)
    assert scope["total"]([1.0, 2.0]) == 4.0  # type: ignore[operator]
    assert "return sum(values)" in secrets(BUG, "bug.py")[0]
    assert any("result = 1.0" in text for text in stated(BUG, "bug.py"))


# ---- what is refused -----------------------------------------------------------------------------------------------


def function(*lines: str) -> str:
    return "\n".join(["def f() -> int:", '    """Task 9.9: a function."""', *lines, ""])


BEGIN, END = "    ### BEGIN SOLUTION", "    ### END SOLUTION"

REFUSED = {
    "nested": (function(BEGIN, BEGIN, "    return 1", END, END), 4, "begins inside the one of line 3"),
    "never ended": (function(BEGIN, "    return 1"), 3, "never ended"),
    "never begun": (function("    return 1", END), 4, "ends nothing"),
    "ended by another": (function(BEGIN, "    return 1", "    ### END HIDDEN TESTS"), 5, "ends nothing"),
    "empty": (function(BEGIN, "", END, "    return 1"), 5, "is empty"),
    "comments only": (function(BEGIN, "    # nothing", END, "    return 1"), 5, "has no statement"),
    "marker too far left": (function("### BEGIN SOLUTION", "    return 1", "### END SOLUTION"), 3, "indented by 0"),
    "marker too far right": (
        function("    if True:", f"    {BEGIN}", "        return 1", f"    {END}"),
        4,
        "indented by 8",
    ),
    "edges differ": (function(BEGIN, "    return 1", f"    {END}"), 5, "not indented like its BEGIN"),
    "content left of the marker": (
        function(BEGIN, "    x = 1", END) + f"\n{BEGIN}\nx = 2\n{END}\n",
        8,
        "indented less",
    ),
    "across functions": (
        function(BEGIN, "    return 1") + "\n\ndef g() -> int:\n    return 2\n" + END,
        7,
        "indented less",
    ),
    "misspelt": (function("    ### BEGIN SOLUTON", "    return 1", END), 3, "looks like one"),
    "two signs only": (function("    ## BEGIN SOLUTION", "    return 1", "    ## END SOLUTION"), 3, "looks like one"),
    "small letters": (function("    ### begin solution", "    return 1", "    ### end solution"), 3, "looks like one"),
    "more words in the line": (function(f"{BEGIN} of task 9.9", "    return 1", END), 3, "looks like one"),
    "twice in a function": (function(BEGIN, "    x = 1", END, BEGIN, "    return x", END), 6, "already"),
    "no task in the docstring": (function(BEGIN, "    return 1", END).replace("Task 9.9", "A task"), 1, "does not say"),
    "not Python": (function(BEGIN, "    return (1", END), 4, "not Python"),
    "broken without a fix": (
        function("    ### BEGIN BROKEN", "    # x", "    ### END BROKEN", "    x = 1"),
        5,
        "comes the SOLUTION",
    ),
    "a gap before the fix": (
        function("    ### BEGIN BROKEN", "    # return 2", "    ### END BROKEN", "", BEGIN, "    return 1", END),
        7,
        "without a gap",
    ),
    "broken code that is no comment": (
        function("    ### BEGIN BROKEN", "    return 2", "    ### END BROKEN", BEGIN, "    return 1", END),
        4,
        "is a comment",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrongly_marked_text_is_refused_with_file_and_line(case: str) -> None:
    text, line, reason = REFUSED[case]
    with pytest.raises(HW7Error, match=rf"^some/file\.py(, stripped)?, line {line}: .*{re.escape(reason)}"):
        strip_python(text, "some/file.py")


def test_what_leaves_no_python_is_refused() -> None:
    text = "if True:\n    ### BEGIN HIDDEN TESTS\n    x = 1\n    ### END HIDDEN TESTS\n"
    with pytest.raises(HW7Error, match="stripped, line"):
        strip_python(text, "m.py")


# ---- notebooks -----------------------------------------------------------------------------------------------------


def mark(name: str, *, grade: bool = True, solution: bool = False, points: int = 2) -> dict[str, object]:
    return {
        "grade": grade,
        "grade_id": name,
        "locked": not solution,
        "points": points,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }


def notebook(*cells: nbformat.NotebookNode) -> str:
    return nbformat.writes(nbformat.v4.new_notebook(cells=list(cells)))


def test_a_notebook_loses_answers_outputs_and_traces_of_whoever_ran_it() -> None:
    new = nbformat.v4
    output = new.new_output("execute_result", data={"text/plain": "the answer"}, execution_count=3)
    code = new.new_code_cell(
        "x = 1\n### BEGIN SOLUTION\nx = 42\n### END SOLUTION", outputs=[output], execution_count=3,
        metadata={"collapsed": True, "tags": ["mine"]},
    )  # fmt: skip
    whole = new.new_code_cell("y = 43", metadata={"nbgrader": mark("answer-1", grade=False, solution=True)})
    words = new.new_markdown_cell("Because 44.", metadata={"nbgrader": mark("question-1", solution=True)})
    part = new.new_markdown_cell("Why?\n### BEGIN SOLUTION\n45\n### END SOLUTION\n(one line)")
    test = new.new_code_cell("assert x\n### BEGIN HIDDEN TESTS\nassert x == 42\n### END HIDDEN TESTS")
    text = notebook(code, whole, words, part, test)

    stripped = strip_notebook(text, "n.ipynb")
    cells = nbformat.reads(stripped, as_version=4).cells
    assert [cell.source for cell in cells] == [
        "x = 1\n# YOUR CODE HERE\nraise NotImplementedError",
        "# YOUR CODE HERE\nraise NotImplementedError",
        "YOUR ANSWER HERE",
        "Why?\nYOUR ANSWER HERE\n(one line)",
        "assert x",
    ]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)
    assert [dict(cell.metadata) for cell in cells[::3]] == [{}, {}]
    assert cells[2].metadata.nbgrader == mark("question-1", solution=True)
    assert not re.search(r"4[2345]|mine", stripped)
    assert {"y = 43", "Because 44.", "45", "x = 42", "assert x == 42"} <= set(secrets(text, "n.ipynb"))


def test_ids_of_cells_depend_on_their_place_only() -> None:
    first, second = (notebook(nbformat.v4.new_code_cell("x"), nbformat.v4.new_markdown_cell("y")) for _ in range(2))
    assert first != second  # nbformat makes random ones
    assert strip_notebook(first, "n.ipynb") == strip_notebook(second, "n.ipynb")
    assert strip_notebook(strip_notebook(first, "n.ipynb"), "n.ipynb") == strip_notebook(first, "n.ipynb")


def test_errors_name_the_cell() -> None:
    cell = nbformat.v4.new_code_cell("### BEGIN SOLUTION\nx = 1")
    with pytest.raises(HW7Error, match=r"n\.ipynb, cell 2, line 1: .*never ended"):
        strip_notebook(notebook(nbformat.v4.new_markdown_cell("a"), cell), "n.ipynb")
    twice = [nbformat.v4.new_code_cell("x", metadata={"nbgrader": mark("task-1-1")}) for _ in range(2)]
    with pytest.raises(HW7Error, match=r"cell 2: the grade_id 'task-1-1' is another cell's already"):
        strip_notebook(notebook(*twice), "n.ipynb")
    with pytest.raises(HW7Error, match=r"n\.ipynb is no notebook"):
        strip_notebook("{", "n.ipynb")
