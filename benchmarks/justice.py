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
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    unseen,
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
    warnings.simplefilter("ignore")
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


def naming(looks: Sequence[Look]) -> str:
    """The table by task: with the whole table of mistakes, and with each solution's own entry taken out."""
    rows = []
    for name in [*sorted({each.mutant.task for each in looks}), "all"]:
        some = [each for each in looks if name in (each.mutant.task, "all")]
        told = Counter(standing(each.told) for each in some)
        out = [each for each in some if each.without is not None]
        without = Counter(standing(each.without or ()) for each in out)
        whole = [share(told[how], len(some)) for how in ("named", "clear", "not named", "named wrongly")]
        rest = [share(without[how], len(out)) for how in ("named", "clear", "not named", "named wrongly")]
        rows.append((name, len(some), *whole, len(out), *rest))
    how = ("named", "clear", "neither", "wrongly")
    head = ("task", "wrong solutions", *how, "of them in the table", *(f"{each}, entry out" for each in how))
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def confusion(looks: Sequence[Look], accusations: Mapping[str, tuple[str, ...]]) -> str:
    """The whole grader: wrong and right solutions, found and accused."""
    told = Counter(standing(each.told) for each in looks)
    found = len(looks) - told["not found"]
    accused = sum(bool(tasks) for tasks in accusations.values())
    rows = [
        ("wrong", len(looks), found, told["not found"], told["named"], told["clear"], told["named wrongly"]),
        ("right", len(accusations), accused, len(accusations) - accused, "", "", ""),
    ]
    head = ("solutions", "asked", "lose points", "lose none", "named", "clear", "named wrongly")
    return tabulate(rows, head, tablefmt="github")


def answers(seen: Sequence[tuple[Look, str]]) -> str:
    """What is said of mistakes that nobody had looked at."""
    rows = []
    for each, enough in seen:
        said = next((told for told in each.told if told.named), each.told[0]).outcome if each.told else None
        shown = "not found" if said is None else said.message
        shown += f" Expected: {said.expected}; got: {said.got}." if said and not said.mistake and said.expected else ""
        rows.append(tuple(text.replace("|", "\\|") for text in (each.mutant.task, each.mutant.about, shown, enough)))
    return tabulate(rows, ("task", "what is wrong", "what a student reads", "enough?"), tablefmt="github")


def _silently() -> None:
    """What solutions print goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


PAGE = """\
# What is said of wrong solutions

Made by `python benchmarks/justice.py` on {date}, from the solutions in `tests/answers` and one hidden seed.

- **named**: in one part that it loses, or more, the student reads the mistake: a row of the table of known mistakes, or
  what was found out from all answers (a formula, a layer, a tensor), and nowhere a wrong one.
- **clear**: no name, but the check's own words with *expected* and *got* say what is wrong: another dtype or shape, no
  tensor, a bad input that is not refused, a file that is too large, an exception (the public tests show the line).
- **wrongly**: in one part or more a mistake is named that is not the one that was made. Of names from the table the
  corpus says which are right; of what is found out, what must be said, word by word.
- **entry out**: the same answers, judged as if nobody had known this solution's own mistakes: their rows are taken out
  of the table.

## By task

{naming}

## The whole grader

{confusion}

## Mistakes that nobody had looked at

Written before their messages were read; whether a message is enough to put the mistake right was judged by a person.

{answers}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="TASK", default="", help="the beginning of the tasks' numbers: 3, or 2.1")
    parser.add_argument("--list", action="store_true", help="what is said of each wrong solution")
    options = parser.parse_args()
    chosen = [mutant for mutant in mutants() if mutant.task.startswith(options.only)]
    new = [entry for entry, _ in unseen() if entry.task.startswith(options.only)]
    for task in rubric().tasks:
        if task.has_cases and task.id.startswith(options.only):
            hidden_cases(rubric(), HIDDEN)
    with multiprocessing.get_context("fork").Pool(2, initializer=_silently) as pool:
        looks, seen = pool.map(look, chosen, chunksize=4), pool.map(look, new)
        if options.list:
            print(as_list([*looks, *seen]))
            return
        right = [] if options.only else [*alternatives(), Entry("reference", "", "", (), reference_files())]
        accusations = dict(zip([entry.id for entry in right], pool.map(accused, right), strict=True))
    enough = {entry.id: text for entry, text in unseen()}
    tables = {"naming": naming(looks), "confusion": confusion(looks, accusations)}
    tables["answers"] = answers([(each, enough[each.mutant.id]) for each in seen])
    print(PAGE.format(date=date.today(), **tables), end="")


if __name__ == "__main__":
    main()
