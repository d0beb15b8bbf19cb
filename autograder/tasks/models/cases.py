"""Cases of chapter 1: networks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from autograder.tasks.builder import Mistakes, Numbers, case, possible
from autograder.tasks.models import oracle
from autograder.tasks.models.rows import rows_of
from hw7.checks.cases import Call, Case, Value
from hw7.checks.diagnosis.models.traces import signature
from hw7.checks.rows import encode

# Of the largest output: float32 differs by 6e-6 in the right network, by up to 1e-3 in wrong ones (ReLU6 in a ResNet),
# and the nearest wrong network by 1e-2.
NETWORK_RTOL, MISTAKES_RTOL = 1e-4, 5e-3
IN_USE = (3, 3, 32, 32)  # the smallest images that these networks take
# Of images in eval and in train mode: wider than those of the data sets, and small.
WIDE, SMALL = ((2, 3, 37, 45), (2, 3, 34, 150)), ((1, 3, 33, 32), (4, 3, 34, 64))


def _network(
    rng: Numbers,
    name: str,
    function: str,
    arguments: tuple[int, ...],
    net: Callable[..., oracle.Net],
    mistakes: Sequence[str],
    parts: Sequence[str],
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
    in_use: tuple[int, ...] | None = None,
    noun: str = "",
) -> Iterator[Case]:
    """The cases of one call, a part each: its layers and, where there are shapes of images, its outputs. in_use: the
    shape of images for what a student does next with the network. noun: what its blocks are called."""
    seed = rng.number(name, "values")
    inputs: dict[str, Value] = {"builder": function, "arguments": arguments}
    if shapes:
        inputs |= {"seed": seed, "eval_shape": shapes[0], "train_shape": shapes[1]}
    call, then = Call("network", inputs), Call("network_trace", inputs)

    def evidence() -> Mapping[str, Mapping[str, Value]]:
        """The right network's layers, and by what those of mistakes with other parameters are known."""
        rows = {wrong: encode(rows_of(net(wrong=wrong), noun), torch.float32) for wrong in ("", *known)}
        layers: dict[str, Value] = {"rows": rows.pop(""), "noun": noun}
        return {"network": layers, "signatures": {wrong: signature(each) for wrong, each in rows.items()}}

    tables = {wrong: {"layers": oracle.layer_table(net(wrong=wrong))} for wrong in ("", *mistakes)}
    right = tables.pop("")
    known = [wrong for wrong, table in tables.items() if not torch.equal(table["layers"], right["layers"])]
    yield case(parts[0], f"layers, {name}", call, right, tables, "layers", then, evidence=evidence)
    if shapes:

        def outputs(wrong: str = "") -> dict[str, Tensor]:
            return oracle.network_outputs(net(wrong=wrong), seed, shapes)

        expected: dict[str, Value] = {**outputs(), "rtol": NETWORK_RTOL, "mistakes_rtol": MISTAKES_RTOL}
        wrong_outputs = partial(possible, mistakes, lambda wrong: _single(outputs(wrong)))
        yield case(parts[1], f"output, {name}", call, expected, wrong_outputs, "outputs", then, evidence=evidence)
        if in_use:
            yield _in_use(parts[1], name, call, net, mistakes, in_use)


def _single(outputs: Mapping[str, Tensor]) -> Mapping[str, Value]:
    """In single precision, which is enough at MISTAKES_RTOL: most of the bytes of the public cases are such outputs."""
    return {name: each.float() if each.is_floating_point() else each for name, each in outputs.items()}


def _in_use(
    part: str,
    name: str,
    call: Call,
    net: Callable[..., oracle.Net],
    mistakes: Sequence[str],
    shape: tuple[int, ...],
) -> Case:
    """What a student does next with the network: copies, saves, loads and trains it."""
    seed = int(call.inputs["seed"])  # type: ignore[arg-type]
    right = oracle.outputs_in_use(net(), seed, shape)

    def outputs(wrong: str) -> Mapping[str, Value]:
        return _single(oracle.outputs_in_use(net(wrong=wrong), seed, shape))

    def of_mistakes() -> Mistakes:
        copied, loaded, after, left = oracle.IN_USE
        return {
            **possible(mistakes, outputs),
            "one-image-squeezed": {loaded: right[loaded].squeeze(0)},
            "network-copied-in-part": {copied: False},
            "network-saved-in-part": {loaded: False, "keeps_shape": True},
            "network-of-every-call": {after: torch.zeros_like(right[copied]), left: None},
            "network-not-trainable": {left: False},
        }

    inputs = {key: call.inputs[key] for key in ("builder", "arguments", "seed")} | {"shape": shape}
    expected: dict[str, Value] = {**right, "rtol": NETWORK_RTOL, "mistakes_rtol": MISTAKES_RTOL, "returns": "a network"}
    return case(part, f"in use, {name}", Call("network_in_use", inputs), expected, of_mistakes)


def depthwise_separable(rng: Numbers) -> Iterator[Case]:
    # Even numbers and odd ones: what groups channels may do so only where it can.
    a, b, c = (2 * rng.whole(low, low + 1, low) + odd for low, odd in ((2, 0), (3, 1), (5, 0)))
    for name, arguments, size in (
        ("default stride", (a, b), (7, 6)),
        ("stride 1, fewer channels", (c, a, 1), (5, 8)),
        ("stride 2, even size", (b, c, 2), (8, 6)),
        ("stride 2, odd size", (b, b, 2), (9, 7)),
        ("stride 1, as many channels", (a, a, 1), (6, 7)),
        ("stride 3", (b, a, 3), (8, 10)),
    ):
        net = partial(oracle.separable, *arguments)
        shapes = (3, arguments[0], *size), (4, arguments[0], *size)
        parts = "structure", "output"
        in_use = shapes[0] if name == "stride 2, odd size" else None
        yield from _network(
            rng, name, "depthwise_separable", arguments, net, oracle.SEPARABLE_MISTAKES, parts, shapes, in_use
        )


def small_resnet18(rng: Numbers) -> Iterator[Case]:
    for name, classes, parts, shapes, in_use in (
        ("default classes", (), ("parameters", "output"), WIDE, IN_USE),
        ("other classes", (rng.whole(3, 9),), ("classes", "classes"), SMALL, None),
    ):
        net = partial(oracle.small_resnet18, *classes or (11,))
        yield from _network(
            rng, name, "small_resnet18", classes, net, oracle.RESNET_MISTAKES, parts, shapes, in_use, "stage"
        )


def students(rng: Numbers) -> Iterator[Case]:
    for short, noun, net, mistakes in (
        ("cnn", "convolution", oracle.student_cnn, oracle.CNN_MISTAKES),
        ("dw", "block", oracle.student_dw, oracle.DW_MISTAKES),
    ):
        parts = f"{short}_parameters", f"{short}_output"
        for name, classes, shapes, in_use in (
            ("default classes", (), ((2, 3, 67, 97), (3, 3, 68, 150)), IN_USE),
            ("other classes", (rng.whole(3, 9, short),), SMALL, None),
        ):
            function = f"student_{short}"
            of_mistake = partial(net, *classes or (11,))
            full = f"{function}, {name}"
            yield from _network(rng, full, function, classes, of_mistake, mistakes, parts, shapes, in_use, noun)
