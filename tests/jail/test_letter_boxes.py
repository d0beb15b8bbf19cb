"""Letter boxes: what one child could leave in the state of the kernel that all jails share, for another one to read."""

import os
from pathlib import Path

import pytest
import torch
from jailed import SECONDS, SLOW_B, inside, jail_of, linux, question, said, submission

from autograder.jail import Jail, Tier, visible

pytestmark = linux

MESSAGE = [1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1]
# Files that every jail sees, and that nothing uses.
HEADERS = sorted(map(str, Path(torch.__file__).parent.glob("include/ATen/ops/*.h")))[: len(MESSAGE)]

TOOLS = f"""
import mmap, resource
HEADERS = {HEADERS!r}

def mapped(path, flags=mmap.MAP_PRIVATE):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return mmap.mmap(descriptor, 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(descriptor)

def address(pages):
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(pages)))

def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), 'refused')
    return result

def faults(kind, touched):
    before = getattr(resource.getrusage(resource.RUSAGE_SELF), kind)
    touched()
    return getattr(resource.getrusage(resource.RUSAGE_SELF), kind) - before
"""


def leave(message: list[int]) -> None:
    """In the page cache, one bit a file, as no child can any more."""
    for path, bit in zip(HEADERS, message, strict=True):
        descriptor = os.open(path, os.O_RDONLY)
        os.pread(descriptor, 1, 0)
        if not bit:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


READERS = {
    # each an expression that is true where the first page of `path` is in the page cache
    "preadv2": "checked(libc.preadv2(os.open(path, 0), *vector, ctypes.c_long(0), 8)) >= 0",
    "os.preadv": "os.preadv(os.open(path, 0), [bytearray(1)], 0, os.RWF_NOWAIT) == 1",
    "mincore": "checked(libc.mincore(address(page), 4096, there)) == 0 and there[0] != b'\\0'",
    "major faults": "faults('ru_majflt', lambda: page[0]) == 0",
    "input blocks": "faults('ru_inblock', lambda: page[0]) == 0",
    "voluntary switches": "faults('ru_nvcsw', lambda: page[0]) == 0",
    "cachestat": "checked(libc.syscall(451, os.open(path, 0), whole, stat, 0)) == 0 and stat[0] > 0",
    "another name of preadv2's flag": "checked(libc.preadv64v2(os.open(path, 0), *vector, ctypes.c_long(0), 8)) >= 0",
}


def test_what_is_cached_is_not_told(each_jail: Jail) -> None:
    """Each way is refused: on a kernel that would answer, and on one that does not know the call."""
    body = f"""
        result = {{}}
        there, stat, whole = (ctypes.c_char * 1)(), (ctypes.c_ulong * 5)(), (ctypes.c_ulong * 2)(0, 4096)
        byte = ctypes.create_string_buffer(1)
        vector = (ctypes.c_ulong * 2)(ctypes.addressof(byte), 1), 1
        for number, (path, page) in enumerate(zip(HEADERS, map(mapped, HEADERS))):
            for name, expression in {READERS!r}.items():
                try:
                    result[number, name] = int(eval(expression, globals(), locals()))
                except BlockingIOError:
                    result[number, name] = 0
                except OSError:
                    pass
    """
    with each_jail.child(submission(body, TOOLS)) as child:
        leave(MESSAGE)
        assert said(child.ask([question()], SECONDS)[0]) == {}


CLOCKED = {
    "clock_gettime": "time.clock_gettime({clock})",
    "clock_getres": "time.clock_getres({clock})",
    "clock_nanosleep": "checked(libc.syscall(CLOCK_NANOSLEEP, {clock}, 1, struct.pack('<2q', 0, 1), None))",
    "timer_create": "checked(libc.syscall(TIMER_CREATE, {clock}, *NO_SIGNAL))",
}

SHARED = {
    # each is an expression that must raise OSError: what changes or tells of what is shared, beside the readers above
    **{f"posix_fadvise {advice}": f"os.posix_fadvise(library, 0, 0, {advice})" for advice in range(6)},
    **{f"madvise {advice}": f"checked(libc.madvise(address(page), 4096, {advice}))" for advice in
       (1, 2, 3, 9, 12, 13, 18, 19, 20, 21, 22, 23, 24, 25, 100, 101)},
    **{f"flag {flag} of preadv2": f"os.preadv(library, [bytearray(1)], 0, {flag})" for flag in (1, 8, 64, 128)},
    **{f"flag {flag} of pwritev2": f"os.pwritev(own, [b'x'], 0, {flag})" for flag in (1, 2, 4, 8, 16, 64, 128)},
    **{f"flag {flag:#x} of mmap": f"mapped(HEADERS[0], {flag} | mmap.MAP_PRIVATE)" for flag in
       (0x2000, 0x8000, 0x18000, 0x40000)},
    "memory that the kernel may drop": "__import__('mmap').mmap(-1, 4096, flags=0x28)",
    "readahead": "checked(libc.readahead(library, ctypes.c_long(0), 4096))",
    "sync_file_range": "checked(libc.sync_file_range(library, ctypes.c_long(0), ctypes.c_long(4096), 1))",
    "sync": "checked(libc.syncfs(library))",
    "mlock": "checked(libc.mlock(address(page), 4096))",
    "mlock2": "checked(libc.mlock2(address(page), 4096, 1))",
    "open around the cache": "os.open(HEADERS[0], os.O_DIRECT)",
    "go on around the cache": "fcntl.fcntl(library, fcntl.F_SETFL, os.O_DIRECT)",
    "open without a time of access": "os.open('own', os.O_NOATIME)",
    "a signal at each change": "fcntl.fcntl(library, fcntl.F_SETFL, os.O_ASYNC)",
    "a cached name only": "checked(libc.syscall(437, -100, HEADERS[0].encode(), struct.pack('<3Q', 0, 0, 0x20), 24))",
    "splice": "checked(libc.splice(library, None, 1, None, 4096, 2))",
    "flock": "fcntl.flock(library, fcntl.LOCK_SH | fcntl.LOCK_NB)",
    "flock, alone": "fcntl.flock(library, fcntl.LOCK_EX | fcntl.LOCK_NB)",
    "lock": "fcntl.lockf(library, fcntl.LOCK_SH | fcntl.LOCK_NB)",
    **{f"fcntl {command}": f"fcntl.fcntl(library, {command}, struct.pack('<2hi2qi4x', 1, 0, 0, 0, 0, 0))" for command in
       (5, 36)},
    "lease": "fcntl.fcntl(own, 1024, 0)",
    "ask for a lease": "fcntl.fcntl(library, 1025)",
    "hear of changes": "fcntl.fcntl(os.open(os.path.dirname(HEADERS[0]), os.O_RDONLY), 1026, 1)",
    "inotify": "checked(libc.inotify_init1(0))",
    "fanotify": "checked(libc.fanotify_init(0, 0))",
    "room on a disk": "os.statvfs(HEADERS[0])",
    "room on an open disk": "os.fstatvfs(library)",
    "free memory": "checked(libc.sysinfo(ctypes.create_string_buffer(112)))",
    "its own faults": "resource.getrusage(resource.RUSAGE_SELF)",
    "the faults of a thread": "resource.getrusage(resource.RUSAGE_THREAD)",
    "load": "os.getloadavg()",
    "a pipe, which counts inodes": "os.pipe()",
    "a pipe, the old way": "checked(libc.pipe((ctypes.c_int * 2)()))",
    "wake who waits at a shared page": "checked(libc.syscall(FUTEX, address(page), 1, 1, None, None, 0))",
    "wait at a shared page": "checked(libc.syscall(FUTEX, address(page), 0, word, SOON, None, 0))",
    "wait at a shared page, by bits": "checked(libc.syscall(FUTEX, address(page), 9, word, SOON, None, -1))",
    "wait at several":
        "checked(libc.syscall(449, struct.pack('<2Q2I', word, address(page).value, 2, 0), 1, 0, SOON, 1))",
    "be waited for at a shared page": "checked(libc.syscall(SET_TID_ADDRESS, address(page)))",
    **{f"{call} of clock {kind} of {whose}": expression.format(clock=f"~{pid} << 3 | {kind}")
       for whose, pid in (("its parent", "(os.getppid() or os.getpid())"), ("itself", "os.getpid()"),
                          ("a thread", "threading.get_native_id()"), ("a file", "library"))
       for kind in range(8) for call, expression in CLOCKED.items()},
    "a file without a name": "os.open('.', os.O_TMPFILE | os.O_RDWR)",
    "a folder that nobody can list": "os.mkdir('closed', 0o300)",
    "folders that nobody can list": "os.umask(0o400)",
}  # fmt: skip


def test_what_is_shared_is_out_of_reach(each_jail: Jail) -> None:
    top = f"""{TOOLS}
import fcntl
FUTEX, SET_TID_ADDRESS, CLOCK_NANOSLEEP, TIMER_CREATE = {{
    'x86_64': (202, 218, 230, 222), 'aarch64': (98, 96, 115, 107)
}}[os.uname().machine]
SOON = struct.pack('<2q', 0, 1)
NO_SIGNAL = struct.pack('<Q2i48x', 0, 0, 1), ctypes.create_string_buffer(8)
SHARED = {SHARED!r}
"""
    body = """
        result = {}
        own = os.open('own', os.O_RDWR | os.O_CREAT)
        library = os.open(HEADERS[0], os.O_RDONLY)
        page = mapped(HEADERS[0])
        word = struct.unpack('<I', page[:4])[0]
        for name, expression in SHARED.items():
            try:
                result[name] = repr(eval(expression, globals(), locals()))[:100]
            except TimeoutError as error:
                result[name] = repr(error)  # it has waited
            except OSError:
                pass
    """
    assert inside(each_jail, body, top) == {}


@pytest.mark.parametrize("tier", ["A", SLOW_B])
def test_no_time_of_access_is_left(tier: Tier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages are mounted read-only: to read a file leaves no trace in what `stat` says of it."""
    jail_of(tier)
    package = tmp_path / "site" / "old_package"
    package.mkdir(parents=True)
    file = package / "__init__.py"
    file.write_text("VALUE = 7\n", encoding="utf-8")
    for path in (package, file):
        os.utime(path, (1.0e9, 1.0e9))
    usual = visible.module_folders()
    monkeypatch.setattr(visible, "module_folders", lambda: [*usual, str(package.parent)])
    with Jail(tier) as jail:
        body = f"open({str(file)!r}).read()\nresult = os.listdir({str(package)!r})"
        assert inside(jail, body) == ["__init__.py"]
    assert [path.stat().st_atime for path in (package, file)] == [1.0e9, 1.0e9]


def test_what_homework_needs_is_there(each_jail: Jail) -> None:
    """Threads that are joined in C, files in the scratch folder, mapped ones, and what tidies up after itself."""
    body = """
        import cProfile, concurrent.futures, faulthandler, io, mmap, numpy, safetensors.torch, shutil, tempfile
        from pathlib import Path
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(int, range(10))) == 45
        thread, waits = ctypes.c_ulong(), ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: time.sleep(0.2))
        assert libc.pthread_create(ctypes.byref(thread), None, waits, None) == 0
        assert libc.pthread_join(thread, None) == 0
        weights = {'w': torch.rand(1000, 100)}
        torch.save(weights, 'w.pt')
        assert torch.equal(torch.load('w.pt', mmap=True)['w'], weights['w'])
        safetensors.torch.save_file(weights, 'w.safetensors')
        assert torch.equal(safetensors.torch.load_file('w.safetensors')['w'], weights['w'])
        with tempfile.TemporaryFile() as file, tempfile.NamedTemporaryFile() as named:
            torch.save(weights, file)
            torch.save(weights, named)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, 'a/b').mkdir(parents=True)
            shutil.copyfile('w.pt', folder + '/w.pt')
            assert os.path.getsize(folder + '/w.pt') == os.path.getsize('w.pt')
        numpy.memmap('m', dtype='float32', mode='w+', shape=(1000,))[:] = 1
        assert numpy.memmap('m', dtype='float32', mode='r').sum() == 1000
        numpy.ones(2**22).sum()  # large enough for huge pages
        assert os.preadv(os.open('m', os.O_RDONLY), [bytearray(4)], 0) == 4
        for clock in (time.CLOCK_MONOTONIC, time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID):
            assert time.clock_getres(clock) > 0 <= time.clock_gettime(clock)
            assert libc.timer_create(clock, None, ctypes.create_string_buffer(8)) == 0
        assert libc.clock_nanosleep(time.CLOCK_PROCESS_CPUTIME_ID, 1, struct.pack('<2q', 0, 1), None) == 0
        faulthandler.dump_traceback_later(60)
        faulthandler.cancel_dump_traceback_later()
        cProfile.runctx('torch.rand(9).sum()', globals(), {})
        os.replace('m', 'n')
        result = sorted(os.listdir('.'))
    """
    assert inside(each_jail, body) == ["n", "w.pt", "w.safetensors"]
