"""Calls of chapter 3: network slimming."""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hw7.checks.calls.contract import as_table, expect, find, first_with_others, whole_numbers
from hw7.checks.calls.use import clear, left_by_a_step, saved
from hw7.checks.held import entries_of, hold, hold_numbers, hold_state, modules_of, parameters_of
from hw7.checks.tensors import images, perturb, rebuilt, student_net, to_vector, useless, widths_of
from hw7.models import StudentNet


@torch.no_grad()
def in_training(network: nn.Module) -> None:
    """As it comes out of training: parameters with gradients, batch norms that counted, modules in either mode."""
    for parameter in parameters_of(network):
        parameter.grad = torch.ones_like(parameter)
    for number, (_, module) in enumerate(modules_of(network)):
        module.training = number % 2 == 0
        if isinstance(module, nn.BatchNorm2d) and module.num_batches_tracked is not None:
            module.num_batches_tracked.fill_(7)


def channel_importance(solution: Any, scale: Tensor, again: bool = False) -> Iterator[Any]:
    """Task 3.1: the importance [C], whether it hangs on a graph, the batch norm's scale after, its shift and statistics
    after, and whether all else of it is as before."""
    bn = nn.BatchNorm2d(len(scale)).to(scale.dtype)
    with torch.no_grad():
        bn.weight.copy_(scale)
        bn.bias.copy_(scale.flip(0) + 3)
    in_training(bn)
    bn.train(not again)
    numbers_after, as_before = hold_numbers(bn), hold_state(bn, roles=True)
    importance = first_with_others(again, partial(find(solution, "pruning", "channel_importance"), bn), bn.weight)
    yield importance
    yield torch.tensor(isinstance(importance, Tensor) and importance.requires_grad)
    yield from numbers_after().tensor_split([len(scale)])
    yield torch.tensor(as_before())


def select_channels(solution: Any, importance: Tensor, keep: int, again: bool = False) -> Iterator[Any]:
    """Task 3.2: the channels [keep], the importance after, and whether it is the same to autograd."""
    after, as_before = hold(importance, role=False), hold(importance)
    yield first_with_others(again, partial(find(solution, "pruning", "select_channels"), importance, keep), importance)
    yield after()
    yield torch.tensor(as_before().shape == importance.shape)


def _slimmed(solution: Any, model: StudentNet, to: Sequence[int]) -> StudentNet:
    return expect(StudentNet, find(solution, "pruning", "network_slimming")(model, to))


def slim(
    solution: Any, widths: tuple[int, ...], model: Tensor, to: tuple[int, ...], again: bool = False
) -> Iterator[Any]:
    """Task 3.3: the widths [8] that the result says it has, those that are saved with it, and its floating entries."""
    given = student_net(widths, model)
    result = first_with_others(again, partial(_slimmed, solution, given, to), *given.parameters())
    if again and not torch.equal(to_vector(given), model):  # a model that changes is another question's
        result = _slimmed(solution, student_net(widths, model), to)
    yield as_table(whole_numbers(result.widths))
    state = entries_of(result)
    yield state["stage_widths"]
    yield from (state[name] for name in state if not name.endswith(("num_batches_tracked", "stage_widths")))


def slim_outputs(
    solution: Any, widths: tuple[int, ...], model: Tensor, to: tuple[int, ...], images: Tensor
) -> Iterator[Any]:
    """Task 3.3: the parameters of the result, counted, and the outputs in eval mode of a network of its entries."""
    result = _slimmed(solution, student_net(widths, model), to)
    yield torch.tensor(sum(parameter.numel() for parameter in parameters_of(result)))
    with torch.no_grad():
        yield rebuilt(result).eval()(images)


def slim_alone(solution: Any, widths: tuple[int, ...], model: Tensor, to: tuple[int, ...]) -> Iterator[Any]:
    """Task 3.3, of widths in a list: the result's last pointwise bias and whether all its parameters are trainable; the
    model's numbers after slimming, and after all of the result was set to 0; whether all else of the model is as before
    at these two times; and whether the result's widths are a tuple."""
    given = student_net(widths, model)
    in_training(given)
    after, as_before = hold_numbers(given), hold_state(given, roles=True)
    result = _slimmed(solution, given, list(to))
    yield entries_of(result)["blocks.6.pointwise.bias"]
    yield torch.tensor(all(parameter.requires_grad for parameter in parameters_of(result)))
    yield after()
    unchanged = as_before()
    with torch.no_grad():
        for tensor in entries_of(result).values():
            tensor.zero_()
    yield after()
    yield torch.tensor(unchanged)
    yield torch.tensor(as_before())
    yield torch.tensor(isinstance(result.widths, tuple))


def slim_in_use(
    solution: Any, widths: tuple[int, ...], model: Tensor, to: tuple[int, ...], images: Tensor
) -> Iterator[Any]:
    """Task 3.3: what two results of one call give to be used: the widths [8] of one that is slimmed again; the
    difference [N, C] that a file makes to the outputs; how many entries of a result change when another result and a
    copy are set to 0; how many parameters and statistics a step of SGD does not reach, [2]; how far it takes the result
    from the network that was loaded [n]; and the widths and the saved widths of the given model after, [8] each."""
    given = student_net(widths, model)
    first, second = (_slimmed(solution, given, to) for _ in range(2))
    yield as_table(whole_numbers(_slimmed(solution, second, to).widths))
    loaded = StudentNet(to, given.fc.out_features)
    loaded.load_state_dict(saved(first))
    with torch.no_grad():
        yield loaded.eval()(images) - first.eval()(images)
    before = to_vector(first)
    clear(second)
    clear(copy.deepcopy(first))
    yield (to_vector(first) != before).sum()
    yield left_by_a_step(first, images)
    left_by_a_step(loaded, images)
    yield to_vector(first) - to_vector(loaded)
    yield as_table(whole_numbers(given.widths))
    yield given.stage_widths


def width_schedule(solution: Any, widths: tuple[int, ...], keep_rate: float, steps: int) -> Iterator[Any]:
    """Task 3.4: the widths [steps, stages]."""
    schedule = find(solution, "pruning", "width_schedule")(widths, keep_rate, steps)
    yield as_table([whole_numbers(row) for row in expect(Sequence, schedule)])


def iterative_prune(
    solution: Any, widths: tuple[int, ...], model: Tensor, keep_rate: float, steps: int
) -> Iterator[Any]:
    """Task 3.5: how often `finetune` was called; the widths [steps, 8] and parameters [steps] of the networks; each
    network; how often `finetune` could have computed gradients; how many parameters and statistics of all networks a
    step of SGD does not reach, [2]; the smallest and largest entry of each network [steps, 2], after each was
    filled with its number; the model's numbers after; whether all else of it is as before; and whether the networks'
    widths are tuples.

    `finetune` moves its network in place. It returns another one that is of no use or, in two steps, nothing.
    """
    calls = able = 0

    def finetune(net: StudentNet) -> StudentNet | None:
        nonlocal calls, able
        calls += 1
        able += torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        perturb(net, calls)
        returned = useless(net, calls)
        torch.manual_seed(0)  # before each slimming, as in `prune_steps`
        return None if steps == 2 else returned

    given = student_net(widths, model)
    in_training(given)
    after, as_before = hold_numbers(given), hold_state(given, roles=True)
    torch.manual_seed(0)
    networks = list(expect(Sequence, find(solution, "pruning", "iterative_prune")(given, keep_rate, steps, finetune)))
    yield torch.tensor(calls)
    yield as_table([widths_of(expect(StudentNet, net)) for net in networks])
    yield torch.tensor([sum(parameter.numel() for parameter in parameters_of(net)) for net in networks])
    yield from (to_vector(net) for net in networks)
    yield torch.tensor(able)
    yield sum((left_by_a_step(net, images(0, (4, 3, 16, 16))) for net in networks), torch.tensor([0, 0]))
    yield filled(networks)
    yield after()
    yield torch.tensor(as_before())
    yield torch.tensor(all(isinstance(net.widths, tuple) for net in networks))


@torch.no_grad()
def filled(networks: Sequence[StudentNet]) -> Tensor:
    """The smallest and the largest entry of each network, [networks, 2], after each was filled with its number."""
    for number, net in enumerate(networks, start=1):
        for tensor in entries_of(net).values():
            tensor.detach().fill_(number)
    entries = [torch.cat([entry.flatten().double() for entry in entries_of(net).values()]) for net in networks]
    return torch.stack([torch.stack(each.aminmax()) for each in entries])


def prune_steps(
    solution: Any, widths: tuple[int, ...], keep_rate: float, steps: int, came_back: Tensor, **networks: Tensor
) -> Iterator[Any]:
    """Task 3.5, where its answer is wrong: the schedule [steps, 8]; what `network_slimming` makes in each step of the
    network before it, "0" as given and "1" and on as they came back, and in all but the first of the given one.

    came_back: the widths [steps, 8] that those had.
    """
    schedule = [tuple(row) for row in find(solution, "pruning", "width_schedule")(widths, keep_rate, steps)]
    yield as_table([whole_numbers(row) for row in schedule])
    before = [widths, *map(tuple, came_back.tolist())]
    steps_of = [(str(step), before[step], to) for step, to in enumerate(schedule)]
    for number, of_widths, to in (*steps_of, *(("0", widths, to) for to in schedule[1:])):
        network = student_net(of_widths, networks[number])
        torch.manual_seed(0)
        yield to_vector(_slimmed(solution, network, to))
