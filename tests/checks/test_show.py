"""`hw7 check TASK --show CASE`: every public case as a program that runs on its own and says what the test says."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from click.testing import Result
from submissions import Entry, answered, mutants, reference_files, write
from typer.testing import CliRunner

from hw7 import HW7Error
from hw7.checks import public, show, shown
from hw7.checks.cases import Call, Case, Verdict
from hw7.checks.public import TESTS, Checks, format_task, next_step
from hw7.checks.storage import load_cases, save_cases
from hw7.checks.tensors import bytes_of
from hw7.cli import cli
from hw7.solution import PROJECT, default_directory, select_solution

REFERENCE = PROJECT / "reference_solutions" / "hw7"
CHECKS = Checks.of(REFERENCE)
TASKS = [task.id for task in CHECKS.tasks if task.has_cases]


@pytest.fixture(autouse=True)
def _files_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (public, shown):
        monkeypatch.setattr(module, "load_cases", read_once)


@cache
def read_once(path: Path) -> tuple[Case, ...]:
    return tuple(load_cases(path))


def cases(task: str) -> tuple[Case, ...]:
    return read_once(TESTS / "cases" / f"{task}.safetensors")


def ran(text: str, directory: Path) -> str:
    """What a program prints, in this process, and after it the exception that ended it."""
    path = list(sys.path)
    select_solution(directory)  # forgets the last one
    out = io.StringIO()
    with contextlib.redirect_stdout(out), torch.random.fork_rng():
        try:
            exec(compile(text, "case.py", "exec"), {"__name__": "__main__"})
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    sys.path[:] = path
    return out.getvalue()


def last(said: str) -> str:
    return said.splitlines()[-1]


@pytest.mark.parametrize("task", TASKS)
def test_every_case_of_the_reference_is_right_as_a_program(task: str) -> None:
    for case in cases(task):
        text = CHECKS.show(task, case.name)
        assert text.isascii()
        said = ran(text, REFERENCE)
        assert last(said) == "right", f"{case.name}:\n{text}\n{said}"
        assert "expected" in said
        assert said.isascii()


def disagreements(entry: Entry, directory: Path) -> list[str]:
    """The cases of which the program of a wrong solution says something else than the test."""
    checks = Checks.of(write(entry.files, None, directory))
    outcomes = answered(entry.files, cases(entry.task)).outcomes
    found = []
    for case in cases(entry.task):
        said = ran(checks.show(entry.task, case.name), directory)
        same = (last(said) == "right") == (outcomes[case.name].verdict is Verdict.RIGHT)
        if not same:  # a program asks nothing before its own question, which a submission may remember
            outcome = answered(entry.files, [case]).outcomes[case.name]
            same = (last(said) == "right") == (outcome.verdict is Verdict.RIGHT)
        if not same:
            found.append(f"{entry.id}, {case.name}: the test says {outcome}, the program\n{said}")
    return found


WRONG = [each for each in mutants() if each.task in TASKS and "not-imported" not in each.mistakes]
# A factor, a file that comes back, a network that is changed, a case that only another order of questions shows.
FAST = ("2.1-mean-over-classes", "3.4-remembers-the-longest", "4.1-symmetric", "2.2-nothing-returned")


@pytest.mark.parametrize(
    "entry",
    [pytest.param(each, id=each.id, marks=() if each.id in FAST else pytest.mark.slow) for each in WRONG],
)
def test_a_program_says_what_the_test_says(entry: Entry, tmp_path: Path) -> None:
    assert disagreements(entry, tmp_path) == []


def wrong(id_: str, directory: Path) -> Checks:
    (mutant,) = [each for each in WRONG if each.id == id_]
    return Checks.of(write(mutant.files, None, directory))


def test_a_wrong_answer_is_shown_in_numbers(tmp_path: Path) -> None:
    checks = wrong("2.1-mean-over-classes", tmp_path)
    said = ran(checks.show("2.1", "loss, T = 1"), tmp_path)
    assert "  expected  2.21554\n  got       1.96625\n" in said
    said = ran(checks.show("2.1", "gradient, T = 1"), tmp_path)
    assert re.search(r"expected  at \[\d, \d\]: \S+, in \[.*\n  got       at \[\d, \d\]: ", said)
    assert last(said) == "wrong"


def test_a_stub_ends_with_its_own_exception(tmp_path: Path) -> None:
    said = ran(Checks.of(PROJECT / "assignments" / "hw7").show("3.1", "one channel"), PROJECT / "assignments" / "hw7")
    assert last(said) == "NotImplementedError: Task 3.1: channel_importance"


@pytest.mark.parametrize("inside", [True, False], ids=["in the homework's folder", "elsewhere"])
def test_a_program_runs_on_its_own(inside: bool, tmp_path: Path) -> None:
    """In a folder whose name is not ASCII, has spaces and what looks like an escape."""
    name, task, case = "Zo\u00eb's \\new homework", "4.1", "one entry"
    homework = write(reference_files(), None, tmp_path / name)
    place = homework if inside else tmp_path
    (place / "case.py").write_bytes(Checks.of(homework).show(task, case).encode("ascii"))
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "case.py"]
    result = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert last(result.stdout) == "right"


def test_small_inputs_stand_there_and_long_ones_are_read() -> None:
    text = CHECKS.show("2.1", "loss, T = 1")
    assert "temperature = 1.0\nalpha = 0.3\n" in text
    assert "kd_loss(student, teacher, labels, temperature, alpha)" in text
    assert 'case["' not in text
    assert "# Expected: the loss = 2.21554" in text
    assert 'student = case["student"]  # float32 [9, 11]' in CHECKS.show("2.1", "loss, default temperature and alpha")
    assert "images(seed, " in CHECKS.show("1.1", "output, default stride")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([0.1, 1e-45, 3.4e38, -0.0, torch.inf, torch.nan]),
        torch.tensor([[0.1, 1e-300], [1 / 3, -2.0]], dtype=torch.float64),
        torch.tensor([0.1, 65504.0], dtype=torch.float16),
        torch.tensor([0.1, 3e38], dtype=torch.bfloat16),
        torch.randn(50, generator=torch.Generator().manual_seed(0)),
        torch.tensor([2**62 + 1, -1]),
        torch.tensor([[True], [False]]),
        torch.tensor(7, dtype=torch.int16),
        torch.zeros(0, 3, dtype=torch.uint8),
    ],
    ids=lambda tensor: f"{tensor.dtype} {list(tensor.shape)}",
)
def test_nothing_of_a_number_is_lost(tensor: torch.Tensor) -> None:
    back = eval(show._literal(tensor))
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert bytes_of(back).equal(bytes_of(tensor))


@pytest.mark.parametrize("text", ["C:\\new\\Users", 'say "so"', "Zo\u00eb", "\U0001f600", "a 'quoted' one"])
def test_a_text_is_the_same_in_a_program(text: str) -> None:
    assert eval(show.quoted(text)) == text
    assert show.quoted(text).isascii()


def test_a_call_without_a_template_is_called_as_it_is(tmp_path: Path) -> None:
    """As one of a task that somebody adds."""
    inputs = {"q": torch.tensor([0, 3], dtype=torch.uint8), "scale": torch.tensor(0.5), "zero_point": torch.tensor(1.0)}
    expected = {"the weight": torch.tensor([-0.5, 1.0]), **inputs}
    case = Case("4.1", "new", "a new case", Call("dequantize", inputs), "values", expected)
    for name, wanted in (("right", case), ("wrong", replace(case, expected={**expected, "scale": torch.tensor(2.0)}))):
        save_cases([wanted], tmp_path / name)
        said = ran(show.program(CHECKS.task("4.1"), wanted, tmp_path / name, REFERENCE), REFERENCE)
        assert last(said) == name, said


# ---- how one comes to it -----------------------------------------------------------------------------------------


def typed(command: str) -> Result:
    """A command that the tests print, pasted into a shell."""
    program, *words = shlex.split(command)
    assert program == "hw7"
    return CliRunner().invoke(cli, words)


@pytest.mark.parametrize("task", ["2.1", "3.2"])
def test_every_failure_ends_with_the_command_that_shows_it(task: str, tmp_path: Path) -> None:
    checks = Checks.of(write(dict.fromkeys(reference_files(), b""), None, tmp_path))
    assert not any(part.right for part in checks.check(task))
    said = [checks.explain(task, part) for part in checks.check(task)]
    for text in (*said, format_task(checks, task), next_step(checks, [task])):
        before, _, command = last(text).partition("See it as a program: ")
        assert before == ""
        assert f'--solution "{tmp_path}"' in command
        shown = typed(command)
        assert shown.exit_code == 0, shown.output
        assert command in shown.output
        compile(shown.output, "case.py", "exec")


def test_a_folder_is_named_only_where_it_is_not_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert show.show_command("2.1", "a case", default_directory()) == 'hw7 check 2.1 --show "a case"'
    assert show.show_command("2.1", "a case", tmp_path) == f'hw7 check 2.1 --show "a case" --solution "{tmp_path}"'
    monkeypatch.setattr("hw7.solution.PROJECT", tmp_path)  # installed without an assignment: no folder is one's own
    assert "--solution" in show.show_command("2.1", "a case", tmp_path)


def test_names_can_be_pasted_into_any_shell() -> None:
    names = [case.name for task in TASKS for case in cases(task)]
    assert [name for name in names if not name.isascii() or set(name) & set('"$`\\!%^')] == []


def test_the_network_that_is_handed_in_has_no_program(tmp_path: Path) -> None:
    checks = Checks.of(write(reference_files(), None, tmp_path))
    for part in checks.check("5.1"):
        assert not part.right
        assert "--show" not in checks.explain("5.1", part)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("hw7 check 2.1 --show list", r"task 2\.1 has no case 'list'; it has\n(  .*\n)*  loss, T = 4, alpha = 0\n"),
        ("hw7 check 2.1 --show 'loss T=1'", r"it has\n  loss, T = 1\n"),
        ("hw7 check --show 'loss, T = 1'", r"--show needs the task, too: hw7 check 2\.1 --show "),
        ("hw7 check 5.2 --show x", r"task 5\.2 has no cases"),
        ("hw7 check 9.9 --show x", r"there is no task '9\.9'"),
        ("hw7 check own-test --show x", r"there is no task 'own-test'"),
    ],
)
def test_what_cannot_be_shown_says_why(command: str, said: str) -> None:
    result = typed(command)
    assert isinstance(result.exception, HW7Error)
    assert re.search(said, f"{result.exception}\n")
