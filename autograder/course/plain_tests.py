"""The plain tests of a task, `tests/test_2_1_kd_loss.py`: written once, in the reference, as a person writes tests.

The handout's worked example stands in them as well. Nobody copies it: in the reference, `worked_example` reads it from
docs/handout.md; for students, `filled_in` puts it there, with the imports that it needs, so that they see what is run.
"""

import ast
import doctest
import re

from hw7 import HW7Error
from hw7.solution import PROJECT

_IMPORT = re.compile(rf"\n*^from {re.escape(__name__)} import worked_example\n(\n*)", re.MULTILINE)
_EXAMPLE = re.compile(r'^EXAMPLE = worked_example\("([\d.]+)"\)$', re.MULTILINE)


def worked_example(task: str) -> str:
    """The example of a task's section as one types it into Python, after the imports and functions that it leans on.

    Raises HW7Error where the handout has none.
    """
    handout = (PROJECT / "docs" / "handout.md").read_text("utf-8")
    first, *sections = re.split(r"^### Task ", handout, flags=re.MULTILINE)
    own = [section for section in sections if section.startswith(f"{task}: ")]
    blocks = re.findall(r"^```python\n(.*?)^```", own[0], re.DOTALL | re.MULTILINE) if own else []
    if not blocks:
        raise HW7Error(f"docs/handout.md has no worked example of task {task}")
    examples = doctest.DocTestParser().get_examples("\n".join(blocks))
    names = {name for example in examples for name in _names(example.source)}
    leans_on = [_only(example.source, names) for example in doctest.DocTestParser().get_examples(first)]
    typed = [*filter(None, leans_on), *(example.source for example in examples)]
    printed = [""] * (len(typed) - len(examples)) + [example.want for example in examples]
    return "".join(_prompted(source) + want for source, want in zip(typed, printed, strict=True))


def _names(source: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}


def _only(source: str, names: set[str]) -> str:
    """What of these imports, or of a function, is one of the names; "" for nothing."""
    (node,) = ast.parse(source).body
    if isinstance(node, ast.Import | ast.ImportFrom):
        node.names = [alias for alias in node.names if alias.name in names]
        return f"{ast.unparse(node)}\n" if node.names else ""
    return source if isinstance(node, ast.FunctionDef) and node.name in names else ""


def _prompted(source: str) -> str:
    first, *rest = source.splitlines(keepends=True)
    block = [""] if rest else []  # an empty line ends it
    return f">>> {first}" + "".join(f"... {line}" for line in rest) + "...\n" * len(block)


def filled_in(text: str) -> str:
    """A test file as students get it: the example in place of the line that reads it from the handout."""
    text = _EXAMPLE.sub(lambda found: f'EXAMPLE = """\n{worked_example(found[1])}"""', text)
    return _IMPORT.sub(lambda found: "\n\n" if "EXAMPLE" in text else found[0], text)
