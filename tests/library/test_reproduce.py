"""Small reproductions of the report: what runs, what is kept, what is refused."""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from processes import another_process_in
from tiny_reproduction import TINY, contents, reproduction, with_own
from tiny_training import Killed

from hw7 import HW7Error
from hw7.cli import app
from hw7.data import fashion_mnist, load
from hw7.data.load import hold_out_tenth, load_split
from hw7.data.source import Split
from hw7.models import StudentNet, teacher_resnet18
from hw7.report import ledger, runner
from hw7.report import reproduce as reproducing
from hw7.report.experiments import EXPERIMENTS, with_needs
from hw7.report.findings import unpacked
from hw7.report.page import write_report
from hw7.report.profiles import PROFILES
from hw7.solution import Solution, load_solution
from hw7.support.files import load_weights, read_json, save_weights
from hw7.training.epoch import Passes
from hw7.training.loop import Trainee
from hw7.training.weights import quantized

ONLY = ("student-c", "student-e", "prune-0.9", "quantized-16", "quantized-8")
EPOCHS = 1 + 1 + 2 + 1 + 5  # of ONLY and what it needs; the students of question 2 have two phases, side by side


@pytest.fixture(scope="module")
def solution() -> Solution:
    return load_solution()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "tiny", TINY)
    monkeypatch.setattr(reproducing, "HURRY_S", math.inf)  # what is said of the time has its own tests: test_pace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, solution: Solution) -> Path:
    """A folder with a finished reproduction of ONLY, its report written."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HW7_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setitem(PROFILES, "tiny", TINY)
        whole = reproduction(out, solution)
        whole.run(ONLY)
        write_report(whole)
    return out


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_the_results(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text(), parse_constant=refuse)
    assert list(results["experiments"]) == with_needs(ONLY)
    assert (results["data"], results["profile"], results["seed"], results["size"]) == ("plates", "tiny", 0, 32)
    runs = results["experiments"]
    assert runs["student-e"]["parameters"] == 274_763
    assert runs["student-e"]["images"] == 22
    assert runs["student-e"]["epochs"] == 2
    assert "distillation_loss" in runs["student-e"]
    assert "distillation_loss" not in runs["student-c"]
    assert "test_accuracy" not in runs["pretraining"]  # its classes are others
    assert [step["parameters"] for step in runs["prune-0.9"]["steps"]] == [216_518, 183_578, 156_084, 132_858, 114_810]
    assert runs["prune-0.9"]["accuracy"] == runs["prune-0.9"]["steps"][-1]["accuracy"]
    assert runs["quantized-8"]["file_bytes"] < runs["quantized-16"]["file_bytes"] < runs["student-net"]["tensor_bytes"]
    assert all(0 <= run["accuracy"] <= 1 for run in runs.values())
    figures = results["figures"]
    assert list(figures) == list(ledger.load())
    assert figures["q2.e.accuracy"] == {
        "printed": 0.8586,
        "measured": runs["student-e"]["accuracy"],
        "verdict": "other data",
    }
    assert figures["q1.teacher.parameters"]["verdict"] == "exact"
    assert figures["q2.d.accuracy"]["measured"] is None


def test_a_result_says_which_test_images_were_right_and_what_the_switch_did(finished: Path) -> None:
    runs = read_json(finished / "results.json")["experiments"]
    for name, result in runs.items():
        if "test_images" in result:
            right = unpacked(result["test_right"], result["test_images"])
            assert right.mean() == pytest.approx(result["test_accuracy"], abs=1e-12)
        switched = EXPERIMENTS[name].recipe == "question 2"
        assert ("at_switch" in result) == switched
        if switched:
            before, after = (
                row["validation_accuracy"] for row in read_json(finished / "runs" / name / "run.json")["history"]
            )
            assert result["at_switch"] == {"before": before, "after": after}


def test_every_step_of_pruning_is_kept(finished: Path) -> None:
    widths = []
    for number in range(1, 6):
        tensors, metadata = load_weights(finished / "runs" / "prune-0.9" / f"step-{number:02}" / "weights.safetensors")
        assert metadata["network"] == "student_net"
        widths.append(StudentNet.from_state_dict(tensors).widths)
    runs = json.loads((finished / "results.json").read_text())["experiments"]
    assert [list(step) for step in widths] == [step["widths"] for step in runs["prune-0.9"]["steps"]]


@pytest.mark.slow
def test_two_folders_get_the_same_bytes(finished: Path, tmp_path: Path, solution: Solution) -> None:
    second = reproduction(tmp_path / "second", solution)
    torch.rand(3)
    second.run(["quantized-16", "student-e", "student-c"])  # in two goes and another order
    second.run(ONLY)
    write_report(second)
    assert (second.out / "results.json").read_bytes() == (finished / "results.json").read_bytes()
    pictures = {name: data for name, data in contents(second.out).items() if name.startswith("pictures")}
    assert pictures
    assert pictures == {name: data for name, data in contents(finished).items() if name.startswith("pictures")}


def test_another_seed_gives_other_results(finished: Path, tmp_path: Path, solution: Solution) -> None:
    other = reproduction(tmp_path, solution, seed=1).run(["student-c"])["experiments"]["student-c"]
    first = json.loads((finished / "results.json").read_text())["experiments"]["student-c"]
    assert other["loss"] != first["loss"]
    assert other["parameters"] == first["parameters"]


def test_run_again_it_trains_nothing(finished: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(runner, "train_side_by_side", forbidden)
    before = contents(finished)
    results = reproduction(finished, solution).run(ONLY)
    assert results["experiments"] == json.loads(before["results.json"])["experiments"]
    assert contents(finished) == before


def test_finished_runs_are_measured_again_and_not_trained(
    finished: Path, tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the end of a run and its result."""
    shutil.copytree(finished, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("result.json"):
        path.unlink()

    def forbidden(*_: object) -> float:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(Passes, "__call__", forbidden)
    reproduction(tmp_path / "copy", solution).run(ONLY)
    after = contents(tmp_path / "copy")
    assert after == contents(finished)


@pytest.mark.slow
def test_a_killed_reproduction_goes_on(
    finished: Path, tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of every single epoch, it still gets there, and to the same."""
    real, epochs = Passes.__call__, 0

    def killed(*arguments: Any) -> float:
        nonlocal epochs
        epochs += 1
        loss = real(*arguments)
        if epochs % 2:
            raise Killed
        return loss

    monkeypatch.setattr(Passes, "__call__", killed)
    kills = 0
    while True:
        try:
            results = reproduction(tmp_path, solution).run(ONLY)
            break
        except Killed:
            kills += 1
    assert kills == EPOCHS
    assert results["experiments"] == json.loads((finished / "results.json").read_text())["experiments"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"source": "plates:5"}, "data: plates there, plates:5 here"),
        ({"seed": 7}, "seed: 0 there, 7 here"),
        ({"profile_name": "smoke"}, "profile: tiny there, smoke here"),
        ({"pretraining": "imagenet"}, "pretraining: plates there, imagenet here"),
    ],
    ids=["data", "seed", "profile", "pretraining"],
)
def test_a_folder_of_another_reproduction_is_refused(
    finished: Path, solution: Solution, changes: dict, says: str
) -> None:
    before = contents(finished)
    with pytest.raises(HW7Error, match="holds another reproduction") as error:
        reproduction(finished, solution, **changes).run(["student-c"])
    assert says in str(error.value)
    assert str(finished) in str(error.value)
    assert contents(finished) == before


def test_results_of_another_solution_are_refused(finished: Path, tmp_path: Path) -> None:
    before = contents(finished)
    with pytest.raises(HW7Error, match="solution: not the same"):
        reproduction(finished, with_own(tmp_path, losses="EDITED = True")).run(["student-c"])
    assert contents(finished) == before


def test_results_are_kept_after_the_edit_of_a_comment(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a distilled student, too, whose run says which code distilled it."""
    shutil.copytree(finished, tmp_path / "copy")
    result = tmp_path / "copy" / "runs" / "student-e" / "result.json"
    result.unlink()

    def forbidden(*_: object) -> float:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(Passes, "__call__", forbidden)
    reproduction(tmp_path / "copy", with_own(tmp_path / "own", losses="# a comment")).run(["student-e"])
    assert contents(tmp_path / "copy") == contents(finished)


def test_two_at_once_in_one_folder_are_refused(finished: Path, solution: Solution) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("no data is to be read before")

    before = contents(finished)
    with pytest.MonkeyPatch.context() as patch, another_process_in(finished):
        patch.setattr(load, "load_split", forbidden)
        with pytest.raises(HW7Error, match="another hw7 is at work in"):
            reproduction(finished, solution).run(ONLY)
    reproduction(finished, solution).run(ONLY)  # a lock dies with its owner
    assert contents(finished) == before


def test_a_profile_that_does_not_exist(tmp_path: Path, solution: Solution) -> None:
    with pytest.raises(HW7Error, match=r"no profile 'huge'.*smoke, quick, notebook, full"):
        reproduction(tmp_path, solution, profile_name="huge")


@pytest.mark.parametrize("source", ["plate", "food11:/no/such/folder", "food11", "plates:x"])
def test_a_source_that_does_not_work_leaves_the_folder_free(tmp_path: Path, solution: Solution, source: str) -> None:
    out = tmp_path / "out"
    with pytest.raises(HW7Error):
        reproduction(out, solution, source=source).run(["student-c"])
    assert not out.exists() or contents(out) == {}  # so that the corrected command may use it


def test_an_out_that_cannot_be_a_folder(tmp_path: Path, solution: Solution) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HW7Error, match="file"):
        reproduction(tmp_path / "file", solution).run(["student-c"])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            "_right = iterative_prune\n"
            "def iterative_prune(model, keep_rate, steps, finetune):\n"
            "    return _right(model, keep_rate, steps, finetune)[:-1]",
            "its 5 steps; networks given: 4, calls of finetune: 5",
        ),
        (
            "def iterative_prune(model, keep_rate, steps, finetune):\n"
            "    return [network_slimming(model, w) for w in width_schedule(model.widths, keep_rate, steps)]",
            "its 5 steps; networks given: 5, calls of finetune: 0",
        ),
        (
            "def iterative_prune(model, keep_rate, steps, finetune):\n    finetune(model)\n    raise KeyError('next')",
            r"raised KeyError at .*pruning\.py, line",
        ),
        (
            "def iterative_prune(model, keep_rate, steps, finetune):\n    raise NotImplementedError('Task 3.5')",
            "not done yet: Task 3.5",
        ),
        ("def iterative_prune(model, keep_rate, steps, finetune):\n    return None", "iterative_prune"),
    ],
    ids=["one too few", "not fine-tuned", "raises", "stub", "none"],
)
def test_a_pruning_that_is_wrong(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, says: str
) -> None:
    """On the finished student, as if this solution had made it."""
    own = with_own(tmp_path / "own", pruning=source)
    shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("prune-*"))
    identity = json.loads((finished / "identity.json").read_text()) | {"solution": own.digest}
    (tmp_path / "out" / "identity.json").write_text(json.dumps(identity))
    with pytest.raises(HW7Error, match=says):
        reproduction(tmp_path / "out", own).run(["prune-0.9"])
    assert not (tmp_path / "out" / "runs" / "prune-0.9" / "result.json").exists()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def compress(state_dict, bits=8):\n    return state_dict['no']", "quantization.compress raised KeyError"),
        ("def decompress(tensors):\n    raise NotImplementedError('Task 4.2')", "Task 4.2"),
        (
            "_right = decompress\n"
            "def decompress(tensors):\n    return {n: t for n, t in _right(tensors).items() if n != 'fc.bias'}",
            "did not give back fc.bias",
        ),
    ],
    ids=["raises", "stub", "loses one"],
)
def test_a_quantization_that_is_wrong(tmp_path: Path, source: str, says: str) -> None:
    own = with_own(tmp_path, quantization=source)
    with pytest.raises(HW7Error, match=says):
        quantized(own, StudentNet().state_dict(), 8)


def test_students_of_one_kind_begin_alike_under_every_teacher(
    tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that rows c, d and e of question 2 differ by the teacher and by nothing else."""
    starts: dict[str, Any] = {}

    def recorded(trainees: list[Trainee], *arguments: Any, **options: Any) -> None:
        (trainee,) = trainees
        weights = torch.cat([tensor.double().flatten() for tensor in trainee.network.state_dict().values()])
        starts[trainee.label] = weights, options["seed"], arguments[2]
        raise Killed

    monkeypatch.setattr(runner, "train_side_by_side", recorded)
    made = reproduction(tmp_path, solution)
    monkeypatch.setattr(made, "finished", lambda name: (StudentNet(), None))
    monkeypatch.setattr(made, "_origin", str)
    for name in ("student-c", "student-d", "student-weak"):
        monkeypatch.setitem(EXPERIMENTS, name, replace(EXPERIMENTS[name], title=name))
        with pytest.raises(Killed):
            made.run_one(name)
    (weights, seed, phases), *others = starts.values()
    assert len(others) == 2
    assert all(torch.equal(weights, start[0]) and start[1:] == (seed, phases) for start in others)


def test_accuracies_are_measured_in_the_precision_of_the_run(tmp_path: Path, solution: Solution) -> None:
    """The epoch was chosen in it: what the result says is what its history says. A pruned network's, too."""
    made = reproduction(tmp_path, solution, precision="bfloat16")
    runs = made.run(["prune-0.9"])["experiments"]
    steps = [(f"prune-0.9/step-{number:02}", step) for number, step in enumerate(runs["prune-0.9"]["steps"], start=1)]
    for name, result in [*runs.items(), *steps]:
        if name != "prune-0.9":
            record = json.loads((made.directory(name) / "run.json").read_text())
            best = record["history"][record["best_epoch"]]
            assert (result["loss"], result["accuracy"]) == (best["validation_loss"], best["validation_accuracy"]), name
    parts = [json.loads((made.directory(name) / "run.json").read_text())["identity"]["part"] for name, _ in steps]
    assert parts == [1, 2, 3, 4, 5]  # each step of pruning sees orders and augmentations of its own


def test_students_of_question_2_are_trained_side_by_side_and_end_the_same(
    tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    only, real, together = ["student-c", "student-d", "student-weak"], runner.train_side_by_side, list[list[str]]()

    def noted(trainees: list[Trainee], *arguments: Any, **options: Any) -> Any:
        together.append([trainee.directory.name for trainee in trainees])
        return real(trainees, *arguments, **options)

    monkeypatch.setattr(runner, "train_side_by_side", noted)
    made = reproduction(tmp_path / "together", solution)
    results = made.run(only)
    assert together[:3] == [["teacher-scratch"], ["teacher-weak"], only]
    alone = reproduction(tmp_path / "alone", solution)
    for name in results["experiments"]:
        alone.run_one(name)
    assert alone.results() == results
    assert len(together) == 3 + 2 + 5  # d and weak are only measured then


def test_one_that_fails_fails_alone(tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    real = runner.Distillation.__call__

    def failing(self: runner.Distillation, *arguments: Any) -> Any:
        if self.origin.startswith("teacher-scratch"):
            raise HW7Error("no luck")
        return real(self, *arguments)

    monkeypatch.setattr(runner.Distillation, "__call__", failing)
    made = reproduction(tmp_path, solution)
    with pytest.raises(HW7Error, match="no luck"):
        made.run(["student-c", "student-d", "student-weak"])
    assert set(made.results()["experiments"]) == {"teacher-scratch", "teacher-weak", "student-c", "student-weak"}


def test_residual_branches_begin_at_zero_where_the_profile_says_so(
    tmp_path: Path, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only in a network that begins with nothing: one that goes on from another keeps what that has learnt."""
    hidden = torch.rand(2, 64, 8, 8)
    alone: list[bool] = []  # whether the first block is its shortcut alone

    def recorded(trainees: list[Trainee], *arguments: Any, **options: Any) -> None:
        network: Any = trainees[0].network
        alone.append(torch.equal(network.eval().layer1[0](hidden), hidden))
        raise Killed

    monkeypatch.setattr(runner, "train_side_by_side", recorded)
    made = reproduction(tmp_path, solution)
    monkeypatch.setattr(made, "_origin", str)
    learnt = teacher_resnet18(len(made.split("pretraining").classes))  # an untrained one has its scales at one
    save_weights(made.directory("pretraining") / "weights.safetensors", learnt.state_dict(), {})
    for zeroed in ((), ("small_resnet18",), ("teacher",)):
        made.profile = replace(TINY, zero_residuals=zeroed)
        for name in ("small-resnet18", "teacher-scratch", "teacher-pretrained"):
            with pytest.raises(Killed):
                made.run_one(name)
    assert alone == [False, False, False, True, False, False, False, True, False]


def test_hold_out() -> None:
    images = torch.arange(25, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    split = Split(images, torch.arange(25), tuple(map(str, range(25))), "made up", "pretraining")
    first, last = hold_out_tenth(split)
    assert first.labels.tolist() == list(range(22))
    assert last.labels.tolist() == [22, 23, 24]
    assert torch.equal(last.images, images[22:])


# ---- real images -----------------------------------------------------------------------------------------------


@pytest.fixture
def food11(tmp_path: Path) -> Path:
    """JPEG files with Food-11's names, under a path full of what a careless reader takes for a label."""
    root = tmp_path / "hw7 2020" / "my 3 data" / "food-11"
    for split, each in (("training", 2), ("validation", 1), ("testing", 1)):
        drawn = load_split("plates", split, 40, limit=11 * each)
        (root / split).mkdir(parents=True)
        for index, image in enumerate(drawn.images):
            name = f"{index:04}" if split == "testing" else f"{index % 11}_{index // 11}"
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / split / f"{name}.jpg")
    return root


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Runs `hw7 …` in this process."""
    monkeypatch.setattr(sys, "argv", ["hw7", *arguments])
    with pytest.raises(SystemExit) as end:
        app()
    assert not end.value.code


@pytest.mark.filterwarnings("ignore:.*Food-11 has")  # these folders are small on purpose
def test_reproduce_on_food11s_own_layout(food11: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = food11.parent / "my results 1"
    command(monkeypatch, "reproduce", "--data", f"food11:{food11}", "--profile", "smoke",
            "--only", "student-c", "--out", str(out), "--device", "cpu")  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    assert results["data"] == f"food11:{food11}"
    run = results["experiments"]["student-c"]
    assert (run["images"], run["parameters"]) == (11, 274_763)
    assert "test_accuracy" not in run  # the test images have no labels in their names
    assert results["figures"]["q2.c.accuracy"]["verdict"] == "other recipe"
    assert all(name in (out / "report.html").read_text() for name in ("Bread", "Dairy product", "Vegetable/Fruit"))


@pytest.mark.skipif(
    not Path(fashion_mnist.FASHION_MNIST_DIR).is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_reproduce_on_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, "reproduce", "--data", "fashion-mnist", "--profile", "smoke",
            "--only", "student-c", "--out", str(tmp_path), "--device", "cpu")  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    run = results["experiments"]["student-c"]
    assert run["parameters"] == 274_763 - 257  # ten classes: one row of the last layer less
    assert 0 <= run["test_accuracy"] <= 1
    assert results["figures"]["q2.student.parameters"]["verdict"] == "exact"  # counted with the report's 11
    assert "Ankle boot" in (tmp_path / "report.html").read_text()
