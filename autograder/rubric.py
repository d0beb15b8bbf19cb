"""The rubric: one TOML table of tasks, points, thresholds and time limits. Instructors change it there, nowhere else.

A broken rubric is refused with its line and the reason, before anything is graded with it. `Hidden` is the other thing
that a grade depends on: the seed that nobody else knows.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autograder.tasks.hidden import Hidden
from autograder.tasks.table import PARTS
from hw7 import HW7Error
from hw7.checks.cases import Task
from hw7.support.system import expanded

DEFAULT_RUBRIC = Path(__file__).with_name("rubric.toml")
TOTAL = 100
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "title": str,
    "check": str,
    "seconds": (int, float),
    "points": dict,
}
_OPTIONAL: dict[str, type] = {"parameters": dict, "thresholds": dict}


@dataclass(frozen=True, eq=False)
class Rubric:
    """All tasks, in the order in which they are shown. digest: sha256 of the file; equal digests, equal rubrics."""

    tasks: tuple[Task, ...]
    digest: str
    path: Path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rubric) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def with_timeout(self, seconds: float) -> Rubric:
        """The same rubric with no task allowed more than this; another digest, because grades may differ."""
        tasks = tuple(replace(task, seconds=min(task.seconds, seconds)) for task in self.tasks)
        return Rubric(tasks, hashlib.sha256(f"{self.digest}\0timeout {seconds!r}".encode()).hexdigest(), self.path)

    def task(self, task: str) -> Task:
        """Raises KeyError where there is no such task."""
        return {each.id: each for each in self.tasks}[task]

    def of_check(self, check: str) -> Task | None:
        """The first task with this check, if any."""
        return next((task for task in self.tasks if task.check == check), None)


def rubric_digest(rubric: Rubric, hidden: Hidden) -> str:
    """What a grade depends on besides submission and grader: the rubric's bytes, the data and the hidden seed."""
    return hashlib.sha256(f"{rubric.digest}\0{hidden.digest()}".encode()).hexdigest()


def load_rubric(path: Path | str | None = None) -> Rubric:
    """Reads a rubric; default: the one that comes with the grader. Raises HW7Error with line and reason."""
    path = expanded(path or DEFAULT_RUBRIC)
    try:
        data = path.read_bytes()
        text = data.decode()
        table = tomllib.loads(text)
    except OSError as error:
        raise HW7Error(f"the rubric {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HW7Error(f"the rubric {path} is not UTF-8 text: {error}") from error
    except tomllib.TOMLDecodeError as error:  # says "at line 3, column 7"
        raise HW7Error(f"the rubric {path} is not TOML: {error}") from error
    return Rubric(_Reader(path, text).tasks(table), hashlib.sha256(data).hexdigest(), path)


class _Reader:
    """Turns the parsed table into tasks; knows the lines of the text, for what it refuses."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.lines = path, text.splitlines()
        self.starts = [n for n, line in enumerate(self.lines) if re.match(r"\s*\[\[\s*task\s*\]\]", line)]

    def refuse(self, reason: str, index: int | None = None, key: str = "") -> HW7Error:
        """An error at the task with this index: at the first line that names the key there, else at its header."""
        line = 0
        if index is not None and index < len(self.starts):
            start = self.starts[index]
            stop = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.lines)
            named = re.compile(rf'(^|[\s{{,.\["]){re.escape(key)}["\s]*[=\]]')
            line = next((n for n in range(start, stop) if key and named.search(self.lines[n])), start)
        return HW7Error(f"the rubric {self.path}, line {line + 1}: {reason}")

    def tasks(self, table: dict[str, Any]) -> tuple[Task, ...]:
        unknown = sorted(set(table) - {"task"})
        if unknown:
            raise self.refuse(f"{unknown[0]!r} is not known here; a rubric is a list of [[task]]")
        entries = table.get("task")
        if not isinstance(entries, list) or not entries:
            raise self.refuse("there is no [[task]]")
        tasks = tuple(self.task(index, entry) for index, entry in enumerate(entries))
        for index, task in enumerate(tasks):
            if task.id in [other.id for other in tasks[:index]]:
                raise self.refuse(f"the id {task.id!r} is taken by an earlier task", index, "id")
        total = math.fsum(task.out_of for task in tasks)
        if abs(total - TOTAL) > 1e-6:
            raise self.refuse(f"the points of all tasks add up to {total:g}; they must make {TOTAL}")
        return tasks

    def task(self, index: int, entry: dict[str, Any]) -> Task:
        for key, kind in _FIELDS.items():
            if key not in entry:
                raise self.refuse(f"the task has no {key!r}", index)
            if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
                raise self.refuse(f"{key!r} is {entry[key]!r}, of the wrong kind", index, key)
        for key in entry:
            if key not in _FIELDS and key not in _OPTIONAL:
                known = ", ".join([*_FIELDS, *_OPTIONAL])
                raise self.refuse(f"{key!r} is not known; a task has {known}", index, key)
        for key, kind in _OPTIONAL.items():
            if not isinstance(entry.get(key, {}), kind):
                raise self.refuse(f"{key!r} must be a table", index, key)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}", entry["id"]):
            raise self.refuse(f"the id {entry['id']!r} must be short: letters, digits, dots", index, "id")
        if entry["check"] not in PARTS:
            raise self.refuse(f"there is no check {entry['check']!r}; there are {', '.join(PARTS)}", index, "check")
        if not (math.isfinite(entry["seconds"]) and entry["seconds"] > 0):
            raise self.refuse(f"'seconds' is {entry['seconds']}; a task needs some time", index, "seconds")
        self.check_points(index, entry)
        thresholds = entry.get("thresholds", {})
        self.check_thresholds(index, entry, thresholds)
        return Task(
            id=entry["id"],
            title=entry["title"],
            check=entry["check"],
            seconds=float(entry["seconds"]),
            points={part: float(points) for part, points in entry["points"].items()},
            parameters=entry.get("parameters", {}),
            thresholds=thresholds,
        )

    def check_points(self, index: int, entry: dict[str, Any]) -> None:
        parts = PARTS[entry["check"]]
        for part in parts:
            if part not in entry["points"]:
                raise self.refuse(f"'points' says nothing of {part!r}; give it points, or 0", index, "points")
        for part, points in entry["points"].items():
            if part not in parts:
                reason = f"{part!r} is no part of the check {entry['check']}; it has {', '.join(parts)}"
                raise self.refuse(reason, index, part)
            if isinstance(points, bool) or not isinstance(points, int | float) or not 0 <= points <= TOTAL:
                raise self.refuse(f"{points!r} points for {part!r}; give a number from 0 to {TOTAL}", index, part)

    def check_thresholds(self, index: int, entry: dict[str, Any], thresholds: dict[str, Any]) -> None:
        if entry["check"] != "accuracy":
            if thresholds:
                raise self.refuse("only the check 'accuracy' has thresholds", index, "thresholds")
            return
        if not thresholds:
            raise self.refuse("the check 'accuracy' needs thresholds for at least one data source", index)
        for source, levels in thresholds.items():
            if not isinstance(levels, dict) or set(levels) != set(entry["points"]):
                names = ", ".join(entry["points"])
                raise self.refuse(f"the thresholds of {source!r} must be exactly {names}", index, source)
            for part, level in levels.items():
                if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level <= 1:
                    reason = f"the threshold {level!r} of {source} {part!r} must be a share above 0, up to 1"
                    raise self.refuse(reason, index, part)
