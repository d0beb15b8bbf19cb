"""What the site adds to docs/: README.md as its front page, the top level's other pages, and files that pages link to.

Links in the pages are those of the repository, so that they lead somewhere on GitHub too. Here each is turned into one
that leads somewhere on the site: a page, or a page that shows the file. A diagram becomes its picture, where there is
one (benchmarks/pictures.py draws them).
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever draws the diagrams needs no MkDocs
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

PROJECT = Path(__file__).resolve().parents[1]
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LANGUAGES = {".py": "python", ".sh": "bash", ".toml": "toml", ".j2": "jinja"}
DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")


def diagram_name(source: str) -> str:
    """The file name of a diagram's picture; another one as soon as the diagram is changed."""
    return f"diagram-{hashlib.sha256(source.encode()).hexdigest()[:8]}.png"


def _target(source: str, link: str) -> str:
    """The file of the repository, or the README of the folder, that a link of this page leads to; "" where none is."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    if (PROJECT / path).is_dir():
        path = f"{path}/README.md"
    return path if (PROJECT / path).is_file() else ""


def _on_site(path: str) -> str:
    """Where the site has a file of the repository."""
    if path in TOP:
        return TOP[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}.md"


def _links(source: str) -> Iterator[str]:
    """The files that a page of the repository links to."""
    for link in LINK.findall((PROJECT / source).read_text(encoding="utf-8")):
        if target := _target(source, link):
            yield target


def _shown(path: str) -> str:
    """A page that shows a file, and that the search leaves out."""
    text = (PROJECT / path).read_text(encoding="utf-8")
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n# `{path}`\n\n````{language}\n{text}````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the top level, and a page for each file outside of docs/ that a page links to."""
    from mkdocs.structure.files import File

    sources = [*TOP, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    for source, name in TOP.items():
        files.append(File.generated(config, name, abs_src_path=str(PROJECT / source)))
    for path in sorted({path for source in sources for path in _links(source)}):
        if files.get_file_from_path(_on_site(path)) is None:
            files.append(File.generated(config, _on_site(path), content=_shown(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns the repository's links into the site's, and diagrams into their pictures."""
    here = page.file.src_uri
    if here == TOP["README.md"]:
        page.meta["hide"] = ["navigation"]  # a column that would have this page alone
    source = next((source for source, name in TOP.items() if name == here), f"docs/{here}")

    def turned(match: re.Match[str]) -> str:
        target = _target(source, match[1])
        return posixpath.relpath(_on_site(target), posixpath.dirname(here) or ".") if target else match[1]

    def drawn(match: re.Match[str]) -> str:
        picture = f"pictures/{diagram_name(match[1])}"
        if files.get_file_from_path(picture) is None:
            return match[0]
        return f"![Diagram]({posixpath.relpath(picture, posixpath.dirname(here) or '.')})"

    return DIAGRAM.sub(drawn, LINK.sub(turned, markdown))
