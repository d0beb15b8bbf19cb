"""The diagnosis of `hw7-grade doctor`: which jail this machine gives, why not a better one, and what grading needs."""

import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from hw7.checks.cases import Call
from hw7.doctor import Finding
from hw7.support.system import cores, login
from hw7.support.words import counted

from .jail import Jail, best_tier
from .launch import subordinate_ids

FORKS = 5  # the first one is not counted
SYSCTLS = {
    # where the kernel says whether anybody may make namespaces: the value that forbids it
    "/proc/sys/user/max_user_namespaces": "0",
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
}


def examine() -> list[Finding]:
    """Runs all checks. Never raises."""
    findings: list[Finding] = []
    for check in (_versions, _tiers, _namespaces, _subuid, _bwrap, _fork):
        try:
            findings += check()
        except Exception as error:
            name = check.__name__.strip("_")
            findings.append(Finding(name, False, f"the check failed: {type(error).__name__}: {error}"))
    return findings


def _versions() -> Iterator[Finding]:
    machine = f"{platform.system()} {platform.release()}, {counted(cores(), 'core')}"
    yield Finding("python", True, f"{platform.python_version()} in {sys.prefix}, on {machine}")
    yield Finding("torch", True, importlib.metadata.version("torch"))


def _tiers() -> Iterator[Finding]:
    best, reasons = best_tier()
    for tier, reason in reasons.items():
        if tier == "D":
            yield Finding("tier D", True, "not secure, and taken only by name (--tier D)")
        elif reason == "works":
            yield Finding(f"tier {tier}", True, "works" + (", and is the one taken" if tier == best else ""))
        else:
            yield Finding(f"tier {tier}", None, reason)
    if best == "D":
        advice = "grade on Linux 5.13 or newer, or in a container there; docs/clusters.md says what it must allow"
        yield Finding("jail", False, "no secure tier works here", advice)


def _namespaces() -> Iterator[Finding]:
    forbidding = [
        f"{path} is {value}"
        for path, value in SYSCTLS.items()
        if Path(path).exists() and Path(path).read_text(encoding="utf-8").strip() == value
    ]
    if os.geteuid() == 0 or not forbidding:
        yield Finding("namespaces", True, "the kernel's switches let this account make them")
    else:
        yield Finding("namespaces", None, "; ".join(forbidding), "an administrator can change that with sysctl")


def _subuid() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding("subuid", True, "not needed by root")
    elif granted := subordinate_ids():
        first, count = granted[0]
        yield Finding("subuid", True, f"{count} from {first} on: each job can have a uid of its own")
    else:
        found = "/etc/subuid or /etc/subgid does not name this user" if shutil.which("newuidmap") else "no newuidmap"
        advice = f"apt-get install uidmap && usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {login()}"
        yield Finding("subuid", None, f"{found}: jobs run under one uid inside their namespaces", advice)


def _bwrap() -> Iterator[Finding]:
    path = shutil.which("bwrap")
    if path is None:
        yield Finding("bwrap", None, "bubblewrap is not installed: no tier B", "apt-get install bubblewrap")
    else:
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()
        yield Finding("bwrap", True, f"{version}, {path}")


def _fork() -> Iterator[Finding]:
    """How long a fresh child takes, from asking for it to its end, in the best tier."""
    tier, _ = best_tier()
    ends = [time.perf_counter()]
    with Jail(tier) as jail:
        for _ in range(1 + FORKS):
            with jail.child({}) as child:
                child.ask([Call("import_module", {"module": ""})], 60.0)
            ends.append(time.perf_counter())
    first, *others = (end - start for start, end in pairwise(ends))
    found = f"{1000 * statistics.median(others):.0f} ms for a child in tier {tier} and its first answer"
    yield Finding("fork", True, f"{found} ({first:.1f} s for the first one)")
