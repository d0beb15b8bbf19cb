"""The place where submitted code runs: a `Jail` forks a confined process for each piece of work, a `Child` is one.

    tiers      Jail, best_tier: what the grader uses, in the grader's process; free of torch, which the zygote loads
    child      one jailed process, seen from the grader
    zygote     the fork server, and what a child does between its birth and its first line of submitted code
    confine    namespaces, mounts, uids, capabilities, limits, Landlock, seccomp; syscalls has the filter's table
    protocol   the frames in which calls go in and answers come out

docs/jail.md says what each tier keeps out, and what it does not.
"""

from .jail import Jail, best_tier
from .launch import Tier

__all__ = ["Jail", "Tier", "best_tier"]
