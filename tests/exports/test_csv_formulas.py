"""grades.csv in spreadsheets that take something else for the end of a cell: no text of a student becomes a formula."""

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import made_up_grades
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autograder.exports.csv_table import export_csv

SEPARATORS = (",", ";", "\t", "|", ":", " ")
QUOTES = ('"', None)
UNSEEN = "\u200b\ufeff\u115f\ufe0f\U000e0041"
SIGNS = tuple("=+-@＝＋－＠")


def cells(text: str) -> Iterator[str]:
    """Every cell that a spreadsheet may see."""
    for separator in SEPARATORS:
        for quote in QUOTES:
            quoting = csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL
            for row in csv.reader(io.StringIO(text), delimiter=separator, quotechar=quote, quoting=quoting):
                yield from row


def formulas(cell: str) -> bool:
    """A sign with something behind it, and nothing before it that is seen."""
    cell = "".join(char for char in cell if not char.isspace() and char not in UNSEEN)
    return cell.startswith(SIGNS) and len(cell) > 1


def written(folder: Path, name: str, remark: str) -> str:
    grade = replace(made_up_grades.grade(name), remarks=(remark,), problem="")
    return export_csv([grade], made_up_grades.RUBRIC, folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "a;=HYPERLINK(1)",
        "a;=1+1;b",
        "a\t=1+1",
        "a|+1+1",
        "a\n-1+1",
        "a\r@SUM(1)",
        "a ; ＝1",
        "a:=1+1",
        "a =cmd|' /C calc'!A0",
        'a";=1+1',
        "a';=1+1",
        "a,=1+1",
        '"=1+1"',
        "';'=1+1",
        "; ; = 1",
        "a\u00a0=1+1",
        "a\x1f=1+1",
        "a\u2028=1+1",
        "\ufeff=1+1",
        "\u200b=1+1",
        "a;\u115f=1+1",
        "a,\U000e0041\ufe0f -1+1",
    ],
)
def test_no_separator_makes_a_formula(tmp_path: Path, text: str) -> None:
    assert not [cell for cell in cells(written(tmp_path, text, "")) if formulas(cell)]
    assert not [cell for cell in cells(written(tmp_path, "ann", text)) if formulas(cell)]


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(st.text(st.sampled_from("ab1 ;,|\t\n\r:\"'=+-@＝\u00a0\u2003\0\u200b\ufeff\u115f.()"), min_size=1, max_size=12))
def test_no_text_makes_one(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert not [cell for cell in cells(written(folder, text, text)) if formulas(cell)]


@pytest.mark.parametrize(
    "name", ["Doe, Jane", "ann+hw7@x.edu", "Andre\u0301-Marie", "hw7 - Copy", "o'brien", " ada ", "a;b", "x=1", "2-1"]
)
def test_names_stay_as_they_are(tmp_path: Path, name: str) -> None:
    _, row = csv.reader(io.StringIO(written(tmp_path, name, name)))
    assert row[0] == name
