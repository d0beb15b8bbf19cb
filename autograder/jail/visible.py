"""What a jailed process may see of the machine: Python, its packages, and nothing that could stand in for an answer."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import hw7
from hw7 import HW7Error

NEEDED = ("torch", "torchvision", "numpy", "safetensors", "PIL")
HIDDEN_PACKAGES = ("hw7", "autograder")  # where they are installed and not only checked out


# ---- what a zygote is started with -------------------------------------------------------------------------------


def module_folders() -> list[str]:
    """Where the packages that submissions may import are installed."""
    found = []
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise HW7Error(f"the jail needs {name}, which is not installed")
        folder = str(Path(spec.origin).parent.parent)
        if folder not in found:
            found.append(folder)
    return found


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def readable_paths(modules: Sequence[str]) -> list[str]:
    """The paths that a Python process with torch reads: the standard library, packages, shared libraries."""
    paths = sysconfig.get_paths()
    wanted = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", paths["stdlib"]]
    wanted += [path for path in map(sysconfig.get_config_var, ("LIBDIR", "DESTSHARED")) if path]
    wanted = [os.path.abspath(path) for path in [*wanted, *modules] if os.path.lexists(path)]
    return [p for p in dict.fromkeys(wanted) if not any(_below(p, q) and p != q for q in wanted)]


def hidden_folders(readable: Sequence[str], modules: Sequence[str]) -> list[str]:
    """Folders below readable ones that hold the grader or answers: installed packages, and a checkout."""
    stdlib = sysconfig.get_paths()["stdlib"]
    sites = {*modules, f"{stdlib}/site-packages", f"{stdlib}/dist-packages", "/usr/lib/python3/dist-packages"}
    candidates = [f"{site}/{name}" for site in sorted(sites) for name in HIDDEN_PACKAGES]
    project = Path(hw7.__file__).resolve().parent.parent
    candidates += [str(project / name) for name in ("hw7", "autograder", "reference_solutions", "assignments", "tests")]
    return [p for p in dict.fromkeys(candidates) if os.path.isdir(p) and any(_below(p, q) for q in readable)]


def split_at(path: str, hidden: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """A path as those that have nothing hidden below them, and (True) folders that may be listed only."""
    if path in hidden:
        return
    if not any(_below(other, path) for other in hidden):
        yield path, False
        return
    yield path, True
    for entry in os.scandir(path):
        yield from split_at(entry.path, hidden)


def parents(path: str) -> list[Path]:
    """The folders above a path, from the top."""
    return list(reversed(Path(path).parents[:-1]))


def readable_by_all(paths: Sequence[str], *, parents: bool) -> bool:
    """Whether another uid could read them and the packages in them, here or (parents=False) mounted elsewhere.

    They may have been installed by somebody whose umask is strict.
    """
    packages = [f"{path}/{name}" for path in paths for name in NEEDED if os.path.isdir(f"{path}/{name}")]
    for path in [*paths, *packages, *(f"{package}/__init__.py" for package in packages)]:
        here = Path(path).resolve()
        for folder in [here, *(here.parents if parents else ())]:
            if not os.stat(folder).st_mode & 0o001 and folder.is_dir():
                return False
        if not os.stat(here).st_mode & 0o004:
            return False
    return True
