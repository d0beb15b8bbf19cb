"""The rubric: the one that comes with the grader holds, and a broken one is refused with its line and the reason."""

from pathlib import Path

import pytest

from autograder.rubric import DEFAULT_RUBRIC, load_rubric
from autograder.tasks.table import PARTS
from hw7 import HW7Error

TEXT = DEFAULT_RUBRIC.read_text()


def line_of(text: str, fragment: str) -> int:
    """The number of the first line with this in it."""
    return next(number for number, line in enumerate(text.splitlines(), start=1) if fragment in line)


def test_the_rubric_covers_the_contract() -> None:
    rubric = load_rubric()
    ids = [task.id for task in rubric.tasks]
    assert ids == sorted(ids)
    assert {each.rpartition(".")[0] for each in ids} == {"1", "2", "3", "4", "5"}
    assert len(ids) >= 14
    assert sum(task.out_of for task in rubric.tasks) == 100
    assert {task.check for task in rubric.tasks} == set(PARTS)
    assert all(task.title for task in rubric.tasks)


def test_the_digest_changes_with_every_byte(tmp_path: Path) -> None:
    other = tmp_path / "rubric.toml"
    other.write_text(TEXT)
    assert load_rubric(other).digest == load_rubric().digest
    other.write_text(TEXT + "\n")
    assert load_rubric(other).digest != load_rubric().digest


FIRST = 'id = "1.1"'


@pytest.mark.parametrize(
    ("old", "new", "at", "reason"),
    [
        (FIRST, 'id = "1.1', 'id = "1.1', "not TOML"),
        (FIRST, 'id = "1.2"', "", "taken by an earlier task"),
        (FIRST, "id = 1.1", "id = 1.1", "wrong kind"),
        (FIRST, 'id = "a b"', 'id = "a b"', "short"),
        (FIRST, "", "[[task]]", "no 'id'"),
        (FIRST, FIRST + "\nhint = 1", "hint = 1", "'hint' is not known"),
        ('check = "kd_loss"', 'check = "kd_los"', 'check = "kd_los"', "no check 'kd_los'"),
        ("seconds = 10", "seconds = 0", "seconds = 0", "needs some time"),
        ("seconds = 10", "seconds = nan", "seconds = nan", "needs some time"),
        ("seconds = 10", 'seconds = "10"', 'seconds = "10"', "wrong kind"),
        ("{ structure = ", "{ structur = ", "{ structur = ", "'structure'"),
        ("{ structure = ", "{ extra = 1, structure = ", "extra = 1", "no part of the check"),
        ("{ structure = ", "{ structure = -", "structure = -", "number from 0"),
        ("{ structure = ", "{ structure = 1", "", "add up to"),
    ],
)
def test_a_broken_rubric_is_refused(tmp_path: Path, old: str, new: str, at: str, reason: str) -> None:
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    path = tmp_path / "rubric.toml"
    path.write_text(text)
    with pytest.raises(HW7Error, match=reason) as caught:
        load_rubric(path)
    assert str(path) in str(caught.value)
    if at:
        assert f"line {line_of(text, at)}" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[task.thresholds.plates]", "[task.other]", "'other' is not known"),
        ("simple = 0", "simpel = 0", "exactly"),
        ("simple = 0", "simple = 1", "share above 0"),
    ],
)
def test_broken_thresholds(tmp_path: Path, old: str, new: str, reason: str) -> None:
    start = TEXT.index("[task.thresholds")
    path = tmp_path / "rubric.toml"
    path.write_text(TEXT[:start] + TEXT[start:].replace(old, new, 1))
    with pytest.raises(HW7Error, match=reason):
        load_rubric(path)


def test_files_that_are_no_rubric(tmp_path: Path) -> None:
    with pytest.raises(HW7Error, match="cannot be read"):
        load_rubric(tmp_path / "none.toml")
    path = tmp_path / "empty.toml"
    path.write_bytes(b"")
    with pytest.raises(HW7Error, match=r"no \[\[task\]\]"):
        load_rubric(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HW7Error, match="UTF-8"):
        load_rubric(path)
