"""What `hw7-grade doctor` says: the jail that this machine gives, why not a better one, and what grading needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hw7.doctor import Finding
from hw7.support.account import login

FORKS = 5  # the first one is not counted
SYSCTLS = {
    # where the kernel says whether anybody may make namespaces: the value that forbids it
    "/proc/sys/user/max_user_namespaces": "0",
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
}


def examine() -> list[Finding]:
    """Runs all checks. Never raises."""
    findings = []
    for check in CHECKS:
        try:
            findings += check()
        except Exception as error:
            name = check.__name__.strip("_")
            findings.append(Finding(name, False, f"the check failed: {type(error).__name__}: {error}"))
    return findings


def _versions() -> list[Finding]:
    machine = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores"
    return [
        Finding("python", True, f"{platform.python_version()} in {sys.prefix}, on {machine}"),
        Finding("torch", True, importlib.metadata.version("torch")),
    ]


def _tiers() -> list[Finding]:
    from autograder.jail import best_tier

    best, reasons = best_tier()
    findings = []
    for tier, reason in reasons.items():
        if tier == "D":
            findings.append(Finding("tier D", True, "not secure, and taken only by name (--tier D)"))
        elif reason == "works":
            findings.append(Finding(f"tier {tier}", True, "works" + (", and is the one taken" if tier == best else "")))
        else:
            findings.append(Finding(f"tier {tier}", None, reason))
    if best == "D":
        advice = "grade on Linux 5.13 or newer, or in a container there; docs/clusters.md says what it must allow"
        findings.append(Finding("jail", False, "no secure tier works here", advice))
    return findings


def _namespaces() -> list[Finding]:
    forbidding = [
        f"{path} is {value}"
        for path, value in SYSCTLS.items()
        if Path(path).exists() and Path(path).read_text(encoding="utf-8").strip() == value
    ]
    if os.geteuid() == 0 or not forbidding:
        return [Finding("namespaces", True, "the kernel's switches let this account make them")]
    return [Finding("namespaces", None, "; ".join(forbidding), "an administrator can change that with sysctl")]


def _subuid() -> list[Finding]:
    if os.geteuid() == 0:
        return [Finding("subuid", True, "not needed by root")]
    user, tools = login(), all(shutil.which(tool) for tool in ("newuidmap", "newgidmap"))
    table = Path("/etc/subuid")
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    granted = [line for line in lines if line.split(":")[0] in (user, str(os.getuid()))]
    if granted and tools:
        return [Finding("subuid", True, f"{granted[0]}: each job can have a uid of its own")]
    missing = "newuidmap is not installed" if granted else f"/etc/subuid has no line for {user}"
    advice = f"apt-get install uidmap && usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {user}"
    return [Finding("subuid", None, f"{missing}: jobs run under one uid inside their namespaces", advice)]


def _bwrap() -> list[Finding]:
    path = shutil.which("bwrap")
    if path is None:
        return [Finding("bwrap", None, "bubblewrap is not installed: no tier B", "apt-get install bubblewrap")]
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()
    return [Finding("bwrap", True, f"{version}, {path}")]


def _fork() -> list[Finding]:
    """How long a fresh child takes, from asking for it to its end, in the best tier."""
    from autograder.jail import Jail, best_tier
    from hw7.checks.cases import Call

    tier, _ = best_tier()
    times = []
    start = time.perf_counter()
    with Jail(tier) as jail:
        for _ in range(1 + FORKS):
            with jail.child({}) as child:
                child.ask([Call("import_module", {"module": ""})], 60.0)
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
    first, median = times[0], statistics.median(times[1:])
    found = f"{1000 * median:.0f} ms for a child in tier {tier} and its first answer ({first:.1f} s for the first one)"
    return [Finding("fork", True, found)]


CHECKS: tuple[Callable[[], list[Finding]], ...] = (_versions, _tiers, _namespaces, _subuid, _bwrap, _fork)
