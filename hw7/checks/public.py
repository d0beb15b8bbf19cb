"""The public tests on a student's own machine: the released questions and answers, put to `solution` in this process.

`assignments/hw7/tests` are these, one pytest test for each part; `hw7 check` shows them as a table. The data of the
tests (`tasks.json`, `cases/`) lie beside those tests; the reference is tried with the same. The grader asks the same in
the same words, of other inputs.
"""

import json
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from tabulate import tabulate

from hw7 import HW7Error
from hw7.checks.calls.contract import LazySolution, plain
from hw7.checks.calls.run import module_of, run_call, start_call
from hw7.checks.cases import Answer, Call, Case, Outcome, PartScore, Status, Task, Verdict
from hw7.checks.final import NEEDED, hits, logits_of, why_low
from hw7.checks.handed_in import HandedIn, Measured
from hw7.checks.importable import import_trouble, installed, told
from hw7.checks.judges import second_call
from hw7.checks.outcomes import AT_HOME, NOT_IMPORTED, not_imported
from hw7.checks.own_test import try_test
from hw7.checks.scoring import AnswerSheet, score
from hw7.checks.show import case_named, program, show_command
from hw7.checks.storage import load_cases
from hw7.checks.time_limit import OutOfTime, TimeLimit
from hw7.checks.worth import findings
from hw7.solution import (
    PROJECT,
    SOURCE,
    WEIGHTS,
    default_directory,
    running,
    select_solution,
    source_files,
    source_size,
)
from hw7.support.files import read_json
from hw7.support.system import expanded
from hw7.support.words import counted

TESTS = PROJECT / "assignments" / "hw7" / "tests"
IMAGES = 330  # public images for task 5.2, 30 of each class: one standard error is 2 to 3 points
BATCH = 66
PATIENCE = 3  # times the grader's limit: machines at home may be slow
DATA = "plates"  # the source of the public images


def public_tests(folder: Path) -> Path:
    """The folder of the public tests; where hw7 is installed without the assignment, that beside `solution`."""
    return TESTS if TESTS.is_dir() else folder / "tests"


@dataclass
class Checks:
    """The public tests of one submission. A task is asked once, however many of its parts are looked at."""

    directory: Path  # holds `solution`, and weights.safetensors when there are some
    tests: Path = TESTS
    _sheets: dict[str, AnswerSheet] = field(default_factory=dict)

    @classmethod
    def of(cls, directory: Path | str | None = None) -> Self:
        """Of a folder; default: the one of one's own. Raises HW7Error where it holds no solution."""
        folder = expanded(directory or default_directory()).resolve()
        if not (folder / SOURCE).is_dir():
            raise HW7Error(f"{folder} holds no `solution` package; name the folder that does with --solution DIR")
        return cls(folder, public_tests(folder))

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks in the rubric's order. Raises HW7Error where the tests' data is missing or damaged."""
        path = self.tests / "tasks.json"
        if not path.is_file():
            raise HW7Error(f"there are no public tests: {path} is missing; take it from the assignment as handed out")
        return tuple(Task(**row) for row in read_json(path))

    def task(self, task_id: str) -> Task:
        """Raises HW7Error where there is none."""
        for task in self.tasks:
            if task.id == task_id:
                return task
        raise HW7Error(f"there is no task {task_id!r}; there are {', '.join(task.id for task in self.tasks)}")

    def check(self, task_id: str) -> tuple[PartScore, ...]:
        """All parts of a task, in the rubric's order."""
        return score(self.task(task_id), self.tasks, self._sheet, self._handed_in)

    def part(self, task_id: str, part: str) -> PartScore:
        return next(each for each in self.check(task_id) if each.part == part)

    def explain(self, task_id: str, *parts: PartScore) -> str:
        """What a failing test prints of parts that are wrong alike: what is wrong, and how to see it as a program."""
        return "\n\n".join(filter(None, [self.said(task_id, *parts), self.see(task_id, parts[0])]))

    def see(self, task_id: str, part: PartScore) -> str:
        """How to see the case of a part that is wrong as a program; "" where it has none."""
        return part.case and f"See it as a program: {show_command(task_id, part.case, self.directory)}"

    def said(self, task_id: str, part: PartScore, *alike: PartScore) -> str:
        """What is wrong with a part, and with others of which the same is said."""
        task, outcome = self.task(task_id), part.outcome
        points = f"0 of {counted(sum(each.out_of for each in (part, *alike)), 'point')}"
        names = ", ".join(each.part for each in (part, *alike))
        lines = [f"Task {task.id}, {task.title}: {names}, {points}: {outcome.verdict}"]
        cases = self._sheet(task).cases if task.has_cases else ()
        case = next((case for case in cases if case.name == part.case), None)
        raised = case is not None and outcome.note and outcome.mistake != NOT_IMPORTED
        trace, line = self._trace(case) if case and raised else ("", "")
        own_line = line if outcome.verdict is Verdict.CRASH else ""
        said = {"case": part.case, "expected": outcome.expected, "got": outcome.got, "your line": own_line}
        said["hint"] = outcome.message.removesuffix(AT_HOME)
        lines += [f"  {f'{what}:':10} {text}" for what, text in said.items() if text]
        return "\n".join([*lines, *(["", trace] if trace else [])])

    def show(self, task_id: str, name: str) -> str:
        """A case of a task as a program. Raises HW7Error, with the names of all, where there is none of this name."""
        task = self.task(task_id)
        if not task.has_cases:
            raise HW7Error(f"task {task_id} has no cases that could be shown: its network is judged as it is")
        file = self.tests / "cases" / f"{task_id}.safetensors"
        return program(task, case_named(task, load_cases(file), name), file.resolve(), self.directory)

    # ---- tasks with cases ----------------------------------------------------------------------------------

    def _sheet(self, task: Task) -> AnswerSheet:
        """The answers to the cases of a task. Second halves are asked of a solution that is imported anew."""
        if task.id in self._sheets:
            return self._sheets[task.id]
        self._sheets[task.id] = sheet = AnswerSheet(load_cases(self.tests / "cases" / f"{task.id}.safetensors"))
        limit = TimeLimit(PATIENCE * task.seconds_once)
        try:
            with limit:
                select_solution(self.directory)
                if why := self._not_imported(module_of(sheet.calls[0])):
                    sheet.not_imported = why
                    sheet.fill(Answer(Status.RAISED))
                    return sheet
                halves = sheet.add(sheet.calls, (run_call(LazySolution(), call) for call in sheet.calls))
                if halves:
                    select_solution(self.directory)
                sheet.add_second(halves, (run_call(LazySolution(), half.call) for half in halves))
        except OutOfTime:
            sheet.fill(Answer(Status.TIME))
            for name, outcome in sheet.outcomes.items():
                if outcome.verdict is Verdict.TIME:
                    sheet.outcomes[name] = replace(outcome, message=limit.message)
        return sheet

    def _not_imported(self, module: str) -> str:
        """Why a module cannot be imported; "" where it can, or is not there."""
        answer = run_call(LazySolution(), Call("import_module", {"module": module}))
        if answer.status is Status.RETURNED or not (self.directory / SOURCE / f"{module}.py").is_file():
            return ""
        files = {path: (self.directory / path).read_bytes() for path in source_files(self.directory)}
        trouble = import_trouble(files, module, installed)
        return told(module, trouble) if trouble else f"{module}.py cannot be imported: {answer.note}"

    def _trace(self, case: Case) -> tuple[str, str]:
        """The traceback of what the question raises, from the first line of the solution on, and the last line of it
        that is the solution's: "losses.py, line 14: `return loss.item`". Asked again, the way back in a new import."""
        call: Call | None = case.call
        try:
            while call is not None:
                select_solution(self.directory)
                tensors = tuple(map(plain, start_call(LazySolution(), call)))
                call = second_call(case, Answer(Status.RETURNED, tensors)) if call is case.call else None
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [i for i, frame in enumerate(frames) if Path(frame.filename).is_relative_to(self.directory)]
            shown = traceback.StackSummary.from_list(frames[own[0] if own else len(frames) :])
            text = "".join([*shown.format(), *traceback.format_exception_only(error)]).rstrip()
            last = frames[own[-1]] if own else None
            return text, f"{Path(last.filename).name}, line {last.lineno}: `{last.line}`" if last else ""
        return "", ""

    # ---- the network that is handed in ---------------------------------------------------------------------

    @cached_property
    def _handed_in(self) -> HandedIn:
        weights = self.directory / WEIGHTS
        source = source_size(source_files(self.directory))
        sizes = {"weights": weights.stat().st_size if weights.is_file() else None, "source": source}
        return HandedIn(sizes, self._measured, DATA, IMAGES, "public images; the grader has others")

    def _measured(self) -> Outcome | Measured:
        """The share of right answers, or why there is none: here with the exception that was raised."""
        from hw7.data.plates.render import draw

        task = next(task for task in self.tasks if task.check == "accuracy")
        enough = min(task.thresholds[DATA].values())
        images, labels = draw("validation", IMAGES, 128)
        limit = TimeLimit(PATIENCE * task.seconds)
        try:
            with limit:
                select_solution(self.directory)
                weights = (self.directory / WEIGHTS).read_bytes()
                logits = logits_of(weights, images, BATCH, self._ask)
        except OutOfTime:
            return Outcome(Verdict.TIME, limit.message)
        if isinstance(logits, Outcome):
            why = next(filter(None, map(self._not_imported, NEEDED)), "")
            note = f"{logits.message} {logits.note}".strip()
            return not_imported(logits, why) if why else replace(logits, message=note)
        share = hits(logits, labels) / len(labels)
        with suppress(OutOfTime), TimeLimit(PATIENCE * task.seconds):
            return Measured(share, why_low(logits, images, labels, enough, self._ask) if share < enough else None)
        return Measured(share)

    @staticmethod
    def _ask(call: Call) -> Answer:
        return run_call(LazySolution(), call)


# ---- the test that students write ------------------------------------------------------------------------------

OWN_TEST = "own-test"


def try_own_test(checks: Checks, kd_loss_task: str = "2.1") -> tuple[bool, str]:
    """Whether solution/own_test.py lets one's own right loss pass and catches every wrong one; and that in words."""
    if not all(part.right for part in checks.check(kd_loss_task)):
        first = next_step(checks, [kd_loss_task])
        return False, f"A test of `kd_loss` is tried on your own one, which must be right first.\n\n{first}"
    select_solution(checks.directory)
    solution = LazySolution()
    with running("own_test.test_kd_loss", checks.directory):
        trial = try_test(solution.own_test.test_kd_loss, solution.losses.kd_loss)
    on_right = (f"fails: {trial.problem}", "to do") if trial.problem else ("passes", "good")
    rows = [("your kd_loss, which is right", *on_right)]
    rows += [(f"wrong: {name}", "is caught", "good") for name in trial.caught]
    rows += [(f"wrong: {name}", "passes", "to do") for name in trial.missed]
    table = tabulate(rows, ("loss", "your test", ""))
    caught, count = len(trial.caught), len(trial.caught) + len(trial.missed)
    last = "It must let a right loss pass." if trial.problem else f"It catches {caught} of {count} wrong losses."
    return not (trial.problem or trial.missed), f"{table}\n\n{last}"


# ---- as a table ------------------------------------------------------------------------------------------------


def format_overview(checks: Checks) -> str:
    """A row for each task, the sum, and what to do next."""
    rows, earned, out_of = [], 0.0, 0.0
    for task in checks.tasks:
        parts = checks.check(task.id)
        state = ", ".join(f"{part.part}: {part.outcome.verdict}" for part in parts if not part.right) or "right"
        if all(part.outcome.verdict is Verdict.MISSING for part in parts):
            state = "not done yet" if task.has_cases else "no weights.safetensors yet"
        elif any(part.outcome.mistake == NOT_IMPORTED for part in parts):
            state = "its module cannot be imported"
        points = sum(part.points for part in parts)
        rows.append((task.id, task.title, f"{points:g} of {task.out_of:g}", state))
        earned, out_of = earned + points, out_of + task.out_of
    rows.append(("", "all public tests", f"{earned:g} of {out_of:g}", ""))
    table = tabulate(rows, ("task", "", "points", ""), maxcolwidths=[None, 40, None, 50], disable_numparse=True)
    return f"{table}\n\n{next_step(checks, [task.id for task in checks.tasks])}"


def format_task(checks: Checks, task_id: str) -> str:
    """A row for each part, and what is wrong with each that is."""
    task, parts = checks.task(task_id), checks.check(task_id)
    rows = [(part.part, f"{part.points:g} of {part.out_of:g}", part.outcome.verdict) for part in parts]
    table = tabulate(rows, ("part", "points", ""), disable_numparse=True)
    wrong = [checks.explain(task_id, *alike) for alike in findings(parts)]
    return "\n\n".join([f"Task {task.id}, {task.title}", table, *wrong])


def next_step(checks: Checks, task_ids: Sequence[str]) -> str:
    """The first part of these tasks that is not right, in full, and the command that runs its task alone."""
    for task_id in task_ids:
        for part in checks.check(task_id):
            if not part.right:
                run = f"`hw7 check {task_id}` or `pytest -m {checks.task(task_id).mark}`"
                said, see = checks.said(task_id, part), checks.see(task_id, part)
                return f"Next: {said}\n\nRun it alone with {run}.\n{see}".rstrip()
    return "Every public test passes. The grader asks the same of other inputs. Next: the report, hw7.ipynb."


def write_tasks(tasks: Sequence[Task]) -> bytes:
    """tasks.json: what students may know of the rubric."""
    rows = [asdict(task) for task in tasks]
    for row in rows:
        del row["parameters"]
        row["thresholds"] = {DATA: row["thresholds"][DATA]} if row["thresholds"] else {}
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
