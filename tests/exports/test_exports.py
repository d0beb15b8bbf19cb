"""What is made from grades: whole, safe to hand out, and read back by those it is made for."""

import csv
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_up_grades import HOSTILE, RUBRIC, TASKS, a_class, broken, grade, hostile

from autograder.course import gradescope_image
from autograder.course.gradescope_image import build_image
from autograder.exports import EXPORTERS, export
from autograder.exports.common import (
    aligned,
    display_name,
    file_name,
    known,
    points,
    printable,
    student_id,
)
from autograder.exports.gradescope import export_gradescope, failed, results
from autograder.exports.html import ADVICE, class_page, export_html, histogram, next_steps, student_page
from autograder.grades import Grade
from autograder.intake.layouts import find_submissions
from hw7 import HW7Error
from hw7.checks.cases import Outcome, Verdict
from hw7.checks.mistakes import load_mistakes

REFERENCE = Path(__file__).resolve().parents[2] / "reference_solutions" / "hw7"
SECRET = "TEACHERS-ONLY"
MISTAKE = next(iter(load_mistakes()))


class Page(HTMLParser):
    """A page's elements, attributes, and text outside of style and script."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def row(self, start: str) -> list[str]:
        return next([" ".join(cell.split()) for cell in row] for row in self.rows if row[0].strip().startswith(start))


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


# ---- pages -----------------------------------------------------------------------------------------------------------


def test_a_students_page_says_what_was_asked_expected_and_got() -> None:
    made = one(grade("Zoë", 0.0))
    page = Page(student_page(made))
    assert page.row("2.1")[:2] == ["2.1 Distillation loss", "0 of 14"]
    assert page.row("2.1")[-1] == "wrong"
    for word in ("Zoë", "11 classes, T = 2", "0.693147", "0.063013", "Some values differ.", ADVICE[Verdict.WRONG]):
        assert word in page.text
    for question in made.manual:
        assert f"{question}: to be graded by hand" in page.text


def test_a_page_has_every_task_and_its_points() -> None:
    for made in map(one, a_class(12)):
        page = Page(student_page(made))
        for task in made.tasks:
            cells = page.row(task.task)
            assert cells[1] == f"{points(task.points)} of {points(task.out_of)}"
            assert cells[-1] == ("not graded" if made.problem else task.verdict.lower())


def test_the_hint_of_a_known_mistake_is_told_once() -> None:
    row = known(MISTAKE)
    assert row is not None
    made = grade("a")
    outcome = Outcome(Verdict.WRONG, "It differs.", mistake=MISTAKE)

    def page(message: str) -> str:
        first, *others = made.tasks[3].parts
        wrong = replace(first, outcome=replace(outcome, message=message))
        task = replace(made.tasks[3], parts=(wrong, *others))
        made_wrong = one(replace(made, tasks=(*made.tasks[:3], task, *made.tasks[4:])))
        return Page(student_page(made_wrong)).text.partition("Scores by task")[2]

    hint = " ".join(row.hint.split())
    assert page("It differs.").count(hint) == 1
    assert page(f"{row.title} {row.hint}").count(hint) == 1  # a judge may have said it


def test_what_to_do_next_is_what_gains_most_in_the_order_of_the_tasks() -> None:
    steps = next_steps(one(grade("a", 0.0)))
    assert [step.task.task for step in steps] == ["2.1", "2.2", "3.3"]  # 14, 10 and 12 points
    assert [step.gain for step in steps] == [14, 10, 12]
    assert next_steps(one(grade("a"))) == []
    assert "every automatic check is right" in Page(student_page(one(grade("a")))).text


def test_what_could_not_be_graded_says_why_and_nothing_else() -> None:
    page = Page(student_page(one(replace(broken("a", "The <zip> is damaged."), remarks=("x.txt was ignored",)))))
    assert "could not be graded" in page.text
    assert "The <zip> is damaged." in page.text
    assert "x.txt was ignored" in page.text
    assert not any(advice in page.text for advice in ADVICE.values())


def test_a_grade_without_a_jail_is_called_unofficial() -> None:
    assert "Not an official grade" in student_page(one(replace(grade("a"), tier="D")))
    assert "Not an official grade" not in student_page(one(grade("a")))


def test_what_is_for_teachers_is_on_the_class_page_alone() -> None:
    everything = [one(grade("a", 0.0, (Verdict.CRASH,))), *(one(hostile(text)) for text in HOSTILE)]
    for made in everything:
        assert SECRET not in student_page(made)
    text = Page(class_page([everything[0]], RUBRIC)).text
    assert f"{SECRET}: CRASH in structure" in text
    assert f"{SECRET}: printed by student code" in text


def test_no_text_becomes_markup() -> None:
    plain = {True: Page(class_page([one(hostile("word"))], RUBRIC)), False: Page(student_page(one(hostile("word"))))}
    for text in HOSTILE:
        made = one(hostile(text))
        for is_class, content in ((True, class_page([made], RUBRIC)), (False, student_page(made))):
            page = Page(content)
            assert page.elements == plain[is_class].elements
            # Of the student's own text, no attribute but the class page's link to the student's page is made.
            same = [a for a in plain[is_class].attributes if a[1] != "href"]
            assert [a for a in page.attributes if a[1] != "href"] == same
            assert " ".join(printable(text).split()) in page.text
            content.encode()


def test_pages_load_and_run_nothing() -> None:
    for text in (student_page(one(hostile(HOSTILE[0]))), class_page([one(hostile(HOSTILE[0]))], RUBRIC)):
        page = Page(text)
        (policy,) = [value for tag, name, value in page.attributes if value.startswith("default-src")]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
        assert "src" not in {name for _, name, _ in page.attributes}
        addresses = [value for _, name, value in page.attributes if name == "href"]
        assert all(re.fullmatch(r"#\w[\w-]*|students/[a-z0-9-]+\.html", address) for address in addresses)
        assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.elements)
        assert not re.search(r"@import|url\(|\son\w+=", re.sub(r"&\w+;|&#\d+;.*?<", "", text))
    assert "script" not in Page(student_page(one(grade("a")))).elements


def test_links_within_a_page_lead_somewhere() -> None:
    for made in map(one, [*a_class(12), hostile(HOSTILE[0])]):
        attributes = Page(student_page(made)).attributes
        places = {value for _, name, value in attributes if name == "id"}
        assert {value[1:] for _, name, value in attributes if name == "href"} <= places


def test_tables_have_headers_with_scope() -> None:
    for text in (student_page(one(grade("a", 0.5))), class_page(aligned(a_class(12), RUBRIC), RUBRIC)):
        page = Page(text)
        scopes = [value for tag, name, value in page.attributes if tag == "th" and name == "scope"]
        assert len(scopes) == page.elements.count("th")
        assert {"col", "row"} <= set(scopes)


def luminance(colour: str) -> float:
    """WCAG's relative luminance of #rrggbb."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_can_be_read_by_day_and_night() -> None:
    style = student_page(one(grade("a"))).partition("</style>")[0]
    day, night = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split("prefers-color-scheme: dark"))
    assert night.keys() <= day.keys()
    for colours in (day, day | night):
        for ink in ("ink", "soft", "accent", "good", "bad", "some"):
            for paper in ("paper", "card", "hover"):
                light, dark = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, paper)  # WCAG 2, level AA
        for paper in ("tint-bad", "tint-some"):
            light, dark = sorted((luminance(colours["ink"]), luminance(colours[paper])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, paper


def test_the_class_page_counts_right() -> None:
    grades = aligned(
        [grade("all"), grade("none", 0.0), broken("broken"), grade("crash", 0.0, (Verdict.CRASH,))], RUBRIC
    )
    page = Page(class_page(grades, RUBRIC))
    assert page.row("2.1") == ["2.1 Distillation loss", "3.5 of 14", "", "1", "0", "3"]
    assert page.rows[-2][:2] == ["crash", "0"]  # the table of students is the last one
    (histogram,) = [value for tag, name, value in page.attributes if value.startswith("Histogram")]
    assert histogram.split(". ")[1:] == ["0 to 4 percent: 3", "95 to 100 percent: 1", ""]
    assert "broken" in page.text.partition("To look at by hand")[2].partition("Students Press")[0]


def test_a_total_is_counted_in_the_bin_it_belongs_to() -> None:
    bars = histogram([0, 4.999, 5, 29.999999999999996, 99.9, 100])
    assert {(bar.low, bar.high): bar.count for bar in bars if bar.count} == {
        (0, 4): 2,
        (5, 9): 1,
        (30, 34): 1,
        (95, 100): 2,
    }


def test_the_most_frequent_mistakes_come_first_with_their_hints() -> None:
    row = known(MISTAKE)
    assert row is not None
    made = grade("x", 0.0)
    # Twice in one task: counted once.
    parts = tuple(replace(part, outcome=replace(part.outcome, mistake=MISTAKE)) for part in made.tasks[3].parts)
    tasks = (*made.tasks[:3], replace(made.tasks[3], parts=parts), *made.tasks[4:])
    grades = aligned([replace(made, student=name, tasks=tasks) for name in "abc"] + [grade("d")], RUBRIC)
    page = Page(class_page(grades, RUBRIC))
    first = next(r for r in page.rows if "2.1" in r[1:2])
    assert first[0] == "3"
    assert " ".join(first[2].split()).startswith(" ".join(row.title.split()))
    assert " ".join(row.hint.split()) in " ".join(first[2].split())


def test_pages_of_nobody_and_of_different_graders() -> None:
    assert "There are no grades yet." in Page(class_page([], RUBRIC)).text
    grades = aligned([grade("a"), replace(grade("b"), grader="3" * 64, tier="D")], RUBRIC)
    text = Page(class_page(grades, RUBRIC)).text
    assert "not all of one grader" in text
    assert "not all of one tier" in text
    assert "not all of one" not in Page(class_page(grades[:1], RUBRIC)).text


def test_every_student_has_a_page_that_the_class_page_leads_to(tmp_path: Path) -> None:
    grades = [*a_class(12), *(hostile(text) for text in HOSTILE)]
    page = export_html(grades, RUBRIC, tmp_path / "pages")
    assert page == tmp_path / "pages" / "class.html"
    links = {v for t, n, v in Page(page.read_text("utf-8")).attributes if n == "href" and not v.startswith("#")}
    files = {f"students/{path.name}" for path in (page.parent / "students").iterdir()}
    assert links == files
    assert len(files) == len(grades)
    before = {path: path.read_bytes() for path in page.parent.rglob("*.html")}
    export_html(list(reversed(grades)), RUBRIC, page.parent)
    assert before == {path: path.read_bytes() for path in page.parent.rglob("*.html")}


# ---- Gradescope ------------------------------------------------------------------------------------------------------


def test_gradescope_gets_a_visible_test_for_each_task() -> None:
    made = one(grade("a", 0.5))
    given = results(made)
    visible = [test for test in given["tests"] if test["visibility"] == "visible"]
    assert [test["number"] for test in visible] == list(TASKS)
    assert sum(test["score"] for test in visible) == pytest.approx(made.total, abs=1e-6)  # rounded to six decimals
    assert given["score"] == pytest.approx(made.total, abs=1e-6)
    assert sum(test["max_score"] for test in visible) == 100
    for test, task in zip(visible, made.tasks, strict=True):
        assert test["status"] == ("passed" if task.verdict is Verdict.RIGHT else "failed")
    assert given["stdout_visibility"] == "hidden"


def test_gradescope_shows_students_nothing_that_is_for_teachers() -> None:
    for made in (one(grade("a", 0.0)), *(one(hostile(text)) for text in HOSTILE)):
        given = results(made)
        hidden = [test for test in given["tests"] if test["visibility"] == "hidden"]
        assert len(hidden) == 1
        assert SECRET in hidden[0]["output"]
        shown = {**given, "tests": [test for test in given["tests"] if test["visibility"] == "visible"]}
        assert SECRET not in json.dumps(shown)
    assert all(test["visibility"] == "visible" for test in results(one(grade("a")))["tests"])


def test_gradescope_files_are_strict_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    grades = [*a_class(12), *(hostile(text) for text in HOSTILE), broken("b")][:-1]
    out = export_gradescope(grades, RUBRIC, tmp_path / "all")
    files = sorted(out.iterdir())
    assert len(files) == len(grades)
    for path in files:
        json.loads(path.read_text("utf-8"), parse_constant=refuse)
    single = export_gradescope([broken("b", "no zip")], RUBRIC, tmp_path / "results.json")
    given = json.loads(single.read_text("utf-8"))
    assert single == tmp_path / "results.json"
    assert given["score"] == 0
    assert "no zip" in given["output"]
    json.dumps(failed("message", 100, "why \ud800"), allow_nan=False).encode()


# ---- nbgrader --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nbgrader() -> Callable[..., Path]:
    pytest.importorskip("nbgrader", reason="nbgrader, an optional extra, is not installed")
    from autograder.exports.nbgrader import export_nbgrader

    return export_nbgrader


def exported(gradebook: Path) -> dict[str, dict[str, str]]:
    """What nbgrader's own export says of each student."""
    csv_file = gradebook.with_suffix(".csv")
    command = [sys.executable, "-m", "nbgrader", "export", "--db", f"sqlite:///{gradebook}", "--to", str(csv_file)]
    subprocess.run(command, check=True, capture_output=True, cwd=gradebook.parent)
    with csv_file.open(newline="") as file:
        return {row["student_id"]: row for row in csv.DictReader(file)}


@pytest.mark.slow  # nbgrader takes its time to read them back
def test_nbgrader_exports_a_thousand_students_again(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    grades = a_class(1000)
    gradebook = nbgrader(grades, RUBRIC, tmp_path)
    assert gradebook == tmp_path / "gradebook.db"
    rows = exported(gradebook)
    assert len(rows) == 1000
    for made in grades:
        row = rows[made.student]
        assert row["assignment"] == "hw7"
        assert float(row["score"]) == pytest.approx(made.total, abs=1e-4)  # sums of scores with six decimals
        assert float(row["max_score"]) == 100


def test_nbgraders_own_api_reads_the_scores_by_task(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    made = one(grade("a", 0.5))
    with Gradebook(f"sqlite:///{nbgrader([made, grade('b')], RUBRIC, tmp_path / 'g.db')}") as gradebook:
        for task in made.tasks:
            cell = gradebook.find_grade(f"task-{task.task.replace('.', '-')}", "hw7", "hw7", "a")
            assert cell.score == pytest.approx(task.points)
            assert cell.max_score == task.out_of
            assert cell.needs_manual_grade is False
        # What the formgrader's tables of assignments, students and submissions are made of.
        assert gradebook.average_assignment_score("hw7") == pytest.approx((made.total + 100) / 2)
        assert [s["max_score"] for s in gradebook.submission_dicts("hw7")] == [100, 100]
        assert {s["id"]: s["score"] for s in gradebook.student_dicts()} == pytest.approx({"a": made.total, "b": 100})
        assert len(gradebook.notebook_submission_dicts("hw7", "hw7")) == 2


def test_again_updates_and_keeps_what_a_person_wrote(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    from nbgrader.api import Comment, Grade, Gradebook

    path = nbgrader([grade("a", 0.0), grade("b", 0.5)], RUBRIC, tmp_path)
    with Gradebook(f"sqlite:///{path}") as gradebook:
        overruled = gradebook.find_grade("task-2-1", "hw7", "hw7", "a")
        overruled.manual_score, overruled.extra_credit, overruled.needs_manual_grade = 7.0, 1.5, False
        count = gradebook.db.query(Grade).count()
        gradebook.db.commit()

    for _ in range(2):  # another grade of a, the same of b, and one more student
        nbgrader([grade("a"), grade("b", 0.5), grade("c")], RUBRIC, tmp_path)
        with Gradebook(f"sqlite:///{path}") as gradebook:
            overruled = gradebook.find_grade("task-2-1", "hw7", "hw7", "a")
            assert (overruled.auto_score, overruled.manual_score, overruled.extra_credit) == (14.0, 7.0, 1.5)
            assert overruled.needs_manual_grade  # the automatic score under it is another one now
            assert gradebook.find_submission("hw7", "a").score == 100 - 14 + 7 + 1.5
            assert gradebook.find_submission("hw7", "b").score == pytest.approx(one(grade("b", 0.5)).total)
            assert gradebook.db.query(Grade).count() == count * 3 // 2
            assert gradebook.db.query(Comment).count() == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")  # of nbgrader's own way to add a submission
def test_it_joins_an_assignment_that_nbgrader_made(
    nbgrader: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbgrader.api import Gradebook

    # Where nbgrader itself makes the file, it runs `alembic` by its bare name.
    monkeypatch.setenv("PATH", sysconfig.get_path("scripts"), prepend=os.pathsep)
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as gradebook:
        gradebook.add_assignment("hw7")
        gradebook.add_notebook("hw7", "hw7")
        gradebook.add_grade_cell("task-2-1", "hw7", "hw7", max_score=1, cell_type="code")
        gradebook.add_grade_cell("question-1", "hw7", "hw7", max_score=10, cell_type="markdown")
        gradebook.add_solution_cell("question-1", "hw7", "hw7")
        gradebook.add_student("early", first_name="E")
        gradebook.add_submission("hw7", "early")
        gradebook.find_grade("question-1", "hw7", "hw7", "early").manual_score = 8.0
        gradebook.db.commit()

    path = nbgrader([grade("early"), grade("late")], RUBRIC, tmp_path)
    with Gradebook(f"sqlite:///{path}") as gradebook:
        assert gradebook.find_assignment("hw7").max_score == 110
        assert gradebook.find_grade("task-2-1", "hw7", "hw7", "early").max_score == 14  # the rubric's
        assert gradebook.find_submission("hw7", "early").score == 108
        assert gradebook.find_student("early").first_name == "E"
        question = gradebook.find_grade("question-1", "hw7", "hw7", "late")  # there for a person to fill in
        assert question.score == 0
        assert question.needs_manual_grade
        assert gradebook.find_comment("question-1", "hw7", "hw7", "late").comment is None


def test_hostile_students_have_grades_as_well(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    from nbgrader.api import Gradebook

    names = [*HOSTILE, "x'; DROP TABLE student; --", "a\nb", "a b"]
    with Gradebook(f"sqlite:///{nbgrader([grade(name) for name in names], RUBRIC, tmp_path)}") as gradebook:
        assert {s["student"]: s["score"] for s in gradebook.submission_dicts("hw7")} == {
            student_id(name): 100 for name in names
        }


def test_an_nbgrader_student_s_points_reach_nobody_else(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    """From the folder's name to the gradebook's row: accents of one or two characters, spaces at the end, in pairs."""
    from nbgrader.api import Gradebook

    names = ["jose\u0301", "jos\u00e9", "ada", "ada ", "x y", "x  y"]
    for name in names:
        (tmp_path / "submitted" / name / "hw7" / "solution").mkdir(parents=True)
    found = find_submissions(tmp_path / "submitted").found
    grades = {each.student: grade(each.student, 0.5) for each in found}
    nbgrader([grade(name, 0.0) for name in names], RUBRIC, tmp_path)
    with Gradebook(f"sqlite:///{nbgrader(list(grades.values()), RUBRIC, tmp_path)}") as gradebook:
        scores = {row["student"]: row["score"] for row in gradebook.submission_dicts("hw7")}
        assert scores == pytest.approx({name: grades[name].total for name in names})
        assert len(gradebook.students) == len(names)


def test_what_is_no_gradebook_is_said_to_be_none(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    other = tmp_path / "notes.db"
    other.write_text("these are my notes, and they are worth more than any grade " * 30)
    before = other.read_bytes()
    with pytest.raises(HW7Error, match=r"notes\.db cannot be written"):
        nbgrader([grade("a")], RUBRIC, other)
    assert other.read_bytes() == before


@pytest.mark.slow
def test_a_failed_export_changes_no_grade(nbgrader: Callable[..., Path], tmp_path: Path) -> None:
    path = nbgrader([grade("a", 0.5), grade("b")], RUBRIC, tmp_path)
    before = exported(path)
    with pytest.raises(HW7Error, match="another rubric"):
        nbgrader([grade("a"), replace(grade("b"), tasks=(replace(grade("b").tasks[0], task="9.9"),))], RUBRIC, tmp_path)
    assert exported(path) == before


# ---- the image for Gradescope ----------------------------------------------------------------------------------------


def unpacked(image: Path, root: Path) -> Path:
    """What Gradescope makes of the zip: ROOT/source, with its modes, and an empty ROOT/submission."""
    with zipfile.ZipFile(image) as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, root / "source"))
            path.chmod(entry.external_attr >> 16 & 0o777)
    (root / "submission").mkdir()
    return root


def graded_there(root: Path) -> dict[str, Any]:
    """results.json after Gradescope's call, on this machine's Python."""
    environment = {**os.environ, "AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": sys.executable}
    subprocess.run([root / "source" / "run_autograder"], check=True, env=environment, capture_output=True)
    given = json.loads((root / "results" / "results.json").read_text("utf-8"))
    assert isinstance(given, dict)
    return given


def test_two_builds_with_one_seed_are_the_same_bytes(tmp_path: Path) -> None:
    first, second, other = (
        build_image(tmp_path / f"{n}.zip", seed=seed) for n, seed in enumerate(("one", "one", None))
    )
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_the_image_has_what_gradescope_calls_and_no_answers(tmp_path: Path) -> None:
    root = unpacked(build_image(tmp_path / "image.zip"), tmp_path)
    source = root / "source"
    for name in ("setup.sh", "run_autograder"):
        assert os.access(source / name, os.X_OK)
        subprocess.run(["bash", "-n", source / name], check=True)
    assert stat.S_IMODE((source / "hidden-seed").stat().st_mode) == 0o600
    assert len((source / "hidden-seed").read_text().strip()) == 32  # 128 bits
    assert (source / "project" / "hw7" / "checks" / "cases.py").exists()
    assert (source / "project" / "autograder" / "exports" / "templates" / "student.html.j2").exists()
    files = [path for path in source.rglob("*") if path.is_file()]
    assert not [path for path in files if "solution" in path.parts or path.suffix in (".pyc", ".safetensors")]


def test_an_image_made_on_windows_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git has written Windows' line ends into the checkout."""
    usual = build_image(tmp_path / "usual.zip", seed="a-seed").read_bytes()
    for name in gradescope_image.FILES + gradescope_image.PACKAGES:
        source = gradescope_image.PROJECT / name
        for path in [source] if source.is_file() else source.rglob("*"):
            if path.suffix != ".pyc" and path.is_file():
                target = tmp_path / "checkout" / path.relative_to(gradescope_image.PROJECT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    monkeypatch.setattr(gradescope_image, "PROJECT", tmp_path / "checkout")
    rubric = tmp_path / "checkout" / "autograder" / "rubric.toml"
    assert build_image(tmp_path / "windows.zip", rubric, seed="a-seed").read_bytes() == usual


def test_an_image_needs_a_whole_rubric_and_data_that_can_be_drawn(tmp_path: Path) -> None:
    rubric = tmp_path / "rubric.toml"
    rubric.write_text("[[task]\n")
    with pytest.raises(HW7Error, match="is not TOML"):
        build_image(tmp_path / "image.zip", rubric=rubric)
    with pytest.raises(HW7Error, match="only plates can be drawn there"):
        build_image(tmp_path / "image.zip", data="food11:/data")
    assert not (tmp_path / "image.zip").exists()


def test_results_are_there_even_where_the_grader_fails(tmp_path: Path) -> None:
    root = unpacked(build_image(tmp_path / "image.zip", seed="a-secret-seed"), tmp_path)
    (root / "source" / "rubric.toml").write_text("this is no rubric")
    given = graded_there(root)
    assert given["score"] == 0
    (hidden,) = [test for test in given["tests"] if test["visibility"] == "hidden"]
    assert "is not TOML" in hidden["output"]
    assert "tell your teacher" in given["output"]
    assert "a-secret-seed" not in json.dumps(given)

    (root / "results" / "results.json").unlink()
    environment = {**os.environ, "AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": "/bin/false"}
    subprocess.run([root / "source" / "run_autograder"], check=True, env=environment)
    assert json.loads((root / "results" / "results.json").read_text("utf-8"))["score"] == 0


@pytest.mark.slow  # two cold starts of the whole grader
def test_the_image_grades_what_was_handed_in(tmp_path: Path) -> None:
    root = unpacked(build_image(tmp_path / "image.zip", seed="a-secret-seed"), tmp_path)
    (root / "submission" / "hw7.zip").write_bytes(b"PK\x03\x04 and then nothing that a zip has")
    broken_zip = graded_there(root)
    assert broken_zip["score"] == 0
    assert "could not be graded" in broken_zip["output"]

    (root / "submission" / "hw7.zip").unlink()
    shutil.copytree(REFERENCE, root / "submission", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    right = graded_there(root)
    assert right["score"] == 100, right
    assert {test["status"] for test in right["tests"] if test["visibility"] == "visible"} == {"passed"}
    assert "a-secret-seed" not in json.dumps([broken_zip, right])
