"""CUDA graphs: work on a GPU, recorded once and replayed with one launch.

A small network's step is hundreds of operations of a few microseconds each; the host cannot start them that fast. A
graph can. What is recorded must do the same on every call: the same shapes, tensors that stay where they are, and no
look of the host at a value.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Work = Callable[[], object]


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
def unchanged(network: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Whatever runs in here, network and optimizer are afterwards what they were, in the same tensors.

    An optimizer's memory that is made in here stays, and is zero, as both AdamW's and SGD's are before the first step.
    """

    def tensors() -> list[Tensor]:
        memory = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
        return [*network.state_dict().values(), *memory]

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
            for parameter in network.parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()  # not dropped: a recorded step may add to it
