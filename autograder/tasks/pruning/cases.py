"""Cases of tasks 3.1 to 3.5: network slimming."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autograder.tasks.builder import Changes, Lazy, Maker, network_vector, only_these, possible
from autograder.tasks.pruning import oracle
from hw7.checks.cases import Call, Value
from hw7.checks.tensors import student_net, to_vector
from hw7.models import STUDENT_WIDTHS, StudentNet

# ---- task 3 --------------------------------------------------------------------------------------------------------


def channel_importance(make: Maker, parameters: Mapping[str, Any]) -> None:
    for part, name, width, positive in (
        ("values", "scales of both signs", make.whole(8, 20, "a"), False),
        ("values", "one channel", 1, False),
        ("detached", "positive scales", make.whole(8, 20, "b"), True),
    ):
        scale = make.normal(width, purpose=name) - (0.0 if width > 1 else 2.0)
        scale = scale.abs() if positive else scale
        if width > 2 and not positive:
            scale[1], scale[2] = 0.0, -scale[2].abs()
        expected: dict[str, Value] = {
            "the importance": scale.double().abs(),
            "whether it needs a gradient": torch.tensor(False),
            "the scale after": scale,
            "rtol": 1e-6,
            "exact": "the scale after",
            "returns": "a tensor [C]",
            "only": "the importance; the scale after" + ("; whether it needs a gradient" if part == "detached" else ""),
        }
        shift = scale.flip(0) + 3
        changes: dict[str, dict[str, Value]] = {
            "importance-signed": {"the importance": scale},
            "importance-squared": {"the importance": scale**2},
            "importance-of-the-shift": {"the importance": shift.abs()},
        }
        if width > 1:
            changes["importance-normalised"] = {"the importance": scale.abs() / scale.abs().sum()}
            changes["importance-normalised#largest"] = {"the importance": scale.abs() / scale.abs().max()}
        changes["changes-its-input"] = {"the scale after": None}
        if part == "detached":
            changes["importance-attached"] = {"whether it needs a gradient": torch.tensor(True)}
        make.add(part, name, Call("channel_importance", {"scale": scale}), "values", expected, changes)


def select_channels(make: Maker, parameters: Mapping[str, Any]) -> None:
    def ask(part: str, name: str, importance: Tensor, keep: int) -> None:
        def channels(wrong: str = "") -> Tensor:
            return torch.tensor(oracle.best(importance, keep, wrong), dtype=torch.int64)

        chosen = channels()
        mask = torch.zeros(len(importance), dtype=torch.bool)
        mask[chosen] = True
        what = "the channels"
        changes: dict[str, dict[str, Value]] = {wrong: {what: channels(wrong)} for wrong in oracle.SELECT_MISTAKES}
        changes |= {
            "select-mask": {what: mask},
            "select-values": {what: importance[chosen]},
            "select-values#best first": {what: importance[chosen].sort(descending=True).values},
            "select-int32": {what: chosen.int()},
            "changes-its-input": {"the importance after": None},
        }
        expected: dict[str, Value] = {
            what: chosen,
            "the importance after": importance,
            "exact": "the importance after",
            "returns": "an int64 tensor [keep]",
        }
        call = Call("select_channels", {"importance": importance, "keep": keep})
        make.add(part, name, call, "values", expected, changes)

    width = make.whole(12, 30)
    importance = make.normal(width, purpose="values").abs()
    ask("values", "distinct importances", importance, width // 3)
    ask("values", "most of them", importance.flip(0), width - 2)
    ask("values", "the best one", make.normal(9, purpose="one").abs(), 1)
    for name, width in (("ties", 23), ("ties among many", 200)):
        few = torch.randint(1, 5, (width,), generator=make.random(name)).float() / 2
        ask("ties", name, few, width // 2)
    ask("ties", "all the same", torch.ones(make.whole(5, 20, "same")), 3)
    width = make.whole(5, 12, "bounds")
    importance = make.normal(width, purpose="bounds").abs()
    ask("bounds", "all channels", importance, width)
    for keep in (0, -1, width + 1):
        call = Call("select_channels", {"importance": importance, "keep": keep})
        make.refuse("bounds", f"keep = {keep} of {width}", call, "keep is outside 1..C", "select-bounds")


WIDE = (4, 5, 6, 10, 12, 14, 9, 7)
EVEN = (4, 6, 12, 12, 12, 12, 12, 8)  # where a batch norm of the wrong stage has as many channels as the right one


def _with_ties(widths: Sequence[int], vector: Tensor, generator: torch.Generator) -> Tensor:
    """The same network with few different batch-norm scales."""
    net = student_net(widths, vector)
    with torch.no_grad():
        for stage in oracle.PRUNED:
            bn = net.blocks[stage].bn
            few = torch.randint(1, 4, bn.weight.shape, generator=generator) / 2
            bn.weight.copy_(few * bn.weight.sign())
    return to_vector(net)


def _dead(widths: Sequence[int], vector: Tensor, to: Sequence[int], generator: torch.Generator) -> Tensor:
    """The same network with as many dead channels as must go, anywhere."""
    net = student_net(widths, vector)
    with torch.no_grad():
        for stage in oracle.PRUNED:
            bn = net.blocks[stage].bn
            gone = torch.randperm(widths[stage], generator=generator)[: widths[stage] - to[stage]]
            bn.weight[gone] = 0
            bn.bias[gone] = 0
    return to_vector(net)


def network_slimming(make: Maker, parameters: Mapping[str, Any]) -> None:
    classes = 5

    def entries(net: StudentNet) -> dict[str, Value]:
        widths = torch.tensor(net.widths)
        return {"the widths": widths, "stage_widths": widths.clone(), **oracle.free_entries(net)}

    for name, widths, to in (
        ("every stage pruned", WIDE, (4, 5, 6, 7, 8, 5, 6, 7)),
        ("stages of equal width", EVEN, (4, 6, 12, 5, 7, 9, 4, 8)),
        ("one stage pruned", WIDE, (4, 5, 6, 10, 12, 6, 9, 7)),
        ("one channel left, ties", WIDE, (4, 5, 6, 1, 6, 5, 4, 7)),
    ):
        vector = network_vector(make, name, widths, classes)
        if "ties" in name:
            vector = _with_ties(widths, vector, make.random(name, "ties"))
        model = student_net(widths, vector)
        right = entries(oracle.slimmed(model, to))
        changes = partial(_wrong_slims, model, to, entries, right)
        expected = {**right, "rtol": 1e-6, "returns": "a StudentNet of the new widths"}
        call = Call("slim", {"widths": widths, "model": vector, "to": to})
        make.add("channels", name, call, "values", expected, changes)

    for name, widths, to in (
        ("dead channels anywhere", WIDE, (4, 5, 6, 6, 9, 8, 5, 7)),
        ("dead channels, stages of equal width", EVEN, (4, 6, 12, 8, 6, 10, 7, 8)),
    ):
        vector = _dead(widths, network_vector(make, name, widths, classes), to, make.random(name, "dead"))
        model = student_net(widths, vector.double())
        pictures = torch.rand(3, 3, 32, 32, generator=make.random(name, "images"))

        def outputs(net: StudentNet, pictures: Tensor = pictures) -> dict[str, Value]:
            with torch.no_grad():
                return {"the outputs": net.eval()(pictures.double())}

        count = torch.tensor(sum(parameter.numel() for parameter in StudentNet(to, classes).parameters()))
        expected = {
            "the parameters": count,
            **outputs(model),
            "rtol": 1e-5,
            "returns": "a StudentNet of the new widths",
        }
        changes = partial(_wrong_outputs, model, to, outputs)
        call = Call("slim_outputs", {"widths": widths, "model": vector, "to": to, "images": pictures})
        make.add("dead", name, call, "values", expected, changes)

    for name, to in (("equal widths", WIDE), ("smaller widths", (4, 5, 6, 8, 9, 9, 6, 7))):
        vector = network_vector(make, name, WIDE, classes)
        bias = student_net(WIDE, vector).blocks[6].pointwise.bias
        assert bias is not None
        expected = {
            "blocks.6.pointwise.bias": bias.detach(),
            "whether all parameters are trainable": torch.tensor(True),
            "the model after slimming": vector,
            "the model after the result was set to 0": vector,
            "exact": "the model after slimming; the model after the result was set to 0",
            "returns": "a StudentNet of the new widths",
        }
        last = "the model after the result was set to 0"
        own: Changes = {
            "slim-shares-storage": {last: None},
            "slim-not-trainable": {"whether all parameters are trainable": torch.tensor(False)},
            "changes-its-input": {"the model after slimming": None, last: None},
        }
        call = Call("slim_alone", {"widths": WIDE, "model": vector, "to": to})
        make.add("copy", name, call, "values", expected, own)

    vector = network_vector(make, "refuse", WIDE, classes)
    bad: tuple[tuple[str, str, tuple[int, ...]], ...] = (
        ("a width too few", "there are not as many widths as stages", WIDE[:7]),
        ("a width too many", "there are not as many widths as stages", (*WIDE, 7)),
        ("a larger width", "a stage cannot grow", (4, 5, 6, 11, 12, 14, 9, 7)),
        ("no channel left", "a stage needs at least one channel", (4, 5, 6, 10, 0, 14, 9, 7)),
        ("a negative width", "a stage needs at least one channel", (4, 5, 6, 10, 12, -2, 9, 7)),
        ("another stage 0", "stages outside 3..6 stay as they are", (3, 5, 6, 10, 12, 14, 9, 7)),
        ("another stage 2", "stages outside 3..6 stay as they are", (4, 5, 5, 10, 12, 14, 9, 7)),
        ("another stage 7", "stages outside 3..6 stay as they are", (4, 5, 6, 10, 12, 14, 9, 6)),
    )
    for name, reason, unfit in bad:
        call = Call("slim", {"widths": WIDE, "model": vector, "to": unfit})
        make.refuse("refusals", name, call, reason, "slim-widths-not-checked")
    right = entries(student_net(WIDE, vector))
    call = Call("slim", {"widths": WIDE, "model": vector, "to": WIDE})
    expected = {"the widths": torch.tensor(WIDE), **right, "returns": "a StudentNet of the new widths"}
    make.add("refusals", "equal widths are no bad widths", call, "values", expected)


def _wrong_slims(
    model: StudentNet,
    to: Sequence[int],
    entries: Callable[[StudentNet], Mapping[str, Value]],
    right: Mapping[str, Value],
) -> Changes:
    found = possible(oracle.SLIM_CHOICES, lambda wrong: entries(oracle.slimmed(model, to, wrong)))
    for wrong, fields in oracle.SLIM_FORGOTTEN.items():
        found[wrong] = {key: None for key in right if key.endswith(fields) and key.startswith("blocks.")}
    widths = torch.tensor(model.widths)
    found["slim-widths-not-saved"] = {"the widths": None, "stage_widths": None}
    pruned = [key for key, tensor in entries(model).items() if tensor.shape != right[key].shape]  # type: ignore[union-attr]
    found["slim-masked"] = {**dict.fromkeys(right), **dict.fromkeys(pruned, False), "the widths": widths}
    return found


def _wrong_outputs(
    model: StudentNet, to: Sequence[int], outputs: Callable[[StudentNet], Mapping[str, Value]]
) -> Changes:
    found = possible(oracle.SLIM_CHOICES, lambda wrong: outputs(oracle.slimmed(model, to, wrong)))
    full = torch.tensor(sum(parameter.numel() for parameter in model.parameters()))
    return {**found, "slim-masked": {"the parameters": full, "the outputs": None}}


def width_schedule(make: Maker, parameters: Mapping[str, Any]) -> None:
    def ask(part: str, name: str, widths: tuple[int, ...], keep_rate: float, steps: int) -> None:
        what = "the widths"

        def table(wrong: str = "") -> Tensor:
            return torch.tensor(oracle.width_schedule(widths, keep_rate, steps, wrong))

        changes = {wrong: {what: table(wrong)} for wrong in oracle.SCHEDULE_MISTAKES}
        if table()[:, 3:7].max() > 1:  # max(1, …) gives the whole number 1
            changes["schedule-floats"] = {what: table().float()}
        call = Call("width_schedule", {"widths": widths, "keep_rate": keep_rate, "steps": steps})
        returns = "one tuple of whole numbers for each step"
        make.add(part, name, call, "values", {what: table(), "returns": returns}, changes)

    for keep_rate, steps in ((0.975, 20), (0.95, 10), (0.9, 5)):
        ask("ladders", f"the report's ladder at {keep_rate}", STUDENT_WIDTHS, keep_rate, steps)
    other = tuple(make.whole(5, 300, stage) for stage in range(8))
    ask("ladders", "other widths", other, make.whole(800, 990, "rate") / 1000, 6)
    for name, keep_rate, widths in _close_calls(make):
        ask("ladders", name, widths, keep_rate, 4)
    ask("floor", "small widths", tuple(1 + stage % 4 for stage in range(8)), 0.5, 4)
    ask("floor", "a rate near 0", (8, 8, 8, 8, 16, 16, 16, 16), 0.01, 2)
    for keep_rate in (0.0, 1.0, 1.5, -0.5):
        call = Call("width_schedule", {"widths": STUDENT_WIDTHS, "keep_rate": keep_rate, "steps": 3})
        make.refuse(
            "refusals", f"keep_rate = {keep_rate}", call, "keep_rate is outside (0, 1)", "schedule-rate-not-checked"
        )
    ask("refusals", "a rate that is allowed", (3, 4, 5, 40, 41, 42, 43, 7), 0.5, 2)


def _close_calls(make: Maker) -> Iterable[tuple[str, float, tuple[int, ...]]]:
    """Rates and widths whose product is a whole number but for rounding, so that int() shows how it was computed."""
    for name, wrong in (("powers", "schedule-other-arithmetic"), ("float64", "schedule-other-arithmetic#float32")):
        for keep_rate in (0.9, 0.8, 0.7, 0.6):
            widths = range(100, 3001, 50)
            rows = [oracle.width_schedule((1, 1, 1, w, 1, 1, 1, 1), keep_rate, 4) for w in widths]
            others = [oracle.width_schedule((1, 1, 1, w, 1, 1, 1, 1), keep_rate, 4, wrong) for w in widths]
            found = [w for w, row, other in zip(widths, rows, others, strict=True) if row != other]
            if found:
                first = make.number("close", name) % len(found)
                chosen = [found[(first + i) % len(found)] for i in range(3)] + [101]  # 101: where round() shows
                yield f"widths where rounding decides, {name}", keep_rate, (7, 8, 9, *chosen, 10)
                break


def iterative_prune(make: Maker, parameters: Mapping[str, Any]) -> None:
    for name, widths, keep_rate, steps in (
        ("three steps", (4, 5, 6, 14, 16, 16, 12, 6), 0.7, 3),
        ("stages of equal width", (3, 4, 16, 16, 16, 16, 16, 5), 0.8, 2),
    ):
        vector = network_vector(make, name, widths, 4)
        model = student_net(widths, vector)

        def answer(
            wrong: str = "", model: StudentNet = model, keep_rate: float = keep_rate, steps: int = steps
        ) -> dict[str, Value]:
            networks, given = oracle.iterative_prune(model, keep_rate, steps, wrong)
            return {
                "the calls of finetune": torch.tensor(0 if wrong == "prune-never-finetunes" else steps),
                "the widths": torch.tensor([net.widths for net in networks]),
                "the parameters": torch.tensor([sum(p.numel() for p in net.parameters()) for net in networks]),
                **{f"the network of step {i}": to_vector(net) for i, net in enumerate(networks, start=1)},
                "the model after": to_vector(given),
            }

        right = answer()
        nets = [key for key in right if key.startswith("the network")]
        changes = Lazy(partial(_wrong_prunings, answer, nets))
        call = Call("iterative_prune", {"widths": widths, "model": vector, "keep_rate": keep_rate, "steps": steps})
        for part, names in (
            ("schedule", ("the widths", "the parameters")),
            ("chain", ("the calls of finetune", *nets)),
            ("unchanged", ("the widths", "the model after")),
        ):
            expected = {**right, "only": "; ".join(names), "exact": "the model after", "rtol": 1e-5}
            expected["returns"] = f"a list of {steps} networks"
            without = ["prune-one-network-only"]
            if part == "chain":
                without = ["prune-trains-the-old-network#given"]
            make.add(part, f"{part}, {name}", call, "values", expected, partial(only_these, changes, names, without))


def _wrong_prunings(answer: Callable[[str], Mapping[str, Value]], nets: Sequence[str]) -> Changes:
    slims = ("importance-signed", "slim-own-batch-norm", "select-first", "select-least-important")
    found = possible((*oracle.PRUNE_MISTAKES, *oracle.SCHEDULE_MISTAKES, *slims), answer)
    found["prune-finetune-calls"] = {**dict.fromkeys(nets), "the calls of finetune": False}
    found["changes-its-input"] = {"the model after": None}
    found["prune-not-one-network-a-step"] = {"other_count": True}
    return found
