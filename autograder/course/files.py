"""Files of a release: those that stand below a folder, and those that are made from `templates/`."""

from pathlib import Path
from typing import Any

import jinja2


def files_below(folder: Path, root: Path, endings: str | tuple[str, ...] = "") -> dict[str, bytes]:
    """The files below a folder by their path from `root`, but for what Python or an editor leaves behind."""
    found = {}
    for path in sorted(folder.rglob("*")):
        left_behind = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)
        if path.is_file() and path.name.endswith(endings) and not left_behind:
            found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def rendered(name: str, /, **values: Any) -> bytes:
    """A template of this folder, `templates/NAME.j2`, filled in; it ends with one line break."""
    loader = jinja2.PackageLoader("autograder.course")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, undefined=jinja2.StrictUndefined)  # no HTML
    return (environment.get_template(f"{name}.j2").render(**values).rstrip() + "\n").encode()
