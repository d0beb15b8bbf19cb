"""How just the grader is to the corpora: wrong solutions found, right ones accused, mistakes named, named wrongly.

    python benchmarks/justice.py [--only TASK] [--list]

Every wrong solution of tests/answers is asked all hidden questions of its task, in this process, and judged twice: by
the whole table of mistakes, and with its own mistakes taken out of the table, as if nobody had known them. Every right
solution is asked all questions. Prints Markdown, the page docs/results/justice.md; --list prints a line for each wrong
solution instead, with what a student reads.

A mistake is named wrongly where its name is none of those that the corpus gives this solution, or where a diagnosis
does not say what the corpus says that it must (`says`).
"""

import argparse
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from submissions import (
    HIDDEN,
    Entry,
    alternatives,
    answered,
    last_grades,
    mutants,
    reference_files,
    rubric,
)

from autograder.grading import hidden_cases
from hw7.checks.cases import Outcome, Verdict
from hw7.checks.judges import judge
from hw7.checks.mistakes import load_mistakes
from hw7.checks.scoring import AnswerSheet, telling


@dataclass(frozen=True)
class Told:
    """What is said of one part that was lost. named: right, wrong or "" for nothing; clear: whether the check's own
    words say what is wrong."""

    part: str
    case: str
    outcome: Outcome
    named: str


@dataclass(frozen=True)
class Look:
    """A wrong solution, with the whole table and without its own mistakes; None where it has none in the table."""

    mutant: Entry
    told: tuple[Told, ...]
    without: tuple[Told, ...] | None


def told_of(mutant: Entry, part: str, case: str, outcome: Outcome) -> Told:
    mistake = load_mistakes().get(outcome.mistake)
    named = ""
    if mistake is not None and mistake.diagnosed:
        named = "right" if mutant.says and all(words in outcome.message for words in mutant.says) else "wrongly"
    elif mistake is not None:
        named = "right" if mistake.id in mutant.mistakes else "wrongly"
    return Told(part, case, outcome, named)


def lost(mutant: Entry, sheet: AnswerSheet) -> tuple[Told, ...]:
    """The parts that it loses, each with what a student reads of it."""
    named, found = sheet.named(), dict[str, list[tuple[str, Outcome]]]()
    points = next(task.points for task in rubric().tasks if task.id == mutant.task)
    for case in sheet.cases:
        if points[case.part] and named[case.name].verdict is not Verdict.RIGHT:
            found.setdefault(case.part, []).append((case.name, named[case.name]))
    return tuple(told_of(mutant, part, *telling(wrong)) for part, wrong in found.items())


def without_its_own(mutant: Entry, sheet: AnswerSheet, own: set[str]) -> AnswerSheet:
    """The same answers, judged as if these mistakes were not in the table."""

    def others(ids: Iterable[str]) -> tuple[str, ...]:
        return tuple(id_ for id_ in ids if id_.partition("#")[0] not in own)

    cases = [replace(case, mistakes={id_: case.mistakes[id_] for id_ in others(case.mistakes)}) for case in sheet.cases]
    again = AnswerSheet(cases)
    for case in cases:
        answers = sheet._answers.get(case.name, ())
        outcome = judge(case, *answers) if answers else sheet.outcomes[case.name]
        again._note(case, replace(outcome, fits=others(outcome.fits), equals=others(outcome.equals)), *answers)
    return again


def look(mutant: Entry) -> Look:
    torch.set_num_threads(1)
    task = next(task for task in rubric().tasks if task.id == mutant.task)
    if not task.has_cases:
        (graded,) = (each for each in last_grades(mutant.submission()) if each.task == task.id)
        parts = [part for part in graded.parts if part.points < part.out_of]
        return Look(mutant, tuple(told_of(mutant, part.part, part.case, part.outcome) for part in parts), None)
    sheet = answered(mutant.files, hidden_cases(rubric(), HIDDEN)[task.id])
    own = {id_ for id_ in mutant.mistakes if not load_mistakes()[id_].diagnosed}
    return Look(mutant, lost(mutant, sheet), lost(mutant, without_its_own(mutant, sheet, own)) if own else None)


def accused(entry: Entry) -> tuple[str, ...]:
    """The tasks in which a right solution would lose points; all that have questions are asked."""
    torch.set_num_threads(1)
    found = []
    for task in rubric().tasks:
        if task.has_cases:
            named = answered(entry.files, hidden_cases(rubric(), HIDDEN)[task.id]).named()
            found += [task.id] if any(each.verdict is not Verdict.RIGHT for each in named.values()) else []
    return tuple(found)


def standing(told: Sequence[Told]) -> str:
    """What is said of a wrong solution as a whole."""
    if not told:
        return "not found"
    if any(each.named == "wrongly" for each in told):
        return "named wrongly"
    if any(each.named for each in told):
        return "named"
    return "clear" if any(each.outcome.clear for each in told) else "not named"


def share(count: int, of: int) -> str:
    return f"{count} ({count / of:.0%})" if of else "0"


def as_list(looks: Sequence[Look]) -> str:
    """A block for each wrong solution."""
    lines = []
    for each in looks:
        without = "" if each.without is None else f"; without its own entry: {standing(each.without)}"
        lines.append(f"## {each.mutant.id}: {standing(each.told)}{without}\n   {each.mutant.about}")
        lines += [_line("", told) for told in each.told]
        lines += [_line("without: ", told) for told in each.without or ()]
    return "\n".join(lines)


def _line(head: str, told: Told) -> str:
    outcome = told.outcome
    said = f"[{outcome.mistake}] {outcome.message}" if outcome.mistake else f"{outcome.verdict} {outcome.message}"
    more = "" if outcome.mistake else f" | expected {outcome.expected} | got {outcome.got}"
    return f"   - {head}{told.part}, {told.case} ({told.named or ('clear' if outcome.clear else '-')}): {said}{more}"


def as_page(looks: Sequence[Look], right: dict[str, tuple[str, ...]]) -> str:
    rows = []
    for name in [*sorted({each.mutant.task for each in looks}), "all"]:
        some = [each for each in looks if name in (each.mutant.task, "all")]
        all_of, out = Counter(standing(each.told) for each in some), [each for each in some if each.without is not None]
        without = Counter(standing(each.without or ()) for each in out)
        parts = [told for each in some for told in each.told]
        rows.append(
            (
                name, len(some), share(all_of["named"], len(some)), share(all_of["clear"], len(some)),
                all_of["not named"], all_of["named wrongly"], all_of["not found"],
                share(sum(bool(told.named) or told.outcome.clear for told in parts), len(parts)),
                len(out), share(without["named"], len(out)), without["clear"],
                share(without["named wrongly"], len(out)),
            )
        )  # fmt: skip
    head = (
        "task", "wrong solutions", "named", "clear", "not named", "named wrongly", "not found", "of parts lost",
        "in the table", "named without it", "clear", "wrongly",
    )  # fmt: skip
    return f"# date {date.today()}\n\n" + tabulate(rows, head, tablefmt="github") + f"\n\n{right}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TASK", default="", help="the beginning of the tasks' numbers: 3, or 2.1")
    parser.add_argument("--list", action="store_true", help="a line for each wrong solution")
    options = parser.parse_args()
    chosen = [mutant for mutant in mutants() if mutant.task.startswith(options.only)]
    for task in rubric().tasks:
        if task.has_cases and task.id.startswith(options.only):
            hidden_cases(rubric(), HIDDEN)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        looks = pool.map(look, chosen, chunksize=4)
        if options.list:
            print(as_list(looks))
            return
        rights = [] if options.only else [*alternatives(), Entry("reference", "", "", (), reference_files())]
        right = dict(zip([entry.id for entry in rights], pool.map(accused, rights), strict=True))
    print(as_page(looks, right))


if __name__ == "__main__":
    main()
