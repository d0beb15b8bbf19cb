"""What has to be changed in a right network to give another one: layers set otherwise, that lack, or are too many."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hw7.checks.diagnosis.models.layers import Facet, Layer, Network

MOST_PAIRS = 60_000  # of layers that are compared
WEIGHTY = ("convolution", "linear")  # what other layers are counted by
MOVED = 1.1  # the price of a layer that stands a little before or after its place
SPLIT = 1.1  # the price of a convolution for two, or two for one
UNSEEN = 0.01  # of a layer that an exception kept from being called
Delta = tuple[str, Facet, Facet]  # facet, what is right, what is there


class Edit(NamedTuple):
    """kind: "set", "lacks", "has", "moved"; "merged" where one convolution stands for a depthwise and a pointwise one
    and what is between them, "split" where these stand for one. at: the right layer; of what is too many, the one that
    it follows, or -1. here: the layer of the other network; of what lacks, the one in front of the gap, or -1; of what
    moved, the right layer after which it stands now."""

    kind: str
    at: int
    here: int
    deltas: tuple[Delta, ...] = ()


class Pairs(NamedTuple):
    """edits: in the right network's order. matched: the other network's layers by the right ones."""

    edits: tuple[Edit, ...]
    matched: dict[int, int]


def deltas(right: Layer, other: Layer) -> tuple[Delta, ...]:
    """The facets in which two layers of one family differ; of another norm, only that it is one."""
    if right.family == "batch norm" and right.facets["which"] != other.facets["which"]:
        return (("which", right.facets["which"], other.facets["which"]),)
    names = [*right.facets, *(name for name in other.facets if name not in right.facets)]
    found = []
    for name in names:
        wanted, got = right.facets.get(name, -1.0), other.facets.get(name, -1.0)
        if name == "own" and -1.0 in (wanted, got):
            continue
        if name == "outputs" and (got == -1 or wanted == -1) and right.family == "convolution":
            wanted, got = (wanted, other.outputs) if got == -1 else (other.takes, got)  # by what a depthwise one has
        if wanted != got:
            found.append((name, wanted, got))
    return tuple(found)


class _Prices:
    """What it costs to take one layer for another, or to have one too many or too few."""

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], float] = {}

    @staticmethod
    def gap(layer: Layer) -> float:
        return 2.0 if layer.family in WEIGHTY else 1.0

    def __call__(self, right: Layer, other: Layer) -> float:
        if right.family != other.family:
            return 10.0
        pair = right.key, other.key, other.takes, other.outputs
        if pair not in self.known:
            found = len(deltas(right, other))
            self.known[pair] = min(1.5, 0.3 + 0.2 * found) if found else 0.0
        return self.known[pair]


def _rotated(a: Sequence[Layer], b: Sequence[Layer]) -> str:
    """Whether the last of a few layers stands before the others ("last"), or the first after them ("first")."""
    if any(layer.family in WEIGHTY for layer in a):
        return ""
    right, other = ([layer.key for layer in each] for each in (a, b))
    if right == other:
        return ""
    return "last" if other == [right[-1], *right[:-1]] else "first" if other == [*right[1:], right[0]] else ""


def _separable(layers: Sequence[Layer], start: int) -> int:
    """How many layers from here are a depthwise convolution, what follows it, and a pointwise one; 0 for others."""
    if layers[start].facets.get("groups") != "each":
        return 0
    for length in (2, 3, 4):
        last = layers[start + length - 1] if start + length <= len(layers) else None
        if last is None or last.family not in ("batch norm", "activation", "convolution"):
            return 0
        if last.family == "convolution":
            return length if last.facets["kernel"] == (1, 1) and last.facets["groups"] == 1 else 0
    return 0


def _pointwise(layer: Layer) -> bool:
    """Whether it is a pointwise convolution, and not that of a shortcut, which has a stride."""
    return layer.facets["kernel"] == layer.facets["stride"] == (1, 1)


def _plain(layer: Layer, depthwise: Layer) -> bool:
    """Whether this may be the full convolution for such a pair, or the one in whose place the pair stands."""
    return layer.facets.get("groups") == 1 and layer.facets["stride"] == depthwise.facets["stride"]


def compare(right: Network, other: Network) -> Pairs | None:
    """The fewest edits that make the other network of the right one; None where they are too long to be compared. What
    a network that came to no end would have done after that is no edit."""
    a, b = right.layers, other.layers
    if len(a) * len(b) > MOST_PAIRS:
        return None
    price, steps = _Prices(), dict[tuple[int, int], tuple[str, int, int]]()
    lengths = [_separable(a, i) for i in range(len(a))], [_separable(b, j) for j in range(len(b))]
    cost = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a), -1, -1):
        for j in range(len(b), -1, -1):
            ways: list[tuple[float, str, int, int]] = []
            if i < len(a) and j < len(b):
                ways.append((cost[i + 1][j + 1] + price(a[i], b[j]), "set", 1, 1))
                if (length := lengths[0][i]) and _plain(b[j], a[i]) and b[j].facets["kernel"] != (1, 1):
                    ways.append((cost[i + length][j + 1] + SPLIT, "merged", length, 1))
                if (length := lengths[1][j]) and _plain(a[i], b[j]) and not _pointwise(a[i]):
                    ways.append((cost[i + 1][j + length] + SPLIT, "split", 1, length))
                for n in (2, 3):
                    if i + n <= len(a) and j + n <= len(b) and (way := _rotated(a[i : i + n], b[j : j + n])):
                        ways.append((cost[i + n][j + n] + MOVED, way, n, n))
            if j < len(b):
                ways.append((cost[i][j + 1] + price.gap(b[j]), "has", 0, 1))
            if i < len(a):
                ways.append(
                    (cost[i + 1][j] + (price.gap(a[i]) if other.whole or j < len(b) else UNSEEN), "lacks", 1, 0)
                )
            if ways:
                cost[i][j], kind, down, along = min(ways, key=lambda way: round(way[0], 6))
                steps[i, j] = kind, down, along
    return _walk(a, b, steps, other.whole)


def _walk(
    a: Sequence[Layer], b: Sequence[Layer], steps: Mapping[tuple[int, int], tuple[str, int, int]], whole: bool
) -> Pairs:
    edits, matched, i, j = list[Edit](), dict[int, int](), 0, 0
    while (i, j) in steps:
        kind, down, along = steps[i, j]
        if kind == "set":
            if found := deltas(a[i], b[j]):
                edits.append(Edit("set", i, j, found))
            matched[i] = j
        elif kind == "has":
            edits.append(Edit("has", i - 1, j))
        elif kind == "lacks":
            edits += [Edit("lacks", i, j - 1)] if whole or j < len(b) else []
        elif kind == "last":
            edits.append(Edit("moved", i + down - 1, i - 1))
            matched |= {i + down - 1: j, **{i + n: j + n + 1 for n in range(down - 1)}}
        elif kind == "first":
            edits.append(Edit("moved", i, i + down - 1))
            matched |= {i: j + down - 1, **{i + n: j + n - 1 for n in range(1, down)}}
        else:
            edits.append(Edit(kind, i, j))
        i, j = i + down, j + along
    return Pairs(tuple(edits), matched)
