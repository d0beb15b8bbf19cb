"""Cases of tasks 1.1 to 1.3: networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from autograder.tasks.builder import Changes, Maker
from autograder.tasks.models import oracle
from hw7.checks.cases import Call, Value

# ---- task 1 --------------------------------------------------------------------------------------------------------


# Of the largest output: float32 differs by 6e-6 in the right network, by up to 1e-3 in wrong ones (ReLU6 in a ResNet),
# and the nearest wrong network by 1e-2.
NETWORK_RTOL, MISTAKES_RTOL = 1e-4, 5e-3


def _network(
    make: Maker,
    name: str,
    builder: str,
    arguments: tuple[int, ...],
    net: Callable[[str], oracle.Net],
    mistakes: Sequence[str],
    parts: Mapping[str, str],
    shapes: tuple[tuple[int, ...], tuple[int, ...]] | None,
) -> None:
    """The cases of one call: its layers, and its outputs where there are shapes of images."""
    inputs: dict[str, Value] = {"builder": builder, "arguments": arguments}
    if shapes:
        inputs |= {"seed": make.number(name, "values"), "eval_shape": shapes[0], "train_shape": shapes[1]}
    call = Call("network", inputs)
    right = net("")
    table = oracle.layer_table(right)
    tables = {wrong: {"layers": oracle.layer_table(net(wrong))} for wrong in mistakes}
    tables = {wrong: change for wrong, change in tables.items() if not torch.equal(change["layers"], table)}
    make.add(parts["layers"], f"layers, {name}", call, "layers", {"layers": table}, tables)
    if not shapes:
        return

    seed = make.number(name, "values")
    expected = oracle.network_outputs(right, seed, shapes)
    assert expected is not None

    def changes() -> Changes:
        found = {wrong: oracle.network_outputs(net(wrong), seed, shapes) for wrong in mistakes}
        return {wrong: change for wrong, change in found.items() if change is not None}

    tolerance = {"rtol": NETWORK_RTOL, "mistakes_rtol": MISTAKES_RTOL}
    make.add(parts["output"], f"output, {name}", call, "outputs", {**expected, **tolerance}, changes)


def depthwise_separable(make: Maker, parameters: Mapping[str, Any]) -> None:
    a, b, c = (make.whole(low, low + 3, low) for low in (3, 7, 11))
    parts = {"layers": "structure", "output": "output"}
    for name, arguments, size in (
        ("default stride", (a, b), (9, 8)),
        ("stride 1, fewer channels", (c, a, 1), (7, 10)),
        ("stride 2, even size", (b, c, 2), (12, 8)),
        ("stride 2, odd size", (b, b, 2), (13, 9)),
        ("stride 1, as many channels", (a, a, 1), (8, 11)),
    ):
        _network(
            make,
            name,
            "depthwise_separable",
            arguments,
            lambda wrong, arguments=arguments: oracle.separable(*arguments, wrong=wrong),  # type: ignore[misc]
            oracle.SEPARABLE_MISTAKES,
            parts,
            ((3, arguments[0], *size), (4, arguments[0], *size)),
        )


def small_resnet18(make: Maker, parameters: Mapping[str, Any]) -> None:
    shapes = (2, 3, 37, 45), (4, 3, 48, 48)
    for classes, parts, images in (
        (11, {"layers": "parameters", "output": "output"}, shapes),
        (make.whole(3, 9), {"layers": "classes"}, None),
    ):
        _network(
            make,
            f"{classes} classes",
            "small_resnet18",
            (classes,),
            lambda wrong, classes=classes: oracle.small_resnet18(classes, wrong),  # type: ignore[misc]
            oracle.RESNET_MISTAKES,
            parts,
            images,
        )


def students(make: Maker, parameters: Mapping[str, Any]) -> None:
    for builder, short, net, mistakes in (
        ("student_cnn", "cnn", oracle.student_cnn, oracle.CNN_MISTAKES),
        ("student_dw", "dw", oracle.student_dw, oracle.DW_MISTAKES),
    ):
        parts = {"layers": f"{short}_parameters", "output": f"{short}_output"}
        for name, arguments, shapes in (
            ("default classes", (), ((2, 3, 67, 97), (3, 3, 96, 100))),
            ("other classes", (make.whole(3, 9, short),), None),
        ):
            _network(
                make,
                f"{builder}, {name}",
                builder,
                arguments,
                lambda wrong, net=net, arguments=arguments: net(*arguments or (11,), wrong),  # type: ignore[misc]
                mistakes,
                parts,
                shapes,
            )
