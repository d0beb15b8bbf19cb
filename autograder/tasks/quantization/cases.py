"""Cases of chapter 4: there and back."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from autograder.tasks.builder import Numbers, case
from autograder.tasks.quantization import oracle
from hw7.checks.cases import Call, Case, Value
from hw7.checks.tensors import pack_names, reorder
from hw7.checks.there_and_back import HEADER

# Cases of `quantize` that cases of `compress` need.
BY_COLUMNS, PARAMETER = "a weight that lies in memory column by column", "a weight that requires a gradient"
PLAIN, ALL_NEGATIVE, OFFSET = "a convolution's weight, default bits", "all negative", "far from 0"


def quantize(rng: Numbers) -> Iterator[Case]:
    def normal(name: str, *shape: int) -> Tensor:
        return rng.normal(*shape, purpose=name)

    yield _quantized("tensor", PLAIN, normal("conv", 6, rng.whole(3, 6), 3, 3))
    yield _quantized("tensor", "a vector", normal("vector", rng.whole(20, 60)))
    yield _quantized("tensor", ALL_NEGATIVE, -normal("negative", 7, 9).abs() - 0.5, 8)
    yield _quantized("tensor", OFFSET, 100 + normal("offset", 5, 4, 6), 8)
    yield _quantized("tensor", "tiny numbers", normal("tiny", 8, 5) * 1e-30, 8)
    yield _quantized("tensor", "entries of very different size", normal("cubed", 9, 11) ** 5, 8)
    yield _quantized("tensor", "a weight that has changed", normal("changed", 7, 8), 8, again=True)
    yield _quantized("tensor", BY_COLUMNS, normal("columns", 5, 7), 8, by_columns=True)
    yield _quantized("tensor", PARAMETER, normal("parameter", 6, 4), 8, parameter=True)
    scales = 10.0 ** torch.arange(-2, 3)
    along = normal("axis 0", 5, 3, 3, 3) * scales[:, None, None, None]
    yield _quantized("channel", "channels along axis 0", along, 8, 0)
    yield _quantized("channel", "channels along axis 1", normal("axis 1", 4, 5) * scales, 8, 1)
    middle = normal("middle", 4, 5, 3, 2) * scales[:, None, None]
    yield _quantized("channel", "channels along an axis in the middle", middle, 8, 1)
    yield _quantized("channel", "one channel", normal("one channel", 1, 6), 8, 0)
    yield _quantized("channel", "channels along the last axis", normal("last", 3, 4, 5) * scales + 1, 6, 2)
    yield _quantized("constant", "a constant tensor", torch.full((3, 4), 0.1 * rng.whole(11, 99)), 8)
    yield _quantized("constant", "a negative constant, 2 bits", torch.full((5,), -0.3), 2)
    yield _quantized("constant", "zeros", torch.zeros(2, 3, 3, 3), 8)
    yield _quantized("constant", "one entry", normal("one", 1), 8)
    channels = normal("constant channel", 4, 6)
    channels[1], channels[3] = 2.5, 0.0
    yield _quantized("constant", "a constant channel among others", channels, 8, 0)
    yield _quantized("constant", "a vector by channel, one entry each", normal("entries", 6), 8, 0)
    for bits in range(2, 9):
        axis = 0 if bits % 3 == 1 else None
        name = f"{bits} bits" + (" by channel" if axis == 0 else "")
        yield _quantized("bits", name, normal(f"bits {bits}", 6, 10), bits, axis)


def _quantized(
    part: str, name: str, weight: Tensor, bits: int | None = None, axis: int | None = None, **options: bool
) -> Case:
    """options: of the call."""
    inputs: dict[str, Value] = {"weight": weight, **options}
    if bits is not None:
        inputs |= {"bits": bits, "channel_axis": axis}
    levels = bits or 8
    allowed = oracle.half_step(weight, levels, axis)
    expected: dict[str, Value] = {
        "weight": weight,
        "levels": 2**levels,
        "channels": 0 if axis is None else weight.shape[axis],
        "allowed:weight": allowed,
    }
    mistakes: dict[str, Mapping[str, Value]] = {
        "quantize-constant": {"not_finite": part == "constant"},
        "quantize-bits-ignored": {"range": True},
        "quantize-axis-ignored": {"shapes": True},
        "quantize-other-dtype": {"dtype": True},
    }
    for wrong in () if part == "constant" else oracle.QUANTIZE_MISTAKES:
        value = oracle.there_and_back(weight, levels, axis, wrong)
        if value.isfinite().all() and bool(((value - weight.double()).abs() > allowed).any()):
            mistakes[wrong] = {**mistakes.get(wrong, {}), "weight": value.float()}
    if part == "constant" and weight.any() and weight.min() == weight.max():
        for wrong in ("quantize-min-not-added", "quantize-constant#zero"):
            mistakes[wrong] = {"weight": torch.zeros_like(weight)}
        mistakes["quantize-constant#whole"] = {"weight": weight.round()}  # a step of 1, and a whole zero point
    if options.get("again"):
        reorder(other := weight.clone())
        mistakes["remembers-by-address"] = {"weight": oracle.there_and_back(other).float()}
    then = Call("dequantize", {"channel_axis": axis})

    def evidence() -> Mapping[str, Mapping[str, Value]]:
        low, high = (end.reshape(-1).float() for end in oracle.span(weight, axis))
        offsets = {"-min": -low, "min": low, "max": high, "-max": -high, "the middle of the range": (low + high) / 2}
        return {"ranges": oracle.ranges(weight, axis), "offsets": offsets}

    return case(part, name, Call("quantize", inputs), expected, mistakes, "quantized", then, evidence=evidence)


ROUGH = 5  # bits
SMALLER = 0.75  # of the bytes that the weights had
SHORT = "bfloat16 and short integers"
TINY = 1e-40  # where 0 is allowed, that is bit for bit


def compress(rng: Numbers) -> Iterator[Case]:
    statistics, odd = _statistics(rng), _odd(rng)
    floating = [name for name, tensor in odd.items() if tensor.is_floating_point()]
    values, weights = _values(rng), _weights(rng)
    exact = [name for name, tensor in statistics.items() if not tensor.is_floating_point() or _is_statistic(name)]
    constants, offset = _constants(rng), _offset(rng)
    yield _compressed("names", "names, order, shapes and dtypes", odd, ())
    layouts = _compressed("names", "entries in other memory layouts", odd, (), channels_last=True)
    yield replace(layouts, needs=f"quantize: {BY_COLUMNS}")
    yield _compressed("names", "names of statistics and whole numbers", statistics, ())
    yield _compressed("values", "weights", values, values)
    yield _compressed("values", "constant weights", constants, constants)
    yield _compressed("values", "other dtypes", odd, floating)
    far = _compressed("values", "weights far from 0", offset, offset)
    yield replace(far, needs=f"quantize: {ALL_NEGATIVE}; quantize: {OFFSET}")
    for title, common in (
        ("a compressor's own names", _names_of_compressors(rng)),
        ("wrapped names", _wrapped(rng)),
        (SHORT, _short(rng)),
    ):
        yield _compressed("names", title, common, ())
        # An entry whose name is lost has no value either: that is one fault.
        yield replace(_compressed("values", f"values, {title}", common, common), needs=f"compress: {title}")
    yield _compressed("names", "tied weights", _tied(rng), (), tied=True)
    empty = {"no.mask": torch.zeros(0, rng.whole(2, 9999, "empty")).bool(), "no.bytes": torch.zeros(2, 0).byte()}
    yield _compressed("names", "entries without numbers", empty, ())
    yield _compressed("names", "no entries", {}, ())
    trained = _compressed("names", "entries that require a gradient", constants, (), parameters=True)
    yield replace(trained, needs=f"quantize: {PARAMETER}")
    unchanged = _compressed("names", "the file stays as it is", values, (), then=Call("decompress", {"held": True}))
    yield replace(unchanged, needs=f"quantize: {PLAIN}")
    yield _compressed("values", "weights that have changed", values, values, again=True)
    yield _compressed("statistics", "batch-norm statistics, whole numbers, bools", statistics, exact)
    yield _compressed("size", "bytes of the file", weights, weights)
    # So large that what HEADER allows for an entry does not hide a fifth of a byte for each number.
    half = {"table.weight": rng.normal(256, 64, purpose="rows", dtype=torch.float16)}
    yield _compressed("size", "bytes of many rows, float16", half, half)
    brain = rng.normal(256, 64, purpose="brain rows", dtype=torch.bfloat16)
    others = {"table.weight": brain, "big.double": odd["big.double"]}
    yield replace(_compressed("size", "bytes of bfloat16 and float64", others, others), needs=f"compress: {SHORT}")


def _statistics(rng: Numbers) -> dict[str, Tensor]:
    width = rng.whole(24, 40)
    return {
        "body.1.weight": rng.normal(width, purpose="scale").abs() + 0.1,
        "body.1.bias": rng.normal(width, purpose="shift"),
        "body.1.running_mean": rng.normal(width, purpose="mean"),
        "body.1.running_var": rng.normal(width, purpose="var").abs() + 0.01,
        "body.1.num_batches_tracked": torch.tensor(rng.whole(300, 90_000, "steps")),
        "wide.running_mean": rng.normal(1100, purpose="wide mean"),
        "wide.running_var": rng.normal(1100, purpose="wide var").abs() * 1e3,
        "double.running_mean": rng.normal(9, purpose="double mean", dtype=torch.float64),
        "half.running_var": rng.normal(7, purpose="half var", dtype=torch.float16).abs(),
        "one.running_mean": rng.normal(1, purpose="one mean"),
        "flag": torch.tensor(True),
        "large.number": torch.tensor(2**62 + 1),
        "signs.running_mean": torch.tensor([0.0, -0.0, -1.5, 0.25]),
        "mask": torch.rand(4, 7, generator=rng.generator("mask")) < 0.5,
        "widths": torch.tensor([rng.whole(1, 2**40, "width"), -1, 3]),
        "bytes": torch.randint(256, (9,), generator=rng.generator("bytes")).to(torch.uint8),
        "many.numbers": torch.randint(-(2**31), 2**31 - 1, (1200,), generator=rng.generator("many")).int(),
    }


def _odd(rng: Numbers) -> dict[str, Tensor]:
    """Names and dtypes that are not everyday ones, and convolutions for other memory layouts."""
    return {
        "zz.first": rng.normal(5, 3, purpose="first"),
        "tête.weight": rng.normal(11, 130, purpose="head"),
        "conv.weight": rng.normal(6, 5, 3, 3, purpose="channels last"),
        "big.conv.weight": rng.normal(8, 16, 3, 3, purpose="big channels last"),
        "temperature": torch.tensor(0.1 * rng.whole(3, 90, "temperature")),
        "half": rng.normal(10, purpose="half", dtype=torch.float16),
        "double": rng.normal(12, purpose="double", dtype=torch.float64),
        "big.half": rng.normal(40, 40, purpose="big half", dtype=torch.float16),
        "big.double": rng.normal(30, 50, purpose="big double", dtype=torch.float64),
        "aa.last": rng.normal(4, purpose="last"),
        "counter": torch.tensor(7, dtype=torch.int32),
    }


def _short(rng: Numbers) -> dict[str, Tensor]:
    return {
        "brain": rng.normal(3, 5, purpose="brain", dtype=torch.bfloat16),
        "big.brain": rng.normal(20, 60, purpose="big brain", dtype=torch.bfloat16),
        "signed.bytes": torch.tensor([-128, rng.whole(1, 127, "signed bytes"), 0], dtype=torch.int8),
        "short": torch.tensor([[-(2**15)], [rng.whole(300, 2**15 - 1, "short")]], dtype=torch.int16),
    }


def _names_of_compressors(rng: Numbers) -> dict[str, Tensor]:
    """Names that a compressor may use for what it makes itself, beside those that it would make them from."""
    names = ["conv.weight", "q", "Conv.weight", "0", "weight_q"]
    found = {name: rng.normal(8, 130, purpose=name) for name in names}
    for suffix in SUFFIXES:
        found[f"conv.weight{suffix}"] = rng.normal(3, purpose=suffix)
        found[f"head{suffix}"] = rng.normal(2, 2, purpose=("head", suffix))
    found |= {name: rng.normal(2, purpose=name) for name in OWN_NAMES}
    shapes: tuple[tuple[int, ...], ...] = ((), (1,), (1, 1), (1, 1, 1, 1))
    return found | {f"shape.{len(shape)}": rng.normal(*shape, purpose=shape) for shape in shapes}


SUFFIXES = (
    ".q", ".scale", ".zero_point", ".zero", ".shape", ".dtype", ".0", "_q", "_scale", "_zero_point", "_shape", "_dtype",
    "_quantized", ".raw", ".min", ".max",
)  # fmt: skip
OWN_NAMES = ("__order__", "__names__", "__meta__", "__index__", "_meta", "meta", "metadata", "names", "index", "order",
             "scale", "zero_point", "1", "00", "0.q", "0.scale", "q0", "head",
             "a|b", "a,b", "a;b", "a=b", "a b", "a/b", "a\\b", "a'b", 'a"b', "[a]", "{a}", "重み")  # fmt: skip


def _wrapped(rng: Numbers) -> dict[str, Tensor]:
    """Names as wrappers make them, beside those without."""
    found: dict[str, Tensor] = {}
    for prefix in ("module.", "_orig_mod.", "module.module.", "model.", "", "MODULE."):
        found[f"{prefix}fc.weight"] = rng.normal(3, 4, purpose=prefix)
        found[f"{prefix}FC.weight"] = rng.normal(4, 3, purpose=("FC", prefix))
    return found


def _tied(rng: Numbers) -> dict[str, Tensor]:
    """Entries that are one and the same tensor, large and small ones."""
    found = {
        "embedding.weight": rng.normal(20, 60, purpose="embedding"),
        "bias": rng.normal(20, purpose="bias"),
        "bn.running_mean": rng.normal(20, purpose="mean"),
        "steps": torch.tensor([rng.whole(3, 999, "steps"), 2]),
    }
    return found | {f"tied.{name}": tensor.clone() for name, tensor in found.items()}


def _values(rng: Numbers) -> dict[str, Tensor]:
    """Weights whose range holds 0, as those of a network: what other ranges ask of `quantize` is asked in 4.1."""
    return {
        "conv.weight": rng.normal(16, 16, 3, 3, purpose="conv"),
        "skewed": rng.normal(20, 60, purpose="skewed").abs() - 0.2,
        "large": rng.normal(1024, purpose="large") * 50,
        "small": rng.normal(40, purpose="small") * 3,
        "small.and.large": rng.normal(12, purpose="small and large") * 1e6,
    }


def _offset(rng: Numbers) -> dict[str, Tensor]:
    """Weights whose range is far from 0: coarse in half precision, and where the range is made to hold 0."""
    return {
        "near.one": 1 + 0.01 * rng.normal(10, 120, purpose="near one"),
        "small.offset": 100 + 0.1 * rng.normal(17, purpose="small offset"),
    }


def _constants(rng: Numbers) -> dict[str, Tensor]:
    """On their own, so that a `quantize` that loses them, which 4.1 charges, explains all that is wrong here."""
    return {
        "constant": torch.full((64, 20), -0.01 * rng.whole(21, 89, "constant")),
        "small.constant": torch.full((6,), 0.25 * rng.whole(3, 21, "small constant")),
        "zeros": torch.zeros(1500),
        "scalar": torch.tensor(-0.5 * rng.whole(3, 9, "scalar")),
    }


def _weights(rng: Numbers) -> dict[str, Tensor]:
    return {
        "stem.weight": rng.normal(32, 32, 3, 3, purpose="stem"),
        "stem.running_var": rng.normal(32, purpose="stem var").abs(),
        "depthwise.weight": rng.normal(128, 1, 3, 3, purpose="depthwise"),
        "mean.and.variance.weight": rng.normal(128, 64, 1, 1, purpose="pointwise"),
        **{f"exactly.{i}": rng.normal(1024, purpose=f"exactly {i}") for i in range(7)},  # more than HEADER lets pass
        "fc.weight": rng.normal(11, 256, purpose="fc"),
        "fc.bias": rng.normal(11, purpose="fc bias"),
    }


def _compressed(
    part: str,
    name: str,
    state: Mapping[str, Tensor],
    judged: Collection[str],
    then: Call | None = None,
    **options: bool,
) -> Case:
    """judged: the entries whose values must come back. options: of the call."""
    exactly = {key: not t.is_floating_point() or _is_statistic(key) for key, t in state.items() if key in judged}
    exactly = dict.fromkeys(exactly, False) if part == "size" else exactly
    big = {key: t.numel() for key, t in state.items() if _is_big(key, t)}
    expected: dict[str, Value] = dict(state)
    floors: dict[str, Value] = {}
    for key, whole in exactly.items():
        tensor = state[key]
        if whole:
            expected[f"allowed:{key}"] = torch.zeros((), dtype=torch.float64)
            continue
        # Half a step, and what the entry's own dtype cannot tell apart.
        rounding = torch.finfo(tensor.dtype).eps * tensor.double().abs().max()
        # A small file must hold the weights, roughly: how exactly they come back is asked in "values".
        bits = ROUGH if part == "size" else 8
        expected[f"allowed:{key}"] = oracle.half_step(tensor, bits) + rounding + TINY
        if part != "size" and tensor.min() < tensor.max():
            for id_, shifted in (("", 0.0), ("edge:", 1e-4)):
                value = oracle.there_and_back(tensor, wrong="quantize-floors", shifted=shifted)
                floors[f"{id_}{key}"] = value.to(tensor.dtype)
    if part == "names":
        expected["in_order"] = True
    if part in ("size", "values") and big:
        # What is stored as it was comes back as it was: for "values", any file that is clearly smaller will do.
        an_entry = {key: 1.1 if part == "size" else SMALLER * state[key].element_size() for key in big}
        rest = sum(t.numel() * t.element_size() for key, t in state.items() if key not in big)
        expected["most_bytes"] = int(sum(an_entry[key] * big[key] for key in big)) + rest + HEADER * len(state)
    kept = [key for key, whole in exactly.items() if whole]
    constant = [key for key, whole in exactly.items() if not whole and state[key].min() == state[key].max()]
    lost: dict[str, dict[str, Value]] = {
        "quantize-constant": {key: torch.full_like(state[key], torch.nan) for key in constant},
        "quantize-constant#zero": {key: torch.zeros_like(state[key]) for key in constant if state[key].any()},
        "quantize-constant#whole": {key: state[key].round() for key in constant if state[key].any()},
    }
    for change in (floors, *lost.values()):
        if change and not big.keys() & change:  # small entries need not be quantized
            change["free"] = True
    mistakes: dict[str, Mapping[str, Value]] = {
        "quantize-floors": floors,
        **lost,
        "statistics-quantized": {key: None for key in kept if "running" in key},
        "whole-numbers-quantized": {key: None for key in kept if "running" not in key},
    }
    mistakes = {id_: change for id_, change in mistakes.items() if change}
    if options.get("again"):
        reorder(*(others := {key: tensor.clone() for key, tensor in state.items()}).values())
        quantized = (key for key in floors if key in others)
        mistakes["remembers-by-address"] = {key: oracle.there_and_back(others[key]).float() for key in quantized}
    inputs: dict[str, Value] = {"names": pack_names(list(state)), **options}
    call = Call("compress", {**inputs, **{str(i): tensor for i, tensor in enumerate(state.values())}})

    def evidence() -> Mapping[str, Mapping[str, Value]]:
        lossy = (key for key, whole in exactly.items() if not whole and state[key].min() < state[key].max())
        return {key: {name: float(value) for name, value in oracle.ranges(state[key]).items()} for key in lossy}

    then = then or Call("decompress", {})
    return case(part, name, call, expected, mistakes, "compressed", then, evidence=evidence)


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var"))


def _is_big(name: str, tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.numel() >= 1024 and not _is_statistic(name)
