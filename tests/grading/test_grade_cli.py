"""The `hw7-grade` command: what a teacher types, what is printed, and what cannot go wrong quietly."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import made_up_grades
import pytest
import typer.main
from made_up_class import Class
from typer.testing import CliRunner

from autograder import batch, cli, worker
from autograder.cli.options import TierName
from autograder.cli.run import _tier
from autograder.intake.submission import Submission
from autograder.journal import Journal, journal_name
from autograder.rubric import load_rubric
from hw7 import HW7Error
from hw7.checks.cases import Verdict
from hw7.solution import PROJECT


def call(*words: object) -> str:
    """What the command prints, both streams; raises what it raises."""
    result = CliRunner().invoke(cli.cli, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*words: object) -> str:
    with pytest.raises(HW7Error) as caught:
        call(*words)
    return str(caught.value)


@pytest.fixture
def made(a_class: Class) -> Class:
    """A class with grades."""
    a_class.run(jobs=1)
    return a_class


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hw7-grade run` with made-up grades, in threads, and a jail that is said to work."""
    from concurrent.futures import ThreadPoolExecutor

    from made_up_class import made_up

    real = batch.run

    def run(*arguments: object, **options: object) -> batch.RunReport:
        with ThreadPoolExecutor(2) as executor:
            return real(*arguments, **{**options, "grade": made_up, "executor": executor})  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "run", run)
    monkeypatch.setattr("autograder.cli.run._tier", lambda asked, out: "D" if asked == "D" else "A")


@pytest.mark.usefixtures("fast")
def test_run_and_run_again(a_class: Class) -> None:
    words = ("run", a_class.submissions, "--out", a_class.out, "--rubric", a_class.out.parent / "rubric.toml")
    assert "12 of 12 students have a grade" in call(*words)
    again = call(*words)
    assert "12 of 12" in again
    assert "0 of them new" in again
    assert "0 of them new" not in call(*words, "--timeout", 1)
    assert len(a_class.csv()) == 12


@pytest.mark.usefixtures("fast")
def test_run_with_a_seed_of_ones_own(a_class: Class, tmp_path: Path) -> None:
    for name in ("mine", "other"):
        call("new-seed", tmp_path / name)
    words = ("run", a_class.submissions, "--out", a_class.out, "--rubric", a_class.out.parent / "rubric.toml")
    assert "12 of them new" in call(*words, "--hidden-seed-file", tmp_path / "mine")
    assert "0 of them new" in call(*words, "--hidden-seed-file", tmp_path / "mine")
    assert "0 of them new" in call(*words)
    assert "another seed" in refusal(*words, "--hidden-seed-file", tmp_path / "other")
    assert "could be guessed" in refusal(*words, "--hidden-seed-file", a_class.out.parent / "rubric.toml")


def test_another_run_is_told_before_anything_slow(tmp_path: Path) -> None:
    """Torch takes up to half a minute to import on a busy machine, and the jail's self-test as long."""
    code = (
        "import sys\nfrom autograder.cli import app\nsys.argv[0] = 'hw7-grade'\n"
        "try:\n    app()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    with Journal(tmp_path / "out" / journal_name()):
        command = [sys.executable, "-c", code, "run", tmp_path, "--out", tmp_path / "out"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "False\n")
    assert done.stderr.startswith("hw7-grade: another run is writing to ")
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("fast")
def test_run_in_shards(a_class: Class) -> None:
    words = ("run", a_class.submissions, "--out", a_class.out, "--rubric", a_class.out.parent / "rubric.toml")
    assert "4 of 12 students" in call(*words, "--shard", "0/3")
    assert "8 of 12 students" in call(*words, "--shard", "2/3")
    for wrong in ("3/3", "1", "-1/3", "a/b", "1/0"):
        assert "say I/N" in refusal(*words, "--shard", wrong)


@pytest.mark.usefixtures("fast")
def test_grades_without_security_say_so_everywhere(a_class: Class) -> None:
    words = ("run", a_class.submissions, "--out", a_class.out, "--rubric", a_class.out.parent / "rubric.toml")
    assert "not secure" in call(*words, "--tier", "D")
    assert all("not secure" in row["remarks"] for row in a_class.csv().values())
    assert "not secure" in call("show", "student03", "--out", a_class.out)


@pytest.mark.usefixtures("fast")
def test_failures_of_the_grader_are_told_and_not_taken_for_success(a_class: Class) -> None:
    a_class.hand_in(student04="raise")
    words = ["run", a_class.submissions, "--out", a_class.out, "--rubric", a_class.out.parent / "rubric.toml"]
    result = CliRunner().invoke(cli.cli, [str(word) for word in words])
    assert result.exit_code == 1
    assert "student04" in result.output
    assert "a bug of ours" not in call("show", "student04", "--out", a_class.out)
    assert "a bug of ours" in call("show", "student04", "--out", a_class.out, "--teacher")


@pytest.mark.usefixtures("fast")
def test_what_is_not_taken_is_told_and_is_no_success(a_class: Class) -> None:
    (a_class.submissions / "notes.txt").write_text("")
    roster = a_class.submissions / "roster.csv"
    roster.write_text("id,name\nstudent03,Ann Lee\nstudent99,Bob Ray\n")
    words = ["run", a_class.submissions, "--out", a_class.submissions / "graded", "--roster", roster]
    words += ["--rubric", a_class.out.parent / "rubric.toml"]
    result = CliRunner().invoke(cli.cli, [str(word) for word in words])
    assert result.exit_code == 1
    assert "12 of 12 students have a grade" in result.output
    assert "not taken: notes.txt, because it is neither a folder nor a zip" in result.output
    assert "handed in nothing: student99 (Bob Ray)" in result.output
    assert "not on the roster, graded all the same: student00" in result.output
    (a_class.submissions / "notes.txt").unlink()
    assert "12 submissions, layout folders" in call(*words)


def test_export(made: Class) -> None:
    assert "12 students" in call("export", "--to", "csv", "--out", made.out)
    exported = made.out / "exports" / "csv" / "grades.csv"
    assert exported.read_bytes() == (made.out / "grades.csv").read_bytes()
    call("export", "--to", "csv", "--out", made.out, "--target", made.out / "other.csv")
    assert (made.out / "other.csv").read_bytes() == exported.read_bytes()
    assert len(list((made.out / "exports").iterdir())) == 1
    call("export", "--to", "gradescope", "--out", made.out)
    call("export", "--to", "html", "--out", made.out)
    assert len(list((made.out / "exports" / "gradescope").glob("*.json"))) == 12


def test_export_says_who_is_missing(made: Class) -> None:
    made.hand_in(student05="refuse")
    made.hand_in(student99="refuse")
    with pytest.raises(HW7Error):
        made.run(jobs=1)
    assert "1 student has no grade" in call("export", "--to", "csv", "--out", made.out)


# ---- show -----------------------------------------------------------------------------------------------------


def test_show(made: Class) -> None:
    text = call("show", "student03", "--out", made.out)
    assert text.startswith("student03: ")
    assert "of 100 points, tier A" in text
    assert "gradient" in text
    assert "process" not in text  # what its code printed
    assert "process" in call("show", "student03", "--out", made.out, "--teacher")
    assert call("show", "ENT03", "--out", made.out) == text
    assert "may be student00, student01" in refusal("show", "student0", "--out", made.out)
    assert "no student 'nobody'" in refusal("show", "nobody", "--out", made.out)
    assert "no grades" in refusal("show", "student03", "--out", made.out / "elsewhere")


def test_only_teachers_see_notes_and_output() -> None:
    grade = replace(made_up_grades.grade("a", 0.0, tuple(Verdict)[1:]), output="TEACHERS-ONLY: printed\nfour\twords")
    assert "TEACHERS-ONLY" not in cli.format_grade(grade)
    teacher = cli.format_grade(grade, teacher=True)
    assert teacher.count("TEACHERS-ONLY") == 1 + sum(len(task.parts) for task in grade.tasks)
    assert r"  | four\twords" in teacher


@pytest.mark.parametrize("text", made_up_grades.HOSTILE)
@pytest.mark.parametrize("teacher", [False, True])
def test_nothing_steers_the_terminal(text: str, teacher: bool) -> None:
    grade = replace(made_up_grades.hostile(text), problem=text)
    shown = cli.format_grade(grade, teacher)
    assert all(char.isprintable() or char == "\n" for char in shown)
    shown.encode()  # no lone surrogates


def test_the_right_answer_needs_no_words() -> None:
    shown = cli.format_grade(made_up_grades.grade("a"))
    assert shown.splitlines()[0] == "a: 100 of 100 points, tier A"
    assert "WRONG" not in shown


# ---- the tier -------------------------------------------------------------------------------------------------

REASONS = {"A": "no namespaces", "B": "bubblewrap is not installed", "C": "works", "D": "works"}


@pytest.fixture
def tiers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine on which only C works."""
    from autograder import jail

    reasons = dict(REASONS)
    best = lambda: next(tier for tier, reason in reasons.items() if reason == "works")  # noqa: E731
    monkeypatch.setattr(jail, "best_tier", lambda: (best(), reasons), raising=False)
    return reasons


def test_the_best_tier_is_taken(tiers: dict[str, str], tmp_path: Path) -> None:
    assert _tier(None, tmp_path) == "C"
    assert _tier(TierName.A, tmp_path) == "A"  # which the workers will refuse, if it does not work


def test_a_folder_keeps_its_tier(tiers: dict[str, str], made: Class) -> None:
    """Or the next run, where another one is the best, would grade everything again without a word."""
    assert _tier(None, made.out) == "A"
    assert _tier(TierName.C, made.out) == "C"


def test_tier_d_only_by_name(tiers: dict[str, str], a_class: Class) -> None:
    assert _tier(TierName.D, a_class.out) == "D"
    tiers["C"] = "no Landlock"
    with pytest.raises(HW7Error, match=r"no Landlock.*--tier D"):
        _tier(None, a_class.out)
    a_class.run(replace(a_class.settings, tier="D"), jobs=1)
    with pytest.raises(HW7Error, match=r"no Landlock.*--tier D"):
        _tier(None, a_class.out)


# ---- the command as it is installed ---------------------------------------------------------------------------


def test_errors_are_one_plain_line(tmp_path: Path) -> None:
    (tmp_path / "rubric.toml").write_text("[[task]]\n")
    words = ["run", str(tmp_path), "--out", str(tmp_path / "out"), "--rubric", str(tmp_path / "rubric.toml")]
    command = [Path(sys.executable).parent / "hw7-grade", *words]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("hw7-grade: the rubric ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["submissions", "roster"])
def test_what_is_not_there_is_said_before_out_is_made(a_class: Class, tmp_path: Path, what: str) -> None:
    out, gone = tmp_path / "no out", tmp_path / "gone"
    words = ["run", gone if what == "submissions" else a_class.submissions, "--out", out, "--tier", "A"]
    assert "gone" in refusal(*words, "--roster", gone)
    assert not out.exists()


def test_images_that_are_not_there_are_said_before_anything_is_graded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the worker, which reads them."""
    monkeypatch.setattr("autograder.jail.Jail", lambda tier, **_: SimpleNamespace(tier=tier, start=lambda: None))
    monkeypatch.setattr(worker, "_this_thread", SimpleNamespace())
    settings = worker.Settings(load_rubric(), bytes(32), f"food11:{tmp_path / 'gone'}", "D")
    with pytest.raises(HW7Error, match="gone"):
        worker.grade_one(Submission("ada"), settings)


def test_the_coordinator_needs_no_torch() -> None:
    """It would cost a second at each start, and hundreds of megabytes."""
    code = "import sys, autograder.cli, autograder.batch; print('torch' in sys.modules, 'numpy' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "False"]


def documented() -> list[list[str]]:
    """The words after `hw7-grade` of every command in the docs' shell blocks."""
    found = []
    for page in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]:
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                names = [word.split("/")[-1] for word in words]
                if "hw7-grade" in names:
                    found.append(words[names.index("hw7-grade") + 1 :])
    return found


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_every_command_in_the_docs_is_understood(words: list[str]) -> None:
    group = typer.main.get_command(cli.cli)
    group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]


def test_every_command_has_help() -> None:
    for name in ("run", "show", "export", "doctor", "release", "gradescope-image"):
        assert name in call("--help")
        assert call(name, "--help")
