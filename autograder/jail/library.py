"""The import path of a jailed process: where it finds `hw7`, which view of it, and the submission."""

import importlib
import sys

STANDARD_PATHS = sys.path[1:]  # the standard library's: started without `site`, Python knows no other


def use_library(folder: str, paths: list[str], submission: str | None = None) -> None:
    """From now on the submission and `hw7` are imported from here. The submission's folder comes first, so that no
    installed package can answer for it.

    Every loaded package of `hw7` is pointed at this view, for imports below it do not look at `sys.path`: without a
    sandbox (tier D) this alone keeps a child of the minimal view from the rest of the library.
    """
    sys.path[:] = [*([submission] if submission else []), folder, *STANDARD_PATHS, *paths]
    for name, module in sys.modules.items():
        if name.partition(".")[0] == "hw7" and hasattr(module, "__path__"):
            module.__path__ = [f"{folder}/{name.replace('.', '/')}"]
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()
