"""Calls of chapter 1: networks."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from hw7.checks.calls.contract import expect, find
from hw7.checks.tensors import ROLES, SkipInit, images, layers_of, set_by_role


def network(
    solution: Any,
    builder: str,
    arguments: tuple[int, ...],
    seed: int = 0,
    eval_shape: tuple[int, ...] | None = None,
    train_shape: tuple[int, ...] | None = None,
) -> Iterator[Any]:
    """Tasks 1.1 to 1.3: the roles [n] of a network's parameters and the n parameters; then, its tensors set by role
    and shape, the outputs in eval mode, in train mode, and in eval mode again."""
    with SkipInit():
        built = expect(nn.Module, find(solution, "models", builder)(*arguments))
    if eval_shape and any(isinstance(parameter, UninitializedParameter) for parameter in built.parameters()):
        built.eval()(images(seed, eval_shape))  # lazy layers find their sizes
    layers = layers_of(built)
    yield torch.tensor([ROLES.index(role) for role, _ in layers], dtype=torch.int64)
    yield from (parameter for _, parameter in layers)
    if eval_shape and train_shape:
        set_by_role(built, seed)
        with torch.no_grad():
            yield built.eval()(images(seed, eval_shape))
            yield built.train()(images(seed, train_shape))
            yield built.eval()(images(seed, eval_shape))
