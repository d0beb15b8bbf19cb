"""The layers of a network, made of its rows: in one order, and with what says how each is set."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

from hw7.checks.rows import ACTIVATIONS, COMPUTED, DTYPES, OPERATIONS, UNKNOWN, Row

Facet: TypeAlias = str | float | tuple[float, ...]
TURNED = [float(OPERATIONS.index(each)) for each in ("transpose", "permute")]
BORDERS = ("zeros", "reflection", "the outermost pixels", "other values")


@dataclass(frozen=True)
class Layer:
    """family: what may stand for it, set in another way: ReLU6 for ReLU. facets: how it is set; what follows from the
    layer before, such as the channels of a batch norm, is none of them. sources: layers before, by their
    number; -1 the images. outputs: of a convolution."""

    family: str
    facets: dict[str, Facet] = field(default_factory=dict)
    place: int = 0
    weight: int = -1
    sources: tuple[int, ...] = ()
    takes: float = -1  # channels or features that it has weights for
    outputs: float = -1
    gets: tuple[int, ...] = ()  # channels, height and width

    @cached_property
    def key(self) -> tuple[object, ...]:
        return self.family, tuple(sorted(self.facets.items()))


@dataclass(frozen=True)
class Network:
    """layers: in the order of the calls, of two branches the longer one first. whole: whether it came to its end.
    connected: whether all comes from the images through these layers. casts: into which precision numbers were
    turned."""

    layers: tuple[Layer, ...]
    whole: bool
    connected: bool
    casts: tuple[str, ...] = ()

    @property
    def signature(self) -> str:
        """The same for two networks whose layers are alike, and in the same order."""
        keys = [(layer.key, layer.sources) for layer in self.layers]
        return hashlib.sha256(repr(keys).encode()).hexdigest()[:16]


def _own(row: Row) -> float:
    """Whose its weight is: 1 the network's, 0 nobody's, 2 worked out in the call."""
    return 1.0 if row.weight >= 0 else 2.0 if row.weight == COMPUTED else 0.0


def _convolution(row: Row) -> Layer:
    outputs, inputs, *pairs = row.numbers
    kernel, stride, padding, dilation = (tuple(pairs[i : i + 2]) for i in (0, 2, 4, 6))
    groups, bias = pairs[8:10]
    keeps = all(2 * p == d * (k - 1) for p, d, k in zip(padding, dilation, kernel, strict=True))
    facets: dict[str, Facet] = {
        "kernel": kernel, "stride": stride, "padding": "same" if keeps else padding, "dilation": dilation, "bias": bias,
        "border": 0.0, "own": _own(row),
    }  # fmt: skip
    depthwise = groups == inputs > 1
    facets["groups"] = "each" if depthwise else groups
    if not depthwise or outputs != inputs:
        facets["outputs"] = outputs
    return Layer("convolution", facets, takes=inputs, outputs=outputs)


def _norm(row: Row, train: bool) -> Layer:
    channels, eps, momentum, batch, scale, _ = row.numbers[:6]
    facets: dict[str, Facet] = {"which": "batch norm", "eps": eps, "batch": batch, "scale": scale}
    if train:
        facets["momentum"] = momentum
    if scale:
        facets["own"] = _own(row)
    return Layer("batch norm", facets, takes=channels)


def _layer(row: Row, train: bool) -> Layer:
    first = row.numbers[0] if row.numbers else 0.0
    match row.kind:
        case "convolution":
            return _convolution(row)
        case "norm":
            return _norm(row, train)
        case "group norm" | "layer norm" | "instance norm":
            return Layer("batch norm", {"which": row.kind})
        case "linear":
            facets: dict[str, Facet] = {
                "outputs": row.numbers[1],
                "bias": row.numbers[2],
                "own": _own(row),
            }
            return Layer("linear", facets, takes=first)
        case "clamp":
            names: dict[tuple[float, float], str] = {(0, math.inf): "ReLU", (0, 6): "ReLU6"}
            name = names.get((first, row.numbers[1]), f"a clamp from {first:g} to {row.numbers[1]:g}")
            return Layer("activation", {"which": name})
        case "leaky":
            return Layer("activation", {"which": f"a leaky ReLU (slope {first:g})"})
        case "activation":
            known = first in range(len(ACTIVATIONS))
            return Layer("activation", {"which": ACTIVATIONS[int(first)] if known else "another function"})
        case "softmax":
            return Layer("activation", {"which": "a softmax"})
        case "pool":
            mean, *rest = row.numbers[:8]
            kernel, stride, padding = (tuple(rest[i : i + 2]) for i in (0, 2, 4))
            which = "average pooling" if mean else "max pooling"
            return Layer(
                "pool", {"which": which, "kernel": kernel, "stride": stride, "padding": padding, "up": rest[6]}
            )
        case "mean" | "maximum" if first:
            return Layer("global", {"which": "average" if row.kind == "mean" else "maximum"})
        case "adaptive":
            which = f"{'average' if first else 'max'} pooling to {row.numbers[1]:g}x{row.numbers[2]:g}"
            return Layer("global", {"which": which})
        case "dropout" | "shift" | "scale" | "add" | "multiply":
            return Layer(row.kind, {"number": first})
    if row.kind == "other":
        word = OPERATIONS[int(first)] if first in range(1, len(OPERATIONS)) else ""
        return Layer("other", {"which": word})
    return Layer(row.kind)


def network_of(rows: Sequence[Row], train: bool = False) -> Network:
    """The network of these rows; of right ones, in train mode, whose rows are those of eval mode."""
    whole = bool(rows) and rows[-1].kind == "output"
    root = rows[-1].sources[0] if whole else len(rows) - 1
    order = _order(rows, root)
    users: dict[int, list[int]] = {index: [] for index in order}
    for index in order:
        for each in rows[index].sources:
            if each in users:
                users[each].append(index)
    kept = [index for index in order if not _folded(rows, rows[index], users[index])]
    number = {index: n for n, index in enumerate(kept)}

    def source(index: int) -> int:
        """The layer that a row's numbers come from, past what is folded into another."""
        while index >= 0 and index not in number:
            index = rows[index].sources[0]
        return number.get(index, index)

    layers = []
    for index in kept:
        row = rows[index]
        layer = _with_border(_layer(row, train), rows, row)
        sources = tuple(source(each) for each in row.sources if each >= 0 or each in (UNKNOWN, -1))
        layers.append(replace(layer, place=row.place, weight=row.weight, sources=sources, gets=row.shape))
    casts = [int(rows[index].numbers[0]) for index in order if rows[index].kind == "cast"]
    connected = root != UNKNOWN and all(UNKNOWN not in layer.sources for layer in layers if layer.family != "add")
    known = tuple(DTYPES[each] for each in dict.fromkeys(casts) if each in range(len(DTYPES)))
    return Network(tuple(layers), whole, connected, known)


def _order(rows: Sequence[Row], root: int) -> list[int]:
    """What leads to a row: the longer of two branches first."""
    depth = [0] * len(rows)
    for index, row in enumerate(rows):
        depth[index] = 1 + max((depth[each] for each in row.sources if each >= 0), default=0)
    order, left, seen = list[int](), [(root, False)] if root >= 0 else [], set[int]()
    while left:
        index, ready = left.pop()
        if ready:
            order.append(index)
        elif index not in seen:
            seen.add(index)
            before = sorted((each for each in rows[index].sources if each >= 0), key=lambda each: depth[each])
            left += [(index, True), *((each, False) for each in before)]  # the last is looked at first
    return order


def _folded(rows: Sequence[Row], row: Row, users: Sequence[int]) -> bool:
    """Whether a row is part of another one: padding of a convolution, a mean over one side of a mean over both, turning
    the channels to where a linear layer wants them; or of none."""
    if row.kind == "cast":
        return True
    if row.kind == "padding":
        return bool(users) and all(
            rows[each].kind == "convolution" and not any(rows[each].numbers[6:8]) for each in users
        )
    if row.kind == "other" and row.numbers[0] in TURNED:
        beside = [*users, *(each for each in row.sources if each >= 0)]
        return any(rows[each].kind == "linear" for each in beside)
    return row.kind == "mean" and not row.numbers[0] and [rows[each].kind for each in users] == ["mean"]


def _with_border(layer: Layer, rows: Sequence[Row], row: Row) -> Layer:
    """A convolution with the padding that a row before it does."""
    before = rows[row.sources[0]] if row.sources[0] >= 0 else None
    if layer.family != "convolution" or before is None or before.kind != "padding" or any(row.numbers[6:8]):
        return layer
    left, right, above, below, mode = before.numbers[:5]
    if left < 0:  # copied: what the image has grown by
        above, left = ((row.shape[side] - before.shape[side]) / 2 for side in (1, 2))
        right, below = left, above
    even = left == right and above == below
    padded = _convolution(row._replace(numbers=(*row.numbers[:6], above, left, *row.numbers[8:])))
    border = mode if mode in range(len(BORDERS)) else 3.0
    return replace(
        padded, facets=padded.facets | {"border": border} | ({} if even else {"padding": (left, right, above, below)})
    )
