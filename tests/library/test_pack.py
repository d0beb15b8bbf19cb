"""`hw7 pack`: what is in the zip, that the grader takes it as it is, and what a student is told."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import typer.testing
from notebooks import RELEASED, answered, at
from submissions import REFERENCE, reference_files, reference_weights, with_code, write

from autograder.intake import submission
from autograder.intake.layouts import find_submissions
from hw7 import HW7Error
from hw7.cli import cli
from hw7.handin import pack as packing
from hw7.handin.notebook_repair import to_bytes
from hw7.solution import PROJECT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole submission, as a student's folder holds it."""
    folder = write(reference_files(), reference_weights(), tmp_path / "hw7")
    (folder / "hw7.ipynb").write_bytes(to_bytes(answered()))
    (tmp_path / "notebook.json").write_bytes(RELEASED)
    return folder


def pack(folder: Path, repair: bool = False, check: bool = False) -> str:
    return packing.pack(folder, folder.parent / "me.zip", repair, check, folder.parent / "notebook.json")


def taken(folder: Path) -> submission.Submission:
    """The zip as the grader takes it."""
    (found,) = [each for each in find_submissions(folder.parent).found if each.student == "me"]
    return submission.take_in(found)


def test_the_grader_takes_the_zip_without_a_word(folder: Path) -> None:
    lines = pack(folder).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"wrote {folder.parent / 'me.zip'}: {len(reference_files()) + 2} files")
    submission = taken(folder)
    assert submission.files == reference_files()
    assert submission.weights == reference_weights()
    assert submission.notebook == (folder / "hw7.ipynb").read_bytes()
    assert (submission.problem, submission.remarks) == ("", ())


def test_the_same_files_make_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pack(folder)
    first = (tmp_path / "me.zip").read_bytes()
    other = shutil.copytree(folder, tmp_path / "elsewhere" / "hw7")
    for path in other.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    packing.pack(other, tmp_path / "me.zip", check=False)
    assert (tmp_path / "me.zip").read_bytes() == first


def test_what_is_not_graded_is_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    more = (
        ".git/config", ".ipynb_checkpoints/hw7-checkpoint.ipynb", "solution/__pycache__/losses.cpython-311.pyc",
        "out/run/weights.safetensors", "tests/test_tasks.py", "bugs/stale_optimizer.py", "data/images.npy",
        "solution/notes.txt", "hw7.ipynb.before-repair",
    )  # fmt: skip
    for name in more:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    said = pack(folder)
    assert "not graded, and so left out: data/images.npy, solution/notes.txt\n" in said
    names = zipfile.ZipFile(tmp_path / "me.zip").namelist()
    assert names == sorted([*reference_files(), "hw7.ipynb", "weights.safetensors"])


def test_helper_modules_are_handed_in(folder: Path) -> None:
    (folder / "solution" / "parts").mkdir()
    (folder / "solution" / "parts" / "blocks.py").write_text("A = 1\n")
    pack(folder)
    assert taken(folder).files["solution/parts/blocks.py"] == b"A = 1\n"


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("weights.safetensors", "weights (1).safetensors"),
        ("weights.safetensors", "Weights.safetensors"),
        ("hw7.ipynb", "hw7-final.ipynb"),
        ("solution/losses.py", "solution/loss.py"),
    ],
)
def test_a_wrong_name_is_told_with_the_right_one(folder: Path, was: str, now: str) -> None:
    (folder / was).rename(folder / now)
    assert f"to fix: {was} is missing. Is it {now}? Rename it." in pack(folder)


def test_what_is_missing_is_told_and_the_rest_is_packed(folder: Path) -> None:
    for name in ("weights.safetensors", "hw7.ipynb", "solution/pruning.py"):
        (folder / name).unlink()
    said = pack(folder)
    for name in ("weights.safetensors", "hw7.ipynb", "solution/pruning.py"):
        assert f"to fix: {name} is missing." in said
    assert "wrote" in said
    assert taken(folder).problem == ""


def test_what_cannot_be_read_is_not_left_out_in_silence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module or a folder of modules ends it; another folder is named."""
    (folder / "solution" / "deep").mkdir()
    (folder / "data").mkdir()
    refused = folder / "data"
    scan = os.scandir

    def scandir(place: str) -> object:
        if Path(place) == refused:
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "data/ cannot be read (Permission denied): left out." in packing.gather(folder).to_fix
    refused = folder / "solution" / "deep"
    with pytest.raises(HW7Error, match=r"deep cannot be read \(Permission denied\)"):
        packing.gather(folder)
    refused = folder / "nowhere"

    def read_bytes(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(HW7Error, match="cannot be read"):
        packing.gather(folder)


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("secret = 1\n")
    (folder / "solution" / "losses.py").unlink()
    (folder / "solution" / "losses.py").symlink_to(tmp_path / "secret.py")
    (folder / "solution" / "more").symlink_to(tmp_path)
    said = pack(folder)
    assert "solution/losses.py is no regular file (a link?): left out." in said
    assert "solution/more is no regular file (a link?): left out." in said
    assert not any(b"secret" in data for data in taken(folder).files.values())


def _fill(folder: Path, size: int) -> None:
    total = sum(path.stat().st_size for path in (folder / "solution").rglob("*.py"))
    with (folder / "solution" / "losses.py").open("ab") as file:
        file.write(b"#" * (size - total))


def _many(folder: Path, count: int) -> None:
    there = len(list((folder / "solution").rglob("*.py")))
    for number in range(there, count):
        (folder / "solution" / f"part{number}.py").write_bytes(b"")


@pytest.mark.parametrize(
    ("fill", "limit", "says"), [(_fill, 1_000_000, "1,000,001 bytes"), (_many, 200, "201 Python files")]
)
def test_it_refuses_exactly_what_the_grader_refuses(
    folder: Path, fill: Callable[[Path, int], None], limit: int, says: str
) -> None:
    fill(folder, limit)
    pack(folder)
    assert taken(folder).problem == ""
    (folder.parent / "me.zip").unlink()
    fill(folder, limit + 1)
    with pytest.raises(HW7Error, match=f"too large: .*{says}"):
        pack(folder)
    assert not (folder.parent / "me.zip").exists()
    shutil.make_archive(str(folder.parent / "me"), "zip", folder)
    assert taken(folder).problem


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("n" * 98 + ".py", "has too long a name"),
        ("/".join(["d" * 90] * 3) + "/x.py", "has a path of 286 bytes"),
        ("\U0001f980" * 60 + ".py", ""),
        ("/".join("d" * 15) + "/x.py", "lies too deep in folders"),
        ("a\\b.py", "has a name with characters that cannot be used"),
        ("a\tb.py", "has a name with characters that cannot be used"),
        ("losses.py.d/x.py", ""),
        ("LOSSES.PY/x.py", "lies in a folder that has the name of solution/losses.py"),
    ],
)
def test_it_refuses_exactly_the_names_that_the_grader_does_not_read(folder: Path, name: str, says: str) -> None:
    path = folder / "solution" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    if says:
        with pytest.raises(HW7Error, match=re.escape(says)):
            pack(folder)
        shutil.make_archive(str(folder.parent / "me"), "zip", folder)
        assert f"solution/{name}" not in taken(folder).files
    else:
        pack(folder)
        assert taken(folder).files[f"solution/{name}"] == b""


def test_weights_that_earn_nothing_are_handed_in_all_the_same(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(bytes(300_001))
    assert "to fix: weights.safetensors has 300,001 bytes; more than 300,000 earn no points" in pack(folder)
    assert taken(folder).weights == bytes(300_001)
    (folder / "weights.safetensors").write_bytes(bytes(300_000))
    assert "to fix" not in pack(folder)


def test_a_folder_without_a_solution_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HW7Error, match="holds no folder `solution`"):
        pack(tmp_path / "hw7")
    (tmp_path / "hw7" / "solution").mkdir(parents=True)
    with pytest.raises(HW7Error, match="holds no Python file"):
        pack(tmp_path / "hw7")


# ---- the notebook ----------------------------------------------------------------------------------------------


def test_a_damaged_notebook_is_named_and_repaired_when_asked(folder: Path) -> None:
    notebook = answered()
    del notebook["cells"][at(notebook, "task-1-1")]
    damaged = to_bytes(notebook)
    (folder / "hw7.ipynb").write_bytes(damaged)
    assert "with --repair: task-1-1 was deleted: it is back." in pack(folder)
    assert (folder / "hw7.ipynb").read_bytes() == damaged
    assert "fixed: task-1-1 was deleted: it is back." in pack(folder, repair=True)
    assert (folder / "hw7.ipynb.before-repair").read_bytes() == damaged
    assert "task-1-1" not in pack(folder, repair=True)
    assert taken(folder).notebook == (folder / "hw7.ipynb").read_bytes()
    (folder / "hw7.ipynb").write_bytes(damaged + b"\n")
    pack(folder, repair=True)
    assert (folder / "hw7.ipynb.before-repair").read_bytes() == damaged
    assert (folder / "hw7.ipynb.1.before-repair").read_bytes() == damaged + b"\n"


def test_a_notebook_that_cannot_be_repaired_is_handed_in_as_it_is(folder: Path) -> None:
    (folder / "hw7.ipynb").write_bytes(b"<<<<<<< HEAD")
    assert "to fix: The notebook has a merge conflict in line 1" in pack(folder, repair=True)
    assert taken(folder).notebook == b"<<<<<<< HEAD"
    assert not list(folder.glob("*.before-repair"))


def test_questions_without_an_answer_are_named(folder: Path) -> None:
    (folder / "hw7.ipynb").write_bytes(RELEASED)
    assert "not answered yet in hw7.ipynb: question-a, question-b, question-c" in pack(folder)


def test_without_the_released_notebook_it_says_that_it_did_not_look(folder: Path) -> None:
    (folder.parent / "notebook.json").unlink()
    assert "hw7.ipynb was not checked" in pack(folder)


# ---- the public tests ------------------------------------------------------------------------------------------


@pytest.fixture
def two_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public tests of two quick tasks only."""
    public = PROJECT / "assignments" / "hw7" / "tests"
    tests = tmp_path / "public"
    (tests / "cases").mkdir(parents=True)
    rows = [row for row in json.loads((public / "tasks.json").read_text()) if row["id"] in ("3.2", "3.4")]
    (tests / "tasks.json").write_text(json.dumps(rows))
    for row in rows:
        shutil.copy(public / "cases" / f"{row['id']}.safetensors", tests / "cases")
    checks = packing.Checks.of
    monkeypatch.setattr(packing.Checks, "of", lambda directory: replace(checks(directory), tests=tests))


@pytest.mark.usefixtures("two_tasks")
def test_it_tells_the_points_of_the_public_tests(folder: Path) -> None:
    assert "public tests: 10 of 10 points." in pack(folder, check=True)
    wrong = with_code(
        {"pruning.py": "def select_channels(importance, keep):\n    return importance.argsort()[:keep]\n"}
    )
    write(wrong, None, folder)
    said = pack(folder, check=True)
    assert "task 3.2, Channel selection: " in said
    assert "see `hw7 check 3.2`" in said
    (points,) = re.findall(r"public tests: ([\d.]+) of 10 points", said)
    assert 5 <= float(points) < 10  # all of 3.4, and not all of 3.2
    assert "wrote" in said


# ---- the command -----------------------------------------------------------------------------------------------


def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("LOGNAME", "ada")  # whose business it is not
    result = typer.testing.CliRunner().invoke(cli, ["pack", "hw7", "--no-check"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "wrote hw7.zip" in result.output
    assert (folder.parent / "hw7.zip").is_file()
    result = typer.testing.CliRunner().invoke(
        cli, ["pack", str(REFERENCE), "--no-check", "--out", "new/x.zip"], catch_exceptions=False
    )
    assert (folder.parent / "new" / "x.zip").is_file(), result.output
