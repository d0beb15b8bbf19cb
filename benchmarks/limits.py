"""What a machine allows, in bytes and operations a second, and the least that a training step needs of both."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Clock:
    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats

    def seconds(self, work: Callable[[], object], repeats: int | None = None) -> float:
        """The median of several runs, after one that is not counted; the device is done at the end of each."""
        taken = []
        for _ in range(1 + (repeats or self.repeats)):
            start = time.perf_counter()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            taken.append(time.perf_counter() - start)
        return statistics.median(taken[1:])


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(clock: Clock, precision: str) -> tuple[float, float]:
    """(bytes a second that one large copy reads and writes, floating-point operations a second of one large product)"""
    large = clock.device.type == "cuda"
    source = torch.ones(2**30 if large else 2**26, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    copied = clock.seconds(lambda: target.copy_(source))
    side = 8192 if large else 1024
    factor = torch.ones(side, side, dtype=getattr(torch, precision), device=clock.device)
    multiplied = clock.seconds(lambda: factor @ factor)
    return 2 * source.numel() / copied, 2 * side**3 / multiplied


def least_work(network: nn.Module, size: int, forward_only: bool) -> tuple[int, int]:
    """(floating-point operations, entries moved) for one image, at least, in a step or in a forward pass.

    Everything between two convolutions is taken to be fused into them. Each then reads its input and writes its output;
    backward, it reads the output's gradient and the input, and writes the input's gradient. The backward pass is two
    products of the forward's size.
    """
    operations = moved = 0

    def see(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal operations, moved
        assert isinstance(module.weight, Tensor)
        operations += 2 * output.numel() * module.weight[0].numel() * (1 if forward_only else 3)
        moved += inputs[0].numel() + output.numel()
        if not forward_only:
            moved += 2 * inputs[0].numel() + output.numel()

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(see) for layer in layers]  # type: ignore[arg-type]
    with torch.no_grad():
        network.eval()(torch.rand(1, 3, size, size, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return operations, moved
