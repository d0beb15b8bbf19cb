"""What the report printed beside what is counted and measured here."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_reproduction import with_own

from hw7 import HW7Error
from hw7.report import ledger
from hw7.report.compare import compare, count, format_summary, summary_json
from hw7.report.experiments import EXPERIMENTS
from hw7.solution import Solution, load_solution

# Of the sizes as printed these ratios are 7.6 and 8.6, of the tensors 7.6 and 6.5: the latter because the CNN's size is
# impossible. Both are the report's contradictions with itself, not the networks'.
RATIOS = {"q1.dwpw.times_smaller.bytes", "q1.cnn.times_smaller.bytes"}


@pytest.fixture(scope="module")
def solution() -> Solution:
    return load_solution()


# ---- counting --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counted(solution: Solution) -> dict[str, Any]:
    return count(solution)


def test_every_figure_that_counting_gives_is_counted(counted: dict[str, Any]) -> None:
    figures = ledger.load()
    assert {figure.id for figure in figures.values() if figure.obtained == "counting"} <= counted.keys()
    assert counted.keys() <= figures.keys()


def test_the_counts_of_the_report(counted: dict[str, Any]) -> None:
    summary = json.loads(json.dumps(summary_json(counted), allow_nan=False))
    assert list(summary["parameters"].values()) == [11_182_155, 1_454_603, 1_720_107, 274_763, 256_779]
    assert summary["ladders"] == {
        "0.975": [
            245_444, 236_066, 226_868, 217_850, 209_012, 200_354, 193_422, 186_324, 178_146, 171_606,
            164_916, 158_621, 153_567, 147_234, 142_362, 136_508, 131_814, 127_200, 122_666, 118_212,
        ],
        "0.95": [236_066, 217_850, 200_354, 185_091, 171_606, 158_621, 146_136, 135_204, 125_940, 116_996],
        "0.9": [216_518, 183_578, 156_084, 132_858, 114_810],
    }  # fmt: skip


def test_the_verdicts_on_counts(counted: dict[str, Any]) -> None:
    verdicts = {name: row["verdict"] for name, row in summary_json(counted)["figures"].items()}
    figures = ledger.load()
    sizes = {name for name in verdicts if figures[name].unit in ("bytes", "KB")} - {"q1.cnn.bytes.least"}
    given = {name for name in verdicts if figures[name].obtained == "given"}
    assert {verdicts.pop(name) for name in given} <= {"for comparison"}
    impossible = verdicts.pop("q1.cnn.bytes")
    assert impossible.startswith("impossible: 24%")  # 5,223,289 of at least 6,880,428 bytes, and the buffers
    assert all(verdicts.pop(name).startswith("fits") for name in sizes - given - {"q1.cnn.bytes"})
    assert {name for name, verdict in verdicts.items() if verdict != "exact"} <= RATIOS
    text = format_summary(counted)
    assert text.count("exact") == 5 + 20 + 10 + 5
    assert "impossible" in text


@pytest.mark.parametrize(
    ("module", "source", "differs"),
    [
        (
            "pruning",
            "def width_schedule(widths, keep_rate, steps):\n"
            "    return [tuple(round(w * keep_rate**s) if 3 <= k <= 6 else w for k, w in enumerate(widths))\n"
            "            for s in range(1, steps + 1)]",
            {"q3.ladder.0.975", "q3.ladder.0.95", "q3.ladder.0.9", "q3.ladder.shared"},
        ),
        (
            "models",
            "_right = student_dw\n"
            "def student_dw(num_classes=11):\n    return nn.Sequential(_right(10), nn.Linear(10, 11))",
            {"q2.student.parameters", "q2.student.features"},
        ),
        (
            "models",
            "_right_cnn = student_cnn\n"
            "def student_cnn(num_classes=11):\n"
            "    network = _right_cnn(num_classes)\n"
            "    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]\n"
            "    convolutions[2].stride, convolutions[4].stride = (1, 1), (4, 4)\n"
            "    return network",
            {"q1.cnn.strides", "q1.cnn.layer_outputs"},
        ),
    ],
    ids=["round for int", "another network", "other strides"],
)
def test_a_wrong_solution_is_told_from_the_right_one(
    tmp_path: Path, module: str, source: str, differs: set[str]
) -> None:
    figures = summary_json(count(with_own(tmp_path, **{module: source})))["figures"]
    assert {name for name, row in figures.items() if row["verdict"] == "differs"} - RATIOS == differs


WITHOUT_MODULES = """
from torch.nn import functional as F

class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        channels, strides = (3, 32, 64, 128, 128, 256, 256, 256), (2, 1, 2, 1, 2, 1, 1)
        convs = [nn.Conv2d(a, b, 3, s, 1, bias=False) for a, b, s in zip(channels, channels[1:], strides)]
        self.last = nn.Linear(256, 11)  # before the others, in another order than that of the calls
        self.later, self.first = nn.ModuleList(convs[3:]), nn.ModuleList(convs[:3])
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels[1:])

    def forward(self, x):
        for k, (conv, norm) in enumerate(zip([*self.first, *self.later], self.norms)):
            x = F.relu6(norm(conv(x)))
            x = F.max_pool2d(x, 2) if k < 3 else x
        return self.last(x.mean((2, 3)))

def student_cnn(num_classes=11):
    return Functional()
"""


def test_structures_are_read_from_the_convolutions_as_they_are_called(tmp_path: Path) -> None:
    """Whatever a solution's order of modules, and whether its poolings and activations are modules."""
    figures = summary_json(count(with_own(tmp_path, models=WITHOUT_MODULES)))["figures"]
    of_cnn = {name for name in figures if name.startswith("q1.cnn.") and "bytes" not in name}
    assert {"q1.cnn.pooled", "q1.cnn.pool", "q1.cnn.layer_outputs", "q1.cnn.strides", "q1.cnn.features"} <= of_cnn
    assert {figures[name]["verdict"] for name in of_cnn} == {"exact"}


def test_a_network_of_none_of_the_known_parts_is_counted_all_the_same(tmp_path: Path) -> None:
    source = "def {}(num_classes=11):\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))\n\n"
    counted = count(with_own(tmp_path, models="".join(map(source.format, ("student_cnn", "student_dw")))), partly=True)
    assert "q1.teacher.parameters" in counted
    source = "def {}(num_classes=11):\n    return nn.Flatten()\n\n"
    assert count(with_own(tmp_path / "b", models=source.format("student_dw")))["q2.student.parameters"] == 0


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("models", "def small_resnet18(num_classes=11):\n    raise NotImplementedError('Task 1.2')", "Task 1.2"),
        ("models", "def student_cnn(num_classes=11):\n    return 1 / 0", "ZeroDivisionError at .*models.py, line"),
        ("pruning", "def width_schedule(*_):\n    return [][99]", r"IndexError at .*pruning\.py, line"),
    ],
)  # fmt: skip
def test_a_solution_that_cannot_be_counted(tmp_path: Path, module: str, source: str, says: str) -> None:
    with pytest.raises(HW7Error, match=says):
        count(with_own(tmp_path, **{module: source}))


# ---- verdicts --------------------------------------------------------------------------------------------------


def made_up(accuracy: float, source: str, profile: str, images: int = 3430) -> dict[str, Any]:
    """Results in which every experiment came out alike."""
    result = {"accuracy": accuracy, "loss": 1.0, "distillation_loss": 4.5, "images": images}
    return {"data": source, "profile": profile, "experiments": dict.fromkeys(EXPERIMENTS, result)}


@pytest.mark.parametrize(
    ("accuracy", "images", "figure", "says"),
    [
        # 0.831 on 3,430 images: two standard errors of a difference are 2 * sqrt(2) * 0.64 = 1.8 points
        (0.831, 3430, "q2.c.accuracy", "agrees (+0.0 points, within 1.8)"),
        (0.848, 3430, "q2.c.accuracy", "agrees (+1.7 points, within 1.8)"),
        (0.814, 3430, "q2.c.accuracy", "agrees (-1.7 points, within 1.8)"),
        (0.851, 3430, "q2.c.accuracy", "higher by 2.0 points"),
        (0.811, 3430, "q2.c.accuracy", "lower by 2.0 points"),
        (0.811, 343, "q2.c.accuracy", "agrees (-2.0 points, within 5.7)"),
        (0.9, 3430, "q1.cnn.loss", "+0.411"),  # its distillation loss, 4.089
        (0.9, 3430, "q3.student.loss", "+0.052"),
    ],
)
def test_accuracies_on_food11_at_full(solution: Solution, accuracy: float, images: int, figure: str, says: str) -> None:
    verdicts = {v.figure.id: v for v in compare(solution, made_up(accuracy, "food11:/d", "full", images))}
    assert list(verdicts) == list(ledger.load())
    assert verdicts[figure].verdict == says


@pytest.mark.parametrize(
    ("source", "profile"), [("plates", "full"), ("plates:3", "full"), ("fashion-mnist", "full"), ("food11:/d", "quick")]
)
def test_accuracies_of_other_data_are_not_compared(solution: Solution, source: str, profile: str) -> None:
    verdicts = compare(solution, made_up(0.85, source, profile))
    verdict = "other recipe" if source.startswith("food11") else "other data"
    assert {v.verdict for v in verdicts if v.figure.obtained == "training"} == {verdict}
    assert {v.verdict for v in verdicts if v.figure.id.startswith("q3.ladder")} == {"exact"}


def test_what_did_not_run_is_not_judged(solution: Solution) -> None:
    results = made_up(0.85, "food11:/d", "full")
    results["experiments"] = {"student-c": results["experiments"]["student-c"]}
    trained = {v.figure.id: v.verdict for v in compare(solution, results) if v.figure.obtained == "training"}
    assert {name for name, verdict in trained.items() if verdict != "not measured"} == {"q2.c.accuracy"}
