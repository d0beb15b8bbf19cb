"""What the benchmarks compute from what they measure, and that they run at a size where nothing is measured."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hw7.data.source import Split
from hw7.training.epoch import Learner, generator

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "benchmarks"))

import findings  # noqa: E402
import limits  # noqa: E402
import resubmissions  # noqa: E402
import rivals  # noqa: E402


def made_up(**accuracies: float) -> findings.Runs:
    """One seed's runs: a test accuracy for each experiment, by its id with _ for -."""
    return {
        name.replace("_", "-"): {"accuracy": value, "test_accuracy": value, "parameters": 1}
        for name, value in accuracies.items()
    }


def judge(what: str, seeds: list[findings.Runs]) -> list[str]:
    """[mean ± error, interval, verdict] of the finding that says `what`."""
    (finding,) = (finding for finding in findings.FINDINGS if what in finding.what)
    return findings.judged(finding, seeds, "test_accuracy")[-3:]


@pytest.mark.parametrize(
    ("points", "mean", "interval", "verdict"),
    [
        # at least 3. One point between three seeds is a standard error of 1 / sqrt(3) and, by t, 2.92 times that: 1.69
        ((4, 5, 6), "5.00 ± 0.58", "3.31 to 6.69", "yes"),
        ((3, 4, 5), "4.00 ± 0.58", "2.31 to 5.69", "undecided"),
        ((1, 2, 3), "2.00 ± 0.58", "0.31 to 3.69", "undecided"),
        ((0, 1, 2), "1.00 ± 0.58", "-0.69 to 2.69", "no"),
        ((3, 3, 3), "3.00 ± 0.00", "3.00 to 3.00", "yes"),  # no spread: a point, and at the bound
        ((2, 2, 2), "2.00 ± 0.00", "2.00 to 2.00", "no"),
        ((4, 5), "4.50 ± 0.50", "1.34 to 7.66", "undecided"),  # two seeds: 6.314 standard errors
        ((4, 4, 5, 5), "4.50 ± 0.29", "3.82 to 5.18", "yes"),  # four: 2.353 times 1 / sqrt(12)
        ((50,), "50.00 ± nan", "-", "undecided"),  # one seed has no interval
    ],
)
def test_a_finding_by_the_interval_over_its_seeds(
    points: tuple[float, ...], mean: str, interval: str, verdict: str
) -> None:
    """Accuracies as they come: 0.83 - 0.80 is a little less than 0.03."""
    seeds = [made_up(teacher_scratch=0.3, teacher_pretrained=0.3 + point / 100) for point in points]
    assert judge("pretrained teacher above", seeds) == [mean, interval, verdict]


def test_a_miss_within_one_standard_error_has_not_come_out() -> None:
    """0.1 ± 1.0 was "came out", and -0.1 ± 1.0 "within the error"."""
    for shift in (0.001, -0.001):
        seeds = [made_up(student_c=0.7 + shift + spread, student_weak=0.7) for spread in (-0.0173, 0.0, 0.0173)]
        assert judge("does not help", seeds)[-1] == "undecided"


def test_what_did_not_run_is_not_measured() -> None:
    one = [made_up(teacher_scratch=0.8, teacher_pretrained=0.9)]
    assert judge("taught by it above", one) == ["-", "-", "not measured"]


def test_the_quantiles_of_students_t() -> None:
    """Between -t and t lie 90 %: the density integrated by Simpson's rule, for each number of degrees of freedom."""
    for freedom, t in enumerate(findings.T_95, start=1):
        x, step = np.linspace(-t, t, 2001, retstep=True)
        density = (1 + x * x / freedom) ** (-(freedom + 1) / 2)
        density *= math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
        inside = step / 3 * (density[0] + density[-1] + 4 * density[1:-1:2].sum() + 2 * density[2:-1:2].sum())
        assert inside == pytest.approx(0.9, abs=1e-4)  # the table has three decimals
    assert findings.T_95[0] == pytest.approx(math.tan(0.45 * math.pi), abs=5e-4)  # of one, in closed form
    assert findings.T_95[1] == pytest.approx(0.9 * math.sqrt(2 / (4 * 0.95 * 0.05)), abs=5e-4)  # of two


def test_the_tables_show_the_intervals() -> None:
    runs = {"bfloat16": [made_up(student_c=0.7 + n / 100) for n in range(3)]}
    runs["float32"] = [made_up(student_c=0.7) for _ in range(3)]
    texts = list(findings.tables(runs, [0, 1, 2]))
    assert all("90 % interval" in text for text in texts)
    assert "69.3 to 72.7" in texts[0]  # 71 and 1.69 points
    assert "-0.69 to 2.69" in texts[-1]  # the precisions' difference


def test_the_gain_goes_by_the_teachers_accuracy() -> None:
    teachers = {"teacher_weak": 0.5, "teacher_scratch": 0.8, "teacher_pretrained": 0.9}
    rising = made_up(**teachers, student_weak=0.6, student_d=0.65, student_e=0.68)
    assert findings.gain_with_teacher(rising, "accuracy") == pytest.approx(3)
    other = made_up(**teachers | {"teacher_weak": 0.85}, student_weak=0.6, student_d=0.65, student_e=0.68)
    assert findings.gain_with_teacher(other, "accuracy") == pytest.approx(-5)


def test_ladders_are_compared_at_the_counts_that_both_have() -> None:
    def ladder(shift: float) -> dict[str, Any]:
        counts = (*findings.SHARED_COUNTS, 118_212)
        return {"steps": [{"parameters": count, "accuracy": 0.5 + shift * (count > 120_000)} for count in counts]}

    assert findings.ladders({"prune-0.975": ladder(0.02), "prune-0.95": ladder(0)}, "accuracy") == pytest.approx(2)


def test_standard_errors() -> None:
    assert findings.mean_and_error([1.0, 2.0, 3.0]) == (2, pytest.approx(1 / math.sqrt(3)))


def test_the_least_work_of_a_step() -> None:
    """By hand: a convolution 3 -> 4 on 8 x 8 pixels, then a linear layer on its means."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    image, maps = 3 * 64, 4 * 64
    forward = 2 * maps * 27 + 2 * 5 * 4
    assert limits.least_work(network, 8, forward_only=True) == (forward, image + maps + 4 + 5)
    assert limits.least_work(network, 8, forward_only=False) == (3 * forward, 3 * (image + 4) + 2 * (maps + 5))


def test_the_input_of_kornias_loop_is_every_image_once() -> None:
    seen: list[int] = []

    def step(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, optimizer: Any) -> torch.Tensor:
        seen.extend(labels.tolist())
        return torch.zeros(())

    images, labels = torch.zeros(10, 3, 8, 8, dtype=torch.uint8), torch.arange(10)
    split, network = Split(images, labels, tuple("abcdefghij"), "made up", "training"), nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    rivals.KorniaPasses([Learner(network, optimizer, step)], split, 4, augmentation=lambda x: x)(generator(0))
    assert sorted(seen) == list(range(10))


@pytest.mark.slow
def test_training_speed_from_end_to_end(tmp_path: Path) -> None:
    options = "--device cpu --size 32 --images 40 --files 20 --workers 1 --repeats 1 --only student_net,grouped"
    subprocess.run(
        [sys.executable, PROJECT / "benchmarks" / "training.py", *options.split(), "--out", tmp_path / "page.md"],
        check=True,
    )
    page = (tmp_path / "page.md").read_text()
    for part in ("256,779 student, with teacher", "question 4: 7 groups", "JPEG, PIL, torchvision", "TFLOP/s"):
        assert part in page
    assert page.count("not measured") >= 4  # the report's epochs need all networks


def test_coarser_figures_and_fewer_runs_win_less() -> None:
    """Points of accuracy, of the 14 that can be won there; the table has the means of more trials."""
    draw = np.random.default_rng(0)
    exact, rounded = (np.mean([resubmissions.won(step, 200, draw) for _ in range(5)]) for step in (1, 50))
    few = np.mean([resubmissions.won(1, 10, draw) for _ in range(5)])
    assert few + 3 < rounded < exact - 1 < 13


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_without_one_at_toy_size(tmp_path: Path) -> None:
    out = tmp_path / "out"
    surroundings = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "WORK": str(tmp_path / "work"),
        "ONLY": "plain-1mb",
        "PATIENCE": "9",
        "CUDA_VISIBLE_DEVICES": "",
    }
    script = PROJECT / "benchmarks" / "gpu.sh"
    subprocess.run([script, out, "environment", "pictures", "kernels", "full"], env=surroundings, check=True)
    log = (out / "log.txt").read_text()
    assert "ended with code" not in log
    for said in ("no GPU", "64 pictures of 32 pixels", "student_dw, with teacher", "4 side by side", "1 of 1. Plain"):
        assert said in log
    assert "teacher, alone, batch 128" in (out / "kernels.txt").read_text()
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    whole = b"".join(part.read_bytes() for part in sorted(out.glob("full.tar.*")))
    subprocess.run(["tar", "-C", unpacked, "-xf", "-"], input=whole, check=True)
    assert (unpacked / "full" / "runs" / "plain-1mb" / "result.json").exists()
    wrong = subprocess.run([script, out, "fulll"], env=surroundings, check=False, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "no part fulll" in wrong.stderr
