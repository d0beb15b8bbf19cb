"""Cases of chapter 2: the distillation loss and its step."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autograder.tasks.builder import Lazy, Mistakes, Numbers, case, only_these
from autograder.tasks.losses import oracle, steps, terms
from hw7.checks.cases import Call, Case, Value
from hw7.checks.diagnosis.losses.formula import projected
from hw7.checks.diagnosis.losses.terms import DEFAULTS

# Relative and absolute. A solution may compute in float32: T^2 = 400 times a difference of logarithms known to 6e-8.
TOLERANCES = {"the loss": (2e-5, 1e-4), "the gradient": (1e-4, 1e-6)}


def kd_loss(rng: Numbers) -> Iterator[Case]:
    f32, f64 = torch.float32, torch.float64
    single, double = rng.whole(3, 9, "n"), rng.whole(4, 12, "c")
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
        inputs = _logits(rng, f"{part} {name}", n, c, size, dtype) | _options(options)
        if part != "gradient":
            yield _of_kd_loss(part, f"loss, {name}", inputs, "the loss")
        if part == "values" and not options:
            yield _of_kd_loss(part, "loss, logits that have changed", inputs | {"again": True}, "the loss")
        if part != "values":
            of = "its " if part == "confident" else ""
            yield _of_kd_loss(part, f"{of}gradient, {name}", inputs, "the gradient")
    for temperature in (1.0, 4.0):
        name = f"shifted logits, T = {temperature:g}"
        inputs = _logits(rng, name, 5, 7, 2.0, f64) | _options((temperature, 0.4))
        inputs["shift"] = rng.normal(5, 1, purpose=(name, "shift"), size=10.0, dtype=f64)
        yield case("shift", name, Call("kd_shift", inputs), {"rtol": 1e-4}, judge="shift")
        name = f"no gradient to the teacher, T = {temperature:g}"
        yield _of_the_teacher(name, _logits(rng, name, 4, 6, 2.0, f32) | _options((temperature, 0.6)))
    name = "arguments, of which the student's logits need no gradient"
    yield _of_arguments(name, _logits(rng, name, 3, 5, 2.0, f32) | _options((2.0, 0.5)))


def _logits(rng: Numbers, name: str, n: int, c: int, size: float, dtype: torch.dtype) -> dict[str, Value]:
    return {
        "student": rng.normal(n, c, purpose=(name, "student"), size=size, dtype=dtype),
        "teacher": rng.normal(n, c, purpose=(name, "teacher"), size=size, dtype=dtype),
        "labels": torch.randint(c, (n,), generator=rng.generator(name, "labels")),
    }


def _options(values: tuple[float, ...]) -> dict[str, Value]:
    """Temperature and alpha, or neither: the contract's defaults."""
    return dict(zip(("temperature", "alpha"), values, strict=False))


def _of_kd_loss(part: str, name: str, inputs: Mapping[str, Value], what: str) -> Case:
    tensors = (inputs["student"], inputs["teacher"], inputs["labels"])
    temperature, alpha = inputs.get("temperature", 20.0), inputs.get("alpha", 0.5)
    gradient = what == "the gradient"

    def value(loss: oracle.Loss) -> Tensor:
        return oracle.with_gradient(loss, *tensors, temperature, alpha)[gradient]  # type: ignore[arg-type]

    def mistakes() -> Mistakes:
        found: dict[str, Mapping[str, Value]] = {"kd-no-gradient": {what: torch.zeros(0)}} if gradient else {}
        found["kd-not-finite" if part == "confident" else "kd-teacher-not-softmax#nan"] = {"not_finite": True}
        if gradient and part == "confident":  # gradients of saturated probabilities look alike
            return found
        values = {wrong: value(loss) for wrong, loss in oracle.KD_MISTAKES.items()}
        if inputs.get("again"):
            values["remembers-by-address"] = value(partial(_of_other_logits, others=(True, True)))
            values["remembers-by-address#targets"] = value(partial(_of_other_logits, others=(False, True)))
        return found | {wrong: {what: value} for wrong, value in values.items() if value.isfinite().all()}

    rtol, atol = TOLERANCES[what]
    expected: dict[str, Value] = {what: value(oracle.kd_loss), "rtol": rtol, "atol": atol, "returns": "a scalar tensor"}
    call = Call("kd_gradient" if gradient else "kd_value", inputs)
    evidence = None if gradient and part == "confident" else partial(_terms, inputs, gradient)
    return case(part, name, call, expected, mistakes, evidence=evidence)


def _terms(inputs: Mapping[str, Value], gradient: bool) -> Mistakes:
    """What the terms of a loss are here, of which a wrong one may be made; of gradients, projections."""
    s, t, y = (inputs[name] for name in ("student", "teacher", "labels"))
    T, alpha = inputs.get("temperature", 20.0), inputs.get("alpha", 0.5)
    if gradient:
        first, second = map(projected, terms.gradients(s, t, y, T, alpha))  # type: ignore[arg-type]
    else:
        first, second = (found[:, None] for found in terms.values(s, t, y, T, alpha))  # type: ignore[arg-type]
    evidence: dict[str, Mapping[str, Value]] = {
        "terms": {"first": first, "second": second, "temperature": T, "alpha": alpha}
    }
    if "temperature" not in inputs:
        others = [terms.divergence(s, t, other)[gradient] for other in DEFAULTS]  # type: ignore[arg-type]
        first = torch.stack(others)
        evidence["defaults"] = {"first": projected(first) if gradient else first[:, None], "second": second[0]}
    return evidence


def _of_other_logits(
    s: Tensor, t: Tensor, labels: Tensor, temperature: float, alpha: float, others: tuple[bool, bool]
) -> Tensor:
    """The loss of the same numbers in another order: of the student's, of the teacher's; as `reorder` leaves them."""

    def reordered(logits: Tensor) -> Tensor:
        flat = logits.flatten()
        return torch.cat([flat[:1], flat[1:].flip(0)]).reshape(logits.shape)

    s, t = (reordered(logits) if other else logits for logits, other in zip((s, t), others, strict=True))
    return oracle.kd_loss(s, t, labels, temperature, alpha)


def _of_the_teacher(name: str, inputs: Mapping[str, Value]) -> Case:
    after = _after(inputs)
    expected: dict[str, Value] = {
        "the student's gradient": torch.zeros(4, 6),
        "the teacher's gradient": torch.zeros(4, 6),
        **after,
        "moves": "the student's gradient",
        "exact": "; ".join(("the teacher's gradient", *after)),
        "returns": "a scalar tensor",
    }
    mistakes = {
        "kd-teacher-gradient": {"the teacher's gradient": None},
        "changes-its-input": dict.fromkeys(after),
    }
    return case("teacher", name, Call("kd_teacher", inputs), expected, mistakes)


def _of_arguments(name: str, inputs: Mapping[str, Value]) -> Case:
    after = _after(inputs)
    expected: dict[str, Value] = {**after, "exact": "; ".join(after), "returns": "a scalar tensor"}
    mistakes = {"changes-its-input": dict.fromkeys(after)}
    return case("teacher", name, Call("kd_arguments", inputs), expected, mistakes)


def _after(inputs: Mapping[str, Value]) -> dict[str, Value]:
    return {f"the {key} after": inputs[key] for key in ("student", "teacher", "labels")}


STEP_TOLERANCE = 1e-5  # a loss in float32 is known to 1e-7, and so is the step
STEP_PARTS = {
    "student": (
        "the student after", "the batches that the student's batch norm counted",
        "how many of the student's parameters can still be trained",
    ),
    "loss": ("the loss", "whether the loss needs a gradient"),
    "teacher": (
        "the student after", "the teacher after", "whether a gradient reached the teacher", "the images after",
        "the labels after",
    ),
}  # fmt: skip


def distillation_step(rng: Numbers) -> Iterator[Case]:
    student, teacher, classes = (4, 5, 6, 6, 7, 6, 5, 6), (5, 6, 6, 7, 6, 5, 7, 8), 5
    for name, inside, training, options in (
        ("teacher beside the student, in train mode", False, True, (3.0, 0.7)),
        ("default temperature and alpha", False, False, ()),
        ("teacher inside the student, in eval mode", True, False, (1.5, 0.3)),
    ):
        inputs: dict[str, Any] = {
            "student_widths": student,
            "student": rng.network(f"student {name}", student, classes, torch.float64),
            "teacher_widths": teacher,
            "teacher": rng.network(f"teacher {name}", teacher, classes, torch.float64),
            "images": torch.rand(6, 3, 16, 16, generator=rng.generator(name, "images"), dtype=torch.float64),
            "labels": torch.randint(classes, (6,), generator=rng.generator(name, "labels")),
            "rate": 0.05,
            "inside": inside,
            "training": training,
            **_options(options),
        }
        right = oracle.distillation_step(inputs)
        mistakes, evidence = Lazy(partial(_wrong_steps, inputs)), Lazy(partial(steps.of_one_step, inputs))
        call = Call("distillation_step", inputs)
        for part, names in STEP_PARTS.items():
            expected: dict[str, Value] = {
                **right,
                "only": "; ".join(names),
                "exact": "the teacher after; the images after",
                "rtol": STEP_TOLERANCE,
                "returns": "the loss, a scalar tensor",
            }
            if part == "teacher":
                expected |= {"the student after": inputs["student"], "moves": "the student after"}
            wrong = partial(only_these, mistakes, names)
            yield case(part, f"{part}, {name}", call, expected, wrong, evidence=evidence if part == "loss" else None)

    yield from _many_steps(rng, student, teacher, classes)


def _many_steps(rng: Numbers, student: tuple[int, ...], teacher: tuple[int, ...], classes: int) -> Iterator[Case]:
    """Three steps: batches of the same labels, the second and third alike, the first image the same in all."""
    name = "steps on batches in one tensor, a teacher with dropout"
    images = torch.rand(3, 6, 3, 16, 16, generator=rng.generator(name, "images"), dtype=torch.float64)
    images[:, 0] = images[0, 0].clone()
    images[2] = images[1]
    labels = torch.randint(classes, (6,), generator=rng.generator(name, "labels"))
    inputs: dict[str, Any] = {
        "student_widths": student,
        "student": rng.network(f"student {name}", student, classes, torch.float64),
        "teacher_widths": teacher,
        "teacher": rng.network(f"teacher {name}", teacher, classes, torch.float64),
        "images": images,
        "labels": labels.expand(3, 6).contiguous(),
        "rate": 0.02,
        "inside": True,
        "temperature": 2.0,
        "alpha": 0.6,
    }
    right = oracle.distillation_steps(inputs)

    def wrong_steps() -> Mistakes:
        found = {wrong: oracle.distillation_steps(inputs, wrong=wrong) for wrong in oracle.STEPS_MISTAKES}
        found |= {wrong: oracle.distillation_steps(inputs, oracle.KD_MISTAKES[wrong]) for wrong in HANDED_ON}
        return {**found, "step-student-twice": {"how often the student saw images": False}}

    call, mistakes = Call("distillation_steps", inputs), Lazy(wrong_steps)
    evidence = Lazy(partial(steps.of_many_steps, inputs))
    for part, names in (
        ("student", ("the student after", "how often the student saw images")),
        ("loss", ("the losses",)),
        ("teacher", ("the teacher after",)),
    ):
        options: dict[str, Value] = {"only": "; ".join(names), "exact": "the teacher after", "rtol": STEP_TOLERANCE}
        expected: dict[str, Value] = {**right, **options, "returns": "the loss"}
        wrong = partial(only_these, mistakes, names)
        yield case(part, f"{part}, {name}", call, expected, wrong, evidence=evidence if part == "student" else None)


# Mistakes of kd_loss that follow into the step.
HANDED_ON = ("kd-mean-over-classes", "kd-no-t-squared", "kd-reversed", "kd-alpha-swapped", "kd-no-labels-term")


def _wrong_steps(inputs: Mapping[str, Any]) -> Mistakes:
    found: dict[str, Mapping[str, Value]] = {
        wrong: oracle.distillation_step(inputs, wrong=wrong) for wrong in oracle.STEP_MISTAKES
    }
    train_mode = found.pop("step-teacher-train-mode")
    found = {"step-teacher-inside" if inputs["inside"] else "step-teacher-train-mode": train_mode, **found}
    # Code that sets no mode at all is wrong where the networks come in the other one, and only there.
    for mode in ("step-teacher-train-mode", "step-student-eval-mode") if not inputs["training"] else ():
        if mode in found:
            found[f"{mode}#always"] = found.pop(mode)
    for wrong in HANDED_ON:
        found[wrong] = oracle.distillation_step(inputs, oracle.KD_MISTAKES[wrong])
    found["changes-its-input"] = {"the images after": None, "the labels after": None}
    return found
