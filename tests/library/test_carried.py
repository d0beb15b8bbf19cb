"""A reproduction that was interrupted, packed and unpacked somewhere else goes on there."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_reproduction import TINY, contents, reproduction
from tiny_training import Killed
from torch import nn

from hw7.report import carry
from hw7.report.carry import ANEW, EXACTLY, LEFT_OUT, ROUNDED, pack, unpack
from hw7.report.experiments import NETWORKS
from hw7.report.page import write_report
from hw7.report.profiles import PROFILES
from hw7.report.reproduce import Reproduction
from hw7.solution import Solution, load_solution
from hw7.support.parts import HEAD
from hw7.training.epoch import Passes
from hw7.training.loop import Phase

PRUNING = {"pruning": (Phase(2, batch=11),)}
ONLY = ("student-e", "prune-0.9")
EPOCHS = 1 + 1 + 2 + 1 + 5 * 2  # of ONLY and what it needs
# Into which epoch a kill comes, and which run is under way then. Of student-e, the second is its second phase's.
MOMENTS = {4: "student-e", 1 + 1 + 2 + 1 + 4: "prune-0.9/step-02"}


def small_teacher(_: Solution, classes: int) -> nn.Module:
    """In the place of ResNet-18, whose 45 MB take seconds to pack."""
    body = (nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(8, classes))


@pytest.fixture(scope="module")
def patched() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROFILES, "tiny", replace(TINY, recipes=dict(TINY.recipes) | PRUNING))
        patch.setitem(NETWORKS, "teacher", small_teacher)
        patch.setattr(Reproduction, "_costs", lambda *_: {})  # timing the steps takes passes that are not counted here
        yield


def interrupted(out: Path, epoch: int) -> Path:
    """A folder that was killed in this epoch."""
    real, epochs = Passes.__call__, 0

    def killed(*arguments: Any) -> Any:
        nonlocal epochs
        epochs += 1
        mean = real(*arguments)
        if epochs == epoch:
            raise Killed
        return mean

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passes, "__call__", killed)
        with pytest.raises(Killed):
            reproduction(out, load_solution()).run(ONLY)
    return out


def finished(out: Path) -> bytes:
    """What comes out in the end."""
    made = reproduction(out, load_solution())
    made.run(ONLY)
    write_report(made)
    return (out / "results.json").read_bytes()


@pytest.fixture(scope="module")
def whole(patched: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that was never interrupted."""
    out = tmp_path_factory.mktemp("whole")
    finished(out)
    return out


def least(folder: Path, how: Callable[[str], str], only: Sequence[str] = ONLY) -> float:
    """How many MB a pack has in which each kind of item travels like this; a little more, but less than rounding a
    teacher saves, since torch.save does not write the very same bytes each time."""
    items = list(carry._items(folder, only))
    for item in items:
        item.how = how(item.kind)
    return (sum(item.size for item in items) + HEAD + 165) / 1e6


@pytest.mark.parametrize("moment", MOMENTS, ids=MOMENTS.values())
def test_exactly_to_the_very_same_results(whole: Path, tmp_path: Path, moment: int) -> None:
    here, there = interrupted(tmp_path / "here", moment), tmp_path / "there"
    packed = pack(here, tmp_path / "pack", only=ONLY)
    assert packed.how[f"runs/{MOMENTS[moment]}/checkpoint.pt"] == EXACTLY
    assert unpack(tmp_path / "pack", there).how == packed.how
    assert finished(there) == (whole / "results.json").read_bytes()


@pytest.mark.parametrize("moment", MOMENTS, ids=MOMENTS.values())
def test_rounded_from_where_it_was(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Nothing that was done is done again, although the teacher's weights and the student's first are others."""
    here, there = interrupted(tmp_path / "here", moment), tmp_path / "there"
    kinds = {"needed": ROUNDED, "checkpoint": ROUNDED, "spare": LEFT_OUT, "record": EXACTLY}
    packed = pack(here, tmp_path / "pack", least(here, kinds.__getitem__), ONLY)
    assert set(packed.how.values()) == {ROUNDED, LEFT_OUT}
    before = contents(here)
    unpack(tmp_path / "pack", there)

    real, epochs = Passes.__call__, 0

    def counted(*arguments: Any) -> Any:
        nonlocal epochs
        epochs += 1
        return real(*arguments)

    monkeypatch.setattr(Passes, "__call__", counted)
    results = json.loads(finished(there))["experiments"]
    assert epochs == EPOCHS - (moment - 1)
    assert results.keys() == json.loads((whole / "results.json").read_bytes())["experiments"].keys()
    history = json.loads((there / "runs" / MOMENTS[moment] / "run.json").read_bytes())["history"]
    uninterrupted = json.loads((whole / "runs" / MOMENTS[moment] / "run.json").read_bytes())["history"]
    assert history[0] == uninterrupted[0]
    records = {name: data for name, data in before.items() if name.endswith(("run.json", "result.json"))}
    assert {name: contents(there)[name] for name in records} == records


def test_a_checkpoint_that_was_left_out_begins_anew(whole: Path, tmp_path: Path) -> None:
    """Then its run sees the rounded teacher from its first epoch on."""
    here, there = interrupted(tmp_path / "here", 4), tmp_path / "there"
    kinds = {"needed": ROUNDED, "checkpoint": ANEW, "spare": LEFT_OUT, "record": EXACTLY}
    packed = pack(here, tmp_path / "pack", least(here, kinds.__getitem__), ONLY)
    assert packed.how["runs/student-e/checkpoint.pt"] == ANEW
    unpack(tmp_path / "pack", there)
    assert json.loads(finished(there))["experiments"].keys() >= {"student-e", "prune-0.9"}


def test_weights_that_were_left_out_are_made_again_where_they_are_needed_after_all(whole: Path, tmp_path: Path) -> None:
    """Packed for one experiment, gone on for another."""
    made = reproduction(tmp_path / "here", load_solution())
    made.run(["student-net"])
    kinds = {"spare": LEFT_OUT, "record": EXACTLY}
    packed = pack(made.out, tmp_path / "pack", least(made.out, kinds.__getitem__, ["student-net"]), ["student-net"])
    assert set(packed.how.values()) == {LEFT_OUT}
    there = tmp_path / "there"
    unpack(tmp_path / "pack", there)
    before = contents(there)
    said: list[str] = []
    again = reproduction(there, load_solution(), say=said.append)
    again.run(["student-net"])
    assert contents(there) == before  # what is done is done
    again.run(ONLY)
    anew = [line.partition(":")[0] for line in said if "begins anew" in line]
    assert len(anew) == 3  # student-net, its teacher, and what that starts from
    write_report(again)
    assert (there / "results.json").read_bytes() == (whole / "results.json").read_bytes()
