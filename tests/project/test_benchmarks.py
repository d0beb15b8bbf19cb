"""What the benchmarks compute from what they measure, and that they run at a size where nothing is measured."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hw7.data.source import Split
from hw7.report import ledger
from hw7.support.files import write_json
from hw7.training.epoch import Learner, generator

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "benchmarks"))

import findings  # noqa: E402
import gpu_page  # noqa: E402
import limits  # noqa: E402
import resubmissions  # noqa: E402
import rivals  # noqa: E402


def made_up(**accuracies: float) -> findings.Runs:
    """One seed's runs: a test accuracy for each experiment, by its id with _ for -."""
    return {
        name.replace("_", "-"): {"accuracy": value, "test_accuracy": value, "parameters": 1}
        for name, value in accuracies.items()
    }


def named(what: str) -> findings.Finding:
    """The finding that says `what`."""
    (finding,) = (finding for finding in findings.FINDINGS if what in finding.what)
    return finding


def judge(what: str, seeds: list[findings.Runs]) -> list[str]:
    """[mean ± error, interval, verdict] of the finding that says `what`."""
    return findings.judged(named(what), seeds, "test_accuracy")[-3:]


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
    gain = named("the better the teacher").measure
    assert gain(rising, "accuracy") == pytest.approx(3)
    other = made_up(**teachers | {"teacher_weak": 0.85}, student_weak=0.6, student_d=0.65, student_e=0.68)
    assert gain(other, "accuracy") == pytest.approx(-5)


def test_ladders_are_compared_at_the_counts_that_both_have() -> None:
    def ladder(rate: float, shift: float) -> dict[str, Any]:
        counts = ledger.load()[f"q3.ladder.{rate}"].value
        assert isinstance(counts, tuple)
        shared = ledger.load()["q3.ladder.shared"].value
        assert isinstance(shared, tuple)
        accuracies = [(count, 0.5 + shift if count in shared else 0.9 * shift) for count in counts]
        return {"steps": [{"parameters": count, "accuracy": a, "images": 1000} for count, a in accuracies]}

    runs = {"prune-0.975": ladder(0.975, 0.02), "prune-0.95": ladder(0.95, 0.0)}
    for accuracy in ("accuracy", "test_accuracy"):  # steps have the former only
        assert named("shared counts").measure(runs, accuracy) == pytest.approx(2)


def test_standard_errors() -> None:
    assert findings.mean_and_error([1.0, 2.0, 3.0]) == (2, pytest.approx(1 / math.sqrt(3)))


def test_findings_of_a_reproduction_that_has_not_come_to_its_end_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its results.json is there, too: it counts only once it is complete, and the same command goes on until then."""
    accuracies = dict.fromkeys(("teacher_scratch", "pretraining", "teacher_pretrained"), 0.5)
    calls: list[Path] = []
    done: list[tuple[int, int]] = []  # the exit code of each call, and how many experiments are done after it

    def reproduce(command: list[Any], stdout: object) -> SimpleNamespace:
        calls.append(out := command[command.index("--out") + 1])
        code, number = done.pop(0)
        write_json(out / "results.json", {"experiments": made_up(**dict(list(accuracies.items())[:number]))})
        return SimpleNamespace(returncode=code)

    def run() -> tuple[int, str]:
        options = ("--seeds", "0", "1", "--only", "teacher-scratch,teacher-pretrained", "--precision", "float32")
        monkeypatch.setattr(sys, "argv", ["findings.py", "--out", str(tmp_path), *options])
        with pytest.raises(SystemExit) as end:
            findings.main()
        return int(end.value.code or 0), capsys.readouterr().out

    monkeypatch.setattr(findings.subprocess, "run", reproduce)
    done[:] = [(0, 3), (75, 1)]
    assert run() == (75, "")
    done[:] = [(75, 2)]
    assert run() == (75, "")
    done[:] = [(0, 3)]
    code, tables = run()
    assert code == 0
    assert "pretrained teacher above scratch teacher" in tables
    assert [path.name for path in calls] == ["float32-0", "float32-1", "float32-1", "float32-1"]
    assert run()[0] == 0  # and nothing is run again


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


def test_coarser_figures_and_fewer_runs_win_less() -> None:
    """Points of accuracy, of the 14 that can be won there; the table has the means of more trials."""
    draw = np.random.default_rng(0)
    exact, rounded = (np.mean([resubmissions.won(step, 200, draw) for _ in range(5)]) for step in (1, 50))
    few = np.mean([resubmissions.won(1, 10, draw) for _ in range(5)])
    assert few + 3 < rounded < exact - 1 < 13


# ---- the page of what a GPU's logs say -------------------------------------------------------------------------------

NETWORK = "| ResNet-18   | 128 | 49,330 | 20,000 | not measured | 1,000 | {times} | 83.0 | 3.1 % | 17.3 | 10.5 | 21 % |"
LOG = f"""
== run on some GPU, with 16 CPU cores; Python 3.12.3; 1 May 2027: benchmarks/gpu.sh OUT tests pictures kernels rates

== tests, from 3 s on, for at most 70 s: python3 -m pytest
1 failed, 128 passed, 2 skipped in 22.31s

== tests ended with code 1

== pictures, from 29 s on, for at most 35 s: python3 -c
50,000 pictures of 128 pixels: 15.25 s

== pictures ended with code 0

== kernels, from 20 s on, for at most 45 s: python3 benchmarks/kernels.py
274,763 student with teacher, 1 side by side: 10,000 images/s in all

274,763 student with teacher, 2 side by side: 15,000 images/s in all

== kernels ended with code 124

== rates, from 70 s on, for at most 120 s: python3 benchmarks/training.py --size 128
| network     | batch | images/s | not recorded | with kornia | usual | times | ms | aug. | operations | bytes | bound |
|-------------|-------|----------|--------------|-------------|-------|-------|----|------|------------|-------|-------|
{NETWORK.format(times="49.3")}
{NETWORK.format(times="not measured").replace("ResNet-18", "question 4: plain").replace("3.1 %", "4.2 %")}
| question 4: DW
== rates ended with code 124
"""


def page_after(tmp_path: Path, *logs: str) -> tuple[str, dict[str, list[str]]]:
    """The page, and the rows of its tables by their first cell, after these logs on top of the project's own."""
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "gpu.md"
    path.write_text((PROJECT / "docs" / "results" / "gpu.md").read_text())
    outs = []
    for number, log in enumerate(logs):
        (tmp_path / f"out{number}").mkdir(parents=True)
        (tmp_path / f"out{number}" / "log.txt").write_text(log)
        outs.append(str(tmp_path / f"out{number}"))
    subprocess.run([sys.executable, PROJECT / "benchmarks" / "gpu_page.py", *outs, "--page", path], check=True)
    page = path.read_text()
    marked = page.partition(gpu_page.BEGIN)[2].partition(gpu_page.END)[0]
    return page, {row[0]: row for row in map(gpu_page.cells, marked.splitlines()) if len(row) > 2}


def test_what_a_log_says_stands_on_the_page_with_its_run_and_the_rest_stays(tmp_path: Path) -> None:
    before, old = page_after(tmp_path, "")
    assert before == (PROJECT / "docs" / "results" / "gpu.md").read_text()
    page, rows = page_after(tmp_path / "more", LOG)
    run = str(max(int(row[-1]) for row in old.values() if row[-1].isdecimal()) + 1)
    assert f"\n{run}. some GPU, with 16 CPU cores; Python 3.12.3; 1 May 2027: `benchmarks/gpu.sh OUT tests" in page
    measured = {
        "the tests of what runs on a GPU": "1 failed, 128 passed, 2 skipped",
        "ResNet-18, an epoch of 9,866 images at 128 px": "0.20 s, from 49,330 images/s",  # 9,866 / 49,330
        "augmentation's share of an epoch": "3.1 to 4.2 %",
        "times the usual pipeline with 16 workers": "49.3 to 49.3",
        "share of the bound by bytes and by operations": "21 to 21 %",
        "50,000 pictures of `plates` at 128 px": "15.25 s",
        "several students at a time against one": "2: 1.50 times the images a second",
    }
    for title, cell in measured.items():
        assert rows[title] == [*old[title][:2], cell, run]
    assert rows["ResNet-18"] == [*gpu_page.cells(NETWORK.format(times="49.3")), run]
    changed = {title for title in rows if rows[title] != old[title]}
    assert changed == {*measured, "ResNet-18", "question 4: plain"}
    assert page.partition(gpu_page.BEGIN)[0] == before.partition(gpu_page.BEGIN)[0]
    assert page.partition(gpu_page.END)[2] == before.partition(gpu_page.END)[2]


def test_of_several_logs_the_last_that_has_a_figure_counts_and_again_changes_nothing(tmp_path: Path) -> None:
    later = LOG.partition("\n== kernels")[0].replace("15.25", "14.50").replace("1 May", "2 May")
    page, rows = page_after(tmp_path, LOG, later)
    twice, _ = page_after(tmp_path / "again", LOG, later, later)
    assert rows["50,000 pictures of `plates` at 128 px"][2] == "14.50 s"
    assert rows["several students at a time against one"][2] == "2: 1.50 times the images a second"
    assert twice == page


def test_every_figure_of_the_script_is_on_the_page(tmp_path: Path) -> None:
    assert page_after(tmp_path, "")[1].keys() >= gpu_page.FIGURES.keys()


@pytest.mark.parametrize(("arguments", "said"), [((), "benchmarks/gpu.sh [--toy] OUT"), (("fulll",), "no part fulll")])
def test_the_script_says_what_it_takes_before_it_begins(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    out = [tmp_path / "out"] if arguments else []
    wrong = [PROJECT / "benchmarks" / "gpu.sh", *out, *arguments]
    process = subprocess.run(wrong, check=False, capture_output=True, text=True)
    assert process.returncode == 2
    assert said in process.stderr
    assert not (tmp_path / "out").exists()
