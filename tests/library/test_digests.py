"""Digests of what code does: deaf to comments, docstrings and layout, awake to all else, alike on every Python."""

import hashlib
from pathlib import Path

import pytest

from hw7.support.digests import canonical, digest_code, digest_files

SAMPLE = '''
"""Every kind of thing that Python 3.11 can parse."""
from __future__ import annotations
import os.path as p, sys
from . import a
from .b import (c as d, e)
@d(1, *p, k=2, **{**{}, "x": None})
class A(B, metaclass=M):
    """Documented."""
    x: int = 1
    (x): int
    def f(self, a, /, b: str = "\\ud800\\u0378é", *c, d, e=..., **g) -> None:
        u"documented, too"
        global h
        return lambda *a, b=1: (yield)
async def g():
    async with a as b, c: await d
    async for x in y: continue
    else: nonlocal_ = [z async for z in w if z]
    try: ...
    except (A, B) as e: raise C from e
    else: pass
    finally: del x[1:2, ::3, ...], y.z
try: 1 / 0
except* A: assert a, "b"
match x:
    case {"a": 1, **r} | A(1, b=2) as z if z: pass
    case [1, *_] | None | True | -1.5 | "s" | a.b: pass
while (n := f()) is not None and not x in y or ~z < 3 <= 4: break
t = f"{x}" f"  {y!r:>{width + 1}.{n}}{{}}" "end" f"" f"{x=}{x:%H:%M}", b"bytes\\0", u"text", rb"\\d"
v = 0xFF, 1e400, -0.0, 1_0.5, 2j, True, None, 0xFFFF_
s += a if b else {*c, d} @ {k: v for k in l} ** [*m][a, *b] // (i for i in j)
'''.replace("FFFF_", "f" * 5_000)


def test_the_sample_is_the_same_on_every_python() -> None:
    """Of 3.11.7, 3.12.1 and 3.13.0; the tests run on all that are supported, and this value is for all."""
    assert (
        hashlib.sha256(canonical(SAMPLE.encode())).hexdigest()
        == "fb14e999cee4b2f49b555dabf9c6a126df5bd9e46ed196777bfc854e9b9994d1"
    )


CODE = """
import torch

class A:
    def f(self, x, y=(1, 2)):
        return x + y
"""
LAID_OUT_OTHERWISE = '''#!/usr/bin/env python
# -*- coding: utf-8 -*-
"""What this is."""
import torch  # imports
class A:
  """A class."""

  def f(
      self, x,  # one a line
      y=(1,
         2),
  ):
      "A method."
      """A remark."""
      return (x
              + y)
'''


def test_comments_docstrings_and_layout_do_not_count() -> None:
    assert canonical(CODE.encode()) == canonical(LAID_OUT_OTHERWISE.encode())
    assert canonical(CODE.encode()) == canonical(CODE.replace("\n", "\r\n").encode("utf-8-sig"))
    assert canonical(b'x = u"a", 0x10, 1_0.0') == canonical(b"x = ('a', 16, 10.0,)")


@pytest.mark.parametrize(
    "different",
    [
        ("1", "2", "1.0", "True", "1j", "'1'", "b'1'", "None", "...", "-1", "[]", "()", "(None,)", "[None]", "[1]"),
        ("0.0", "-0.0", "1e400", "-1e400", "nan"),
        ("'a'", "b'a'", "'a '", "'A'", "'\u00e9'", "'e\u0301'", "f'a'", "f'{a}'", "f'{a!r}'", "f'{a:1}'", "f'{a=}'"),
        ("a + b", "b + a", "a - b", "a < b", "a and b", "a or b", "a @ b", "a, b", "[a, b]", "{a, b}", "{a: b}"),
        ("a + b + c", "a + (b + c)", "a < b < c", "(a < b) < c", "a if b else c", "[a, [b], c]", "[a, [b, c]]"),
        ("f(a)", "f(*a)", "f(**a)", "f(a=a)", "f(a, a)", "f[a]", "f.a", "await_(a)", "lambda a: f", "lambda a=f: f"),
        ("[a for a in b]", "[a for b in a]", "{a for a in b}", "(a for a in b)", "[a for a in b if a]"),
    ],
    ids=["constants", "floats", "texts", "operators", "orders", "calls", "comprehensions"],
)  # fmt: skip
def test_expressions_that_differ(different: tuple[str, ...]) -> None:
    assert len({canonical(f"x = {text}".encode()) for text in different}) == len(different)


@pytest.mark.parametrize(
    "different",
    [
        ("x = 1", "x: int = 1", "x: float = 1", "(x): int = 1", "x += 1", "y = 1", "x = y = 1", "x == 1", "del x"),
        ("def f(a): pass", "def f(a=1): pass", "def f(*a): pass", "def f(*, a): pass", "def f(a, /): pass",
         "def f(a: int): pass", "def f(a) -> int: pass", "async def f(a): pass", "def g(a): pass",
         "def f(a): return a", "def f(a): yield a", "class f(a): pass", "class f(a=a): pass"),
        ("@a\n@b\nclass C: x = 1", "@b\n@a\nclass C: x = 1", "@a\nclass C: x = 1", "class C: x = 1"),
        ("def f(*, a, b=None): x", "def f(*, a=None, b): x", "def f(*, a=None, b=None): x", "def f(*, a, b): x"),
        ("import a", "import b", "from a import a", "from . import a", "from .. import a", "import a as b"),
        ("if a: b\nc", "if a:\n  b\n  c", "if a: b\nelse: c", "while a: b\nelse: c", "for a in a: b\nelse: c"),
        ("try: a\nexcept b: c", "try: a\nexcept* b: c", "try: a\nexcept: c", "try: a\nfinally: c", "with a: c"),
        ("match a:\n case None: b", "match a:\n case True: b", "match a:\n case x: b", "match a:\n case _: b"),
    ],
    ids=["assignments", "functions", "decorators", "keywords", "imports", "blocks", "tries", "matches"],
)  # fmt: skip
def test_statements_that_differ(different: tuple[str, ...]) -> None:
    assert len({canonical(text.encode()) for text in different}) == len(different)


def test_the_encoding_named_in_a_comment_counts_where_it_changes_a_text() -> None:
    line = 'x = "é"'.encode()
    assert canonical(line) != canonical(b"# coding: latin-1\n" + line)
    assert canonical(line) == canonical(b"# coding: latin-1\n" + 'x = "é"'.encode("latin-1"))


def test_a_long_sum_is_no_deep_recursion() -> None:
    """As deep as Python itself parses without complaint."""
    assert canonical(f"x = {' + '.join('a' * 900)}".encode()).count(b"BinOp") == 899


@pytest.mark.filterwarnings("error")
def test_what_the_import_warned_of_is_not_said_again() -> None:
    assert canonical(rb'x = "\d"') == canonical(rb'x = "\\d"')


def files(folder: Path, **texts: str | bytes) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    return [folder / f"{name}.py" for name in texts]


def test_a_folder_of_code(tmp_path: Path) -> None:
    """Names count, and where they lie does not; order is that of the names."""
    digests = {
        digest_code(tmp_path / name, files(tmp_path / name, **texts))
        for name, texts in {
            "as it is": {"a": "x = 1", "b": "y = 2"},
            "in another order": {"b": "y = 2  # two", "a": "x = 1"},
            "another name": {"a": "x = 1", "c": "y = 2"},
            "the other way round": {"a": "y = 2", "b": "x = 1"},
            "one more": {"a": "x = 1", "b": "y = 2", "c": ""},
        }.items()
    }
    assert len(digests) == 4


@pytest.mark.parametrize("broken", [b"def f(:\n", b"x = 1\0\n", b"x = '\xff'\n"], ids=["syntax", "null", "encoding"])
def test_a_file_that_does_not_parse_counts_with_its_bytes(tmp_path: Path, broken: bytes) -> None:
    def digest(text: bytes) -> str:
        return digest_code(tmp_path, files(tmp_path, a=text))

    assert digest(broken) == digest(broken)
    assert digest(broken) != digest(broken + b"# a comment")
    assert digest(broken) != digest(b"x = 1\n")


def test_the_digest_of_bytes_is_of_bytes(tmp_path: Path) -> None:
    assert digest_files(tmp_path, files(tmp_path, a="x = 1")) != digest_files(tmp_path, files(tmp_path, a="x = 1 #"))
