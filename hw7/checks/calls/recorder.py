"""Which layers a network runs, in the order of its calls, whether they are modules, functions or subclasses."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hw7.checks.rows import (
    ACTIVATIONS,
    COMPUTED,
    DTYPES,
    IMAGES,
    MOST_ROWS,
    NOTHING,
    OPERATIONS,
    STRANGE,
    UNKNOWN,
    Row,
    encode,
)
from hw7.checks.tensors import layers_of

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
# What hands the same numbers on.
SAME = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "alias", "t", "squeeze", "unsqueeze",
    "expand", "detach", "clone", "_to_copy", "contiguous", "lift_fresh", "flatten", "unflatten", "to",
    "view_as",
}  # fmt: skip
TURNED = ("transpose", "permute", "movedim")
WEIGHTS = ("weight", "mat2")


class Recorder(TorchDispatchMode):
    """Rows of what is done to these images while it is entered. network: whose parameters weights are looked for in."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.batch = len(images)
        self._parameters = {id(each): number for number, (_, each) in enumerate(layers_of(network))}
        self._made: dict[int, int] = {id(images): IMAGES}
        self._noise: dict[int, float] = {}
        self._results: set[int] = set()
        self._written: dict[int, int] = {}  # memory that rows were copied into
        self._held: list[Any] = [images, *(each for _, each in layers_of(network))]  # so that no id is used twice

    def table(self) -> Tensor:
        """Empty, where there are too many rows to be compared."""
        return encode(self.rows if len(self.rows) <= MOST_ROWS else [])

    def end(self, output: Any) -> None:
        """Where the output comes from."""
        self.rows.append(Row("output", sources=(self._maker(output), NOTHING)))

    def _maker(self, tensor: Any) -> int:
        """The row that a tensor comes from."""
        known = self._made.get(id(tensor), UNKNOWN)
        if known == UNKNOWN and self._written and isinstance(tensor, Tensor):
            return self._written.get(tensor.untyped_storage().data_ptr(), UNKNOWN)
        return known

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.partition("::")[2]
        inplace = name.endswith("_") and not name.endswith("__")
        name = name[:-1] if inplace else name
        bound = _bound(func, args, kwargs)
        tensors = _tensors(bound.values())
        made = [each for each in tensors if self._maker(each) != UNKNOWN]
        row, new = None, name.endswith("_like") or name.startswith("new_")
        cast = (
            bool(made)
            and name in ("_to_copy", "to")
            and bound.get("dtype")
            not in (
                None,
                torch.float32,
                *(each.dtype for each in made),
            )
        )
        same = (name in SAME and not cast) or (
            name in TURNED and not (made and made[0].ndim > 3)
        )  # of weights, and of features
        if made and not new and not same and not self._completed(name, tensors):
            row = self._row(name, bound, tensors) if name != "copy" else self._copied(tensors)
        if row is not None:
            self.rows.append(row)
        result = func(*args, **kwargs)
        results = _tensors([result])[:1]
        self._held += results
        self._results.update(map(id, results))
        if row is not None:
            self._made.update((id(each), len(self.rows) - 1) for each in results)
        elif same or name in ("slice", "add", "dropout", "feature_dropout"):
            for each in results if tensors else ():
                self._hand_on(made[0] if made else tensors[0], each)
        elif name == "bernoulli" and results:
            self._noise[id(results[0])] = 1 - float(bound.get("p", 0.5))
        elif inplace and results and not made:
            self._hand_on(tensors[0], results[0])
        return result

    def _completed(self, name: str, tensors: list[Tensor]) -> bool:
        """Whether this adds the bias of the linear layer before."""
        if name != "add" or len(tensors) != 2 or not 0 <= self._maker(tensors[0]) < len(self.rows):
            return False
        place = self._maker(tensors[0])
        before, bias = self.rows[place], id(tensors[1]) in self._parameters
        if not bias or before.kind != "linear" or before.numbers[2]:
            return False
        self.rows[place] = before._replace(numbers=(*before.numbers[:2], 1.0))
        return True

    def _copied(self, tensors: list[Tensor]) -> Row | None:
        """What is copied into other memory, as where a border is padded by the pixels of the other side."""
        target, given = tensors[:2]
        memory = target.untyped_storage().data_ptr()
        if memory in self._written or self._maker(given) == UNKNOWN:
            return None
        self._written[memory] = len(self.rows)
        shape = (*given.shape[1:4], -1, -1, -1)[:3]
        return Row("padding", (-1, -1, -1, -1, 3), shape, (self._maker(given), NOTHING))

    def _hand_on(self, given: Tensor, result: Tensor) -> None:
        tables: list[dict[int, Any]] = [self._made, self._parameters, self._noise]
        for known in tables:
            if id(given) in known:
                known[id(result)] = known[id(given)]

    def _row(self, name: str, bound: Bound, tensors: list[Tensor]) -> Row | None:
        """None for what changes nothing: a slice of all, dropout in eval mode."""
        x = next(each for each in tensors if self._maker(each) != UNKNOWN)
        try:
            kind, numbers = READ[name](bound) if name in READ else ("other", ())
        except (LookupError, TypeError, ValueError, ArithmeticError):
            kind, numbers = "other", ()
        if kind == "other" and not numbers:
            numbers = (OPERATIONS.index(name) if name in OPERATIONS else 0,)
        if name == "slice" and bound["step"] == 1 and not bound["start"]:
            kind = kind if bound["end"] is not None and bound["end"] < x.shape[bound["dim"]] else ""
        if not kind or (kind == "dropout" and not bound.get("train", True)):
            return None
        if kind == "norm" and len(x) != self.batch:
            kind = "instance norm"
        noise = next((self._noise[id(each)] for each in tensors if id(each) in self._noise), None)
        if kind == "multiply" and noise is not None:
            kind, numbers = "dropout", (round(noise, 9),)
        shape = (*x.shape[1:4], -1, -1, -1)[:3]
        weight = next((bound[each] for each in WEIGHTS if isinstance(bound.get(each), Tensor)), None)
        found = [self._maker(each) for each in tensors if self._source(kind, each)]
        first, second = (*found, NOTHING, NOTHING)[:2]
        if kind == "add" and UNKNOWN in (first, second):
            kind, numbers = "other", (0,)
            first, second = max(first, second), NOTHING
        strange = COMPUTED if id(weight) in self._results else STRANGE
        return Row(kind, numbers, shape, (first, second), self._parameters.get(id(weight), strange))

    def _source(self, kind: str, tensor: Tensor) -> bool:
        """Whether a row names where this argument comes from: of sums, all; else what comes from the images."""
        return self._maker(tensor) != UNKNOWN or (kind in ("add", "multiply") and id(tensor) not in self._noise)


def _bound(func: Any, args: Any, kwargs: Any) -> Bound:
    arguments = func._schema.arguments
    given = {each.name: each.default_value for each in arguments if each.has_default_value()}
    return given | {each.name: value for each, value in zip(arguments, args, strict=False)} | dict(kwargs)


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [each for each in value if isinstance(each, Tensor)]
    return found


def recorded(network: nn.Module, images: Tensor) -> tuple[Tensor, Any]:
    """The table of a network's rows for these images, in the mode that it has, and its output: of no entries where it
    raised an exception, with the rows up to that."""
    recorder = Recorder(network, images)
    output: Any = torch.empty(0)
    try:
        with torch.no_grad(), recorder:
            output = network(images)
        recorder.end(output)
    except Exception:  # whatever a network raises: its rows are what is asked for
        pass
    return recorder.table(), output
