"""Cases of chapter 3: network slimming."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from autograder.tasks.builder import Mistakes, Numbers, case, possible, refusal
from autograder.tasks.pruning import oracle
from autograder.tasks.pruning.evidence import of_importance, of_schedule, of_selection, of_slimming
from autograder.tasks.pruning.in_use import SLIM_RETURNS, slimmed_alone, slimmed_in_use
from autograder.tasks.pruning.iterative import iterative_prune  # noqa: F401  (the table looks here)
from hw7.checks.cases import Call, Case, Value
from hw7.checks.tensors import reorder, student_net, to_vector
from hw7.models import STUDENT_WIDTHS, StudentNet

REST_OF_BN = "whether all else of the batch norm is as before"
IMPORTANCE_RETURNS = "a torch.Tensor [C], no list, number or array"


def channel_importance(rng: Numbers) -> Iterator[Case]:
    for part, name, width, positive in (
        ("values", "scales of both signs", rng.whole(8, 20, "a"), False),
        ("values", "one channel", 1, False),
        ("detached", "positive scales", rng.whole(8, 20, "b"), True),
    ):
        scale = rng.normal(width, purpose=name) - (0.0 if width > 1 else 2.0)
        scale = scale.abs() if positive else scale
        if width > 2 and not positive:
            scale[1], scale[2] = 0.0, -scale[2].abs()
        expected: dict[str, Value] = {
            "the importance": scale.double().abs(),
            "whether it needs a gradient": torch.tensor(False),
            **_batch_norm_after(scale),
            "rtol": 1e-6,
            "exact": "the scale after; the shift and statistics after",
            "returns": IMPORTANCE_RETURNS,
            "only": f"the importance; the scale after; the shift and statistics after; {REST_OF_BN}",
        }
        if part == "detached":
            expected["only"] = f"{expected['only']}; whether it needs a gradient"
        wrong = {"importance-signed": scale, "importance-squared": scale**2}
        wrong["importance-of-the-shift"] = (scale.flip(0) + 3).abs()  # as the call sets it
        wrong["importance-by-statistics"] = torch.ones(width)
        wrong["importance-by-statistics#scaled"] = scale.abs() / (1 + 1e-5) ** 0.5
        if width > 1:
            wrong["importance-normalised"] = scale.abs() / scale.abs().sum()
            wrong["importance-normalised#largest"] = scale.abs() / scale.abs().max()
        mistakes: dict[str, Mapping[str, Value]] = {id_: {"the importance": value} for id_, value in wrong.items()}
        mistakes["changes-its-input"] = {"the scale after": None, "the shift and statistics after": None}
        mistakes["changes-its-state"] = {REST_OF_BN: False}
        if part == "detached":
            mistakes["importance-attached"] = {"whether it needs a gradient": torch.tensor(True)}
        evidence = partial(of_importance, scale)
        yield case(part, name, Call("channel_importance", {"scale": scale}), expected, mistakes, evidence=evidence)
    scale = rng.normal(rng.whole(8, 20, "double"), purpose="double", dtype=torch.float64)
    scale[3:6] = scale[2] + torch.tensor([1e-9, -1e-9, 2e-9], dtype=torch.float64)
    yield _importance_again("a batch norm whose scale has changed", rng.normal(9, purpose="changed"), True)
    yield _importance_again("scales that float32 cannot tell apart", scale, False)


def _batch_norm_after(scale: Tensor) -> dict[str, Value]:
    """The batch norm of the call `channel_importance`, as it was given."""
    rest = (scale.flip(0) + 3, torch.zeros_like(scale), torch.ones_like(scale))
    after: dict[str, Value] = {"the scale after": scale, "the shift and statistics after": torch.cat(rest)}
    return after | {REST_OF_BN: torch.tensor(True)}


def _importance_again(name: str, scale: Tensor, again: bool) -> Case:
    """The absolute value is exact, in every dtype."""
    expected: dict[str, Value] = {
        "the importance": scale.abs(),
        "whether it needs a gradient": torch.tensor(False),
        **_batch_norm_after(scale),
        "exact": "the importance; the scale after",
        "returns": IMPORTANCE_RETURNS,
        "only": f"the importance; the scale after; {REST_OF_BN}",
    }
    wrong: dict[str, Tensor] = {"importance-signed": scale, "importance-squared": scale**2}
    wrong["importance-of-the-shift"] = (scale.flip(0) + 3).abs()
    wrong["importance-normalised"] = scale.abs() / scale.abs().sum()
    wrong["importance-normalised#largest"] = scale.abs() / scale.abs().max()
    if again:
        reorder(other := scale.clone())
        wrong["remembers-by-address"] = other.abs()
    else:
        wrong["importance-rounded"] = scale.abs().float()
    mistakes: dict[str, Mapping[str, Value]] = {id_: {"the importance": value} for id_, value in wrong.items()}
    mistakes["changes-its-state"] = {REST_OF_BN: False}
    call = Call("channel_importance", {"scale": scale, "again": again})
    return case("values", name, call, expected, mistakes, evidence=partial(of_importance, scale))


SAME_IMPORTANCE = "whether the importance is the same to autograd"


def select_channels(rng: Numbers) -> Iterator[Case]:
    width = rng.whole(12, 30)
    importance = rng.normal(width, purpose="values").abs()
    yield _selected("values", "distinct importances", importance, width // 3)
    yield _selected("values", "most of them", importance.flip(0), width - 2)
    yield _selected("values", "the best one", rng.normal(9, purpose="one").abs(), 1)
    near = torch.randperm(15, generator=rng.generator("near")).double() * 1e-12
    close = near + torch.randint(1, 4, (15,), generator=rng.generator("close"))
    yield _selected("values", "importances that float32 cannot tell apart", close, 6)
    close = (1 + torch.randperm(17, generator=rng.generator("close float32")).double() * 2.0**-23).float()
    yield _selected("values", "float32 importances next to each other", close, 7)
    yield _selected("values", "tiny importances", rng.normal(20, purpose="tiny").abs() * 1e-20, 9)
    yield _selected("values", "large importances in float16", rng.normal(16, purpose="half").abs().half() * 1e4, 5)
    yield _selected("values", "importances that have changed", rng.normal(18, purpose="changed").abs(), 6, again=True)
    for name, width in (("ties", 23), ("ties among many", 200)):
        few = torch.randint(1, 5, (width,), generator=rng.generator(name)).float() / 2
        yield _selected("ties", name, few, width // 2)
    yield _selected("ties", "all the same", torch.ones(rng.whole(5, 20, "same")), 3)
    width = rng.whole(5, 12, "bounds")
    importance = rng.normal(width, purpose="bounds").abs()
    yield _selected("bounds", "all channels", importance, width)
    for keep in (0, -1, width + 1):
        call = Call("select_channels", {"importance": importance, "keep": keep})
        yield refusal("bounds", f"keep = {keep} of {width}", call, "keep is outside 1..C", "select-bounds")


def _selected(part: str, name: str, importance: Tensor, keep: int, again: bool = False) -> Case:
    def channels(wrong: str = "", of: Tensor = importance) -> Tensor:
        return torch.tensor(oracle.best(of, keep, wrong), dtype=torch.int64)

    chosen = channels()
    wrong = {wrong: channels(wrong) for wrong in oracle.SELECT_MISTAKES} | {
        "select-mask": torch.zeros(len(importance), dtype=torch.bool).index_fill(0, chosen, True),
        "select-values": importance[chosen],
        "select-values#best first": importance[chosen].sort(descending=True).values,
        "select-int32": chosen.int(),
        "select-rounded": channels(of=importance.float()),
    }
    if again:
        reorder(other := importance.clone())
        wrong["remembers-by-address"] = channels(of=other)
    mistakes: dict[str, Mapping[str, Value]] = {id_: {"the channels": value} for id_, value in wrong.items()}
    mistakes["changes-its-input"] = {"the importance after": None}
    mistakes["changes-its-state"] = {"the importance after": None, SAME_IMPORTANCE: False}
    expected: dict[str, Value] = {
        "the channels": chosen,
        "the importance after": importance,
        SAME_IMPORTANCE: torch.tensor(True),
        "exact": "the importance after",
        "returns": "an int64 torch.Tensor [keep], no list or array",
    }
    inputs: dict[str, Value] = {"importance": importance, "keep": keep, "again": again}
    evidence = partial(of_selection, importance)
    return case(part, name, Call("select_channels", inputs), expected, mistakes, evidence=evidence)


# ---- network slimming --------------------------------------------------------------------------------------------

WIDE = (4, 5, 6, 10, 12, 14, 9, 7)
EVEN = (4, 6, 12, 12, 12, 12, 12, 8)  # where a batch norm of the wrong stage has as many channels as the right one
CLASSES = 5


def network_slimming(rng: Numbers) -> Iterator[Case]:
    for name, widths, to in (
        ("every stage pruned", WIDE, (4, 5, 6, 7, 8, 5, 6, 7)),
        ("stages of equal width", EVEN, (4, 6, 12, 5, 7, 9, 4, 8)),
        ("one stage pruned by more than a channel", WIDE, (4, 5, 6, 9, 11, 6, 8, 7)),
        ("one channel left", WIDE, (4, 5, 6, 1, 6, 5, 4, 7)),
    ):
        yield _slimmed(name, rng.network(name, widths, CLASSES), widths, to)
    name = "scales that tie"
    tied = _rescaled(WIDE, rng.network(name, WIDE, CLASSES), lambda scale: (2 * scale).round() / 2)
    yield _slimmed(name, tied, WIDE, (4, 5, 6, 6, 7, 8, 5, 7), needs=TIES)
    name = "scales that float32 cannot tell apart"
    close = rng.network(name, WIDE, CLASSES, torch.float64)
    close = _rescaled(WIDE, close, lambda scale: scale.sign() + scale * 1e-12)
    yield _slimmed(name, close, WIDE, (4, 5, 6, 6, 7, 8, 5, 7), needs=CLOSE)
    name = "a model that has changed"
    yield _slimmed(name, rng.network(name, WIDE, CLASSES), WIDE, (4, 5, 6, 6, 8, 9, 5, 7), again=True)
    for name, widths, to in (
        ("dead channels anywhere", WIDE, (4, 5, 6, 6, 9, 8, 5, 7)),
        ("dead channels, stages of equal width", EVEN, (4, 6, 12, 8, 6, 10, 7, 8)),
    ):
        vector = _dead(widths, rng.network(name, widths, CLASSES), to, rng.generator(name, "dead"))
        pictures = torch.rand(3, 3, 32, 32, generator=rng.generator(name, "images"))
        yield _slimmed_dead(name, vector, widths, to, pictures)
    for name, to in (("equal widths", WIDE), ("smaller widths", (4, 5, 6, 8, 9, 9, 6, 7))):
        yield from slimmed_alone(name, rng.network(name, WIDE, CLASSES), WIDE, to)
    yield slimmed_in_use(rng.network("in use", WIDE, CLASSES), WIDE, (4, 5, 6, 8, 9, 9, 6, 7), CLASSES, rng)
    vector = rng.network("refuse", WIDE, CLASSES)
    for name, reason, unfit in UNFIT_WIDTHS:
        call = Call("slim", {"widths": WIDE, "model": vector, "to": unfit})
        yield refusal("refusals", name, call, reason, "slim-widths-not-checked")
    to = (4, 5, 6, 9, 11, 13, 8, 7)
    call = Call("slim", {"widths": WIDE, "model": vector, "to": to})
    right = _entries(oracle.slimmed(student_net(WIDE, vector), to))
    expected: dict[str, Value] = {**right, "only": "the widths", "returns": SLIM_RETURNS}
    yield case("refusals", "smaller widths are no bad widths", call, expected)


# Of 3.2: that ties go to the lower index; of 3.1 and 3.2: that close scales are told apart.
TIES = "select_channels: ties; select_channels: ties among many; select_channels: all the same"
CLOSE = (
    "channel_importance: scales that float32 cannot tell apart; "
    "select_channels: importances that float32 cannot tell apart"
)
UNFIT_WIDTHS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("a width too few", "there are not as many widths as stages", WIDE[:7]),
    ("a width too many", "there are not as many widths as stages", (*WIDE, 7)),
    ("a larger width", "a stage cannot grow", (4, 5, 6, 11, 12, 14, 9, 7)),
    ("no channel left", "a stage needs at least one channel", (4, 5, 6, 10, 0, 14, 9, 7)),
    ("a negative width", "a stage needs at least one channel", (4, 5, 6, 10, 12, -2, 9, 7)),
    ("another stage 0", "stages outside 3..6 stay as they are", (3, 5, 6, 10, 12, 14, 9, 7)),
    ("another stage 2", "stages outside 3..6 stay as they are", (4, 5, 5, 10, 12, 14, 9, 7)),
    ("another stage 7", "stages outside 3..6 stay as they are", (4, 5, 6, 10, 12, 14, 9, 6)),
)


def _dead(widths: Sequence[int], vector: Tensor, to: Sequence[int], generator: torch.Generator) -> Tensor:
    """The same network with as many dead channels as must go, anywhere."""
    net = student_net(widths, vector)
    with torch.no_grad():
        for stage in oracle.PRUNED:
            bn = net.blocks[stage].bn
            gone = torch.randperm(widths[stage], generator=generator)[: widths[stage] - to[stage]]
            bn.weight[gone] = bn.bias[gone] = 0
    return to_vector(net)


def _entries(net: StudentNet) -> dict[str, Value]:
    widths = torch.tensor(net.widths)
    entries = {name: entry.float() for name, entry in oracle.free_entries(net).items()}  # float64 takes twice the file
    return {"the widths": widths, "stage_widths": widths.clone(), **entries}


def _parameters(net: StudentNet) -> Tensor:
    return torch.tensor(sum(parameter.numel() for parameter in net.parameters()))


@torch.no_grad()
def _rescaled(widths: Sequence[int], vector: Tensor, rule: Callable[[Tensor], Tensor]) -> Tensor:
    """The same network with other batch-norm scales."""
    net = student_net(widths, vector)
    for block in net.blocks:
        block.bn.weight.copy_(rule(block.bn.weight))
    return to_vector(net)


def _slimmed(
    name: str, vector: Tensor, widths: tuple[int, ...], to: tuple[int, ...], again: bool = False, needs: str = ""
) -> Case:
    """The result, entry by entry."""
    model = student_net(widths, vector)
    right = _entries(oracle.slimmed(model, to))

    def mistakes() -> Mistakes:
        found = possible(oracle.SLIM_CHOICES, lambda wrong: _entries(oracle.slimmed(model, to, wrong)))
        most = max(oracle.PRUNED, key=lambda stage: widths[stage] - to[stage])
        for wrong, fields in oracle.SLIM_FORGOTTEN.items():
            block = 2 if wrong == "slim-pointwise-weight" else most  # of block 2 all inputs stay
            surely = {f"blocks.{block}.{field}": False for field in oracle.WRONG_SURELY.get(wrong, ())}
            anything = {key: None for key in right if key.endswith(fields) and key.startswith("blocks.")}
            found[wrong] = {**anything, **surely}
        found["slim-widths-not-saved"] = {"the widths": None, "stage_widths": None}
        full = _entries(model)
        pruned = [key for key in right if full[key].shape != right[key].shape]  # type: ignore[union-attr]
        found["slim-masked"] = {
            **dict.fromkeys(right), **dict.fromkeys(pruned, False), "the widths": full["the widths"],
        }  # fmt: skip
        if again:
            reorder(*(other := student_net(widths, vector)).parameters())
            found["remembers-by-address"] = _entries(oracle.slimmed(other, to))
            found["remembers-by-address#importance"] = _entries(oracle.slimmed(model, to, ranked_by=other))
        return found

    call = Call("slim", {"widths": widths, "model": vector, "to": to, "again": again})
    expected, evidence = {**right, "rtol": 1e-6, "returns": SLIM_RETURNS}, partial(of_slimming, model, to)
    return case("channels", name, call, expected, mistakes, needs=needs, evidence=evidence)


def _slimmed_dead(name: str, vector: Tensor, widths: tuple[int, ...], to: tuple[int, ...], pictures: Tensor) -> Case:
    """The outputs, which nothing may change where all that goes is dead."""
    model = student_net(widths, vector.double())

    @torch.no_grad()
    def outputs(net: StudentNet) -> dict[str, Value]:
        return {"the outputs": net.eval()(pictures.double())}

    def mistakes() -> Mistakes:
        found = possible(oracle.SLIM_CHOICES, lambda wrong: outputs(oracle.slimmed(model, to, wrong)))
        return {**found, "slim-masked": {"the parameters": _parameters(model), "the outputs": None}}

    expected = {"the parameters": _parameters(StudentNet(to, CLASSES)), **outputs(model)}
    call = Call("slim_outputs", {"widths": widths, "model": vector, "to": to, "images": pictures})
    return case("dead", name, call, {**expected, "rtol": 1e-5, "returns": SLIM_RETURNS}, mistakes)


# ---- the schedule --------------------------------------------------------------------------


def width_schedule(rng: Numbers) -> Iterator[Case]:
    for keep_rate, steps in ((0.975, 20), (0.95, 10), (0.9, 5)):
        yield _scheduled("ladders", f"the report's ladder at {keep_rate}", STUDENT_WIDTHS, keep_rate, steps)
    other = tuple(rng.whole(5, 300, stage) for stage in range(8))
    yield _scheduled("ladders", "other widths", other, rng.whole(800, 990, "rate") / 1000, 6)
    yield _scheduled("ladders", "the same, fewer steps", STUDENT_WIDTHS, 0.975, 3)
    yield _scheduled("ladders", "one step", STUDENT_WIDTHS, 0.8, 1)
    yield _scheduled("ladders", "many steps", STUDENT_WIDTHS, 0.96, 40)
    for name, keep_rate, widths in _close_calls(rng):
        yield _scheduled("ladders", name, widths, keep_rate, 4)
    yield _scheduled("floor", "small widths", tuple(1 + stage % 4 for stage in range(8)), 0.5, 4)
    yield _scheduled("floor", "a rate near 0", (8, 8, 8, 8, 16, 16, 16, 16), 0.01, 2)
    for keep_rate in (0.0, 1.0, 1.5, -0.5):
        call = Call("width_schedule", {"widths": STUDENT_WIDTHS, "keep_rate": keep_rate, "steps": 3})
        reason = "keep_rate is outside (0, 1)"
        yield refusal("refusals", f"keep_rate = {keep_rate}", call, reason, "schedule-rate-not-checked")
    for name, keep_rate in (("", 0.5), (", near 0", 1e-6), (", near 1", 1 - 1e-6)):
        yield _scheduled("refusals", f"a rate that is allowed{name}", (3, 4, 5, 40, 41, 42, 43, 7), keep_rate, 2)


def _scheduled(part: str, name: str, widths: tuple[int, ...], keep_rate: float, steps: int) -> Case:
    def table(wrong: str = "") -> Tensor:
        return torch.tensor(oracle.width_schedule(widths, keep_rate, steps, wrong))

    mistakes = {wrong: {"the widths": table(wrong)} for wrong in oracle.SCHEDULE_MISTAKES}
    if table()[:, 3:7].max() > 1:  # max(1, …) gives the whole number 1
        mistakes["schedule-floats"] = {"the widths": table().float()}
    call = Call("width_schedule", {"widths": widths, "keep_rate": keep_rate, "steps": steps})
    expected: dict[str, Value] = {"the widths": table(), "returns": "one tuple of whole numbers for each step"}
    return case(part, name, call, expected, mistakes, evidence=partial(of_schedule, keep_rate, steps))


def _close_calls(rng: Numbers) -> Iterator[tuple[str, float, tuple[int, ...]]]:
    """Rates and widths whose product is a whole number but for rounding, so that int() shows how it was computed."""
    for name, wrong in (("powers", "schedule-other-arithmetic"), ("float64", "schedule-other-arithmetic#float32")):
        for keep_rate in (0.9, 0.8, 0.7, 0.6):
            schedule = partial(oracle.width_schedule, keep_rate=keep_rate, steps=4)
            rows = {width: (1, 1, 1, width, 1, 1, 1, 1) for width in range(100, 3001, 50)}
            found = [width for width, row in rows.items() if schedule(row) != schedule(row, wrong=wrong)]
            if found:
                first = rng.number("close", name) % len(found)
                chosen = [found[(first + i) % len(found)] for i in range(3)] + [101]  # 101: where round() shows
                yield f"widths where rounding decides, {name}", keep_rate, (7, 8, 9, *chosen, 10)
                break
