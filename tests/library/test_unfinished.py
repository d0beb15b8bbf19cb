"""A reproduction that ends early, because its time is up or an experiment failed, leaves its results and its page."""

import json
import re
import sys
from pathlib import Path

import pytest
from tiny_reproduction import TINY, contents, with_own

from hw7.cli import app
from hw7.data.plates.source import PLATES_COUNTS
from hw7.report import runner
from hw7.report.profiles import PROFILES

TIME_IS_UP = 75


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "tiny", TINY)
    for split, count in TINY.images.items():
        assert count
        monkeypatch.setitem(PLATES_COUNTS, split, count)


def reproduce(monkeypatch: pytest.MonkeyPatch, out: Path, *more: object) -> int:
    """The exit code of the command."""
    options = ("--profile", "tiny", "--device", "cpu", "--jobs", "1", "--out", out, *more)
    monkeypatch.setattr(sys, "argv", ["hw7", "reproduce", *map(str, options)])
    with pytest.raises(SystemExit) as end:
        app()
    return int(end.value.code or 0)


def page(out: Path) -> tuple[list[str], str, str]:
    """Which experiments results.json has, what the page says of the progress, and its row of student-c."""
    text = (out / "report.md").read_text("utf-8")
    pictures = re.findall(r"\]\((pictures/[^)]*)\)", text)
    assert pictures
    assert [name for name in (*pictures, "report.html") if not (out / name).is_file()] == []
    progress, row = (re.search(pattern, text, re.M) for pattern in (r"^- experiments: (.*)", r"^\| c: student .*"))
    assert progress
    assert row
    return list(json.loads((out / "results.json").read_text())["experiments"]), progress[1], row[0]


def test_when_its_minutes_run_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("there is no time to train")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "train_side_by_side", forbidden)
        assert reproduce(monkeypatch, tmp_path, "--minutes", "0", "--only", "student-c,plain-1mb") == TIME_IS_UP
        done, progress, row = page(tmp_path)
        assert (done, progress) == ([], "0 of 2 done; not run yet: student-c, plain-1mb")
        assert "not run yet" in row

    assert reproduce(monkeypatch, tmp_path, "--only", "student-c") == 0
    assert reproduce(monkeypatch, tmp_path, "--minutes", "0") == TIME_IS_UP
    done, progress, row = page(tmp_path)
    assert done == ["student-c"]
    assert progress.startswith("1 of 19 done; not run yet: pretraining, teacher-pretrained, ")
    assert "not run" not in row


def test_when_an_experiment_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = with_own(
        tmp_path / "own", models="def small_resnet18(num_classes=11):\n    raise NotImplementedError('Task 1.2')"
    )
    out = tmp_path / "out"
    assert reproduce(monkeypatch, out, "--only", "small-resnet18,student-c", "--solution", own.directory) == 1
    assert "not done yet: Task 1.2" in capsys.readouterr().err.splitlines()[-1]
    done, progress, row = page(out)
    assert (done, progress) == (["student-c"], "1 of 2 done; failed: small-resnet18")
    assert "not run" not in row


def test_it_is_packed_and_goes_on_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there, pack = tmp_path / "here", tmp_path / "there", tmp_path / "pack"
    assert reproduce(monkeypatch, here, "--only", "student-c", "--pack", pack) == 0
    assert reproduce(monkeypatch, there, "--only", "student-c", "--unpack", pack, "--minutes", "0") == 0  # all is done
    assert (there / "results.json").read_bytes() == (here / "results.json").read_bytes()
    capsys.readouterr()
    assert reproduce(monkeypatch, there, "--minutes", "0", "--pack", pack, "--max-mb", "0.1") == TIME_IS_UP
    assert "packed 1 file, 0.0 MB" in (said := capsys.readouterr().out)
    assert "left out, since nothing needs it any more: runs/student-c/weights.safetensors" in said
    assert reproduce(monkeypatch, there, "--unpack", pack) == 1
    assert "holds runs already" in capsys.readouterr().err

    pack.with_name("pack.01").unlink()
    assert reproduce(monkeypatch, tmp_path / "third", "--unpack", pack) == 1
    assert not (tmp_path / "third").exists()


def test_a_folder_of_another_reproduction_gets_no_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reproduce(monkeypatch, tmp_path, "--minutes", "0")
    before = contents(tmp_path)
    assert reproduce(monkeypatch, tmp_path, "--minutes", "0", "--seed", "1") == 1
    assert contents(tmp_path) == before
