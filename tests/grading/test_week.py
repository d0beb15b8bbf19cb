"""A teaching assistant's week in miniature, with the commands as they are typed: a Moodle export, late and repeated
submissions, decisions, an appeal, a changed rubric, and every export. Each figure is the expected one, and the journal
only grows.
"""

import csv
import email
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from email.policy import default
from pathlib import Path

import pytest
from submissions import Files, mutants, reference_files

pytest.importorskip("nbgrader")
from nbgrader import api

pytestmark = pytest.mark.slow

RUBRIC = """
[late]
points_per_day = 5
grace_days = 1
cap = 20

[[task]]
id = "2.1"
title = "Distillation loss"
check = "kd_loss"
seconds = 10
points = { values = 15, gradient = 10, confident = 5, shift = 5, teacher = 5 }

[[task]]
id = "3.1"
title = "Channel importance"
check = "channel_importance"
seconds = 10
points = { values = 15, detached = 5 }

[[task]]
id = "3.2"
title = "Channel selection"
check = "select_channels"
seconds = 10
points = { values = 5, ties = 3, bounds = 2 }

[[task]]
id = "3.3"
title = "Network slimming"
check = "network_slimming"
seconds = 10
points = { channels = 15, dead = 10, copy = 3, refusals = 2 }
"""
OTHER_POINTS = (
    ("points_per_day = 5", "share_per_day = 0.1"),
    ("cap = 20", "cap = 0.5"),
    ("values = 15, gradient", "values = 30, gradient"),
    ("values = 15, detached", "values = 0, detached"),
)
SEED = "9f3c61e07ab254d8c1370e6f8b9d42a5"  # always the same, so that what fails once fails again
ROSTER = """id,name,email
b01,Ada Lovelace,ada@example.org
b02,Bob Ross,bob@example.org
b03,"Cara Nguyên",cara@example.org
b04,Dan Roe,
b05,Eve Nix,eve@example.org
b06,Fay Wray,fay@example.org
"""


def raising() -> Files:
    files = dict(reference_files())
    files["solution/losses.py"] += b"\n\ndef kd_loss(*arguments, **options):\n    raise RuntimeError('not today')\n"
    return files


def signed() -> Files:
    """A wrong 3.1; what of 3.3 follows from it is not charged again."""
    (entry,) = [entry for entry in mutants() if entry.id == "3.1-signed"]
    return dict(entry.files)


def moodle(path: Path, **handed_in: Files | bytes) -> None:
    """An export of Moodle: for each participant a file, named after person and number."""
    with zipfile.ZipFile(path, "w") as export:
        for number, (person, files) in enumerate(handed_in.items(), start=7001):
            name = f"{person.replace('_', ' ')}_{number}_assignsubmission_file_/hw7.zip"
            inner = path.with_name("inner.zip")
            if isinstance(files, bytes):
                inner.write_bytes(files)
            else:
                with zipfile.ZipFile(inner, "w") as packed:
                    for file, data in files.items():
                        packed.writestr(f"hw7/{file}", data)
            export.write(inner, name)


@dataclass
class Week:
    """The folder of a week: types commands, and sees to it that no journal is rewritten."""

    folder: Path
    written: dict[str, bytes] = field(default_factory=dict)

    def type(self, *words: object, code: int = 0) -> str:
        command = [sys.executable, "-c", "from autograder.cli import app; app()", *map(str, words)]
        ended = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stdout + ended.stderr
        now = {path.name: path.read_bytes() for path in (self.folder / "out").glob("journal*")}
        assert all(now[name].startswith(before) for name, before in self.written.items())
        self.written = now
        return ended.stdout + ended.stderr

    def table(self) -> dict[str, dict[str, str]]:
        with (self.folder / "out" / "grades.csv").open(newline="", encoding="utf-8") as file:
            return {row["student"]: row for row in csv.DictReader(file)}

    def totals(self) -> dict[str, float]:
        return {student: float(row["total"]) for student, row in self.table().items()}


def test_a_week(tmp_path: Path) -> None:
    week = Week(tmp_path)
    (tmp_path / "rubric.toml").write_text(RUBRIC)
    (tmp_path / "roster.csv").write_text(ROSTER, encoding="utf-8")
    (tmp_path / "seed").write_text(SEED)
    run = ("run", "export.zip", "--out", "out", "--rubric", "rubric.toml", "--roster", "roster.csv", "--jobs", 2)
    run += ("--hidden-seed-file", "seed")

    # Monday: what was there at the deadline
    right = dict(reference_files())
    moodle(tmp_path / "export.zip", Ada_Lovelace=right, Bob_Ross=raising(), Dan_Roe=b"no zip", Eve_Nix=raising())
    said = week.type(*run)
    assert "layout moodle" in said
    assert "handed in nothing: b03 (Cara Nguyên), b06 (Fay Wray)" in said
    assert "4 of 4 students have a grade (1 with full marks, 2 with some, 1 not gradable), 4 of them new" in said
    assert week.totals() == {"b01": 100, "b02": 60, "b03": 0, "b04": 0, "b05": 60, "b06": 0}
    assert week.table()["b06"]["remarks"] == "Handed in nothing."

    # Wednesday: Bob again, Cara late
    moodle(tmp_path / "export.zip", Ada_Lovelace=right, Bob_Ross=signed(), Dan_Roe=b"no zip", Eve_Nix=raising(),
           Cara_Nguyên=right)  # fmt: skip
    said = week.type(*run)
    assert "5 of 5 students have a grade (2 with full marks, 2 with some, 1 not gradable), 2 of them new" in said
    assert week.totals() == {"b01": 100, "b02": 85, "b03": 100, "b04": 0, "b05": 60, "b06": 0}
    assert "0 of them new" in week.type(*run)
    assert "1 of them new" in week.type(*run, "--student", "b02", "--again")

    # Thursday: what people decide
    week.type("late", "b03", 3, "--out", "out", "--by", "Tom")
    week.type("override", "b02", "3.1", 20, "--because", "Told otherwise in the lecture", "--out", "out", "--by", "Tom")
    week.type("override", "b04", "3.3", 12.5, "--because", "Shown in the office", "--out", "out", "--by", "Tom")
    week.type("override", "b05", "2.1", 40, "--because", "Wrong student", "--out", "out")
    week.type("override", "b05", "2.1", "--undo", "--because", "It was somebody else", "--out", "out")
    week.type("comment", "b01", "Beautifully short.", "--out", "out", "--by", "Tom")
    assert week.totals() == {"b01": 100, "b02": 100, "b03": 90, "b04": 12.5, "b05": 60, "b06": 0}
    bob, cara = week.table()["b02"], week.table()["b03"]
    assert (bob["grader"], bob["3.1"], bob["verdict 3.1"]) == ("85", "20", "WRONG")
    assert "20 instead of 5 of 20 points. Told otherwise in the lecture. (Tom, " in bob["overrides"]
    assert cara["late"].startswith("3 days late: 10 points taken off. (Tom, ")
    assert "Beautifully short." in week.table()["b01"]["comments"]
    assert "no number from 0 to 20" in week.type("override", "b02", "3.1", 21, "--because", "x", "--out", "out", code=1)

    # Friday: Eve appeals
    names = week.type("case", "b05", "2.1", "?", "--out", "out", "--to", "appeal", code=1)
    name = names.splitlines()[1].strip()
    said = week.type("case", "b05", "2.1", name, "--out", "out", "--to", "appeal")
    assert "The case is known now" in said
    assert "verdict   crash" in said
    program = subprocess.run([sys.executable, tmp_path / "appeal" / "case.py"], capture_output=True, text=True)
    assert "not today" in program.stderr  # Eve's own exception, in her own line
    assert (tmp_path / "appeal").stat().st_mode & 0o077 == 0

    # Saturday: other points, from the journal alone
    text = RUBRIC
    for before, after in OTHER_POINTS:
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "rubric.toml").write_text(text)
    (tmp_path / "export.zip").rename(tmp_path / "elsewhere.zip")
    assert "5 grades scored again" in week.type("rescore", "--out", "out", "--rubric", "rubric.toml")
    # Bob's 3.1 is worth 5 now. Its values are worth nothing, so what follows from them in 3.3 is charged.
    expected = {"b01": 100, "b02": 75, "b03": 80, "b04": 12.5, "b05": 45, "b06": 0}
    assert week.totals() == expected
    diff = week.type("diff", "out@4", "out")
    assert "4 of 6 students changed" in diff
    for line in (
        r"b02 +3\.3 +30 +5 +channels: right, now wrong; dead: right, now wrong",
        r"b02 +3\.1 +20 +5 +by hand, and the task is worth 5 now",
        r"b03 +total +-10 +-20 +the rubric's late policy is another",
        r"b05 +3\.1 +20 +5 +values: worth 0 instead of 15",
    ):
        assert re.search(line, diff), line
    (tmp_path / "elsewhere.zip").rename(tmp_path / "export.zip")
    assert "0 of them new" in week.type(*run)  # it finds the very same by itself
    assert "look again, for the task was worth 20 then" in week.table()["b02"]["remarks"]

    # Sunday: everything that others read
    for to in ("csv", "html", "gradescope", "nbgrader", "mail"):
        said = week.type("export", "--to", to, "--out", "out", "--target", f"exports/{to}")
        assert ("no address of b04" in said) == (to == "mail")
    assert week.totals() == expected
    check_exports(tmp_path / "exports", expected)
    log = week.type("log", "--out", "out")
    assert [log.count(kind) for kind in ("override", "comment", "late ", "run ")] == [4, 1, 1, 6]
    lines = [json.loads(line) for data in week.written.values() for line in data.splitlines()]
    assert [entry["by"] for entry in lines if entry.get("kind") == "late"] == ["Tom"]


def check_exports(folder: Path, expected: dict[str, float]) -> None:
    """All exports say the same totals, and who decided what."""
    with api.Gradebook(f"sqlite:///{folder / 'nbgrader' / 'gradebook.db'}") as gradebook:
        scores = {each.student_id: each.score - (each.late_submission_penalty or 0)
                  for each in gradebook.assignment_submissions("hw7")}  # fmt: skip
        assert scores | {"b06": 0} == pytest.approx(expected)
        grade = gradebook.find_grade("task-3-1", "hw7", "hw7", "b02")
        assert (grade.auto_score, grade.manual_score) == (5, 5)
        assert gradebook.find_grade("task-2-1", "hw7", "hw7", "b05").manual_score is None
        assert {student.id for student in gradebook.students} == set(expected)
    results = {path.name[:3]: json.loads(path.read_text()) for path in (folder / "gradescope").glob("*.json")}
    assert {student: result["score"] for student, result in results.items()} == expected
    assert "3 days late: 20 points taken off." in results["b03"]["output"]
    pages = {path.name[:3]: path.read_text(encoding="utf-8") for path in (folder / "html" / "students").glob("*.html")}
    shown = {student: float(re.findall(r'class="total"><strong>([\d.]+)', page)[0]) for student, page in pages.items()}
    assert shown == expected
    assert "Nothing was handed in" in pages["b06"]
    mails = {path.name[:3]: email.message_from_bytes(path.read_bytes(), policy=default)
             for path in (folder / "mail" / "messages").glob("*.eml")}  # fmt: skip
    for student, mail in mails.items():
        text = mail.get_body().get_content()
        assert f"Homework 7: {expected[student]:g} of 100 points." in text
        (page,) = mail.iter_attachments()
        assert page.get_content().encode() == pages[student].encode()
    assert mails["b03"]["To"] == "Cara Nguyên <cara@example.org>"
    assert mails["b04"]["To"] is None
