"""An appeal: one hidden case with the files that were graded, for the teacher alone, or a plain reason why not."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made_up_grades
import pytest
from submissions import reference_files, write

from autograder.course.appeal import Appeal, write_case
from autograder.intake.layouts import find_submissions
from autograder.intake.submission import take_in
from autograder.jail import best_tier
from autograder.journal import Journal, current_marks, journal_name
from autograder.rubric import load_rubric, rubric_digest
from autograder.tasks.hidden import Hidden, new_seed, read_seed, stretched, write_seed
from hw7 import HW7Error

Ask = Callable[..., Appeal]
RAISES = b"\n\ndef channel_importance(bn):\n    raise RuntimeError('\\x1b[31m\\u202eit is\\nred')\n"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """OUT of a run that graded one student, whose task 3.1 raises."""
    files = dict(reference_files())
    files["solution/pruning.py"] += RAISES
    write(files, None, tmp_path / "submissions" / "ada")
    out = made_up_grades.a_folder(tmp_path / "out", 1)
    write_seed(out / "hidden-seed", new_seed())
    hidden = Hidden(stretched(read_seed(out / "hidden-seed"))).digest()
    rubric = load_rubric()
    submission = take_in(find_submissions(tmp_path / "submissions").found[0])
    marks = current_marks(out)
    place = {"root": str(tmp_path / "submissions"), "layout": "folders", "assignment": "hw7", "roster": None}
    asked = replace(
        marks.run, hidden=hidden, rubric=rubric_digest(rubric, hidden), students=("ada",), submissions=place,
        tier=best_tier()[0],
    )  # fmt: skip
    grade = replace(made_up_grades.grade("ada"), submission=submission.digest, rubric=asked.rubric, grader=asked.grader)
    with Journal(out / journal_name()) as journal:
        journal.append(asked, replace(grade, tasks=()))
    return out


@pytest.fixture
def ask(out: Path, tmp_path: Path) -> Ask:
    def ask(task: str = "3.1", name: str = "one channel", submissions: Path | None = None) -> Appeal:
        marks = current_marks(out)
        return write_case(out, marks, marks.marks[0], task, name, tmp_path / "appeal", submissions)

    return ask


def test_what_is_no_case_is_named(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(HW7Error, match=r"no task '9\.9'; there are 1\.1, 1\.2"):
        ask("9.9")
    with pytest.raises(HW7Error, match=r"5\.2 has no cases"):
        ask("5.2")
    with pytest.raises(HW7Error, match=r"no case 'one chanel'; it has\n  one channel"):
        ask(name="one chanel")
    assert not (tmp_path / "appeal").exists()


def test_only_the_files_that_were_graded_are_taken(ask: Ask, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (tmp_path / "submissions").rename(moved)
    with pytest.raises(HW7Error, match="cannot be read"):
        ask()
    with (moved / "ada" / "solution" / "losses.py").open("a") as file:
        file.write("# better\n")
    with pytest.raises(HW7Error, match="not those that were graded"):
        ask(submissions=moved)
    (moved / "ada").rename(moved / "bob")
    with pytest.raises(HW7Error, match="no submission of 'ada'"):
        ask(submissions=moved)


def test_nothing_is_written_over(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "appeal").mkdir()
    (tmp_path / "appeal" / "mine").touch()
    with pytest.raises(HW7Error, match="not empty"):
        ask()
    shutil.rmtree(tmp_path / "appeal")
    (tmp_path / "appeal").write_text("a file")
    with pytest.raises(HW7Error, match="it is a file"):
        ask()


def test_another_seed_has_other_questions(ask: Ask, out: Path) -> None:
    (out / "hidden-seed").unlink()
    write_seed(out / "hidden-seed", new_seed())
    with pytest.raises(HW7Error, match="is not the seed of these grades"):
        ask()


@pytest.mark.slow
def test_it_is_put_to_the_code_in_the_jail_and_steers_no_terminal(ask: Ask, tmp_path: Path) -> None:
    appeal = ask()
    assert appeal.outcome.verdict == "CRASH"
    folder = tmp_path / "appeal"
    assert {path.name for path in folder.iterdir()} == {"about.txt", "case.py", "case.safetensors", "solution"}
    assert (folder.stat().st_mode & 0o777) == 0o700
    about = (folder / "about.txt").read_text(encoding="utf-8")
    assert "RuntimeError" in about
    assert all(char.isprintable() or char == "\n" for char in about)
    program = subprocess.run([sys.executable, folder / "case.py"], capture_output=True, text=True, check=False)
    assert program.returncode == 1
    assert program.stderr.rstrip().endswith("red")
