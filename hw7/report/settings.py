"""Settings: what the report printed of its data and trainings beside what a reproduction used.

Of a training that has begun, what it used is read from its own record; of another, from the profile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hw7.data.augment import Augmentation
from hw7.report import ledger
from hw7.report.blocks import Table
from hw7.report.counting import RATES
from hw7.report.experiments import EXPERIMENTS, Experiment
from hw7.report.ledger import Figure
from hw7.report.runner import Runner
from hw7.support.files import read_json
from hw7.training.loop import Phase
from hw7.training.steps import Distillation

OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD"}  # as the report writes them
TRANSFORMS = {  # what turns each of the report's transforms on
    "RandomCrop": ("padding",),
    "RandomHorizontalFlip": ("flip",),
    "RandomRotation": ("rotation",),
    "ColorJitter": ("brightness", "contrast", "saturation", "hue"),
    "RandomPerspective": ("perspective", "distortion"),
}
ASIDE = {  # recipes of networks that the report did not train, or of none of its questions
    "pretraining": "the report starts from ImageNet weights",
    "fine-tuning": "a teacher that was given",
    "teacher": "a teacher that was given",
    "weak teacher": "not in the report",
    "question 4": "not in the report",
}
A_STEP = " a step"
NOT_SAID = ("pruning",)  # whether its fine-tuning was distillation
HEADERS = ("training", "", "optimizer", "learning rate", "batch", "epochs", "alpha, T")


@dataclass(frozen=True)
class Trained:
    """How a run was trained, or is to be."""

    phases: tuple[Phase, ...]
    augmentation: Augmentation
    begun: bool


def trained(runner: Runner, experiment: Experiment) -> Trained:
    """By the record of the run, or of its first step; by the profile where it has not ended yet."""
    folder = runner.step_directory(experiment.id, 1) if experiment.steps else runner.directory(experiment.id)
    path = folder / "run.json"
    record = read_json(path).get("identity", {}) if path.exists() else {}
    if not {"phases", "augmentation"} <= record.keys():
        return Trained(runner.profile.recipes[experiment.recipe], runner.profile.augmentation, path.exists())
    phases = tuple(Phase(**phase) for phase in record["phases"])
    return Trained(phases, Augmentation(**record["augmentation"] or dict.fromkeys(_names(), 0.0)), True)


def used(runner: Runner) -> dict[str, Any]:
    """What this reproduction used for the settings in the ledger, by the figures' ids."""
    splits = {name: runner.split(name) for name in ("training", "validation", "testing")}
    runs = ("student-cnn", "student-c", "prune-0.9")
    usual, students, pruning = (trained(runner, EXPERIMENTS[name]) for name in runs)
    phases = [*students.phases, None][:2]
    return {
        **{f"data.{name}.images": len(split) for name, split in splits.items()},
        "data.classes": len(splits["training"].classes),
        "data.class_names": list(splits["training"].classes),
        "data.input.size": runner.profile.size,
        "training.augmentation": _transforms(usual.augmentation),
        "training.kept": "best validation accuracy",
        **_of_phase("training.", usual.phases[0]),
        **_of_phase("q2.phase1.", phases[0]),
        **_of_phase("q2.phase2.", phases[1]),
        "distillation.alpha": Distillation.alpha,
        "distillation.temperature": Distillation.temperature,
        "q3.pruning.epochs": sum(phase.epochs for phase in pruning.phases),
        "q3.pruning.keep_rates": list(RATES),
    }


def shared_table(runner: Runner, used: Mapping[str, Any]) -> Table:
    """What all trainings share: images, augmentation, which epoch is kept, the distillation loss."""
    figures = ledger.load()
    augmentation = trained(runner, EXPERIMENTS["student-cnn"]).augmentation
    strengths = ", ".join(f"{name} {getattr(augmentation, name):g}" for name in _names() if getattr(augmentation, name))
    size, channels = used["data.input.size"], figures["data.input.channels"].value
    rows = [
        ("input", f"{channels} × {figures['data.input.size'].value} × {figures['data.input.size'].value}",
         f"{channels} × {size} × {size}"),
        ("augmentation", _words(figures["training.augmentation"]),
         f"{', '.join(used['training.augmentation']) or 'none'} ({strengths})"),
        ("epoch that is kept", str(figures["training.kept"].value), used["training.kept"]),
        ("distillation, alpha", figures["distillation.alpha"].printed, f"{used['distillation.alpha']:g}"),
        ("distillation, temperature T", figures["distillation.temperature"].printed,
         f"{used['distillation.temperature']:g}"),
    ]  # fmt: skip
    headers = ("setting", "printed", "used here")
    return Table(headers, rows, headers)


def training_table(runner: Runner, question: int) -> Table:
    """Each training of a question: two rows, printed and used."""
    figures = ledger.load()
    alpha, temperature = (figures[f"distillation.{name}"].printed for name in ("alpha", "temperature"))
    alike: dict[tuple[str, bool], list[Experiment]] = {}
    for experiment in EXPERIMENTS.values():
        if experiment.question == question and experiment.recipe:
            alike.setdefault((experiment.recipe, bool(experiment.teacher)), []).append(experiment)
    rows = []
    for (recipe, taught), experiments in alike.items():
        runs = [trained(runner, experiment) for experiment in experiments]
        of_run = next((run for run in runs if run.begun), runs[0])
        printed = f"{alpha}, {temperature}" if taught and recipe not in NOT_SAID else ""
        softness = f"{Distillation.alpha:g}, {Distillation.temperature:g}" if taught else "labels alone"
        columns, each = _columns(of_run.phases), A_STEP if experiments[0].steps else ""
        title = "; ".join(experiment.title for experiment in experiments)
        rows.append((title, "printed", *_printed(recipe), printed))
        rows.append(("", "used" if of_run.begun else "the profile's", *columns[:-1], columns[-1] + each, softness))
    return Table(HEADERS, rows, HEADERS[:3])


def _of_phase(prefix: str, phase: Phase | None) -> dict[str, Any]:
    """By the figures' ids; "none" of each where there is no such phase."""
    return {
        f"{prefix}optimizer": OPTIMIZERS[phase.optimizer] if phase else "none",
        f"{prefix}learning_rate": phase.learning_rate if phase else "none",
        f"{prefix}batch": phase.batch if phase else "none",
        f"{prefix}epochs": phase.epochs if phase else "none",
    }


def _printed(recipe: str) -> tuple[str, ...]:
    """Optimizer, learning rate, batch and epochs as the report prints them."""
    figures = ledger.load()
    if recipe in ASIDE:
        return ASIDE[recipe], "", "", ""
    prefixes = ("q2.phase1.", "q2.phase2.") if recipe == "question 2" else ("training.",)
    settings = [[figures[name].printed for name in _of_phase(prefix, None)] for prefix in prefixes]
    columns = [_then(values) for values in zip(*settings, strict=True)]
    if recipe == "pruning":
        columns[-1] = f"{figures['q3.pruning.epochs'].printed}{A_STEP}"
    return tuple(columns)


def _columns(phases: Sequence[Phase]) -> tuple[str, ...]:
    optimizers = [f"{OPTIMIZERS[p.optimizer]}{', cosine' if p.schedule == 'cosine' else ''}" for p in phases]
    rates = [_short(phase.learning_rate) for phase in phases]
    batches, epochs = ([str(getattr(phase, name)) for phase in phases] for name in ("batch", "epochs"))
    return _then(optimizers), _then(rates), _then(batches), ", then ".join(epochs)


def _short(rate: float) -> str:
    """1e-3, as the report writes it."""
    digits, _, exponent = f"{rate:e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


def _then(values: Sequence[str]) -> str:
    """What does not change is said once."""
    return values[0] if len(set(values)) == 1 else ", then ".join(values)


def _names() -> list[str]:
    return [field.name for field in fields(Augmentation)]


def _transforms(augmentation: Augmentation) -> list[str]:
    return [name for name, parts in TRANSFORMS.items() if any(getattr(augmentation, part) for part in parts)]


def _words(figure: Figure) -> str:
    return ", ".join(map(str, figure.value)) if isinstance(figure.value, tuple) else str(figure.value)
