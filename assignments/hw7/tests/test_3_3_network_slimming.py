"""Task 3.3 in plain words: the handout's example, and what holds of every right slimming."""

import copy

import pytest
import torch
from conftest import run_example, yours

from hw7.models import StudentNet

EXAMPLE = """
>>> from hw7.models import StudentNet
>>> from solution.pruning import network_slimming
>>> def count(network):
...     return sum(parameter.numel() for parameter in network.parameters())
...
>>> net = StudentNet()
>>> slim = network_slimming(net, (16, 32, 64, 121, 243, 243, 243, 256))
>>> count(net), count(slim), slim.widths[3]
(256779, 236066, 121)
"""

pytestmark = pytest.mark.task_3_3
network_slimming = yours("pruning.network_slimming")

WIDTHS = (4, 4, 6, 8, 8, 8, 8, 4)
IMAGES = torch.linspace(0, 1, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)


def network() -> StudentNet:
    """As after training: no scale, shift or statistic is a default."""
    torch.manual_seed(0)
    net = StudentNet(WIDTHS, 5).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if ".bn." in name and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return net


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_without_its_dead_channels_it_computes_the_same() -> None:
    """A channel is dead whose scale and shift are 0, in the batch norm of the next stage. Here some are in each."""
    net = network()
    for stage, dead in ((3, [0, 5]), (4, [1, 2, 7]), (5, [3]), (6, [0, 4, 6])):
        bn = net.blocks[stage].bn  # of stage + 1
        bn.weight.data[dead] = 0
        bn.bias.data[dead] = 0
    slim = network_slimming(net, (4, 4, 6, 6, 5, 7, 5, 4))
    with torch.no_grad():
        off = (slim.eval()(IMAGES) - net(IMAGES)).abs().max().item()
    assert off < 1e-4, f"the outputs are off by {off}"


def test_equal_widths_give_a_copy_that_is_a_network_of_its_own() -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    slim = network_slimming(net, WIDTHS)
    for name, tensor in slim.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} is another one"
        tensor.zero_()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), f"the model's {name} has changed with the result's"


def test_stages_that_are_not_pruned_keep_their_numbers() -> None:
    net = network()
    slim = network_slimming(net, (4, 4, 6, 5, 5, 5, 5, 4))
    assert slim.widths == (4, 4, 6, 5, 5, 5, 5, 4)
    for part in ("stem", "blocks.0", "blocks.1", "fc"):
        for name, tensor in net.get_submodule(part).state_dict().items():
            assert torch.equal(slim.get_submodule(part).state_dict()[name], tensor), f"{part}.{name} has changed"


REFUSED = {
    "a stage grows": (4, 4, 6, 9, 8, 8, 8, 4),
    "a stage has no channel": (4, 4, 6, 0, 8, 8, 8, 4),
    "stage 2 changes": (4, 4, 5, 8, 8, 8, 8, 4),
    "seven widths": (4, 4, 6, 8, 8, 8, 8),
}


@pytest.mark.parametrize("widths", REFUSED.values(), ids=REFUSED)
def test_widths_that_cannot_be_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        network_slimming(network(), widths)
