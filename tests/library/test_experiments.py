"""The report's table of experiments, and the profiles that say how long each trains."""

import pytest

from hw7 import HW7Error
from hw7.report import ledger
from hw7.report.experiments import EXPERIMENTS, NETWORKS, with_needs
from hw7.report.profiles import PROFILES
from hw7.training.loop import Phase


def test_each_experiment_stands_below_what_it_needs() -> None:
    ids = list(EXPERIMENTS)
    for name, experiment in EXPERIMENTS.items():
        assert experiment.id == name
        assert all(ids.index(needed) < ids.index(name) for needed in experiment.needs)


def test_the_questions_come_in_the_reports_order() -> None:
    questions = [experiment.question for experiment in EXPERIMENTS.values()]
    assert questions == sorted(questions)


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_knows_every_recipe(name: str) -> None:
    profile = PROFILES[name]
    trained = [experiment for experiment in EXPERIMENTS.values() if not experiment.bits]
    assert {experiment.recipe for experiment in trained} == set(profile.recipes)
    assert set(profile.zero_residuals) <= set(NETWORKS)
    assert set(profile.images) == {"training", "validation", "testing", "pretraining"}


def test_full_is_the_reports_own_recipe() -> None:
    full = PROFILES["full"]
    figures = ledger.load()
    assert full.size == figures["data.input.size"].value
    assert full.recipes["question 2"] == (Phase(250, batch=32), Phase(50, "sgd", batch=32))
    assert all(full.images[split] is None for split in ("training", "validation", "testing"))
    assert all(phase.learning_rate == 1e-3 for phases in full.recipes.values() for phase in phases)


def test_every_figure_that_training_gives_is_measured_by_an_experiment() -> None:
    wanted = {figure.id for figure in ledger.load().values() if figure.obtained == "training"}
    measured = {figure for experiment in EXPERIMENTS.values() for figure in experiment.figures}
    assert measured == wanted


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (["student-c"], ["student-c"]),
        (["student-e"], ["pretraining", "teacher-pretrained", "student-e"]),
        (["student-d", "student-c"], ["teacher-scratch", "student-c", "student-d"]),
        (["quantized-8"], ["pretraining", "teacher-pretrained", "student-net", "quantized-8"]),
        (["student-weak", "teacher-weak"], ["teacher-weak", "student-weak"]),
        (list(EXPERIMENTS)[::-1], list(EXPERIMENTS)),
        ([], []),
    ],
)
def test_with_needs(ids: list[str], wanted: list[str]) -> None:
    assert with_needs(ids) == wanted


def test_an_experiment_that_does_not_exist() -> None:
    with pytest.raises(HW7Error, match=r"no experiment 'student-x'.*student-c.*student-d"):
        with_needs(["student-c", "student-x"])
