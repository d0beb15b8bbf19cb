"""A network as rows of numbers: one for each layer, in the order of the calls, as a table that goes through a pipe.

A row says what a layer is, how it is set, the shape of what it takes, where that comes from, and whose its weights are.
Whoever reads a table believes nothing of it: `decode` takes no other than well-formed ones.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

KINDS = (
    "other", "convolution", "transposed convolution", "norm", "group norm", "layer norm", "instance norm", "clamp",
    "leaky", "activation", "softmax", "dropout", "pool", "mean", "maximum", "adaptive", "padding", "resize", "linear",
    "add", "multiply", "shift", "scale", "concatenate", "slice", "product", "sum", "cast", "output",
)  # fmt: skip
ACTIVATIONS = (
    "sigmoid", "tanh", "GELU", "SiLU", "hardswish", "hardsigmoid", "Mish", "softplus", "ELU", "SELU", "PReLU",
    "log-softmax", "absolute value", "logarithm", "exponential",
)  # fmt: skip
DTYPES = ("bfloat16", "float16", "float64", "another precision")
OPERATIONS = (
    "", "flip", "roll", "pow", "sqrt", "rsqrt", "round", "sign", "neg", "sort", "topk", "where", "maximum", "minimum",
    "gt", "floor", "var", "std", "cumsum", "index", "gather", "masked_fill", "im2col", "std_mean", "var_mean",
    "transpose", "permute",
)  # fmt: skip
NUMBERS = 12  # that say how a layer is set: a convolution has the most
WIDTH = 1 + NUMBERS + 3 + 2 + 2
MOST_ROWS, MOST_PLACES = 400, 10_000
IMAGES, NOTHING, UNKNOWN = -1, -2, -3  # in place of a source's number: the images; none; what is no layer's output
STRANGE, COMPUTED = -1, -2  # in place of a parameter: a tensor that is none, one that is worked out in the call
LARGE = 1e12  # no number of a layer is larger, but for an activation's bound that is none


class Row(NamedTuple):
    """kind: of KINDS. numbers: how it is set, by kind:

        convolution  channels out and in, kernel 2, stride 2, padding 2, dilation 2, groups, 1 for a bias
        norm         channels, eps, momentum, 1 for the batch's own statistics, for scale and shift, for running ones
        clamp        from, to: ReLU is 0, infinity
        pool         0 for the maximum, 1 for the mean, kernel 2, stride 2, padding 2, 1 for rounding up
        mean, maximum  1 for over all positions of each channel
        linear       features in and out, 1 for a bias
        padding      left, right, above, below, 0 for zeros, 1 for reflection, 2 for the edge, 3 for others
        leaky, dropout, shift, scale  a number: slope, share, summand, factor
        activation, other, cast  which of ACTIVATIONS, of OPERATIONS, of DTYPES
        output       the last one, where no exception was raised

    shape: channels, height and width that it takes, -1 for what there is not. sources: rows, or IMAGES, NOTHING,
    UNKNOWN. weight: which of the network's parameters it has, or STRANGE, COMPUTED. place: the block that a right row
    stands in.
    """

    kind: str
    numbers: tuple[float, ...] = ()
    shape: tuple[int, ...] = ()
    sources: tuple[int, int] = (IMAGES, NOTHING)
    weight: int = STRANGE
    place: int = 0


def encode(rows: Iterable[Row], dtype: torch.dtype = torch.float64) -> Tensor:
    """The table [n, WIDTH] of these rows."""

    def filled(numbers: tuple[float, ...], length: int) -> list[float]:
        return [float(number) for number in (*numbers, *(-1,) * length)[:length]]

    table = [
        [
            KINDS.index(row.kind),
            *filled(row.numbers, NUMBERS),
            *filled(row.shape, 3),
            *row.sources,
            row.weight,
            row.place,
        ]
        for row in rows
    ]
    return torch.tensor(table, dtype=dtype).reshape(len(table), WIDTH)


def decode(table: Tensor) -> list[Row] | None:
    """The rows of a table; None where it is none."""
    if table.ndim != 2 or table.shape[1] != WIDTH or len(table) > MOST_ROWS or not table.is_floating_point():
        return None
    if table.isnan().any() or bool((table[:, NUMBERS + 1 :].abs() > LARGE).any()):
        return None
    rows = []
    for index, entries in enumerate(table.double().tolist()):
        kind, numbers, rest = entries[0], entries[1 : NUMBERS + 1], entries[NUMBERS + 1 :]
        if not 0 <= kind < len(KINDS) or any(number != int(number) for number in (kind, *rest)):
            return None
        whole = [int(number) for number in rest]
        shape, sources, (weight, place) = whole[:3], whole[3:5], whole[5:]
        if not all(UNKNOWN <= source < index for source in sources) or not COMPUTED <= weight < MOST_PLACES:
            return None
        if not 0 <= place < MOST_PLACES:
            return None
        set_as = tuple(float(f"{number:.5g}") for number in numbers)  # float32 holds no more of an eps
        rows.append(Row(KINDS[int(kind)], set_as, tuple(shape), (sources[0], sources[1]), weight, place))
    return rows
