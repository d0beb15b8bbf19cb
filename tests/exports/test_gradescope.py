"""Gradescope: its results.json, and the image of the autograder that it runs."""

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from made_up_grades import HOSTILE, RUBRIC, TASKS, a_class, broken, grade, hostile
from test_exports import REFERENCE, SECRET, one

from autograder.course import gradescope_image
from autograder.course.gradescope_image import build_image
from autograder.exports.gradescope import export_gradescope, failed, results
from autograder.tasks.hidden import new_seed, write_seed
from hw7 import HW7Error
from hw7.checks.cases import Verdict


# ---- Gradescope ------------------------------------------------------------------------------------------------------
def test_gradescope_gets_a_visible_test_for_each_task() -> None:
    made = one(grade("a", 0.5))
    given = results(made)
    visible = [test for test in given["tests"] if test["visibility"] == "visible"]
    assert [test["number"] for test in visible] == list(TASKS)
    assert sum(test["score"] for test in visible) == pytest.approx(made.total, abs=1e-6)  # rounded to six decimals
    assert given["score"] == pytest.approx(made.total, abs=1e-6)
    assert sum(test["max_score"] for test in visible) == 100
    for test, task in zip(visible, made.tasks, strict=True):
        assert test["status"] == ("passed" if task.verdict is Verdict.RIGHT else "failed")
    assert given["stdout_visibility"] == "hidden"


def test_gradescope_shows_students_nothing_that_is_for_teachers() -> None:
    for made in (one(grade("a", 0.0)), *(one(hostile(text)) for text in HOSTILE)):
        given = results(made)
        hidden = [test for test in given["tests"] if test["visibility"] == "hidden"]
        assert len(hidden) == 1
        assert SECRET in hidden[0]["output"]
        shown = {**given, "tests": [test for test in given["tests"] if test["visibility"] == "visible"]}
        assert SECRET not in json.dumps(shown)
    assert all(test["visibility"] == "visible" for test in results(one(grade("a")))["tests"])


def test_gradescope_files_are_strict_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    grades = [*a_class(12), *(hostile(text) for text in HOSTILE), broken("b")][:-1]
    out = export_gradescope(grades, RUBRIC, tmp_path / "all")
    files = sorted(out.iterdir())
    assert len(files) == len(grades)
    for path in files:
        json.loads(path.read_text("utf-8"), parse_constant=refuse)
    single = export_gradescope([broken("b", "no zip")], RUBRIC, tmp_path / "results.json")
    given = json.loads(single.read_text("utf-8"))
    assert single == tmp_path / "results.json"
    assert given["score"] == 0
    assert "no zip" in given["output"]
    json.dumps(failed("message", 100, "why \ud800"), allow_nan=False).encode()


# ---- the image for Gradescope ----------------------------------------------------------------------------------------
@pytest.fixture
def a_seed(tmp_path: Path) -> Path:
    write_seed(tmp_path / "a-seed", new_seed())
    return tmp_path / "a-seed"


def unpacked(image: Path, root: Path) -> Path:
    """What Gradescope makes of the zip: ROOT/source, with its modes, and an empty ROOT/submission."""
    with zipfile.ZipFile(image) as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, root / "source"))
            path.chmod(entry.external_attr >> 16 & 0o777)
    (root / "submission").mkdir()
    return root


def graded_there(root: Path) -> dict[str, Any]:
    """results.json after Gradescope's call, on this machine's Python."""
    environment = {**os.environ, "AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": sys.executable}
    subprocess.run([root / "source" / "run_autograder"], check=True, env=environment, capture_output=True)
    given = json.loads((root / "results" / "results.json").read_text("utf-8"))
    assert isinstance(given, dict)
    return given


def test_two_builds_with_one_seed_are_the_same_bytes(tmp_path: Path, a_seed: Path) -> None:
    first, second, other = (
        build_image(tmp_path / f"{n}.zip", seed_file=seed) for n, seed in enumerate((a_seed, a_seed, None))
    )
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_the_image_has_what_gradescope_calls_and_no_answers(tmp_path: Path) -> None:
    root = unpacked(build_image(tmp_path / "image.zip"), tmp_path)
    source = root / "source"
    for name in ("setup.sh", "run_autograder"):
        assert os.access(source / name, os.X_OK)
        subprocess.run(["bash", "-n", source / name], check=True)
    assert stat.S_IMODE((source / "hidden-seed").stat().st_mode) == 0o600
    assert len((source / "hidden-seed").read_text().strip()) == 32  # 128 bits
    assert (source / "project" / "hw7" / "checks" / "cases.py").exists()
    assert (source / "project" / "autograder" / "exports" / "templates" / "student.html.j2").exists()
    files = [path for path in source.rglob("*") if path.is_file()]
    assert not [path for path in files if "solution" in path.parts or path.suffix in (".pyc", ".safetensors")]


def test_an_image_made_on_windows_is_the_same(tmp_path: Path, a_seed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git has written Windows' line ends into the checkout."""
    usual = build_image(tmp_path / "usual.zip", seed_file=a_seed).read_bytes()
    for name in gradescope_image.FILES + gradescope_image.PACKAGES:
        source = gradescope_image.PROJECT / name
        for path in [source] if source.is_file() else source.rglob("*"):
            if path.suffix != ".pyc" and path.is_file():
                target = tmp_path / "checkout" / path.relative_to(gradescope_image.PROJECT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.setattr(gradescope_image, "PROJECT", tmp_path / "checkout")
    rubric = tmp_path / "checkout" / "autograder" / "rubric.toml"
    assert build_image(tmp_path / "windows.zip", rubric, seed_file=a_seed).read_bytes() == usual


def test_an_image_needs_a_whole_rubric_and_data_that_can_be_drawn(tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.toml"
    rubric.write_text("[[task]\n")
    with pytest.raises(HW7Error, match="is not TOML"):
        build_image(tmp_path / "image.zip", rubric=rubric)
    with pytest.raises(HW7Error, match="only plates can be drawn there"):
        build_image(tmp_path / "image.zip", data="food11:/data")
    assert not (tmp_path / "image.zip").exists()


def test_results_are_there_even_where_the_grader_fails(tmp_path: Path, a_seed: Path) -> None:
    root = unpacked(build_image(tmp_path / "image.zip", seed_file=a_seed), tmp_path)
    (root / "source" / "rubric.toml").write_text("this is no rubric")
    given = graded_there(root)
    assert given["score"] == 0
    (hidden,) = [test for test in given["tests"] if test["visibility"] == "hidden"]
    assert "is not TOML" in hidden["output"]
    assert "tell your teacher" in given["output"]
    assert a_seed.read_text().strip() not in json.dumps(given)

    (root / "results" / "results.json").unlink()
    environment = {**os.environ, "AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": "/bin/false"}
    subprocess.run([root / "source" / "run_autograder"], check=True, env=environment)
    assert json.loads((root / "results" / "results.json").read_text("utf-8"))["score"] == 0


@pytest.mark.slow  # two cold starts of the whole grader
def test_the_image_grades_what_was_handed_in(tmp_path: Path, a_seed: Path) -> None:
    root = unpacked(build_image(tmp_path / "image.zip", seed_file=a_seed), tmp_path)
    (root / "submission" / "hw7.zip").write_bytes(b"PK\x03\x04 and then nothing that a zip has")
    broken_zip = graded_there(root)
    assert broken_zip["score"] == 0
    assert "could not be graded" in broken_zip["output"]

    (root / "submission" / "hw7.zip").unlink()
    shutil.copytree(REFERENCE, root / "submission", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    right = graded_there(root)
    assert right["score"] == 100, right
    assert {test["status"] for test in right["tests"] if test["visibility"] == "visible"} == {"passed"}
    assert a_seed.read_text().strip() not in json.dumps([broken_zip, right])
