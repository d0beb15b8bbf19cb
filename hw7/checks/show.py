"""A case of the public tests as a program: a template for each call, with the inputs written out or read from the file.

`templates/CALL.py.j2` says in plain PyTorch what the call of that name in `hw7.checks.calls` does with a submission, so
that a student can read it, save it, run it and print what he likes. Small inputs stand in it digit by digit; long ones
and what is expected come from the file of the public tests (`shown.PublicCase`). A call without a template, of a task
that somebody has added, is called as it is. What is printed is ASCII, so that every terminal can write it into a file.
"""

import difflib
import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import torch
from torch import Tensor

from hw7 import HW7Error
from hw7.checks.calls.run import PROGRAMS
from hw7.checks.cases import Case, Task, Value
from hw7.checks.compare import compared_names, kind, words
from hw7.solution import default_directory

MOST = 50  # numbers of a tensor that is written out
WIDTH = 100  # characters of a line of numbers
SAID = 3  # values of which the program says in a comment what is expected


def show_command(task_id: str, case: str, directory: Path) -> str:
    """What prints this program, to be pasted into a shell of any system."""
    try:
        own = directory.resolve() == default_directory().resolve()
    except HW7Error:  # hw7 is installed without an assignment
        own = False
    return f'hw7 check {task_id} --show "{case}"' + ("" if own else f' --solution "{directory}"')


def case_named(task: Task, cases: Sequence[Case], name: str) -> Case:
    """The case of this name. Raises HW7Error, with the names of all, where there is none."""
    by_name = {case.name: case for case in cases}
    if name not in by_name:
        first = [*difflib.get_close_matches(name, by_name, n=3), *by_name]
        names = "\n  ".join(dict.fromkeys(first))
        raise HW7Error(f"task {task.id} has no case {name!r}; it has\n  {names}")
    return by_name[name]


class Heading(NamedTuple):
    """What the program says of itself: what it is, what made it, how to use it."""

    what: str
    command: str
    how: str


OWN = "Save it as case.py and run it: python case.py. It is yours: print what you like, change what you like."


def program(task: Task, case: Case, file: Path, directory: Path, heading: Heading | None = None) -> str:
    """The program. file: holds the case. directory: holds `solution`. heading: default: a student's own."""
    heading = heading or Heading("A case of the public tests", show_command(task.id, case.name, directory), OWN)
    inputs, compared = case.call.inputs, compared_names(case.expected)
    values = {
        "task": task,
        "case": case,
        **heading._asdict(),
        "directory": str(directory),
        "file": str(file),
        "inputs": inputs,
        "compared": compared,
        "refuses": case.judge == "refuses",
        "let": partial(_let, inputs),
        "compare": partial(_comparison, case),
        "options": ", temperature, alpha" if "alpha" in inputs else "",
        "module": PROGRAMS[case.call.program].__module__.rpartition(".")[2],
        "long": any(isinstance(value, Tensor) and value.numel() > MOST for value in inputs.values()),
    }
    text = _templates().select_template([f"{case.call.program}.py.j2", "call.py.j2"]).render(values)
    text = re.sub(r"\n{4,}", "\n\n\n", text).replace("…", "...")
    return text.strip().encode("ascii", "backslashreplace").decode() + "\n"


@cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("hw7.checks"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Python, not HTML
    )
    found.filters["quoted"] = quoted
    return found


def quoted(text: str) -> str:
    """A text as a literal of Python, in double quotes and ASCII."""
    return '"' + text.encode("unicode_escape").decode().replace('"', '\\"') + '"'


def _let(inputs: Mapping[str, Value], *names: str) -> str:
    """A line for each of these inputs that the case has: `NAME = …`."""
    return "\n".join(_assignment(name, inputs[name]) for name in names if name in inputs)


def _assignment(name: str, value: Value) -> str:
    if isinstance(value, Tensor) and value.numel() > MOST:
        return f"{name} = case[{quoted(name)}]  # {kind(value)}"
    return f"{name} = {_literal(value)}"


def _literal(value: Value) -> str:
    """A small input as Python, such that nothing of it is lost."""
    if not isinstance(value, Tensor):
        return quoted(value) if isinstance(value, str) else repr(value)
    dtype = f"dtype={value.dtype}"
    if not value.numel():
        return f"torch.zeros({list(value.shape)}, {dtype})"
    return f"torch.tensor({_rows(value)}, {dtype})"


def _rows(tensor: Tensor) -> str:
    """The nested list of a tensor, a line for each row."""
    if tensor.ndim == 0:
        return _number(tensor)
    parts = [_rows(each) for each in tensor]
    if tensor.ndim == 1:
        text = f"[{', '.join(parts)}]"
        if len(text) <= WIDTH:
            return text
        return f"[\n{textwrap.indent(textwrap.fill(', '.join(parts), WIDTH), '    ')}\n]"
    return "[\n" + "".join(textwrap.indent(part, "    ") + ",\n" for part in parts) + "]"


def _number(tensor: Tensor) -> str:
    """The shortest digits that give this number again, in its own dtype."""
    value = tensor.item()
    if not isinstance(value, float):
        return repr(value)
    short = str(np.float32(value)) if tensor.dtype is torch.float32 else repr(value)
    if not np.isfinite(value):
        return f'float("{value}")'
    return short if torch.tensor(float(short), dtype=tensor.dtype).equal(tensor) else repr(value)


def _comparison(case: Case, pairs: Sequence[tuple[str, str]], returned: str = "", more: str = "") -> str:
    """The last lines: what is expected, and the call that compares. pairs: (value, the expression that has it).
    returned: what the function returns, which must be a tensor even where the case looks at others. more: a dict of
    further values."""
    looked_at = compared_names(case.expected)
    told = [(name, value) for name in looked_at if isinstance(value := case.expected[name], Tensor)]
    comments = [f"# Expected: {name} = {words(value)}" for name, value in told]
    lines = [f"{json.dumps(name)}: {code}," for name, code in pairs if name in (*looked_at, returned)]
    lines += [f"**{more},"] * bool(more)
    entries = "{\n" + textwrap.indent("\n".join(lines), "    ") + "\n}" if len(lines) > 1 else f"{{{lines[0][:-1]}}}"
    return "\n".join([*(comments if len(comments) <= SAID else []), f"case.compare({entries})"])
