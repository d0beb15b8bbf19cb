"""`hw7 pack`: the zip that is handed in, made of the files that count and nothing else, and what is missing in it.

It refuses only what the grader would refuse. Everything else it reports and packs: a late zip with a fault in it is
worth more than none. The same files make the same bytes.
"""

import difflib
import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hw7 import HW7Error
from hw7.checks.importable import import_trouble, packages_inside, told
from hw7.checks.public import TESTS, Checks
from hw7.handin.notebook_repair import repair_notebook, to_bytes
from hw7.solution import (
    HANDED_OUT,
    LIMITS,
    LITTER,
    MAX_SOURCE_FILES,
    MODULES,
    MOST_READ,
    NOTEBOOK,
    SOURCE,
    WEIGHTS,
    file_above,
    source_path_trouble,
    source_size,
)
from hw7.support.files import write_file
from hw7.support.words import counted

RELEASED = TESTS / "notebook.json"  # the notebook as it was handed out
KEPT = ".before-repair"  # the end of the name of a notebook as it was
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold


@dataclass
class Contents:
    """What would be handed in. files: by path in it. to_fix: what may cost points. left_out: paths of other files."""

    files: dict[str, bytes]
    to_fix: list[str]
    left_out: list[str]


def gather(directory: Path) -> Contents:
    """The files that count of a submission's folder. Raises HW7Error where the grader would refuse them."""
    if not (directory / "solution").is_dir():
        raise HW7Error(f"{directory} holds no folder `solution`; name the one that does: hw7 pack DIR")
    files, to_fix, left_out = dict[str, bytes](), list[str](), list[str]()
    for path in _regular_files(directory, to_fix):
        name = path.relative_to(directory).as_posix()
        size = path.stat().st_size
        if (name.startswith("solution/") and name.endswith(".py")) or size <= MOST_READ.get(name, -1):
            files[name] = _read(path)
        elif name in MOST_READ:
            to_fix.append(f"{name} has {size:,} bytes, more than the grader reads: left out.")
        elif name.partition("/")[0] not in HANDED_OUT:
            left_out.append(name)
    source = {name: len(data) for name, data in files.items() if name.endswith(".py")}
    for name in source:
        place = file_above(name, source)
        if trouble := source_path_trouble(name) or (f"lies in a folder that has the name of {place}" if place else ""):
            raise HW7Error(f"{directory / name} {trouble}: the grader would not read it. Give it another name.")
    total, size = sum(source.values()), source_size(source)
    if not source:
        raise HW7Error(f"{directory / 'solution'} holds no Python file")
    largest = ", ".join(sorted(source, key=lambda name: -source[name])[:3])
    if total > MOST_READ[SOURCE] or len(source) > MAX_SOURCE_FILES:
        raise HW7Error(
            f"the source under {directory / 'solution'} is too large: {counted(len(source), 'Python file')} with "
            f"{total:,} bytes; at most {MAX_SOURCE_FILES} with {MOST_READ[SOURCE]:,} are read. The largest: {largest}"
        )
    if size > LIMITS["source"]:
        to_fix.append(
            f"The source under solution/ has {size:,} bytes, names included; more than {LIMITS['source']:,} earn no "
            f"points in tasks 5.1 and 5.2. The largest: {largest}"
        )
    to_fix += _missing(files, left_out)
    to_fix += _imports(files)
    return Contents(dict(sorted(files.items())), to_fix, left_out)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> HW7Error:
    return HW7Error(f"{error.filename} cannot be read ({error.strerror}): it would be missing in what you hand in")


def _regular_files(directory: Path, to_fix: list[str]) -> Iterator[Path]:
    """All files but litter, in order of their names. Links are named and not followed."""

    def refuse(error: OSError) -> None:  # without it, os.walk goes on as if the folder were empty
        place = Path(error.filename).relative_to(directory).as_posix()
        if place.partition("/")[0] in ("solution", "."):
            raise _unreadable(error) from error
        to_fix.append(f"{place}/ cannot be read ({error.strerror}): left out.")

    for folder, folders, names in os.walk(directory, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in LITTER)
        for name in sorted([*names, *(each for each in folders if Path(folder, each).is_symlink())]):
            path = Path(folder, name)
            if name.startswith(".") or name.endswith((".pyc", ".pyo", KEPT)):
                continue
            if stat.S_ISREG(path.lstat().st_mode):
                yield path
            elif name.endswith(".py") or name in MOST_READ or path.is_symlink():
                to_fix.append(f"{path.relative_to(directory).as_posix()} is no regular file (a link?): left out.")


def _missing(files: dict[str, bytes], left_out: list[str]) -> Iterator[str]:
    """A line for each file that should be there and is not, with the one that may be meant."""
    modules = [f"solution/{name}.py" for name in MODULES]
    for name in (*modules, WEIGHTS, NOTEBOOK):
        package = name.removesuffix(".py") + "/__init__.py"
        if name in files or package in files:
            continue
        others = {other.lower(): other for other in [*left_out, *(set(files) - set(modules))]}
        close = [others[each] for each in difflib.get_close_matches(name, others, 1, 0.75)]
        yield f"{name} is missing." + "".join(f" Is it {other}? Rename it." for other in close)
    size = len(files.get(WEIGHTS, b""))
    if size > LIMITS["weights"]:
        yield f"{WEIGHTS} has {size:,} bytes; more than {LIMITS['weights']:,} earn no points in tasks 5.1 and 5.2."


def _imports(files: dict[str, bytes]) -> Iterator[str]:
    """A line for each module that the grader could not import, and for packages that it does not have."""
    source = {path: data for path, data in files.items() if path.endswith(".py")}
    for module in ("", *MODULES):
        trouble = import_trouble(source, module)
        if trouble and (module == "" or import_trouble(source, "") is None):  # that of the package is said once
            yield told(module, trouble)
    yield from (f"{path}, {what}." for path, what in packages_inside(source))


def zipped(contents: Contents) -> bytes:
    """The zip. The same files give the same bytes, whenever and wherever they were written."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in contents.files.items():
            info = zipfile.ZipInfo(name, _TIME)
            info.create_system = 3  # Unix, so that the rights below are read as such
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, data)
    return buffer.getvalue()


def pack(directory: Path, out: Path, repair: bool = False, check: bool = True, released: Path = RELEASED) -> str:
    """Writes the zip; the lines that say what is in it, what it earns in the public tests, and what is still missing.

    repair: whether to repair the notebook in `directory`, too. Raises HW7Error where the grader would refuse the zip;
    then nothing is written.
    """
    contents = gather(directory)
    lines = [f"to fix: {fault}" for fault in contents.to_fix]
    lines += _check_notebook(directory, contents, repair, released)
    if contents.left_out:
        more = f" and {len(contents.left_out) - 8} more" if len(contents.left_out) > 8 else ""
        lines.append(f"not graded, and so left out: {', '.join(contents.left_out[:8])}{more}")
    lines += _about_tasks(directory) if check else []
    data = zipped(contents)
    write_file(out, data)
    lines.append(f"wrote {out}: {counted(len(contents.files), 'file')}, {len(data):,} bytes. Hand in this file.")
    return "\n".join(lines)


def _check_notebook(directory: Path, contents: Contents, repair: bool, released: Path) -> Iterator[str]:
    """What is wrong with the notebook, beside the one that was handed out. With `repair`, the repaired one takes its
    place in the folder and in the zip, and the student's stays beside it under another name."""
    if NOTEBOOK not in contents.files:
        return
    if not released.is_file():
        yield f"{NOTEBOOK} was not checked: {released}, the notebook as handed out, is not there."
        return
    before = contents.files[NOTEBOOK]
    after = repair_notebook(before, released.read_bytes())
    if repair and after.fixed and after.notebook is not None:
        number = sum(1 for _ in directory.glob(f"{NOTEBOOK}*{KEPT}"))
        write_file(directory / f"{NOTEBOOK}{f'.{number}' if number else ''}{KEPT}", before)
        contents.files[NOTEBOOK] = to_bytes(after.notebook)
        write_file(directory / NOTEBOOK, contents.files[NOTEBOOK])
    yield from (f"{'fixed' if repair else 'with --repair'}: {fault}" for fault in after.fixed)
    yield from (f"to fix: {fault}" for fault in after.to_fix)
    if after.unanswered:
        yield f"not answered yet in {NOTEBOOK}: {', '.join(after.unanswered)}"


def _about_tasks(directory: Path) -> Iterator[str]:
    checks = Checks.of(directory)
    points = out_of = 0.0
    for task in checks.tasks:
        parts = checks.check(task.id)
        points += sum(part.points for part in parts)
        out_of += task.out_of
        wrong = [f"{part.part}: {part.outcome.verdict}" for part in parts if not part.right]
        if wrong:
            yield f"task {task.id}, {task.title}: {', '.join(wrong)}; see `hw7 check {task.id}`"
    yield f"public tests: {points:g} of {counted(out_of, 'point')}. The grader asks the same of other inputs."
