"""What is made from grades: whole, safe to hand out, and read back by those it is made for."""

import csv
import re
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_grades import HOSTILE, RUBRIC, TASKS, a_class, broken, grade

from autograder.cli import visible
from autograder.exports import EXPORTERS, export
from autograder.exports.common import (
    aligned,
    display_name,
    file_name,
    printable,
    student_id,
)
from autograder.grades import Grade
from autograder.intake.text import readable
from autograder.marks import points
from hw7 import HW7Error
from hw7.checks.cases import Verdict
from hw7.checks.mistakes import load_mistakes

REFERENCE = Path(__file__).resolve().parents[2] / "reference_solutions" / "hw7"


SECRET = "TEACHERS-ONLY"


MISTAKE = next(row.id for row in load_mistakes().values() if not row.diagnosed)


def one(made: Grade) -> Grade:
    return aligned([made], RUBRIC)[0]


# ---- what all exports share ------------------------------------------------------------------------------------------
def test_a_grade_gets_every_task_of_the_rubric_in_its_order() -> None:
    shuffled = replace(grade("a"), tasks=tuple(reversed(grade("a").tasks[3:])))
    made = one(shuffled)
    assert [task.task for task in made.tasks] == list(TASKS)
    assert made.out_of == 100
    assert [task.verdict for task in made.tasks[:4]] == [Verdict.MISSING] * 3 + [Verdict.RIGHT]
    assert one(broken("b", "no zip")).out_of == 100
    assert {part.outcome.message for task in one(broken("b", "no zip")).tasks for part in task.parts} == {"no zip"}


def test_grades_of_another_rubric_are_refused() -> None:
    made = grade("a")
    more = replace(made.tasks[0], parts=(replace(made.tasks[0].parts[0], out_of=50), *made.tasks[0].parts[1:]))
    unknown = replace(made.tasks[0], task="9.9")
    for tasks in ((more, *made.tasks[1:]), (*made.tasks, unknown)):
        with pytest.raises(HW7Error, match="'a' was graded under another rubric"):
            aligned([replace(made, tasks=tasks)], RUBRIC)


def test_two_grades_of_one_student_are_refused() -> None:
    with pytest.raises(HW7Error, match="two grades of 'a'"):
        aligned([grade("a"), grade("b"), grade("a", 0.5)], RUBRIC)


def test_every_export_is_made_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("nbgrader", reason="nbgrader, an optional extra, is not installed")
    for name in EXPORTERS:
        path = export(name, a_class(6), RUBRIC, tmp_path / name)
        assert path.exists()
        assert path.is_relative_to(tmp_path / name)
    with pytest.raises(HW7Error, match="no export to 'pdf'; there are csv, gradescope, nbgrader, html"):
        export("pdf", [], RUBRIC, tmp_path)


def test_file_names_are_safe_and_of_one_student_each() -> None:
    names = [
        *HOSTILE, "", ".", "..", "../../etc/passwd", "con", "a/b", "a\\b", "a" * 5000, "Ä", "A", "a", "李明", "李 明",
        "é", "e\u0301",
    ]  # fmt: skip
    made = [file_name(name) for name in names]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,60}", name) for name in made)
    assert len({name.lower() for name in made}) == len(names)
    assert file_name("Zoë Müller").startswith("zoe-muller-")


def test_a_student_is_shown_in_one_printable_line() -> None:
    assert display_name("Zoë Müller") == "Zoë Müller"
    strange = ["a\nb", "a\tb", "a b ", "a\ud800", "a\ud801", "a\ufffd", "\u202eab", ""]
    made = [display_name(name) for name in strange]
    assert len(set(made)) == len(strange)
    for name in made:
        name.encode()  # no lone surrogate is left
        assert name == printable(name)
        assert "\n" not in name
        assert name


# Of no width and no format: fillers of Hangul, marks of Mongolian, selectors, a blank of Braille.
FILLERS = "\u034f\u115f\u1160\u17b4\u180b\u180f\u2800\u3164\ufe00\ufe0f\uffa0\U000e0100\U000e01ef"
FORMATS = [char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char) == "Cf"]


def test_what_cannot_be_seen_is_replaced() -> None:
    assert len(FORMATS) > 150
    assert {"\u00ad", "\u200b", "\u200c", "\u200d", "\u200f", "\u061c", "\u2060", "\ufeff", "\U000e0041"} <= set(
        FORMATS
    )
    for char in (*FORMATS, *FILLERS, "\u2065", "\U000e01f0"):  # the last two: reserved for more of them
        assert printable(f"a{char}b") == "a\ufffdb", ascii(char)
        assert readable(f"a{char}b") == "a?b", ascii(char)
        assert visible(f"a{char}b").isascii(), ascii(char)
    for text in (
        "Zoë Müller",
        "Andre\u0301",
        "李 明",
        "علي رضا",
        "क्षत्रिय",
        "\U0001f980",
        "o’brien – 1½",
        "a\n\tb",
        "a\u3000b",
    ):
        assert printable(text) == text


def test_students_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    def seen(text: str) -> str:
        return "".join(char for char in text if char not in FILLERS and char not in FORMATS)

    names = ["adax", "ada\u200bx", "ada\u200fx", "ada\U000e0041x", "ada\ufe0fx", "\u115f", "\u3164", "\ufeffadax"]
    assert len({seen(display_name(name)) for name in names}) == len(names)
    path = export("csv", [grade(name) for name in names], RUBRIC, tmp_path)
    with path.open(encoding="utf-8", newline="") as file:
        assert len({seen(row[0]) for row in csv.reader(file)}) == len(names) + 1  # and the header


@pytest.mark.parametrize("name", ["\udcff\udcfe", "a\0b", "a\nb", "\u200b", "", " "])
def test_no_name_is_another_s_id(name: str) -> None:
    """A student may be called as another one is shown, hash and all, and a third as the second one is."""
    for shown in (display_name, student_id):
        names = [name]
        for _ in range(3):
            names.append(display_name(names[-1]))
        assert len(set(map(shown, names))) == len(names)


def test_a_student_s_id_is_the_name_byte_for_byte() -> None:
    for name in ("jose\u0301", "jos\u00e9", "ada ", " ada", "x  y", "a\nb", "\u202eab", "Zoë Müller"):
        assert student_id(name) == name
    for name in ("", "a\0b", "a\udcff"):  # no table can hold these
        assert student_id(name) == display_name(name)


def test_points_are_short() -> None:
    assert [points(value) for value in (100.0, 0.0, 2.5, 0.1 + 0.2, 1 / 3, 1e-17)] == [
        "100",
        "0",
        "2.5",
        "0.3",
        "0.33",
        "0",
    ]
