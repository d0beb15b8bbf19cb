"""The seccomp filter, run by hand, instruction by instruction, for both architectures."""

import struct

import pytest
from jailed import linux

from autograder.jail import seccomp, syscalls

pytestmark = linux


def filtered(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
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
    number = {**syscalls.numbers(syscalls.ALLOWED, machine), **syscalls.numbers(syscalls.CONDITIONAL, machine)}
    for name, each in syscalls.numbers(syscalls.ALLOWED, machine).items():
        assert filtered(machine, each) == ALLOW, name
    for each in syscalls.numbers(syscalls.DEADLY, machine).values():
        assert filtered(machine, each) == KILL
    assert filtered(machine, number["read"], architecture=0x40000003) == KILL  # i386
    assert filtered(machine, number["read"] | 0x40000000) == (KILL if machine == "x86_64" else EPERM)
    assert filtered(machine, 435) == ENOSYS  # clone3
    assert filtered(machine, 600) == EPERM  # whatever comes
    thread = 0x3D0F00  # what pthread_create asks for
    assert filtered(machine, number["clone"], thread) == ALLOW
    for flags in (17, 0x4111, 0x10000000 | thread, 0x20000 | thread, 0x40000000):
        assert filtered(machine, number["clone"], flags) == EPERM
    for name in ("kill", "tkill", "tgkill"):
        assert filtered(machine, number[name], 7, 9) == ALLOW
        for pid in (0, 1, 8, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF):
            assert filtered(machine, number[name], pid, 9) == EPERM
    assert filtered(machine, number["openat"], 0, 0, 0o1000) == EPERM  # O_RDONLY | O_TRUNC
    assert filtered(machine, number["openat"], 0, 0, 0o1102) == ALLOW
    assert filtered(machine, number["openat"], 0, 0, 0) == ALLOW
    assert filtered(machine, number["mmap"], 0, 4096, 3, 0x22) == ALLOW
    assert filtered(machine, number["mmap"], 0, 4096, 3, 0x40022) == EPERM
    assert filtered(machine, number["prlimit64"], 0, 1, 0) == ALLOW
    assert filtered(machine, number["prlimit64"], 7, 1, 0) == ALLOW
    assert filtered(machine, number["prlimit64"], 8, 1, 0) == EPERM
    assert filtered(machine, number["prlimit64"], 0, 1, 2**32) == EPERM
    assert filtered(machine, number["prctl"], 22) == EPERM
    assert filtered(machine, number["ioctl"], 0, 0x5412) == 0x50000 | 25
    for name in ("socket", "execve", "fork", "memfd_create", "shmget"):
        assert name not in number


EAGAIN, ENOTSUP = 0x5000B, 0x5005F


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_arguments_that_reach_what_is_shared(machine: str) -> None:
    """Flags that have another value on the other machine are told apart."""
    number = syscalls.numbers(syscalls.CONDITIONAL, machine)
    direct, directory = {"x86_64": (0x4000, 0x10000), "aarch64": (0x10000, 0x4000)}[machine]
    for flags, result in (
        (direct, EPERM), (0x40000, EPERM), (0x2000, EPERM), (directory | 0x80000, ALLOW), (0x101000, ALLOW),
        (0x400002 | directory, ENOTSUP),
    ):  # fmt: skip
        assert filtered(machine, number["openat"], 0, 0, flags) == result, hex(flags)
    assert filtered(machine, number["fcntl"], 9, 4, 0x800) == ALLOW
    for flags in (direct, 0x2000, 0x40000):
        assert filtered(machine, number["fcntl"], 9, 4, flags | 2) == EPERM
    for command in (5, 6, 7, 36, 37, 38, 1024, 1026):
        assert filtered(machine, number["fcntl"], 9, command) == EPERM
    for name in ("preadv2", "pwritev2"):
        assert filtered(machine, number[name], 9, 0, 1, 0, 0, 0) == ALLOW
        assert filtered(machine, number[name], 9, 0, 1, 0, 0, 8) == ENOTSUP
    for flags in (0x8000, 0x18001, 0x2002, 0x80003, 0x28):
        assert filtered(machine, number["mmap"], 0, 4096, 3, flags) == EPERM
    for advice in range(128):
        allowed = advice in (0, 4, 8, 10, 11, 14, 15, 16, 17, 102, 103)
        assert filtered(machine, number["madvise"], 0, 4096, advice) == (ALLOW if allowed else EPERM)
    for operation in range(14):
        assert filtered(machine, number["futex"], 0, operation) == EAGAIN
        assert filtered(machine, number["futex"], 0, operation | 128) == ALLOW
        assert filtered(machine, number["futex"], 0, operation | 256) == EAGAIN
    assert filtered(machine, number["mkdirat"], 0, 0, 0o777) == ALLOW
    assert filtered(machine, number["mkdirat"], 0, 0, 0o377) == EPERM
    assert filtered(machine, number["umask"], 0o077) == ALLOW
    assert filtered(machine, number["umask"], 0o477) == EPERM


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("name", ["clock_gettime", "clock_getres", "clock_nanosleep", "timer_create"])
def test_clocks_of_others(name: str, machine: str) -> None:
    """The kernel reads 32 bits of a clock's number. Those of nobody (pid 0) are the process's own."""
    number = syscalls.numbers(syscalls.CONDITIONAL, machine)[name]
    for clock in (0, 1, 2, 3, 7, 11, -8, -6, -2):
        assert filtered(machine, number, clock & 0xFFFFFFFF) == ALLOW, clock
        assert filtered(machine, number, clock & 0xFFFFFFFFFFFFFFFF) == ALLOW, clock
    for pid in (1, 7, 8, 4321, 2**22):
        for kind in range(8):  # of a process or a thread; on a processor, in user mode, or a device
            for high in (0, 0xFFFFFFFF, 1):
                clock = (~pid << 3 | kind) & 0xFFFFFFFF | high << 32
                assert filtered(machine, number, clock) == EPERM, (pid, kind)
