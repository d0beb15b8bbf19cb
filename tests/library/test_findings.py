"""Findings: which images were right, the error of a difference between two networks, the change of an optimizer."""

import math

import numpy as np
import pytest

from hw7.report import findings
from hw7.report.counting import standard_error
from hw7.report.findings import FINDINGS, SWITCH, at_switch, packed, paired_error, unpacked, verdict
from hw7.training.loop import Epoch

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("images", [1, 7, 8, 9, 1000, 3347])
def test_which_images_were_right_comes_back(images: int) -> None:
    right = RANDOM.random(images) < 0.7
    assert len(packed(right)) == 2 * math.ceil(images / 8)
    assert (unpacked(packed(right), images) == right).all()


def results(*right: np.ndarray) -> list[findings.Result]:
    return [{"test_accuracy": r.mean(), "test_images": len(r), "test_right": packed(r)} for r in right]


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (60, 40), (300, 10), (1, 0)])
def test_the_error_of_pairs_is_mcnemars(only_first: int, only_second: int) -> None:
    n = 2000
    first, second = np.zeros(n, bool), np.zeros(n, bool)
    first[:1000] = second[:1000] = True
    first[1000 : 1000 + only_first] = True
    second[1500 : 1500 + only_second] = True
    b, c = only_first / n, only_second / n
    found = paired_error(*results(first, second), "test_accuracy")
    assert found == pytest.approx(math.sqrt((b + c - (b - c) ** 2) / n), abs=1e-12)  # float64


def test_the_error_of_pairs_is_that_of_drawing_other_images() -> None:
    """Against a bootstrap. Its 2,000 draws know a standard error to 1.6 %; five times that is allowed."""
    easy = RANDOM.random(1500) < 0.5  # images that both get right: their mistakes are alike
    first, second = (easy | (RANDOM.random(1500) < share) for share in (0.4, 0.3))
    draws = RANDOM.integers(0, 1500, (2000, 1500))
    drawn = (first[draws].mean(axis=1) - second[draws].mean(axis=1)).std()
    found = paired_error(*results(first, second), "test_accuracy")
    assert found == pytest.approx(drawn, rel=0.08)
    apart = math.hypot(*(standard_error(r["test_accuracy"], 1500) for r in results(first, second)))
    assert found < 0.9 * apart


def test_without_the_images_each_network_is_reckoned_to_have_had_its_own() -> None:
    first, second = ({"accuracy": accuracy, "images": 3430} for accuracy in (0.83, 0.82))
    assert paired_error(first, second, "accuracy") == pytest.approx(math.sqrt(2) * 0.0065, abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "least", "says"),
    [(1.5, 9.0, 1.5, "yes"), (1.4, 9.0, 1.5, "undecided"), (-1.0, 1.5, 1.5, "undecided"), (-1.0, 1.4, 1.5, "no"),
     (100 * (0.83 - 0.80), 9.0, 3.0, "yes")],
)  # fmt: skip
def test_verdicts(low: float, high: float, least: float, says: str) -> None:
    assert verdict(low, high, least) == says


def history(*phases: tuple[str, list[float]]) -> list[Epoch]:
    return [Epoch(1.0, 1.0, accuracy, 1e-3, optimizer) for optimizer, values in phases for accuracy in values]


def test_what_the_accuracy_was_before_and_after_the_optimizer_changed() -> None:
    long = history(("adamw", [0.1, 0.5, 0.5, 0.5, 0.5, 0.6]), ("sgd", [0.7, 0.7, 0.7, 0.7, 0.8, 0.0]))
    assert at_switch(long) == {"at_switch": {"before": pytest.approx(0.52), "after": pytest.approx(0.72)}}
    short = history(("adamw", [0.25]), ("sgd", [0.5]))
    assert at_switch(short) == {"at_switch": {"before": 0.25, "after": 0.5}}
    assert at_switch(history(("adamw", [0.1, 0.2]))) == {}


def test_every_finding_has_a_name_of_its_own_and_says_something() -> None:
    names = [finding.id for finding in (*FINDINGS, SWITCH)]
    assert len(set(names)) == len(names)
    assert all(finding.claim.endswith(".") for finding in (*FINDINGS, SWITCH))
