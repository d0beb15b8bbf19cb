"""Cases of tasks 2.1 and 2.2: the distillation loss and its step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autograder.tasks.builder import Changes, Lazy, Maker, network_vector, only_these
from autograder.tasks.losses import oracle
from hw7.checks.cases import Call, Value

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

    def value(loss: oracle.Loss) -> Tensor:
        return oracle.with_gradient(loss, *tensors, temperature, alpha)[which]  # type: ignore[arg-type]

    tolerance = (LOSS_RTOL, LOSS_ATOL) if which == 0 else (GRADIENT_RTOL, GRADIENT_ATOL)
    expected: dict[str, Value] = {what: value(oracle.kd_loss), "rtol": tolerance[0], "atol": tolerance[1]}
    expected["returns"] = "a scalar tensor"

    def changes() -> Changes:
        found: dict[str, Mapping[str, Value]] = {"kd-no-gradient": {what: torch.zeros(0)}} if which == 1 else {}
        found["kd-not-finite" if part == "confident" else "kd-teacher-not-softmax#nan"] = {"not_finite": True}
        if which == 1 and part == "confident":  # gradients of saturated probabilities look alike
            return found
        for wrong, loss in oracle.KD_MISTAKES.items():
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
            "student": network_vector(make, f"student {name}", student, classes, torch.float64),
            "teacher_widths": teacher,
            "teacher": network_vector(make, f"teacher {name}", teacher, classes, torch.float64),
            "images": torch.rand(6, 3, 32, 32, generator=make.random(name, "images"), dtype=torch.float64),
            "labels": torch.randint(classes, (6,), generator=make.random(name, "labels")),
            "rate": 0.05,
            "inside": inside,
            "training": training,
        }
        if options:
            inputs |= {"temperature": options[0], "alpha": options[1]}
        right = oracle.distillation_step(inputs)

        changes = Lazy(partial(_wrong_steps, inputs))
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
            make.add(part, f"{part}, {name}", call, "values", expected, partial(only_these, changes, names))


def _wrong_steps(inputs: Mapping[str, Any]) -> Changes:
    found: dict[str, Mapping[str, Value]] = {
        wrong: oracle.distillation_step(inputs, wrong=wrong) for wrong in oracle.STEP_MISTAKES
    }
    train_mode = found.pop("step-teacher-train-mode")
    found = {"step-teacher-inside" if inputs["inside"] else "step-teacher-train-mode": train_mode, **found}
    # Who sets no mode at all is wrong where the networks come in the other one, and only there.
    for mode in ("step-teacher-train-mode", "step-student-eval-mode") if not inputs["training"] else ():
        if mode in found:
            found[f"{mode}#always"] = found.pop(mode)
    for wrong in ("kd-mean-over-classes", "kd-no-t-squared", "kd-reversed", "kd-alpha-swapped", "kd-no-labels-term"):
        found[wrong] = oracle.distillation_step(inputs, oracle.KD_MISTAKES[wrong])
    found["step-teacher-changed"] = {"the teacher after": None}
    found["changes-its-input"] = {"the images after": None}
    return found
