"""The visible paths: Python, its packages, and nothing of the machine that could stand in for an answer."""

import importlib.util
import os
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from hw7 import HW7Error
from hw7.solution import PROJECT

NEEDED = ("torch", "torchvision", "numpy", "safetensors", "PIL")
HIDDEN_PACKAGES = ("hw7", "autograder")  # where they are installed and not only checked out


def module_folders() -> list[str]:
    """Where the packages that submissions may import are installed."""
    found = []
    for name in NEEDED:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise HW7Error(f"the jail needs {name}, which is not installed")
        found.append(str(Path(spec.origin).parent.parent))
    return list(dict.fromkeys(found))


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
    candidates += [f"{PROJECT}/{name}" for name in (*HIDDEN_PACKAGES, "reference_solutions", "assignments", "tests")]
    return [p for p in dict.fromkeys(candidates) if os.path.isdir(p) and any(_below(p, q) for q in readable)]


def around(hidden: Sequence[str], readable: Sequence[str]) -> tuple[list[str], list[str]]:
    """Readable paths that have nothing hidden below them, and the folders between, which may be listed only."""
    whole, listed, left = [], [], [path for path in readable if path not in hidden]
    while left:
        path = left.pop()
        if any(_below(other, path) for other in hidden):
            listed.append(path)
            left += [entry.path for entry in os.scandir(path) if entry.path not in hidden]
        else:
            whole.append(path)
    return whole, listed


def readable_by_all(paths: Sequence[str], *, parents: bool) -> bool:
    """Whether another uid could read them and the packages in them, here or (parents=False) mounted elsewhere.

    They may have been installed by somebody whose umask is strict.
    """
    packages = [f"{path}/{name}" for path in paths for name in NEEDED if os.path.isdir(f"{path}/{name}")]
    read = [Path(path).resolve() for path in [*paths, *packages, *(f"{package}/__init__.py" for package in packages)]]
    passed = {folder for path in read for folder in (path, *(path.parents if parents else ())) if folder.is_dir()}
    return all(path.stat().st_mode & 4 for path in read) and all(folder.stat().st_mode & 1 for folder in passed)
