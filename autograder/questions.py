"""The cases of each task, made from a seed: inputs that nobody knows, the oracles' answers, and those of mistakes.

`CHECKS` is the table: the module a check calls, and the function that makes its cases. The same seed gives the same
cases. The grader's seed is hidden, that of the public tests is b"public"; nothing else differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from autograder import oracles
from hw7.checks.cases import Call, Case, Value
from hw7.checks.judges import HEADER, as_mistakes, difference
from hw7.checks.programs import pack_names, student_net, to_vector
from hw7.models import STUDENT_WIDTHS, StudentNet

Changes = Mapping[str, Mapping[str, Value]]


class _Later(Mapping[str, Mapping[str, Value]]):
    """Mistakes that are worked out when the first wrong answer asks for them: right submissions do not pay for them."""

    def __init__(self, work_out: Callable[[], Changes]) -> None:
        self._work_out = work_out

    @cached_property
    def _changes(self) -> Changes:
        return self._work_out()

    def __getitem__(self, key: str) -> Mapping[str, Value]:
        return self._changes[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._changes)

    def __len__(self) -> int:
        return len(self._changes)


@dataclass
class Maker:
    """Collects the cases of one task."""

    task: str
    seed: bytes
    made: list[Case] = field(default_factory=list)

    def number(self, *purpose: object) -> int:
        """31 bits of the seed for one purpose."""
        digest = hashlib.sha256(b"\0".join([self.seed, self.task.encode(), *(str(p).encode() for p in purpose)]))
        return int.from_bytes(digest.digest()[:4]) >> 1

    def random(self, *purpose: object) -> torch.Generator:
        return torch.Generator().manual_seed(self.number(*purpose))

    def whole(self, low: int, high: int, *purpose: object) -> int:
        """A whole number in low..high."""
        return low + self.number("whole", *purpose) % (high - low + 1)

    def normal(self, *shape: int, purpose: object, size: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
        return (size * torch.randn(shape, generator=self.random(purpose), dtype=torch.float64)).to(dtype)

    def add(
        self,
        part: str,
        name: str,
        call: Call,
        judge: str,
        expected: Mapping[str, Value],
        mistakes: Changes | Callable[[], Changes] | None = None,
        then: Call | None = None,
    ) -> None:
        """Leaves out the mistakes that cannot be told from the right answer here."""

        def shown() -> Changes:
            changes = mistakes() if callable(mistakes) else mistakes or {}
            if judge not in ("values", "outputs"):
                return changes
            return _told_apart(expected, {id_: change for id_, change in changes.items() if _shows(expected, change)})

        self.made.append(Case(self.task, part, name, call, judge, expected, _Later(shown), then))

    def refuse(self, part: str, name: str, call: Call, reason: str, mistake: str) -> None:
        self.add(part, name, call, "refuses", {"reason": reason}, {mistake: {}})


def _shows(expected: Mapping[str, Value], change: Mapping[str, Value]) -> bool:
    """Whether a mistake gives other values than the right answer; what is known by other signs always does."""
    tensors = {name: value for name, value in change.items() if isinstance(value, Tensor)}
    if len(tensors) < len(change) or not tensors:
        return True
    for name, value in tensors.items():
        right = expected[name]
        assert isinstance(right, Tensor)
        if difference(name, right, value, expected) is not None:
            return True
    return False


def _told_apart(expected: Mapping[str, Value], changes: Changes) -> Changes:
    """Without the mistakes that give the same values as another one."""

    options = as_mistakes(expected)

    def alike(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
        if not all(isinstance(value, Tensor) for value in (*one.values(), *other.values())):
            return False
        return all(
            difference(name, one.get(name, expected[name]), other.get(name, expected[name]), options) is None  # type: ignore[arg-type]
            for name in {*one, *other}
        )

    return {
        id_: change
        for id_, change in changes.items()
        if not any(
            id_.partition("#")[0] != other.partition("#")[0] and alike(change, changes[other]) for other in changes
        )
    }


# ---- task 1 --------------------------------------------------------------------------------------------------------

# Of the largest output: float32 differs by 6e-6 in the right network, by up to 1e-3 in wrong ones (ReLU6 in a ResNet),
# and the nearest wrong network by 1e-2.
NETWORK_RTOL, MISTAKES_RTOL = 1e-4, 5e-3


def _network(
    make: Maker,
    name: str,
    builder: str,
    arguments: tuple[int, ...],
    net: Callable[[str], oracles.Net],
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
    table = oracles.layer_table(right)
    tables = {wrong: {"layers": oracles.layer_table(net(wrong))} for wrong in mistakes}
    tables = {wrong: change for wrong, change in tables.items() if not torch.equal(change["layers"], table)}
    make.add(parts["layers"], f"layers, {name}", call, "layers", {"layers": table}, tables)
    if not shapes:
        return

    seed = make.number(name, "values")
    expected = oracles.network_outputs(right, seed, shapes)
    assert expected is not None

    def changes() -> Changes:
        found = {wrong: oracles.network_outputs(net(wrong), seed, shapes) for wrong in mistakes}
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
            lambda wrong, arguments=arguments: oracles.separable(*arguments, wrong=wrong),  # type: ignore[misc]
            oracles.SEPARABLE_MISTAKES,
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
            lambda wrong, classes=classes: oracles.small_resnet18(classes, wrong),  # type: ignore[misc]
            oracles.RESNET_MISTAKES,
            parts,
            images,
        )


def students(make: Maker, parameters: Mapping[str, Any]) -> None:
    for builder, short, net, mistakes in (
        ("student_cnn", "cnn", oracles.student_cnn, oracles.CNN_MISTAKES),
        ("student_dw", "dw", oracles.student_dw, oracles.DW_MISTAKES),
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


# ---- task 2 --------------------------------------------------------------------------------------------------------

# A solution may compute in float32: T^2 = 400 times a difference of logarithms that are known to 6e-8.
LOSS_RTOL, LOSS_ATOL = 2e-5, 1e-4
GRADIENT_RTOL, GRADIENT_ATOL = 1e-4, 1e-6


def _logits(make: Maker, name: str, n: int, c: int, size: float, dtype: torch.dtype) -> dict[str, Value]:
    return {
        "student": make.normal(n, c, purpose=(name, "student"), size=size, dtype=dtype),
        "teacher": make.normal(n, c, purpose=(name, "teacher"), size=size, dtype=dtype),
        "labels": torch.randint(c, (n,), generator=make.random(name, "labels")),
    }


def _kd_case(make: Maker, part: str, name: str, inputs: dict[str, Value], program: str) -> None:
    """One call of kd_loss; without temperature and alpha, the contract's defaults."""
    temperature, alpha = inputs.get("temperature", 20.0), inputs.get("alpha", 0.5)
    tensors = (inputs["student"], inputs["teacher"], inputs["labels"])
    which, what = (0, "the loss") if program == "kd_value" else (1, "the gradient")

    def value(loss: oracles.Loss) -> Tensor:
        return oracles.with_gradient(loss, *tensors, temperature, alpha)[which]  # type: ignore[arg-type]

    tolerance = (LOSS_RTOL, LOSS_ATOL) if which == 0 else (GRADIENT_RTOL, GRADIENT_ATOL)
    expected: dict[str, Value] = {what: value(oracles.kd_loss), "rtol": tolerance[0], "atol": tolerance[1]}
    expected["returns"] = "a scalar tensor"

    def changes() -> Changes:
        found: dict[str, Mapping[str, Value]] = {"kd-no-gradient": {what: torch.zeros(0)}} if which == 1 else {}
        found["kd-not-finite" if part == "confident" else "kd-teacher-not-softmax#nan"] = {"not_finite": True}
        if which == 1 and part == "confident":  # gradients of saturated probabilities look alike
            return found
        for wrong, loss in oracles.KD_MISTAKES.items():
            values = value(loss)
            if values.isfinite().all():
                found[wrong] = {what: values}
        return found

    make.add(part, name, Call(program, inputs), "values", expected, changes)


def kd_loss(make: Maker, parameters: Mapping[str, Any]) -> None:
    f32, f64 = torch.float32, torch.float64
    single, double = make.whole(3, 9, "n"), make.whole(4, 12, "c")
    for part, name, (n, c, size, dtype), options in (
        ("values", "T = 1", (single, double, 2.0, f32), (1.0, 0.3)),
        ("values", "T = 1.5, two classes", (single, 2, 2.0, f64), (1.5, 0.6)),
        ("values", "T = 2, one sample, alpha = 1", (1, 11, 2.5, f32), (2.0, 1.0)),
        ("values", "T = 4, alpha = 0", (8, 11, 2.0, f32), (4.0, 0.0)),
        ("values", "default temperature and alpha", (single, 11, 4.0, f32), ()),
        ("gradient", "T = 1", (single, double, 2.0, f64), (1.0, 0.3)),
        ("gradient", "T = 4, two classes", (3, 2, 3.0, f32), (4.0, 0.4)),
        ("gradient", "T = 1.5, one sample", (1, 9, 3.0, f32), (1.5, 0.5)),
        ("gradient", "default temperature and alpha", (single, 11, 4.0, f32), ()),
        ("confident", "logits of size 30, T = 1", (7, 11, 30.0, f32), (1.0, 0.5)),
        ("confident", "logits of size 30, T = 2", (5, 11, 30.0, f64), (2.0, 0.7)),
        ("confident", "logits of size 10,000, T = 1", (2, double, 1e4, f32), (1.0, 0.5)),
        ("confident", "logits of size 10,000, T = 20", (2, double, 1e4, f32), (20.0, 0.5)),
    ):
        inputs = _logits(make, f"{part} {name}", n, c, size, dtype)
        if options:
            inputs |= {"temperature": options[0], "alpha": options[1]}
        if part != "gradient":
            _kd_case(make, part, f"loss, {name}", inputs, "kd_value")
        if part != "values":
            _kd_case(
                make,
                part,
                f"gradient, {name}" if part == "gradient" else f"its gradient, {name}",
                inputs,
                "kd_gradient",
            )
    for temperature in (1.0, 4.0):
        name = f"shifted logits, T = {temperature:g}"
        inputs = _logits(make, name, 5, 7, 2.0, f64) | {"temperature": temperature, "alpha": 0.4}
        inputs["shift"] = make.normal(5, 1, purpose=(name, "shift"), size=10.0, dtype=f64)
        make.add("shift", name, Call("kd_shift", inputs), "shift", {"rtol": 1e-4})
        name = f"no gradient to the teacher, T = {temperature:g}"
        inputs = _logits(make, name, 4, 6, 2.0, f32) | {"temperature": temperature, "alpha": 0.6}
        after = {f"the {key} after": inputs[key] for key in ("student", "teacher", "labels")}
        expected: dict[str, Value] = {
            "the student's gradient": torch.zeros(4, 6),
            "the teacher's gradient": torch.zeros(4, 6),
            **after,
            "moves": "the student's gradient",
            "exact": "; ".join(("the teacher's gradient", *after)),
            "returns": "a scalar tensor",
        }
        changes = {
            "kd-teacher-gradient": {"the teacher's gradient": None},
            "changes-its-input": dict.fromkeys(after),
        }
        make.add("teacher", name, Call("kd_teacher", inputs), "values", expected, changes)


def _net_vector(
    make: Maker, name: str, widths: Sequence[int], classes: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The floating entries of a StudentNet with live activations, distinct batch-norm scales of both signs, and
    statistics that are no defaults."""
    generator = make.random("network", name)
    entries = []
    for key, tensor in StudentNet(widths, classes).state_dict().items():
        if not tensor.is_floating_point():
            continue
        normal = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        uniform = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        if key.endswith("bn.weight"):
            values = (0.3 + 1.7 * uniform) * normal.sign()
        elif key.endswith("running_var"):
            values = 0.5 + 1.5 * uniform
        elif tensor.ndim > 1:
            values = normal * (2 / tensor[0].numel()) ** 0.5
        else:
            values = normal / 2
        entries.append(values.flatten())
    return torch.cat(entries).to(dtype)


STEP_TOLERANCE = 1e-5  # a loss in float32 is known to 1e-7, and so is the step


def distillation_step(make: Maker, parameters: Mapping[str, Any]) -> None:
    student, teacher, classes = (4, 5, 6, 6, 7, 6, 5, 6), (5, 6, 6, 7, 6, 5, 7, 8), 5
    for name, inside, training, options in (
        ("teacher beside the student, in train mode", False, True, (3.0, 0.7)),
        ("default temperature and alpha", False, False, ()),
        ("teacher inside the student, in eval mode", True, False, (1.5, 0.3)),
    ):
        inputs: dict[str, Any] = {
            "student_widths": student,
            "student": _net_vector(make, f"student {name}", student, classes, torch.float64),
            "teacher_widths": teacher,
            "teacher": _net_vector(make, f"teacher {name}", teacher, classes, torch.float64),
            "images": torch.rand(6, 3, 32, 32, generator=make.random(name, "images"), dtype=torch.float64),
            "labels": torch.randint(classes, (6,), generator=make.random(name, "labels")),
            "rate": 0.05,
            "inside": inside,
            "training": training,
        }
        if options:
            inputs |= {"temperature": options[0], "alpha": options[1]}
        right = oracles.distillation_step(inputs)

        changes = _Later(partial(_wrong_steps, inputs))
        call = Call("distillation_step", inputs)
        for part, names in (
            ("student", ("the student after", "the batches that the student's batch norm counted")),
            ("loss", ("the loss", "whether the loss needs a gradient")),
            (
                "teacher",
                ("the student after", "the teacher after", "whether the teacher ran for gradients", "the images after"),
            ),
        ):
            expected: dict[str, Value] = {
                **right,
                "only": "; ".join(names),
                "exact": "the teacher after; the images after",
                "rtol": STEP_TOLERANCE,
                "returns": "the loss",
            }
            if part == "teacher":
                expected |= {"the student after": inputs["student"], "moves": "the student after"}
            make.add(part, f"{part}, {name}", call, "values", expected, partial(_of_these, changes, names))


def _wrong_steps(inputs: Mapping[str, Any]) -> Changes:
    found: dict[str, Mapping[str, Value]] = {
        wrong: oracles.distillation_step(inputs, wrong=wrong) for wrong in oracles.STEP_MISTAKES
    }
    train_mode = found.pop("step-teacher-train-mode")
    found = {"step-teacher-inside" if inputs["inside"] else "step-teacher-train-mode": train_mode, **found}
    # Who sets no mode at all is wrong where the networks come in the other one, and only there.
    for mode in ("step-teacher-train-mode", "step-student-eval-mode") if not inputs["training"] else ():
        if mode in found:
            found[f"{mode}#always"] = found.pop(mode)
    for wrong in ("kd-mean-over-classes", "kd-no-t-squared", "kd-reversed", "kd-alpha-swapped", "kd-no-labels-term"):
        found[wrong] = oracles.distillation_step(inputs, oracles.KD_MISTAKES[wrong])
    found["step-teacher-changed"] = {"the teacher after": None}
    found["changes-its-input"] = {"the images after": None}
    return found


def _of_these(changes: Changes, names: Sequence[str], without: Sequence[str] = ()) -> Changes:
    """What the mistakes change of these entries, without those that these entries do not prove."""
    names = (*names, "other_count")
    shown = {id_: {key: value for key, value in change.items() if key in names} for id_, change in changes.items()}
    return {id_: change for id_, change in shown.items() if change and id_ not in without}


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
            return torch.tensor(oracles.best(importance, keep, wrong), dtype=torch.int64)

        chosen = channels()
        mask = torch.zeros(len(importance), dtype=torch.bool)
        mask[chosen] = True
        what = "the channels"
        changes: dict[str, dict[str, Value]] = {wrong: {what: channels(wrong)} for wrong in oracles.SELECT_MISTAKES}
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
        for stage in oracles.PRUNED:
            bn = net.blocks[stage].bn
            few = torch.randint(1, 4, bn.weight.shape, generator=generator) / 2
            bn.weight.copy_(few * bn.weight.sign())
    return to_vector(net)


def _dead(widths: Sequence[int], vector: Tensor, to: Sequence[int], generator: torch.Generator) -> Tensor:
    """The same network with as many dead channels as must go, anywhere."""
    net = student_net(widths, vector)
    with torch.no_grad():
        for stage in oracles.PRUNED:
            bn = net.blocks[stage].bn
            gone = torch.randperm(widths[stage], generator=generator)[: widths[stage] - to[stage]]
            bn.weight[gone] = 0
            bn.bias[gone] = 0
    return to_vector(net)


def _attempts(wrongs: Iterable[str], make_it: Callable[[str], Mapping[str, Value]]) -> dict[str, Mapping[str, Value]]:
    """What these mistakes give; without those that cannot be made here: another shape, an index that is not there."""
    found = {}
    for wrong in wrongs:
        with suppress(IndexError, RuntimeError):
            found[wrong] = make_it(wrong)
    return found


def network_slimming(make: Maker, parameters: Mapping[str, Any]) -> None:
    classes = 5

    def entries(net: StudentNet) -> dict[str, Value]:
        widths = torch.tensor(net.widths)
        return {"the widths": widths, "stage_widths": widths.clone(), **oracles.free_entries(net)}

    for name, widths, to in (
        ("every stage pruned", WIDE, (4, 5, 6, 7, 8, 5, 6, 7)),
        ("stages of equal width", EVEN, (4, 6, 12, 5, 7, 9, 4, 8)),
        ("one stage pruned", WIDE, (4, 5, 6, 10, 12, 6, 9, 7)),
        ("one channel left, ties", WIDE, (4, 5, 6, 1, 6, 5, 4, 7)),
    ):
        vector = _net_vector(make, name, widths, classes)
        if "ties" in name:
            vector = _with_ties(widths, vector, make.random(name, "ties"))
        model = student_net(widths, vector)
        right = entries(oracles.slimmed(model, to))
        changes = partial(_wrong_slims, model, to, entries, right)
        expected = {**right, "rtol": 1e-6, "returns": "a StudentNet of the new widths"}
        call = Call("slim", {"widths": widths, "model": vector, "to": to})
        make.add("channels", name, call, "values", expected, changes)

    for name, widths, to in (
        ("dead channels anywhere", WIDE, (4, 5, 6, 6, 9, 8, 5, 7)),
        ("dead channels, stages of equal width", EVEN, (4, 6, 12, 8, 6, 10, 7, 8)),
    ):
        vector = _dead(widths, _net_vector(make, name, widths, classes), to, make.random(name, "dead"))
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
        vector = _net_vector(make, name, WIDE, classes)
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

    vector = _net_vector(make, "refuse", WIDE, classes)
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
    found = _attempts(oracles.SLIM_CHOICES, lambda wrong: entries(oracles.slimmed(model, to, wrong)))
    for wrong, fields in oracles.SLIM_FORGOTTEN.items():
        found[wrong] = {key: None for key in right if key.endswith(fields) and key.startswith("blocks.")}
    widths = torch.tensor(model.widths)
    found["slim-widths-not-saved"] = {"the widths": None, "stage_widths": None}
    pruned = [key for key, tensor in entries(model).items() if tensor.shape != right[key].shape]  # type: ignore[union-attr]
    found["slim-masked"] = {**dict.fromkeys(right), **dict.fromkeys(pruned, False), "the widths": widths}
    return found


def _wrong_outputs(
    model: StudentNet, to: Sequence[int], outputs: Callable[[StudentNet], Mapping[str, Value]]
) -> Changes:
    found = _attempts(oracles.SLIM_CHOICES, lambda wrong: outputs(oracles.slimmed(model, to, wrong)))
    full = torch.tensor(sum(parameter.numel() for parameter in model.parameters()))
    return {**found, "slim-masked": {"the parameters": full, "the outputs": None}}


def width_schedule(make: Maker, parameters: Mapping[str, Any]) -> None:
    def ask(part: str, name: str, widths: tuple[int, ...], keep_rate: float, steps: int) -> None:
        what = "the widths"

        def table(wrong: str = "") -> Tensor:
            return torch.tensor(oracles.width_schedule(widths, keep_rate, steps, wrong))

        changes = {wrong: {what: table(wrong)} for wrong in oracles.SCHEDULE_MISTAKES}
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
            rows = [oracles.width_schedule((1, 1, 1, w, 1, 1, 1, 1), keep_rate, 4) for w in widths]
            others = [oracles.width_schedule((1, 1, 1, w, 1, 1, 1, 1), keep_rate, 4, wrong) for w in widths]
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
        vector = _net_vector(make, name, widths, 4)
        model = student_net(widths, vector)

        def answer(
            wrong: str = "", model: StudentNet = model, keep_rate: float = keep_rate, steps: int = steps
        ) -> dict[str, Value]:
            networks, given = oracles.iterative_prune(model, keep_rate, steps, wrong)
            return {
                "the calls of finetune": torch.tensor(0 if wrong == "prune-never-finetunes" else steps),
                "the widths": torch.tensor([net.widths for net in networks]),
                "the parameters": torch.tensor([sum(p.numel() for p in net.parameters()) for net in networks]),
                **{f"the network of step {i}": to_vector(net) for i, net in enumerate(networks, start=1)},
                "the model after": to_vector(given),
            }

        right = answer()
        nets = [key for key in right if key.startswith("the network")]
        changes = _Later(partial(_wrong_prunings, answer, nets))
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
            make.add(part, f"{part}, {name}", call, "values", expected, partial(_of_these, changes, names, without))


def _wrong_prunings(answer: Callable[[str], Mapping[str, Value]], nets: Sequence[str]) -> Changes:
    slims = ("importance-signed", "slim-own-batch-norm", "select-first", "select-least-important")
    found = _attempts((*oracles.PRUNE_MISTAKES, *oracles.SCHEDULE_MISTAKES, *slims), answer)
    found["prune-finetune-calls"] = {**dict.fromkeys(nets), "the calls of finetune": False}
    found["changes-its-input"] = {"the model after": None}
    found["prune-not-one-network-a-step"] = {"other_count": True}
    return found


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
            "allowed:weight": oracles.half_step(weight, levels, axis),
        }
        changes: dict[str, Mapping[str, Value]] = {
            "quantize-constant": {"not_finite": part == "constant"},
            "quantize-bits-ignored": {"range": True},
            "quantize-axis-ignored": {"shapes": True},
            "quantize-other-dtype": {"dtype": True},
        }
        allowed = expected["allowed:weight"]
        assert isinstance(allowed, Tensor)
        for wrong in () if part == "constant" else oracles.QUANTIZE_MISTAKES:
            value = oracles.there_and_back(weight, levels, axis, wrong)
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
            expected[f"allowed:{key}"] = oracles.half_step(tensor) + rounding
            if tensor.min() < tensor.max():
                floors[key] = oracles.there_and_back(tensor, wrong="quantize-floors").to(tensor.dtype)
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


# ---- the table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """module: of the submission, where its function is. build: makes the cases; their parts are `rubric.PARTS`."""

    module: str
    build: Callable[[Maker, Mapping[str, Any]], None]


CHECKS: dict[str, Check] = {
    "depthwise_separable": Check("models", depthwise_separable),
    "small_resnet18": Check("models", small_resnet18),
    "students": Check("models", students),
    "kd_loss": Check("losses", kd_loss),
    "distillation_step": Check("losses", distillation_step),
    "channel_importance": Check("pruning", channel_importance),
    "select_channels": Check("pruning", select_channels),
    "network_slimming": Check("pruning", network_slimming),
    "width_schedule": Check("pruning", width_schedule),
    "iterative_prune": Check("pruning", iterative_prune),
    "quantize": Check("quantization", quantize),
    "compress": Check("quantization", compress),
}


def cases(task: str, check: str, parameters: Mapping[str, Any], seed: bytes) -> list[Case]:
    """All cases of a task, in the order in which they are asked and shown. The same seed gives the same cases."""
    make = Maker(task, seed)
    CHECKS[check].build(make, parameters)
    return make.made
