"""Python source as the tokens by which code is compared: what an editor changes without thought is no longer in them.

Text is only lexed, never parsed or run: a syntax error, null bytes or brackets without end are tokens like any others,
and the time is linear in the text's length. The tokens are the same under every version of Python.
"""

import codecs
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# Every alternative takes what it has begun with, so that nothing is read twice: a string that is not closed ends with
# its line, or with the file.
_LEXEME = re.compile(
    r"""
      (?P<space> [ \t\f]+ | \\\n | \#[^\n]* )
    | (?P<newline> [\n;] )
    | (?P<string> (?i:[bfrtu]{0,2}) (?:
          \"\"\" (?: [^\\"]++ | \\(?:.|\Z) | "(?!"") )*+ (?: \"\"\" | \Z )
        | ''' (?: [^\\']++ | \\(?:.|\Z) | '(?!'') )*+ (?: ''' | \Z )
        | " (?: [^\\"\n]++ | \\(?:.|\Z) )*+ (?: " | (?=\n) | \Z )
        | ' (?: [^\\'\n]++ | \\(?:.|\Z) )*+ (?: ' | (?=\n) | \Z ) ) )
    | (?P<number> \.?\d (?: [eE][+-]\d | [\w.] )*+ )
    | (?P<name> \w++ )
    | (?P<other> -> | := | \*\*=? | //=? | <<=? | >>=? | [-+*/%@&|^=<>!]=? | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_NAME, _STRING, _NUMBER = "name", "string", "number"
_KEYWORDS = frozenset(keyword.kwlist)


class Token(NamedTuple):
    """One token: what it is compared by, and where it stands in the text."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Source:
    """A file's text with line ends of one kind, and its tokens."""

    text: str
    tokens: tuple[Token, ...]


def lex(data: bytes, most: int) -> Source:
    """The first `most` tokens of a Python file.

    Comments, docstrings, layout and imports are left out. All strings are one token, all numbers, and all names; only
    keywords keep their spelling, and what stands behind a dot, for nobody can rename what belongs to a library
    (`x.softmax`; not `self.x`).
    """
    text = _decoded(data)
    tokens: list[Token] = []
    for token in _tokens(text):
        if tokens and token.kind == _STRING == tokens[-1].kind:  # "one " "text"
            tokens[-1] = tokens[-1]._replace(end=token.end)
            continue
        if tokens and token.kind in (")", "]", "}") and tokens[-1].kind == ",":  # which a formatter adds
            tokens.pop()
        if len(tokens) == most:
            break
        tokens.append(token)
    return Source(text, tuple(tokens))


def _decoded(data: bytes) -> str:
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return data.decode(encoding, "replace").replace("\r\n", "\n").replace("\r", "\n")


def _tokens(text: str) -> Iterator[Token]:
    depth, before, last = 0, "", ""  # depth: of brackets; the last two words of this statement, "" at its start
    importing = False
    for lexeme in _LEXEME.finditer(text):
        group, word = lexeme.lastgroup or "", lexeme.group()
        if group == "space" or (word == "\n" and depth):
            continue
        if group == "newline":
            before, last, importing = "", "", False
            continue
        depth = max(depth + (word in ("(", "[", "{")) - (word in (")", "]", "}")), 0)
        importing = importing or (not last and word in ("import", "from"))
        docstring = group == _STRING and not last
        if not importing and not docstring:
            keeps = group == "other" or word in _KEYWORDS or (last == "." and before not in ("self", "cls"))
            yield Token(word if keeps else group, *lexeme.span())
        before, last = last, word
