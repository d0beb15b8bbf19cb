"""Calls of chapter 3: network slimming."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hw7.checks.calls.contract import expect, find
from hw7.checks.held import entries_of, hold, hold_network, parameters_of
from hw7.checks.tensors import perturb, rebuilt, student_net, to_vector, useless, widths_of
from hw7.models import StudentNet


def channel_importance(solution: Any, scale: Tensor) -> Iterator[Any]:
    """Task 3.1: the importance [C], whether it hangs on a graph, and the batch norm's scale after."""
    bn = nn.BatchNorm2d(len(scale))
    with torch.no_grad():
        bn.weight.copy_(scale)
        bn.bias.copy_(scale.flip(0) + 3)
    network_after, scale_after = hold_network(bn), hold(bn.weight)
    importance = find(solution, "pruning", "channel_importance")(bn)
    yield importance
    yield torch.tensor(isinstance(importance, Tensor) and importance.requires_grad)
    yield scale_after() if len(network_after()) else torch.zeros(0)


def select_channels(solution: Any, importance: Tensor, keep: int) -> Iterator[Any]:
    """Task 3.2: the channels [keep], and the importance after."""
    after = hold(importance)
    yield find(solution, "pruning", "select_channels")(importance, keep)
    yield after()


def _slimmed(solution: Any, model: StudentNet, to: tuple[int, ...]) -> StudentNet:
    return expect(StudentNet, find(solution, "pruning", "network_slimming")(model, to))


def slim(solution: Any, widths: tuple[int, ...], model: Tensor, to: tuple[int, ...]) -> Iterator[Any]:
    """Task 3.3: the widths [8] that the result says it has, those that are saved with it, and its floating entries."""
    result = _slimmed(solution, student_net(widths, model), to)
    yield result.widths
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
    """Task 3.3: the result's last pointwise bias and whether all its parameters are trainable; the model after
    slimming, and the model after all of the result was set to 0."""
    given = student_net(widths, model)
    after = hold_network(given)
    result = _slimmed(solution, given, to)
    yield entries_of(result)["blocks.6.pointwise.bias"]
    yield torch.tensor(all(parameter.requires_grad for parameter in parameters_of(result)))
    yield after()
    with torch.no_grad():
        for tensor in entries_of(result).values():
            tensor.zero_()
    yield after()


def width_schedule(solution: Any, widths: tuple[int, ...], keep_rate: float, steps: int) -> Iterator[Any]:
    """Task 3.4: the widths [steps, stages]."""
    schedule = find(solution, "pruning", "width_schedule")(widths, keep_rate, steps)
    yield [list(row) for row in expect(Sequence, schedule)]


def iterative_prune(
    solution: Any, widths: tuple[int, ...], model: Tensor, keep_rate: float, steps: int
) -> Iterator[Any]:
    """Task 3.5: how often `finetune` was called, the widths [steps, 8] and parameters [steps] of the networks, each
    network, and the model after. `finetune` moves its network in place and returns another one that is of no use."""
    calls = 0

    def finetune(net: StudentNet) -> StudentNet:
        nonlocal calls
        calls += 1
        perturb(net, calls)
        returned = useless(net, calls)
        torch.manual_seed(0)  # before each slimming, as in `prune_steps`
        return returned

    given = student_net(widths, model)
    after = hold_network(given)
    torch.manual_seed(0)
    networks = list(expect(Sequence, find(solution, "pruning", "iterative_prune")(given, keep_rate, steps, finetune)))
    yield torch.tensor(calls)
    yield [widths_of(expect(StudentNet, net)) for net in networks]
    yield [sum(parameter.numel() for parameter in parameters_of(net)) for net in networks]
    yield from (to_vector(net) for net in networks)
    yield after()


def prune_steps(
    solution: Any, widths: tuple[int, ...], keep_rate: float, steps: int, came_back: Tensor, **networks: Tensor
) -> Iterator[Any]:
    """Task 3.5, where its answer is wrong: the schedule [steps, 8]; what `network_slimming` makes in each step of the
    network before it, "0" as given and "1" and on as they came back, and in all but the first of the given one.

    came_back: the widths [steps, 8] that those had.
    """
    schedule = [tuple(row) for row in find(solution, "pruning", "width_schedule")(widths, keep_rate, steps)]
    yield schedule
    before = [widths, *map(tuple, came_back.tolist())]
    steps_of = [(str(step), before[step], to) for step, to in enumerate(schedule)]
    for number, of_widths, to in (*steps_of, *(("0", widths, to) for to in schedule[1:])):
        network = student_net(of_widths, networks[number])
        torch.manual_seed(0)
        yield to_vector(_slimmed(solution, network, to))
