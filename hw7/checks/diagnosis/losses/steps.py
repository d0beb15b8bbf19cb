"""A step of distillation: along the gradient of which loss it goes, which loss it returns, and with which optimizer.

An update that is not the right one made otherwise (`updates`) is compared with the gradients of other losses, and of
the same loss seen otherwise: networks in other modes, other images, other logits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hw7.checks.cases import Status, Verdict
from hw7.checks.compare import tensor_names
from hw7.checks.diagnosis.frame import Asked, Diagnosis
from hw7.checks.diagnosis.losses.formula import Columns, Formula, Search, differences, fits, in_words, projected
from hw7.checks.diagnosis.losses.terms import ACCUMULATED, FIRST, OPTIMIZERS, OPTIONS, SCENES, SECOND
from hw7.checks.diagnosis.losses.updates import CLOSE, Step, alike, near, of_statistics, otherwise, steps_of

MOST = 2  # differences of a formula from the right one
MODES = SCENES[:3]  # what hangs on how the networks come

# ---- the loss ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """A loss that explains: with the words for a scene, or as a formula of the right logits."""

    formula: Formula
    scene: str = ""

    def told(self, head: str) -> str:
        if self.scene and not self.formula.cost:
            return f"{head} the loss with {self.scene}. Beside that it is right."
        seen = f", with {self.scene}" if self.scene else ""
        return " ".join([f"{head} {in_words(self.formula)}{seen}.", *differences(self.formula)[:2]])


def _columns(steps: Sequence[Step], of_gradient: bool, scene: int | None) -> Columns:
    """The losses, or the updates, with the terms of the right logits or of a scene."""
    chosen = slice(1, None) if of_gradient else slice(0, 1)
    first, second, settings, target, room = [], [], [], [], []
    for step in steps:
        numbers = projected(step.update[None])[0] if of_gradient else step.got["the loss"].double()[None]
        terms = step.evidence["terms"]
        options: tuple[float, ...] = (terms["temperature"], terms["alpha"])
        pair: tuple[Tensor, ...] = terms["first"][:, chosen], terms["second"][:, chosen]
        if scene is not None:
            scenes = step.evidence["scenes"]
            options = tuple(scenes["options"][scene].tolist())
            pair = tuple(
                _alone(scenes[name][scene, chosen], n) for name, n in (("first", len(FIRST)), ("second", len(SECOND)))
            )
        first.append(pair[0])
        second.append(pair[1])
        size = torch.tensor([[*options, *step.sizes]], dtype=torch.float64).T
        settings.append(size.expand(4, len(numbers)))
        target.append(numbers)
        room.append(torch.full_like(numbers, CLOSE * float(step.update.norm() if of_gradient else numbers.abs())))
    joined = torch.cat(room)
    return Columns(
        (torch.cat(first, 1), torch.cat(second, 1)), torch.cat(settings, 1), torch.cat(target), joined, 0 * joined
    )


def _alone(numbers: Tensor, terms: int) -> Tensor:
    """[terms, columns], of which only the first is a number."""
    return torch.cat([numbers[None], torch.full((terms - 1, len(numbers)), torch.nan, dtype=numbers.dtype)])


def _sources(steps: Sequence[Step], of_gradient: bool) -> list[Source]:
    """The losses that fit and differ least from the right one, by their distance: a scene counts for one difference."""
    found: list[tuple[float, Source]] = []
    plain = Search(_columns(steps, of_gradient, None), MOST).formulas()
    found += [(formula.cost, Source(formula)) for formula in plain]
    for number, words in enumerate((*SCENES, *OPTIONS)):
        columns = _columns(steps, of_gradient, number)
        found += [(1 + f.cost, Source(f, words)) for f in Search(columns, MOST - 1).formulas()]
    least = min((cost for cost, _ in found), default=0.0)
    return [source for cost, source in found if cost < least + 1e-9]


def _one_source(steps: Sequence[Step], of_gradient: bool) -> Source | None:
    """The one that fits; of several, the one that fits what else came back as well."""
    found = _sources(steps, of_gradient)
    if len(found) > 1:
        found = [each for each in found if _gives(each, steps, not of_gradient)]
    return found[0] if len({each.told("") for each in found}) == 1 else None


def _gives(source: Source, steps: Sequence[Step], of_gradient: bool) -> bool:
    number = (*SCENES, *OPTIONS).index(source.scene) if source.scene else None
    return fits(source.formula, _columns(steps, of_gradient, number))


def _where_wrong(steps: Sequence[Step], of_gradient: bool) -> Source | None:
    """The modes of the networks that explain the wrong steps, where others are right."""
    found = [source for source in _sources(steps, of_gradient) if source.scene in MODES and not source.formula.cost]
    return found[0] if len(found) == 1 else None


def _explained(steps: Sequence[Step], of_gradient: bool, head: str) -> dict[int, str]:
    """What is found out of the updates, or of the losses, by the number of the step."""

    def is_right(step: Step) -> bool:
        return step.is_right() if of_gradient else near(step.got["the loss"].double(), step.expected("the loss"))

    wrong = [number for number, step in enumerate(steps) if not is_right(step)]
    if not wrong:
        return {}
    source = _one_source(steps, of_gradient)
    agrees = source is not None and _gives(source, steps, not of_gradient)
    told = "" if agrees or not of_gradient else otherwise(steps)
    if not told and source is None and len(wrong) < len(steps):
        source = _where_wrong([steps[number] for number in wrong], of_gradient)
    if not of_gradient and all(_later(step) for step in steps):
        told = "What comes back is the loss of the student after the step, not before it."
    if not told and source is not None:
        told = source.told(head)
    return dict.fromkeys(wrong, told) if told else {}


def _later(step: Step) -> bool:
    """Whether the loss is that of the student after the right step."""
    return any(near(step.got["the loss"].double(), value) for value in step.evidence["terms"]["later"])


# ---- the finder --------------------------------------------------------------------------------------------------


def _of_student(step: Step) -> list[str]:
    """What the student's own counters say."""
    count, all_of = (
        step.told("the batches that the student's batch norm counted"),
        "how many of the student's parameters can still be trained",
    )
    found = []
    if count == 0:
        found.append("The student's batch norms count no batch in a step: they are not in train mode.")
    elif count > 1:
        found.append(
            f"The student's batch norms count {count} batches in one step: it runs more than once in train mode."
        )
    if step.told(all_of) != int(step.expected(all_of)):
        found.append(
            f"After the step {step.told(all_of)} of the student's {step.expected(all_of)} parameters can be trained."
        )
    return found or [of_statistics(step)]


def _of_teacher(step: Step) -> list[str]:
    """What has become of what may not change."""
    found = []
    if step.told("whether a gradient reached the teacher"):
        found.append("After the step the teacher's parameters have gradients: the loss reaches them.")
    if moved := step.of_teacher():
        found.append(moved)
    for name in ("images", "labels"):
        if not torch.equal(step.got[f"the {name} after"], step.expected(f"the {name} after")):
            found.append(f"The {name} that were given are others after the step.")
    return found


def one_step(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """What a single step does: its update, its loss, and what it leaves behind."""
    steps = steps_of(asked, "distillation_step", "loss")
    updates = _explained(steps, True, "The step follows the gradient of") if steps else {}
    losses = _explained(steps, False, "What comes back is") if steps else {}
    found: dict[str, Diagnosis] = {}
    for number, step in enumerate(steps):
        attached = step.told("whether the loss needs a gradient")
        of_loss = ["The loss that comes back still hangs on its graph: it needs a gradient."] if attached else []
        sentences = {
            "student": [updates.get(number, ""), *_of_student(step)],
            "loss": [losses.get(number, ""), *of_loss],
            "teacher": _of_teacher(step) or [updates.get(number, "")],
        }
        for each in asked:
            if each.case.call is step.case.call and (told := " ".join(filter(None, sentences[each.case.part]))):
                found[each.case.name] = Diagnosis("step-update", told)
    return found


def many_steps(asked: Sequence[Asked]) -> Mapping[str, Diagnosis]:
    """What several steps show and one does not: the optimizer's memory and groups, what is kept, modes of modules."""
    singles = [each for each in asked if each.case.call.program == "distillation_step"]
    many = [each for each in asked if each.case.call.program == "distillation_steps"]
    evidence = {name: each.case.evidence[name] for each in many for name in each.case.evidence}
    if not many:
        return {}
    case, (answer, *_), _ = many[0]
    names = tensor_names(case.expected)
    if answer.status is not Status.RETURNED or len(answer.tensors) != len(names):
        return {}
    got = dict(zip(names, answer.tensors, strict=True))
    right: dict[str, Any] = {name: case.expected[name] for name in names}
    if not all(alike(got[name], right[name]) for name in names):
        return {}
    parts = {each.case.part for each in singles if each.outcome.verdict is not Verdict.RIGHT}
    if parts:
        by_name = one_step(singles)
        why = [
            by_name[each.case.name].message
            for each in singles
            if each.case.part == "student" and each.case.name in by_name
        ]
        if "loss" in parts or not why:
            return {}
        return _follows(many, got["the losses"].double(), right["the losses"], why[0])
    told = _of_many(got, right, evidence)  # type: ignore[arg-type]
    return {each.case.name: Diagnosis("step-update", told) for each in many} if told else {}


def _follows(many: Sequence[Asked], got: Tensor, right: Tensor, why: str) -> dict[str, Diagnosis]:
    """Losses of later steps that are wrong because earlier ones have made another student."""
    if not near(got[0], right[0]) or near(got, right):
        return {}
    told = f"{why} So the loss of a first step is right, and those after it are of another student."
    return {each.case.name: Diagnosis("step-update", told) for each in many if each.case.part == "loss"}


def _of_many(
    got: Mapping[str, Tensor], right: Mapping[str, Tensor], evidence: Mapping[str, Mapping[str, Tensor]]
) -> str:
    after = projected(got["the student after"][None])[0]
    table = evidence["optimizers"]["after"]
    words = [f"Each step is one {each}." for each in OPTIMIZERS.values()] + [f"Each step goes {ACCUMULATED}."]
    found = [told for told, row in zip(words, table, strict=True) if any(near(after, each, 1e-7) for each in row)]
    if found:
        return found[0] if len(found) == 1 else ""
    losses, wanted = got["the losses"].double(), right["the losses"]
    first = evidence["modes"]
    for network in ("teacher", "student"):
        if not near(losses[0], wanted[0]) and any(near(losses[0], value) for value in first[network]):
            mode = {"teacher": "eval", "student": "train"}[network]
            return f"Modules of the {network} that look at their mode, as dropout does, are not in {mode} mode."
    seen = int(got["how often the student saw images"])
    if seen != int(right["how often the student saw images"]):
        return f"In {len(losses)} steps the student sees images {seen} times; once in a step is right."
    if near(losses[0], wanted[0]) and not near(losses, wanted):
        return (
            "A first step is right, and those after it are not: something of an earlier batch or step is kept, or lost."
        )
    return ""
