"""A fault is charged once: what follows from it in later tasks, value by value, is not; anything else is."""

import pytest
from submissions import HIDDEN, Entry, Files, answered, mutants, reference_files, rubric

from autograder.grading import hidden_cases
from hw7.checks.cases import PartScore, Verdict
from hw7.checks.scoring import AnswerSheet, score

ASKED = [task for task in rubric().tasks if task.has_cases]


def parts(files: Files, tasks: set[str]) -> dict[tuple[str, str], PartScore]:
    """What is made of each part of these tasks, by (task, part), with what earlier tasks of the chapter say of it."""
    sheets: dict[str, AnswerSheet] = {}

    def sheet_of(task: object) -> AnswerSheet:
        id_ = task.id  # type: ignore[attr-defined]
        if id_ not in sheets:
            sheets[id_] = answered(files, hidden_cases(rubric(), HIDDEN)[id_])
        return sheets[id_]

    found = {}
    for task in ASKED:
        if task.id in tasks:
            for part in score(task, rubric().tasks, sheet_of, None):  # type: ignore[arg-type]
                found[task.id, part.part] = part
    return found


def appended(module: str, code: str) -> Files:
    """The reference with this code after it, which may build on what it takes the place of."""
    files = dict(reference_files())
    return files | {f"solution/{module}": files[f"solution/{module}"] + code.encode()}


# Where a later task loses points all the same. Of all of these it has no values that an earlier answer leads to.
ALSO = {
    "1.1": {"1.2", "1.3"},  # networks of wrong blocks, but for the blocks of known mistakes
    "2.1": {"2.2"},  # as the contract says, but for losses of known mistakes
}
# Wrong on plain weights already, whatever blocks of them `compress` makes.
PLAIN_WEIGHTS = (
    "symmetric", "one-level-too-many", "two-levels-too-few", "cut-not-rounded", "rounded-up", "stochastic-rounding",
    "float-levels", "half-precision-zero-point", "half-precision-step", "wrong-axis-reduced", "bytes-wrap-around",
    "byte-zero-point", "half-back", "zero-point-added", "offset-and-scale-mixed-up", "weight-changed", "seven-bits",
    "one-level-too-many-cut-off", "minimum-not-added", "outliers-clipped", "constant-with-epsilon",
    "three-standard-deviations", "from-zero-to-the-largest", "half-of-the-levels", "brain-float-step",
    "middle-as-zero-point", "inverse-of-the-step", "divided-on-the-way-back", "scale-forgotten",
    "signed-levels-as-bytes", "cut-towards-zero", "another-zero-point-returned", "half-precision-on-the-way-back",
    "range-a-little-wider", "sign-of-the-zero-point", "level-0-kept-free", "step-of-the-first-channel",
    "two-faults-step-and-sign", "two-faults-symmetric-and-cut", "levels-from-one", "minimum-taken-for-a-level",
    "zero-point-times-zero-point", "one-step-too-high", "constants-to-three-digits",
)  # fmt: skip
# The given network changes as well, or networks share what finetune moves, or there are not as many as steps.
OTHER_NETWORKS = (
    "3.1-in-place", "3.3-zeroed-not-removed", "3.3-masked-first", "3.3-model-cut-down", "3.3-stem-shared",
    "3.3-linear-layer-shared", "3.3-unpruned-blocks-shared", "3.3-random-network", "3.4-original-included",
    "3.4-last-step-missing", "3.3-linear-layer-of-earlier-results",
)  # fmt: skip
ALSO |= {f"4.1-{name}": {"4.2"} for name in PLAIN_WEIGHTS} | {name: {"3.3", "3.5"} for name in OTHER_NETWORKS}


def again(mutant: Entry) -> list[str]:
    """The parts of other tasks that cost points: an exception has no values, so that one is left out."""
    others = {task.id for task in ASKED if task.id != mutant.task and (task.chapter == mutant.task[0])}
    if mutant.task.startswith("5"):
        others = {task.id for task in ASKED}
    exempt = ALSO.get(mutant.id, set()) | ALSO.get(mutant.task, set())
    return [
        f"{task}/{part}: {found.outcome.message}"
        for (task, part), found in parts(dict(mutant.files), others - exempt).items()
        if found.points < found.out_of and found.outcome.verdict is not Verdict.CRASH
    ]


PLAINLY = {  # faults on inputs that only their own task asks about
    "4.1-constant-divides-by-zero", "4.1-constant-becomes-zero", "4.1-rounded-zero-point", "4.1-clamped-zero-point",
    "4.1-range-made-to-hold-zero", "3.2-by-importance-not-index", "3.2-ties-to-the-higher-index",
    "3.3-order-of-importance", "3.3-classes-ignored", "3.3-widths-not-recorded", "3.4-rate-first", "3.4-all-stages",
}  # fmt: skip


@pytest.mark.parametrize(
    "mutant",
    [
        pytest.param(mutant, id=mutant.id, marks=() if mutant.id in PLAINLY else pytest.mark.slow)
        for mutant in mutants()
    ],
)
def test_costs_points_in_its_own_task_only(mutant: Entry) -> None:
    assert again(mutant) == [], mutant.about


def test_all_of_these_are_tried() -> None:
    assert {mutant.id for mutant in mutants()} >= PLAINLY


# ---- what is no consequence --------------------------------------------------------------------------------------

CONSTANTS_LOST = """
_dequantize = dequantize

def dequantize(q, scale, zero_point, channel_axis=None):
    back = _dequantize(q, scale, zero_point, channel_axis)
    return torch.full_like(back, torch.nan) if back.min() == back.max() else back
"""
NAN_FOR_ALL = """
_decompress = decompress

def decompress(tensors):
    back = _decompress(tensors)
    return {name: value * (torch.nan if value.is_floating_point() else 1) for name, value in back.items()}
"""
ONE_MORE_NAN = """
_decompress = decompress

def decompress(tensors):
    back = _decompress(tensors)
    for value in back.values():
        if value.is_floating_point() and value.numel() >= 1024:
            value.view(-1)[7] = torch.nan
    return back
"""
HALF_NAN = ONE_MORE_NAN.replace("[7]", "[::2]")
IN_PLACE = """
def channel_importance(bn):
    return bn.weight.data.abs_()
"""
DESTROYED = """
_slimming = network_slimming

def network_slimming(model, widths):
    slim = _slimming(model, widths)
    for parameter in model.parameters():
        parameter.data.zero_()
    return slim
"""
NOTHING_IN_TURN = """
def width_schedule(widths, keep_rate, steps):
    if not 0 < keep_rate < 1:
        raise ValueError
    return []

def iterative_prune(model, keep_rate, steps, finetune):
    return []
"""
BLANK_NETWORKS = """
def network_slimming(model, widths):
    slim = StudentNet(widths, model.fc.out_features)
    for parameter in slim.parameters():
        parameter.data.zero_()
    return slim

def iterative_prune(model, keep_rate, steps, finetune):
    networks = [network_slimming(model, widths) for widths in width_schedule(model.widths, keep_rate, steps)]
    for network in networks:
        finetune(network)
    return networks
"""
# A mistake at one size, which a later function makes at every size without calling the earlier one.
SIGNED_AT_ONE_WIDTH = """
_importance = channel_importance

def channel_importance(bn):
    return bn.weight.detach() if bn.num_features == 1 else _importance(bn)
"""
SIGNED_ALWAYS = """
_of_networks, _rest = channel_importance, network_slimming

def network_slimming(model, widths):
    global channel_importance
    of_norms, channel_importance = channel_importance, lambda bn: bn.weight.detach()
    try:
        return _rest(model, widths)
    finally:
        channel_importance = of_norms
"""
FIRST_WHERE_MANY = """
_select = select_channels

def select_channels(importance, keep):
    first = 1 <= keep <= len(importance) and len(importance) > 100
    return torch.arange(keep) if first else _select(importance, keep)
"""
FIRST_ALWAYS = SIGNED_ALWAYS.replace("lambda bn: bn.weight.detach()", "lambda bn: -torch.arange(len(bn.weight))")


@pytest.mark.parametrize(
    ("module", "code", "charged"),
    [
        ("quantization.py", CONSTANTS_LOST + NAN_FOR_ALL, {"4.1/constant", "4.2/values", "4.2/statistics", "4.2/size"}),
        ("quantization.py", CONSTANTS_LOST + ONE_MORE_NAN, {"4.1/constant", "4.2/values", "4.2/size"}),
        ("quantization.py", CONSTANTS_LOST + HALF_NAN, {"4.1/constant", "4.2/values", "4.2/statistics", "4.2/size"}),
        ("quantization.py", CONSTANTS_LOST, {"4.1/constant"}),
        ("pruning.py", IN_PLACE + DESTROYED, {"3.3/copy", "3.5/unchanged"}),
        ("pruning.py", NOTHING_IN_TURN, {"3.4/ladders", "3.5/schedule", "3.5/chain", "3.5/unchanged"}),
        ("pruning.py", BLANK_NETWORKS, {"3.3/channels", "3.3/dead", "3.5/chain"}),
        ("pruning.py", SIGNED_AT_ONE_WIDTH + SIGNED_ALWAYS, {"3.3/channels"}),
        ("pruning.py", FIRST_WHERE_MANY + FIRST_ALWAYS, {"3.3/channels", "3.3/dead"}),
    ],
    ids=[
        "NaN for everything", "NaN in one place more", "NaN in half of all places", "NaN for constants",
        "a destroyed model after a changed scale", "no networks after no schedule", "blank networks",
        "signed at one width", "the first of many channels",
    ],
)  # fmt: skip
def test_what_only_fits_is_charged(module: str, code: str, charged: set[str]) -> None:
    chapter = "3" if module == "pruning.py" else "4"
    found = parts(appended(module, code), {task.id for task in ASKED if task.chapter == chapter})
    lost = {f"{task}/{part}" for (task, part), each in found.items() if each.points < each.out_of}
    assert charged <= lost
    if code == CONSTANTS_LOST:
        assert lost == charged


@pytest.mark.parametrize("name", ["sorted-by-name", "order-of-the-file", "wrapped-last"])
def test_lost_order_costs_the_names_only(name: str) -> None:
    code = "_decompress = decompress\n\ndef decompress(tensors):\n    back = _decompress(tensors)\n"
    how = {
        "sorted-by-name": "dict(sorted(back.items()))",
        "order-of-the-file": "dict(reversed(back.items()))",
        "wrapped-last": "{**dict(list(back.items())[1:]), **dict(list(back.items())[:1])}",
    }[name]
    found = parts(appended("quantization.py", f"{code}    return {how}\n"), {"4.2"})
    assert [part for (_, part), each in found.items() if each.points < each.out_of] == ["names"]


RENAMED = """
_decompress = decompress

def decompress(tensors):
    return {{{name}: value for name, value in _decompress(tensors).items()}}
"""


@pytest.mark.parametrize("name", ["name.removeprefix('module.')", "name.lower() if len(name) < 12 else name"])
def test_names_that_are_lost_cost_their_own_part_alone(name: str) -> None:
    """Also where two entries are one after that."""
    made = parts(appended("quantization.py", RENAMED.format(name=name)), {"4.2"})
    assert {part for (_, part), score in made.items() if score.points < score.out_of} == {"names"}
