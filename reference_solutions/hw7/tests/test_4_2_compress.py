"""Task 4.2 in plain words: the handout's example, and what holds of every right pair."""

import pytest
import safetensors.torch
import torch
from conftest import run_example, yours

from autograder.course.plain_tests import worked_example

EXAMPLE = worked_example("4.2")

pytestmark = pytest.mark.task_4_2
compress, decompress = yours("quantization.compress"), yours("quantization.decompress")

State = dict[str, torch.Tensor]


def state_dict() -> State:
    torch.manual_seed(0)
    return {
        "conv.weight": torch.randn(16, 16, 3, 3),
        "bn.weight": torch.randn(16),
        "bn.running_mean": torch.randn(16),
        "bn.running_var": torch.rand(16),
        "bn.num_batches_tracked": torch.tensor(123456789),
        "a.first.by.its.name": torch.randn(8, dtype=torch.float64),
        "mask": torch.rand(4, 5) > 0.5,
    }


def there_and_back(state: State) -> State:
    """Through the bytes of a file, which keeps no order."""
    return decompress(safetensors.torch.load(safetensors.torch.save(compress(state))))


def test_the_example_of_the_handout() -> None:
    run_example(EXAMPLE)


def test_names_order_shapes_and_dtypes_come_back() -> None:
    state = state_dict()
    back = there_and_back(state)
    assert list(back) == list(state)
    for name, tensor in state.items():
        assert (back[name].shape, back[name].dtype) == (tensor.shape, tensor.dtype), name


def test_statistics_and_whole_numbers_come_back_bit_for_bit() -> None:
    state = state_dict()
    back = there_and_back(state)
    for name in ("bn.running_mean", "bn.running_var", "bn.num_batches_tracked", "mask"):
        assert torch.equal(back[name], state[name]), name


def test_other_numbers_come_back_within_half_a_step() -> None:
    state = state_dict()
    back = there_and_back(state)
    for name in ("conv.weight", "bn.weight", "a.first.by.its.name"):
        step = (state[name].max() - state[name].min()).item() / 255
        off = (back[name] - state[name]).abs().max().item()
        assert off <= 0.501 * step, f"{name} is off by {off / step:.3f} of a step"


def test_a_large_weight_takes_a_byte_an_entry() -> None:
    weight = torch.randn(64, 32, 3, 3)
    made = compress({"weight": weight})
    size = sum(tensor.nbytes for tensor in made.values())
    assert size <= 1.1 * weight.numel(), f"{size:,} bytes for {weight.numel():,} entries"


def test_the_given_numbers_stay_as_they_are() -> None:
    state, given = state_dict(), state_dict()
    for tensor in there_and_back(given).values():
        tensor.zero_()
    for name, tensor in given.items():
        assert torch.equal(tensor, state[name]), f"{name} has changed"
