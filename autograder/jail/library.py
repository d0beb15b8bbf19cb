"""The import path of a jailed process: where it finds `hw7`, which view of it, and the submission."""

import importlib
import sys

STANDARD_PATHS = sys.path[1:]  # the standard library's: started without `site`, Python knows no other


def loaded_packages() -> list[str]:
    """The packages of `hw7` that are loaded. Asked before a fork: to look through all modules touches each of them, and
    a child that touches an object copies its page."""
    return [name for name in sys.modules if name.partition(".")[0] == "hw7" and hasattr(sys.modules[name], "__path__")]


def use_library(folder: str, paths: list[str], packages: list[str], submission: str | None = None) -> None:
    """From now on the submission and `hw7` are imported from here. The submission's folder comes first, so that no
    installed package can answer for it.

    Each of these packages is pointed at this view, for imports below it do not look at `sys.path`: without a sandbox
    (tier D) this alone keeps a child of the minimal view from the rest of the library.
    """
    sys.path[:] = [*([submission] if submission else []), folder, *STANDARD_PATHS, *paths]
    for name in packages:
        sys.modules[name].__path__ = [f"{folder}/{name.replace('.', '/')}"]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
