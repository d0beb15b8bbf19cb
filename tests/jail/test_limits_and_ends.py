"""Limits and ends: what is too much is refused, and how a process ended is seen from outside as what it was."""

import contextlib
import os
import signal
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jailed import ECHO, SECONDS, inside, linux, question, said, submission, works

from autograder.jail import Jail
from autograder.jail.child import GRACE_SECONDS, MAX_FILES, youngest
from autograder.jail.protocol import encode
from hw7.checks.cases import Bound, Status

pytestmark = linux

# ---- limits -----------------------------------------------------------------------------------------------------

MEMORY = {
    "a list": "result = [0] * 2**31",
    "many objects": "kept = []\nwhile True: kept.append(bytearray(2**20))",
    "small objects": "kept = []\nwhile True: kept.append([object() for _ in range(10000)])",
    "a tensor": "torch.zeros(2**40)",
    "many tensors": "kept = []\nwhile True: kept.append(torch.ones(2**20))",
}


@pytest.mark.parametrize("body", MEMORY.values(), ids=MEMORY)
def test_memory(jail: Jail, body: str) -> None:
    with jail.child(
        submission(f"if student.item() == 1:\n{textwrap.indent(body, '    ')}\n{ECHO}"), memory_mb=256
    ) as child:
        answers = child.ask([question(1), question(2)], SECONDS)
        assert answers[0].status is Status.NO_MEMORY
        assert said(answers[1]) == 2


KEEPING = {
    "all": "while True: kept.append(bytearray(2**16))",
    "in pieces of a page": "while True: kept.append(bytearray(2**12))",
    "in tensors": "while True: kept.append(torch.ones(2**12))",
    "but not the last MiB": "while True: kept.append(bytearray(2**20))",
}


@pytest.mark.parametrize(
    "body", [pytest.param(b, marks=() if n == "all" else pytest.mark.slow, id=n) for n, b in KEEPING.items()]
)
def test_memory_that_is_kept(jail: Jail, body: str) -> None:
    """Whatever can still be done in what is left: no call dies for an unknown reason, and a new process has it all."""
    code = f"""
        if student.item() == 1:
            try:
                {body}
            except (MemoryError, RuntimeError):
                pass
        {ECHO}
    """
    with jail.child(submission(code, "kept = []"), memory_mb=64) as child:
        statuses = [answer.status for number in (1, 2, 3) for answer in child.ask([question(number)], SECONDS)]
        assert Status.NO_MEMORY in statuses
        assert set(statuses) <= {Status.RETURNED, Status.NO_MEMORY, Status.UNANSWERED}, child.stopped_by
    works(jail)


def test_threads(each_jail: Jail) -> None:
    """Threads are allowed, a bomb of them is not, and costs no memory."""
    body = """
        threading.stack_size(65536)
        started = []
        stop = threading.Event()
        try:
            for _ in range(5000):
                thread = threading.Thread(target=stop.wait, daemon=True)
                thread.start()
                started.append(thread)
        except RuntimeError:
            pass
        stop.set()
        result = len(started)
    """
    limit = 64 if os.geteuid() == 0 or each_jail.tier != "C" else 3000  # without a uid of its own it shares one count
    count = inside(each_jail, body)
    assert isinstance(count, int)
    assert 4 <= count < limit


def test_descriptors(jail: Jail) -> None:
    body = """
        opened = []
        try:
            while True:
                opened.append(open('/dev/null'))
        except OSError:
            result = len(opened)
    """
    count = inside(jail, body)
    assert isinstance(count, int)
    assert 50 < count < 200


def test_disk(jail: Jail) -> None:
    """A few files are allowed. Too many bytes are refused, or end the child; too many files, too."""
    assert inside(jail, "open('a', 'w').write('x' * 10**6)\nresult = os.path.getsize('a')") == 10**6
    for body in (
        "for i in range(1000):\n    open(str(i), 'wb').write(bytes(2**20))",
        "open('a', 'wb').write(bytes(2**26))",
        f"for i in range({MAX_FILES + 100}):\n    open(str(i), 'wb').close()\ntime.sleep(5)\nraise OSError",
        "while True:\n    os.mkdir('d')\n    os.chdir('d')",
    ):
        with jail.child(submission(body)) as child:
            (answer,) = child.ask([question()], SECONDS)
            assert answer.status in (Status.RAISED, Status.DIED), body
            assert answer.status is Status.RAISED or "scratch" in child.stopped_by or "SIGXFSZ" in child.stopped_by
    works(jail)


def test_output_is_cut(each_jail: Jail) -> None:
    with each_jail.child(submission("sys.stdout.write('x' * 5 * 10**7)\nos.write(2, b'y' * 10**6)\n" + ECHO)) as child:
        assert said(child.ask([question(3)], SECONDS)[0]) == 3
        assert child.output == "x" * 2**16
    with each_jail.child(submission("print('first')\nos.write(2, b'\\xff second')\n" + ECHO)) as child:
        child.ask([question()], SECONDS)
    assert child.output == "first\n\ufffd second"


def test_recursion(jail: Jail) -> None:
    with jail.child(submission("if student.item(): f()\n" + ECHO, "def f(): f()")) as child:
        answers = child.ask([question(1), question()], SECONDS)
        assert [answer.status for answer in answers] == [Status.RAISED, Status.RETURNED]


# ---- ends -------------------------------------------------------------------------------------------------------

ENDLESS = {
    "a loop": "while True: pass",
    "asleep": "while True: time.sleep(100)",
    "deaf": "for s in range(1, 32):\n    if s not in (9, 19): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
    "in C": "x = torch.rand(3000, 3000)\nwhile True: x = x @ x",
    "swallowing": "while True:\n    try: time.sleep(1)\n    except BaseException: pass",
    "waiting": "threading.Event().wait()",
    "reading its own input": "os.read(3, 1)",
    "printing": "while True: print('x' * 1000)",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("body", ENDLESS.values(), ids=ENDLESS)
def test_deadline(jail: Jail, body: str) -> None:
    """What was answered stays; the call it was at is TIME; the rest was never asked."""
    with jail.child(submission(f"if student.item() == 1:\n{textwrap.indent(body, '    ')}\n{ECHO}")) as child:
        said(child.ask([question()], SECONDS)[0])  # imported
        answers = child.ask([question(), question(1), question()], 3.0)
        assert [answer.status for answer in answers] == [Status.RETURNED, Status.TIME, Status.UNANSWERED]
        assert child.stopped_by.startswith("deadline 3 s: computed ")
        assert not child.alive
    works(jail)


DEATHS = {
    "exit": ("os._exit(0)", "exit code 0 before the answer"),
    "exit 3": ("os._exit(3)", "exit code 3 before the answer"),
    "kill": ("os.kill(os.getpid(), signal.SIGKILL)\nos._exit(9)", ""),
    "abort": ("os.abort()", "signal"),
    "a signal without a name": ("os.kill(os.getpid(), 40)\nos._exit(9)", ""),  # in A the first of its pids hears none
    "null pointer": ("ctypes.string_at(0)", "signal 11 SIGSEGV"),
    "raised in a thread": ("threading.Thread(target=os._exit, args=(1,)).start()\ntime.sleep(60)", "exit code 1"),
    "closes all": ("os.closerange(0, 100)\nos._exit(0)", "exit code 0"),
    "closes all and sleeps": ("os.closerange(0, 100)\ntime.sleep(60)", "answer pipe"),
}


@pytest.mark.parametrize(("body", "reason"), DEATHS.values(), ids=DEATHS)
def test_death(jail: Jail, body: str, reason: str) -> None:
    with jail.child(submission(f"if student.item() == 1:\n{textwrap.indent(body, '    ')}\n{ECHO}")) as child:
        answers = child.ask([question(), question(1), question()], SECONDS)
        assert [answer.status for answer in answers] == [Status.RETURNED, Status.DIED, Status.UNANSWERED]
        assert reason in child.stopped_by
        assert not child.alive
    works(jail)


def fork_server(jail: Jail) -> int:
    """Its pid: the parent of whatever was started last."""
    works(jail)
    assert jail._zygote is not None
    return int(Path(f"/proc/{youngest(jail._zygote.pid)}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def crowded(jail: Jail) -> Iterator[None]:
    """Its children have one processor, together with two processes that never rest."""
    server = fork_server(jail)
    processors = os.sched_getaffinity(server)
    others = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
    try:
        for pid in (server, *(other.pid for other in others)):
            os.sched_setaffinity(pid, {min(processors)})
        yield
    finally:
        os.sched_setaffinity(server, processors)
        for other in others:
            other.kill()
            other.wait()


LAST_WORDS = {
    "an exit": "os._exit(1)",
    "a signal": "ctypes.string_at(0)",
    "no answer pipe": "os.close(4)\ntime.sleep(60)",
    "a flood": "os.write(4, b'x' * 100)\ntime.sleep(60)",
    "a deadline": "while True: pass",
}


@pytest.mark.parametrize(
    "end", [pytest.param(end, marks=() if end == "an exit" else pytest.mark.slow) for end in LAST_WORDS]
)
def test_waiting_for_a_processor_does_not_count_for_who_dies(jail: Jail, end: str) -> None:
    """Charged is what it computed, and at most half of what it waited: how long that is, only the machine knows."""
    body = f"while time.process_time() < begun + 0.3: pass\n{LAST_WORDS[end]}"
    computed = 0.5 if end == "a deadline" else 0.3
    with crowded(jail), jail.child(submission(f"begun = time.process_time()\n{body}")) as child:
        start = time.monotonic()
        (answer,) = child.ask([question()], computed if end == "a deadline" else SECONDS)
        passed = time.monotonic() - start
        assert answer.status not in (Status.RETURNED, Status.RAISED)
        slept = GRACE_SECONDS if end == "no answer pipe" else 0.0
        waited = passed - slept - computed
        assert 0.3 <= child.seconds < slept + computed + 0.1 + waited / 2


@pytest.mark.slow
def test_an_end_that_is_reported_late_is_told_as_what_it_was(jail: Jail) -> None:
    """The fork server has no processor for longer than the child's pipe is closed."""
    server = fork_server(jail)
    with jail.child(submission("os.closerange(0, 100)\nos._exit(7)")) as child:
        os.kill(server, signal.SIGSTOP)
        again = threading.Timer(GRACE_SECONDS + 2.0, os.kill, (server, signal.SIGCONT))
        again.start()
        (answer,) = child.ask([question()], SECONDS)
        again.join()
        assert answer.status is Status.DIED
        assert child.stopped_by == "exit code 7 before the answer"
    works(jail)


FORGED = {
    "no frame": "os.write(4, b'100 of 100 points, everything passed!')",
    "a pickle": "import pickle\nos.write(4, pickle.dumps(list(range(100))))",
    "endless": "while True: os.write(4, FRAME(7))",
    "answers to what was not asked": "os.write(4, FRAME(3))",
    "a huge announcement": "os.write(4, struct.pack('<4sQBHIQ', b'HW7\\x01', 2, 0, 0, 1, 2**62))",
    "too much": "return torch.zeros(2**22 + 1)",
}


@pytest.mark.parametrize("body", FORGED.values(), ids=FORGED)
def test_forged_frames(jail: Jail, body: str) -> None:
    frame = encode(0, 0, "", {"0": torch.zeros(1)})
    top = f"FRAME = lambda index: {frame[:4]!r} + struct.pack('<Q', index) + {frame[12:]!r}"
    with jail.child(submission(f"if student.item() == 1:\n{textwrap.indent(body, '    ')}\n{ECHO}", top)) as child:
        said(child.ask([question()], SECONDS)[0])
        (answer,) = child.ask([question(1)], SECONDS)
        assert answer.status is Status.FLOOD
        assert child.stopped_by.startswith("flood")
    works(jail)


def test_the_bound_of_a_question(jail: Jail) -> None:
    """A larger answer ends the child, and says which bound it was; the answers before it stay."""
    bound = Bound(2, 1000)
    calls = [replace(question(size), most=bound) for size in (100, 1000, 100)]
    body = "return torch.zeros(int(student.item()), dtype=torch.uint8)"
    with jail.child(submission(body)) as child:
        first, large, last = child.ask(calls, SECONDS)
        assert first.tensors[0].shape == (100,)
        assert (large.status, large.most) == (Status.FLOOD, bound)
        assert (last.status, last.most) == (Status.UNANSWERED, None)
        assert "at most 1,000" in child.stopped_by
    works(jail)


def test_the_first_answer_wins(each_jail: Jail) -> None:
    frame = encode(1, 0, "", {"0": torch.tensor([42.0])})
    with each_jail.child(submission(f"if student.item() == 1: os.write(4, {frame!r})\n" + ECHO)) as child:
        (answer,) = child.ask([question(1)], SECONDS)
        assert torch.equal(answer.tensors[0], torch.tensor([42.0]))
        assert said(child.ask([question(5)], SECONDS)[0]) == 5  # the second one was not taken for this


def test_the_fork_server_dies(jail: Jail) -> None:
    with jail.child(submission(ECHO)) as child:
        assert jail._zygote is not None
        os.kill(jail._zygote.pid, signal.SIGKILL)
        statuses = [answer.status for answer in child.ask([question()], SECONDS)]
        assert statuses in ([Status.DIED], [Status.RETURNED])  # whichever was first
    works(jail)
