"""Calls of chapter 1: networks."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from hw7.checks.calls.contract import expect, find, plain
from hw7.checks.calls.recorder import recorded
from hw7.checks.calls.use import clear, left_by_a_step, saved
from hw7.checks.tensors import ROLES, SkipInit, images, layers_of, set_by_role


def layer_table(network: nn.Module) -> Tensor:
    """Role and shape of each parameter: their values are nobody's question. Raises Unfit where one has no values."""
    rows = [(ROLES.index(role), *plain(parameter).shape) for role, parameter in layers_of(network)]
    longest = max(map(len, rows), default=1)
    table = [[*row, *[-1] * (longest - len(row))] for row in rows]
    return torch.tensor(table, dtype=torch.int64).reshape(len(rows), longest)


def _built(
    solution: Any, builder: str, arguments: tuple[int, ...], seed: int, shape: tuple[int, ...] | None
) -> nn.Module:
    with SkipInit():
        built: nn.Module = expect(nn.Module, find(solution, "models", builder)(*arguments))
    if shape and any(isinstance(parameter, UninitializedParameter) for parameter in built.parameters()):
        built.eval()(images(seed, shape))  # lazy layers find their sizes
    return built


def network(
    solution: Any,
    builder: str,
    arguments: tuple[int, ...],
    seed: int = 0,
    eval_shape: tuple[int, ...] | None = None,
    train_shape: tuple[int, ...] | None = None,
) -> Iterator[Any]:
    """Tasks 1.1 to 1.3: the table of a network's parameters [n, 1 + dimensions], a row (role, *shape) filled up with -1
    for each; then, its tensors set by role and shape, the outputs in eval mode, in train mode, and in eval mode again.
    """
    built = _built(solution, builder, arguments, seed, eval_shape)
    yield layer_table(built)
    if eval_shape and train_shape:
        set_by_role(built, seed)
        with torch.no_grad():
            yield built.eval()(images(seed, eval_shape))
            yield built.train()(images(seed, train_shape))
            yield built.eval()(images(seed, eval_shape))


def network_trace(
    solution: Any,
    builder: str,
    arguments: tuple[int, ...],
    seed: int,
    eval_shape: tuple[int, ...],
    train_shape: tuple[int, ...],
) -> Iterator[Any]:
    """Tasks 1.1 to 1.3, of a network that was wrong: its rows (`hw7.checks.rows`) and its output, of no entries where
    an exception was raised; in eval mode for the images of either mode, and in train mode."""
    built = _built(solution, builder, arguments, seed, eval_shape)
    set_by_role(built, seed)
    for shape, train in ((eval_shape, False), (train_shape, False), (train_shape, True)):
        yield from recorded(built.train(train), images(seed, shape))


def network_in_use(
    solution: Any, builder: str, arguments: tuple[int, ...], seed: int, shape: tuple[int, ...]
) -> Iterator[Any]:
    """Tasks 1.1 to 1.3: the outputs in eval mode of a copy whose parameters are 0, of a second network that loaded what
    the first one saved, for one image, and of the first one, when the parameters of the second are 0, too; then how
    many parameters and statistics of the first one a step of SGD does not reach, [2]."""
    first, second = (_built(solution, builder, arguments, seed, shape) for _ in range(2))
    set_by_role(first.eval(), seed)
    copied = copy.deepcopy(first)
    clear(copied)
    second.load_state_dict(saved(first))
    pictures = images(seed, shape)
    with torch.no_grad():
        yield copied.eval()(pictures)
        yield second.eval()(pictures[:1])
        clear(second)
        yield first.eval()(pictures)
    yield left_by_a_step(first, pictures)
