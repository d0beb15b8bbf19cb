"""Nothing stays: no object, file or process of one child is there for the next, nor when the grader ends."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from jailed import SECONDS, inside, linux, question, said, submission, works

from autograder.jail import Jail
from autograder.jail.launch import PREFIX
from autograder.jail.removal import remove_tree

pytestmark = linux


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
    """A deep tree, and links out: all gone, and nothing behind a link is touched. No folder is closed to its owner."""
    with tempfile.NamedTemporaryFile() as outside:
        body = f"""
            os.symlink({os.path.dirname(outside.name)!r}, 'out')
            os.symlink({outside.name!r}, 'file')
            for _ in range(1200):
                os.mkdir('d')
                os.chdir('d')
            try:
                os.mkdir('closed', 0)
                result = 'closed'
            except PermissionError:
                pass
        """
        assert inside(each_jail, body) == ""
        assert os.path.exists(outside.name)
    works(each_jail)
    folders = [f for f in Path(tempfile.gettempdir()).glob(PREFIX + "*/jobs/*/*") if f.stat().st_uid == os.geteuid()]
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
