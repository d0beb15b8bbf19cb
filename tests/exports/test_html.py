"""Pages for students and teachers: what they say, and that no text in them becomes markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from made_up_grades import HOSTILE, RUBRIC, a_class, broken, decided, grade, hostile
from test_exports import MISTAKE, SECRET, one

from autograder.exports.common import (
    aligned,
    known,
    printable,
)
from autograder.exports.html import ADVICE, class_page, export_html, histogram, next_steps, student_page
from autograder.grades import TaskGrade
from autograder.marks import points
from hw7.checks.cases import Outcome, Verdict
from hw7.checks.outcomes import NOT_IMPORTED


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
    assert [[task.task for task in step.tasks] for step in steps] == [["2.1"], ["2.2"], ["3.3"]]  # 14, 10, 12 points
    assert [step.gain for step in steps] == [14, 10, 12]
    assert next_steps(one(grade("a"))) == []
    assert "every automatic check is right" in Page(student_page(one(grade("a")))).text


def test_a_module_that_cannot_be_imported_is_one_step_for_all_its_tasks() -> None:
    def not_imported(task: TaskGrade) -> TaskGrade:
        outcome = Outcome(Verdict.CRASH, "losses.py cannot be imported: line 3, invalid syntax.", mistake=NOT_IMPORTED)
        parts = tuple(replace(part, outcome=outcome) for part in task.parts)
        return replace(task, parts=parts) if task.task in ("2.1", "2.2") else task

    made = one(grade("a"))
    made = replace(made, tasks=tuple(map(not_imported, made.tasks)))
    (step,) = next_steps(made)
    assert ([task.task for task in step.tasks], step.gain) == (["2.1", "2.2"], 24)
    page = Page(student_page(made)).text
    assert page.partition("Scores by task")[0].count(step.text) == 1
    assert not any(advice in page for advice in ADVICE.values())


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
    word = decided(hostile("word"), "word")
    plain = {True: Page(class_page([word], RUBRIC)), False: Page(student_page(word))}
    for text in HOSTILE:
        made = decided(hostile(text), text)
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
