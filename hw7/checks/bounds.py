"""How much may come back of a call: made from what is asked and expected, so that no answer costs the grader much more
than its question."""

from collections.abc import Iterable

from torch import Tensor

from hw7.checks.cases import Bound, Case

WIDTH = 8  # bytes of an entry: that of the widest dtype
FACTOR = 4  # times what is asked and expected: known mistakes give no more
TENSORS, SIZE = 1000, 2**20  # beside that: small questions have wrong answers of any kind, and these shall be named


def bound(tensors: int, entries: int) -> Bound:
    """The bound for an answer of so many tensors, and entries in all."""
    return Bound(TENSORS + FACTOR * tensors, SIZE + FACTOR * WIDTH * entries)


def bound_of(cases: Iterable[Case]) -> Bound:
    """The bound for the call that all these cases look at, and for its way back."""
    known = [(*case.expected.values(), *case.call.inputs.values()) for case in cases]
    tensors = [[value for value in values if isinstance(value, Tensor)] for values in known]
    return bound(max(map(len, tensors)), max(sum(tensor.numel() for tensor in each) for each in tensors))
