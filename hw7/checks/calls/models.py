"""Calls of chapter 1: networks."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from hw7.checks.calls.contract import Unfit, expect, find
from hw7.checks.tensors import ROLES, SkipInit, images, layers_of, set_by_role


def _table(network: nn.Module) -> Tensor:
    """Raises Unfit where a parameter holds no numbers, as on torch's meta device."""
    layers = layers_of(network)
    if not all(parameter.device.type == "cpu" and parameter.layout is torch.strided for _, parameter in layers):
        raise Unfit("a parameter without numbers")
    dimensions = max((parameter.ndim for _, parameter in layers), default=0)
    rows = [[ROLES.index(role), *p.shape, *[-1] * (dimensions - p.ndim)] for role, p in layers]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(layers), 1 + dimensions)


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
    with SkipInit():
        built = expect(nn.Module, find(solution, "models", builder)(*arguments))
    if eval_shape and any(isinstance(parameter, UninitializedParameter) for parameter in built.parameters()):
        built.eval()(images(seed, eval_shape))  # lazy layers find their sizes
    yield _table(built)
    if eval_shape and train_shape:
        set_by_role(built, seed)
        with torch.no_grad():
            yield built.eval()(images(seed, eval_shape))
            yield built.train()(images(seed, train_shape))
            yield built.eval()(images(seed, eval_shape))
