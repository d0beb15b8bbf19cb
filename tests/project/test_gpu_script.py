"""benchmarks/gpu.sh at toy size: stopped at random moments and gone on with, all of it is there in the end."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from processes import descendants, living, until

from hw7.report.experiments import with_needs
from hw7.solution import PROJECT

pytestmark = pytest.mark.slow

PARTS = ("tests", "environment", "pictures", "kernels", "rates", "full")
WANTED = ("student-weak", "plain-1mb")
MOST_BYTES, MOST_FILES = 16_000_000, 8
SAID = {
    "tests": " passed",
    "environment": "torchvision ",
    "pictures": "64 pictures of 32 pixels: ",
    "kernels": "274,763 student with teacher, 4 side by side",
    "rates": "| question 4: 7 groups",
    "full": "done 3 of 3",
}


@dataclass
class Script:
    """The script with one OUT, on a machine that has `work`."""

    out: Path
    work: Path

    @property
    def log(self) -> str:
        path = self.out / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def said(self, awaited: list[str], before: int) -> bool:
        """Whether the log has these, after so much of it."""
        new = self.log[before:]
        return all(text in new for text in awaited)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        surroundings = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "WORK": str(self.work),
            "ONLY": ",".join(WANTED),
        }
        command = [PROJECT / "benchmarks" / "gpu.sh", self.out, *arguments, "--toy"]
        return subprocess.Popen(command, env=surroundings, start_new_session=True, stdout=subprocess.DEVNULL)

    def finish(self, *arguments: str) -> str:
        """Runs it to its end; what it added to the log."""
        before = len(self.log)
        with self.start(*arguments) as process:
            assert process.wait() == 0
        return self.log[before:]

    def stop(self, moment: Callable[[], object], number: signal.Signals, *arguments: str) -> None:
        """Runs it until that moment, and ends its process group as `kill` and `timeout` do; nothing of it lives on."""
        with self.start(*arguments) as process:
            until(lambda: moment() or process.poll() is not None, seconds=1800)
            assert process.poll() is None, "it had ended before"
            everyone = descendants(process.pid)
            os.killpg(process.pid, number)
            process.wait()
        until(lambda: not everyone & living().keys(), seconds=60)

    def pack(self) -> dict[str, tuple[int, int]]:
        """Size and time of each file of OUT but the log."""
        seen = {}
        for entry in os.scandir(self.out):
            if entry.name != "log.txt":
                with suppress(FileNotFoundError):  # replaced meanwhile
                    found = entry.stat()
                    seen[entry.name] = (found.st_size, found.st_mtime_ns)
        return seen


def has_ended(log: str, part: str) -> bool:
    return f"\n== {part} ended with code 0\n" in log


def results(work: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (work / "full" / "runs").glob("*/result.json")}


def test_stopped_at_three_random_moments_it_ends_with_everything(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    draw = random.Random(seed)
    numbers = [signal.SIGKILL, signal.SIGTERM, draw.choice([signal.SIGKILL, signal.SIGTERM])]
    draw.shuffle(numbers)
    script = Script(tmp_path / "out", tmp_path / "work")

    for parts, number in zip((PARTS[:3], PARTS[3:5], PARTS[5:]), numbers, strict=True):
        left = [part for part in parts if not has_ended(script.log, part)]  # a late stop may fall into the next parts
        awaited = [f"\n== {draw.choice(left or PARTS[5:])}, from "]
        if "full" in awaited[0]:
            awaited += ["\ndone 1 of 3"][: draw.randrange(2)]
        delay = draw.uniform(0, 0.5 if len(awaited) > 1 else 3)
        print(f"seed {seed}: {number.name}, {delay:.2f} s after {awaited}")
        script.stop(after(delay, partial(script.said, awaited, len(script.log))), number)

    script.finish()
    log = script.log
    for part in PARTS:
        assert has_ended(log, part), log
        assert SAID[part] in log
    for part in PARTS[:-1]:  # what is done is not done again
        assert log.rindex(f"\n== {part}, from ") < log.index(f"\n== {part} ended with code 0\n")
    sizes = [path.stat().st_size for path in script.out.iterdir()]
    assert max(sizes) <= MOST_BYTES
    assert len(sizes) <= MOST_FILES
    assert results(script.work).keys() == set(with_needs(WANTED))

    # The pack is replaced once more, and that is stopped as well: on another machine, one whole pack is unpacked.
    shutil.rmtree(script.work / "full" / "runs" / "plain-1mb")
    before_packing = script.pack()
    script.stop(lambda: script.pack() != before_packing, signal.SIGKILL, "full")
    other = Script(script.out, tmp_path / "other machine")
    said = other.finish("full")
    assert results(other.work) == results(script.work)
    assert "accuracy" not in said, "an experiment ran again"
    assert has_ended(said, "full")

    page = tmp_path / "gpu.md"
    shutil.copy(PROJECT / "docs" / "results" / "gpu.md", page)
    make = [sys.executable, PROJECT / "benchmarks" / "gpu_page.py", script.out, "--page", page]
    assert b"nothing is measured at toy size" in subprocess.run(make, check=False, capture_output=True).stderr
    subprocess.run([*make, "--toy"], check=True)
    assert "benchmarks/gpu.sh --toy OUT`" in page.read_text()


def after(delay: float, moment: Callable[[], object]) -> Callable[[], bool]:
    """True so many seconds after the moment, as near as it is asked for."""
    since: list[float] = []

    def passed() -> bool:
        if not since and moment():
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= delay

    return passed


def test_killed_after_the_first_network_the_page_of_rates_has_its_row(tmp_path: Path) -> None:
    options = "--device cpu --size 32 --images 8 --files 4 --workers 1 --repeats 1 --only student_net,grouped"
    page, title = tmp_path / "page.md", "256,779 student, with teacher"
    command = [sys.executable, PROJECT / "benchmarks" / "training.py", *options.split(), "--out", page]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout
        printed = next(line for line in process.stdout if line.startswith(f"| {title}"))
        process.kill()
    lines = page.read_text().splitlines()
    assert printed.rstrip("\n") in lines
    assert {"## The input, on one core", "## The networks"} <= set(lines)
    assert "question 4" not in page.read_text()
