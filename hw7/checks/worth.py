"""Points: what parts are worth under a rubric, once it is known what was found.

Nothing is asked here: a rubric of other points or thresholds needs nobody's code to be run. Torch is not needed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hw7.checks.cases import Outcome, PartScore, Task, Verdict

EXCUSED = Outcome(Verdict.RIGHT, "It follows from the mistake in an earlier task, and is right beside it.")


def part_key(task_id: str, part: str) -> str:
    """How `PartScore.excuses` names a part."""
    return f"{task_id} {part}"


def worth(tasks: Sequence[Task], parts: Mapping[str, Sequence[PartScore]]) -> dict[str, tuple[PartScore, ...]]:
    """The parts of these tasks, by task id, with the points that each task's row gives them now.

    A part whose every wrong case follows from an earlier part that lost points is not charged again. What lost no
    points, because it is worth none or is itself excused, excuses nothing.
    """
    lost: set[str] = set()
    charged: dict[str, tuple[PartScore, ...]] = {}
    for task in tasks:
        found = {each.part: each for each in parts[task.id]}
        charged[task.id] = tuple(_charged(found[part], out_of, lost) for part, out_of in task.points.items())
        lost.update(part_key(task.id, each.part) for each in charged[task.id] if each.points < each.out_of)
    return charged


def _charged(part: PartScore, out_of: float, lost: set[str]) -> PartScore:
    if not part.excuses:
        return part if part.out_of == out_of else replace(part, out_of=out_of)
    found = part.otherwise or (part.case, part.outcome)
    if all(lost.intersection(each) for each in part.excuses):
        return replace(part, out_of=out_of, outcome=EXCUSED, case="", otherwise=found)
    return replace(part, out_of=out_of, outcome=found[1], case=found[0], otherwise=None)


def findings(parts: Iterable[PartScore]) -> list[tuple[PartScore, ...]]:
    """The wrong ones of these parts; those of which the very same is said stand together."""
    groups: dict[tuple[str, Outcome], list[PartScore]] = {}
    for part in parts:
        if not part.right:
            groups.setdefault((part.case, part.outcome), []).append(part)
    return [tuple(group) for group in groups.values()]
