"""What grading costs: the jail, the rubric, a batch with an endless loop, and the same batch through other graders.

    python benchmarks/grading.py [--submissions 20] [--limit 10] [--repeat 15] [--skip-others]
    python benchmarks/grading.py --against DIR [--rounds 3] [--submissions 20] [--limit 10] [--repeat 15]
    python benchmarks/grading.py --attacks [PATTERN]

Prints Markdown tables. Everything is measured in this one run, one after the other, with one torch thread a process:

- the jail: how long a process of it takes beyond the work itself, from the request to its end, warm, and so what a
  right submission pays, which needs four of them (three without the accuracy task);
- the whole rubric for the reference solution, with and without the accuracy task;
- a batch of right submissions, one of them with an endless loop in `iterative_prune`, on one worker and on two, by
  `hw7-grade run` without the accuracy task;
- the same batch with the same checks as nbgrader runs them (a notebook with a test cell for each task), and as pytest
  does in a cold process for each submission. Neither has a jail, and a wrong value there ends its task at once.

With --against another checkout of this project (DIR) is measured too, in the same run and in turns, each measurement
in a process of its own: of so many rounds the medians, and the median of the rounds' ratios. "All cores" is the
processor time of all processes of a run.

With --attacks only the memory of the trusted side is measured, over all attacks of tests/attacks whose names match
PATTERN: each is read and graded by the course's rubric in a fresh worker, a fork of one that has all its questions and
images. What counts is the most that this process held at once (VmHWM); jailed processes do not.
"""

import argparse
import csv
import json
import multiprocessing
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import tomli_w
import torch
from tabulate import tabulate

from autograder.grading import grade_submission, hidden_cases, hidden_images
from autograder.intake.layouts import find_submissions
from autograder.intake.submission import Submission, take_in
from autograder.jail import Jail, best_tier
from autograder.rubric import DEFAULT_RUBRIC, Rubric, load_rubric
from autograder.tasks import final
from autograder.tasks.hidden import Hidden
from hw7.checks.calls.contract import LazySolution
from hw7.checks.calls.run import run_call
from hw7.checks.cases import Call
from hw7.solution import PROJECT, load_solution

REFERENCE = PROJECT / "reference_solutions" / "hw7"
LOOP = "\n\ndef iterative_prune(*arguments):  # no other task calls it\n    while True:\n        pass\n"
HIDDEN = Hidden(b"benchmark")


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall, and of all cores in this process and the children that it has waited for."""
    before, start = os.times(), time.perf_counter()
    function()
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


def without_accuracy(folder: Path, limit: float) -> Rubric:
    """The course's rubric without its last two tasks; their points go to the first, so that 100 remain."""
    table = tomllib.loads(DEFAULT_RUBRIC.read_text())
    kept = [task for task in table["task"] if task["check"] not in final.CHECKS]
    first = next(iter(kept[0]["points"]))
    kept[0]["points"][first] += 100 - sum(sum(task["points"].values()) for task in kept)
    for task in kept:
        task["seconds"] = limit
    path = folder / "rubric.toml"
    path.write_text(tomli_w.dumps({"task": kept}))
    return load_rubric(path)


def class_of(count: int, folder: Path, loop: bool = False) -> Path:
    """So many copies of the reference solution; with `loop`, one never comes back from `select_channels`."""
    for index in range(count):
        endless = loop and index == count // 2
        student = folder / f"student-{index:02}{'-loop' * endless}"
        shutil.copytree(REFERENCE / "solution", student / "solution", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REFERENCE / "weights.safetensors", student)
        if endless:
            with (student / "solution" / "pruning.py").open("a") as file:
                file.write(LOOP)
    return folder


def reference_submission(folder: Path) -> Submission:
    return take_in(find_submissions(class_of(1, folder / "one")).found[0])


# ---- the jail and the rubric -----------------------------------------------------------------------------------


def jail_overhead(jail: Jail, submission: Submission, repeat: int) -> list[float]:
    """Milliseconds from asking for a process to its end, less what its one question takes without a jail."""
    call = Call("import_module", {"module": ""})

    def once() -> None:
        with jail.child(submission.files) as child:
            (answer,) = child.ask([call], 10.0)
            assert answer.status == 0, answer

    once()
    load_solution(REFERENCE)
    inside = statistics.median(timed(lambda: run_call(LazySolution(), call))[0] for _ in range(repeat))
    return [1000 * (timed(once)[0] - inside) for _ in range(repeat)]


def rubric_rows(jail: Jail, submission: Submission, rubric: Rubric, short: Rubric, repeat: int) -> list[list[str]]:
    rows = []
    for name, each, parts in (("without the accuracy task", short, 3), ("whole, accuracy included", rubric, 4)):
        hidden_cases(each, HIDDEN)
        if (task := each.of_check("accuracy")) is not None:
            hidden_images(HIDDEN, int(task.parameters["images"]))
        grade = grade_submission(submission, each, HIDDEN, jail)
        assert grade.total == grade.out_of == 100, [task for task in grade.tasks if task.points < task.out_of]
        walls = [timed(lambda each=each: grade_submission(submission, each, HIDDEN, jail))[0] for _ in range(repeat)]
        rows.append([name, f"{parts}", f"{statistics.median(walls):.2f} s", f"{max(walls):.2f} s"])
    return rows


# ---- batches ---------------------------------------------------------------------------------------------------


def hw7_grade(submissions: Path, out: Path, rubric: Rubric, jobs: int, tier: str) -> tuple[float, float, list[float]]:
    """Seconds of `hw7-grade run`, its start included, on the wall and of all cores, and those of each submission."""
    command = [sys.executable, "-c", "from autograder.cli import app; app()", "run", str(submissions)]
    choices = {"out": out, "jobs": jobs, "rubric": rubric.path, "tier": tier}
    command += [part for name, value in choices.items() for part in (f"--{name}", str(value))]
    wall, computed = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    # From the files, which an older checkout has as well.
    with (out / "grades.csv").open(newline="", encoding="utf-8") as file:
        totals = {row["student"]: float(row["total"]) for row in csv.DictReader(file)}
    assert totals.keys() == {student.name for student in submissions.iterdir()}
    assert all(total == 100 or "loop" in student for student, total in totals.items()), totals
    lines = map(json.loads, (out / "journal.jsonl").read_text(encoding="utf-8").splitlines())
    return wall, computed, [line["seconds"] for line in lines if "seconds" in line]


CHECK_TASK = """
import sys
sys.path.insert(0, {solution!r})
from autograder.grading import hidden_cases
from autograder.rubric import load_rubric
from autograder.tasks import final
from autograder.tasks.hidden import Hidden
from hw7.checks.calls.contract import LazySolution
from hw7.checks.calls.run import run_call
from hw7.checks.scoring import AnswerSheet

CASES = hidden_cases(load_rubric({rubric!r}), Hidden(b"benchmark"))


def check(task):
    sheet = AnswerSheet(CASES[task])
    halves = sheet.add(sheet.calls, (run_call(LazySolution(), call) for call in sheet.calls))
    sheet.add_second(halves, (run_call(LazySolution(), half.call) for half in halves))
    assert sheet.verdicts == {{"RIGHT"}}, sheet.named()
"""


def nbgrader(submissions: Path, course: Path, rubric: Rubric, limit: float) -> float:
    """Seconds of `nbgrader autograde`: a notebook with one locked test cell for each task, the loop cut off by its
    cell timeout."""
    import nbformat
    from nbformat import v4

    def cell(name: str, source: str, grade: bool) -> nbformat.NotebookNode:
        mark = {"grade": grade, "solution": False, "locked": True, "schema_version": 3, "grade_id": name, "task": False}
        return v4.new_code_cell(source, metadata={"nbgrader": mark | ({"points": 1} if grade else {})}, id=name)

    start = CHECK_TASK.format(solution=".", rubric=str(rubric.path))
    cells = [cell("start", start, False)]
    cells += [cell(f"task-{task.id.replace('.', '-')}", f"check({task.id!r})", True) for task in rubric.tasks]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = v4.new_notebook(cells=cells, metadata=kernel)
    source = course / "source" / "hw7"
    source.mkdir(parents=True)
    nbformat.write(notebook, source / "hw7.ipynb")
    (course / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        "c.CourseDirectory.course_id = 'benchmark'\n"
        f"c.ExecutePreprocessor.timeout = {int(limit)}\n"
        "c.ExecutePreprocessor.interrupt_on_timeout = True\n"
    )

    def run(*words: str) -> None:
        # A gradebook is made by a program of its own, which nbgrader looks for on the PATH.
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        command = [sys.executable, "-m", "nbgrader", *words]
        subprocess.run(command, cwd=course, env=environment, capture_output=True, check=False)

    run("generate_assignment", "hw7")
    for student in sorted(submissions.iterdir()):
        place = course / "submitted" / student.name / "hw7"
        shutil.copytree(student, place)
        shutil.copy(course / "release" / "hw7" / "hw7.ipynb", place)
    wall, _ = timed(lambda: run("autograde", "hw7"))
    graded = len(list((course / "autograded").glob("*/hw7/hw7.ipynb")))
    assert graded == len(list(submissions.iterdir())), f"nbgrader graded {graded}"
    return wall


def cold_pytest(submissions: Path, folder: Path, rubric: Rubric, limit: float) -> float:
    """Seconds of one cold `pytest` for each submission; the one with the loop is killed, and has no grade."""

    def all_of_them() -> None:
        for student in sorted(submissions.iterdir()):
            test = folder / f"test_{student.name.replace('-', '_')}.py"
            tasks = [task.id for task in rubric.tasks]
            test.write_text(
                CHECK_TASK.format(solution=str(student), rubric=str(rubric.path))
                + textwrap.dedent(f"""
                import pytest

                @pytest.mark.parametrize("task", {tasks!r})
                def test_task(task):
                    check(task)
                """)
            )
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
            try:
                subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=limit + 5)
            except subprocess.TimeoutExpired:
                continue

    return timed(all_of_them)[0]


# ---- before and after ------------------------------------------------------------------------------------------


def measured(tier: str, options: argparse.Namespace) -> dict[str, float]:
    """What this checkout takes, once, by the name of each line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        submission, short = reference_submission(folder), without_accuracy(folder, options.limit)
        with Jail(tier) as jail:
            process = statistics.median(jail_overhead(jail, submission, options.repeat))
            rows = rubric_rows(jail, submission, load_rubric(), short, 1)
        found = {"a process of the jail, beyond its work, ms": process, "with accuracy: 4, ms": 4 * process}
        found |= {f"the rubric {row[0]}, s": float(row[2].split()[0]) for row in rows}
        submissions = class_of(options.submissions, folder / "class", loop=True)
        for jobs in (1, 2):
            wall, computed, _ = hw7_grade(submissions, folder / f"out-{jobs}", short, jobs, tier)
            found |= {f"the batch, workers: {jobs}, s": wall, f"the same, all cores, workers: {jobs}, s": computed}
    one, two = (found[f"the batch, workers: {jobs}, s"] for jobs in (1, 2))
    return found | {"two workers as fast as one, times": one / two}


def against(other: Path, options: argparse.Namespace) -> None:
    """Prints what the other checkout takes (before) and this one (after)."""
    rounds: dict[Path, list[dict[str, float]]] = {other.resolve(): [], PROJECT: []}
    words = [f"--{name}={getattr(options, name)}" for name in ("submissions", "limit", "repeat")]
    for number in range(options.rounds):
        for checkout in list(rounds)[:: -1 if number % 2 else 1]:
            environment = os.environ | {"PYTHONPATH": str(checkout)}
            command = [sys.executable, __file__, "--once", *words]
            said = subprocess.run(command, env=environment, cwd=checkout, check=True, stdout=subprocess.PIPE).stdout
            rounds[checkout].append(json.loads(said))
            print(f"round {number + 1}, {checkout}: {said.decode().strip()}", file=sys.stderr, flush=True)
    before, after = rounds.values()
    rows = []
    for name in after[0]:
        old, new = ([each[name] for each in found] for found in (before, after))
        ratio = statistics.median(b / a for a, b in zip(old, new, strict=True))
        rows.append([name, f"{statistics.median(old):.2f}", f"{statistics.median(new):.2f}", f"{ratio:.2f}"])
    headers = (f"medians of {options.rounds}", "before", "after", "after / before")
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))


# ---- the memory of the trusted side ----------------------------------------------------------------------------


def graded_apart(folder: Path, rubric: Rubric, tier: str) -> tuple[float, float, float]:
    """MiB that a fresh worker held before it graded this submission, and at most; seconds that it computed itself."""

    def mebibytes(name: str) -> float:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        (number,) = re.findall(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
        return int(number) / 1024

    before, start = mebibytes("VmRSS"), time.process_time()
    with Jail(tier) as jail:
        for found in find_submissions(folder, layout="one").found:
            grade_submission(take_in(found), rubric, HIDDEN, jail)
    return before, mebibytes("VmHWM"), time.process_time() - start


def memory(pattern: str, tier: str) -> None:
    """Prints what the honest submission and each attack take, and the five that take most."""
    sys.path.insert(0, str(PROJECT / "tests"))
    from hostile import HONEST, attacks, laid_out

    rubric = load_rubric()
    hidden_cases(rubric, HIDDEN)
    hidden_images(HIDDEN, int(rubric.of_check("accuracy").parameters["images"]))
    chosen = [attack for attack in attacks() if re.search(pattern, attack.id)]
    taken = {}
    with laid_out(chosen) as submissions:
        for place in sorted(submissions.iterdir()):
            with multiprocessing.get_context("fork").Pool(1) as pool:
                taken[place.stem] = before, most, seconds = pool.apply(graded_apart, (place, rubric, tier))
            print(f"{place.stem}: {before:.0f} MiB, then {most:.0f}; {seconds:.1f} s", file=sys.stderr, flush=True)
    names = [HONEST[0], *sorted(taken.keys() - set(HONEST), key=lambda name: -taken[name][1])]
    rows = [[name, f"{most:.0f} MiB", f"{most - before:.0f} MiB", f"{seconds:.1f} s"]
            for name in names[:6] for before, most, seconds in [taken[name]]]  # fmt: skip
    headers = (f"{len(chosen)} attacks, the five of most memory", "at most", "beyond its start", "computed")
    print(tabulate(rows, headers=headers, tablefmt="github"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=20)
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for each task")
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--skip-others", action="store_true", help="leave out nbgrader and pytest")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, measured in turns with this one")
    parser.add_argument("--rounds", type=int, default=3, help="with --against")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)  # one measurement of a round, as JSON
    parser.add_argument("--attacks", nargs="?", const="", metavar="PATTERN", help="only the memory, over these attacks")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    tier = best_tier()[0]
    if options.once:
        print(json.dumps(measured(tier, options)))
        return

    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, tier {tier}\n")
    if options.attacks is not None:
        memory(options.attacks, tier)
        return
    if options.against is not None:
        against(options.against, options)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        submission = reference_submission(folder)
        short = without_accuracy(folder, options.limit)
        with Jail(tier) as jail:
            spent = jail_overhead(jail, submission, options.repeat)
            median = statistics.median(spent)
            rows = [
                ["a process of the jail, beyond its work", f"{median:.1f} ms", f"{max(spent):.1f} ms"],
                ["the processes of a right submission without accuracy: 3", f"{3 * median:.1f} ms", ""],
                ["with accuracy: 4", f"{4 * median:.1f} ms", ""],
            ]
            print(tabulate(rows, headers=("the jail, warm", "median", "worst"), tablefmt="github"), "\n")
            rows = rubric_rows(jail, submission, load_rubric(), short, max(3, options.repeat // 3))
            headers: tuple[str, ...] = ("the rubric, one core", "processes", "median", "worst")
            print(tabulate(rows, headers=headers, tablefmt="github"), "\n")

        count, limit = options.submissions, options.limit
        submissions = class_of(count, folder / "class", loop=True)
        rows = []
        one, _, seconds = hw7_grade(submissions, folder / "out-1", short, 1, tier)
        allowed = limit + count * statistics.median(seconds) + 3
        rows.append(["hw7-grade run, 1 worker", f"{one:.1f} s", f"{count} grades; at most {allowed:.1f} s allowed"])
        two, *_ = hw7_grade(submissions, folder / "out-2", short, 2, tier)
        rows.append(["hw7-grade run, 2 workers", f"{two:.1f} s", f"{one / two:.2f} times as fast"])
        if not options.skip_others:
            cold = folder / "pytest"
            cold.mkdir()
            wall = nbgrader(submissions, folder / "course", short, limit)
            rows.append(["nbgrader autograde", f"{wall:.1f} s", f"{wall / one:.1f} times ours"])
            wall = cold_pytest(submissions, cold, short, limit)
            rows.append(
                ["pytest, a cold process each", f"{wall:.1f} s", f"{wall / one:.1f} times ours, one grade lost"]
            )
        headers = (f"{count} submissions, one endless loop, {limit:g} s a task", "total", "")
        print(tabulate(rows, headers=headers, tablefmt="github"))


if __name__ == "__main__":
    main()
