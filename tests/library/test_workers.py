"""Tasks that need each other on several executors, and the report's experiments on them."""

import json
import math
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import living, until
from tiny_reproduction import TINY, reproduction

from hw7 import HW7Error
from hw7.cli import app
from hw7.report import reproduce as reproducing
from hw7.report import runner
from hw7.report.profiles import PROFILES
from hw7.solution import Solution, default_directory, load_solution
from hw7.support.files import load_weights
from hw7.support.workers import Cluster, SameProcess, Workers, side_by_side
from hw7.training import loop
from hw7.training.epoch import Passes
from hw7.training.loop import TimeIsUp, Trainee

NEEDS = {"a": "", "b": "a", "c": "", "d": "bc", "e": "c", "f": ""}


def ordered(executor: Executor, work: Callable[[str], object], stop_after: str = "") -> list[str]:
    """The order in which NEEDS' tasks ended; ! after those that failed."""
    ended: list[str] = []

    def end(name: str, future: Future[Any]) -> bool:
        ended.append(name + "!" * bool(future.exception()))
        return name != stop_after

    side_by_side(NEEDS, lambda name: NEEDS[name], lambda name: executor.submit(work, name), end)
    return ended


def fails_at(*names: str) -> Callable[[str], None]:
    def work(name: str) -> None:
        if name in names:
            raise HW7Error(name)

    return work


def test_tasks_run_in_their_order_once_what_they_need_is_done() -> None:
    assert ordered(SameProcess(), fails_at()) == list("abcdef")


@pytest.mark.parametrize(
    ("failing", "ended"),
    [("a", ["a!", "c", "e", "f"]), ("c", ["a", "b", "c!", "f"]), ("ef", ["a", "b", "c", "d", "e!", "f!"])],
)
def test_what_needs_a_failed_task_is_not_started_and_the_rest_is(failing: str, ended: list[str]) -> None:
    assert ordered(SameProcess(), fails_at(*failing)) == ended


def test_nothing_more_is_started_when_one_says_so() -> None:
    assert ordered(SameProcess(), fails_at(), stop_after="b") == ["a", "b"]


def test_no_more_run_at_once_than_asked_and_the_first_that_can_does() -> None:
    """Two may run. `a` ends only once the end of all others that can be done without it has been told: no order of
    threads is left to chance."""
    ended, running, rest = list[str](), dict[str, Future[None]](), list("cef")
    most = 0

    def start(name: str) -> Future[None]:
        nonlocal most
        running[name] = Future()
        most = max(most, len(running))
        if name != "a":
            running[name].set_result(None)
        return running[name]

    def end(name: str, future: Future[Any]) -> bool:
        ended.append(name)
        del running[name]
        if name == rest[-1]:
            running["a"].set_result(None)
        return True

    side_by_side(NEEDS, lambda name: NEEDS[name], start, end, at_once=2)
    assert ended == ["c", "e", "f", "a", "b", "d"]
    assert most == 2


# ---- the report's experiments ----------------------------------------------------------------------------------

ONLY = ("student-d", "student-net", "quantized-16", "depthwise-1mb")


@pytest.fixture(scope="module")
def solution() -> Solution:
    return load_solution()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "tiny", TINY)


@pytest.mark.slow
def test_the_results_do_not_depend_on_who_runs_them(tmp_path: Path, solution: Solution) -> None:
    """This process, two others that know nothing of it but what they are sent, and a Dask worker."""
    distributed = pytest.importorskip("distributed")
    only = ("student-d", "depthwise-1mb")
    here = reproduction(tmp_path / "here", solution).run(only)
    assert list(here["experiments"]) == ["teacher-scratch", *only]
    with Workers(2) as executor:
        assert reproduction(tmp_path / "processes", solution).run(only, executor, 2) == here
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="inproc://"
        ) as local,
        Cluster(local.scheduler_address) as executor,
    ):
        assert executor.threads == [2]
        assert reproduction(tmp_path / "dask", solution).run(only, executor, 2) == here
    for path in (tmp_path / "here").rglob("weights.safetensors"):
        tensors = load_weights(path)[0]
        for name in ("processes", "dask"):
            others = load_weights(tmp_path / name / path.relative_to(tmp_path / "here"))[0]
            assert all(torch.equal(tensor, others[key]) for key, tensor in tensors.items())


def test_one_that_fails_costs_no_other(tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    real, said = runner.train_side_by_side, list[str]()

    def train(trainees: list[Trainee], *arguments: Any, **options: Any) -> Any:
        if any("(a)" in trainee.label for trainee in trainees):
            raise HW7Error("no luck")
        return real(trainees, *arguments, **options)

    monkeypatch.setattr(runner, "train_side_by_side", train)
    made = reproduction(tmp_path, solution, say=said.append)
    with pytest.raises(HW7Error, match="no luck"):
        made.run(["student-d", "depthwise-1mb"])
    assert list(made.results()["experiments"]) == ["teacher-scratch", "depthwise-1mb"]
    estimate = r"about \d+ s on this machine: 1 experiment at a time; \d+ images trained on and \d+ scored, .*"
    lines = (
        estimate,
        r"done 1 of 3, about \d+ s left\. a: teacher, ResNet-18 from scratch: accuracy 0\.\d{4}, 11,182,155 parameters",
        r"failed\. d: student distilled from \(a\): no luck",
        r"done 2 of 3\. Depthwise \+ pointwise convolutions: accuracy 0\.\d{4}, [\d,]+ parameters",
        estimate,
        r"done 3 of 3\. d: student distilled from \(a\): accuracy 0\.\d{4}, [\d,]+ parameters",
    )
    monkeypatch.setattr(runner, "train_side_by_side", real)
    assert len(made.run(["student-d", "depthwise-1mb"])["experiments"]) == 3
    assert [line for line, wanted in zip(said, lines, strict=True) if not re.fullmatch(wanted, line)] == []


@pytest.mark.slow
def test_steps_of_a_few_minutes_give_what_one_run_gives(
    tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each epoch takes a minute of a clock that only training moves, and each call may take 2.5."""
    whole = reproduction(tmp_path / "whole", solution).run(ONLY)
    clock, real, epochs = [0.0], Passes.__call__, 1 + 1 + 1 + 2 + 1 + 1

    def minute(*arguments: Any) -> Any:
        clock[0] += 60
        return real(*arguments)

    monkeypatch.setattr(reproducing, "HURRY_S", math.inf)  # timed passes would move the clock
    monkeypatch.setattr(Passes, "__call__", minute)
    monkeypatch.setattr(loop.time, "time", lambda: clock[0])
    calls = 0
    while True:
        calls += 1
        made = reproduction(tmp_path / "steps", solution, until=clock[0] + 150)
        before = len(made.results()["experiments"])
        try:
            results = made.run(ONLY)
            break
        except TimeIsUp as error:
            done = len(made.results()["experiments"])
            assert f"time is up: {done} of 7" in str(error)  # noqa: PT017 (it may end in either way)
            assert done > before
    assert results == whole
    assert clock[0] == 60 * epochs  # nothing twice
    assert calls == 3  # each begins three epochs: a run's first one tells how long they are


WORKER = """
import os, sys, time
from pathlib import Path
from hw7.support.workers import Workers
def work(folder):
    from tqdm import tqdm
    bar = tqdm(disable=True)  # as each training has one: tqdm makes its lock
    Path(folder, "pid").write_text(str(os.getpid()))
    os.replace(Path(folder, "pid"), Path(folder, "begun"))
    time.sleep(600)
if __name__ == "__main__":
    with Workers(1) as executor:
        executor.submit(work, sys.argv[1]).result()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_workers_end_with_their_parent(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "main.py").write_text(WORKER)
    with subprocess.Popen(
        [sys.executable, tmp_path / "main.py", tmp_path], start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: (tmp_path / "begun").exists() or process.poll() is not None)
        os.kill(process.pid, end)  # the parent alone
        said = process.communicate()[1]  # of all of them, to the last one's end
    assert process.returncode != 0
    assert "resource_tracker" not in said  # it warns of semaphores that a killed process leaves
    worker = int((tmp_path / "begun").read_text())
    until(lambda: worker not in living())


def test_a_worker_that_dies_is_told_in_a_line(tmp_path: Path, solution: Solution) -> None:
    class Dying(SameProcess):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("terminated abruptly"))
            return future

    with pytest.raises(HW7Error, match=r"a worker died .*terminated abruptly.*fewer --jobs"):
        reproduction(tmp_path, solution).run(ONLY, Dying(), 2)


def test_clusters_that_are_not_there() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(HW7Error, match="no Dask scheduler at"), Cluster("nonsense://127.0.0.1:1"):
        pass


def test_precision_is_part_of_what_a_folder_holds(tmp_path: Path, solution: Solution) -> None:
    results = reproduction(tmp_path, solution).run(["depthwise-1mb"])
    assert results["precision"] == "float32"  # on the CPU
    with pytest.raises(HW7Error, match="precision: float32 there, bfloat16 here"):
        reproduction(tmp_path, solution, precision="bfloat16").run(["depthwise-1mb"])
    lowered = reproduction(tmp_path / "bfloat16", solution, precision="bfloat16").run(["depthwise-1mb"])
    exact, other = (run["experiments"]["depthwise-1mb"]["loss"] for run in (results, lowered))
    assert exact != other
    assert exact == pytest.approx(other, rel=0.05)  # 8 bits
    assert json.loads((tmp_path / "identity.json").read_text())["precision"] == "float32"
    with pytest.raises(HW7Error, match=r"no precision 'float8'.*float32, bfloat16"):
        reproduction(tmp_path, solution, precision="float8")


def test_the_command_stops_in_good_time_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reproduce(*more: str) -> int:
        command = ["hw7", "reproduce", "--profile", "tiny", "--only", "depthwise-1mb", "--device", "cpu", "--out"]
        monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "out"), *more])
        with pytest.raises(SystemExit) as end:
            app()
        return int(end.value.code or 0)

    assert reproduce("--minutes", "0") == 75
    assert "time is up: 0 of 1 done; run the same again" in capsys.readouterr().err
    assert "not run yet" in (tmp_path / "out" / "report.md").read_text()
    assert reproduce("--minutes", "30", "--jobs", "4") == 0
    assert (tmp_path / "out" / "report.html").exists()


def test_a_worker_makes_its_own_and_refuses_another_solution(tmp_path: Path, solution: Solution) -> None:
    sent = pickle.dumps(reproduction(tmp_path / "out", solution, seed=3, until=7.0))
    here, again = pickle.loads(sent), pickle.loads(sent)
    assert here is again  # its data and teachers are kept from task to task
    assert (here.seed, here.until, here.profile, here.progress) == (3, 7.0, TINY, False)
    assert here.identity == reproduction(tmp_path / "out", solution, seed=3).identity

    shutil.copytree(default_directory() / "solution", tmp_path / "own" / "solution")
    sent = pickle.dumps(reproduction(tmp_path / "out", load_solution(tmp_path / "own")))
    with (tmp_path / "own" / "solution" / "losses.py").open("a") as file:
        file.write("CHANGED = True\n")
    with pytest.raises(HW7Error, match="holds another solution"):
        pickle.loads(sent)
    load_solution()
