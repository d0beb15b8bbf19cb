"""Frozen teachers: the same function with less work in it, for a network whose weights no longer change.

In eval mode a batch norm is a multiplication and an addition, which fold into the convolution before it. What computes
in bfloat16 keeps its weights in it, instead of rounding them on every call. On a GPU, cuDNN adds the shortcut and takes
the ReLU in the convolution's own kernel, where it can.
"""

import copy
import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hw7.training.precision import computing_in

# How far the logits may be off, as a share of the largest, where the same products are added in another order.
CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.1}


def frozen(teacher: nn.Module, images: Tensor, precision: str) -> nn.Module:
    """A copy of the teacher in eval mode, computing in `precision`: float32 images [N, 3, S, S] to float32 logits.

    Each change is proved on two of `images`, uint8 [N, 3, S, S], such as the network will see: one that gives other
    logits, or raises, is left out. So a teacher whose code cannot be followed (it decides by values) only runs as
    before. One that is frozen already is given back.
    """
    if isinstance(teacher, Frozen):
        return teacher
    images = images[:2].float() / 255
    plain = copy.deepcopy(teacher).eval().requires_grad_(False)
    dtype = getattr(torch, precision)
    with torch.no_grad(), computing_in("float32"):
        network = _proved(lambda: folded(copy.deepcopy(plain)), plain, images, CLOSE[torch.float32])
        lowered = Frozen(network, dtype)
        if images.is_cuda:
            return _proved(lambda: Frozen(fused(copy.deepcopy(network)), dtype), lowered, images, CLOSE[dtype])
    return lowered


def _proved(make: Callable[[], nn.Module], instead: nn.Module, images: Tensor, close: float) -> nn.Module:
    """What `make` makes where it gives the logits that `instead` gives; else `instead`."""
    try:
        expected, network = instead(images), make()
        return network if (network(images) - expected).abs().max() <= close * expected.abs().max() else instead
    except Exception:  # whatever its forward raises where it is traced; whatever cuDNN has no kernel for
        return instead


class Frozen(nn.Module):
    """A network that computes in `dtype`, its convolutions and linear layers with weights of that type."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = copy.deepcopy(network), dtype
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(dtype)

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.network(images.to(self.dtype)).float()


def folded(network: nn.Module) -> nn.Module:
    """The network, in eval mode, with each batch norm folded into the convolution that it alone comes after.

    Where the whole cannot be traced, its parts are. Changes the network that it is given.
    """
    try:
        traced = fx.symbolic_trace(network)
    except Exception:  # whatever a forward raises that is given no tensors
        for name, child in network.named_children():
            network.add_module(name, folded(child))
        return network
    calls = [node for node in traced.graph.nodes if node.op == "call_module"]
    targets = [node.target for node in calls]
    for node in calls:
        before = node.args[0]
        if (
            isinstance(traced.get_submodule(node.target), nn.BatchNorm2d)
            and _is_convolution(traced, before)
            and targets.count(node.target) == targets.count(before.target) == 1
        ):
            pair = traced.get_submodule(before.target), traced.get_submodule(node.target)
            _replace(traced, before.target, fuse_conv_bn_eval(*pair))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    return _compiled(traced)


def fused(network: nn.Module) -> nn.Module:
    """A network of `folded` with cuDNN's kernels for relu(convolution) and relu(convolution + shortcut)."""
    assert isinstance(network, fx.GraphModule)
    graph = network.graph
    for node in list(graph.nodes):
        if not _is_relu(network, node):
            continue
        total, shortcut = node.args[0], []
        convolution = total
        if total.target in (operator.add, operator.iadd, torch.add) and len(total.users) == 1:
            convolution, *shortcut = total.args
        if not _is_convolution(network, convolution):
            continue
        module = network.get_submodule(convolution.target)
        with graph.inserting_before(node):
            weight, bias = (graph.get_attr(convolution.target + end) for end in (".weight", ".bias"))
            shape = module.stride, module.padding, module.dilation, module.groups
            kernel = torch.cudnn_convolution_add_relu if shortcut else torch.cudnn_convolution_relu
            middle = (*shortcut, 1) if shortcut else ()
            new = graph.call_function(kernel, (convolution.args[0], weight, *middle, bias, *shape))
        node.replace_all_uses_with(new)
        for old in dict.fromkeys((node, total, convolution)):
            graph.erase_node(old)
    return _compiled(network)


def _is_convolution(network: fx.GraphModule, node: object) -> bool:
    """A call of one, whose result nothing else uses."""
    return (
        isinstance(node, fx.Node)
        and node.op == "call_module"
        and isinstance(network.get_submodule(str(node.target)), nn.Conv2d)
        and len(node.users) == 1
    )


def _is_relu(network: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(network.get_submodule(str(node.target)), nn.ReLU)
    return node.target in (F.relu, torch.relu, "relu")


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    network.get_submodule(parent).add_module(name, module)


def _compiled(network: fx.GraphModule) -> fx.GraphModule:
    network.graph.lint()
    network.recompile()
    return network
