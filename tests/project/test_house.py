"""The plan of the house: which rooms there are, in which order they stand, and that no import runs upwards.

An import counts wherever it stands: at the top, in a function, for types alone, or as a string that names a module.
docs/architecture.md draws what is held here.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from hw7.solution import PROJECT

# From the ground up: a room may import what stands on lower floors, and nothing beside it.
FLOORS = {
    "hw7": (
        ("__init__",),
        ("support",),
        ("solution", "models", "measure"),
        ("data",),
        ("training", "checks", "doctor"),
        ("report", "handin"),
        ("notebook",),
        ("cli",),
    ),
    "autograder": (
        ("__init__",),
        ("intake", "jail", "tasks"),
        ("rubric",),
        ("grades",),
        ("marks", "grading"),
        ("journal", "exports"),
        ("worker",),
        ("batch",),
        ("course",),
        ("cli",),
    ),
}
MOST_ROOMS = {"hw7": 13, "autograder": 13}
MOST_LINES = {"hw7": 400, "autograder": 400, "benchmarks": 400, "tests": 500}
MOST_OF_A_FUNCTION = 80
NO_MODULES = ("ipynb", "zip", "sbatch", "__file__")  # what stands behind a package's name and is none of its modules
PACKAGES = tuple(FLOORS)


@cache
def modules() -> dict[str, Path]:
    """All modules of the two packages by their dotted names."""
    found = {}
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            parts = path.relative_to(PROJECT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def known(name: str) -> str:
    """The module that a dotted name is, or is something of; "" for what is not ours."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def imports(module: str, path: Path) -> Iterator[str]:
    """Every module of ours that this one names in an import, or in a string that is a module's name."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in modules():
            names = [node.value] if node.value != package else []  # its own folder, to find a file in
        elif isinstance(node, ast.JoinedStr):  # f"autograder.tasks.{chapter}.cases"
            pattern = "".join(re.escape(v.value) if isinstance(v, ast.Constant) else r"\w+" for v in node.values)
            names = [name for name in modules() if "." in name and re.fullmatch(pattern, name)]
        for name in names:
            if (found := known(name)) and found != module:
                yield found


@cache
def graph() -> dict[str, frozenset[str]]:
    return {module: frozenset(imports(module, path)) for module, path in modules().items()}


def room(module: str) -> tuple[str, str]:
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0] or "__init__"


def test_every_room_has_its_floor() -> None:
    for package, floors in FLOORS.items():
        rooms = {name for module in modules() for of, name in [room(module)] if of == package}
        assert rooms == {name for floor in floors for name in floor}
        assert len(rooms - {"__init__"}) <= MOST_ROOMS[package]


def test_imports_run_down() -> None:
    floor = {
        (package, name): n for package, floors in FLOORS.items() for n, floor in enumerate(floors) for name in floor
    }
    wrong = []
    for module, found in graph().items():
        for other in found:
            here, there = room(module), room(other)
            if here == there or there[1] == "__init__":
                continue
            if here[0] == "hw7" != there[0] or (here[0] == there[0] and floor[here] <= floor[there]):
                wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_no_circle_of_imports() -> None:
    """Of modules, in one room too. A package that is no more than a map may be named by what is in it."""
    TopologicalSorter(graph()).prepare()  # raises CycleError, with the circle


def test_the_reading_sees_every_kind_of_import(tmp_path: Path) -> None:
    text = """
    from typing import TYPE_CHECKING
    if TYPE_CHECKING:
        from hw7.data.load import load_split
    def later():
        import hw7.doctor
        import_module("hw7.notebook")
        from ..grades import Grade
    """
    path = tmp_path / "made_up.py"
    path.write_text("\n".join(line[4:] for line in text.splitlines()))
    found = set(imports("autograder.jail.made_up", path))
    assert found == {"hw7.data.load", "hw7.doctor", "hw7.notebook", "autograder.grades"}


def test_modules_that_are_named_in_other_files_exist() -> None:
    """In docs, scripts, templates and attacks, where no import would fail."""
    wrong = []
    for path in sorted(
        path for ending in ("md", "sh", "j2", "toml", "ini", "ipynb") for path in PROJECT.rglob(f"*.{ending}")
    ):
        if any(part.startswith(".") or part == "out" for part in path.relative_to(PROJECT).parts):
            continue
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"(?<![\w./-])((?:hw7|autograder)(?:\.[a-z_]\w*)+)(?![\w/-])", text):
            if name.split(".")[1] not in NO_MODULES and known(name).count(".") == 0:
                wrong.append(f"{path.relative_to(PROJECT)}: {name}")
        for name in re.findall(r"(?<![\w./-])((?:hw7|autograder|tests|reference_solutions)/[\w./-]*\w)", text):
            made_up = "CHAPTER" in name or "3.6" in name  # the instructor's example
            if "." in name.rpartition("/")[2] and not made_up and not (PROJECT / name).exists():
                wrong.append(f"{path.relative_to(PROJECT)}: {name}")
    assert wrong == []


@pytest.mark.parametrize("folder", MOST_LINES)
def test_no_file_is_too_long(folder: str) -> None:
    sizes = {
        path.relative_to(PROJECT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for ending in ("py", "toml", "j2")
        for path in sorted((PROJECT / folder).rglob(f"*.{ending}"))
    }
    assert {name: lines for name, lines in sizes.items() if lines > MOST_LINES[folder]} == {}


def test_no_function_is_too_long() -> None:
    long = {}
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_OF_A_FUNCTION:
                    long[f"{module}.{node.name}"] = lines
    assert long == {}


def test_every_file_says_what_it_is() -> None:
    for module, path in modules().items():
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
        assert first, module
        assert len(first[0]) > 10, module
