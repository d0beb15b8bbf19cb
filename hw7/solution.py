"""What a submission is: its file names, its limits, and loading its code, by the name it knows itself by, `solution`.

A solution directory holds a package `solution` (models, losses, pruning, quantization), be it the reference, the stubs
or a student's. One is loaded at a time; loading another forgets the first. This is for your own code, which you trust
with your own machine; the autograder never imports a submission.
"""

import importlib
import stat
import sys
import traceback
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType

from hw7 import HW7Error
from hw7.support.digests import digest_code
from hw7.support.system import expanded

PROJECT = Path(__file__).resolve().parent.parent
SOURCE, WEIGHTS, NOTEBOOK = "solution", "weights.safetensors", "hw7.ipynb"  # what is handed in
MODULES = ("models", "losses", "pruning", "quantization")  # of `solution`; the chapters have these names everywhere
NUM_CLASSES = 11
# Bytes that earn points: of weights.safetensors; of all of solution/, as `source_size` counts them.
LIMITS = {"weights": 300_000, "source": 100_000}
# Bytes that are read at all: far more, so that a grade can say how much too large a file is.
MOST_READ = {SOURCE: 1_000_000, WEIGHTS: 64_000_000, NOTEBOOK: 32_000_000}
MAX_SOURCE_FILES = 200  # Python files under solution/
MAX_DEPTH = 16  # folders, one in another, with the file
MAX_NAME = 100  # characters of one folder's or file's name
MAX_PATH = 255  # bytes of a Python file's path, solution/ included: what every file system can hold
LITTER = ("__pycache__", "out")  # folders that are not handed in, as all whose name begins with a dot
# What students receive besides what they hand in: beside `solution`, and beside `assignments`.
HANDED_OUT = ("bugs", "tests")
HANDED_OUT_ABOVE = ("LICENSE", "README.md", "constraints.txt", "docs", "hw7", "pyproject.toml")
INSTALL_A_CLONE = "install hw7 from a clone, or from the folder that you were given, by `pip install -e .` in there"


@dataclass(frozen=True)
class Solution:
    """The four modules of a submission, and where they came from."""

    directory: Path
    digest: str  # of what its code does: the same after the edit of a comment or a docstring, as runs are
    models: ModuleType
    losses: ModuleType
    pruning: ModuleType
    quantization: ModuleType


def source_size(files: Mapping[str, int]) -> int:
    """Bytes of the source as task 5.1 counts them. files: bytes of content by path, such as "solution/losses.py".

    Each file counts with its whole path in UTF-8, folders included: what a submission finds in the jail is made of
    nothing but these paths and contents, so that weights can stand nowhere else.
    """
    return sum(len(path.encode("utf-8", "surrogatepass")) + size for path, size in files.items())


def source_files(directory: Path) -> dict[str, int]:
    """The Python files that are handed in of a solution directory: bytes of content by path, as for `source_size`."""
    found = {path.relative_to(directory): path.lstat() for path in (directory / SOURCE).rglob("*.py")}
    return {
        path.as_posix(): status.st_size
        for path, status in found.items()
        if stat.S_ISREG(status.st_mode) and not _is_litter(path)
    }


def _is_litter(path: Path) -> bool:
    """Whether a path in a solution directory is that of no part of it, such as Jupyter's copies of its files."""
    return any(part.startswith(".") or part in LITTER for part in path.parts)


def default_directory() -> Path:
    """The reference solution where there is one, else the student's own folder in `assignments`."""
    for folder in ("reference_solutions", "assignments"):
        directory = PROJECT / folder / "hw7"
        if (directory / "solution").is_dir():
            return directory
    raise HW7Error(
        f"no solution is installed in {PROJECT}: name the folder that holds yours (--solution DIR; hw7 pack DIR), "
        f"or {INSTALL_A_CLONE}"
    )


def need_clone(*names: str) -> None:
    """Raises HW7Error where these files and folders of the project are not beside the library: a wheel has packages
    only."""
    if missing := [name for name in names if not (PROJECT / name).exists()]:
        raise HW7Error(f"{PROJECT} has no {', '.join(missing)}: for this, {INSTALL_A_CLONE}")


def load_solution(directory: Path | str | None = None) -> Solution:
    """Imports `solution` from this directory and nowhere else. Raises HW7Error where that fails, with the reason."""
    directory = expanded(directory or default_directory()).resolve()
    names = [f"{SOURCE}/{name}.py" for name in ("__init__", *MODULES)]
    if missing := [name for name in names if not (directory / name).is_file()]:
        raise HW7Error(f"{directory} is not a solution directory: it lacks {', '.join(missing)}")
    select_solution(directory)
    modules = {}
    for name in MODULES:
        with running(f"import solution.{name}", directory):
            modules[name] = importlib.import_module(f"solution.{name}")
    package = directory / SOURCE
    files = [path for path in package.rglob("*.py") if path.is_file() and not _is_litter(path.relative_to(package))]
    return Solution(directory, digest_code(package, files)[:16], **modules)


def select_solution(directory: Path) -> None:
    """From now on `import solution` finds the package in this directory; what was imported of another is forgotten,
    or the first solution loaded would answer for every later one."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "solution"]:
        file = getattr(sys.modules[name], "__file__", None)
        if name == "solution" and file:
            sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(file).resolve().parent.parent]
        del sys.modules[name]
    sys.path.insert(0, str(directory.resolve()))
    importlib.invalidate_caches()


def path_trouble(parts: Sequence[str]) -> str:
    """Why a file of this path is not read by the grader ("has too long a name"); "" where it is."""
    for depth, part in enumerate(parts, start=1):
        if depth > MAX_DEPTH:
            return "lies too deep in folders"
        if len(part) > MAX_NAME:
            return "has too long a name"
        if not part.isprintable() or "\\" in part:
            return "has a name with characters that cannot be used"
    return ""


def source_path_trouble(path: str) -> str:
    """The same of a Python file, "solution/losses.py", which has to lie under this path in the jail."""
    size = len(path.encode("utf-8", "surrogatepass"))
    return path_trouble(path.split("/")) or (f"has a path of {size:,} bytes, more than {MAX_PATH}" * (size > MAX_PATH))


def file_above(path: str, files: Iterable[str]) -> str:
    """That one of these files that stands where this path needs a folder; "" for none.

    Systems that do not tell "A" from "a", or one way to write "é" from another, count: no submission needs both.
    """

    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())

    above = {folded(str(folder)) for folder in PurePosixPath(path).parents}
    return next((file for file in files if folded(file) in above), "")


@contextmanager
def running(what: str, directory: Path) -> Iterator[None]:
    """Names the solution's file and line in the error when its code raises, instead of showing our own frames."""
    try:
        yield
    except HW7Error:
        raise
    except Exception as error:
        trace = traceback.extract_tb(error.__traceback__)
        frames = [frame for frame in trace if Path(frame.filename).is_relative_to(directory)]
        if isinstance(error, NotImplementedError) and trace[-1] in frames:  # raised by a stub, not below it
            raise HW7Error(f"{what}: not done yet: {error}") from error
        if not frames and not isinstance(error, ImportError | SyntaxError):
            raise
        place = f" at {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
        raise HW7Error(f"{what} raised {type(error).__name__}{place}: {error}") from error
