"""What torch's operations are as layers: of each, the kind of its row and the numbers that say how it is set."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from hw7.checks.rows import ACTIVATIONS, DTYPES, OPERATIONS

Bound = dict[str, Any]  # the arguments of an operation by name
Read = Callable[[Bound], tuple[str, tuple[float, ...]]]


def _pair(value: Any) -> tuple[float, float]:
    numbers = list(value) if isinstance(value, Sequence) else [value]
    first, last = numbers[0], numbers[-1]
    return float(first), float(last)


def _convolution(a: Bound) -> tuple[str, tuple[float, ...]]:
    weight, groups = a["weight"], int(a["groups"])
    if weight.ndim != 4:
        return "other", ()
    kind = "transposed convolution" if a.get("transposed") else "convolution"
    pairs = [*_pair(a["stride"]), *_pair(a["padding"]), *_pair(a["dilation"])]
    sizes = weight.shape[0], weight.shape[1] * groups, *weight.shape[2:]
    return kind, (*sizes, *pairs, groups, a.get("bias") is not None)


def _norm(a: Bound) -> tuple[str, tuple[float, ...]]:
    x, tracked = a["input"], a.get("running_mean") is not None
    own = bool(a.get("training", False)) or not tracked
    return "norm", (x.shape[1], a["eps"], a["momentum"], own, a.get("weight") is not None, tracked)


def _clamp(low: str, high: str) -> Read:
    def read(a: Bound) -> tuple[str, tuple[float, ...]]:
        lowest, highest = a.get(low), a.get(high)
        return "clamp", (
            -math.inf if lowest is None else float(lowest), math.inf if highest is None else float(highest),
        )  # fmt: skip

    return read


def _relu(a: Bound) -> tuple[str, tuple[float, ...]]:
    return "clamp", (0, math.inf)


def _threshold(a: Bound) -> tuple[str, tuple[float, ...]]:
    return ("clamp", (0, math.inf)) if a["threshold"] == a["value"] == 0 else ("other", ())


def _pool(mean: bool) -> Read:
    def read(a: Bound) -> tuple[str, tuple[float, ...]]:
        kernel, shape = _pair(a["kernel_size"]), tuple(a["self"].shape[-2:])
        if mean and kernel == shape and math.prod(shape) > 4 and not any(_pair(a["padding"])):
            return "mean", (1,)
        return "pool", (mean, *kernel, *_pair(a["stride"] or kernel), *_pair(a["padding"]), bool(a["ceil_mode"]))

    return read


def _adaptive(kind: str) -> Read:
    def read(a: Bound) -> tuple[str, tuple[float, ...]]:
        size = _pair(a["output_size"])
        return (kind, (1,)) if size == (1, 1) else ("adaptive", (kind == "mean", *size))

    return read


def _over(kind: str) -> Read:
    """A mean or maximum over dimensions."""

    def read(a: Bound) -> tuple[str, tuple[float, ...]]:
        x, given = a["self"], a.get("dim")
        dims = [] if given is None else given if isinstance(given, Sequence) else [given]
        return kind, (x.ndim > 2 and {dim % x.ndim for dim in dims} == set(range(2, x.ndim)),)

    return read


def _linear(weight: str, bias: bool) -> Read:
    def read(a: Bound) -> tuple[str, tuple[float, ...]]:
        shape = a[weight].shape
        ends = (shape[1], shape[0]) if weight == "weight" else tuple(shape)
        return "linear", (*ends, bias or a.get("bias") is not None)

    return read


def _number(kind: str, name: str, sign: float = 1, inverse: bool = False) -> Read:
    def read(a: Bound) -> tuple[str, tuple[float, ...]]:
        value = sign * float(a[name])
        return kind, (1 / value if inverse else value,)

    return read


def _two(kind: str, with_number: str) -> Read:
    """A sum, or product, of two tensors or of a tensor and a number."""

    def read(a: Bound) -> tuple[str, tuple[float, ...]]:
        other = a["other"]
        if isinstance(other, Tensor):
            return kind, (float(a.get("alpha", 1)),)
        return with_number, (float(other),)

    return read


def _named(name: str) -> Read:
    return lambda a: ("activation", (ACTIVATIONS.index(name),))


def _padded(mode: int) -> Read:
    def read(a: Bound) -> tuple[str, tuple[float, ...]]:
        sides = [*(a.get("pad") or a.get("padding") or ()), 0, 0, 0, 0][:4]
        here = {"constant": 0, "reflect": 1, "replicate": 2}.get(str(a.get("mode", "")), mode)
        return "padding", (*sides, 3 if here == 0 and (a.get("value") or 0) != 0 else here)

    return read


def _maximum(a: Bound) -> tuple[str, tuple[float, ...]]:
    if not a["other"].any():
        return _relu(a)
    return "other", (OPERATIONS.index("maximum"),)


def _cast(a: Bound) -> tuple[str, tuple[float, ...]]:
    name = str(a["dtype"]).removeprefix("torch.")
    return "cast", (DTYPES.index(name) if name in DTYPES else len(DTYPES) - 1,)


def _just(kind: str) -> Read:
    return lambda a: (kind, ())


def _elu(a: Bound) -> tuple[str, tuple[float, ...]]:
    return "activation", (ACTIVATIONS.index("ELU" if a["scale"] == 1 else "SELU"),)


def _resize(a: Bound) -> tuple[str, tuple[float, ...]]:
    return "resize", ()


_BATCH_NORMS = (
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "batch_norm",
    "_batch_norm_no_update", "_batch_norm_impl_index",
)  # fmt: skip
READ: dict[str, Read] = {
    **dict.fromkeys(("convolution", "conv2d", "_convolution", "mkldnn_convolution"), _convolution),
    **dict.fromkeys(_BATCH_NORMS, _norm),
    "_batch_norm_with_update": lambda a: _norm(a | {"training": True}),
    "native_group_norm": _just("group norm"), "group_norm": _just("group norm"),
    "native_layer_norm": _just("layer norm"), "layer_norm": _just("layer norm"),
    "instance_norm": _just("instance norm"), "threshold": _threshold,
    "_to_copy": _cast, "to": _cast, "relu": _relu, "maximum": _maximum, "hardtanh": _clamp("min_val", "max_val"),
    "clamp": _clamp("min", "max"),
    "relu6": lambda a: ("clamp", (0, 6)), "clamp_min": _clamp("min", "-"), "clamp_max": _clamp("-", "max"),
    "leaky_relu": _number("leaky", "negative_slope"), "_prelu_kernel": _named("PReLU"), "prelu": _named("PReLU"),
    "sigmoid": _named("sigmoid"), "tanh": _named("tanh"), "gelu": _named("GELU"), "silu": _named("SiLU"),
    "hardswish": _named("hardswish"), "hardsigmoid": _named("hardsigmoid"), "mish": _named("Mish"),
    "softplus": _named("softplus"), "elu": _elu, "selu": _named("SELU"), "abs": _named("absolute value"),
    "log": _named("logarithm"), "exp": _named("exponential"),
    "_softmax": _just("softmax"), "softmax": _just("softmax"),
    "_log_softmax": _named("log-softmax"), "log_softmax": _named("log-softmax"),
    "native_dropout": _number("dropout", "p"), "dropout": _number("dropout", "p"),
    "feature_dropout": _number("dropout", "p"), "alpha_dropout": _number("dropout", "p"),
    "max_pool2d_with_indices": _pool(False), "max_pool2d": _pool(False), "avg_pool2d": _pool(True),
    "adaptive_avg_pool2d": _adaptive("mean"), "_adaptive_avg_pool2d": _adaptive("mean"),
    "adaptive_max_pool2d": _adaptive("maximum"),
    "mean": _over("mean"), "amax": _over("maximum"), "max": _over("maximum"), "sum": _over("sum"),
    "constant_pad_nd": _padded(0), "reflection_pad2d": _padded(1), "replication_pad2d": _padded(2), "pad": _padded(0),
    **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d"), _resize),
    **dict.fromkeys(("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_nearest_exact2d"), _resize),
    "addmm": _linear("mat2", True), "mm": _linear("mat2", False), "linear": _linear("weight", False),
    "add": _two("add", "shift"), "mul": _two("multiply", "scale"),
    "sub": _number("shift", "other", sign=-1), "div": _number("scale", "other", inverse=True),
    "cat": _just("concatenate"), "slice": _just("slice"), "split": _just("slice"), "select": _just("slice"),
    "bmm": _just("product"), "matmul": _just("product"),
}  # fmt: skip
