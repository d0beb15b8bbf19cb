"""A grade: what the grader gave a submission. Plain data that goes to JSON and back.

It holds what was found, not only what that earned: so it can be scored again under a rubric of other points or
thresholds, without anybody's code. What people decide about a grade stands in `marks`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from autograder.rubric import Rubric
from hw7.checks.cases import Outcome, PartScore, Task, Verdict
from hw7.checks.diagnosis.frame import Diagnosis
from hw7.checks.handed_in import HandedIn, Measured
from hw7.checks.worth import worth

IMAGES = "hidden images"


@dataclass(frozen=True)
class TaskGrade:
    task: str
    title: str
    parts: tuple[PartScore, ...]
    seconds: float = 0.0

    @property
    def points(self) -> float:
        return sum(part.points for part in self.parts)

    @property
    def out_of(self) -> float:
        return sum(part.out_of for part in self.parts)

    @property
    def verdict(self) -> Verdict:
        """RIGHT where every part is, else the verdict of the first part that is not."""
        return next((part.outcome.verdict for part in self.parts if not part.right), Verdict.RIGHT)


@dataclass(frozen=True)
class Network:
    """What is known of the network that was handed in: the bytes of its files; its accuracy, or why there is none."""

    sizes: Mapping[str, int | None]
    accuracy: Outcome | Measured
    data: str  # the kind of the images
    count: int  # of the images


@dataclass(frozen=True)
class Grade:
    """One submission's grade under one rubric and one grader."""

    student: str
    submission: str  # sha256 of what was graded
    rubric: str  # sha256 of rubric, data source and hidden seed: the teacher's alone
    grader: str  # sha256 of the grader's and the library's own code
    tier: str  # "A".."D": the jail it was found out in
    tasks: tuple[TaskGrade, ...]
    manual: tuple[str, ...] = ()  # written answers of the notebook, for a human to grade
    remarks: tuple[str, ...] = ()  # what intake found: renamed, ignored, refused files
    problem: str = ""  # why nothing could be graded, if so
    output: str = ""  # the beginning of what student code printed: the teacher's alone
    seconds: float = 0.0
    asked: str = ""  # sha256 of what was asked, data source and hidden seed (`rubric.asked_digest`)
    network: Network | None = None

    @property
    def total(self) -> float:
        return sum(task.points for task in self.tasks)

    @property
    def out_of(self) -> float:
        return sum(task.out_of for task in self.tasks)

    def to_json(self) -> str:
        """One line of strict JSON."""
        return json.dumps(self, default=_fields, allow_nan=False, ensure_ascii=True)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Raises ValueError, KeyError or TypeError for what is no grade."""
        tasks = (TaskGrade(**{**row, "parts": tuple(map(_part, row["parts"]))}) for row in raw["tasks"])
        words = {name: tuple(raw.get(name, ())) for name in ("manual", "remarks")}
        network = raw.get("network")
        return cls(**{**raw, **words, "tasks": tuple(tasks), "network": network and _network(network)})


def rescored(grade: Grade, rubric: Rubric, digest: str) -> Grade:
    """The same verdicts under a rubric that asks the same (`rubric.asked_digest`) for other points or thresholds.

    digest: of that rubric, for the grade to name. Raises KeyError where the rubric asks something else.
    """
    graded = {task.task: task for task in grade.tasks}
    charged = worth(
        [task for task in rubric.tasks if task.has_cases],
        {task.task: task.parts for task in grade.tasks},
    )

    def parts(task: Task) -> tuple[PartScore, ...]:
        if task.has_cases:
            return charged[task.id]
        if grade.network is None:  # nothing could be graded
            (outcome,) = {part.outcome for part in graded[task.id].parts}
            return tuple(PartScore(part, out_of, outcome) for part, out_of in task.points.items())
        return handed_in(grade.network).parts(task, rubric.tasks)

    tasks = (TaskGrade(task.id, task.title, parts(task), graded[task.id].seconds) for task in rubric.tasks)
    return replace(grade, rubric=digest, tasks=tuple(tasks) if grade.tasks else ())


def handed_in(network: Network) -> HandedIn:
    """What tasks 5.1 and 5.2 are scored from."""
    known = network.accuracy
    return HandedIn(network.sizes, lambda: known, network.data, network.count, IMAGES, hidden=True)


# ---- JSON -------------------------------------------------------------------------------------------------------

_RIGHT = Outcome(Verdict.RIGHT)
_VERDICTS = {verdict.value: verdict for verdict in Verdict}


_DEFAULTS = {
    kind: {each.name: each.default for each in fields(kind)} for kind in (Grade, TaskGrade, Network, PartScore, Outcome)
}


def _fields(record: Any) -> dict[str, Any]:
    """The fields of a record, without those that have their default; of a mark, those of its grade."""
    defaults = next(_DEFAULTS[kind] for kind in type(record).__mro__ if kind in _DEFAULTS)
    return {name: value for name, value in vars(record).items() if name in defaults and value != defaults[name]}


def _part(row: Mapping[str, Any]) -> PartScore:
    otherwise = row.get("otherwise")
    return PartScore(
        row["part"],
        row["out_of"],
        _outcome(row["outcome"]),
        row.get("case", ""),
        tuple(map(tuple, row.get("excuses", ()))),
        otherwise and (otherwise[0], _outcome(otherwise[1])),
    )


def _outcome(row: Mapping[str, Any]) -> Outcome:
    verdict = _VERDICTS[row["verdict"]]
    return _RIGHT if len(row) == 1 and verdict is Verdict.RIGHT else Outcome(**{**row, "verdict": verdict})


def _network(row: Mapping[str, Any]) -> Network:
    accuracy: Any = row["accuracy"]
    if isinstance(accuracy, Mapping):
        accuracy = _outcome(accuracy)
    else:  # a tuple is a list in JSON
        share, found = accuracy
        accuracy = Measured(share, found and Diagnosis(*found))
    return Network(**{**row, "accuracy": accuracy})
