"""The scratch folder: what a child has allocated counts, whether a name of it is left or not."""

import mmap
import os
import textwrap
import time
from pathlib import Path

import pytest
from jailed import ECHO, SECONDS, inside, jail_of, linux, question, said, submission

from autograder.jail import Jail, scratch
from autograder.jail.child import MAX_FILES, SCRATCH_MB
from hw7.checks.cases import Status

pytestmark = linux

FULL = SCRATCH_MB * 2**20  # of one file, too

TOO_MUCH = {
    # bodies that take 96 MiB or 20,000 files, all of which B's 64 MiB would not hold either, and keep them
    "unlinked and open": f"""
        for number in range(6):
            kept.append(open('x', 'wb', buffering=0))
            os.unlink('x')
            kept[-1].write(bytes({FULL}))
    """,
    "unlinked by another name": f"""
        for number in range(6):
            kept.append(open('x', 'wb', buffering=0))
            open('y', 'w').close()
            os.rename('y', 'x')
            kept[-1].write(bytes({FULL}))
    """,
    "mapped and closed": f"""
        for number in range(20):
            with open('x', 'wb+', buffering=0) as file:
                file.write(bytes({FULL}))
                assert libc.mmap(None, 4096, 1, 1, file.fileno(), ctypes.c_long(0)) != -1  # Python's keeps it open
            os.unlink('x')
    """,
    "allocated, not written": f"""
        for number in range(6):
            kept.append(open(str(number), 'wb'))
            os.posix_fallocate(kept[-1].fileno(), 0, {FULL})
    """,
    "in a folder without a name": f"""
        for number in range(6):
            os.mkdir('d')
            kept.append(open('d/x', 'wb', buffering=0))
            os.unlink('d/x')
            os.rmdir('d')
            kept[-1].write(bytes({FULL}))
    """,
    "folders": "for number in range(20000): os.mkdir(str(number))",
    "long names": "for number in range(20000): os.close(os.open(str(number).zfill(255), os.O_CREAT))",
    "hard links": """
        open('x', 'w').close()
        for number in range(20000):
            os.link('x' if number % 1000 else (open(f'x{number}', 'w').close(), f'x{number}')[1], str(number))
    """,
    "symbolic links": "for number in range(20000): os.symlink('x' * 50, str(number))",
    "nested": """
        for number in range(20000):
            os.mkdir('d')
            os.chdir('d')
    """,
    "at the end of a long path": f"""
        for number in range(19):
            os.mkdir('d' * 200)
            os.chdir('d' * 200)
        for number in range(6):
            open(str(number).zfill(255), 'wb').write(bytes({FULL}))
    """,
    "beside names that come and go": f"""
        def flicker():
            while True:
                for name in 'abcdefgh':
                    open(name, 'w').close()
                    os.unlink(name)
        threading.Thread(target=flicker, daemon=True).start()
        for number in range(6):
            open(str(number), 'wb').write(bytes({FULL}))
    """,
    "mapped files": """
        for number in range(20000):
            with open('x', 'wb+', buffering=0) as file:
                file.write(b'x')
                assert libc.mmap(None, 4096, 1, 1, file.fileno(), ctypes.c_long(0)) != -1
            os.unlink('x')
    """,
}


BODIES = [textwrap.dedent(body) for body in TOO_MUCH.values()]
TOP = f"kept = []\nBODIES = {BODIES!r}"


@pytest.mark.parametrize("number", range(len(TOO_MUCH)), ids=TOO_MUCH)
def test_too_much(each_jail: Jail, number: int) -> None:
    """Refused by the file system, or the child is ended while it holds it."""
    with each_jail.child(submission("exec(BODIES[int(student.item())])\ntime.sleep(30)", TOP)) as child:
        (answer,) = child.ask([question(number)], SECONDS)
        assert answer.status in (Status.RAISED, Status.DIED)
        if answer.status is Status.RAISED:
            assert "[Errno 28]" in answer.note or "[Errno 36]" in answer.note, answer.note  # full; a name too long
        else:
            assert child.stopped_by == f"scratch folder: more than {SCRATCH_MB} MiB or {MAX_FILES} files"


def test_what_is_enough(each_jail: Jail) -> None:
    """Large files one after the other, with and without a name, leave room for the next."""
    body = """
        import tempfile
        for number in range(20):
            with tempfile.TemporaryFile() as file, tempfile.NamedTemporaryFile() as named:
                file.write(bytes(5 * 2**20))
                named.write(bytes(5 * 2**20))
        for number in range(1000):
            open(str(number), 'w').close()
        time.sleep(0.5)
        result = len(os.listdir('.'))
    """
    assert inside(each_jail, body) == 1000


@pytest.mark.slow
def test_between_two_questions() -> None:
    """It is counted while nobody asks, too."""
    jail = jail_of("C")
    body = f"""
        def fill():
            for number in range(6):
                open(str(number), 'wb').write(bytes({FULL}))
        threading.Thread(target=fill, daemon=True).start()
        {ECHO}
    """
    with jail.child(submission(body)) as child:
        assert said(child.ask([question()], SECONDS)[0]) == 0.0
        time.sleep(3.0)
        assert child.ask([question()], SECONDS)[0].status is Status.DIED
        assert child.stopped_by.startswith("scratch folder")


def test_taken(tmp_path: Path) -> None:
    """Blocks, not lengths; each file once; what has no name any more as long as it is open or mapped."""

    def taken() -> tuple[int, int]:
        size, files = scratch.taken(str(tmp_path), os.getpid(), 100)
        return size - before[0], files - before[1]

    def write(name: str, size: int) -> int:
        descriptor = os.open(tmp_path / name, os.O_CREAT | os.O_RDWR)
        os.write(descriptor, b"x" * size)
        return descriptor

    before = (0, 0)
    before = taken()  # what other tests hold
    a = write("a", 2**20)
    os.link(tmp_path / "a", tmp_path / "b")
    os.truncate(tmp_path / "a", 2**30)
    size, files = taken()
    assert 2**20 <= size < 2**21
    assert files >= 1
    os.unlink(tmp_path / "a")
    os.unlink(tmp_path / "b")
    assert taken()[0] >= 2**20
    pages = mmap.mmap(a, 4096)
    os.close(a)
    assert taken()[0] >= 2**20
    pages.close()
    assert taken()[0] < 2**20
    os.mkdir(tmp_path / "closed", 0o700)
    assert scratch.taken(str(tmp_path / "gone"), os.getpid(), 100)[1] <= before[1]
