"""Task 4.1 in plain words: the handout's example, and what holds of every right pair."""

import pytest
import torch
from conftest import run_example, yours

from autograder.course.plain_tests import worked_example

EXAMPLE = worked_example("4.1")

pytestmark = pytest.mark.task_4_1
quantize, dequantize = yours("quantization.quantize"), yours("quantization.dequantize")

WEIGHT = torch.tensor([[-1.0, -0.4, 0.1, 0.33], [10.0, 20.0, 27.0, 40.0], [5.0, 5.0, 5.0, 5.0]])


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_every_entry_comes_back_within_half_a_step() -> None:
    for bits in range(2, 9):
        step = 41 / (2**bits - 1)  # from -1 to 40
        q, scale, zero_point = quantize(WEIGHT, bits)
        assert q.dtype == torch.uint8, f"{bits} bits"
        assert q.max().item() < 2**bits, f"{bits} bits: the largest level is {q.max()}"
        off = (dequantize(q, scale, zero_point) - WEIGHT).abs().max().item()
        assert off <= 0.501 * step, f"{bits} bits: off by {off / step:.3f} of a step"


def test_each_channel_has_a_step_of_its_own() -> None:
    for weight, axis in ((WEIGHT, 0), (WEIGHT.T, 1)):
        made = quantize(weight, 4, axis)
        assert made[1].shape == made[2].shape == (3,), "a scale and a zero point for each channel"
        off = (dequantize(*made, axis) - weight).abs().amax(dim=1 - axis)
        half_steps = torch.tensor([1.33, 30, 0]) / 15 / 2
        assert (off <= 1.002 * half_steps + 1e-5).all(), f"axis {axis}: channels are off by {off.tolist()}"


def test_constants_come_back() -> None:
    for value in (-3.5, 0.0, 0.25):
        weight = torch.full((2, 3), value)
        back = dequantize(*quantize(weight))
        assert torch.allclose(back, weight), f"{value} comes back as {back[0, 0]}"


def test_a_weight_that_lies_far_from_0_has_no_larger_error() -> None:
    step = 2 / 255
    weight = torch.linspace(-1, 1, 50)
    for shift in (-100, 0, 100):
        off = (dequantize(*quantize(weight + shift)) - (weight + shift)).abs().max().item()
        assert off <= 0.51 * step, f"shifted by {shift}: off by {off / step:.3f} of a step"
