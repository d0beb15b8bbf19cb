"""Cases of task 3.5: pruning along a schedule."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch

from autograder.tasks.builder import Lazy, Mistakes, Numbers, case, only_these, possible
from autograder.tasks.pruning import oracle
from autograder.tasks.pruning.evidence import of_schedule
from autograder.tasks.pruning.in_use import CHANGED_ELSE, LEFT, LEFT_ALONE
from hw7.checks.cases import Call, Case, Value
from hw7.checks.tensors import student_net, to_vector
from hw7.models import StudentNet

PLAIN_CLASSES = 11  # where other numbers of classes are an earlier task's


def iterative_prune(rng: Numbers) -> Iterator[Case]:
    for name, widths, classes, keep_rate, steps, needs in (
        ("three steps", (4, 5, 6, 14, 16, 16, 12, 6), PLAIN_CLASSES, 0.7, 3, ""),
        ("stages of equal width", (3, 4, 16, 16, 16, 16, 16, 5), PLAIN_CLASSES, 0.8, 2, ""),
        ("steps that change no width", (3, 4, 5, 16, 14, 14, 12, 6), 5, 0.99, 3, USED_AND_COPIED),
    ):
        vector = rng.network(name, widths, classes)
        answer = partial(_pruned, student_net(widths, vector), keep_rate, steps)
        right = answer()
        nets = [key for key in right if key.startswith("the network")]
        mistakes = Lazy(partial(_wrong_prunings, answer, steps))
        options: dict[str, Value] = {"widths": widths, "keep_rate": keep_rate, "steps": steps}
        call, then = Call("iterative_prune", {"model": vector, **options}), Call("prune_steps", options)
        for part, names, unproved in (
            ("schedule", ("the widths", "the parameters"), "prune-one-network-only"),
            ("chain", ("the calls of finetune", *nets, ABLE), "prune-trains-the-old-network#given"),
            ("unchanged", ("the widths", "the model after"), "prune-one-network-only"),
        ):
            expected: dict[str, Value] = {
                **right,
                "only": "; ".join(names),
                "exact": "the model after",
                "rtol": 1e-5,
                "returns": f"a list of {steps} networks",
                "classes": classes,
            }
            shown = partial(only_these, mistakes, names, [unproved])
            evidence = partial(of_schedule, keep_rate, steps)
            yield case(part, f"{part}, {name}", call, expected, shown, "pruned", then, needs, evidence)
        if not needs:
            expected = {**right, "only": f"{LEFT}; {FILLED}; {TUPLES}", "returns": f"a list of {steps} networks"}
            unusable: Mistakes = {"prune-not-usable": {LEFT: False}}
            yield case("chain", f"in use, {name}", call, expected, unusable, needs=USED)
            expected = {**right, "only": CHANGED_ELSE, "returns": f"a list of {steps} networks"}
            changed: Mistakes = {"changes-its-state": {CHANGED_ELSE: False}}
            yield case("unchanged", f"beside its numbers, {name}", call, expected, changed, needs=USED)


# Of the task's earlier functions: that networks can be trained after them, are kept apart, and copied with all classes.
USED = f"{LEFT_ALONE}; " + "; ".join(
    f"network_slimming: {name}"
    for name in ("in use", "smaller widths", "smaller widths, beside its numbers", "equal widths, beside its numbers")
)
USED_AND_COPIED = f"{USED}; network_slimming: equal widths; network_slimming: every stage pruned"
ABLE = "how often finetune could have computed gradients"
TUPLES = "whether the networks' widths are tuples"
FILLED = "what is in each network after it was filled with its number"


def _pruned(model: StudentNet, keep_rate: float, steps: int, wrong: str = "") -> dict[str, Value]:
    """What the call `iterative_prune` yields, right or with one thing wrong."""
    networks, given = oracle.iterative_prune(model, keep_rate, steps, wrong)
    calls = torch.tensor(0 if wrong == "prune-never-finetunes" else steps)
    numbers = [steps if wrong == "prune-one-network-only" else number for number in range(1, steps + 1)]
    return {
        "the calls of finetune": calls,
        "the widths": torch.tensor([net.widths for net in networks]),
        "the parameters": torch.tensor([sum(parameter.numel() for parameter in net.parameters()) for net in networks]),
        **{f"the network of step {i}": to_vector(net) for i, net in enumerate(networks, start=1)},
        ABLE: calls,
        LEFT: torch.tensor([0, 0]),
        FILLED: torch.tensor([[float(number)] * 2 for number in numbers], dtype=torch.float64),
        "the model after": to_vector(given),
        CHANGED_ELSE: torch.tensor(True),
        TUPLES: torch.tensor(True),
    }


def _wrong_prunings(answer: Callable[[str], Mapping[str, Value]], steps: int) -> Mistakes:
    slims = ("importance-signed", "slim-own-batch-norm", "select-first", "select-least-important")
    found = possible((*oracle.PRUNE_MISTAKES, *oracle.SCHEDULE_MISTAKES, *slims), answer)
    if steps == 2:  # where it returns nothing
        del found["prune-takes-what-finetune-returns"]
    found["prune-without-gradients"] = {ABLE: False}
    found["prune-not-one-network-a-step"] = {"other_count": True}
    return found
