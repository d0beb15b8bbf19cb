"""The journal: nothing that was written is lost, and what a crash tore off costs one line."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import made_up_grades
import pytest

from autograder.grades import Grade
from autograder.journal import Journal, Key, Run, current_marks, journal_name, read_journals
from autograder.rubric import load_rubric
from hw7 import HW7Error
from hw7.checks.cases import Verdict

GRADES = [made_up_grades.grade(f"student-{n}", 0.5, tuple(Verdict)[1:]) for n in range(4)]
RUBRIC, GRADER = GRADES[0].rubric, GRADES[0].grader


def write(path: Path, *grades: Grade) -> None:
    with Journal(path) as journal:
        for grade in grades:
            journal.append(grade)


def test_grades_come_back_as_they_were(tmp_path: Path) -> None:
    strange = [made_up_grades.hostile(text, f"student-{n}") for n, text in enumerate(made_up_grades.HOSTILE)]
    write(tmp_path / "journal.jsonl", *GRADES)
    write(tmp_path / "journal.jsonl", *strange)
    assert read_journals(tmp_path) == GRADES + strange


def test_a_line_is_a_grade_and_its_moment(tmp_path: Path) -> None:
    write(tmp_path / "journal.jsonl", GRADES[0])
    (line,) = (tmp_path / "journal.jsonl").read_bytes().splitlines()
    row = json.loads(line)
    assert row.pop("at").startswith("20")
    assert Grade.from_dict(row) == GRADES[0]


def test_wherever_the_last_line_is_torn_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, *GRADES[:3])
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in [last + 1, (last + len(whole)) // 2, len(whole) - 1]:
        path.write_bytes(whole[:end])
        assert read_journals(tmp_path) == GRADES[:2]  # reading is no reason to change anything
        assert path.stat().st_size == end
        with pytest.warns(UserWarning, match="torn off"):
            write(path, GRADES[3])
        assert read_journals(tmp_path) == [*GRADES[:2], GRADES[3]]


@pytest.mark.filterwarnings("error")
def test_a_whole_journal_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, *GRADES)
    before = path.read_bytes()
    write(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", [b"", b"\0" * 100, b"[]", b'{"at": "2026"}', b'{"student": "a"}', b"\xff", b'"x"'])
def test_a_line_that_is_no_grade_is_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, GRADES[0])
    path.write_bytes(line + b"\n" + path.read_bytes())
    with pytest.warns(UserWarning, match="line 1 cannot be read"):
        assert read_journals(tmp_path) == [GRADES[0]]


def test_two_runs_on_one_journal_refuse(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    code = (
        "import sys; from pathlib import Path; from autograder.journal import Journal\n"
        "with Journal(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(HW7Error, match="another run is writing"):
            write(path, GRADES[0])
        other.kill()
    write(path, GRADES[0])  # a killed run holds nothing
    assert read_journals(tmp_path) == [GRADES[0]]


def test_shards_write_beside_each_other_and_are_read_together(tmp_path: Path) -> None:
    first, second = (Journal(tmp_path / journal_name((n, 2))) for n in (0, 1))
    with first, second:
        for grade, journal in zip(GRADES, (second, first, second, first), strict=True):
            journal.append(grade)
    assert read_journals(tmp_path) == GRADES  # in the order of their moments
    newer = replace(GRADES[0], submission="f" * 64)
    write(tmp_path / journal_name(), newer)
    assert current(tmp_path)["student-0"] == newer.submission


def test_a_clock_that_is_set_back_does_not_change_the_order_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, GRADES[0], replace(GRADES[0], submission="f" * 64))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b'{"at": "1999' + second[second.index(b"-") :])
    assert [grade.submission for grade in read_journals(tmp_path)] == [GRADES[0].submission, "f" * 64]


@pytest.mark.parametrize("field", ["student", "submission", "rubric", "grader"])
def test_a_key_tells_apart(field: str) -> None:
    assert Key.of(replace(GRADES[0], **{field: "other"})) != Key.of(GRADES[0])
    assert Key.of(replace(GRADES[0], seconds=99.0, tier="B", output="x")) == Key.of(GRADES[0])


def current(out: Path) -> dict[str, str]:
    """Which submission counts for each student, under this rubric and grader."""
    students = tuple(grade.student for grade in GRADES)
    with Journal(out / journal_name()) as journal:
        journal.append(Run(RUBRIC, load_rubric().text, None, "", "", GRADER, "plates", "A", students))
    return {mark.student: mark.submission for mark in current_marks(out).marks}


def test_current_is_the_last_under_this_rubric_and_grader(tmp_path: Path) -> None:
    again = replace(GRADES[0], submission="f" * 64)
    older = [replace(GRADES[1], rubric="old"), replace(GRADES[1], grader="old")]
    write(tmp_path / "journal.jsonl", GRADES[0], again, *older)
    assert current(tmp_path) == {"student-0": "f" * 64}


def test_a_grade_that_was_damaged_gives_way_to_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, GRADES[0], replace(GRADES[0], submission="f" * 64))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second.replace(b'"verdict"', b'"verdikt"'))
    with pytest.warns(UserWarning, match="line 2 cannot be read"):
        assert current(tmp_path) == {"student-0": GRADES[0].submission}


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, GRADES[0])
    size = path.stat().st_size
    code = (
        "import sys, signal, resource; from pathlib import Path; from autograder.journal import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "grade = read_journals(Path(sys.argv[1]).parent)[0]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "with Journal(Path(sys.argv[1])) as journal:\n"
        "    try: journal.append(grade)\n"
        "    except HW7Error as error: print(error)\n"
    )
    limit = str(size + size // 2)  # half of the next line fits
    ended = subprocess.run([sys.executable, "-c", code, str(path), limit], capture_output=True, text=True, check=True)
    assert "make room" in ended.stdout
    assert path.stat().st_size == size
    assert read_journals(tmp_path) == [GRADES[0]]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HW7Error, match="file"):
        write(tmp_path / "file" / "journal.jsonl")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(HW7Error, match="--out"):
            write(tmp_path / "closed" / "journal.jsonl")
