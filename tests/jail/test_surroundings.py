"""The commands wherever they are called from: no grade and no message depends on the caller's surroundings."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import made_up_grades
import pytest
import submissions
from made_up_class import REAL_RUBRIC

from autograder.jail import Jail, Tier, best_tier, launch, visible
from hw7 import HW7Error
from hw7.checks.cases import Call, Status
from hw7.data.load import cache_dir
from hw7.solution import PROJECT
from hw7.support import system

BIN = Path(sys.executable).parent
NAMES = ("Łukasz 李", "Zoë", "İpek ß", "אבג", "🦊")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def shell(line: str, **options: object) -> subprocess.CompletedProcess[str]:
    """A line of a shell, with the commands of this environment on its path."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | options.pop("env", {})  # type: ignore[operator]
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, errors="replace", env=environment, check=False, **options  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a run whose students have names of all kinds."""
    return made_up_grades.a_folder(tmp_path_factory.mktemp("graded"), NAMES)


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """One right and one wrong submission, and the rubric of their one task."""
    submissions.write(submissions.reference_files(), None, tmp_path / "submissions" / "ada")
    wrong = submissions.with_code({"pruning.py": "def width_schedule(widths, keep_rate, steps):\n    return []\n"})
    submissions.write(wrong, None, tmp_path / "submissions" / "bob")
    (tmp_path / "rubric.toml").write_text(REAL_RUBRIC, encoding="utf-8")
    return tmp_path


RUN = "hw7-grade run submissions --out out --rubric rubric.toml --jobs 1"


def totals(world: Path) -> dict[str, str]:
    with (world / "out" / "grades.csv").open(newline="", encoding="utf-8") as file:
        return {row["student"]: row["total"] for row in csv.DictReader(file)}


# ---- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "closed",
    [pytest.param(each, marks=pytest.mark.slow) for each in ("<&- >&- 2>&-", "<&-", ">&-", "2>&-", ">&- 2>&-")],
)
def test_a_run_with_closed_streams_grades(world: Path, closed: str) -> None:
    done = shell(f"{RUN} {closed}", cwd=world)
    assert done.returncode == 0
    assert totals(world) == {"ada": "100", "bob": "0"}
    assert "Traceback" not in done.stderr + done.stdout
    written = {path.name: path.read_text(encoding="utf-8") for path in (world / "out").iterdir() if path.is_file()}
    assert not [name for name, text in written.items() if "have a grade" in text], "what is printed went into a file"


@pytest.mark.parametrize(
    "closed", [">&- 2>&-", *(pytest.param(each, marks=pytest.mark.slow) for each in (">&-", "2>&-", "<&-"))]
)
def test_other_commands_with_closed_streams(graded: Path, closed: str) -> None:
    assert shell(f"hw7-grade show Zoë --out {graded} {closed}").returncode == 0
    assert shell(f"hw7-grade show nobody --out {graded} {closed}").returncode == 1


@pytest.mark.parametrize(
    "encoding",
    ["cp1252", *(pytest.param(each, marks=pytest.mark.slow) for each in ("ascii", "latin-1:strict", "utf-16"))],
)
def test_output_in_other_encodings(graded: Path, encoding: str) -> None:
    one, two = (f"hw7-grade show '{name}' --out {graded}" for name in NAMES[:2])
    done = shell(f"{one} && {two}", env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, "")
    done = shell(f"hw7-grade show 'not {NAMES[-1]}' --out {graded}", env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["hw7 summary --layers student_dw", "hw7 check 3.4", "hw7 doctor", "hw7 --help", "hw7-grade run --help"]
)
def test_commands_in_other_encodings(command: str) -> None:
    for encoding in ("ascii", "cp1251"):
        done = shell(command, env={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


# ---- accounts and folders ------------------------------------------------------------------------------------------


def test_an_account_without_a_name_or_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 23456")

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(system.getpass, "getuser", unknown)
    assert system.login() == f"uid-{os.getuid()}"
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(HW7Error, match=r"~/x: this home folder is not known here"):
        system.expanded("~/x")
    for name in ("HW7_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(HW7Error, match="HW7_CACHE"):
        cache_dir()


def test_a_folder_that_is_gone(tmp_path: Path, graded: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = shell(f"rmdir ../gone && hw7-grade show Zoë --out {graded}", cwd=tmp_path / "gone")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["hw7-grade: the folder that you are in is gone: go to another one (cd) first"]


# ---- umask and privileges --------------------------------------------------------------------------------------------


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("tier", "mask"),
    [
        ("A", 0o077),
        *(
            pytest.param(tier, mask, marks=pytest.mark.slow)
            for tier in "ABC"
            for mask in (0o027, 0o007, 0o777, 0o077)
            if (tier, mask) != ("A", 0o077)
        ),
    ],
)
def test_a_jail_is_the_same_under_any_umask(tier: Tier, mask: int, umask: None) -> None:
    if (why := best_tier()[1][tier]) != "works":
        pytest.skip(why)
    if mask & 0o700 and not ROOT:
        pytest.skip("an ordinary user who may not read what he writes can do nothing")
    os.umask(mask)
    with Jail(tier) as jail:
        jail.self_test()
        files = {"solution/__init__.py": b"", "solution/pruning.py": b"from solution.deep.own import select_channels\n"}
        files |= {
            "solution/deep/__init__.py": b"",
            "solution/deep/own.py": b"select_channels = lambda x, keep: x + keep\n",
        }
        with jail.child(files) as child:
            import torch

            (answer,) = child.ask([Call("select_channels", {"importance": torch.ones(3), "keep": 2})], 60)
        assert answer.status is Status.RETURNED, answer.note
        assert torch.equal(answer.tensors[0], torch.full((3,), 3.0))


@pytest.mark.slow
@pytest.mark.parametrize("mask", ["077", "027", "007"])
def test_a_run_under_a_strict_umask(world: Path, mask: str) -> None:
    """Submissions and grades are the teacher's own; who may read them does not matter."""
    done = shell(f"umask {mask}; chmod -R go= submissions; {RUN}", cwd=world)
    assert done.returncode == 0, done.stderr
    assert totals(world) == {"ada": "100", "bob": "0"}


@pytest.mark.slow
@pytest.mark.skipif(not ROOT, reason="only root gives jobs a uid of their own")
def test_what_the_child_cannot_read_is_the_graders_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a submission that has no such file. Here the fork server writes what only root can read."""
    if (why := best_tier()[1]["A"]) != "works":
        pytest.skip(why)
    popen = subprocess.Popen

    def strict(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        return popen(*arguments, **{**options, **({"umask": 0o077} if "umask" in options else {})})  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(launch.subprocess, "Popen", strict)
    monkeypatch.setattr(visible, "readable_by_all", lambda *_, **__: True)  # or the child may read whatever root may
    with Jail("A") as jail, pytest.raises(HW7Error, match="Permission denied"):
        jail.child({"solution/__init__.py": b""})


@pytest.mark.skipif(not ROOT, reason="only root gives jobs a uid of their own")
@pytest.mark.parametrize("tier", ["A", *(pytest.param(tier, marks=pytest.mark.slow) for tier in "BC")])
def test_packages_that_only_root_can_read(tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed under a strict umask: a job may read them all the same, and nothing else that is root's."""
    if (why := best_tier()[1][tier]) != "works":
        pytest.skip(why)
    package = tmp_path / "site" / "closed_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("VALUE = 7.0\n", encoding="utf-8")
    (tmp_path / "secret").write_text("no", encoding="utf-8")
    for path in (package / "__init__.py", package, package.parent, tmp_path / "secret"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    usual = visible.module_folders()
    monkeypatch.setattr(visible, "module_folders", lambda: [*usual, str(package.parent)])
    code = f"""
import closed_package, torch
def select_channels(importance, keep):
    try:
        open({str(tmp_path / "secret")!r})
    except OSError:
        return importance * closed_package.VALUE
"""
    with Jail(tier) as jail:
        jail.self_test()
        with jail.child({"solution/__init__.py": b"", "solution/pruning.py": code.encode()}) as child:
            import torch

            (answer,) = child.ask([Call("select_channels", {"importance": torch.ones(1), "keep": 1})], 60)
        assert answer.status is Status.RETURNED, answer.note
        assert answer.tensors[0].item() == 7.0


@pytest.mark.slow
@pytest.mark.skipif(not ROOT or not shutil.which("setpriv"), reason="needs root, to give up a part of its powers")
@pytest.mark.parametrize("lacking", ["sys_admin", "setuid", "kill", "chown", "dac_override"])
def test_root_that_lacks_a_power_is_told_which(lacking: str) -> None:
    code = "from autograder.jail import best_tier; print(*best_tier()[1].items(), sep='\\n')"
    words = ["setpriv", f"--bounding-set=-{lacking}", f"--inh-caps=-{lacking}", sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 0, done.stderr
    assert f"root has no CAP_{lacking.upper()} here" in done.stdout
    assert "Error" not in done.stdout
