"""Templates: files that are made by filling in what stands in `templates/`."""

from __future__ import annotations

from typing import Any

import jinja2


def rendered(name: str, /, **values: Any) -> bytes:
    """A template of this folder, `templates/NAME.j2`, filled in; it ends with one line break."""
    loader = jinja2.PackageLoader("autograder.course")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, undefined=jinja2.StrictUndefined)  # no HTML
    return (environment.get_template(f"{name}.j2").render(**values).rstrip() + "\n").encode()
