"""Find the bug: four small programs in `bugs/`, each with a defect that published course code has or had.

Run one (`python assignments/hw7/bugs/stale_optimizer.py`): it prints a number that is wrong. Fix it where it says so.
They earn no points, and so plain `pytest` leaves them out: `pytest -m bugs` runs these tests.
"""

from pathlib import Path

import pytest
import torch
from bugs.label_from_path import label_of
from bugs.quantized_statistics import example_state, small
from bugs.reversed_divergence import divergence
from bugs.stale_optimizer import example, prune_and_finetune

pytestmark = pytest.mark.bugs


def expect(right: bool, what: str) -> None:
    """Fails with these words alone: what is seen, and what should be."""
    if not right:
        pytest.fail(what, pytrace=False)


@pytest.mark.parametrize("steps", [1, 3])
def test_finetuning_moves_the_network_that_is_returned(steps: int) -> None:
    network, prune, batches = example()
    pruned: list[torch.nn.Module] = []

    def remember(given: torch.nn.Module) -> torch.nn.Module:
        pruned.append(prune(given))
        return pruned[-1]

    tuned = prune_and_finetune(network, remember, batches, steps, rate=0.1)
    expect(len(pruned) == steps, f"Bug 1: of {steps} steps, {len(pruned)} have pruned; each must, once")
    expect(tuned is pruned[-1], "Bug 1: what is returned is not the network that the last step made")
    again = prune_and_finetune(network, prune, batches, steps, rate=0.0)  # a rate of 0: only pruned
    moved = max((a - b).abs().max().item() for a, b in zip(tuned.parameters(), again.parameters(), strict=True))
    expect(
        moved > 1e-3,
        f"Bug 1: {steps} x {len(batches)} batches at a learning rate of 0.1 have moved the weights of the network that "
        f"is returned by at most {moved:.6f}; they must move by more than 0.001",
    )


@pytest.mark.parametrize("folder", ["training", "food-11/training", "hw7/food-11/training", "2026_1/7_8/training"])
def test_the_label_does_not_depend_on_the_folder(folder: str) -> None:
    names = {0: "0_7.jpg", 3: "3_12.jpg", 10: "10_4.jpg"}
    try:
        labels = [label_of(Path(folder) / name) for name in names.values()]
    except Exception as error:
        pytest.fail(f"Bug 2: {folder}/{names[0]}: {type(error).__name__}: {error}", pytrace=False)
    for right, given in zip(names, labels, strict=True):
        expect(given == right, f"Bug 2: {folder}/{names[right]} has the label {given}; it must be {right}")


def test_outputs_stay_and_weights_get_small() -> None:
    state = example_state()
    restored = small(state)
    expect(list(restored) == list(state), "Bug 3: names and their order must stay as they were")
    exact = [name for name in state if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    off = max((restored[name].double() - state[name].double()).abs().max().item() for name in exact)
    expect(
        off == 0,
        f"Bug 3: something that must come back exactly is off by up to {off:.3g}. Which tensors does a step of a "
        "255th of their range harm most, and by how much? Print them before and after",
    )
    for name, tensor in state.items():
        if name.endswith("weight") and tensor.ndim > 1:
            values, moved = restored[name].unique().numel(), (restored[name] - tensor).abs().max().item()
            expect(values <= 256, f"Bug 3: {name} has {values:,} values; on 256 levels it has at most 256")
            expect(moved <= 0.01, f"Bug 3: {name} has moved by up to {moved:.3f}; the nearest level is within 0.01")


@pytest.mark.parametrize(
    ("teacher", "student", "right"),
    [
        ([[0.8, 0.2]], [[0.5, 0.5]], 0.1927),
        ([[0.5, 0.5]], [[0.8, 0.2]], 0.2231),
        ([[0.8, 0.2], [0.5, 0.5]], [[0.5, 0.5], [0.8, 0.2]], 0.2079),
    ],
    ids=["sure teacher", "sure student", "two images"],
)
def test_divergence_of_a_student(teacher: list[list[float]], student: list[list[float]], right: float) -> None:
    given = divergence(torch.tensor(teacher), torch.tensor(student))
    expect(given.ndim == 0, f"Bug 4: of {len(teacher)} images, one number must come back, not {given.numel()}")
    expect(
        abs(given.item() - right) <= 1e-4,  # the four decimals of `right`
        f"Bug 4: for the teacher's probabilities {rows(teacher)} and the student's {rows(student)}, {right} must come "
        f"back, not {given.item():.4f}",
    )


def rows(probabilities: list[list[float]]) -> str:
    """ "0.8 0.2, 0.5 0.5": an image's probabilities, then the next one's."""
    return ", ".join(" ".join(map(str, row)) for row in probabilities)
