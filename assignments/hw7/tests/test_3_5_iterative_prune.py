"""Task 3.5 in plain words: the handout's example, and what holds of every right pruning."""

import copy

import pytest
import torch
from conftest import run_example, yours

from hw7.models import StudentNet

EXAMPLE = """
>>> from hw7.models import StudentNet
>>> from solution.pruning import iterative_prune
>>> def count(network):
...     return sum(parameter.numel() for parameter in network.parameters())
...
>>> [count(net) for net in iterative_prune(StudentNet(), 0.9, 3, finetune=lambda net: None)]
[216518, 183578, 156084]
"""

pytestmark = pytest.mark.task_3_5
iterative_prune = yours("pruning.iterative_prune")

WIDTHS = (4, 4, 4, 8, 8, 8, 8, 4)


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_each_step_goes_on_from_the_fine_tuned_network_of_the_step_before() -> None:
    """The last layer is not pruned, so its bias tells a network's history: here each fine-tuning adds 1 to it."""
    net = StudentNet(WIDTHS, 2)
    net.fc.bias.data.zero_()
    seen = []

    def finetune(network: StudentNet) -> None:
        seen.append((tuple(network.widths), network.fc.bias.tolist()))
        network.fc.bias.data += 1

    networks = iterative_prune(net, 0.5, 3, finetune)
    widths = [(4, 4, 4, 4, 4, 4, 4, 4), (4, 4, 4, 2, 2, 2, 2, 4), (4, 4, 4, 1, 1, 1, 1, 4)]
    assert seen == list(zip(widths, [[0, 0], [1, 1], [2, 2]], strict=True)), "what finetune was given, step by step"
    assert [network.fc.bias.tolist() for network in networks] == [[1, 1], [2, 2], [3, 3]], "what came back"


def test_what_finetune_returns_is_ignored() -> None:
    networks = iterative_prune(StudentNet(WIDTHS), 0.5, 2, lambda network: StudentNet((1,) * 8))
    assert [tuple(network.widths) for network in networks] == [(4, 4, 4, 4, 4, 4, 4, 4), (4, 4, 4, 2, 2, 2, 2, 4)]


def test_the_given_network_is_unchanged() -> None:
    net = StudentNet(WIDTHS)
    before = copy.deepcopy(net.state_dict())

    @torch.no_grad()
    def finetune(network: StudentNet) -> None:
        for parameter in network.parameters():
            parameter.fill_(7)

    iterative_prune(net, 0.99, 2, finetune)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), f"its {name} has changed"
