"""What is out of reach: every door that a hostile process tries is closed, in each secure tier of this machine."""

import os
import platform
import struct

import pytest
from jailed import SECONDS, inside, linux, others_may_read, question, submission, works

from autograder.jail import Jail
from hw7.checks.cases import Status
from hw7.solution import PROJECT

pytestmark = linux

REFERENCE = PROJECT / "reference_solutions" / "hw7"

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
    assert (found["no_new_privs"], found["threads"], found["umask"]) == (1, 1, 0o077)
    assert found["dumpable"] == (each_jail.tier == "C" and os.geteuid() != 0)  # or what it holds could not be counted
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
    reads_by_capability = os.geteuid() == 0 and not others_may_read(each_jail.tier)
    held = 4 if reads_by_capability else 0  # CAP_DAC_READ_SEARCH, within what Landlock leaves
    assert struct.unpack("<6I", found["capabilities"]) == (held, held, 0, 0, 0, 0)
