"""Confinement: namespaces, a root of its own, limits, uid and capabilities, Landlock (the filter is `seccomp`'s).

Linux's own calls by ctypes, in the order in which a jail uses them; each function does one thing and raises OSError
where the kernel refuses. Everything here runs while the process has one thread only: Landlock and seccomp close the
jail for the thread that calls them and for those that it starts.
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import syscalls

LINUX = sys.platform == "linux"
MACHINE = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
_libc = ctypes.CDLL(None, use_errno=True)
_own = syscalls.numbers(syscalls.OWN, MACHINE) if MACHINE in ("x86_64", "aarch64") else {}


def checked(result: int, what: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def syscall(name: str, *arguments: object) -> int:
    if name not in _own:
        raise OSError(38, f"{name}: not known on {MACHINE}")
    words = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    return checked(_libc.syscall(ctypes.c_long(_own[name]), *words), name)


def _prctl(what: str, option: int, *arguments: int) -> int:
    words = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return checked(_libc.prctl(option, *words), what)


# ---- namespaces ------------------------------------------------------------------------------------------------

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
EVERY_NAMESPACE = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET


def unshare(flags: int) -> None:
    checked(_libc.unshare(flags), "unshare")


def setns(descriptor: int, flags: int) -> None:
    checked(_libc.setns(descriptor, flags), "setns")


def map_one_id(inside: int, uid: int, gid: int) -> None:
    """In a new user namespace: this one uid and gid are known inside, as `inside`."""
    Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
    Path("/proc/self/uid_map").write_text(f"{inside} {uid} 1", encoding="utf-8")
    Path("/proc/self/gid_map").write_text(f"{inside} {gid} 1", encoding="utf-8")


# ---- mounts ----------------------------------------------------------------------------------------------------

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_MNT_DETACH, _AT_FDCWD, _AT_RECURSIVE = 2, -100, 0x8000


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = (None if text is None else os.fsencode(text) for text in (source, target, kind))
    result = _libc.mount(*texts, ctypes.c_ulong(flags), options.encode() if options else None)
    checked(result, f"mount {kind or ''} {target}")


def tmpfs(target: str, options: str) -> None:
    """An empty file system that runs nothing and lives in memory."""
    _mount("tmpfs", target, "tmpfs", _NOSUID | _NODEV | _NOEXEC, options)


def read_only(target: str) -> None:
    """Makes a mounted tmpfs of this process read-only."""
    _mount(None, target, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def empty(target: str) -> None:
    """Covers a folder with an empty one."""
    tmpfs(target, "size=4k,nr_inodes=1,mode=755")
    read_only(target)


def _file_to_mount_on(target: str) -> None:
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))


def enter_new_root(root: str, readable: Sequence[str], hidden: Sequence[str], folders: Sequence[str]) -> None:
    """In a mount namespace of its own: a small root that has these paths, read-only, and nothing else of the machine.

    root: an empty folder. readable: absolute paths, where they are now; symbolic links stay links. hidden: folders
    below readable ones that are to be empty. folders: empty ones to mount on. Devices: null, zero and urandom.
    """
    _mount(None, "/", None, _REC | _SLAVE)
    _mount("tmpfs", root, "tmpfs", _NOSUID, "size=1m,mode=755")
    umask = os.umask(0o022)
    for path in readable:
        target = root + path
        if not os.path.lexists(path) or os.path.lexists(target):
            continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), target)
            continue
        (os.mkdir if os.path.isdir(path) else _file_to_mount_on)(target)
        _mount(path, target, None, _BIND | _REC)
        request = struct.pack("<QQQQ", _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)  # added to what it has
        syscall("mount_setattr", _AT_FDCWD, os.fsencode(target), _AT_RECURSIVE, request, len(request))
    for path in hidden:
        if os.path.isdir(root + path):
            empty(root + path)
    os.mkdir(root + "/dev")
    for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
        _file_to_mount_on(root + device)
        _mount(device, root + device, None, _BIND)
    for path in folders:
        os.makedirs(root + path)
    os.umask(umask)
    os.chdir(root)
    syscall("pivot_root", b".", b".")
    checked(_libc.umount2(b".", _MNT_DETACH), "umount2")
    os.chdir("/")
    _mount(None, "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID)


# ---- limits, descriptors, identity -----------------------------------------------------------------------------


def set_limits(limits: dict[str, int]) -> None:
    """{"CPU": seconds, "AS": bytes, …}: soft and hard. What a system does not know is left out."""
    for name, limit in limits.items():
        if (kind := getattr(resource, f"RLIMIT_{name}", None)) is None:
            continue
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with contextlib.nullcontext() if LINUX else contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (limit, limit))


def close_descriptors(keep: Iterable[int]) -> None:
    """Closes all but these."""
    start = 0
    for descriptor in sorted(keep):
        if start < descriptor:  # an empty range would close all
            os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, 1 << 20 if not LINUX else 2**31 - 1)


def fresh_keyring() -> None:
    """A session keyring of its own. Where keyctl is forbidden anyway there is nothing to leave behind."""
    with contextlib.suppress(OSError):
        syscall("keyctl", 1, None)


_HUGE = 2 << 20
_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25


def use_huge_pages() -> None:
    """Puts this process's memory into pages of 2 MiB where the kernel can (from 6.1 on): a fork then copies the entries
    of a hundred pages instead of sixty thousand. A child that writes copies 4 KiB at a time, as before."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for words in (line.split() for line in lines):
        start, end = (int(number, 16) for number in words[0].split("-"))
        first, last = -(-start // _HUGE) * _HUGE, end // _HUGE * _HUGE
        if words[1] == "rw-p" and words[5:] in ([], ["[heap]"]) and first < last:
            where, size = ctypes.c_void_p(first), ctypes.c_size_t(last - first)
            if _libc.madvise(where, size, _MADV_HUGEPAGE) == 0:
                _libc.madvise(where, size, _MADV_COLLAPSE)


CAPABILITIES = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_FOWNER": 3, "CAP_KILL": 5, "CAP_SETGID": 6,
    "CAP_SETUID": 7, "CAP_SYS_ADMIN": 21,
}  # fmt: skip


def has_capability(name: str) -> bool:
    """Whether this process has it in effect."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> CAPABILITIES[name] & 1)


def become(uid: int | None, keep: str | None = None, *, dumpable: bool = False) -> None:
    """Another uid and gid (None: stays), no groups beside it, no capability but `keep`, and no way to gain any.

    The bounding set is emptied where this process may do that. dumpable: others of this uid may see what it has open.
    """
    for capability in range(64):
        if _libc.prctl(24, ctypes.c_ulong(capability), 0, 0, 0) < 0:  # PR_CAPBSET_DROP
            break
    if uid is not None:
        if keep is not None:
            _prctl("keep capabilities", 8, 1)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _libc.prctl(47, ctypes.c_ulong(4), 0, 0, 0)  # PR_CAP_AMBIENT, clear all
    bits = 0 if keep is None else 1 << CAPABILITIES[keep]
    syscall("capset", struct.pack("<Ii", 0x20080522, 0), struct.pack("<6I", bits, bits, 0, 0, 0, 0))
    _prctl("no new privileges", 38, 1)
    _prctl("dumpable", 4, dumpable)


def die_with_parent() -> None:
    """SIGKILL when the thread that started this process ends. To be called after the uid has changed."""
    _prctl("parent death signal", 1, signal.SIGKILL)


# ---- Landlock --------------------------------------------------------------------------------------------------

_FS_EXECUTE, _FS_WRITE, _FS_READ, _FS_READ_DIR, _FS_TRUNCATE = 1, 2, 4, 8, 1 << 14
_MAKE_CHAR, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK = 1 << 6, 1 << 9, 1 << 10, 1 << 11


def landlock_abi() -> int:
    """The kernel's newest version of Landlock, 0 where there is none."""
    try:
        return syscall("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def landlock(readable: Iterable[str], writable: Iterable[str], devices: Iterable[str], listed: Iterable[str]) -> None:
    """From now on only these paths: to read, to change things below, to read and write; `listed` may be listed only.

    TCP, abstract sockets and signals to others are closed too, as far as the kernel's version goes.
    """
    abi = landlock_abi()
    if not abi:
        raise OSError(38, "the kernel has no Landlock")
    handled = (1 << (13 if abi < 2 else 14 if abi < 3 else 15 if abi < 5 else 16)) - 1  # all that this version knows
    attributes = struct.pack("<QQQ", handled, 3, 3)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = syscall("landlock_create_ruleset", attributes, len(attributes), 0)
    no_files = _FS_EXECUTE | _MAKE_CHAR | _MAKE_SOCK | _MAKE_FIFO | _MAKE_BLOCK | 1 << 15
    rules = (
        (readable, _FS_READ | _FS_READ_DIR),
        (writable, handled & ~no_files),
        (devices, _FS_READ | _FS_WRITE | _FS_TRUNCATE),
        (listed, _FS_READ_DIR),
    )
    for paths, access in rules:
        for path in paths:
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            only = handled if os.path.isdir(path) else _FS_EXECUTE | _FS_WRITE | _FS_READ | _FS_TRUNCATE
            rule = struct.pack("<Qi", access & handled & only, descriptor)
            syscall("landlock_add_rule", ruleset, 1, rule, 0)
            os.close(descriptor)
    syscall("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)
