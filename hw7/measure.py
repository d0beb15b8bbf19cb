"""Model size and speed: parameters, bytes, multiply-accumulates, latency, and the table of layers.

Whatever has to see the network run sends one random image through it in eval mode, watches it with hooks, and leaves
modes, buffers, gradients and hooks as they were.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import safetensors.torch
import torch
from tabulate import tabulate
from torch import Tensor, nn

Shape = tuple[int, ...]


def parameters(network: nn.Module) -> int:
    """Entries of all parameters; one that several modules share counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def _entries(tensors: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return tensors.state_dict() if isinstance(tensors, nn.Module) else tensors


def tensor_bytes(tensors: nn.Module | Mapping[str, Tensor]) -> int:
    """Bytes of the tensors of a state dict, without names or header; a tensor under two names counts twice."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _entries(tensors).values())


def file_bytes(tensors: nn.Module | Mapping[str, Tensor]) -> int:
    """Bytes of the safetensors file of a state dict: `tensor_bytes`, and a header with names, shapes and dtypes."""
    # Clones, because safetensors refuses tensors that share storage.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in _entries(tensors).items()
    }
    return len(safetensors.torch.save(copies))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards each module has its own mode again."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        with torch.no_grad():
            network.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training


def _input(network: nn.Module, shape: Sequence[int], batch: int = 1) -> Tensor:
    """[batch, *shape] in [0, 1), with the network's device and dtype."""
    images = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))
    first = next(chain(network.parameters(), network.buffers()), images)
    return images.to(first.device, first.dtype if first.is_floating_point() else images.dtype)


See = Callable[[nn.Module, tuple, Tensor], None]  # (module, inputs, output)


def _watch(network: nn.Module, modules: Iterable[nn.Module], input_shape: Sequence[int], see: See) -> None:
    """Runs one image, and calls see(module, inputs, output) each time that one of `modules` has run."""
    with ExitStack() as hooks, _evaluating(network):
        for module in modules:
            hooks.enter_context(module.register_forward_hook(see))
        network(_input(network, input_shape))


def macs(network: nn.Module, input_shape: Sequence[int] = (3, 128, 128)) -> int:
    """Multiply-accumulates of one image [C, H, W] in the convolutions (nn.Conv2d) and linear layers (nn.Linear).

    One MAC is two FLOPs. Biases, norms, activations and pooling, and whatever calls no such module, are not counted.
    """
    counts: list[int] = []

    def see(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        assert isinstance(module.weight, Tensor)
        counts.append(output.numel() * module.weight[0].numel())  # an output sums over one filter, whatever the groups

    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    _watch(network, layers, input_shape, see)
    return sum(counts)


@dataclass(frozen=True)
class Latency:
    """Seconds of a forward pass: the median of `repeats`, and the quartiles below and above it."""

    batch: int
    repeats: int
    median_s: float
    low_s: float
    high_s: float


def latency(
    network: nn.Module, input_shape: Sequence[int] = (3, 128, 128), batch: int = 1, repeats: int = 30, warm_up: int = 5
) -> Latency:
    """Times forward passes of `batch` images [C, H, W] in eval mode, on the network's device, after `warm_up` others.

    Raises ValueError for a batch or repeats below 1.
    """
    if batch < 1 or repeats < 1:
        raise ValueError(f"latency needs batch and repeats of at least 1, got {batch} and {repeats}")
    images = _input(network, input_shape, batch)
    seconds = []
    with _evaluating(network):
        for _ in range(warm_up + repeats):
            start = time.perf_counter()
            network(images)
            if images.device.type != "cpu":  # accelerators return before they are done
                torch.accelerator.synchronize(images.device)
            seconds.append(time.perf_counter() - start)
    low, median, high = np.percentile(seconds[warm_up:], (25, 50, 75)).tolist()
    return Latency(batch, repeats, median, low, high)


@dataclass(frozen=True)
class Layer:
    """A row of the layer table. `output_shape` is without the batch; None if the module never ran or gave no tensor."""

    name: str
    kind: str
    output_shape: Shape | None
    parameters: int


def layer_table(network: nn.Module, input_shape: Sequence[int] = (3, 128, 128)) -> list[Layer]:
    """The modules that have no children or own parameters, in the order they run, for one image [C, H, W].

    A module that runs twice has two rows. Every parameter counts in the first row that holds it, and owners of
    parameters that never ran follow at the end, so the rows sum to `parameters(network)`.
    """
    names = {
        module: name
        for name, module in network.named_modules()
        if not list(module.children()) or list(module.parameters(recurse=False))
    }
    layers: list[Layer] = []
    counted: set[Tensor] = set()
    waiting = dict.fromkeys(names)  # in order

    def add(module: nn.Module, shape: Shape | None) -> None:
        new = set(module.parameters(recurse=False)) - counted
        counted.update(new)
        waiting.pop(module, None)
        size = sum(parameter.numel() for parameter in new)
        layers.append(Layer(names[module], type(module).__name__, shape, size))

    def see(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        add(module, tuple(output.shape[1:]) if isinstance(output, Tensor) else None)

    _watch(network, names, input_shape, see)
    for module in list(waiting):
        if any(parameter not in counted for parameter in module.parameters(recurse=False)):
            add(module, None)
    return layers


def format_layer_table(layers: Sequence[Layer]) -> str:
    """The table as text, with the total of the parameters."""
    shapes = ["-" if layer.output_shape is None else " × ".join(map(str, layer.output_shape)) for layer in layers]
    rows = [(row.name, row.kind, shape, f"{row.parameters:,}") for row, shape in zip(layers, shapes, strict=True)]
    rows.append(("total", "", "", f"{sum(layer.parameters for layer in layers):,}"))
    headers = ("layer", "kind", "output", "parameters")
    return tabulate(rows, headers, disable_numparse=True, colalign=("left", "left", "left", "right"))
