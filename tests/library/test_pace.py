"""How long a reproduction takes: the work of it, the plan of who runs what when, what is said and when."""

import json
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_training
import torch
from tiny_reproduction import TINY, reproduction, with_own
from tiny_training import Killed

from hw7 import HW7Error
from hw7.report import pace, reproduce
from hw7.report.experiments import EXPERIMENTS
from hw7.report.pace import Pace, plan
from hw7.report.profiles import PROFILES
from hw7.report.work import NOTHING, Kind, Work, images_of, work_of
from hw7.solution import Solution, load_solution
from hw7.support.files import write_json
from hw7.support.workers import SameProcess, Workers
from hw7.training import timing
from hw7.training.loop import Phase, epochs_done
from hw7.training.timing import Cost

LINE = r"about .* on this machine: {at_once} at a time; {trained:,} images trained on and {scored:,} scored, each as .*"


@pytest.fixture(scope="module")
def solution() -> Solution:
    return load_solution()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "tiny", TINY)
    monkeypatch.setattr(timing, "ENOUGH_S", 0.0)  # one step of each is enough to say something


# ---- the work ----------------------------------------------------------------------------------------------------

IMAGES = {"training": 100, "validation": 10, "testing": 1000, "pretraining": 205}
STUDENT, TEACHER = Kind("student_dw"), Kind("teacher")


SMALL = replace(PROFILES["quick"], recipes={"question 2": (Phase(28, batch=64),), "pretraining": (Phase(8, batch=64),)})


def test_the_work_of_a_student_by_hand() -> None:
    """28 epochs with one optimizer. Ten validation images are scored in each, and once for the loss by the teacher, who
    sees them then; test images once."""
    taught = Kind("student_dw", "teacher", "adamw", 64)
    work = work_of("student-e", SMALL, IMAGES)
    assert work.images == {taught: 28 * 100, STUDENT: 28 * 10 + 1000 + 10, TEACHER: 10}
    assert work.starts == {taught: 1, STUDENT: 1}
    assert (work.trained, work.scored) == (2800, 1300)
    costs = {taught: Cost(2.0, 0.5), STUDENT: Cost(0.0, 0.1)}
    assert work.seconds(costs) == pytest.approx(2 + 2800 * 0.5 + 1290 * 0.1)  # nobody has timed the teacher


def test_the_work_that_is_left() -> None:
    """Of two phases the first is done, and one epoch of the second; of ten steps of pruning three and a half."""
    full = PROFILES["full"]
    adamw, sgd = (Kind("student_dw", "", optimizer, 32) for optimizer in ("adamw", "sgd"))
    left = work_of("student-c", full, IMAGES, done=lambda run: 251)
    assert left.images == {sgd: 49 * 100, STUDENT: 49 * 10 + 1000}
    assert left.starts == {sgd: 1, STUDENT: 1}
    assert work_of("student-c", full, IMAGES).images[adamw] == 250 * 100

    pruned = Kind("student_net", "teacher", "adamw", 128)
    left = work_of("prune-0.95", full, IMAGES, done=lambda run: [5, 5, 5, 2][run] if run < 4 else 0)
    assert left.images[pruned] == (3 + 6 * 5) * 100
    assert left.starts[pruned] == 7


def test_epochs_of_a_run_that_was_killed(tmp_path: Path) -> None:
    assert epochs_done(tmp_path) == 0
    with pytest.raises(Killed):
        tiny_training.run(tmp_path, step=tiny_training.counting([], stop_at=2 * 3 + 1))  # three steps an epoch
    assert epochs_done(tmp_path) == 2
    tiny_training.run(tmp_path)
    assert epochs_done(tmp_path) == 6


def test_work_that_is_not_the_rule() -> None:
    """Pretraining holds a tenth of its own out and has no test images; quantization trains nothing."""
    assert work_of("pretraining", SMALL, IMAGES).images == {
        Kind("teacher", "", "adamw", 64): 8 * 184,
        TEACHER: 8 * 21,
    }
    quantized = work_of("quantized-8", SMALL, IMAGES)
    assert quantized == Work(Counter({Kind("student_net"): 1010}), Counter())


# ---- the plan ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_once", "seconds"),
    [
        (1, 20.0),
        (2, 11.0),  # a 0-4, b 4-9 beside c 0-6, d 6-8, e 8-11: e needs d, which waits for a worker
        (3, 9.0),  # a and then b are the longest chain
        (9, 9.0),
    ],
)
def test_the_plan_of_tasks_that_need_each_other(at_once: int, seconds: float) -> None:
    lengths = {"a": 4.0, "b": 5.0, "c": 6.0, "d": 2.0, "e": 3.0}
    needs = {"a": [], "b": ["a"], "c": [], "d": ["done before"], "e": ["d"]}
    assert plan(lengths, needs, at_once) == seconds


def test_what_was_trained_beside_another_is_as_good_as_done() -> None:
    trained: set[str] = set()
    made = Pace({"student-c": 10.0, "student-d": 10.0, "plain-1mb": 10.0}, 1, trained.__contains__)
    assert made.seconds_left() == 30
    made.begin("student-c")
    trained |= {"student-c", "student-d"}
    made.end("student-c", 10.0)
    assert made.seconds_left() == 10


def test_a_plan_of_nothing() -> None:
    assert plan({}, {}, 2) == 0


def test_the_time_left_knows_chains_what_runs_and_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    left = Pace({"teacher-scratch": 80, "student-c": 30, "student-d": 40, "plain-1mb": 10}, 2)
    assert left.left() == ", about 2 min left"  # 80 and then 40
    left.begin("teacher-scratch")
    left.begin("student-c")
    clock[0] = 35.0
    left.end("student-c", 30.0)  # the first five seconds were its process's
    assert left.left() == ", about 85 s left"  # 80 - 35 of the teacher, and then its student's 40
    clock[0] = 45.0
    assert left.countdown() == ", about 75 s left"
    left.begin("plain-1mb")
    clock[0] = 1000.0
    assert left.countdown() == ""
    assert left.left() == ", about 40 s left"  # what takes longer than it should is about to end
    left.fail("teacher-scratch")  # its student is not run
    clock[0] = 47.0
    assert left.left() == ", about 8 s left"
    left.end("plain-1mb", 10.0)
    assert left.left() == ""


def test_those_that_are_done_correct_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first takes twice what was estimated. A long one tells more than one of a second."""
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: 0.0))

    def after(estimate: float) -> float:
        left = Pace({"student-c": estimate, "plain-1mb": 500.0}, 1)
        left.begin("student-c")
        left.end("student-c", 2 * estimate)
        return left.seconds_left() / 500

    assert after(1.0) == pytest.approx(12 / 11)
    assert 1.95 < after(1000.0) < 2


def test_nothing_is_said_where_nobody_knows() -> None:
    assert Pace({"student-c": 0.0, "plain-1mb": 0.0}, 1).left() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "1 s"), (99.4, "99 s"), (100.0, "2 min"), (5940.0, "99 min"), (6000.0, "1.7 h"), (90_000.0, "25.0 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert pace.duration(seconds) == text


# ---- what a run says ---------------------------------------------------------------------------------------------


def line(names: list[str], at_once: str = "1 experiment") -> str:
    whole = sum((work_of(name, TINY, images_of(TINY)) for name in names), NOTHING)
    return LINE.format(at_once=at_once, trained=whole.trained, scored=whole.scored)


def told(made: Any, only: list[str], **options: Any) -> list[str]:
    """The lines that a run says, up to its end or its error; "drawn" where it reads its first images."""
    lines: list[str] = []
    made.say, load = lines.append, made.load

    def noted(name: str) -> Any:
        lines.append("drawn")
        return load(name)

    made.load = noted
    try:
        made.run(only, **options)
    except HW7Error as error:
        lines.append(str(error))
    return lines


def test_it_says_how_long_before_any_image_is_drawn(tmp_path: Path, solution: Solution) -> None:
    lines = told(reproduction(tmp_path, solution), ["plain-1mb", "grouped-1mb"])
    assert lines[1] == "drawn"
    assert_matches(line(["plain-1mb", "grouped-1mb"]), lines[0])
    assert ", about " in lines[-2]
    assert "left" not in lines[-1]


def assert_matches(pattern: str, text: str) -> None:
    assert re.fullmatch(pattern, text), text


@pytest.mark.slow
def test_so_it_does_with_workers(tmp_path: Path, solution: Solution) -> None:
    with Workers(2) as executor:
        lines = told(reproduction(tmp_path, solution), ["plain-1mb", "grouped-1mb"], executor=executor, at_once=2)
    assert lines[1] == "drawn"
    assert_matches(line(["plain-1mb", "grouped-1mb"], "2 experiments"), lines[0])


def test_only_what_is_missing_counts(tmp_path: Path, solution: Solution) -> None:
    made = reproduction(tmp_path, solution)
    made.run(["grouped-1mb"])
    assert_matches(line(["plain-1mb"]), told(made, ["grouped-1mb", "plain-1mb"])[0])
    assert told(made, ["grouped-1mb", "plain-1mb"]) == []  # the images are there, and nothing is left to say


def test_epochs_that_are_done_do_not_count(tmp_path: Path, solution: Solution) -> None:
    """A run that was killed between its end and its result has only its last scores before it."""
    made = reproduction(tmp_path, solution)
    made.run(["plain-1mb"])
    made.result_path("plain-1mb").unlink()
    assert_matches(LINE.format(at_once="1 experiment", trained=0, scored=11), told(made, ["plain-1mb"])[0])


STUB = {"models": "def student_dw(num_classes=11):\n    raise NotImplementedError('Task 1.3')"}
IN_A_STEP = {"losses": "def distillation_step(*arguments, **options):\n    raise KeyError('no')"}


@pytest.mark.parametrize(
    ("sources", "fails", "needs"), [(STUB, "student-c", []), (IN_A_STEP, "student-weak", ["teacher-weak"])]
)
def test_a_solution_that_raises_is_not_estimated_and_costs_nothing_else(
    tmp_path: Path, sources: dict[str, str], fails: str, needs: list[str]
) -> None:
    lines = told(reproduction(tmp_path / "out", with_own(tmp_path / "own", **sources)), [fails, "plain-1mb"])
    assert_matches(line([*needs, fails, "plain-1mb"]), lines[0])
    assert sum(each.startswith("done") for each in lines) == len(needs) + 1
    assert sum(each.startswith(f"failed. {EXPERIMENTS[fails].title}: ") for each in lines) == 1


def test_where_nothing_can_be_timed_nothing_is_said(
    tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Cost:
        raise RuntimeError("no")

    monkeypatch.setattr(reproduce, "cost_timed", broken)
    lines = told(reproduction(tmp_path, solution), ["plain-1mb", "grouped-1mb"])
    assert lines[0] == "drawn"
    assert sum(each.startswith("done") for each in lines) == 2
    assert not any("left" in each for each in lines)


def test_a_run_of_seconds_spends_none_of_them_on_the_estimate(
    tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> Cost:
        raise AssertionError("nothing is to be timed")

    monkeypatch.setattr(reproduce, "cost_timed", forbidden)
    monkeypatch.setattr(Future, "exception", lambda self, timeout=None: None)
    lines = told(reproduction(tmp_path, solution, until=0.0), ["plain-1mb"])
    assert lines[0] == "drawn"
    assert "time is up" in lines[-1]


def test_the_estimate_leaves_no_trace_in_the_results(
    tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = reproduction(tmp_path / "timed", solution).run(["student-c"])
    monkeypatch.setattr(reproduce, "cost_timed", lambda *_: Cost(0.0, 1.0))
    torch.rand(3)
    assert json.dumps(reproduction(tmp_path / "not", solution).run(["student-c"])) == json.dumps(timed)


def test_the_longest_chain_goes_first(tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    """By seconds: an image costs as much for each network here, and one of an epoch's scores nothing."""
    started: list[str] = []

    class Noting(SameProcess):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if fn is reproduce.cost_timed:
                return super().submit(lambda: Cost(0.0, 1e-3 if args[1].optimizer else 0.0))
            started.append(args[1])
            write_json(args[0].result_path(args[1]), {"accuracy": 0, "parameters": 0})
            return super().submit(int)

    made = reproduction(tmp_path, solution, profile_name="full")
    monkeypatch.setattr(made, "load", lambda name: None)
    made.run(list(EXPERIMENTS), Noting(), 2)
    assert started[:3] == ["pretraining", "teacher-scratch", "teacher-pretrained"]
    assert sorted(started) == sorted(EXPERIMENTS)
    place = {name: number for number, name in enumerate(started)}
    assert all(place[need] < place[name] for name, row in EXPERIMENTS.items() for need in row.needs)


def test_what_is_left_is_told_with_each_that_ends(
    tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes twice what was estimated; one was done before."""
    seconds = {"student-c": 600.0, "student-net": 3600.0, "plain-1mb": 240.0, "grouped-1mb": 2.0}
    made, said = reproduction(tmp_path, solution), list[str]()

    class Counting(SameProcess):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            write_json(made.result_path(args[1]), {"accuracy": 0.5, "parameters": 1000})
            return super().submit(lambda: 2 * seconds[args[1]])

    made.say = said.append
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: 0.0))
    missing = {name: seconds[name] for name in list(seconds)[1:]}
    made._run_all(list(seconds), Pace(missing, 1), Counting(), 1)
    assert [each.partition(". ")[0] for each in said] == [
        "done 2 of 4, about 8 min left",
        "done 3 of 4, about 4 s left",
        "done 4 of 4",
    ]
