"""The rubric: one TOML file of tasks, points, thresholds, time limits, days late. Instructors change it there only.

A broken rubric is refused with its line and the reason, before anything is graded with it. The hidden seed is the other
thing that a grade depends on; both go into one digest. Points, thresholds and the late policy may change, and nobody is
asked again.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from autograder.tasks.table import PARTS
from hw7 import HW7Error
from hw7.checks.cases import Task
from hw7.support.system import expanded

DEFAULT_RUBRIC = Path(__file__).with_name("rubric.toml")
TOTAL = 100
_NUMBER = (int, float)
_FIELDS = {"id": (str,), "title": (str,), "check": (str,), "seconds": _NUMBER, "points": (dict,)}
_OPTIONAL = ("parameters", "thresholds")


@dataclass(frozen=True)
class LatePolicy:
    """What a late submission loses: for each day that has begun after the days of grace, so many points or a share of
    what it earned, and never more than the cap, which is in the same unit."""

    points_per_day: float = 0.0
    share_per_day: float = 0.0
    grace_days: float = 0.0
    cap: float = math.inf

    def penalty(self, days: float, earned: float) -> float:
        """The points that are taken off `earned` points for so many days."""
        counted = math.ceil(max(0.0, days - self.grace_days))
        if self.share_per_day:
            return earned * min(counted * self.share_per_day, self.cap, 1.0)
        return min(counted * self.points_per_day, self.cap, earned)


@dataclass(frozen=True)
class Rubric:
    """All tasks, in the order in which they are shown, and what is taken off for days late, if the rubric says it.
    digest: sha256 of the file; equal digests, equal rubrics. text: that file."""

    tasks: tuple[Task, ...] = field(compare=False)
    digest: str
    path: Path = field(compare=False)
    late: LatePolicy | None = field(default=None, compare=False)
    text: str = field(default="", compare=False, repr=False)

    def with_timeout(self, seconds: float) -> "Rubric":
        """The same rubric with no task allowed more than this; another digest, because grades may differ."""
        tasks = tuple(replace(task, seconds=min(task.seconds, seconds)) for task in self.tasks)
        digest = hashlib.sha256(f"{self.digest}\0timeout {seconds!r}".encode()).hexdigest()
        return replace(self, tasks=tasks, digest=digest)

    def check_thresholds(self, source: str) -> None:
        """Raises HW7Error where the rubric has none for the images of this source."""
        task, kind = self.of_check("accuracy"), source.partition(":")[0]
        if task is not None and kind not in task.thresholds:
            raise HW7Error(
                f"the rubric {self.path} has no thresholds for {kind} in task {task.id}; it has them for "
                f"{', '.join(task.thresholds)}. Add [task.thresholds.{kind}] there."
            )

    def of_check(self, check: str) -> Task | None:
        """The first task with this check, if any."""
        return next((task for task in self.tasks if task.check == check), None)


def rubric_digest(rubric: Rubric, hidden_digest: str) -> str:
    """What a grade depends on besides submission and grader: the rubric's bytes, the data and the hidden seed."""
    return hashlib.sha256(f"{rubric.digest}\0{hidden_digest}".encode()).hexdigest()


def asked_digest(rubric: Rubric, hidden_digest: str) -> str:
    """The same without points, thresholds, titles and the late policy: what is asked, in how much time. Where it is
    equal, verdicts under one rubric are verdicts under the other."""
    asked = [asked_of(task) for task in rubric.tasks]
    return hashlib.sha256(f"{json.dumps(asked, sort_keys=True)}\0{hidden_digest}".encode()).hexdigest()


def asked_of(task: Task) -> dict[str, Any]:
    """What of a task's row decides what is asked."""
    return {name: getattr(task, name) for name in ("id", "check", "seconds", "parameters")}


def load_rubric(path: Path | str | None = None) -> Rubric:
    """Reads a rubric; default: the one that comes with the grader. Raises HW7Error with line and reason."""
    path = expanded(path or DEFAULT_RUBRIC)
    try:
        return parse_rubric(path.read_bytes().decode(), path)
    except OSError as error:
        raise HW7Error(f"the rubric {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HW7Error(f"the rubric {path} is not UTF-8 text: {error}") from error


def parse_rubric(text: str, path: Path) -> Rubric:
    """The rubric that this text is. path: whence it came, for messages. Raises HW7Error with line and reason."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # says "at line 3, column 7"
        raise HW7Error(f"the rubric {path} is not TOML: {error}") from error
    if fault := next(_faults(table), None):
        raise HW7Error(f"the rubric {path}, line {fault.line(text.splitlines())}: {fault.reason}")
    tasks = []
    for entry in table["task"]:
        points = {part: float(points) for part, points in entry["points"].items()}
        tasks.append(Task(**entry | {"seconds": float(entry["seconds"]), "points": points}))
    late = LatePolicy(**{key: float(value) for key, value in table["late"].items()}) if "late" in table else None
    return Rubric(tuple(tasks), hashlib.sha256(text.encode()).hexdigest(), path, late, text)


class _Fault(NamedTuple):
    """What is wrong with a rubric. task: the place in the list of the task that is wrong; key: in that task, or in the
    late policy where it is none."""

    reason: str
    task: int | None = None
    key: str = ""

    def line(self, lines: list[str]) -> int:
        """The number of the first line that names the key in the task, else of the task's header."""
        header = r"\s*\[\s*late\s*\]" if self.task is None else r"\s*\[\[\s*task\s*\]\]"
        starts = [n for n, line in enumerate(lines) if re.match(header, line)]
        index = self.task or 0
        if (self.task is None and not self.key) or index >= len(starts):
            return 1
        start, stop = [*starts, len(lines)][index : index + 2]
        named = re.compile(rf'(^|[\s{{,.\["]){re.escape(self.key)}["\s]*[=\]]')
        return 1 + next((n for n in range(start, stop) if self.key and named.search(lines[n])), start)


def _faults(table: dict[str, Any]) -> Iterator[_Fault]:
    """What is wrong with a rubric. Later checks rely on earlier ones, so only the first fault is sure."""
    if unknown := sorted(set(table) - {"task", "late"}):
        yield _Fault(f"{unknown[0]!r} is not known here; a rubric is a list of [[task]] and, if it has one, [late]")
    if "late" in table:
        yield from (_Fault(reason, None, key) for reason, key in _late_faults(table["late"]))
    entries = table.get("task")
    if not isinstance(entries, list) or not entries:
        yield _Fault("there is no [[task]]")
        return
    for index, entry in enumerate(entries):
        yield from (_Fault(reason, index, key) for reason, key in _task_faults(entry))
    ids = [entry["id"] for entry in entries]
    for index, id_ in enumerate(ids):
        if id_ in ids[:index]:
            yield _Fault(f"the id {id_!r} is taken by an earlier task", index, "id")
    checks = [entry["check"] for entry in entries]
    if "size" in checks and "accuracy" not in checks:
        yield _Fault(
            "sizes count only for a network that is accurate: add a task of the check 'accuracy'",
            checks.index("size"),
            "check",
        )
    total = math.fsum(points for entry in entries for points in entry["points"].values())
    if abs(total - TOTAL) > 1e-6:
        yield _Fault(f"the points of all tasks add up to {total:g}; they must make {TOTAL}")


def _late_faults(late: Any) -> Iterator[tuple[str, str]]:
    """Reasons, each with the key that it is about."""
    keys = [each.name for each in fields(LatePolicy)]
    if not isinstance(late, dict):
        yield f"'late' must be a table [late] of {', '.join(keys)}", "late"
        return
    for key, value in late.items():
        if key not in keys:
            yield f"{key!r} is not known; a late policy has {', '.join(keys)}", key
        if type(value) not in _NUMBER or not (math.isfinite(value) and value >= 0):
            yield f"{key!r} is {value!r}; give a number from 0", key
    units = [key for key in ("points_per_day", "share_per_day") if late.get(key)]
    if len(units) != 1:
        yield "say either points_per_day or share_per_day, above 0", (units or ["late"])[-1]
    most = 1 if "share_per_day" in units else TOTAL
    for key in (*units, "cap"):
        if late.get(key, 0) > most:
            yield f"{key!r} is {late[key]!r}; as a late policy by {units[0]} it is at most {most}", key


def _task_faults(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Reasons, each with the key that it is about."""
    for key, kinds in _FIELDS.items():
        if key not in entry:
            yield f"the task has no {key!r}", ""
        elif type(entry[key]) not in kinds:
            yield f"{key!r} is {entry[key]!r}, of the wrong kind", key
    for key in entry:
        if key not in _FIELDS and key not in _OPTIONAL:
            yield f"{key!r} is not known; a task has {', '.join([*_FIELDS, *_OPTIONAL])}", key
    for key in _OPTIONAL:
        if not isinstance(entry.get(key, {}), dict):
            yield f"{key!r} must be a table", key
    check, points, thresholds = entry["check"], entry["points"], entry.get("thresholds", {})
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,19}", entry["id"]):
        yield f"the id {entry['id']!r} must be short: letters, digits, dots", "id"
    if check not in PARTS:
        yield f"there is no check {check!r}; there are {', '.join(PARTS)}", "check"
    if not (math.isfinite(entry["seconds"]) and entry["seconds"] > 0):
        yield f"'seconds' is {entry['seconds']}; a task needs some time", "seconds"
    for part in PARTS[check]:
        if part not in points:
            yield f"'points' says nothing of {part!r}; give it points, or 0", "points"
    for part, number in points.items():
        if part not in PARTS[check]:
            yield f"{part!r} is no part of the check {check}; it has {', '.join(PARTS[check])}", part
        if type(number) not in _NUMBER or not 0 <= number <= TOTAL:
            yield f"{number!r} points for {part!r}; give a number from 0 to {TOTAL}", part
    if check != "accuracy" and thresholds:
        yield "only the check 'accuracy' has thresholds", "thresholds"
    if check == "accuracy" and not thresholds:
        yield "the check 'accuracy' needs thresholds for at least one data source", ""
    for source, levels in thresholds.items():
        if not isinstance(levels, dict) or set(levels) != set(points):
            yield f"the thresholds of {source!r} must be exactly {', '.join(points)}", source
        for part, level in levels.items():
            if type(level) not in _NUMBER or not 0 < level <= 1:
                yield f"the threshold {level!r} of {source} {part!r} must be a share above 0, up to 1", part
