"""Task 3.2 in plain words: the handout's example, and what holds of every right choice."""

import pytest
import torch
from conftest import run_example, yours

EXAMPLE = """
>>> import torch
>>> from solution.pruning import select_channels
>>> select_channels(torch.tensor([0.5, 2.0, 0.5, 1.0]), 3).tolist()
[0, 1, 3]
"""

pytestmark = pytest.mark.task_3_2
select_channels = yours("pruning.select_channels")


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_nothing_that_goes_is_more_important_than_what_stays() -> None:
    importance = torch.tensor([0.3, 0.9, 0.1, 0.8, 0.5, 0.7, 0.2])
    for keep in range(1, 7):
        kept = select_channels(importance, keep).tolist()
        gone = [channel for channel in range(7) if channel not in kept]
        assert kept == sorted(set(kept)), f"of {keep}, {kept}: each once, in ascending order of the index"
        assert len(kept) == keep
        assert importance[kept].min() > importance[gone].max(), f"of {keep}, {kept} stays"


def test_of_equal_ones_the_first_stay() -> None:
    for channels in (5, 100, 1000):
        assert select_channels(torch.ones(channels), 3).tolist() == [0, 1, 2], f"of {channels}"


@pytest.mark.parametrize("keep", [-1, 0, 4])
def test_a_number_that_cannot_be_kept_is_refused(keep: int) -> None:
    with pytest.raises(ValueError):
        select_channels(torch.tensor([1.0, 2.0, 3.0]), keep)
