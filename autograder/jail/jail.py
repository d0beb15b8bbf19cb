"""The jail's tiers: which there are, the best one that works here, and a child for each piece of work.

    A   namespaces and a root of its own, made by the zygote; Landlock, seccomp, limits in each child
    B   the same zygote inside bubblewrap, a new one for each submission
    C   no namespaces: a uid of its own where the grader is root, Landlock, seccomp, limits
    D   a time limit and limits: not secure

Whatever a child does ends in an Answer. HW7Error is raised only where not even a child without files can be had.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from hw7 import HW7Error
from hw7.checks.cases import Call, Status
from hw7.solution import SOURCE

from . import confine
from .launch import Loader, Tier, Zygote, missing_powers

if TYPE_CHECKING:
    from .child import Child

Library = Literal["full", "minimal"]
SELF_TEST_SECONDS = 120.0


EMPTY = {f"{SOURCE}/__init__.py": b""}  # files that every child can hold: one that cannot is the grader's own failure


class FilesRefused(Exception):
    """Why no child can hold these files, where one with EMPTY files works."""


class Jail:
    """Children of one tier, one at a time, for any number of submissions. To be closed (`with`, or `close`).

    Its zygote starts with the first child, and again where it has died.
    """

    def __init__(self, tier: Tier, *, scratch_mb: int = 0, loader: Loader | None = None) -> None:
        """scratch_mb: in tier B, of all children of a submission together; 0: the usual. loader: of this tier (not B),
        to have zygotes from, which others use as well; where it has ended, the jail starts one of its own."""
        if tier not in get_args(Tier):
            raise HW7Error(f"tier {tier!r} is not known; there are {', '.join(get_args(Tier))}")
        self.tier: Tier = tier
        self._scratch_mb = scratch_mb
        self._shared = loader
        self._own: Loader | None = None
        self._zygote: Zygote | None = None
        self._files: Mapping[str, bytes] = {}
        self._child: Child | None = None

    def __enter__(self) -> Jail:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything that runs in it and removes what it wrote. It can be used again afterwards."""
        self._end_child()
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None
        if self._own is not None:
            self._own.close()
            self._own = None
        atexit.unregister(self.close)

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def start(self) -> Zygote:
        """Starts its zygote where none runs, and does not wait for it: `child` does. Raises HW7Error."""
        if self._zygote is None or not self._zygote.alive:
            self.close()
            atexit.register(self.close)
            if self._shared is not None:
                with contextlib.suppress(HW7Error):
                    self._zygote = Zygote(self._shared)
                    return self._zygote
            self._own = Loader(self.tier, self._scratch_mb)
            self._zygote = Zygote(self._own)
        return self._zygote

    def child(
        self, files: Mapping[str, bytes], *, library: Library = "full", memory_mb: int = 1024, **more: object
    ) -> Child:
        """A fresh process that can import these files, {"solution/losses.py": b"…"}; the one before is ended.

        more: what is not as usual: scratch_mb, scratch_files, limits (as {"CPU": 900}); and `notebook`, for a process
        that runs a notebook's cells beside these files (see `cells.Cells`).
        Raises FilesRefused where it works with EMPTY files only, HW7Error where it does not work.
        """
        self._end_child()
        if self.tier == "B" and dict(files) != self._files:
            self.close()  # a cold process for each submission
        self._files = dict(files)
        job = {"library": library, "memory_mb": memory_mb, **more}
        with contextlib.suppress(HW7Error):
            return self._start_child(job)
        self.close()  # once more, with a new zygote
        try:
            return self._start_child(job)
        except HW7Error as error:
            if not files or files == EMPTY:
                self.close()
                raise
            self.child(EMPTY, library=library, memory_mb=memory_mb, **more).close()
            raise FilesRefused(str(error)) from error

    def _start_child(self, job: Mapping[str, object]) -> Child:
        from .child import Child  # which needs torch, while the zygote can load beside that

        try:
            server = self.start()
            server.wait()
            self._child = Child(server, job, self._files)
        except HW7Error:
            raise
        except Exception as error:  # a file that cannot be sent, no memory, no descriptors
            self.close()
            raise HW7Error(f"no process of the jail (tier {self.tier}) could be started: {error!r:.300}") from error
        return self._child

    def self_test(self) -> None:
        """Raises HW7Error unless code in this jail runs, under the uid of its job, fails in all that must not succeed,
        and not in what it needs."""
        import torch  # which `child` needs, too

        escapes = Path(__file__).with_name("escapes.py").read_bytes()
        question = torch.arange(1.0, 6.0)
        with self.child({"solution/__init__.py": b"", "solution/pruning.py": escapes}) as child:
            call = Call("select_channels", {"importance": question, "keep": 3})
            (answer,) = child.ask([call], SELF_TEST_SECONDS)
        reason = ""
        if answer.status is not Status.RETURNED:
            reason = answer.note or child.stopped_by
        elif not answer.tensors or not torch.equal(answer.tensors[0], 3 * question.flip(0)):
            reason = "a submitted file was not run, or not whole"
        if reason:
            raise HW7Error(f"the self-test of tier {self.tier} failed: {reason[:300]}")


@lru_cache(maxsize=1)
def best_tier() -> tuple[Tier, dict[Tier, str]]:
    """The best tier that works here, and for each tier "works" or why it does not.

    Each is started for real, and code in it tries what must not succeed (see `escapes.py`).
    """
    *secure, insecure = get_args(Tier)
    with ThreadPoolExecutor(2) as pool:
        reasons: dict[Tier, str] = dict(zip(secure, pool.map(_try, secure), strict=True))
    reasons[insecure] = "works"
    return next(tier for tier, reason in reasons.items() if reason == "works"), reasons


def _try(tier: Tier) -> str:
    if not confine.LINUX:
        return "Linux only"
    if not confine.landlock_abi():
        return "the kernel has no Landlock (Linux 5.13 or newer, with landlock among its security modules)"
    if tier == "B" and shutil.which("bwrap") is None:
        return "bubblewrap is not installed"
    if missing := missing_powers(tier):
        return f"root has no {', '.join(missing)} here, as in a container; an ordinary user needs none of them"
    try:
        with Jail(tier) as jail:
            jail.self_test()
    except HW7Error as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error or 'no reason given'}"[:300]
    return "works"
