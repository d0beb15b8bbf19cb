"""Pairs of submissions that are alike, for a teacher: a table for the terminal, and one page with the evidence.

The page is made as the other pages are: everything is escaped, and it loads and runs nothing.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from autograder.exports.common import display_name
from autograder.exports.html import ENVIRONMENT
from autograder.intake.lexing import Source
from autograder.intake.similar import MOST_TOKENS, PASSAGE, Pair, Passage, Similar, passages_of
from hw7.support.files import write_file
from hw7.support.words import counted, joined

MOST_SHOWN = 50  # pairs whose evidence is shown
MOST_ROWS = 1000  # pairs in the page's table
MOST_IN_TERMINAL = 20
MOST_BLOCKS, MOST_LINES, MOST_CHARACTERS = 40, 120, 300  # of a pair, of a block, of a line
GAP = 120  # characters between two passages that are shown as one block


class Text(NamedTuple):
    """A piece of a line. mark: "own" where it is in the other submission as well and counts; "known" where it is there
    and was given, or is common; "" for what differs."""

    text: str
    mark: str


class Span(NamedTuple):
    """Characters of a file from `start` to before `stop` that have the same mark."""

    start: int
    stop: int
    mark: str


@dataclass(frozen=True)
class Extract:
    """Lines of one file, each with its number."""

    path: str
    lines: tuple[tuple[int, tuple[Text, ...]], ...]
    left_out: int  # further lines


@dataclass(frozen=True)
class Block:
    """Passages that follow one another in both submissions, side by side."""

    sides: tuple[Extract, Extract]


def export_similar(found: Similar, out: Path) -> Path:
    """Writes the page of these pairs. Raises HW7Error where it cannot be written."""
    write_file(out, similar_page(found).encode())
    return out


def similar_page(found: Similar) -> str:
    """The page: a table of the pairs, most suspicious first, and the evidence of the first MOST_SHOWN of them."""
    return ENVIRONMENT.get_template("similar.html.j2").render(
        found=found,
        rows=found.pairs[:MOST_ROWS],
        shown=[(pair, *blocks_of(pair)) for pair in found.pairs[:MOST_SHOWN]],
        remarks=remarks,
        percent=percent,
        most_tokens=MOST_TOKENS,
        passage=PASSAGE,
    )


def format_similar(found: Similar) -> str:
    """The first pairs as a table for a terminal."""
    rows = [
        [
            *(word for side in (0, 1) for word in (_name(pair, side), percent(pair.shares[side]))),
            f"{pair.tokens:,}",
            "; ".join(remarks(pair)),
        ]
        for pair in found.pairs[:MOST_IN_TERMINAL]
    ]
    if not rows:
        return "no two submissions are alike"
    headers = ["one", "of its code", "other", "of its code", "tokens", "remark"]
    right = ("left", "right", "left", "right", "right", "left")
    table = tabulate(rows, headers, disable_numparse=True, colalign=right, maxcolwidths=[30, None, 30, None, None, 40])
    more = len(found.pairs) - len(rows)
    return f"{table}\n{counted(more, 'further pair')} on the page" if more else table


def remarks(pair: Pair) -> list[str]:
    """What is the same to the byte."""
    same = [one if one == other else f"{one} and {other}" for one, other in pair.same]
    files = "all files have the same bytes" if pair.same_bytes else f"the same bytes: {joined(same)}" if same else ""
    return list(filter(None, (files, "the weights have the same bytes" if pair.same_weights else "")))


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _name(pair: Pair, side: int) -> str:
    return display_name(pair.documents[side].student)


# ---- the evidence ------------------------------------------------------------------------------------------------


def blocks_of(pair: Pair) -> tuple[list[Block], int]:
    """The evidence, most tokens that count first, and how many blocks are left out: the smallest ones."""
    groups: list[list[Passage]] = []
    for passage in passages_of(pair):
        if groups and _follows(pair, groups[-1][-1], passage):
            groups[-1].append(passage)
        else:
            groups.append([passage])
    groups.sort(key=_counting, reverse=True)
    return [_block(pair, passages) for passages in groups[:MOST_BLOCKS]], max(len(groups) - MOST_BLOCKS, 0)


def _counting(passages: Iterable[Passage]) -> int:
    """How many tokens of these passages count."""
    return sum(int(passage.counts[0].sum()) for passage in passages)


def _source(pair: Pair, passage: Passage, side: int) -> Source:
    return pair.documents[side].sources[passage.paths[side]]


def _span(pair: Pair, passage: Passage, side: int) -> tuple[int, int]:
    """The first character of a passage in its file, and the one behind its last."""
    tokens = _source(pair, passage, side).tokens
    return tokens[passage.starts[side]].start, tokens[passage.starts[side] + passage.length - 1].end


def _follows(pair: Pair, before: Passage, passage: Passage) -> bool:
    """Whether a passage goes on in both submissions a few characters behind the one before."""
    gaps = [_span(pair, passage, side)[0] - _span(pair, before, side)[1] for side in (0, 1)]
    return before.paths == passage.paths and all(0 <= gap <= GAP for gap in gaps)


def _block(pair: Pair, passages: Sequence[Passage]) -> Block:
    first, second = (
        _extract(
            passages[0].paths[side],
            _source(pair, passages[0], side).text,
            [span for passage in passages for span in _spans(pair, passage, side)],
        )
        for side in (0, 1)
    )
    return Block((first, second))


def _spans(pair: Pair, passage: Passage, side: int) -> Iterator[Span]:
    """A passage in pieces that count and others."""
    tokens, start = _source(pair, passage, side).tokens, passage.starts[side]
    for counts, group in groupby(range(passage.length), key=lambda number: bool(passage.counts[side][number])):
        numbers = list(group)
        first, last = tokens[start + numbers[0]], tokens[start + numbers[-1]]
        yield Span(first.start, last.end, "own" if counts else "known")


def _extract(path: str, text: str, spans: Sequence[Span]) -> Extract:
    """The lines with these spans of the text, which are in order."""
    lines = text.split("\n")
    begins = [0, *accumulate(len(line) + 1 for line in lines)]
    first, last = bisect_right(begins, spans[0].start) - 1, bisect_right(begins, spans[-1].stop - 1)
    shown = range(first, min(last, first + MOST_LINES))
    pieces = tuple((number + 1, tuple(_pieces(lines[number], begins[number], spans))) for number in shown)
    return Extract(path, pieces, last - shown.stop)


def _pieces(line: str, begin: int, spans: Sequence[Span]) -> Iterator[Text]:
    """A line in pieces of one mark each, cut where it is too long to be read. begin: its place in the text."""
    end, at = min(len(line), MOST_CHARACTERS), 0
    indent = len(line) - len(line.lstrip())
    for span in spans:
        start, stop = max(span.start - begin, at, indent), min(span.stop - begin, end)
        if start < stop:
            yield Text(line[at:start], "")
            yield Text(line[start:stop], span.mark)
            at = stop
    yield Text(line[at:end] + "…" * (len(line) > end), "")
