"""Task 3.4 in plain words: the handout's example, and what holds of every right schedule."""

from itertools import pairwise

import pytest
from conftest import run_example, yours

EXAMPLE = """
>>> from solution.pruning import width_schedule
>>> for widths in width_schedule((16, 32, 64, 128, 256, 256, 256, 256), 0.95, 2):
...     print(*widths)
...
16 32 64 121 243 243 243 256
16 32 64 115 231 231 231 256
"""

pytestmark = pytest.mark.task_3_4
width_schedule = yours("pruning.width_schedule")

WIDTHS = (16, 32, 64, 128, 256, 256, 256, 256)


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_rounded_once() -> None:
    """10 channels at a rate of 3/4, by hand: 7.5, 5.625 and 4.22, each cut to a whole number. Not 3/4 of 7, of 5, …"""
    rows = width_schedule((10,) * 8, 0.75, 3)
    assert [row[3] for row in rows] == [7, 5, 4]
    assert [row[0] for row in rows] == [10, 10, 10], "stage 0 stays"


def test_stages_outside_3_to_6_stay_and_no_stage_grows_or_ends() -> None:
    rows = [WIDTHS, *width_schedule(WIDTHS, 0.5, 12)]
    assert len(rows) == 13
    for before, after in pairwise(rows):
        assert [after[stage] for stage in (0, 1, 2, 7)] == [WIDTHS[stage] for stage in (0, 1, 2, 7)]
        assert all(1 <= after[stage] <= before[stage] for stage in (3, 4, 5, 6)), f"{after} after {before}"


def test_more_steps_begin_like_fewer() -> None:
    assert width_schedule(WIDTHS, 0.9, 5)[:2] == width_schedule(WIDTHS, 0.9, 2)


@pytest.mark.parametrize("rate", [-0.5, 0.0, 1.0, 2.0])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(ValueError):
        width_schedule(WIDTHS, rate, 2)
