"""The doctor: what is wrong with an installation and what to do about it, in small checks with one finding each.

Nothing heavy is imported here. Torch, torchvision, the data and the solution are asked in Python processes
of their own (`_ask`), so that a library that is missing, broken or crashes is a finding, not the end of the doctor.
Without `packaging`, which reads the versions that hw7 needs, no version is too old, and that is the finding.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw7 import HW7Error
from hw7.solution import PROJECT
from hw7.support.system import cores, expanded
from hw7.support.words import counted

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PATIENCE_S = 300  # a first `import torch` takes a minute or two from a slow network disk or on a very busy machine
PYTHON = (3, 11)
MEMORY_GB = 4  # Food-11 and the pretraining images at 128 x 128 are 1.6 GB; PyTorch and the training want as much
CACHE_GB, OUT_GB = 3, 2  # all splits of the full profile at 128 x 128; weights and checkpoints of all its runs
SOURCES = ("plates", "fashion-mnist")  # those that may be there without being named
GET_TORCH = "choose your system on https://pytorch.org/get-started/locally and run the pip command that it shows"


@dataclass(frozen=True)
class Finding:
    """One check's answer. ok: False is a failure, None a warning: all works, but there is something to know."""

    check: str
    ok: bool | None
    found: str
    advice: str = ""


def examine(data: str | None = None, out: Path | None = None) -> list[Finding]:
    """Runs all checks; `data` is a source as in --data, `out` a folder for results. Never raises."""
    machine = _look(data, out)
    findings = []
    for check in CHECKS:
        try:
            findings.append(check(machine))
        except Exception as error:
            findings.append(Finding(check.__name__.strip("_"), False, f"the check failed: {_reason(error)}"))
    return findings


_MARKS = {True: "ok", None: "warn", False: "FAIL"}


def format_findings(findings: Iterable[Finding]) -> str:
    """A line for each finding, its advice below it, and the sum of it all."""
    findings = list(findings)
    width = max((len(finding.check) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.ok]:4}  {finding.check:{width}}  {finding.found}")
        if finding.advice:
            lines.append(f"{'':{width + 8}}-> {finding.advice}")
    failures, notes = ([finding.ok for finding in findings].count(ok) for ok in (False, None))
    return "\n".join([*lines, "", f"{failures} to fix, {notes} to know about" if failures or notes else "all is well"])


# ---- asking another process --------------------------------------------------------------------------------

Facts = dict[str, Any]


def _ask(function: Callable[..., Facts], arguments: Iterable[str]) -> Facts:
    """function(*arguments), run in a new Python; where that fails, {"error": the reason}."""
    code = f"import sys; from hw7 import doctor; doctor._answer(doctor.{function.__name__}, sys.argv[1:])"
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(PROJECT))))
    # PYTHONSAFEPATH: a torch.py or random.py in the current folder is not what the `hw7` command would import.
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", code, *arguments]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {PATIENCE_S} s"}
    except OSError as error:
        return {"error": _reason(error)}
    try:
        facts: Facts = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last_words = ended.stderr.strip().splitlines()[-1:]
        return {"error": f"Python ended with code {ended.returncode} {' '.join(last_words)}".strip()}
    return facts


def _answer(function: Callable[..., Facts], arguments: list[str]) -> None:
    """The other end of `_ask`: the facts are the last line printed."""
    try:
        facts = function(*arguments)
    except Exception as error:
        facts = {"error": _reason(error)}
    print("\n" + json.dumps(facts))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, HW7Error) else f"{type(error).__name__}: {error}"


def _torch_facts() -> Facts:
    import torch

    with warnings.catch_warnings(record=True, action="always") as caught:
        usable = torch.cuda.is_available()  # says why not, an old driver for example, in a warning
    complaint = " ".join(str(warning.message) for warning in caught)
    gpus = []
    for device in range(torch.cuda.device_count() if usable else 0):
        properties = torch.cuda.get_device_properties(device)
        try:
            torch.ones(1, device=f"cuda:{device}").add(1).item()
        except RuntimeError as error:  # this build has no kernels for it, or others have filled its memory
            complaint += f"{properties.name}: {str(error).splitlines()[0]}"
        else:
            gpus.append(f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)")
    built_for = torch.version.cuda or torch.version.hip
    return {"version": torch.__version__, "built_for": built_for, "gpus": gpus, "complaint": complaint}


def _torchvision_facts() -> Facts:
    version = importlib.metadata.version("torchvision")
    try:
        import torchvision  # noqa: F401

        operators = ""
    except RuntimeError as error:
        operators = str(error)
    import hw7.support.torchvision_import  # noqa: F401

    return {"version": version, "operators": operators}


def _data_facts(*sources: str) -> Facts:
    """Where decoded images are kept, and for each source the images of each split, counted by names and sizes alone."""
    from hw7.data.load import cache_dir

    return {"cache": str(cache_dir()), "sources": {source: _count(source) for source in sources}}


def _count(source: str) -> Facts:
    from hw7.data.load import plan_split

    try:
        with warnings.catch_warnings(record=True, action="always") as caught:
            counts = {split: plan_split(source, split).count for split in ("training", "validation", "testing")}
    except Exception as error:
        return {"error": _reason(error)}
    return {"counts": counts, "complaint": "; ".join(str(warning.message) for warning in caught)}


def _solution_facts() -> Facts:
    from hw7.solution import default_directory, load_solution

    try:
        directory = default_directory()
    except HW7Error as error:
        return {"none": str(error)}
    return {"folder": str(load_solution(directory).directory)}


# ---- the checks --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """What the checks look at."""

    source: str | None
    out: Path
    needs: dict[str, Requirement]
    """What hw7 needs, by the packages' names; empty where it is not installed, or `packaging` is not."""
    torch: Facts
    torchvision: Facts
    data: Facts
    solution: Facts


def _look(source: str | None, out: Path | None) -> Machine:
    asked = (_torch_facts, _torchvision_facts, _data_facts, _solution_facts)
    arguments = ((), (), (source,) if source else SOURCES, ())
    with ThreadPoolExecutor() as pool:  # each imports torch, which takes seconds
        return Machine(source, out or Path(), _needs(), *pool.map(_ask, asked, arguments))


def _needs() -> dict[str, Requirement]:
    try:
        from packaging.requirements import Requirement

        needs = [Requirement(line) for line in importlib.metadata.requires("hw7") or []]
    except ModuleNotFoundError:  # a package that is not installed, too
        return {}
    return {need.name: need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})}


def _python(machine: Machine) -> Finding:
    version = platform.python_version()
    if sys.version_info < PYTHON:
        needed = ".".join(map(str, PYTHON))
        return Finding("Python", False, version, f"Python {needed} or newer is needed")
    if sys.prefix == sys.base_prefix and "CONDA_PREFIX" not in os.environ:
        advice = "so other projects can change its packages; better: python -m venv .venv, and install there"
        return Finding("Python", None, f"{version}, not in a virtual environment", advice)
    return Finding("Python", True, f"{version} in {sys.prefix}")


def _packages(machine: Machine) -> Finding:
    if not machine.needs:
        missing = "hw7 itself, or `packaging`, is not installed in this Python"
        return Finding("packages", False, missing, f"python -m pip install -e {PROJECT}")
    found, wrong = [], []
    for name, need in machine.needs.items():
        if name in ("torch", "torchvision"):  # have checks of their own
            continue
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        found.append(f"{name} {version or 'missing'}")
        if not version or not need.specifier.contains(version, prereleases=True):
            wrong.append(f'"{need}"')
    advice = f"python -m pip install {' '.join(wrong)}" if wrong else ""
    return Finding("packages", not wrong, ", ".join(found), advice)


def _missing_or_old(name: str, machine: Machine, facts: Facts) -> Finding | None:
    """What is wrong with torch or torchvision, where it does not import or is older than hw7 needs."""
    if error := facts.get("error"):
        return Finding(name, False, error, f"install torch and torchvision (again): {GET_TORCH}")
    need = machine.needs.get(name)
    if need and not need.specifier.contains(facts["version"], prereleases=True):
        return Finding(name, False, facts["version"], f"{need} is needed: {GET_TORCH}")
    return None


def _torch(machine: Machine) -> Finding:
    facts = machine.torch
    if wrong := _missing_or_old("torch", machine, facts):
        return wrong
    built_for = f"GPUs (CUDA or ROCm {facts['built_for']})" if facts["built_for"] else "the CPU only"
    return Finding("torch", True, f"{facts['version']}, built for {built_for}")


def _torchvision(machine: Machine) -> Finding:
    facts = machine.torchvision
    if wrong := _missing_or_old("torchvision", machine, facts):
        return wrong
    found = facts["version"]
    major, minor, *_ = machine.torch.get("version", "0.0").split(".")
    fitting = f"0.{int(minor) + 15}"  # torch 2.11 and torchvision 0.26 are one release, …
    if major == "2" and found.split(".")[:2] != fitting.split("."):
        advice = f"torch {major}.{minor} belongs with torchvision {fitting}: {GET_TORCH}"
        return Finding("torchvision", None, found, advice)
    if facts["operators"]:
        advice = (
            "nothing here needs them, and hw7 imports torchvision around them; in code of your own, "
            f"`import hw7.support.torchvision_import` before `import torchvision`. For a pair that fits, {GET_TORCH}"
        )
        problem = f"its compiled operators do not fit this torch ({facts['operators']})"
        return Finding("torchvision", None, f"{found}: {problem}", advice)
    return Finding("torchvision", True, found)


def _gpu(machine: Machine) -> Finding:
    facts, driver = machine.torch, _nvidia_driver()
    gpus, complaint = facts.get("gpus"), facts.get("complaint")
    patience = "without a GPU, take `--profile quick`: `--profile full` takes days"
    if gpus:
        return Finding("GPU", None if complaint else True, ", ".join(gpus), complaint or "")
    if not driver and not complaint:
        return Finding("GPU", True, f"none; {patience}")
    if "error" in facts:
        return Finding("GPU", None, f"{driver}, not tried: torch does not work")
    if not facts["built_for"]:
        advice = f"to use it, {GET_TORCH} for CUDA; {patience}"
        return Finding("GPU", None, f"{driver}, but this torch is built for the CPU only", advice)
    advice = f"update the driver, or take a torch for another CUDA: {GET_TORCH}; {patience}"
    found = f"{driver or 'a GPU'}, but torch cannot use it: {complaint or 'no reason given'}"
    return Finding("GPU", None, found, advice)


def _nvidia_driver() -> str:
    """The GPUs that the NVIDIA driver sees, whatever torch says of them; "" where there are none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        ended = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):  # the first where there is no such command
        return ""
    gpus = [line.replace(",", ", driver") for line in ended.stdout.splitlines()]
    return "; ".join(gpus) if ended.returncode == 0 else ""


def _memory(machine: Machine) -> Finding:
    found = counted(cores(), "core")
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return Finding("memory", True, f"{found}; the memory is not known on this system")
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    found = f"{gigabytes:.1f} GB, {found}"
    if gigabytes >= MEMORY_GB:
        return Finding("memory", True, found)
    advice = f"with less than {MEMORY_GB} GB take small images and few of them: --size 64 --limit 2000"
    return Finding("memory", None, found, advice)


def _cache(machine: Machine) -> Finding:
    if error := machine.data.get("error"):
        return Finding("cache", None, f"not checked: hw7.data does not import ({error})")
    return _folder("cache", Path(machine.data["cache"]), CACHE_GB, "set HW7_CACHE to a folder that has it")


def _results(machine: Machine) -> Finding:
    return _folder("results", machine.out, OUT_GB, "name a folder on another disk with --out")


def _folder(check: str, folder: Path, gigabytes: float, otherwise: str) -> Finding:
    """Whether there is room in a folder, which need not exist yet, and permission to write there."""
    folder = expanded(folder).absolute()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding(check, False, f"{folder} cannot be written to: {error.strerror}", otherwise)
    free = shutil.disk_usage(existing).free / 1e9
    found = f"{folder}, {free:,.1f} GB free"
    if free >= gigabytes:
        return Finding(check, True, found)
    advice = f"the full profile needs up to {gigabytes} GB there, the quick one a tenth: make room, or {otherwise}"
    return Finding(check, False if free < gigabytes / 10 else None, found, advice)


def _data(machine: Machine) -> Finding:
    if error := machine.data.get("error"):
        return Finding("data", False, f"hw7.data does not work: {error}", "fix what is wrong above, first")
    sources = machine.data["sources"]
    if machine.source is None:
        usable = [source for source, facts in sources.items() if "error" not in facts]
        advice = "any other is looked at with --data, for example --data food11:DIR"
        return Finding("data", "plates" in usable, f"{' and '.join(usable) or 'nothing'} can be used", advice)
    facts = sources[machine.source]
    if error := facts.get("error"):
        return Finding("data", False, error, "fix that, or take `--data plates`, which needs no files")
    counts = ", ".join(f"{count:,} {split}" for split, count in facts["counts"].items())
    found = f"{machine.source}: {counts} images"
    return Finding("data", None if facts["complaint"] else True, found, facts["complaint"])


def _solution(machine: Machine) -> Finding:
    facts = machine.solution
    if error := facts.get("error"):
        return Finding("solution", False, error, "fix that file, or name another folder with --solution DIR")
    if none := facts.get("none"):  # a machine that grades needs none
        return Finding("solution", None, none)
    return Finding("solution", True, f"{facts['folder']}, all four modules import")


CHECKS: tuple[Callable[[Machine], Finding], ...] = (
    _python, _packages, _torch, _torchvision, _gpu, _memory, _cache, _results, _data, _solution,
)  # fmt: skip
