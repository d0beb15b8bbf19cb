"""The class roster: whose submission a name means, who is absent, and what is no roster."""

from pathlib import Path

import pytest
from handed_in import ZIP, all_right, assert_right, said, taken, under, write

from autograder.intake.layouts import find_submissions
from autograder.intake.roster import read_roster
from hw7 import HW7Error

ROSTER = 'id,name\nB01,Jane Doe\nB02,"Lee, Ann"\nB03,Bób Ray\nB04,Ann Kim\nB05,Ann Kim\nB06,Eve Nix\n'


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    (tmp_path / "roster.csv").write_text(ROSTER, encoding="utf-8-sig")
    return tmp_path / "roster.csv"


def test_a_roster_maps_names_and_lists_who_is_absent(tmp_path: Path, roster: Path) -> None:
    files = {
        "Jane Doe_11_assignsubmission_file_hw7.zip": ZIP,
        "Ann Lee_12_assignsubmission_file_hw7.zip": ZIP,
        "Bob Ray_13_assignsubmission_file_hw7.zip": ZIP,
        "Ann Kim_14_assignsubmission_file_hw7.zip": ZIP,  # which of the two?
    }
    submissions = find_submissions(write(tmp_path / "moodle", files), roster=roster)
    assert all_right(submissions) == {"B01", "B02", "B03", "Ann Kim_14"}
    assert submissions.strangers == ("Ann Kim_14",)
    assert submissions.absent == {"B04": "Ann Kim", "B05": "Ann Kim", "B06": "Eve Nix"}


def test_a_roster_knows_how_canvas_writes_names(tmp_path: Path, roster: Path) -> None:
    files = {"doejane_1_2_hw7.zip": ZIP, "leeann_LATE_3_4_hw7.zip": ZIP, "B06.zip": ZIP}
    write(tmp_path / "canvas", files)
    submissions = find_submissions(tmp_path / "canvas", roster=roster, layout="folders")
    assert {"B06"} <= all_right(submissions)
    submissions = find_submissions(tmp_path / "canvas", roster=roster)
    assert all_right(submissions) == {"B01", "B02"}
    assert set(submissions.not_taken) == {"B06.zip"}


def test_two_submissions_of_one_student_of_the_roster(tmp_path: Path, roster: Path) -> None:
    write(tmp_path / "class", {**under("Jane Doe/"), **under("B01/"), **under("B06/")})
    submissions = taken(find_submissions(tmp_path / "class", roster=roster))
    said(submissions["B01"], "2 submissions of this student")
    assert_right(submissions["B06"])


def test_nbgraders_ids_are_not_guessed(tmp_path: Path, roster: Path) -> None:
    write(tmp_path / "submitted", {**under("B01/hw7/"), **under("Eve Nix/hw7/")})
    submissions = find_submissions(tmp_path / "submitted", roster=roster)
    assert all_right(submissions) == {"B01", "Eve Nix"}
    assert submissions.strangers == ("Eve Nix",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no students"),
        ("id,name\nB01\n", "a line needs an id and a name, not 'B01'"),
        ("B01,Ann\nB01,Bob\n", "the id 'B01' twice"),
        ("B01,\xff", "cannot be read as CSV in UTF-8"),
    ],
)
def test_a_roster_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "roster.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(HW7Error, match=words):
        read_roster(tmp_path / "roster.csv")


def test_a_roster_s_columns_may_have_any_order(tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_text("Name,Section,ID\nAnn,1,B01\n")
    assert read_roster(tmp_path / "roster.csv") == {"B01": "Ann"}
    (tmp_path / "roster.csv").write_text("ada,Ann\nada ,Bob\n")
    assert read_roster(tmp_path / "roster.csv") == {"ada": "Ann", "ada ": "Bob"}


MARK = "_assignsubmission_file_"
FIRST, LATER = "_attempt_2020-05-01-12-30-00", "_attempt_2099-01-01-00-00-00"
DATE = "Oct 9, 2025 900 AM"


@pytest.mark.parametrize(
    ("layout", "jane", "eve"),
    [
        ("moodle", f"Jane Doe_12{MARK}hw7.zip", f"Eve Nix_7{MARK}x_101{MARK}hw7.zip"),
        ("moodle", f"Jane Doe_12{MARK}hw7.zip", f"Eve Nix_7{MARK}Jane Doe_12{MARK}hw7.zip"),
        ("moodle", f"Jane Doe_12{MARK}/", f"Eve Nix_7{MARK}x_101{MARK}/"),
        ("moodle", f"Jane Doe_12{MARK}/", f"Eve Nix_7_assignsubmission_onlinetext_Jane Doe_12{MARK}hw7.zip"),
        ("blackboard", f"HW7_101{FIRST}_hw7.zip", f"HW7_106{FIRST}_101{LATER}_hw7.zip"),
        ("blackboard", f"HW7_101{FIRST}_hw7.zip", f"HW7_106{FIRST}_HW7_101{LATER}.txt"),
        ("blackboard", f"HW7_101{FIRST}/", f"HW7_106{FIRST}_HW7_101{LATER}/"),
        ("canvas", "doejane_12_3_hw7.zip", "nixeve_7_4_doejane_12_9_hw7-9.zip"),
        ("d2l", f"12-1 - Jane Doe - {DATE} - hw7.zip", f"7-1 - Eve Nix - {DATE} - 12-1 - Jane Doe - {DATE} - hw7.zip"),
    ],
)
def test_what_a_student_writes_into_a_name_is_nobody_s_id(tmp_path: Path, layout: str, jane: str, eve: str) -> None:
    """The first mark is the platform's: what stands behind it moves no submission to somebody else, nor away."""
    (tmp_path / "roster.csv").write_text("id,name\n101,Jane Doe\n106,Eve Nix\n")
    root = tmp_path / "class"
    for name in (jane, eve):
        write(root, under(name) if name.endswith("/") else {name: ZIP})
    found = find_submissions(root, layout=layout, roster=tmp_path / "roster.csv")
    assert {each.student for each in found.found} == {"101", "106"}
    assert_right(taken(found)["101"])
    assert taken(found)["101"].remarks == ()


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("moodle", f"Eve Nix_7_assignsubmission_mahara_101{MARK}hw7.zip"),
        ("blackboard", f"HW7_106{FIRST}hw7_101{LATER}_hw7.zip"),
    ],
)
def test_a_name_with_a_strange_first_mark_is_listed(tmp_path: Path, layout: str, name: str) -> None:
    """It is not read by a later mark."""
    write(tmp_path, {f"Ann_1{MARK}hw7.zip": ZIP, f"HW7_ann{FIRST}_hw7.zip": ZIP, name: ZIP})
    found = find_submissions(tmp_path, layout=layout)
    assert len(found.found) == 1
    assert name in found.not_taken
