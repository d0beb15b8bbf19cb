"""The page: what stands on it, in both its forms, from results made up so that every cell is known."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_up_report import Pages, split
from PIL import Image, ImageOps
from tiny_reproduction import with_own

from hw7.data.source import Split
from hw7.report import ledger
from hw7.report.experiments import EXPERIMENTS
from hw7.report.plots import sample_sheet
from hw7.report.results import NOT_ASKED, NOT_YET
from hw7.solution import load_solution

Report = Callable[..., Pages]
OTHER_DATA = "say nothing about Food-11"


@pytest.fixture(scope="module")
def plates(report: Report) -> Pages:
    return report(accuracies={"student-c": 0.5, "student-e": 0.6, "student-d": 0.52, "student-weak": 0.4})


@pytest.fixture(scope="module")
def food11(report: Report) -> Pages:
    return report("food11:/data/<my> food", "full", accuracies={"student-c": 0.84, "student-e": 0.6})


@pytest.fixture(scope="module")
def partial(report: Report) -> Pages:
    return report(ids=["student-c"], classes=("<script>alert(1)</script>", "salt & pepper", 'a "quoted" one'))


# ---- the tables ------------------------------------------------------------------------------------------------


def test_printed_and_measured_stand_side_by_side(plates: Pages) -> None:
    teacher = plates.cells("ResNet-18, the teacher")
    assert teacher.count("11,182,155") == 2
    assert {"44,788,712", "43 MB, 11.1 M", "0.885", "75.0% ± 0.7", "0.55742", "0.625", "exact"} <= set(teacher)
    cnn = plates.cells("knowledge distillation")
    assert {"4.0890", "4.125"} <= set(cnn)  # the distillation loss, and not 0.625
    assert any(cell.startswith("impossible") for cell in cnn)
    student = plates.cells("c: student from scratch")
    assert {"83.10 %", "50.0% ± 0.9"} <= set(student)  # sqrt(0.5 * 0.5 / 3430)
    assert "46.2% ± 0.9" in student  # 0.4625, and sqrt(0.4625 * 0.5375 / 3430)


def test_the_table_of_every_figure(plates: Pages) -> None:
    figures = json.loads((plates.out / "results.json").read_text())["figures"]
    rows = {row[0]: row for row in plates.read.rows if row[0] in figures}
    assert rows.keys() == ledger.load().keys()
    assert rows["q2.c.accuracy"][2:5] == ["83.10 %", "0.5", "other data"]
    assert rows["q1.dwpw.parameters"][2:5] == ["1.4 M (1,454,603)", "1,454,603", "exact"]
    assert rows["q3.ladder.0.9"][3].replace("\n", " ") == "216,518 183,578 156,084 132,858 114,810"
    assert rows["q2.e.accuracy"][1].endswith(" [2]")  # the number of the contradiction that it is part of
    assert "2. Row e is 85.86 % in the text and 85.56 % in its table." in plates.text


def test_both_forms_have_the_same_tables(plates: Pages) -> None:
    def plain(cells: list[str]) -> tuple[str, ...]:
        return tuple(" ".join(cell.split()) for cell in cells)

    lines = [line for line in plates.markdown.splitlines() if line.startswith("|")]
    lines = [line for line in lines if not re.fullmatch(r"[|:\-]+", line)]
    assert [plain(line.strip("|").split("|")) for line in lines] == [plain(row) for row in plates.read.rows]


def test_the_sections_follow_the_report(plates: Pages) -> None:
    titles = re.findall(r"^## (.*)$", plates.markdown, re.MULTILINE)
    numbered = [title for title in titles if title.startswith("Question")]
    assert [title[:10] for title in numbered] == ["Question 1", "Question 2", "Question 3", "Question 4"]
    assert [title for title in titles if title not in plates.text] == []


def test_what_a_small_profile_does_to_a_question_stands_there_and_nowhere_else(plates: Pages, food11: Pages) -> None:
    for text in (plates.text, " ".join(plates.markdown.split())):
        assert re.search(r"Question 1: .* “Low-rank .*” is far from the report: deep and thin.* Question 2: ", text)
        assert re.search(r"Question 3: .* At this profile each step is fine-tuned for one epoch.* Question 4: ", text)
        assert "float32: in it the best epoch was chosen, and every accuracy measured" in text
    assert "far from the report" not in food11.text
    assert "At this profile" not in food11.text


# ---- whose accuracies they are ---------------------------------------------------------------------------------


def test_other_data_is_said_to_be_other_data(plates: Pages) -> None:
    assert OTHER_DATA in plates.text
    assert OTHER_DATA in plates.markdown
    assert "plates" in plates.text
    trained = [row for row in plates.read.rows if row[0].endswith((".accuracy", ".loss"))]
    assert len(trained) > 10
    assert {row[4] for row in trained} == {"other data"}


def test_food11_at_full_is_compared(food11: Pages) -> None:
    for text in (food11.text, food11.markdown):
        assert OTHER_DATA not in text
        assert "other data" not in text
    assert any(cell.startswith("agrees (+0.9 points") for cell in food11.cells("c: student from scratch"))
    assert any(cell.startswith("lower by 25.9 points") for cell in food11.cells("e: student distilled"))


@pytest.mark.usefixtures("words_only")
def test_what_a_verdict_on_accuracies_says_stands_beside_it_and_nowhere_else(
    report: Report, plates: Pages, food11: Pages
) -> None:
    """In the sections of the questions and of every figure; of question 2 and that one where only row c ran."""

    def sections(pages: Pages) -> list[str]:
        parts = pages.markdown.split("\n## ")
        assert pages.text.count("“agrees”") == pages.markdown.count("“agrees”")
        return [part.partition("\n")[0][:10] for part in parts if "“agrees”" in part]

    assert sections(food11) == ["Question 1", "Question 2", "Question 3", "Every figu"]
    assert sections(report("food11:/d", "full", ids=["student-c"])) == ["Question 2", "Every figu"]
    for said in ("same validation images", "another seed", "best of all their epochs"):
        assert said in food11.text
    for pages in (plates, report("food11:/d", "full", ids=[]), report("food11:/d", "quick", ids=["student-c"])):
        assert sections(pages) == []


@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize(
    ("source", "profile", "verdict", "sentence"),
    [
        ("food11:/d", "quick", "other recipe", "fewer epochs than the report's"),
        ("plates", "full", "other data", OTHER_DATA),
    ],
)
def test_half_the_conditions_are_not_enough(
    report: Report, source: str, profile: str, verdict: str, sentence: str
) -> None:
    pages = report(source, profile, ids=["student-c"])
    assert sentence in pages.text
    assert verdict in pages.cells("c: student from scratch")


# ---- the files -------------------------------------------------------------------------------------------------


def test_the_page_needs_no_other_file(plates: Pages, food11: Pages, partial: Pages) -> None:
    for pages in (plates, food11, partial):
        page = pages.read
        assert all(address.startswith("#") for address in page.addresses["href"])
        assert page.addresses["src"]
        assert all(address.startswith("data:image/") for address in page.addresses["src"])
        assert not page.elements & {"script", "link", "iframe", "object", "embed", "base"}
        assert not re.search(r"@import|url\(", pages.html)


def test_its_pictures_are_pictures(plates: Pages) -> None:
    kinds = []
    for address in plates.read.addresses["src"]:
        kind, _, data = address.partition(";base64,")
        picture = base64.b64decode(data, validate=True)
        kinds.append(kind)
        if kind == "data:image/svg+xml":
            tree = ElementTree.fromstring(picture)
            links = [value for e in tree.iter() for name, value in e.attrib.items() if name.endswith("href")]
            assert all(link.startswith("#") for link in links)
        else:
            Image.open(io.BytesIO(picture)).verify()
    assert kinds.count("data:image/svg+xml") >= 4  # curves, sizes, pruning
    assert kinds.count("data:image/png") == 1  # the sheet of samples


@pytest.mark.parametrize("name", ["plates", "partial"])
def test_every_picture_of_the_text_page_is_there(request: pytest.FixtureRequest, name: str) -> None:
    pages = request.getfixturevalue(name)
    links = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", pages.markdown)
    assert len(links) == len(pages.read.addresses["src"])
    assert [link for link in links if not (pages.out / link).is_file()] == []


def test_names_are_text_and_never_markup(partial: Pages, food11: Pages) -> None:
    assert "<script>" not in partial.html
    for name in ("<script>alert(1)</script>", "salt & pepper", 'a "quoted" one'):
        assert name in partial.text
    assert "<my>" not in food11.html
    assert "food11:/data/<my> food" in food11.text


def test_what_did_not_run_is_said_not_to_have_run(partial: Pages) -> None:
    assert "75.0% ± 0.7" in partial.cells("c: student from scratch")
    for title in ("a: teacher", "b: teacher", "d: student", "e: student"):
        assert NOT_YET in partial.cells(title)
    teacher = partial.cells("ResNet-18, the teacher")
    assert teacher.count("11,182,155") == 2  # counting needs no run
    assert NOT_YET in teacher
    figures = json.loads((partial.out / "results.json").read_text())["figures"]
    assert figures["q2.d.accuracy"]["verdict"] == "not measured"
    assert "Here, on" not in partial.text  # nobody to compare with


@pytest.mark.usefixtures("words_only")
def test_what_was_not_asked_for_is_not_said_to_come(report: Report) -> None:
    pages = report(ids=["student-c"], asked=["student-c", "student-e"])
    assert pages.cells("d: student")[2] == NOT_ASKED
    assert pages.cells("e: student")[2] == NOT_YET
    assert "1 of 2 done; not run yet: student-e" in pages.text
    rows = {row[0]: row for row in pages.read.rows}
    assert (rows["q2.d.accuracy"][3], rows["q2.e.accuracy"][3]) == (NOT_ASKED, NOT_YET)


ROWS = {  # how a row of an experiment begins in the tables of its question
    **{name: row.title for name, row in EXPERIMENTS.items()},
    "teacher-pretrained": "ResNet-18, the teacher", "small-resnet18": "“low-rank", "student-cnn": "knowledge distill",
    "student-net": "32 bit", "quantized-16": "16 bit", "quantized-8": "8 bit",
}  # fmt: skip
for name in ("pretraining", "prune-0.975", "prune-0.95", "prune-0.9"):  # which have no row of their own
    del ROWS[name]


@pytest.mark.usefixtures("words_only")
def test_the_page_of_a_reproduction_at_every_moment(report: Report) -> None:
    """After each experiment of the table, from none on: each has its numbers, or that it is not run yet."""
    names = list(EXPERIMENTS)
    for number in range(len(names) + 1):
        done, left = names[:number], names[number:]
        pages = report(ids=done)
        rows = [[" ".join(cell.split()) for cell in row] for row in pages.read.rows]
        of = {name: [row for row in rows if f"{row[0]} ".startswith((f"{title} ", f"{title[:20]}"))]
              for name, title in ROWS.items()}  # fmt: skip
        assert [name for name, found in of.items() if not found] == []
        assert [name for name, found in of.items() if any(NOT_YET in row for row in found)] == [
            name for name in of if name in left
        ]
        assert NOT_ASKED not in {cell for row in rows for cell in row}
        ends = dict(re.findall(r"Keep rate ([\d.]+): \d+ steps, exact; after the last: (\S+ \S+ \S+)", pages.text))
        assert {f"prune-{rate}": end == NOT_YET for rate, end in ends.items()} == {
            name: name in left for name in names if name.startswith("prune-")
        }
        progress = f"{number} of {len(names)} done"
        assert (f"{progress}; not run yet: {', '.join(left)}" if left else progress) in pages.text
        assert list(json.loads((pages.out / "results.json").read_text())["experiments"]) == done


def test_a_solution_with_tasks_that_are_not_done_yet_has_a_page(
    report: Report, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub = "def {}(*_, **__):\n    raise NotImplementedError('Task')"
    own = with_own(
        tmp_path, models=stub.format("small_resnet18"), pruning=stub.format("width_schedule"),
        quantization=stub.format("compress"),
    )  # fmt: skip
    pages = report(ids=["student-c"], own=own)
    assert "75.0% ± 0.7" in pages.cells("c: student from scratch")
    assert pages.cells("“low-rank")[3] == "cannot be counted"
    assert "11,182,155" in pages.text
    assert re.search(r"ResNet-18 with DW \+ PW: no table of its layers.* Task", pages.text)
    assert "Keep rate 0.9: 5 steps, not measured; after the last: not run yet" in pages.text
    sizes = (pages.out / "pictures" / "sizes.svg").read_text()
    assert "16 bit" in sizes
    assert "8 bit" not in sizes
    assert "ResNet-18 with DW + PW" not in sizes
    load_solution()  # for the tests that follow


# ---- the sheet of samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "side"),
    [(8, 96), (32, 96), (64, 64), (128, 128)],  # enlarged by a whole factor to at most 96
)
def test_the_sheet_has_a_row_for_each_class(size: int, side: int) -> None:
    """A name, black on white, and then the images."""
    drawn = split("training", ("a", "b", "a longer name"), size)
    with Image.open(io.BytesIO(sample_sheet(drawn, each=4))) as sheet:
        assert sheet.format == "PNG"
        width, height = 4 * side + 3 * 2, 3 * side + 2 * 2
        assert sheet.height == height
        left = sheet.width - width
        assert 0 < left < width
        for label in range(3):
            top = label * (side + 2)
            assert sheet.getpixel((left, top)) == (10 * label + 5, 0, 0)
            assert sheet.getpixel((left + side - 1, top + side - 1)) == (10 * label + 5, 0, 0)
            assert sheet.getpixel((left + side + 2, top)) == (10 * label + 5, 0, 0)
            assert sheet.getpixel((left + side, top)) == (255, 255, 255)  # the gap
            assert sheet.getpixel((left + 2 * (side + 2), top)) == (255, 255, 255)  # a class has two images only
        inked = [sheet.crop((0, label * (side + 2), left, label * (side + 2) + side)) for label in range(3)]
        ends = [ImageOps.invert(name.convert("L")).getbbox() for name in inked]
        assert all(ends)
        assert ends[2][2] > 3 * ends[0][2]  # type: ignore[index]


def test_the_sheet_of_images_without_labels() -> None:
    drawn = split("testing", ("a", "b", "c"), 96)
    unknown = Split(drawn.images, torch.full((6,), -1), drawn.classes, drawn.source, drawn.name)
    with Image.open(io.BytesIO(sample_sheet(unknown, each=4))) as sheet:
        assert sheet.size == (4 * 96 + 3 * 2, 2 * 96 + 2)
        assert [sheet.getpixel((98 * x, 0))[0] for x in range(4)] == [5, 15, 25, 5]  # type: ignore[index]
        assert sheet.getpixel((0, 98)) == (15, 0, 0)
