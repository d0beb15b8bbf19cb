"""Submissions that are alike, and that are not: independent ones, put together from right answers, disguised copies.

An independent pair has no answer in common: all that are known are split in two by chance, and each of the two takes
its functions from its own half. A copy is what a student may do to a file in an hour without understanding it.
"""

import ast
import random
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache

from submissions import HERE, reference_files, replace_definitions

from autograder.intake.similar import handed_out, read_given
from hw7.solution import PROJECT

Files = dict[str, bytes]
STUBS = PROJECT / "assignments" / "hw7"
CHAPTERS = ("models", "losses", "pruning", "quantization")
GIVEN = read_given(handed_out(()))


@cache
def stubs() -> Mapping[str, bytes]:
    paths = sorted((STUBS / "solution").glob("*.py"))
    return {f"solution/{path.name}": path.read_bytes() for path in paths}


@cache
def _answers() -> tuple[tuple[str, str], ...]:
    """Module and code of every right answer that was written for itself, each once."""
    found = []
    for path in sorted((HERE / "answers").glob("*/wrong-*.toml")):
        if path.stem.count("-") == 1:  # in the others of a task it is nearly the same
            table = tomllib.loads(path.read_text())
            found.append((table["module"], table["right"]))
    for path in sorted((HERE / "answers").glob("*/right.toml")):
        for raw in tomllib.loads(path.read_text())["alternative"]:
            found += raw.get("code", {}).items()
    module = {f"{chapter}.py" for chapter in CHAPTERS}
    return tuple(dict.fromkeys(each for each in found if each[0] in module))


def independent_pair(seed: int) -> tuple[Files, Files]:
    """Two submissions that share no answer. One of them has the reference's functions where its half has none."""
    answers = list(_answers())
    random.Random(seed).shuffle(answers)
    middle = len(answers) // 2
    return _put_together(reference_files(), answers[:middle]), _put_together(stubs(), answers[middle:])


def _put_together(base: Mapping[str, bytes], answers: list[tuple[str, str]]) -> Files:
    texts = {name: data.decode() for name, data in base.items()}
    for module, code in answers:
        name = f"solution/{module}"
        texts[name] = replace_definitions(texts[name], code)
    return {name: text.encode() for name, text in texts.items()}


class _Disguise(ast.NodeTransformer):
    """Other names for variables and helpers, other spellings of numbers, other strings, no docstrings, and a statement
    that does nothing after every `every` others."""

    def __init__(self, tree: ast.Module, every: int) -> None:
        own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        own |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        self.names = {name: f"renamed_{number}" for number, name in enumerate(sorted(own))}
        self.every, self.count = every, 0

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.name = self.names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str):
            return ast.Constant(f"{node.value}!")
        return ast.Constant(float(node.value)) if type(node.value) is int else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("another text")

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if self.every and isinstance(getattr(node, "body", None), list) and not isinstance(node, ast.Module):
            node.body = list(self._with_idle_ones(node.body))
        return node

    def _with_idle_ones(self, body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in body:
            self.count += 1
            if self.count % self.every == 0:
                yield ast.parse(f"idle_{self.count} = None").body[0]
            yield statement


def copied(files: Mapping[str, bytes], seed: int, every: int = 0) -> Files:
    """The same code in disguise: also no comments, functions in another order, lines laid out anew. every: after how
    many statements there is one more that does nothing; 0 for none."""
    chance = random.Random(seed)
    result = {}
    for name, data in files.items():
        tree = ast.parse(data)
        chance.shuffle(tree.body)
        disguised = ast.fix_missing_locations(_Disguise(tree, every).visit(tree))
        result[name] = ast.unparse(disguised).replace(", ", ",\n        ").encode()
    return result
