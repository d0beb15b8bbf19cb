"""Find the bug: four small programs in `bugs/`, each with a defect that published course code has or had.

Run one (`python assignments/hw7/bugs/stale_optimizer.py`): it prints a number that is wrong. Fix it where it says so.
"""

from pathlib import Path

import pytest
import torch
from bugs.label_from_path import label_of
from bugs.quantized_statistics import example_state, small
from bugs.reversed_divergence import divergence
from bugs.stale_optimizer import example, prune_and_finetune

pytestmark = pytest.mark.bugs


@pytest.mark.parametrize("steps", [1, 3])
def test_finetuning_moves_the_network_that_is_returned(steps: int) -> None:
    network, prune, batches = example()
    pruned: list[torch.nn.Module] = []

    def remember(given: torch.nn.Module) -> torch.nn.Module:
        pruned.append(prune(given))
        return pruned[-1]

    tuned = prune_and_finetune(network, remember, batches, steps, rate=0.1)
    assert len(pruned) == steps, "prune once a step"
    assert tuned is pruned[-1], "return the network of the last step"
    again = prune_and_finetune(network, prune, batches, steps, rate=0.0)  # a rate of 0: only pruned
    moved = max((a - b).abs().max().item() for a, b in zip(tuned.parameters(), again.parameters(), strict=True))
    assert moved > 1e-3, "Bug 1: fine-tuning leaves the pruned network's weights as they were"


@pytest.mark.parametrize("folder", ["training", "food-11/training", "hw7/food-11/training", "2026_1/7_8/training"])
def test_the_label_does_not_depend_on_the_folder(folder: str) -> None:
    labels = [label_of(Path(folder) / f"{label}_{number}.jpg") for label, number in ((0, 7), (3, 12), (10, 4))]
    assert labels == [0, 3, 10], f"Bug 2: the labels in {folder}/ are wrong"


def test_statistics_come_through_and_weights_get_small() -> None:
    state = example_state()
    restored = small(state)
    assert list(restored) == list(state), "names and order stay"
    for name, tensor in state.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(restored[name], tensor), f"Bug 3: {name} is not what it was"
        elif name.endswith("weight") and tensor.ndim > 1:
            assert restored[name].unique().numel() <= 256, f"{name} must have at most 256 values"
            assert torch.allclose(restored[name], tensor, atol=0.01), f"{name} must be close to what it was"


def test_divergence_is_the_teachers() -> None:
    sure, unsure = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.5, 0.5]])
    assert divergence(unsure, sure).item() == pytest.approx(0.2231, abs=1e-4), "Bug 4: KL(teacher || student)"
    assert divergence(sure, unsure).item() == pytest.approx(0.1927, abs=1e-4), "Bug 4: KL(teacher || student)"
    assert divergence(torch.cat([sure, unsure]), torch.cat([unsure, sure])).item() == pytest.approx(
        (0.2231 + 0.1927) / 2, abs=1e-4
    ), "the mean over the batch"
