"""The reference's quantization (task 4) and its weights file (task 5), against the contract's bounds."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from networks import NARROW, scramble
from torch import Tensor, nn

from hw7.data.plates.render import draw
from hw7.models import StudentNet
from hw7.solution import PROJECT, load_solution

pytestmark = pytest.mark.rounding

REFERENCE = load_solution(PROJECT / "reference_solutions" / "hw7")
models, quantization = REFERENCE.models, REFERENCE.quantization

FLOAT32_EPS = float(np.finfo(np.float32).eps)

SPREADS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda x: x,
    "positive": lambda x: x.abs() + 1,
    "negative": lambda x: -x.abs() - 1,
    "constant": lambda x: torch.full_like(x, 0.3),
    "constant, negative": lambda x: torch.full_like(x, -1e5),
    "zero": torch.zeros_like,
    "huge": lambda x: (1e38 * x).clamp(-3e38, 3e38),  # max - min is no float32
    "tiny": lambda x: 1e-30 * x,
    "a small spread about 1e6": lambda x: 1e6 + x,
}


def assert_within_half_a_step(weight: Tensor, restored: Tensor, bits: int) -> None:
    """The contract's bound for one tensor or channel: half a step and four float32 eps of the largest entry."""
    exact, back = weight.double(), restored.double()
    step = (exact.max() - exact.min()) / (2**bits - 1)
    assert (back - exact).abs().max() <= step / 2 + 4 * FLOAT32_EPS * exact.abs().max()


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("spread", SPREADS)
def test_quantize_comes_back_within_half_a_step(spread: str, bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    for shape in ((), (1,), (300,), (8, 5), (4, 5, 6), (6, 4, 3, 3)):
        weight = SPREADS[spread](torch.randn(shape, generator=generator))
        for axis in (None, *range(len(shape))):
            q, scale, zero_point = quantization.quantize(weight, bits, axis)
            restored = quantization.dequantize(q, scale, zero_point, axis)
            assert (q.dtype, q.shape) == (torch.uint8, weight.shape)
            assert q.max() <= 2**bits - 1
            assert (restored.dtype, restored.shape) == (torch.float32, weight.shape)
            assert scale.shape == zero_point.shape == (() if axis is None else (shape[axis],))
            for before, after in zip(
                *((x.unbind(axis) if axis is not None else [x]) for x in (weight, restored)), strict=True
            ):
                assert_within_half_a_step(before, after, bits)


@pytest.mark.parametrize("value", [0.3, -7.1, 0.0, 1e-30, 1e30])
def test_quantize_gives_constants_back_exactly(value: float) -> None:
    weight = torch.full((4, 5), value)
    weight[2] = 1.5  # each row is a channel, and constant
    assert torch.equal(quantization.dequantize(*quantization.quantize(weight, 4, 0), 0), weight)
    assert torch.equal(quantization.dequantize(*quantization.quantize(weight[0])), weight[0])


@pytest.mark.parametrize("bits", [2, 8])
def test_quantize_takes_the_contracts_step_and_uses_every_level(bits: int) -> None:
    levels = 2**bits - 1
    weight = torch.linspace(-3, 5, 2 * levels + 1)
    q, scale, zero_point = quantization.quantize(weight, bits)
    assert scale.item() == pytest.approx(8 / levels, rel=FLOAT32_EPS)
    assert zero_point.item() == pytest.approx(3 / 8 * levels, rel=2 * FLOAT32_EPS)  # not rounded
    assert q.unique().tolist() == list(range(levels + 1))
    assert (q[0], q[-1]) == (0, levels)


def test_quantize_takes_any_layout_and_leaves_it_alone() -> None:
    weight = nn.Parameter(torch.randn(6, 4, 3, 3).permute(3, 1, 0, 2))
    before = weight.detach().clone()
    for axis in (2, -2):
        q, scale, zero_point = quantization.quantize(weight, 8, axis)
        assert torch.equal(quantization.quantize(before.contiguous(), 8, 2)[0], q)
        assert not any(tensor.requires_grad for tensor in (q, scale, zero_point))
    assert torch.equal(weight, before)


@pytest.mark.parametrize(
    ("weight", "bits"),
    [
        (torch.rand(3), 1),
        (torch.rand(3), 9),
        (torch.empty(0), 8),
        (torch.tensor([1.0, float("nan")]), 8),
        (torch.tensor([1.0, float("inf")]), 8),
    ],
)
def test_quantize_refuses(weight: Tensor, bits: int) -> None:
    with pytest.raises(ValueError, match="quantize"):
        quantization.quantize(weight, bits)


def odd_state() -> dict[str, Tensor]:
    """A network's weights, and what else a state_dict may hold; in no alphabetical order."""
    generator = torch.Generator().manual_seed(0)
    state = dict(scramble(StudentNet(NARROW)).state_dict())
    state |= {
        "z.weight": torch.randn(40, 30, generator=generator),
        "a/b c.é": torch.randn(5, generator=generator),
        "half": torch.randn(2000, generator=generator).half(),
        "double": torch.randn(33, 40, generator=generator, dtype=torch.float64),
        "transposed": torch.randn(50, 40, generator=generator).t(),
        "constant": torch.full((2000,), 0.3),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "mask": torch.rand(2000, generator=generator) > 0.5,
        "counter": torch.tensor(2**40),
        "bytes": torch.arange(256).to(torch.uint8).repeat(8),
        "bn.running_mean": torch.randn(3000, generator=generator),
        "bn.running_var": torch.rand(3000, generator=generator),
    }
    return state


DECOMPRESS = """
import sys, torch, safetensors.torch
from hw7.solution import load_solution
solution, source, target = sys.argv[1:]
restored = load_solution(solution).quantization.decompress(safetensors.torch.load_file(source))
torch.save(list(restored.items()), target)
"""


def decompressed_elsewhere(tensors: dict[str, Tensor], folder: Path) -> list[tuple[str, Tensor]]:
    """Through a file, in a process that has nothing else."""
    safetensors.torch.save_file(tensors, folder / "weights.safetensors")
    arguments = [REFERENCE.directory, folder / "weights.safetensors", folder / "restored.pt"]
    subprocess.run([sys.executable, "-c", DECOMPRESS, *map(str, arguments)], check=True, cwd=PROJECT)
    return torch.load(folder / "restored.pt", weights_only=True)


def is_kept_exactly(name: str, tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or name.endswith(("running_mean", "running_var"))


def assert_restored(state: dict[str, Tensor], restored: list[tuple[str, Tensor]], bits: int) -> None:
    assert [name for name, _ in restored] == list(state)
    for name, after in restored:
        before = state[name]
        assert (after.dtype, after.shape) == (before.dtype, before.shape), name
        if is_kept_exactly(name, before) or before.numel() == 0:
            assert torch.equal(after, before), name
        elif before.dtype == torch.float16:  # its own rounding comes on top
            step = (before.double().max() - before.double().min()) / (2**bits - 1)
            assert (after.double() - before.double()).abs().max() <= step / 2 + before.abs().max() * 2**-11
        else:
            assert_within_half_a_step(before, after, bits)


@pytest.mark.slow
def test_decompress_needs_nothing_but_the_file(tmp_path: Path) -> None:
    state = odd_state()
    before = copy.deepcopy(state)
    restored = decompressed_elsewhere(quantization.compress(state), tmp_path)
    assert_restored(before, restored, 8)
    assert list(state) == list(before)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())
    network = {name: tensor for name, tensor in restored if name in StudentNet(NARROW).state_dict()}
    assert StudentNet.from_state_dict(network).widths == NARROW


@pytest.mark.parametrize("bits", range(2, 9))
def test_compress_at_any_number_of_bits(bits: int) -> None:
    state = odd_state()
    tensors = safetensors.torch.load(safetensors.torch.save(quantization.compress(state, bits)))
    assert_restored(state, list(quantization.decompress(tensors).items()), bits)


@pytest.mark.parametrize("shape", [(1024,), (1025,), (32, 3, 3, 4), (256, 1, 3, 3), (256, 256, 1, 1), (11, 256)])
def test_a_compressed_weight_takes_little_more_than_a_byte_an_entry(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape)
    size = sum(tensor.nbytes for tensor in quantization.compress({"w": weight}).values())
    assert weight.numel() <= size <= 1.1 * weight.numel()


def test_final_models_file_is_within_the_courses_limit() -> None:
    state = models.final_model().state_dict()
    assert len(safetensors.torch.save(quantization.compress(state))) <= 300_000


def test_the_weights_handed_in_are_small_and_know_the_dishes() -> None:
    path = REFERENCE.directory / "weights.safetensors"
    assert path.stat().st_size <= 300_000
    network = models.final_model()
    network.load_state_dict(quantization.decompress(safetensors.torch.load_file(path)))
    images, labels = draw("testing", 330, 128, seed=2**64 + 1)  # no training has seen them
    with torch.no_grad():
        accuracy = (network.eval()(images / 255).argmax(1) == labels).double().mean()
    assert accuracy > 0.6  # measured on 3,347 images: 0.737; one standard error here is 0.024


def test_compress_twice_gives_the_same_twice() -> None:
    state = odd_state()
    first, second = quantization.compress(state), quantization.compress(state)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())


def test_nothing_compressed_is_nothing_restored() -> None:
    assert quantization.decompress(quantization.compress({})) == {}
