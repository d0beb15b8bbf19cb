"""Digests of files: of their bytes, and of what Python code does.

`digest_code` is for what code made and the edit of a comment must not throw away: runs, drawn pictures. It is the same
on every Python that reads the code alike, so that a folder of runs can go on under another. `digest_files` is for what
has to be the same to the byte: the grader, which stands behind grades.
"""

import ast
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


def digest_files(root: Path, paths: Iterable[Path], also: str = "") -> str:
    """sha256 over names from `root` on, lengths and bytes of these files, in the order of their names."""
    return _digest(root, paths, bytes, also)


def digest_code(root: Path, paths: Iterable[Path]) -> str:
    """The same over `canonical` in place of the bytes. A file that this Python cannot parse counts with its bytes:
    nothing imports it, or the import fails."""

    def code_or_bytes(source: bytes) -> bytes:
        try:
            return b"code\0" + canonical(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # of null bytes; of what is nested too deeply
            return b"bytes\0" + source

    return _digest(root, paths, code_or_bytes)


def _digest(root: Path, paths: Iterable[Path], content: Callable[[bytes], bytes], also: str = "") -> str:
    digest = hashlib.sha256(also.encode())
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in paths):
        data = content(path.read_bytes())
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def canonical(source: bytes) -> bytes:
    """A Python file's syntax tree as text. Equal texts: equal code, but for comments, layout and statements that are
    nothing but a constant, such as docstrings.

    Written here and not by `ast.dump`, whose text and fields differ between versions of Python. Code that looks at its
    own text (`__doc__`, line numbers, its file) may do another thing after an edit that is not seen here: what is
    trained or drawn should not hang on that.

    Raises SyntaxError, ValueError, RecursionError or MemoryError where Python cannot parse it.
    """
    with warnings.catch_warnings():  # the import has said them, with the file's name
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    return "\n".join(_tokens(tree)).encode()


def _tokens(tree: ast.AST) -> Iterator[str]:
    """Each node with the names of its fields, each list with its length, then what is in them: one text has one tree.
    A stack and no recursion, for a long sum is a deep tree."""
    stack: list[Any] = [tree]
    while stack:
        entry = stack.pop()
        if isinstance(entry, ast.Constant):  # its `kind` is no more than the u of u"text"
            yield f"Constant {_literal(entry.value)}"
        elif isinstance(entry, ast.JoinedStr):  # an f-string; Python 3.12 puts empty texts between its parts
            yield "JoinedStr"
            stack.append([part for part in entry.values if not (isinstance(part, ast.Constant) and part.value == "")])
        elif isinstance(entry, ast.AST):
            fields = {name: value for name, value in ast.iter_fields(entry) if value is not None and value != []}
            yield " ".join((type(entry).__name__, *fields))
            stack += reversed(fields.values())
        elif isinstance(entry, list):
            kept = [e for e in entry if not (isinstance(e, ast.Expr) and isinstance(e.value, ast.Constant))]
            yield f"list {len(kept)}"
            stack += reversed(kept)
        else:
            yield _literal(entry)


def _literal(value: object) -> str:
    # hex: Python writes no decimal of more than 4,300 digits. ascii: what is printable differs between versions.
    return f"{type(value).__name__} {hex(value) if isinstance(value, int) else ascii(value)}"
