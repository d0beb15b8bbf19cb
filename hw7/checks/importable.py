"""Why a module of a submission cannot be imported, found in its syntax tree: nothing of it is run.

What an import would run is looked at from top to bottom: the statements of the module, and those of the submission's
other modules where it imports them; of functions only what is computed when they are defined. The first thing that
cannot work is said, else the first that may not, in words of our own and names that stand in the source.
"""

import ast
import builtins
import importlib.util
import keyword
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from hw7.solution import SOURCE

GIVEN = ("torch", "torchvision", "numpy", "PIL", "safetensors", "hw7")  # beside the standard library
LONGEST = 60  # characters of a name that is repeated to whoever wrote it
_NO_PACKAGE = "which the grader does not have (it has torch, torchvision, numpy and the standard library)"
_ENDS = {"exit", "quit", "sys.exit", "os._exit", "os.abort", "SystemExit"}
_READS = {"open", "torch.load", "np.load", "numpy.load", "load_file", "safetensors.torch.load_file", "Image.open"}
_PROGRAMS = {
    "os.system",
    "os.popen",
    "subprocess.run",
    "subprocess.call",
    "subprocess.Popen",
    "subprocess.check_output",
}
_GPU = {"torch.cuda.set_device", "torch.cuda.current_device", "torch.cuda.get_device_name", "torch.cuda.init"}


RAISES = "an exception is raised on import"


class Trouble(NamedTuple):
    """What stops an import: in which file ("solution/losses.py"), and what it is: "line 14, invalid syntax"."""

    path: str
    what: str


class _Stop(Exception):
    """The first trouble."""


def _dotted(package: str, module: str) -> str:
    return ".".join((package, module))


def given(package: str) -> bool:
    """Whether the grader has a package, for whoever is not in it."""
    return package in sys.stdlib_module_names or package in GIVEN


def installed(package: str) -> bool:
    """Whether this Python has it."""
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def import_trouble(files: Mapping[str, bytes], module: str, has: Callable[[str], bool] = given) -> Trouble | None:
    """What stops `import solution.MODULE`; None where nothing is seen. files: source by path, "solution/losses.py".

    has: whether a package can be imported.
    """
    look = _Look(files, has)
    try:
        look.at(SOURCE)
        if module:
            look.at(_dotted(SOURCE, module))
        if look.perhaps:
            return look.perhaps[0]
    except _Stop as stop:
        return Trouble(*stop.args)
    except RecursionError:
        return Trouble(f"{SOURCE}/{module or '__init__'}.py", "expressions in it are too deep")
    return None


def told(module: str, trouble: Trouble | None, ended: str = RAISES) -> str:
    """In words: "losses.py cannot be imported: line 14, invalid syntax." ended: what is said where nothing was seen."""
    name = f"{module or '__init__'}.py"
    if trouble is None:
        how = f'run `python -c "import solution.{module}"` in the folder that holds `solution`, and see'
        return f"{name} cannot be imported: {ended}. At home, {how}."
    where = trouble.path.removeprefix(f"{SOURCE}/")
    return f"{name} cannot be imported: {f'in {where}, ' if where != name else ''}{trouble.what}."


def packages_inside(files: Mapping[str, bytes]) -> Iterator[Trouble]:
    """Packages that the grader does not have and that functions import, which shows only where they are called."""
    for path in sorted(files):
        try:
            tree = _parsed(files[path])
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        on_import = {id(node) for node in _run_on_import(tree.body)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in on_import:
                for name in _outside(node):
                    if not given(name) and name != SOURCE:
                        yield Trouble(path, f"line {node.lineno} imports {_shown(name)}, {_NO_PACKAGE}")


# ---- the walk ------------------------------------------------------------------------------------------------------


class _Look:
    """One import, and all that it leads to."""

    def __init__(self, files: Mapping[str, bytes], has: Callable[[str], bool]) -> None:
        self.files, self.has = files, has
        self.names: dict[str, set[str] | None] = {}  # by module: what it defines so far; None: anything, by a star
        self.done: set[str] = set()
        self.perhaps: list[Trouble] = []  # what may go well

    def path_of(self, module: str) -> str:
        """The file of a dotted module of the submission; "" where there is none."""
        base = module.replace(".", "/")
        return next((path for path in (f"{base}/__init__.py", f"{base}.py") if path in self.files), "")

    def is_there(self, module: str) -> bool:
        folder = module.replace(".", "/") + "/"
        return bool(self.path_of(module)) or any(path.startswith(folder) for path in self.files)

    def at(self, module: str) -> None:
        """Looks at a module of the submission, once. Raises _Stop at the first trouble."""
        path = self.path_of(module)
        if module in self.names or not path:
            return
        self.names[module] = set()
        try:
            tree = _parsed(self.files[path])
        except SyntaxError as error:
            raise _Stop(path, _about_syntax(error, self.files[path])) from error
        except (ValueError, MemoryError) as error:
            raise _Stop(path, "it holds bytes that are no text") from error
        lazy = sys.version_info >= (3, 14) or any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
        )
        for node in _run_on_import(tree.body):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self.imported(module, path, node)
            else:
                self.statement(module, path, node, lazy)
            self.define(module, node)
        self.done.add(module)

    def define(self, module: str, node: ast.stmt) -> None:
        known = self.names[module]
        if known is None:
            return
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            self.names[module] = None
            return
        known |= _bound(node)

    def imported(self, module: str, path: str, node: ast.Import | ast.ImportFrom) -> None:
        siblings = {other.removeprefix(f"{SOURCE}/").partition("/")[0].removesuffix(".py") for other in self.files}
        for name in _outside(node):
            if name == SOURCE or self.has(name):
                continue
            if name in siblings:
                raise _Stop(path, f"line {node.lineno} imports `{name}`: write `from solution.{name} import …`")
            raise _Stop(path, f"line {node.lineno} imports {_shown(name)}, {_NO_PACKAGE}")
        for target, names in _inside(module, self.path_of(module).endswith("__init__.py"), node):
            self.own(module, path, node.lineno, target, names)

    def own(self, module: str, path: str, line: int, target: str, names: list[str]) -> None:
        """An import of the submission's own: target "solution.losses", and what is taken from it."""
        parts = target.split(".")
        for depth in range(2, len(parts) + 1):
            step = ".".join(parts[:depth])
            if not self.is_there(step):
                raise _Stop(path, f"line {line} imports {_shown(step)}, which is not among the files")
            self.at(step)
        known = self.names.get(target, set())
        file = self.path_of(target).removeprefix(f"{SOURCE}/") or _shown(target)
        for name in names:
            if self.is_there(_dotted(target, name)):
                self.at(_dotted(target, name))
            elif known is not None and name not in known and "__getattr__" not in known and target != module:
                if target in self.names.keys() - self.done:
                    raise _Stop(path, f"line {line} imports from {file}, which imports this file: a circle")
                raise _Stop(path, f"line {line} imports {_shown(name)} from {file}, which does not define it")

    def statement(self, module: str, path: str, node: ast.stmt, lazy: bool) -> None:
        if isinstance(node, ast.Raise):
            self.perhaps.append(Trouble(path, f"line {node.lineno} raises an exception on import"))
        known = self.names[module]
        comprehended = {name for each in _computed(node, lazy) for name in _stored(each)}
        for part in _computed(node, lazy):
            if isinstance(part, ast.Call) and (what := _about_call(part)):
                raise _Stop(path, f"line {part.lineno} {what}")
            if isinstance(part, ast.Call) and (what := _doubtful(part)):
                self.perhaps.append(Trouble(path, f"line {part.lineno} {what}"))
            if not (isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)) or known is None:
                continue
            if part.id not in known | comprehended | _bound(node) and not _builtin(part.id):
                raise _Stop(path, f"line {part.lineno} uses {_shown(part.id)}, which nothing above it defines")


def _stored(node: ast.AST) -> list[str]:
    """The name that a value is given here, if any."""
    return [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []


def _builtin(name: str) -> bool:
    return hasattr(builtins, name) or (name.startswith("__") and name.endswith("__"))


def _parsed(data: bytes) -> ast.Module:
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(data)


def _about_syntax(error: SyntaxError, data: bytes) -> str:
    line = error.lineno or 1
    text = (data.splitlines()[line - 1 : line] or [b""])[0].strip()
    if text[:1] in (b"%", b"!"):
        return f"line {line} is a command for a notebook, and no Python"
    if text[:7] in (b"<<<<<<<", b">>>>>>>", b"======="):
        return f"line {line} was left by a merge of two versions"
    return f"line {line}, {error.msg[:200]}"


def _shown(name: str) -> str:
    return f"`{name[:LONGEST]}`" if "." in name or keyword.iskeyword(name) else name[:LONGEST]


def _run_on_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that an import runs, or may run, in their order; not those that an exception would be caught of,
    that ask for a GPU first, or that are for type checkers or a main program."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            test = ast.unparse(node.test)
            if not any(word in test for word in ("TYPE_CHECKING", "__name__", "is_available")):
                yield from _run_on_import(node.body)
            yield from _run_on_import(node.orelse)
        elif isinstance(node, ast.Try):
            yield from _run_on_import([] if node.handlers else node.body)
            yield from _run_on_import(node.finalbody)
        elif isinstance(node, ast.With | ast.For | ast.While | ast.ClassDef):
            yield from _run_on_import(node.body)


def _outside(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The packages that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return [] if node.level else [(node.module or "").partition(".")[0]]


def _inside(module: str, package: bool, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, list[str]]]:
    """(module of the submission, names taken from it) of what a statement imports."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, []) for alias in node.names if alias.name.partition(".")[0] == SOURCE)
        return
    base = node.module or ""
    if node.level:
        above = module.split(".")[: len(module.split(".")) - node.level + package]
        base = ".".join([*above, *([base] if base else [])])
    if base.partition(".")[0] == SOURCE:
        yield base, [alias.name for alias in node.names if alias.name != "*"]


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement defines, whichever way it goes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    found = set()
    for each in ast.walk(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(each.name)
        elif isinstance(each, ast.alias):
            found.add(each.asname or each.name.partition(".")[0])
        elif isinstance(each, ast.ExceptHandler) and each.name:
            found.add(each.name)
        found.update(_stored(each))
    return found


def _computed(node: ast.stmt, lazy: bool) -> Iterator[ast.AST]:
    """All expressions that a statement computes itself; those of the statements in it come on their own. lazy: whether
    annotations are not computed."""
    parts: list[ast.AST | None] = []
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            notes = [] if lazy else [node.returns, *(each.annotation for each in every)]
            parts = [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults, *notes]
        case ast.ClassDef():
            parts = [*node.decorator_list, *node.bases, *(each.value for each in node.keywords)]
        case ast.If() | ast.While():
            parts = [node.test]
        case ast.For():
            parts = [node.iter]
        case ast.With():
            parts = [item.context_expr for item in node.items]
        case ast.AnnAssign():
            parts = [node.value, *([] if lazy else [node.annotation])]
        case ast.Assign() | ast.AugAssign() | ast.Expr() | ast.Return() | ast.Assert() | ast.Delete():
            parts = [*ast.iter_child_nodes(node)]
    for part in parts:
        yield from _without_functions(part) if part is not None else ()


def _without_functions(node: ast.AST) -> Iterator[ast.AST]:
    """An expression and all in it, but for what a lambda computes later."""
    if isinstance(node, ast.Lambda):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _without_functions(child)


def _about_call(call: ast.Call) -> str:
    """What is wrong with a call on import; "" for nothing."""
    name = ast.unparse(call.func) if isinstance(call.func, ast.Name | ast.Attribute) else ""
    words = [each.value for each in ast.walk(call) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    to_gpu = name.endswith(".to") or any(each.arg == "device" for each in call.keywords)
    if name in _ENDS:
        return f"calls {name}() on import"
    if name == "input":
        return "waits for input on import"
    if name in _GPU or name.endswith(".cuda") or (to_gpu and any(word.startswith("cuda") for word in words)):
        return "asks for a GPU on import, and the grader has none"
    return ""


def _doubtful(call: ast.Call) -> str:
    """The same of what fails in the grader for most."""
    name = ast.unparse(call.func) if isinstance(call.func, ast.Name | ast.Attribute) else ""
    if (name in _READS or name.endswith((".read_text", ".read_bytes"))) and "__file__" not in ast.unparse(call):
        return "reads a file on import, and the grader has none for it"
    return "starts another program on import, which the grader does not allow" if name in _PROGRAMS else ""
