"""The doctor on machines that are broken in known ways, and on this one."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from hw7 import doctor
from hw7.doctor import CHECKS, Finding, Machine, examine, format_findings

TORCH = {"version": "2.13.0+cpu", "built_for": None, "gpus": [], "complaint": ""}
CUDA = TORCH | {"version": "2.13.0+cu130", "built_for": "13.0"}
TORCHVISION = {"version": "0.28.0", "operators": ""}
COUNTS = {"counts": {"training": 9866, "validation": 3430, "testing": 3347}, "complaint": ""}
DRIVER = "NVIDIA T4, driver 470.1"


def needed(*lines: str) -> dict[str, Requirement]:
    return {need.name: need for need in map(Requirement, lines)}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One on which nothing is wrong."""
    data = {"cache": str(tmp_path / "cache"), "sources": {"plates": COUNTS, "fashion-mnist": COUNTS}}
    needs = needed("torch>=2.11", "torchvision>=0.26", "numpy>=2")
    return Machine(None, tmp_path / "out", needs, TORCH, TORCHVISION, data, {"folder": "reference"})


def finding(check: str, machine: Machine) -> Finding:
    return next(function for function in CHECKS if function.__name__ == f"_{check}")(machine)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What nvidia-smi says; nothing, unless a test sets it."""
    driver = SimpleNamespace(says="")
    monkeypatch.setattr(doctor, "_nvidia_driver", lambda: driver.says)
    return driver


def test_nothing_is_wrong(machine: Machine, driver: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CACHE_GB", 0)  # not this disk, and not this Python, is what is looked at
    monkeypatch.setattr(doctor, "OUT_GB", 0)
    monkeypatch.setattr(doctor, "MEMORY_GB", 0)
    findings = [check(machine) for check in CHECKS if check is not doctor._python]
    assert [found for found in findings if found.ok is not True] == []
    assert format_findings(findings).endswith("all is well")


def test_python(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setattr(sys, "prefix", "/home/me/venv")
    assert finding("python", machine).ok is True
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert finding("python", machine).ok is None
    monkeypatch.setattr(doctor, "PYTHON", (99, 1))
    assert finding("python", machine).ok is False
    assert "99.1 or newer" in finding("python", machine).advice


@pytest.mark.parametrize(
    ("check", "facts", "ok", "says"),
    [
        ("torch", {"error": "ModuleNotFoundError: No module named 'torch'"}, False, "No module named 'torch'"),
        ("torch", TORCH | {"version": "2.9.1"}, False, "torch>=2.11 is needed"),
        ("torch", TORCH, True, "CPU only"),
        ("torch", CUDA, True, "13.0"),
        ("torchvision", {"error": "ImportError: no image"}, False, "no image"),
        ("torchvision", {"version": "0.24.1", "operators": ""}, False, "torchvision>=0.26 is needed"),
        ("torchvision", {"version": "0.27.0", "operators": ""}, None, "belongs with torchvision 0.28"),
        ("torchvision", TORCHVISION | {"operators": "operator torchvision::nms does not exist"}, None, "nms"),
        ("solution", {"error": "it lacks solution/losses.py"}, False, "lacks solution/losses.py"),
    ],
)
def test_facts_and_what_follows(machine: Machine, check: str, facts: dict, ok: bool | None, says: str) -> None:
    found = finding(check, replace(machine, **{check: facts}))
    assert found.ok is ok
    assert says in f"{found.found} {found.advice}"
    assert ok or found.advice


@pytest.mark.parametrize("torch", ["2.11.0", "2.12.1+cu126", "2.13.0+cpu"])
@pytest.mark.parametrize("torchvision", ["0.26.0", "0.27.1", "0.28.0+cu130"])
def test_releases_belong_together(machine: Machine, torch: str, torchvision: str) -> None:
    fits = (torch[:4], torchvision[:4]) in {("2.11", "0.26"), ("2.12", "0.27"), ("2.13", "0.28")}
    facts = {"torch": TORCH | {"version": torch}, "torchvision": TORCHVISION | {"version": torchvision}}
    assert finding("torchvision", replace(machine, **facts)).ok is (True if fits else None)


@pytest.mark.parametrize(
    ("facts", "nvidia", "ok", "says"),
    [
        (TORCH, "", True, "none"),
        (CUDA, "", True, "none"),
        (CUDA | {"gpus": ["NVIDIA H100 (80 GiB)"]}, DRIVER, True, "H100"),
        (TORCH, DRIVER, None, "built for the CPU only"),
        (CUDA | {"complaint": "The NVIDIA driver on your system is too old"}, DRIVER, None, "too old"),
        (CUDA | {"complaint": "K80: no kernel image is available"}, "", None, "no kernel image"),
        ({"error": "torch crashed"}, DRIVER, None, "torch does not work"),
    ],
)
def test_gpus(machine: Machine, driver: SimpleNamespace, facts: dict, nvidia: str, ok: bool | None, says: str) -> None:
    driver.says = nvidia
    found = finding("gpu", replace(machine, torch=facts))
    assert found.ok is ok
    assert says in found.found


@pytest.mark.parametrize(
    ("needs", "ok", "advice"),
    [
        (("numpy>=2", "torch>=99"), True, ""),  # torch has a check of its own
        (("numpy>=99.1",), False, 'python -m pip install "numpy>=99.1"'),
        (("numpy>=2", "no-such-package>=1"), False, 'python -m pip install "no-such-package>=1"'),
        ((), False, "python -m pip install -e"),
    ],
)
def test_packages(machine: Machine, needs: tuple[str, ...], ok: bool, advice: str) -> None:
    found = finding("packages", replace(machine, needs=needed(*needs)))
    assert found.ok is ok
    assert found.advice.startswith(advice)


def test_the_bounds_are_those_of_pyproject() -> None:
    needs = doctor._needs()
    assert str(needs["torch"]) == "torch>=2.11"
    assert "pytest" not in needs


def test_without_packaging_no_version_is_read_and_that_is_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)  # importing it raises
    assert doctor._needs() == {}
    bare = replace(machine, needs=doctor._needs(), torch=TORCH | {"version": "1.0.0"})
    assert finding("packages", bare).ok is False
    assert "`packaging`" in finding("packages", bare).found
    assert finding("torch", bare).ok is True


@pytest.mark.parametrize(("free", "ok"), [(10e9, True), (1e9, None), (1e8, False)])
def test_room_on_the_disk(machine: Machine, monkeypatch: pytest.MonkeyPatch, free: float, ok: bool | None) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    for check in ("cache", "results"):
        assert finding(check, machine).ok is ok
    assert not machine.out.exists()  # looked at, not made


def test_a_folder_that_cannot_be_made(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = finding("results", replace(machine, out=tmp_path / "file" / "out"))
    assert found.ok is False
    assert "--out" in found.advice


def test_data(machine: Machine) -> None:
    assert "plates and fashion-mnist" in finding("data", machine).found

    def of(facts: dict) -> Finding:
        return finding("data", replace(machine, source="x", data={"sources": {"x": facts}}))

    assert of(COUNTS).ok is True
    assert "9,866 training" in of(COUNTS).found
    assert of(COUNTS | {"complaint": "22 images; Food-11 has 9,866"}).ok is None
    assert of({"error": "no folder training"}).ok is False
    assert finding("data", replace(machine, data={"error": "no numpy"})).ok is False
    assert finding("cache", replace(machine, data={"error": "no numpy"})).ok is None


def test_sources_are_counted_by_the_loader_itself(tmp_path: Path) -> None:
    for split in ("training", "validation", "testing"):
        (tmp_path / split).mkdir()
        for label in range(11):
            (tmp_path / split / f"{label}_0.jpg").write_bytes(b"not decoded")
    facts = doctor._count(f"food11:{tmp_path}")
    assert facts["counts"] == {"training": 11, "validation": 11, "testing": 11}
    assert "Food-11 has 9,866" in facts["complaint"]
    assert doctor._count("plates") == COUNTS
    assert "no folder" in doctor._count(f"food11:{tmp_path / 'training'}")["error"]
    assert "there is no data source" in doctor._count("food12:x")["error"]


def test_a_check_that_raises_is_a_finding(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def _broken(machine: Machine) -> Finding:
        raise RuntimeError("the roof is leaking")

    monkeypatch.setattr(doctor, "_look", lambda data, out: machine)
    monkeypatch.setattr(doctor, "CHECKS", (_broken, doctor._memory))
    findings = examine()
    assert [found.check for found in findings] == ["broken", "memory"]
    assert findings[0].ok is False
    assert "RuntimeError: the roof is leaking" in findings[0].found


def test_format_shows_marks_and_advice() -> None:
    findings = [
        Finding("a", True, "good"),
        Finding("b", None, "so so", "live with it"),
        Finding("c", False, "bad", "go"),
    ]
    lines = format_findings(findings).splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["ok", "warn", "->", "FAIL", "->"]
    assert lines[-1] == "1 to fix, 1 to know about"


# Stand-ins for a torch that is missing, and for one that takes the whole process down.
@pytest.mark.parametrize(
    ("torch", "says"),
    [
        ("raise ModuleNotFoundError(\"No module named 'torch'\")", "No module named 'torch'"),
        ("import os; os.abort()", "Python ended with code -6"),
    ],
)
def test_works_without_torch(tmp_path: Path, torch: str, says: str) -> None:
    for name in ("torch", "torchvision", "numpy"):
        (tmp_path / f"{name}.py").write_text(torch)
    code = "from hw7.doctor import *; print(format_findings(examine()))"
    environment = {"PYTHONPATH": str(tmp_path), "HW7_CACHE": str(tmp_path / "cache")}
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=doctor.PROJECT
    )
    assert ended.returncode == 0, ended.stderr
    lines = {line.split()[1]: line for line in ended.stdout.splitlines() if line.startswith(("ok", "warn", "FAIL"))}
    assert list(lines) == [
        "Python",
        "packages",
        "torch",
        "torchvision",
        "GPU",
        "memory",
        "cache",
        "results",
        "data",
        "solution",
    ]
    for check in ("torch", "torchvision", "data", "solution"):
        assert lines[check].startswith("FAIL")
        assert says in lines[check]


@pytest.mark.slow  # four times `import torch`
def test_this_machine(tmp_path: Path) -> None:
    findings = examine("plates", tmp_path / "out")
    assert [found for found in findings if found.ok is False] == []
