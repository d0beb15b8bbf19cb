"""The jail holds: what a hostile process tries fails, is seen from outside as what it was, and touches no later one.

Each test runs in the secure tiers that this machine has. The last ones run this file again without privileges.
"""

import ast
import contextlib
import json
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import hw7
from autograder.jail import Jail, Tier, best_tier, confine, launch, seccomp, syscalls
from autograder.jail.child import GRACE_SECONDS, youngest
from autograder.jail.inside import MAX_FILES
from autograder.jail.launch import PREFIX
from autograder.jail.protocol import encode
from autograder.jail.trees import remove_tree
from hw7 import HW7Error
from hw7.checks.cases import Answer, Call, Status

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the secure tiers are Linux's")

PROJECT = Path(hw7.__file__).resolve().parent.parent
REFERENCE = PROJECT / "reference_solutions" / "hw7"
SECONDS = 60.0  # for what ends by itself: far more than it takes
_jails: dict[Tier, Jail] = {}


@pytest.fixture(scope="module", autouse=True)
def _close_jails() -> Iterator[None]:
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


def test_a_start_that_takes_too_long_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "START_SECONDS", 0.0)
    monkeypatch.setattr(launch, "END_SECONDS", 0.0)  # nor is there any waiting for its end
    with Jail("D") as jail, pytest.raises(HW7Error, match=r"not ready after 0 s\. Is this machine very busy"):
        jail.child(submission(ECHO))


# ---- asking ----------------------------------------------------------------------------------------------------


def test_an_answer_for_each_call_in_order(each_jail: Jail) -> None:
    with each_jail.child(submission("if student.item() == 2: raise ValueError('two')\n" + ECHO)) as child:
        answers = child.ask([question(i) for i in range(4)], SECONDS)
        assert [answer.status for answer in answers] == [0, 0, Status.VALUE_ERROR, 0]
        assert "two" in answers[2].note
        assert [said(answers[i]) for i in (0, 1, 3)] == [0, 1, 3]
        assert said(child.ask([question(9)], SECONDS)[0]) == 9
        assert child.alive
        assert child.stopped_by == ""
    assert not child.alive
    assert child.ask([question()], 1.0)[0].status is Status.UNANSWERED


def test_large_inputs_and_answers(jail: Jail) -> None:
    """Ten megabytes each way: more than any pipe holds."""
    images = torch.rand(50, 3, 128, 128)
    code = b"def kd_loss(student, teacher, labels):\n    return student + 1\n"
    with jail.child({"solution/__init__.py": b"", "solution/losses.py": code}) as child:
        call = Call("kd_value", {"student": images, "teacher": images[0], "labels": images[0]})
        for answer in child.ask([call, call], SECONDS):
            assert torch.equal(answer.tensors[0], images + 1)


def test_missing_files_and_broken_ones(jail: Jail) -> None:
    for files, status in (
        ({}, Status.ABSENT),
        ({"solution/__init__.py": b""}, Status.ABSENT),
        ({"solution/__init__.py": b"", "solution/losses.py": b"def kd_loss(:"}, Status.RAISED),
        ({"solution/__init__.py": b"", "solution/losses.py": b"import nothing_of_that_name"}, Status.RAISED),
        ({"solution/__init__.py": b"", "solution/losses.py": b"raise SystemExit"}, Status.RAISED),
        ({"solution/__init__.py": b"", "solution/losses.py": b"raise KeyboardInterrupt"}, Status.RAISED),
    ):
        with jail.child(files) as child:
            assert child.ask([question()], SECONDS)[0].status is status, files


def test_what_has_no_place_in_a_frame_is_left_out(jail: Jail) -> None:
    code = b"import torch\ndef kd_loss(*given):\n    return torch.zeros(2, dtype=torch.complex64)\n"
    with jail.child({"solution/__init__.py": b"", "solution/losses.py": code}) as child:
        (answer,) = child.ask([question()], SECONDS)
        assert (answer.status, answer.tensors) == (Status.RETURNED, ())
        assert "complex64" in answer.note
        assert child.alive


def test_the_library_it_sees(each_jail: Jail) -> None:
    look = """
        import hw7
        result = []
        for name in ('models', 'data', 'data.plates', 'report.ledger'):
            try:
                __import__('hw7.' + name)
                result.append(name)
            except ImportError:
                pass
        for view in ('full', 'minimal'):
            folder = os.path.join(os.path.dirname(os.path.dirname(hw7.__path__[0])), view, 'hw7')
            try:
                open(os.path.join(folder, 'measure.py')).close()
                result.append(view)
            except OSError:
                pass
    """
    assert inside(each_jail, look) == ["models", "data", "data.plates", "report.ledger", "full"]
    assert inside(each_jail, look, library="minimal") == ["models"]


def test_the_same_random_numbers_every_time(jail: Jail) -> None:
    """Or the same submission would not always get the same grade. The order of sets is part of it."""
    body = "import numpy\nresult = [torch.rand(1).item(), random.random(), float(numpy.random.rand()), hash('text')]"
    first = inside(jail, body)
    assert inside(jail, body) == first
    jail.close()
    assert inside(jail, body) == first


# ---- what is out of reach ---------------------------------------------------------------------------------------

REFUSED = {
    # each is an expression that must raise OSError
    "read a file of the system": "open('/etc/passwd').read()",
    "read the checkout": f"open({str(PROJECT / 'pyproject.toml')!r}).read()",
    "read the reference solution": f"open({str(PROJECT / 'reference_solutions/hw7/solution/losses.py')!r}).read()",
    "read the reference weights": f"open({str(REFERENCE / 'weights.safetensors')!r}, 'rb').read()",
    "read the grader": f"open({str(PROJECT / 'autograder/tasks/losses/oracle.py')!r}).read()",
    "list the checkout": f"os.listdir({str(PROJECT)!r})",
    "list /proc": "os.listdir('/proc')",
    "read its own /proc": "open('/proc/self/environ', 'rb').read()",
    "read the memory of its parent": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "list /sys": "os.listdir('/sys')",
    "list /home": "os.listdir('/home')",
    "list /tmp": "os.listdir('/tmp')",
    "list /dev/shm": "os.listdir('/dev/shm')",
    "list /run": "os.listdir('/run')",
    "read a program": "open('/usr/bin/env', 'rb').read(4)",
    "write to /tmp": "open('/tmp/escaped', 'w')",
    "write to /dev/shm": "open('/dev/shm/escaped', 'w')",
    "write beside its scratch folder": "open('../escaped', 'w')",
    "write to its own files": "open(__file__, 'a')",
    "write to the library": "open(sys.modules['hw7'].__file__, 'a')",
    "cut the library": "os.open(sys.modules['hw7'].__file__, os.O_RDONLY | os.O_TRUNC)",
    "cut the library by name": "os.truncate(sys.modules['hw7'].__file__, 0)",
    "write to torch": "open(torch.__file__, 'a')",
    "remove its own files": "os.unlink(__file__)",
    "follow a link out": "(os.symlink('/etc/passwd', 'link'), open('link').read())",
    "hard-link the library": "os.link(sys.modules['hw7'].__file__, 'link2')",
    "make a fifo": "os.mkfifo('fifo')",
    "make a device": "os.mknod('null', 0o20666, os.makedev(1, 3))",
    "change a mode": "os.chmod(os.getcwd(), 0o777)",
    "change an owner": "os.chown(os.getcwd(), 0, 0)",
    "change a time": "os.utime(sys.modules['hw7'].__file__)",
    "fork": "os.fork()",
    "vfork": "checked(libc.vfork())",
    "exec": "os.execv('/bin/true', ['true'])",
    "run": "subprocess.run(['/bin/true'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "become root": "os.setuid(0)",
    "become root, all ids": "os.setresuid(0, 0, 0)",
    "join a group": "os.setgroups([0])",
    "make a session": "os.setsid()",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "signal all": "os.kill(-1, 0)",
    "signal process 2": "os.kill(2, 0)",
    "signal its group": "os.killpg(0, 0)",
    "be nice": "os.nice(-5)",
    "choose a core": "os.sched_setaffinity(0, {0})",
    "memfd": "os.memfd_create('x')",
    "a System V queue": "checked(libc.msgget(1234, 0o1666))",
    "System V memory": "checked(libc.shmget(1234, 4096, 0o1666))",
    "a System V semaphore": "checked(libc.semget(1234, 1, 0o1666))",
    "a POSIX queue": "checked(libc.syscall(NUMBER['mq_open'], b'x', os.O_CREAT | os.O_RDWR, 0o600, None))",
    "a process by clone": "checked(libc.syscall(NUMBER['clone'], signal.SIGCHLD, None, None, None, None))",
    "a namespace by clone": "checked(libc.syscall(NUMBER['clone'], 0x10000011, None, None, None, None))",
    "a process by clone3": "checked(libc.syscall(435, struct.pack('<11Q', *[0] * 4, signal.SIGCHLD, *[0] * 6), 88))",
    "type into a terminal": "checked(libc.ioctl(0, 0x5412, b'x'))",
    "lock memory": "checked(libc.mlockall(3))",
    "huge pages": "__import__('mmap').mmap(-1, 2**21, flags=0x40022)",
    "switch dumps on": "checked(libc.prctl(4, 1, 0, 0, 0))",
    "change the limit of another": "resource.prlimit(2, resource.RLIMIT_CORE)",
    "own a pipe's signals": "__import__('fcntl').fcntl(0, 8, 1)",
}  # fmt: skip
NUMBERS = {"x86_64": {"mq_open": 240, "clone": 56}, "aarch64": {"mq_open": 180, "clone": 220}}
CHECKED = f"""
NUMBER = {NUMBERS.get(platform.machine())!r}
def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), 'refused')
    return result
"""


def test_refused(each_jail: Jail) -> None:
    """Everything of the table raises, in one child, which then still answers."""
    body = f"""
        result = {{}}
        for name, expression in {REFUSED!r}.items():
            try:
                result[name] = repr(eval(expression))[:100]
            except OSError:
                pass
    """
    assert inside(each_jail, body, CHECKED) == {}


def test_no_socket_of_any_family(each_jail: Jail) -> None:
    body = """
        result = []
        for family in range(50):
            for kind in (1, 2, 3, 5):
                try:
                    socket.socket(family, kind)
                    result.append((family, kind))
                except OSError as error:
                    if error.errno != errno.EPERM:
                        result.append((family, kind, error.errno))
        try:
            socket.socketpair()
            result.append('pair')
        except OSError:
            pass
    """
    assert inside(each_jail, body) == []


DEADLY = {
    "ptrace": "libc.ptrace(0, 0, 0, 0)",
    "io_uring": "libc.syscall(425, 8, None)",
    "keyctl": "libc.syscall({'x86_64': 250, 'aarch64': 219}[os.uname().machine], 0, -3, 0, 0, 0)",
    "unshare": "libc.unshare(0x10000000)",
    "mount": "libc.mount(b'x', b'/', b'tmpfs', 0, None)",
    "chroot": "os.chroot('.')",
    "bpf": "libc.syscall({'x86_64': 321, 'aarch64': 280}[os.uname().machine], 0, None, 0)",
    "pidfd_getfd": "libc.syscall(438, 0, 0, 0)",
    "open by handle": "libc.open_by_handle_at(-100, None, 0)",
}


def test_deadly(jail: Jail) -> None:
    for name, expression in DEADLY.items():
        with jail.child(submission(expression)) as child:
            assert child.ask([question()], SECONDS)[0].status is Status.DIED, name
            assert "SIGSYS: seccomp" in child.stopped_by, name
    works(jail)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other ways into the kernel are x86's")
def test_no_other_way_into_the_kernel(jail: Jail) -> None:
    """The x32 numbers, and the 32-bit gate (int 0x80), where getpid has other numbers."""
    x32 = "libc.syscall(0x40000000 | 39)"
    gate = """
        import mmap
        code = mmap.mmap(-1, 4096, prot=7)
        code.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')  # mov eax, 20; int 0x80; ret
        ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    """
    for body in (x32, gate):
        with jail.child(submission(body)) as child:
            assert child.ask([question()], SECONDS)[0].status is Status.DIED
            assert "SIGSYS" in child.stopped_by or "SIGSEGV" in child.stopped_by  # SEGV: the kernel has no such gate


def test_what_it_is(each_jail: Jail) -> None:
    """No privilege, no group, nothing inherited but its pipes, and an environment of its own."""
    body = """
        header, data = struct.pack('<Ii', 0x20080522, 0), ctypes.create_string_buffer(24)
        libc.syscall({'x86_64': 125, 'aarch64': 90}[os.uname().machine], header, data)
        opened = []
        for number in range(1024):
            try:
                os.fstat(number)
                opened.append(number)
            except OSError:
                pass
        bounding = [c for c in range(41) if libc.prctl(23, c, 0, 0, 0) > 0]
        result = dict(uid=os.getuid(), euid=os.geteuid(), gid=os.getgid(), groups=os.getgroups(),
            capabilities=data.raw, bounding=bounding, opened=opened, environment=sorted(os.environ),
            no_new_privs=libc.prctl(39, 0, 0, 0, 0), dumpable=libc.prctl(3, 0, 0, 0, 0), pid=os.getpid(),
            threads=threading.active_count(), umask=os.umask(0), modules=[m for m in sys.modules if 'autograder' in m])
    """
    found, other = inside(each_jail, body), inside(each_jail, body)
    assert isinstance(found, dict)
    assert isinstance(other, dict)
    assert found["opened"] == [0, 1, 2, 3, 4]
    assert (found["no_new_privs"], found["dumpable"], found["threads"], found["umask"]) == (1, 0, 1, 0o077)
    assert found["modules"] == []
    assert set(found["environment"]) <= {
        "HOME", "TMPDIR", "PWD", "PATH", "LANG", "PYTHONHASHSEED", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS", "LD_LIBRARY_PATH", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR",
    }  # fmt: skip
    if each_jail.tier == "A":
        assert found["pid"] == 1
    if os.geteuid() == 0:
        assert found["uid"] == found["euid"] == found["gid"] >= 2**30
        assert other["uid"] != found["uid"]
        assert found["groups"] == []
        assert found["bounding"] == []
    reads_by_capability = os.geteuid() == 0 and not _others_may_read(each_jail.tier)
    held = 4 if reads_by_capability else 0  # CAP_DAC_READ_SEARCH, within what Landlock leaves
    assert struct.unpack("<6I", found["capabilities"]) == (held, held, 0, 0, 0, 0)


def _others_may_read(tier: Tier) -> bool:
    """Whether another user may, where the tier mounts them: Python and torch may be installed under a strict umask."""
    for module, mounted in ((os, 1), (torch, 2)):  # the standard library's folder; torch's, and the one it lies in
        file = Path(str(module.__file__)).resolve()
        folders = file.parents if tier == "C" else file.parents[:mounted]
        if not file.stat().st_mode & 4 or not all(folder.stat().st_mode & 1 for folder in folders):
            return False
    return True


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


def test_an_end_that_is_reported_late_is_told_as_what_it_was(jail: Jail) -> None:
    """The fork server has no processor for longer than the child's pipe is closed."""
    works(jail)
    assert jail._zygote is not None
    server = youngest(jail._zygote._process.pid)
    assert server is not None
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
    "too much": "return torch.zeros(2**24 + 1)",
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


def test_the_first_answer_wins(each_jail: Jail) -> None:
    frame = encode(1, 0, "", {"0": torch.tensor([42.0])})
    with each_jail.child(submission(f"if student.item() == 1: os.write(4, {frame!r})\n" + ECHO)) as child:
        (answer,) = child.ask([question(1)], SECONDS)
        assert torch.equal(answer.tensors[0], torch.tensor([42.0]))
        assert said(child.ask([question(5)], SECONDS)[0]) == 5  # the second one was not taken for this


def test_the_fork_server_dies(jail: Jail) -> None:
    with jail.child(submission(ECHO)) as child:
        assert jail._zygote is not None
        jail._zygote._process.kill()
        statuses = [answer.status for answer in child.ask([question()], SECONDS)]
        assert statuses in ([Status.DIED], [Status.RETURNED])  # whichever was first
    works(jail)


# ---- nothing stays ----------------------------------------------------------------------------------------------


def test_nothing_of_one_child_is_in_the_next(each_jail: Jail) -> None:
    """Neither globals nor files, nor any bytes of a submission or of its inputs anywhere in Python's memory."""
    marker, number = "marker-of-the-first-submission", 1234567.0
    leave = f"""
        torch.kept = sys.kept = {marker!r}
        os.environ['KEPT'] = 'yes'
        open('kept', 'w').write({marker!r})
        result = os.listdir('.')
    """
    search = """
        gc.unfreeze()
        found = []
        for thing in gc.get_objects():
            if isinstance(thing, torch.Tensor) and thing.numel() == 1 and thing.item() == 1234567.0:
                found.append('an input')
            texts = thing.values() if type(thing) is dict else thing if type(thing) in (list, tuple) else ()
            for text in list(texts):
                if type(text) in (str, bytes) and ('of-the-first' if type(text) is str else b'of-the-first') in text:
                    if b'gc.unfreeze' not in (text if type(text) is bytes else text.encode()) and len(text) != 12:
                        found.append(text[:80])
        result = [hasattr(torch, 'kept'), hasattr(sys, 'kept'), 'KEPT' in os.environ, os.listdir('.'), found]
    """
    with each_jail.child(submission(leave)) as child:
        assert said(child.ask([question(number)], SECONDS)[0]) == ["kept"]
    assert inside(each_jail, search) == [False, False, False, [], []]


def test_no_file_stays(each_jail: Jail) -> None:
    """A deep tree, links out, and folders that cannot be entered: all gone, and nothing behind a link is touched."""
    with tempfile.NamedTemporaryFile() as outside:
        body = f"""
            os.symlink({os.path.dirname(outside.name)!r}, 'out')
            os.symlink({outside.name!r}, 'file')
            for _ in range(1200):
                os.mkdir('d')
                os.chdir('d')
            os.mkdir('closed', 0)
        """
        assert inside(each_jail, body) == ""
        assert os.path.exists(outside.name)
    works(each_jail)
    folders = [f for f in Path(tempfile.gettempdir()).glob(PREFIX + "*/jobs/*") if f.stat().st_uid == os.geteuid()]
    assert len([f for f in folders if each_jail._zygote and each_jail._zygote.stage in str(f)]) == 0


def test_remove_tree_is_not_led_astray(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(tmp_path / "kept")
    os.mkfifo(top / "fifo")
    here = top
    for _ in range(50):
        here = here / ("d" * 100)  # longer than any path may be
        with contextlib.suppress(OSError):
            here.mkdir()
    remove_tree(None, str(top))
    assert not top.exists()
    assert (tmp_path / "kept" / "file").read_text() == "kept"


GRADER = """
import os, sys, torch
torch.set_num_threads(1)
from autograder.jail import Jail
from hw7.checks.cases import Call
jail = Jail(sys.argv[1])
child = jail.child({"solution/__init__.py": b"", "solution/losses.py": b"def kd_loss(*a):\\n    while True: pass\\n"})
print(jail._zygote.stage, flush=True)
one = torch.zeros(1)
if sys.argv[2] == "leave":
    sys.exit()
child.ask([Call("kd_value", {"student": one, "teacher": one, "labels": one})], 1000.0)
"""


def _processes_with(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and text in (line := (entry / "cmdline").read_bytes().decode(errors="replace")):
                found.append(line[:60])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("end", ["kill", "leave"])
def test_nothing_is_left_when_the_grader_ends(each_jail: Jail, end: str) -> None:
    """Killed in the middle of a question, or ended without closing its each_jail: no process, no file, no mount."""
    mounts = Path("/proc/self/mountinfo").read_text()
    with subprocess.Popen(
        [sys.executable, "-c", GRADER, each_jail.tier, end], stdout=subprocess.PIPE, text=True
    ) as grader:
        assert grader.stdout is not None
        stage = grader.stdout.readline().strip()
        assert stage
        if end == "kill":
            assert _processes_with(stage)
            grader.send_signal(signal.SIGKILL)
        grader.wait()
    limit = time.monotonic() + 300
    while (_processes_with(stage) or os.path.exists(stage)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert _processes_with(stage) == []
    assert not os.path.exists(stage)
    assert stage not in Path("/proc/self/mountinfo").read_text()
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) <= len(mounts.splitlines())


# ---- tier D, and which tier -------------------------------------------------------------------------------------


def test_tier_d_has_limits_and_a_deadline() -> None:
    """Not secure, but a loop, a flood, a death and a greedy program end there, too."""
    with Jail("D") as jail:
        assert inside(jail, ECHO) == 0.0
        with jail.child(submission("while student.item(): pass\n" + ECHO)) as child:
            said(child.ask([question()], SECONDS)[0])
            assert child.ask([question(1)], 0.5)[0].status is Status.TIME
        with jail.child(submission("if os.fork() == 0: time.sleep(600)\nos._exit(0)")) as child:
            assert child.ask([question()], SECONDS)[0].status is Status.DIED  # although the pipe is still open
        with jail.child(submission("torch.zeros(2**40)")) as child:
            assert child.ask([question()], SECONDS)[0].status is Status.NO_MEMORY
        works(jail)


def test_best_tier() -> None:
    best, reasons = best_tier()
    assert list(reasons) == ["A", "B", "C", "D"]
    assert all(reasons.values())
    assert best == next(tier for tier, reason in reasons.items() if reason == "works")


@pytest.mark.slow
def test_the_self_test_finds_an_open_jail() -> None:
    """Tier D lets nearly all of it happen, and the self-test says so."""
    source = (Path(confine.__file__).parent / "escapes.py").read_bytes()
    with Jail("D") as jail, jail.child({"solution/__init__.py": source}) as child:
        (answer,) = child.ask([Call("import_module", {"module": ""})], SECONDS)
        assert answer.status is Status.RAISED
        assert "read /etc/passwd" in answer.note
        assert "open a socket" in answer.note


# ---- the filter, run by hand ------------------------------------------------------------------------------------


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter of a process with pid 7 says about a system call: BPF in ten lines."""
    architectures = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
    words = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<IIQ6Q", number, architecture or architectures[machine], 0, *words)
    value, position, program = 0, 0, seccomp.filter_program(7, machine)
    while True:
        code, true, false, operand = program[position]
        position += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:
            value &= operand
        else:
            taken = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            position += true if taken else false


KILL, ALLOW, EPERM, ENOSYS = 0x80000000, 0x7FFF0000, 0x50001, 0x50026


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter(machine: str) -> None:
    number = {**syscalls.numbers(syscalls.ALLOWED, machine), **syscalls.numbers(syscalls.JUDGED, machine)}
    for name, each in syscalls.numbers(syscalls.ALLOWED, machine).items():
        assert verdict(machine, each) == ALLOW, name
    for each in syscalls.numbers(syscalls.DEADLY, machine).values():
        assert verdict(machine, each) == KILL
    assert verdict(machine, number["read"], architecture=0x40000003) == KILL  # i386
    assert verdict(machine, number["read"] | 0x40000000) == (KILL if machine == "x86_64" else EPERM)
    assert verdict(machine, 435) == ENOSYS  # clone3
    assert verdict(machine, 600) == EPERM  # whatever comes
    thread = 0x3D0F00  # what pthread_create asks for
    assert verdict(machine, number["clone"], thread) == ALLOW
    for flags in (17, 0x4111, 0x10000000 | thread, 0x20000 | thread, 0x40000000):
        assert verdict(machine, number["clone"], flags) == EPERM
    for name in ("kill", "tkill", "tgkill"):
        assert verdict(machine, number[name], 7, 9) == ALLOW
        for pid in (0, 1, 8, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
            assert verdict(machine, number[name], pid, 9) == EPERM
    assert verdict(machine, number["openat"], 0, 0, 0o1000) == EPERM  # O_RDONLY | O_TRUNC
    assert verdict(machine, number["openat"], 0, 0, 0o1102) == ALLOW
    assert verdict(machine, number["openat"], 0, 0, 0) == ALLOW
    assert verdict(machine, number["mmap"], 0, 4096, 3, 0x22) == ALLOW
    assert verdict(machine, number["mmap"], 0, 4096, 3, 0x40022) == EPERM
    assert verdict(machine, number["prlimit64"], 0, 1, 0) == ALLOW
    assert verdict(machine, number["prlimit64"], 7, 1, 0) == ALLOW
    assert verdict(machine, number["prlimit64"], 8, 1, 0) == EPERM
    assert verdict(machine, number["prlimit64"], 0, 1, 2**32) == EPERM
    assert verdict(machine, number["prctl"], 22) == EPERM
    assert verdict(machine, number["ioctl"], 0, 0x5412) == 0x50000 | 25
    for name in ("socket", "execve", "fork", "memfd_create", "shmget"):
        assert name not in number


# ---- without privileges -----------------------------------------------------------------------------------------

AS_NOBODY = """
set -e
prefixes=() kept=()
for prefix in $1; do
    kept+=("$(mktemp -d)"); prefixes+=("$prefix")
    mount --bind "$prefix" "${kept[-1]}"
done
for closed in $2; do mount -t tmpfs -o mode=755 none "$closed"; done
for i in "${!prefixes[@]}"; do
    mkdir -p "${prefixes[i]}"
    mount --move "${kept[i]}" "${prefixes[i]}"
    rmdir "${kept[i]}"
done
shift 2
exec setpriv --reuid 23456 --regid 23456 --clear-groups --inh-caps=-all "$@"
"""


def closed_to_others(path: Path) -> str:
    """The first folder on the way to this one that only its owner may pass."""
    return next((str(each) for each in reversed(path.parents) if not each.stat().st_mode & 0o001), "")


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command as a user without privileges, in a mount namespace where the interpreter can be reached."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        pytest.skip("needs root, to become somebody else")
    if not _others_may_read("A") or not Path(__file__).stat().st_mode & 4:
        pytest.skip("Python, torch or this clone was installed under a strict umask: nobody else may read it")
    environment = {
        "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    ways = {prefix: closed_to_others(Path(prefix)) for prefix in (sys.base_prefix, sys.prefix)}
    ways = {prefix: closed for prefix, closed in ways.items() if closed}
    places = " ".join(ways), " ".join(dict.fromkeys(ways.values()))
    words = ["unshare", "--mount", "bash", "-c", AS_NOBODY, "as_nobody", *places, *command]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=PROJECT)
    if "unshare failed" in done.stderr or ("Permission denied" in done.stderr and not done.stdout):
        pytest.skip(f"cannot be done here: {done.stderr.strip()[:200]}")
    return done


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_all_of_this_without_privileges() -> None:
    """This file as another user: tiers A and B (in a user namespace) and C (no uid of its own)."""
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    done = as_nobody(*words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


@pytest.mark.slow
def test_tiers_without_privileges() -> None:
    code = "import json; from autograder.jail import best_tier; print(json.dumps(best_tier()))"
    done = as_nobody(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    best, reasons = json.loads(done.stdout)
    assert reasons["C"] == "works"
    assert best in "AC"
