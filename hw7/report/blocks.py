"""Blocks: what the page is made of, in its order. Each is written as HTML and as Markdown by the templates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tabulate import tabulate

from hw7.report.formulas import Math
from hw7.report.plots import Picture


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar = "text"


@dataclass(frozen=True)
class Table:
    """Rows of text under headers; the columns named in `left` are words, the others numbers."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: tuple[str, ...] = ()
    kind: ClassVar = "table"

    @property
    def markdown(self) -> str:
        align = tuple("left" if header in self.left else "right" for header in self.headers)
        rows = [[cell.replace("|", r"\|") for cell in row] for row in self.rows]
        return tabulate(rows, headers=self.headers, tablefmt="github", disable_numparse=True, colalign=align)


@dataclass(frozen=True)
class Pictures:
    """Side by side, where there is room."""

    pictures: Sequence[Picture]
    kind: ClassVar = "pictures"


@dataclass(frozen=True)
class Formula:
    """A formula on a line of its own."""

    math: Math
    kind: ClassVar = "formula"


@dataclass(frozen=True)
class Printed:
    """Lines as a program printed them."""

    text: str
    kind: ClassVar = "printed"


@dataclass(frozen=True)
class Claim:
    """A conclusion, whose it is, whether it came out here (a verdict and for what it holds), and what more to say."""

    whose: str
    says: str
    verdict: str
    where: str
    sentences: Sequence[str]
    kind: ClassVar = "claim"


@dataclass(frozen=True)
class Folded:
    """A block behind one line, which says what is in it."""

    summary: str
    block: "Block"
    kind: ClassVar = "folded"


Block = Text | Table | Pictures | Formula | Printed | Claim | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page under a title."""

    title: str
    blocks: Sequence[Block]

    @property
    def pictures(self) -> list[Picture]:
        return [picture for block in self.blocks if isinstance(block, Pictures) for picture in block.pictures]


def cell(value: Any) -> str:
    """A number, a word, or several of them."""
    if isinstance(value, list | tuple):
        return (", " if any(isinstance(entry, str) for entry in value) else " ").join(map(cell, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
