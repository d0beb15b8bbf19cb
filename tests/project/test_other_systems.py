"""Windows and macOS, as far as Linux can tell: the student's commands without what only Unix has.

`sitecustomize` takes it away in every Python process that a command starts, so the commands are run as students run
them.
"""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from submissions import REFERENCE, reference_files, reference_weights, write

from hw7 import HW7Error
from hw7.cli.shared import usable_device
from hw7.solution import PROJECT

# What Windows lacks.
WITHOUT = '''
import builtins, os, signal, sys

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios"}
NAMES = (
    "chown chroot fchmod fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpriority getresuid "
    "getsid getuid initgroups killpg lchown major memfd_create mkfifo mknod nice register_at_fork sched_getaffinity "
    "sched_setaffinity setgid setpgid setpriority setsid setuid sysconf sysconf_names uname wait3 wait4"
)
SIGNALS = (
    "ITIMER_PROF ITIMER_REAL ITIMER_VIRTUAL SIGALRM SIGHUP SIGKILL SIGPROF SIGQUIT SIGUSR1 SIGUSR2 SIGVTALRM SIGXCPU "
    "alarm getitimer pause pthread_kill pthread_sigmask setitimer sigpending sigtimedwait sigwait"
)


def by_us():
    """Whether the project asks, itself or by the standard library. What chooses by sys.platform runs as on Unix."""
    frame = sys._getframe(2)
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if "site-packages" in frame.f_code.co_filename or package in ("multiprocessing", "subprocess"):
            return False
        if package in ("hw7", "solution", "__main__"):
            return True
        frame = frame.f_back
    return False


def import_as_there(name, *arguments, **options):
    if name in MODULES and by_us():
        raise ImportError(f"Windows has no module {name}")
    return on_unix(name, *arguments, **options)


def take_from(module, names):
    taken = {name: vars(module).pop(name) for name in names if name in vars(module)}

    def absent(name):
        if name not in taken or by_us():
            raise AttributeError(f"Windows has no {module.__name__}.{name}")
        return taken[name]

    module.__getattr__ = absent


on_unix, builtins.__import__ = builtins.__import__, import_as_there
take_from(os, NAMES.split())
take_from(signal, SIGNALS.split())
if hasattr(os, "process_cpu_count"):  # it asks for the affinity
    os.process_cpu_count = os.cpu_count
'''
COMMAND = "import sys; from hw7.cli import app; sys.argv[0] = 'hw7'; app()"
IMPORTS = """
import importlib, os, pkgutil, signal, sys
import hw7

assert not any(hasattr(os, name) for name in ("fork", "getuid", "sched_getaffinity")) and not hasattr(signal, "SIGALRM")
try:
    import fcntl
except ImportError:
    pass
else:
    raise AssertionError("fcntl is there")
names = [module.name for module in pkgutil.walk_packages(hw7.__path__, "hw7.")]
assert len(names) > 25, names
own = [f"solution.{name}" for name in ("models", "losses", "pruning", "quantization")]
for name in [*names, *own, "matplotlib.pyplot"]:
    importlib.import_module(name)
from hw7.notebook import Lab

Lab().check("3.4")
"""


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, Python processes that are started have only what Windows has, its usual encoding among it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):  # getpass then asks pwd
        monkeypatch.delenv(name, raising=False)
    path = os.pathsep.join(filter(None, (str(tmp_path / "site"), os.environ.get("PYTHONPATH"))))
    for name, value in {"PYTHONPATH": path, "PYTHONIOENCODING": "cp1252", "MPLBACKEND": "agg"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A submission as it stands in the student's folder."""
    write(reference_files(), reference_weights(), tmp_path / "mine")
    shutil.copy(REFERENCE / "hw7.ipynb", tmp_path / "mine")
    return tmp_path / "mine"


def run(code: str, *arguments: object, cwd: Path) -> str:
    """What a new Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, encoding="cp1252",
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.usefixtures("windows")
def test_all_that_students_import_is_there(folder: Path) -> None:
    assert "Task 3.4" in run(IMPORTS, cwd=folder)


@pytest.mark.usefixtures("windows")
def test_a_task_is_checked_and_the_zip_is_packed(folder: Path, tmp_path: Path) -> None:
    said = run(COMMAND, "check", "3.4", "--solution", folder, cwd=tmp_path)
    assert "RIGHT" in said.upper()
    run(COMMAND, "pack", folder, "--no-check", cwd=tmp_path)
    names = zipfile.ZipFile(tmp_path / "hw7.zip").namelist()
    assert names == sorted([*reference_files(), "hw7.ipynb", "weights.safetensors"])


@pytest.mark.usefixtures("windows")
def test_a_code_that_does_not_end_is_stopped_without_timers(folder: Path, tmp_path: Path) -> None:
    """By the second thread; the limit is set low where the check is asked."""
    (folder / "solution" / "pruning.py").write_text("def width_schedule(*_):\n    while True:\n        pass\n")
    code = (
        "from hw7.checks import public, time_limit; public.PATIENCE = 0.05; time_limit.WALL = 1000; "
        "from hw7.notebook import Lab; Lab().check('3.4')"
    )
    assert "The time limit was reached" in run(code, cwd=folder)


@pytest.mark.slow
@pytest.mark.usefixtures("windows")
def test_the_report_is_made_in_processes_of_their_own(folder: Path, tmp_path: Path) -> None:
    words = ("reproduce", "--profile", "smoke", "--only", "student-c,student-cnn", "--jobs", 2, "--solution", folder)
    run(COMMAND, *words, "--out", tmp_path / "out", cwd=tmp_path)
    assert (tmp_path / "out" / "report.html").is_file()


# ---- devices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mps", [False, True])
@pytest.mark.parametrize("name", ["mps", "gpu", "cuda:9", "cuda:-1", "cuda:", "xpu", "meta", "CPU", ""])
def test_a_device_that_is_not_to_be_had_is_told_with_those_that_are(
    name: str, mps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(HW7Error) as error:
        usable_device(name)
    assert f"--device {name} does not work: " in str(error.value)
    assert str(error.value).endswith("Here you can name: auto, cpu, cuda:0, cuda:1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("gpus", "auto"), [(0, "cpu"), (1, "cuda")])
def test_auto_takes_a_gpu_where_there_is_one(gpus: int, auto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert usable_device("auto") == auto


def test_a_gpu_that_fails_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(HW7Error, match=r"^--device cuda does not work: CUDA error: out of memory\. Here .*cuda:0$"):
        usable_device("cuda")


# ---- what students type ----------------------------------------------------------------------------------------------

FOR_STUDENTS = [
    PROJECT / "README.md", PROJECT / "docs" / "students.md",
    PROJECT / "autograder" / "course" / "templates" / "README.md.j2",
]  # fmt: skip


@pytest.mark.parametrize("page", FOR_STUDENTS, ids=lambda page: page.name)
def test_commands_stand_there_for_windows_too(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "python3 -m venv .venv" in text
    assert "py -m venv .venv" in text
    unix = re.findall(r"^.*?\.venv/bin/pip install (.*?)(?: &&.*)?$", text, re.MULTILINE)
    windows = re.findall(r"^\.venv\\Scripts\\python -m pip install (.*)$", text, re.MULTILINE)
    assert windows
    assert set(windows) <= set(unix), "installs the same"
    assert not re.search(r"\b(grep|sed|awk)\b", text), "only Unix has it"


def test_the_python_versions_are_those_that_the_project_names() -> None:
    classified = re.findall(r"Python :: 3\.(\d+)", (PROJECT / "pyproject.toml").read_text())
    assert classified == ["11", "12", "13", "14"]
    assert f"py3{{{','.join(classified)}}}" in (PROJECT / "tox.ini").read_text()
    for page in FOR_STUDENTS:
        assert f"Python 3.{classified[0]} to 3.{classified[-1]}" in page.read_text(encoding="utf-8"), page
