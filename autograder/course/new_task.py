"""Scaffolding of a new task: `hw7-grade new-task` writes a stub into every file that a task has a part in.

    autograder/rubric.toml, autograder/tasks/CHAPTER/__init__     its points and parts
    reference_solutions/hw7/solution/CHAPTER                      contract and reference solution
    hw7/checks/calls/CHAPTER                                      the call
    autograder/tasks/CHAPTER/oracle, cases                        the grader's own answer, the questions
    hw7/checks/mistakes/CHAPTER, tests/answers/CHAPTER            known mistakes, right and wrong solutions
    docs/handout.md                                               what students read

A stub says what to write in its place: "TODO 3.6: …". `left_to_do` lists these lines; a test fails where one is left.
"""

import ast
import keyword
import re
from collections.abc import Sequence

from autograder.course import REFERENCE
from autograder.course.files import rendered
from autograder.rubric import load_rubric
from autograder.tasks.table import CHAPTER
from hw7 import HW7Error
from hw7.checks.mistakes import load_mistakes
from hw7.checks.mistakes.__main__ import as_page
from hw7.solution import MODULES, PROJECT, need_clone
from hw7.support.files import write_file

RUBRIC, HANDOUT, MISTAKES_PAGE = "autograder/rubric.toml", "docs/handout.md", "docs/mistakes.md"
PARTS = "autograder/tasks/{chapter}/__init__.py"
ANSWERS = "tests/answers/{chapter}/wrong-{task}.toml"
# The stubs that are added at the end of a file of the chapter, by their template.
APPENDED = {
    "solution.py": f"{REFERENCE}/solution/{{chapter}}.py",
    "calls.py": "hw7/checks/calls/{chapter}.py",
    "oracle.py": "autograder/tasks/{chapter}/oracle.py",
    "cases.py": "autograder/tasks/{chapter}/cases.py",
    "mistakes.toml": "hw7/checks/mistakes/{chapter}.toml",
}
ROOMS = (RUBRIC, PARTS, *APPENDED.values(), ANSWERS, HANDOUT)  # in the order in which they are filled in
NEXT = """\
Then bring up to date what is made from these files, and run the tests:
  python -m hw7.checks.mistakes > docs/mistakes.md
  hw7-grade release
  pytest -m "not slow"
docs/instructors.md goes through an example."""
_TODO = re.compile(r"TODO \d+\.\d+: [^\"\n]*")


def new_task(task: str, name: str, chapter: str) -> list[str]:
    """Writes the stubs of a task behind the last one of its chapter, and returns what is left to do.

    task: the next free id of the chapter. name: that of the function. Raises HW7Error, and writes nothing, for an
    argument that cannot be used and where the project is no clone.
    """
    need_clone(REFERENCE, "tests/answers", "pyproject.toml", HANDOUT)
    last = _check(task, name, chapter)
    values = {"task": task, "name": name, "chapter": chapter, "title": name.replace("_", " ").capitalize()}
    values["mistake"] = f"{name.replace('_', '-')}-mistake"

    def stub(template: str) -> str:
        return rendered(f"new_task/{template}", **values).decode()

    files = {template: file.format(**values) for template, file in APPENDED.items()}
    new = {file: _appended((PROJECT / file).read_text("utf-8"), stub(template)) for template, file in files.items()}
    new[RUBRIC] = _inserted(RUBRIC, [(rf'^id = "{re.escape(last)}"$.*?(?=^$|\Z)', f"\n{stub('rubric.toml')}")])
    parts = PARTS.format(**values)
    new[parts] = _inserted(parts, [(r"^CHECKS = \{.*?(?=^\})", stub("parts.py"))])
    imported = f">>> from solution.{chapter} import {name}\n"
    new[HANDOUT] = _inserted(HANDOUT, [
        (rf"^>>> from solution\.{chapter} import [^\n]*\n(?!>>> from solution\.{chapter} )", imported),
        (rf"^### Task {re.escape(last)}: .*?(?=^###? |\Z)", f"{stub('handout.md')}\n"),
    ])  # fmt: skip
    new[ANSWERS.format(**values)] = stub("answers.toml")
    for file, text in new.items():
        write_file(PROJECT / file, text.encode())
    load_mistakes.cache_clear()
    write_file(PROJECT / MISTAKES_PAGE, as_page().encode())
    return left_to_do()


def left_to_do() -> list[str]:
    """What a person has to fill in: "FILE:LINE: TODO 3.6: …" for each stub, in the order of the rooms."""
    found = []
    for room in ROOMS:
        for path in sorted(PROJECT.glob(room.format(chapter="*", task="*"))):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
                found += [f"{path.relative_to(PROJECT).as_posix()}:{number}: {todo}" for todo in _TODO.findall(line)]
    return found


def _check(task: str, name: str, chapter: str) -> str:
    """The id of the task that the new one comes behind. Raises HW7Error for a task that cannot be."""
    if chapter not in MODULES:
        raise HW7Error(f"{chapter!r} is no chapter that can have a new task; these can: {', '.join(MODULES)}")
    tasks = load_rubric().tasks
    if task in [each.id for each in tasks]:
        raise HW7Error(f"there is a task {task} already")
    last = ["", *(each.id for each in tasks if CHAPTER[each.check] == chapter)][-1]
    number, _, count = last.partition(".")
    if not count.isdecimal():
        raise HW7Error(f"{RUBRIC} has no task of the chapter {chapter}, such as 3.5, that a new one could follow")
    following = ".".join((number, str(int(count) + 1)))
    if task != following:
        raise HW7Error(f"{task!r} cannot be the id of a new task in the chapter {chapter}: the next one is {following}")
    if not re.fullmatch(r"[a-z][a-z0-9_]{,35}", name) or keyword.iskeyword(name):
        words = "up to 36 small letters, digits and '_', for example my_task"
        raise HW7Error(f"{name!r} cannot be the name of a task's function: use {words}")
    if name in CHAPTER:
        raise HW7Error(f"{name!r} is the name of a check already")
    for file in (file.format(chapter=each) for file in APPENDED.values() for each in MODULES):
        if file.endswith(".py") and name in _defined((PROJECT / file).read_text("utf-8")):
            raise HW7Error(f"the name {name!r} is taken in {file}")
    if (PROJECT / (answers := ANSWERS.format(chapter=chapter, task=task))).exists():
        raise HW7Error(f"{answers} is there already, without a task {task}")
    return last


def _defined(source: str) -> set[str]:
    """The names that a module defines or imports."""
    names = set[str]()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.alias():
                names.add(node.asname or node.name)
    return names


def _appended(text: str, stub: str) -> str:
    """A stub at the end of a file; a module of Python has `Tensor` then, too."""
    if not stub.startswith("def "):
        return f"{text}\n{stub}"
    if "Tensor" in stub and "Tensor" not in _defined(text):
        text = text.replace("\nfrom torch import ", "\nfrom torch import Tensor, ", 1)
    return f"{text}\n\n{stub}"


def _inserted(file: str, places: Sequence[tuple[str, str]]) -> str:
    """The text of a file with each of these behind what a pattern finds. Raises HW7Error where that is not there."""
    text = (PROJECT / file).read_text("utf-8")
    for pattern, addition in places:
        found = re.search(pattern, text, re.MULTILINE | re.DOTALL)
        if not found:
            raise HW7Error(f"{file} is not as it was: there is no place in it for a new task (looking for {pattern})")
        text = text[: found.end()] + addition + text[found.end() :]
    return text
