"""The seccomp filter: an allow list of system calls, checked with the architecture (`syscalls` has the table)."""

import ctypes
import functools
import os
import struct
from collections.abc import Sequence

from . import syscalls
from .confine import MACHINE, syscall

_Instruction = tuple[int, int, int, int]  # code, where to go if true, if false, operand
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000
_EPERM, _EAGAIN, _ENOTTY, _ENOSYS, _ENOTSUP = 1, 11, 25, 38, 95
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_O_ACCMODE, _O_TRUNC, _O_ASYNC, _O_NOATIME, _O_TMPFILE_BIT = 3, 0x200, 0x2000, 0x40000, 0x400000
_O_DIRECT = {"x86_64": 0x4000, "aarch64": 0x10000}
_F_SETFL = 4
_CLONE_THREAD, _CLONE_NEW = 0x10000, 0x7E020080
_MAP_REFUSED = 0x8 | 0x2000 | 0x8000 | 0x10000 | 0x40000 | 0x80000  # DROPPABLE LOCKED POPULATE NONBLOCK HUGETLB SYNC
# NORMAL DONTNEED FREE, (DO)NTFORK, (NO)HUGEPAGE, (DO)NTDUMP, guards: of its own memory, as allocators give it
_MADVICE = (0, 4, 8, 10, 11, 14, 15, 16, 17, 102, 103)
_FUTEX_PRIVATE = 128
_OWNERS_RIGHTS = 0o700
_NEGATIVE, _OWN_CLOCKS = 0x80000000, 0xFFFFFFF8  # as which the C library asks for a process's own clocks
_CLOCKED = ("clock_gettime", "clock_getres", "clock_nanosleep", "timer_create")
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
_FCNTLS = (0, 1, 2, 3, _F_SETFL, 1030, 1032)  # DUPFD GETFD SETFD GETFL SETFL DUPFD_CLOEXEC GETPIPE_SZ
_PRCTLS = (2, 3, 15, 16, 21, 23, 39, 0x53564D41)  # what reads; the names of a thread and of a mapping


def _argument(number: int, half: int = 0) -> _Instruction:
    return (_LOAD, 0, 0, 16 + 8 * number + 4 * half)


def _result(value: int) -> _Instruction:
    return (_RETURN, 0, 0, value)


def _one_of(argument: int, values: Sequence[int], otherwise: int = _EPERM) -> list[_Instruction]:
    """Allowed with one of these (32-bit) arguments."""
    tests = [(_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return [_argument(argument), *tests, _result(_ERROR | otherwise), _result(_ALLOW)]


def _no_bit(argument: int, bits: int, otherwise: int = _EPERM) -> list[_Instruction]:
    """Allowed where the (32-bit) argument has none of these bits."""
    return [_argument(argument), (_ANY_BIT, 0, 1, bits), _result(_ERROR | otherwise), _result(_ALLOW)]


def _all_bits(argument: int, bits: int, otherwise: int = _EPERM) -> list[_Instruction]:
    """Allowed where the (32-bit) argument has all of these bits."""
    tests = [(_AND, 0, 0, bits), (_EQUAL, 1, 0, bits)]
    return [_argument(argument), *tests, _result(_ERROR | otherwise), _result(_ALLOW)]


def _conditions(pid: int, machine: str) -> dict[str, list[_Instruction]]:
    """For each call of syscalls.CONDITIONAL what follows once it is known to be that call."""
    refused = _result(_ERROR | _EPERM)
    around_the_cache = _O_DIRECT[machine] | _O_NOATIME | _O_ASYNC

    def opened(flags: int) -> list[_Instruction]:
        """To cut a file that is opened for reading passes Landlock before its version 3. No file without a name: what
        has one is measured by its name, and Python makes one where a file system has none without."""
        return [
            _argument(flags), (_ANY_BIT, 0, 1, around_the_cache), refused,
            (_ANY_BIT, 0, 1, _O_TMPFILE_BIT), _result(_ERROR | _ENOTSUP),
            (_ANY_BIT, 0, 3, _O_TRUNC), (_AND, 0, 0, _O_ACCMODE), (_EQUAL, 0, 1, 0), refused, _result(_ALLOW),
        ]  # fmt: skip

    return {
        "open": opened(1),
        "openat": opened(2),
        **dict.fromkeys(("preadv2", "pwritev2"), _one_of(5, (0,), _ENOTSUP)),  # no flag, as on a simple file system
        "mkdir": _all_bits(1, _OWNERS_RIGHTS),  # a folder that its owner cannot list could not be measured
        "mkdirat": _all_bits(2, _OWNERS_RIGHTS),
        "umask": _no_bit(0, _OWNERS_RIGHTS),
        "mmap": _no_bit(3, _MAP_REFUSED),
        "madvise": _one_of(2, _MADVICE),
        # Threads that wait for others of their own process say so, all but pthread_join's. That looks again: EAGAIN.
        "futex": _all_bits(1, _FUTEX_PRIVATE, _EAGAIN),
        "ioctl": _one_of(1, _IOCTLS, _ENOTTY),
        "fcntl": [
            _argument(1), (_EQUAL, 0, 4, _F_SETFL), _argument(2), (_ANY_BIT, 0, 1, around_the_cache), refused,
            _result(_ALLOW), *_one_of(1, _FCNTLS),
        ],
        "prctl": _one_of(0, _PRCTLS),
        "clone": [
            _argument(0), (_ANY_BIT, 1, 0, _CLONE_THREAD), refused,
            (_ANY_BIT, 0, 1, _CLONE_NEW), refused, _result(_ALLOW),
        ],
        "prlimit64": [  # limits can be read, of this process only
            _argument(0), (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, pid), refused,
            _argument(2), (_EQUAL, 1, 0, 0), refused,
            _argument(2, half=1), (_EQUAL, 1, 0, 0), refused, _result(_ALLOW),
        ],
        **dict.fromkeys(("kill", "tkill", "tgkill"), _one_of(0, (pid,))),
        # Other negative clocks are the processor time of any process or thread that can be seen, and devices.
        **{call: [_argument(0), (_AT_LEAST, 2, 0, _OWN_CLOCKS), *_no_bit(0, _NEGATIVE)[1:]] for call in _CLOCKED},
    }  # fmt: skip


def filter_program(pid: int, machine: str = MACHINE) -> list[_Instruction]:
    """The seccomp filter of a process with this pid: an allow list; see `syscalls`."""
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), _result(_KILL), (_LOAD, 0, 0, 0)]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32), _result(_KILL)]
    conditions = _conditions(pid, machine)
    blocks = {number: conditions[name] for name, number in syscalls.numbers(syscalls.CONDITIONAL, machine).items()}
    for table, result in (
        (syscalls.ALLOWED, _ALLOW),
        (syscalls.MISSING, _ERROR | _ENOSYS),
        (syscalls.UNSUPPORTED, _ERROR | _ENOTSUP),
        (syscalls.DEADLY, _KILL),
    ):
        for number in syscalls.numbers(table, machine).values():
            blocks[number] = [_result(result)]
    for number, block in blocks.items():
        program += [(_EQUAL, 0, len(block), number), *block]
    return [*program, _result(_ERROR | _EPERM)]


class _SockFprog(ctypes.Structure):
    """The kernel's struct sock_fprog: how many instructions, and where."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@functools.cache
def filter_bytes(pid: int) -> bytes:
    """The filter program as the kernel takes it."""
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in filter_program(pid))


def close_system_calls() -> None:
    """Closes all system calls but those of the filter. Needs no_new_privs."""
    instructions = filter_bytes(os.getpid())
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = _SockFprog(len(instructions) // 8, ctypes.addressof(buffer))
    syscall("seccomp", 1, 0, ctypes.byref(program))
