"""What is read past objects that can talk for themselves: given networks and tensors, and networks that come back."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from submissions import HIDDEN, answered, reference_files, rubric
from torch import Tensor, nn

from autograder.grading import hidden_cases
from hw7.checks.cases import Case, Verdict
from hw7.checks.held import entries_of, hold, hold_network, parameters_of
from hw7.models import StudentNet

WIDTHS = (2, 3, 3, 4, 4, 4, 4, 3)


def lying(network: StudentNet) -> None:
    """Speaks of a copy from before."""
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.state_dict = lambda *args, **options: before  # type: ignore[assignment]
    network.parameters = lambda *args: iter(before.values())  # type: ignore[assignment,return-value]


def destroyed(network: StudentNet) -> None:
    lying(network)
    for parameter in parameters_of(network):
        parameter.data.zero_()


def of_another_class(network: StudentNet) -> None:
    class Sworn(StudentNet):
        def state_dict(self, *args: Any, **options: Any) -> Any:
            return {}

    network.__class__ = Sworn


def moved(network: StudentNet) -> None:
    network.fc.weight.data = network.fc.weight.data.clone()


def another_parameter(network: StudentNet) -> None:
    network.fc.weight = nn.Parameter(network.fc.weight.detach().clone())


def set_elsewhere(network: StudentNet) -> None:
    with torch.no_grad():
        network.stem.bn.running_mean.set_(torch.zeros(WIDTHS[0]))  # type: ignore[union-attr,call-overload]


def without_memory(network: StudentNet) -> None:
    network.fc.weight.untyped_storage().resize_(0)


def another_module(network: StudentNet) -> None:
    network.stem.bn = nn.BatchNorm2d(WIDTHS[0])


def hooked(network: StudentNet) -> None:
    network.fc.register_forward_hook(lambda module, inputs, output: output * 0)


def another_stride(network: StudentNet) -> None:
    network.stem.conv.stride = (2, 2)


def another_forward(network: StudentNet) -> None:
    network.forward = lambda images: images  # type: ignore[method-assign]


def swapped(network: StudentNet) -> None:
    torch.utils.swap_tensors(network.fc.bias, nn.Parameter(torch.zeros(11)))


def counted_on(network: StudentNet) -> None:
    network.stem.bn.num_batches_tracked.add_(1)  # type: ignore[union-attr,operator]


@pytest.mark.parametrize(
    "change",
    [
        destroyed, of_another_class, moved, another_parameter, set_elsewhere, without_memory, another_module, hooked,
        another_stride, another_forward, swapped, lying, counted_on,
    ],
)  # fmt: skip
def test_a_network_that_was_changed_is_seen_to_be(change: Callable[[StudentNet], None]) -> None:
    network = StudentNet(WIDTHS)
    after = hold_network(network)
    before = after()
    change(network)
    assert not torch.equal(before, after())


def test_a_network_that_was_used_is_the_same() -> None:
    network = StudentNet(WIDTHS)
    after = hold_network(network)
    before = after()
    network.eval().requires_grad_(False)
    network.seen_before = True  # type: ignore[assignment]
    handle = network.register_forward_hook(lambda module, inputs, output: None)
    network(torch.rand(2, 3, 32, 32))
    handle.remove()
    network.to("cpu").float().state_dict()
    assert torch.equal(before, after())


def in_another_mode(network: StudentNet) -> None:
    network.blocks[2].bn.eval()


def frozen(network: StudentNet) -> None:
    network.fc.bias.requires_grad_(False)


def gradient_dropped(network: StudentNet) -> None:
    network.fc.weight.grad = None


def gradient_added_to(network: StudentNet) -> None:
    network.fc.weight.sum().backward()


@pytest.mark.parametrize("change", [in_another_mode, frozen, gradient_dropped, gradient_added_to])
def test_modes_flags_and_gradients_are_seen_where_they_count(change: Callable[[StudentNet], None]) -> None:
    network = StudentNet(WIDTHS)
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    left_open, after = hold_network(network), hold_network(network, roles=True)
    before = after()
    network.eval().train().requires_grad_(False).requires_grad_()
    assert torch.equal(before, after())
    change(network)
    assert after().numel() == 0
    assert torch.equal(before, left_open())


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given.requires_grad_(),
        lambda given: given.add_(torch.zeros(3, requires_grad=True)),
    ],
)
def test_what_a_tensor_is_to_autograd_is_held(change: Callable[[Tensor], object]) -> None:
    given = torch.ones(3)
    after, numbers_after = hold(given), hold(given, role=False)
    change(given)
    assert after().numel() == 0
    assert numbers_after().tolist() == [1, 1, 1]


def test_a_tensor_taken_out_of_its_graph_is_seen_and_a_first_gradient_is_not() -> None:
    leaf = torch.ones(3, requires_grad=True)
    given = leaf * 2
    after, leaf_after = hold(given), hold(leaf)
    given.sum().backward()
    assert after().tolist() == [2, 2, 2]
    assert leaf_after().tolist() == [1, 1, 1]
    given.detach_()
    assert after().numel() == 0


def test_entries_and_parameters_are_those_of_torch() -> None:
    network = StudentNet(WIDTHS)
    assert list(entries_of(network)) == list(network.state_dict())
    assert list(map(id, parameters_of(network))) == list(map(id, network.parameters()))
    shared = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2, track_running_stats=False))
    shared.append(shared[0])
    assert list(entries_of(shared)) == list(shared.state_dict())
    assert list(map(id, parameters_of(shared))) == list(map(id, shared.parameters()))


def test_a_tensor_is_held() -> None:
    given = torch.arange(4.0)
    after = hold(given)
    given.mul_(2)
    assert after().tolist() == [0, 2, 4, 6]
    given.resize_(2)
    assert after().numel() == 0


@cache
def questions(task: str) -> Sequence[Case]:
    return hidden_cases(rubric(), HIDDEN)[task]


SWEARS = """
def _swears(function):
    def wrapped(model, *rest):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        made = function(model, *rest)
        for tensor in model.state_dict().values():
            tensor.zero_()
        model.state_dict = lambda *args, **options: dict(before)
        return made
    return wrapped

network_slimming, iterative_prune = _swears(network_slimming), _swears(iterative_prune)
"""
REPLACED = """
_step = distillation_step

def distillation_step(student, teacher, images, *rest, **options):
    loss = _step(student, teacher, images, *rest, **options)
    for module in teacher.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach().clone())
                parameter.data.zero_()
    copy = images.clone()
    images.zero_()
    images.data = copy
    return loss
"""
BORROWED = """
_slimming = network_slimming

def network_slimming(model, widths):
    slim = _slimming(model, widths)
    for parameter in slim.parameters():
        parameter.data.normal_()
    slim.forward = model.forward
    return slim
"""
SMALL_TALK = """
_slimming = network_slimming

def network_slimming(model, widths):
    _slimming(model, widths)
    import copy

    class Small(StudentNet):
        def parameters(self, recurse=True):
            return StudentNet(widths, model.fc.out_features).parameters()

    large = copy.deepcopy(model)
    large.__class__, large.widths = Small, tuple(widths)
    return large
"""


@pytest.mark.parametrize(
    ("module", "code", "task", "parts"),
    [
        ("pruning", SWEARS, "3.3", {"copy"}),
        ("pruning", SWEARS, "3.5", {"unchanged"}),
        ("losses", REPLACED, "2.2", {"teacher"}),
        ("pruning", BORROWED, "3.3", {"channels", "dead"}),
        ("pruning", SMALL_TALK, "3.3", {"channels", "dead"}),
        ("pruning", SMALL_TALK, "3.5", {"schedule", "chain"}),
    ],
)
def test_what_an_object_says_of_itself_earns_nothing(module: str, code: str, task: str, parts: set[str]) -> None:
    files = dict(reference_files())
    files[f"solution/{module}.py"] += code.encode()
    named = answered(files, questions(task)).named()
    assert parts <= {case.part for case in questions(task) if named[case.name].verdict is not Verdict.RIGHT}


def test_a_tensor_of_another_class_is_still_held() -> None:
    given = torch.ones(3)
    after = hold(given)

    class Sworn(Tensor):
        @classmethod
        def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
            return torch.ones(3)

    given.zero_()
    given.__class__ = Sworn  # type: ignore[assignment]
    assert after().tolist() == [0, 0, 0]
