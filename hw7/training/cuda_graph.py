"""CUDA graphs: work on a GPU, recorded once and replayed with one launch.

A small network's step is hundreds of operations of a few microseconds each; the host cannot start them that fast. A
graph can. What is recorded must do the same on every call: the same shapes, tensors that stay where they are, and no
look of the host at a value.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

Work = Callable[[], object]
LONG = 1000  # steps from which on it pays that cuDNN tries every way to compute a convolution once


def recorded(work: Work, what: str, device: torch.device) -> Work:
    """`work` as a CUDA graph; or `work` itself: elsewhere than on a GPU, and, with a warning that says why, where it
    cannot be recorded.

    On a GPU it runs three times first: kernels are chosen then, and what is made on the first call (an optimizer's
    memory, constants) exists before the recording. The caller puts back what these runs changed. What the first run
    raises is raised here.
    """
    if device.type != "cuda":
        return work
    stream = torch.cuda.Stream(device)
    before = torch.cuda.current_stream(device)
    stream.wait_stream(before)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.stream(stream):
            work()
        try:
            # A look at a value is found here, before the recording: one that failed halfway would leave the random
            # numbers and the memory of the device in the middle of it.
            with _no_waiting(), torch.cuda.stream(stream):
                work()
                work()
            with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream):
                work()
        except Exception as error:  # whatever torch, CUDA or a student's step raises: the same work then runs as it is
            reason = error.__context__ or error  # ending a recording that failed raises once more
            warnings.warn(
                f"{what} cannot be recorded as a CUDA graph and runs slower, operation by operation: "
                f"{type(reason).__name__}: {str(reason).partition(chr(10))[0]}",
                stacklevel=2,
            )
            return work
    finally:
        before.wait_stream(stream)
    return graph.replay


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device (`.item()`, `.cpu()`, `if tensor:` …) raises in here."""
    mode = torch.cuda.get_sync_debug_mode()
    try:
        with warnings.catch_warnings():
            # It says once a process that it is a prototype; where warnings are errors, with the mode already set.
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def fastest_convolutions(device: torch.device, steps: int) -> Iterator[None]:
    """In here, cuDNN times its kernels for each new shape and takes the fastest, if so many steps are to come."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or (device.type == "cuda" and steps >= LONG)
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def unchanged(*learners: tuple[nn.Module, Optimizer]) -> Iterator[None]:
    """Whatever runs in here, networks and optimizers are afterwards what they were, in the same tensors.

    An optimizer's memory that is made in here stays, and is zero, as both AdamW's and SGD's are before the first step.
    """

    def tensors() -> list[Tensor]:
        weights = [tensor for network, _ in learners for tensor in network.state_dict().values()]
        states = [state for _, optimizer in learners for state in optimizer.state.values()]
        return weights + [value for state in states for value in state.values() if isinstance(value, Tensor)]

    before = [(tensor, tensor.clone()) for tensor in tensors()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor in tensors():
                if all(tensor.data_ptr() != old.data_ptr() for old, _ in before):
                    tensor.zero_()
            for tensor, value in before:
                tensor.copy_(value)
            for parameter in (parameter for network, _ in learners for parameter in network.parameters()):
                if parameter.grad is not None:
                    parameter.grad.zero_()  # not dropped: a recorded step may add to it


class SideBySide:
    """`count` pieces of work, one after another; on a GPU, where there are several, each on a stream of its own.

    On the CPU each has its own random numbers, those that it would draw alone.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        several = count > 1
        self.count = count
        self.streams = [torch.cuda.Stream(device) for _ in range(count * (several and device.type == "cuda"))]
        self.random = [torch.get_rng_state() for _ in range(count * (several and device.type == "cpu"))]

    def seed(self, seed: int) -> None:
        """From here on, the random numbers of every piece begin with this seed."""
        torch.manual_seed(seed)
        self.random = [torch.get_rng_state() for _ in self.random]

    def __call__(self, work: Callable[[int], object]) -> None:
        for number in range(self.count):
            if self.streams:
                stream = self.streams[number]
                stream.wait_stream(torch.cuda.current_stream(stream.device))
                with torch.cuda.stream(stream):
                    work(number)
            elif self.random:
                torch.set_rng_state(self.random[number])
                work(number)
                self.random[number] = torch.get_rng_state()
            else:
                work(number)
        for stream in self.streams:
            torch.cuda.current_stream(stream.device).wait_stream(stream)


class BatchCounts:
    """Batch norms' `num_batches_tracked`, counted on the host: added on the GPU, each is a kernel in every step.

    Inside `with`, batch norms add to a number here, which is added to the tensors at the end. A batch norm without
    momentum computes with that tensor, and keeps it.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        modules = [module for network in networks for module in network.modules()]
        norms = [module for module in modules if isinstance(module, _BatchNorm) and module.momentum is not None]
        self._norms = {norm: _Count() for norm in norms if norm.num_batches_tracked is not None}

    def recorded(self, work: Work, what: str, device: torch.device) -> Work:
        """`cuda_graph.recorded`, and what the host counts in one run of the work is counted in each replay."""
        runs = 0

        def counting() -> None:
            nonlocal runs
            runs += 1
            work()

        with self:
            replay = recorded(counting, what, device)
            each = {count: count.value // max(runs, 1) for count in self._norms.values()}
            for count in each:
                count.value = 0  # recording is no training
        if replay is counting:
            return work

        def replayed() -> None:
            replay()
            for count, value in each.items():
                count.value += value

        return replayed

    def __enter__(self) -> Self:
        for norm, count in self._norms.items():
            norm.__dict__["num_batches_tracked"] = count  # before the tensor of that name, which torch keeps elsewhere
        return self

    def __exit__(self, *exception: object) -> None:
        for norm, count in self._norms.items():
            norm.__dict__.pop("num_batches_tracked", None)
            norm.get_buffer("num_batches_tracked").add_(count.value)
            count.value = 0


class _Count:
    """What a batch norm adds to in place of its tensor."""

    value = 0

    def add_(self, number: int) -> Self:
        self.value += number
        return self
