"""The jail: submitted code runs in here, in one confined process for each piece of work.

Theory of operation. Nothing that a submission does may reach the machine, the grader, another submission or its own
next piece of work, and nothing that it sends may be believed before it has been checked.

1. The grader asks a `Jail` for a `Child` (jail, child). The first request launches a loader of the jail's tier
   (launch): a Python from a staged copy of this package and of `hw7`, in an environment of its own, which imports torch
   and the programs of `hw7.checks.calls`. Jails side by side may share one.
2. The loader forks a fork server (zygote) for each jail, which makes the namespaces of its tier and waits. Neither of
   them holds a byte of a submission, a question or an answer, so no process forked from them can find any.
3. For each piece of work it forks one process (inside), which gets three pipes: input, answers, output. That process
   reads the submission's files from its input, writes them where only it can see them, points the imports at the
   view of `hw7` that this work may have (library), and closes the jail behind itself while it has one thread: limits,
   keyring, uid, capabilities, Landlock (confine), system calls (seccomp, syscalls). If a step fails, it ends.
4. Only then does it import submitted code. A question comes when it is asked; an answer goes back as a frame of raw
   tensors (protocol), which the grader's `Child` bounds and parses. Nothing is unpickled, and exit codes, output and
   exceptions are remarks for the teacher, never evidence.
5. A process ends when it has been asked everything, at a deadline, or with anything that is not a frame. The fork
   server, its parent, kills it, waits for it and removes its folder (removal). When the grader ends, even by
   `kill -9`, the fork server sees its socket close, and goes with all it has; the loader goes with the last grader.

A notebook's cells run in such a process too, by IPython (cells): what they put out comes back as texts.
What a process may see of the machine is found by visible; escapes is what `best_tier` runs inside to see a tier hold;
doctor tells the teacher. docs/jail.md says what each tier keeps out, and what it does not.
"""

from .jail import EMPTY, Jail, best_tier
from .launch import Loader, Tier

__all__ = ["EMPTY", "Jail", "Loader", "Tier", "best_tier"]
