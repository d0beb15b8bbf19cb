"""A real Dask cluster of two workers, one of which is killed in the middle: every grade is there, and is the same."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import submissions
from made_up_class import REAL_RUBRIC, Class, graded
from processes import until

from autograder.batch import RunReport, Settings, grade_one
from autograder.jail import best_tier
from autograder.journal import read_journals
from autograder.rubric import load_rubric
from hw7 import HW7Error
from hw7.support.workers import Cluster

pytestmark = pytest.mark.slow
distributed = pytest.importorskip("distributed", reason="Dask is an extra: pip install 'hw7[cluster]'")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """These clusters are there, however long a busy machine takes to start them."""
    monkeypatch.setattr(Cluster, "start", 900.0)


@pytest.fixture
def cluster() -> Iterator["distributed.LocalCluster"]:
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster


def refuse() -> None:
    raise ValueError("cannot be read here")


class Unreadable:
    """What a worker can send and nobody can read."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return refuse, ()


def run_on(cluster: "distributed.LocalCluster", made: Class, **options: object) -> RunReport:
    with Cluster(cluster.scheduler_address) as executor:
        return made.run(executor=executor, in_flight=8, **options)


def kill_a_worker_after(cluster: "distributed.LocalCluster", made: Class, lines: int) -> list[int]:
    """Waits for so many grades, then kills one of the worker processes; the list gets its process number."""
    killed: list[int] = []
    with distributed.Client(cluster) as client:
        pids = list(client.run(os.getpid).values())

    def kill() -> None:
        while not made.out.exists() or len(read_journals(made.out)) < lines:
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)
        killed.append(pids[0])

    threading.Thread(target=kill, daemon=True).start()
    return killed


def test_a_worker_is_killed_in_the_middle(tmp_path: Path, cluster: "distributed.LocalCluster") -> None:
    """Real submissions, through the jail of each worker."""
    (tmp_path / "rubric.toml").write_text(REAL_RUBRIC)
    settings = Settings(load_rubric(tmp_path / "rubric.toml"), b"seed", tier=best_tier()[0])
    made = Class(tmp_path, settings)
    wrong = [entry.files for entry in submissions.mutants() if entry.task == "3.4"]
    right = [entry.files for entry in submissions.alternatives()]
    for n, files in enumerate((wrong + right)[:20]):
        submissions.write(files, None, made.submissions / f"student{n:02}")
    made.out = tmp_path / "alone"
    wanted = graded(made.run(jobs=2, grade=grade_one))
    made.out = tmp_path / "undisturbed"
    assert graded(run_on(cluster, made, grade=grade_one)) == wanted
    made.out = tmp_path / "killed"
    killed = kill_a_worker_after(cluster, made, 5)
    result = run_on(cluster, made, grade=grade_one)
    assert killed
    assert graded(result) == wanted
    assert made.lines() == 20  # and each once
    assert run_on(cluster, made, grade=grade_one).graded == 0


def test_one_that_kills_every_worker_has_a_grade_that_says_so(
    a_class: Class,
    cluster: "distributed.LocalCluster",
) -> None:
    a_class.hand_in(student04="die")
    result = run_on(cluster, a_class)
    assert len(result.grades) == 12
    assert result.failures == ("student04",)
    assert [grade.problem for grade in result.grades if grade.problem] == ["the grader's worker died"]


def test_a_result_that_cannot_be_had_is_an_error(cluster: "distributed.LocalCluster") -> None:
    """With Dask's own executor, this future stays pending for ever."""
    with Cluster(cluster.scheduler_address) as executor:
        with pytest.raises(ValueError, match="cannot be read here"):
            executor.submit(Unreadable).result(timeout=900)
        assert executor.submit(sum, [1, 2]).result(timeout=900) == 3


def test_a_scheduler_that_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with (
        subprocess.Popen(
            [*dask, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file], **options
        ) as it,
        subprocess.Popen([*dask, "worker", "--no-dashboard", "--scheduler-file", file], **options) as worker,
    ):
        try:
            until(file.exists)
            with Cluster(json.loads(file.read_text())["address"]) as executor:
                future = executor.submit(time.sleep, 300)
                it.kill()
                with pytest.raises(HW7Error, match=r"is gone.*run the same again"):
                    future.result(timeout=900)
        finally:
            it.kill()
            worker.terminate()


def test_no_workers_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "patience", 1.0)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as local,
        Cluster(local.scheduler_address) as executor,
    ):
        future = executor.submit(time.sleep, 300)
        local.scale(0)
        with pytest.raises(HW7Error, match=r"no worker for 1 s.*run the same again"):
            future.result(timeout=900)


def test_what_is_cancelled_is_not_waited_for(cluster: "distributed.LocalCluster") -> None:
    with Cluster(cluster.scheduler_address) as executor:
        for _ in range(2):
            executor.submit(time.sleep, 2)  # what runs already, runs to its end
        assert all(future.cancel() for future in [executor.submit(time.sleep, 300) for _ in range(10)])
        assert executor.submit(sum, [1, 2]).result(timeout=900) == 3


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "start", 1.0)
    with pytest.raises(HW7Error, match="no Dask scheduler"), Cluster("tcp://127.0.0.1:9"):
        pass
