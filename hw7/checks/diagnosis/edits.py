"""What has to be changed in a right network to give another one: layers that are set otherwise, lack, or are too many."""

from collections.abc import Sequence
from typing import NamedTuple

from hw7.checks.diagnosis.layers import Facet, Layer, Network

MOST_PAIRS = 60_000  # of layers that are compared
Delta = tuple[str, Facet, Facet]  # facet, what is right, what is there


class Edit(NamedTuple):
    """kind: "set", "lacks" or "has". at: the right layer; of what is too many, the one that it follows, or -1. here:
    the layer of the other network, or of what lacks, the one that stands in front of the gap, or -1."""

    kind: str
    at: int
    here: int
    deltas: tuple[Delta, ...] = ()


class Pairs(NamedTuple):
    """edits: in the right network's order. matched: the other network's layers by the right ones."""

    edits: tuple[Edit, ...]
    matched: dict[int, int]


def deltas(right: Layer, other: Layer) -> tuple[Delta, ...]:
    """The facets in which two layers of one family differ."""
    names = [*right.facets, *(name for name in other.facets if name not in right.facets)]
    pairs = ((name, right.facets.get(name, -1.0), other.facets.get(name, -1.0)) for name in names)
    return tuple(pair for pair in pairs if pair[1] != pair[2])


def _price(right: Layer, other: Layer) -> float:
    """Of taking the one for the other; a layer too many and one too few together cost 2."""
    if right.family != other.family:
        return 10.0
    found = len(deltas(right, other))
    return min(1.5, 0.3 + 0.2 * found) if found else 0.0


def compare(right: Network, other: Network) -> Pairs | None:
    """The fewest edits that make the other network of the right one; None where they are too long to be compared. What
    a network that came to no end would have done after that is no edit."""
    a, b = right.layers, other.layers
    if len(a) * len(b) > MOST_PAIRS:
        return None
    cost = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a), -1, -1):
        for j in range(len(b), -1, -1):
            ways = []
            if i < len(a):
                ways.append(cost[i + 1][j] + (1.0 if other.whole or j < len(b) else 0.0))
            if j < len(b):
                ways.append(cost[i][j + 1] + 1.0)
            if i < len(a) and j < len(b):
                ways.append(cost[i + 1][j + 1] + _price(a[i], b[j]))
            cost[i][j] = min(ways, default=0.0)
    return _walk(a, b, cost, other.whole)


def _walk(a: Sequence[Layer], b: Sequence[Layer], cost: list[list[float]], whole: bool) -> Pairs:
    edits, matched, i, j = list[Edit](), dict[int, int](), 0, 0
    while i < len(a) or j < len(b):
        here = cost[i][j]
        if i < len(a) and j < len(b) and abs(here - cost[i + 1][j + 1] - _price(a[i], b[j])) < 1e-9:
            if found := deltas(a[i], b[j]):
                edits.append(Edit("set", i, j, found))
            matched[i] = j
            i, j = i + 1, j + 1
        elif j < len(b) and abs(here - cost[i][j + 1] - 1) < 1e-9:
            edits.append(Edit("has", i - 1, j))
            j += 1
        else:
            if whole or j < len(b):
                edits.append(Edit("lacks", i, j - 1))
            i += 1
    return Pairs(tuple(edits), matched)
