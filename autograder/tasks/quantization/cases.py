"""Cases of tasks 4.1 and 4.2: there and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from autograder.tasks.builder import Maker
from autograder.tasks.quantization import oracle
from hw7.checks.cases import Call, Value
from hw7.checks.judges import HEADER
from hw7.checks.tensors import pack_names

# ---- task 4 --------------------------------------------------------------------------------------------------------


def quantize(make: Maker, parameters: Mapping[str, Any]) -> None:
    def ask(part: str, name: str, weight: Tensor, bits: int | None = None, axis: int | None = None) -> None:
        inputs: dict[str, Value] = {"weight": weight}
        if bits is not None:
            inputs |= {"bits": bits, "channel_axis": axis}
        levels = bits or 8
        expected: dict[str, Value] = {
            "weight": weight,
            "levels": 2**levels,
            "channels": 0 if axis is None else weight.shape[axis],
            "allowed:weight": oracle.half_step(weight, levels, axis),
        }
        changes: dict[str, Mapping[str, Value]] = {
            "quantize-constant": {"not_finite": part == "constant"},
            "quantize-bits-ignored": {"range": True},
            "quantize-axis-ignored": {"shapes": True},
            "quantize-other-dtype": {"dtype": True},
        }
        allowed = expected["allowed:weight"]
        assert isinstance(allowed, Tensor)
        for wrong in () if part == "constant" else oracle.QUANTIZE_MISTAKES:
            value = oracle.there_and_back(weight, levels, axis, wrong)
            if value.isfinite().all() and bool(((value - weight.double()).abs() > allowed).any()):
                changes[wrong] = {**changes.get(wrong, {}), "weight": value.float()}
        then = Call("dequantize", {"channel_axis": axis})
        make.add(part, name, Call("quantize", inputs), "quantized", expected, changes, then)

    def normal(name: str, *shape: int) -> Tensor:
        return make.normal(*shape, purpose=name)

    ask("tensor", "a convolution's weight, default bits", normal("conv", 6, make.whole(3, 6), 3, 3))
    ask("tensor", "a vector", normal("vector", make.whole(20, 60)))
    ask("tensor", "all negative", -normal("negative", 7, 9).abs() - 0.5, 8)
    ask("tensor", "far from 0", 100 + normal("offset", 5, 4, 6), 8)
    ask("tensor", "tiny numbers", normal("tiny", 8, 5) * 1e-9, 8)
    ask("tensor", "entries of very different size", normal("cubed", 9, 11) ** 5, 8)
    scales = 10.0 ** torch.arange(-2, 3)
    ask("channel", "channels along axis 0", normal("axis 0", 5, 3, 3, 3) * scales[:, None, None, None], 8, 0)
    ask("channel", "channels along axis 1", normal("axis 1", 4, 5) * scales, 8, 1)
    ask("channel", "channels along the last axis", normal("last", 3, 4, 5) * scales + 1, 6, 2)
    ask("constant", "a constant tensor", torch.full((3, 4), 0.1 * make.whole(11, 99)), 8)
    ask("constant", "a negative constant, 2 bits", torch.full((5,), -0.3), 2)
    ask("constant", "zeros", torch.zeros(2, 3, 3, 3), 8)
    ask("constant", "one entry", normal("one", 1), 8)
    channels = normal("constant channel", 4, 6)
    channels[1], channels[3] = 2.5, 0.0
    ask("constant", "a constant channel among others", channels, 8, 0)
    for bits in range(2, 9):
        axis = 0 if bits % 3 == 1 else None
        ask("bits", f"{bits} bits" + (" by channel" if axis == 0 else ""), normal(f"bits {bits}", 6, 10), bits, axis)


def compress(make: Maker, parameters: Mapping[str, Any]) -> None:
    def ask(part: str, name: str, state: Mapping[str, Tensor], judged: Iterable[str], size: bool = False) -> None:
        judged = set(judged)
        expected: dict[str, Value] = dict(state)
        whole: dict[str, Value] = {}
        floors: dict[str, Value] = {}
        for key, tensor in state.items():
            if key not in judged:
                continue
            exactly = not tensor.is_floating_point() or key.endswith(("running_mean", "running_var"))
            if exactly:
                expected[f"allowed:{key}"] = torch.zeros((), dtype=torch.float64)
                whole[key] = None
                continue
            # Half a step, and what the entry's own dtype cannot tell apart.
            rounding = torch.finfo(tensor.dtype).eps * tensor.double().abs().max()
            expected[f"allowed:{key}"] = oracle.half_step(tensor) + rounding
            if tensor.min() < tensor.max():
                floors[key] = oracle.there_and_back(tensor, wrong="quantize-floors").to(tensor.dtype)
        if floors and not any(_is_big(key, state[key]) for key in floors):  # small entries need not be quantized
            floors |= {"free": True}
        changes: dict[str, Mapping[str, Value]] = {
            "quantize-floors": floors,
            "quantize-constant": {"not_finite": True},
            "statistics-quantized": {key: None for key in whole if "running" in key},
            "whole-numbers-quantized": {key: None for key in whole if "running" not in key},
        }
        if size:
            big = [t.numel() for key, t in state.items() if _is_big(key, t)]
            rest = sum(t.numel() * t.element_size() for key, t in state.items() if not _is_big(key, t))
            expected["most_bytes"] = int(1.1 * sum(big)) + rest + HEADER * len(state)
        inputs: dict[str, Value] = {"names": pack_names(list(state)), "channels_last": part == "names"}
        inputs |= {**{str(i): tensor for i, tensor in enumerate(state.values())}}
        changes = {id_: change for id_, change in changes.items() if change}
        make.add(part, name, Call("compress", inputs), "compressed", expected, changes, Call("decompress", {}))

    def normal(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return make.normal(*shape, purpose=name, dtype=dtype)

    width = make.whole(24, 40)
    statistics = {
        "body.1.weight": normal("scale", width).abs() + 0.1,
        "body.1.bias": normal("shift", width),
        "body.1.running_mean": normal("mean", width),
        "body.1.running_var": normal("var", width).abs() + 0.01,
        "body.1.num_batches_tracked": torch.tensor(make.whole(300, 90_000, "steps")),
        "wide.running_mean": normal("wide mean", 1100),
        "wide.running_var": normal("wide var", 1100).abs() * 1e3,
        "mask": torch.rand(4, 7, generator=make.random("mask")) < 0.5,
        "widths": torch.tensor([make.whole(1, 2**40, "width"), -1, 3]),
        "bytes": torch.randint(256, (9,), generator=make.random("bytes")).to(torch.uint8),
        "many.numbers": torch.randint(-(2**31), 2**31 - 1, (1200,), generator=make.random("many")).int(),
    }
    odd = {
        "zz.first": normal("first", 5, 3),
        "tête.weight": normal("head", 11, 130),
        "conv.weight": normal("channels last", 6, 5, 3, 3),
        "big.conv.weight": normal("big channels last", 8, 16, 3, 3),
        "temperature": torch.tensor(0.1 * make.whole(3, 90, "temperature")),
        "half": normal("half", 10, dtype=torch.float16),
        "double": normal("double", 12, dtype=torch.float64),
        "big.half": normal("big half", 40, 40, dtype=torch.float16),
        "big.double": normal("big double", 30, 50, dtype=torch.float64),
        "aa.last": normal("last", 4),
        "counter": torch.tensor(7, dtype=torch.int32),
    }
    values = {
        "conv.weight": normal("conv", 16, 16, 3, 3),
        "negative": -normal("negative", 20, 60).abs() - 3,
        "constant": torch.full((64, 20), -0.37),
        "small.constant": torch.full((6,), 1.25),
        "zeros": torch.zeros(1500),
        "offset": normal("offset", 1024) + 50,
        "small": normal("small", 40) * 3,
        "scalar": torch.tensor(-2.75),
    }
    weights = {
        "stem.weight": normal("stem", 64, 32, 3, 3),
        "stem.running_var": normal("stem var", 64).abs(),
        "depthwise.weight": normal("depthwise", 128, 1, 3, 3),
        "pointwise.weight": normal("pointwise", 128, 64, 1, 1),
        "exactly": normal("exactly", 1024),
        "fc.weight": normal("fc", 11, 256),
        "fc.bias": normal("fc bias", 11),
    }
    ask("names", "names, order, shapes and dtypes", odd, ())
    ask("names", "names of statistics and whole numbers", statistics, ())
    ask("values", "weights", values, values)
    ask("values", "other dtypes", odd, (key for key, tensor in odd.items() if tensor.is_floating_point()))
    ask("statistics", "batch-norm statistics, whole numbers, bools", statistics, statistics)
    ask("size", "bytes of the file", weights, weights, size=True)


def _is_big(name: str, tensor: Tensor) -> bool:
    statistic = name.endswith(("running_mean", "running_var"))
    return tensor.is_floating_point() and tensor.numel() >= 1024 and not statistic
