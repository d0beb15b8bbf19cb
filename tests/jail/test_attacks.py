"""Hostile submissions earn nothing, see nothing, leave nothing, and cost nobody else a point.

All of them are graded in one real run, in the best tier of this machine; a few again in every other secure tier.
"""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent))  # where `hostile` is, when this file is run by itself

from hostile import HONEST, SIZES, TASKS, Aftermath, Attack, adopt_orphans, attacks, graded, report

from autograder.grades import Grade
from autograder.jail import Tier, best_tier
from hw7.solution import PROJECT
from hw7.support.files import write_file

PAGE = PROJECT / "docs" / "results" / "attacks.md"
QUICK = tuple(attack for attack in attacks() if attack.quick)


def check(attack: Attack, after: Aftermath) -> None:
    grade, honest = after.grades[attack.id], after.grades[HONEST[0]]
    everything = grade.to_json()
    assert "ATTACK SUCCEEDED" not in everything, re.findall(r"ATTACK SUCCEEDED[^\\]*", everything)
    assert after.canary not in everything
    assert attack.refused in grade.problem
    assert bool(grade.problem) == bool(attack.refused), grade.problem
    due = {task.task: 0 if task.task in attack.loses else task.points for task in honest.tasks}
    got = {task.task: task.points for task in grade.tasks}
    for task in attack.hurts:
        assert got.pop(task) < due.pop(task), explain(grade)
    assert got == due, explain(grade)
    if attack.verdict:
        lost = [task for task in grade.tasks if task.task in attack.loses]
        assert {part.outcome.verdict.value for task in lost for part in task.parts} == {attack.verdict}
    notes = " ".join(part.outcome.note for task in grade.tasks for part in task.parts)
    assert attack.breaks or not re.search("(Name|Syntax|Attribute|Type|Import)Error", notes), (
        notes
    )  # of the attack: it never got that far
    for text in shown(grade):
        assert text.isprintable() or "\n" in text
        assert not re.search("FOR-THE-STUDENT|<script|HYPERLINK", text)


def shown(grade: Grade) -> list[str]:
    """All that a student reads."""
    parts = [part for task in grade.tasks for part in task.parts]
    texts = [text for part in parts for text in (part.outcome.message, part.outcome.expected, part.outcome.got)]
    return [*texts, *grade.remarks, grade.problem]


def explain(grade: Grade) -> str:
    parts = [(task.task, part) for task in grade.tasks for part in task.parts]
    return "\n".join(f"{task} {p.points:g}/{p.out_of:g} {p}" for task, p in parts)


def check_honest(after: Aftermath) -> None:
    assert after.left == ()
    first, *others = (after.grades[student] for student in HONEST)
    wrong = [part for task in first.tasks for part in task.parts if task.task in TASKS and part.points < part.out_of]
    assert wrong == []
    assert all(task.points > 0 for task in first.tasks)
    for other in others:
        assert [(task.task, task.points) for task in other.tasks] == [(task.task, task.points) for task in first.tasks]


# ---- the corpus -------------------------------------------------------------------------------------------------


def test_there_are_enough() -> None:
    assert len(attacks()) >= 100
    assert len({attack.id for attack in attacks()}) == len(attacks())
    assert {attack.group for attack in attacks()} == {"flooding", "leaving", "looking", "pretending", "systems"}
    assert all(set(attack.loses) <= {*TASKS, *SIZES} for attack in attacks())
    assert len(Counter(attack.stopped_by for attack in attacks())) > 10


def test_the_page_has_every_attack() -> None:
    assert re.findall(r"^\| ([\w-]+) +\|", PAGE.read_text(), re.M)[1:] == [attack.id for attack in attacks()]


# ---- the runs: one test each, so that test processes side by side do not grade everything twice -----------------


def check_all(chosen: Sequence[Attack], tier: Tier) -> Aftermath:
    adopt_orphans()
    after = graded(chosen, tier)
    wrong = {}
    for attack in chosen:
        try:
            check(attack, after)
        except AssertionError as error:
            wrong[attack.id] = str(error)
    assert not wrong, "\n\n".join(f"{attack}: {why}" for attack, why in wrong.items())
    check_honest(after)
    return after


@pytest.mark.slow
def test_all() -> None:
    check_all(attacks(), best_tier()[0])


@pytest.mark.slow
@pytest.mark.parametrize("tier", ["B", "C"])
def test_in_other_tiers(tier: Tier) -> None:
    works = best_tier()[1][tier]
    if works != "works":
        pytest.skip(f"tier {tier}: {works}")
    check_all(QUICK, tier)


if __name__ == "__main__":
    best, works = best_tier()
    after = check_all(attacks(), best)
    others: list[Tier] = [tier for tier in ("B", "C") if tier != best and works[tier] == "works"]
    for tier in others:
        check_all(attacks(), tier)
    write_file(PAGE, report(after, best, others).encode())
    sys.stderr.write(f"{len(attacks())} attacks in {after.seconds:.0f} s: {PAGE}\n")
