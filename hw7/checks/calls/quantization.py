"""Calls of chapter 4: there and back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hw7.checks.calls.contract import Unfit, expect, find, first_with_others
from hw7.checks.held import hold
from hw7.checks.savable import Obstacle, obstacle_to
from hw7.checks.tensors import bytes_of, named, pack_names


def quantize(
    solution: Any,
    weight: Tensor,
    bits: int | None = None,
    channel_axis: int | None = None,
    again: bool = False,
    by_columns: bool = False,
    parameter: bool = False,
) -> Iterator[Any]:
    """Task 4.1: q, scale, zero_point, and the weight after. by_columns: so it lies in memory. parameter: of a network
    that is trained."""
    options = () if bits is None else (bits, channel_axis)
    weight = weight.mT.contiguous().mT if by_columns else weight
    weight = nn.Parameter(weight) if parameter else weight
    after = hold(weight)
    call = partial(find(solution, "quantization", "quantize"), weight, *options)
    made = expect(Sequence, first_with_others(again, call, weight))
    if len(made) != 3:
        raise Unfit(f"(q, scale, zero_point) are 3 values, not {len(made)}")
    yield from (expect(Tensor, value) for value in made)
    yield after()


def dequantize(
    solution: Any, q: Tensor, scale: Tensor, zero_point: Tensor, channel_axis: int | None = None
) -> Iterator[Any]:
    """Task 4.1: the weight, back; and q, scale, zero_point after."""
    given = [hold(tensor) for tensor in (q, scale, zero_point)]
    yield find(solution, "quantization", "dequantize")(q, scale, zero_point, channel_axis)
    yield from (after() for after in given)


def compress(
    solution: Any,
    names: Tensor,
    channels_last: bool = False,
    tied: bool = False,
    again: bool = False,
    parameters: bool = False,
    **tensors: Tensor,
) -> Iterator[Any]:
    """Task 4.2: what keeps safetensors from saving the result as it is (`obstacle_to`), its names and, where nothing
    does, its tensors, and the state_dict after. parameters: what can have a gradient requires one, as with
    `keep_vars`."""
    state_dict = named(names, tensors)
    if channels_last:
        for name, tensor in state_dict.items():
            if tensor.ndim == 4:
                state_dict[name] = tensor.to(memory_format=torch.channels_last)
    state_dict = tie(state_dict) if tied else state_dict
    for tensor in state_dict.values():
        tensor.requires_grad_(parameters and tensor.is_floating_point())
    after = hold_all(state_dict)
    call = partial(find(solution, "quantization", "compress"), state_dict)
    made = first_with_others(again, call, *state_dict.values())
    obstacle, *places = obstacle_to(made)
    yield torch.tensor([obstacle, *places])
    yield pack_names([name if isinstance(name, str) else "" for name in expect(Mapping, made)])
    if obstacle is Obstacle.NONE:
        yield from (expect(Tensor, value) for value in made.values())
        yield from after().values()


def hold_all(given: dict[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """As `hold`, of all tensors of a dict; of no entries where it holds other ones than before."""
    before = [(name, tensor, hold(tensor)) for name, tensor in given.items()]

    def after() -> dict[str, Tensor]:
        kept = list(given) == [name for name, *_ in before]
        return {name: left() if kept and given[name] is tensor else torch.zeros(0) for name, tensor, left in before}

    return after


def tie(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same entries, as a network with tied weights has them: those of equal numbers are one tensor."""
    first: list[Tensor] = []
    found = {}
    for name, tensor in state_dict.items():
        same = [each for each in first if each.dtype == tensor.dtype and torch.equal(each, tensor)]
        first += [] if same else [tensor]
        found[name] = same[0] if same else tensor
    return found


def decompress(solution: Any, names: Tensor, held: bool = False, **tensors: Tensor) -> Iterator[Any]:
    """Task 4.2: the names of the state_dict, in order, and its tensors; if `held`, the bytes of the file's tensors
    after, by name: a file has no order."""
    file = named(names, tensors)
    after = hold_all(file)
    state_dict = expect(Mapping, find(solution, "quantization", "decompress")(file))
    yield pack_names([expect(str, name) for name in state_dict])
    yield from (expect(Tensor, value) for value in state_dict.values())
    yield from [bytes_of(tensor) for _, tensor in sorted(after().items())] if held else ()
