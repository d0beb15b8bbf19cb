"""Task 3.5 beside wrong earlier tasks: what a submission's own `width_schedule` and `network_slimming` lead to.

Step by step they are asked again, in a new process, of the very networks that came back. A chain that is right with
their answers has no fault of its own.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hw7.checks.cases import Case, Value
from hw7.checks.tensors import length, perturb, student_net, to_vector

NETWORK = "the network of step "


def steps_to_ask(case: Case, got: Mapping[str, Tensor]) -> dict[str, Value] | None:
    """The inputs of the call `prune_steps`: the networks before each step, as they came back; None for no networks."""
    networks = [tensor for name, tensor in got.items() if name.startswith(NETWORK)]
    given, widths = case.call.inputs["model"], got["the widths"]
    assert isinstance(given, Tensor)
    if widths.dtype != torch.int64 or widths.shape != (len(networks), 8) or any(net.ndim != 1 for net in networks):
        return None
    before = [given, *networks[:-1]]
    return {"came_back": widths, **{str(step): network for step, network in enumerate(before)}}


def own_steps(case: Case, answers: Sequence[Tensor]) -> dict[str, Value] | None:
    """What follows from the answers of `prune_steps`, by the names of `case.expected`; None where they are of no use.

    Among them is what `network_slimming` makes of the given network in each later step: where that is the same, these
    answers cannot tell a chain from networks that were all cut from the given one.
    """
    names = [name for name in case.expected if name.startswith(NETWORK)]
    widths, classes = case.call.inputs["widths"], int(case.expected["classes"])  # type: ignore[arg-type]
    if len(answers) != 2 * len(names) or answers[0].dtype != torch.int64 or answers[0].shape != (len(names), 8):
        return None
    rows, slims, others = answers[0].tolist(), answers[1 : len(names) + 1], answers[len(names) + 1 :]
    if not all(1 <= new <= old for row in rows for new, old in zip(row, widths, strict=True)):  # type: ignore[arg-type]
        return None
    if any(torch.equal(slim, other) for slim, other in zip(slims[1:], others, strict=True)):
        return None
    networks = []
    for step, (row, slim) in enumerate(zip(rows, slims, strict=True), start=1):
        if slim.ndim != 1 or not slim.is_floating_point() or len(slim) != length(row, classes):
            return None
        networks.append(student_net(row, slim))
        perturb(networks[-1], step)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    return {
        "the widths": answers[0],
        "the parameters": torch.tensor(counts),
        **{name: to_vector(network) for name, network in zip(names, networks, strict=True)},
    }
