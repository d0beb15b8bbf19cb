"""A grade: what the journal keeps and every export is made from. Plain data that goes to JSON and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from hw7.checks.cases import Outcome, PartScore, Verdict


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

    @property
    def total(self) -> float:
        return sum(task.points for task in self.tasks)

    @property
    def out_of(self) -> float:
        return sum(task.out_of for task in self.tasks)

    def to_json(self) -> str:
        """One line of strict JSON."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=True)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Raises ValueError, KeyError or TypeError for what is no grade."""

        def part(row: Mapping[str, Any]) -> PartScore:
            outcome = row["outcome"] | {"verdict": Verdict(row["outcome"]["verdict"]), "fits": (), "equals": ()}
            return PartScore(**{**row, "outcome": Outcome(**outcome)})

        tasks = (TaskGrade(**{**row, "parts": tuple(map(part, row["parts"]))}) for row in raw["tasks"])
        words = {name: tuple(raw[name]) for name in ("manual", "remarks")}
        return cls(**{**raw, **words, "tasks": tuple(tasks)})
