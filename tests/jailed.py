"""Questions to a jailed process: submissions of a few lines, and the fixtures of tests that run them in each tier.

`tests/jail/test_without_privileges.py` runs every file that imports this one again as another user.
"""

import ast
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from autograder.jail import Jail, Tier, best_tier
from hw7.checks.cases import Answer, Call, Status

linux = pytest.mark.skipif(sys.platform != "linux", reason="the secure tiers are Linux's")

SECONDS = 60.0  # for what ends by itself: far more than it takes
_jails: dict[Tier, Jail] = {}


@pytest.fixture(scope="package", autouse=True)
def close_jails() -> Iterator[None]:
    yield
    for jail in _jails.values():
        jail.close()
    _jails.clear()


SLOW_B, SLOW_C = (pytest.param(tier, marks=pytest.mark.slow) for tier in "BC")


@pytest.fixture(params=["A", SLOW_C])
def jail(request: pytest.FixtureRequest) -> Jail:
    return jail_of(request.param)


@pytest.fixture(params=["A", SLOW_B, SLOW_C])
def each_jail(request: pytest.FixtureRequest) -> Jail:
    """B too: it shares all but its namespaces with C, and starts cold for each submission."""
    return jail_of(request.param)


def jail_of(tier: Tier) -> Jail:
    reason = best_tier()[1][tier]
    if reason != "works":
        pytest.skip(f"tier {tier} does not work here: {reason}")
    return _jails.setdefault(tier, Jail(tier))


def submission(body: str, top: str = "") -> dict[str, bytes]:
    """A submission that runs these lines when it is asked, and answers the text in `result`."""
    code = (
        "import ctypes, errno, gc, os, random, resource, signal, socket, struct, subprocess, sys, threading, time\n"
        "import torch\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        f"{textwrap.dedent(top)}\n"
        "def kd_loss(student, teacher, labels, *options):\n"
        "    result = ''\n"
        f"{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        "    return torch.tensor(list(repr(result).encode()), dtype=torch.uint8)\n"
    )
    return {"solution/__init__.py": b"", "solution/losses.py": code.encode()}


def question(number: float = 0.0) -> Call:
    return Call("kd_value", {"student": torch.tensor([number]), "teacher": torch.zeros(1), "labels": torch.zeros(1)})


def said(answer: Answer) -> object:
    """What `result` was."""
    assert answer.status is Status.RETURNED, answer
    return ast.literal_eval(bytes(answer.tensors[0].tolist()).decode())


def inside(jail: Jail, body: str, top: str = "", **options: object) -> object:
    """Runs these lines in a child of the jail: what was in `result` at their end."""
    with jail.child(submission(body, top), **options) as child:  # type: ignore[arg-type]
        return said(child.ask([question()], SECONDS)[0])


ECHO = "result = student.item()"


def works(jail: Jail) -> None:
    """The next child is as good as new."""
    assert inside(jail, ECHO) == 0.0


def others_may_read(tier: Tier) -> bool:
    """Whether another user may, where the tier mounts them: Python and torch may be installed under a strict umask."""
    for module, mounted in ((os, 1), (torch, 2)):  # the standard library's folder; torch's, and the one it lies in
        file = Path(str(module.__file__)).resolve()
        folders = file.parents if tier == "C" else file.parents[:mounted]
        if not file.stat().st_mode & 4 or not all(folder.stat().st_mode & 1 for folder in folders):
            return False
    return True
