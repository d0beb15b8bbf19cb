"""Every item of the report is found on the page: figures, tables, formulas, settings, curves, conclusions.

What is not there is listed on it as not reproduced, with the reason.
"""

import html
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from made_up_report import EPOCHS, Pages

from hw7 import measure
from hw7.models import StudentNet
from hw7.report import ledger
from hw7.report.blocks import cell
from hw7.report.experiments import EXPERIMENTS, NETWORKS
from hw7.report.findings import FINDINGS, SWITCH, packed
from hw7.report.profiles import PROFILES
from hw7.solution import load_solution
from hw7.support.files import read_json, write_json

Report = Callable[..., Pages]
VERDICTS = ("yes", "no", "undecided", "not measured")
TWO_PHASES = (*EPOCHS, *({**epoch, "optimizer": "sgd"} for epoch in EPOCHS[:2]))


@pytest.fixture(scope="module")
def whole(report: Report) -> Pages:
    return report()


@pytest.fixture(scope="module")
def full(report: Report) -> Pages:
    """On the report's own data, with its two optimizers."""
    switched = {"at_switch": {"before": 0.7, "after": 0.8}}
    changes = dict.fromkeys(("student-c", "student-d", "student-e"), switched)
    return report("food11:/d", "full", history=TWO_PHASES, changes=changes)


def sections(pages: Pages) -> dict[str, str]:
    """The sections' HTML by their titles."""
    parts = re.split(r"<h2>", pages.html)[1:]
    return {html.unescape(part.partition("</h2>")[0]): part for part in parts}


def section(pages: Pages, start: str) -> str:
    (found,) = (text for title, text in sections(pages).items() if title.startswith(start))
    return found


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())


def folded(pages: Pages, start: str) -> tuple[str, str]:
    """The summary and the inside of what is folded under a summary that begins so."""
    found = re.findall(r"<details><summary>(.*?)</summary>(.*?)</details>", pages.html, re.DOTALL)
    ((summary, inside),) = ((html.unescape(s), i) for s, i in found if html.unescape(s).startswith(start))
    return summary, inside


def rows(text: str) -> list[list[str]]:
    lines = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)
    return [[words(each) for each in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.DOTALL)] for line in lines]


# ---- figures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", ledger.load().values(), ids=list(ledger.load()))
def test_every_figure_stands_as_it_was_printed(whole: Pages, figure: ledger.Figure) -> None:
    (row,) = (row for row in rows(section(whole, "Every figure")) if row[0] == figure.id)
    assert row[1].startswith(figure.what)
    assert (figure.printed or cell(figure.value)) in row[2]
    assert row[4]
    if figure.contradictions:
        assert row[1].endswith(f"[{', '.join(map(str, figure.contradictions))}]")


def test_the_tables_of_the_questions_have_printed_beside_measured(full: Pages) -> None:
    for question in ("1", "2", "3"):
        cells = [each for row in rows(section(full, f"Question {question}")) for each in row]
        trained = [f for f in ledger.load().values() if f.question == question and f.obtained == "training"]
        assert [f.id for f in trained if not any(f.printed in each for each in cells)] == []
    assert {"1,047,430", "522,958", "268,472", ".81315", ".81347", ".80791"} <= set(
        cells
    )  # the course's, in question 3


def test_the_contradictions_stand_there_word_for_word(whole: Pages) -> None:
    for contradiction in ledger.whole().contradictions:
        assert f"{contradiction.number}. {contradiction.text}" in words(section(whole, "Where the report"))


# ---- structures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "title", "total"),
    [
        ("teacher", "ResNet-18, the teacher", "11,182,155"),
        ("small_resnet18", "ResNet-18 with DW + PW", "1,454,603"),
        ("student_cnn", "CNN student", "1,720,107"),
    ],
)
def test_the_layer_tables_of_question_1(whole: Pages, network: str, title: str, total: str) -> None:
    """Folded, with the total in sight; every layer with its output and its parameters, which add up."""
    summary, inside = folded(whole, f"{title}:")
    assert total in summary
    head, *layers, last = rows(inside)
    assert head == ["layer", "module", "output shape", "parameters"]
    assert (last[0], last[3]) == ("total", total)
    assert sum(int(layer[3].replace(",", "")) for layer in layers) == int(total.replace(",", ""))
    table = measure.layer_table(NETWORKS[network](load_solution(), 11), (3, 128, 128))
    assert [layer[1] for layer in layers] == [row.name for row in table]
    assert layers[0][2].endswith("× 64 × 64")  # where the report's tables start
    assert layers[0][0] == "Conv2d-1"


def test_the_layer_table_of_the_cnn_has_the_printed_outputs(whole: Pages) -> None:
    _, inside = folded(whole, "CNN student:")
    sides = [int(row[2].split(" × ")[2]) for row in rows(inside) if row[0].startswith(("Conv2d", "MaxPool2d"))]
    assert tuple(sides) == ledger.load()["q1.cnn.layer_outputs"].value


@pytest.mark.parametrize(
    ("question", "total", "activation"), [("Question 2", "274,763", "ReLU()"), ("Question 3", "256,779", "ReLU6")]
)
def test_the_printed_networks_of_questions_2_and_3(whole: Pages, question: str, total: str, activation: str) -> None:
    found = re.search(
        r"<summary>(The student, as .*?)</summary>\s*<pre>(.*?)</pre>", section(whole, question), re.DOTALL
    )
    assert found
    assert total in found[1]
    printed = html.unescape(found[2])
    repeats = [int(times) for times in re.findall(r"(\d+) x Block", printed)]  # equal blocks are printed once
    assert printed.count("Conv2d(") + sum(2 * (times - 1) for times in repeats) == 15  # the first, and seven times two
    assert activation in printed
    assert "Linear(in_features=256, out_features=11" in printed


def test_how_the_networks_are_built_is_said_with_the_printed_figures(whole: Pages) -> None:
    for start, says in (
        (
            "Question 1",
            "the 7x7 stem and the 1x1 downsamples stay. Without the inner batch norm it would have 1,447,819",
        ),
        ("Question 1", "(32-64-128-128-256-256-256 channels, strides 2,1,2,1,2,1,1), each with batch norm and ReLU6"),
        ("Question 2", "blocks of depthwise 3x3, batch norm, ReLU, pointwise 1x1, batch norm, ReLU, without bias"),
        ("Question 3", "with bias and nothing after it (16-32-64-128-256-256-256-256 channels)"),
        (
            "Question 3",
            "by the size of their batch-norm scale (gamma), keeps the largest, trains (the report: 5 epochs)",
        ),
    ):
        assert says in words(section(whole, start))


def test_the_printed_student_says_what_its_code_does_between_its_modules() -> None:
    printed = str(StudentNet())
    assert "(blocks) 0 to 2, each -> MaxPool2d(2)" in printed
    assert "(depthwise) -> (bn) -> ReLU6 -> (pointwise)" in printed


# ---- formulas --------------------------------------------------------------------------------------------------


def read(node: ElementTree.Element) -> str:
    """MathML as one line."""
    parts = [read(child) for child in node]
    if node.tag in ("mi", "mn", "mo"):
        return node.text or ""
    pattern = {"msup": "{}^{}", "msub": "{}_{}", "mfrac": "{}/{}", "msqrt": "sqrt({})"}.get(node.tag)
    return pattern.format(*parts) if pattern else "".join(parts)


def formulas(pages: Pages, start: str) -> list[str]:
    found = re.findall(r"<math.*?</math>", section(pages, start), re.DOTALL)
    return [read(ElementTree.fromstring(text)) for text in found]


def test_the_formulas_are_mathematics(whole: Pages) -> None:
    loss = "L=α·T^2·KL(softmax(z_teacher/T)∥softmax(z_student/T))+(1−α)·CE(z_student,y)"
    assert formulas(whole, "How everything") == [loss]
    assert formulas(whole, "Question 2") == ["SE=sqrt(p(1−p)/N)"]
    assert formulas(whole, "Question 3") == ["w_s=⌊w_0·r^s⌋"]
    latex = re.findall(r"^\$\$(.*)\$\$$", whole.markdown, re.MULTILINE)
    assert len(latex) == 3
    assert latex[0].startswith(r"L = \alpha \cdot T^{2} \cdot \mathrm{KL} \left( ")
    for text in latex:
        assert text.count(r"\left") == text.count(r"\right")
        assert text.count("{") == text.count("}")


# ---- how it was trained ----------------------------------------------------------------------------------------


def trainings(pages: Pages, start: str) -> dict[str, tuple[list[str], list[str]]]:
    """By the first cell: the cells of the row `printed` and of that below it."""
    pairs = pairwise(rows(section(pages, start)))
    return {above[0]: (above[2:], below[1:]) for above, below in pairs if above[1:2] == ["printed"] and len(above) == 7}


def test_every_training_has_printed_beside_used(whole: Pages) -> None:
    found: dict[str, tuple[list[str], list[str]]] = {}
    for start in ("How everything", "Question 1", "Question 2", "Question 3", "Question 4"):
        found |= trainings(whole, start)
    titles = "; ".join(found)
    assert [row.title for row in EXPERIMENTS.values() if row.recipe and row.title not in titles] == []
    assert found["Distillation into a plain CNN"] == (
        ["AdamW", "1e-3", "128", "250", "0.5, 20"], ["used", "AdamW, cosine", "2e-3", "64", "10", "0.5, 20"]
    )  # fmt: skip
    printed, used = found["c: student from scratch, cross entropy"]
    assert printed == ["AdamW, then SGD", "1e-3", "32", "250, then 50", ""]
    assert used[-1] == "labels alone"
    pruned = next(rows for title, rows in found.items() if title.startswith("Pruned"))
    assert (pruned[0][3], pruned[1][4]) == ("5 a step", "1 a step")


@pytest.mark.usefixtures("words_only")
def test_two_phases_of_equal_length_are_two(report: Report) -> None:
    _, used = trainings(report(profile="smoke", ids=[]), "Question 2")["c: student from scratch, cross entropy"]
    assert used[1:] == ["AdamW, then SGD", "1e-3", "33", "1, then 1", "labels alone"]


def test_at_full_the_trainings_are_the_report_s(full: Pages) -> None:
    for question in ("Question 1", "Question 2", "Question 3"):
        for printed, used in trainings(full, question).values():
            if printed[1]:  # the report trained it
                assert used[1:5] == printed[:4]


def test_what_all_trainings_share_has_printed_beside_used(whole: Pages, full: Pages) -> None:
    for pages, size in ((whole, "32"), (full, "128")):
        found = {row[0]: row[1:] for row in rows(section(pages, "How everything")) if len(row) == 3}
        assert found["input"] == ["3 × 128 × 128", f"3 × {size} × {size}"]
        printed, used = found["augmentation"]
        assert printed == ", ".join(map(str, ledger.load()["training.augmentation"].value))  # type: ignore[arg-type]
        assert used.startswith(f"{printed} (")
        assert found["distillation, alpha"] == ["0.5", "0.5"]
        assert found["distillation, temperature T"] == ["20", "20"]


@pytest.mark.usefixtures("words_only")
def test_used_is_what_the_run_s_record_says(report: Report, whole: Pages) -> None:
    """And not what a profile of today says."""
    from hw7.report.page import write_report
    from hw7.report.reproduce import Reproduction

    pages = report(ids=["student-c"])
    path = pages.out / "runs" / "student-c" / "run.json"
    phases = [{"epochs": 77, "optimizer": "sgd", "learning_rate": 0.025, "batch": 48, "schedule": "constant"}]
    flips = dict.fromkeys(vars(PROFILES["quick"].augmentation), 0.0) | {"flip": 0.25}
    write_json(path, read_json(path) | {"identity": {"phases": phases, "augmentation": flips}})
    again = Reproduction("plates", "quick", pages.out, load_solution(), say=lambda line: None)
    again.profile = PROFILES["smoke"]  # few images
    write_report(again)
    pages = Pages(pages.out, (pages.out / "report.html").read_text("utf-8"), "")
    _, used = trainings(pages, "Question 2")["c: student from scratch, cross entropy"]
    assert used == ["used", "SGD", "2.5e-2", "48", "77", "labels alone"]


# ---- curves ----------------------------------------------------------------------------------------------------


def drawn(pages: Pages, pattern: str) -> dict[str, list[str]]:
    """The words in every picture whose name matches."""
    paths = (path for path in (pages.out / "pictures").glob("*.svg") if re.search(pattern, path.name))
    found = {
        path.name: [e.text or "" for e in ElementTree.parse(path).iter() if e.tag.endswith("text")] for path in paths
    }
    assert found
    return found


@pytest.mark.parametrize("what", ["accuracy", "loss"])
def test_every_trained_network_has_a_curve(whole: Pages, what: str) -> None:
    labels = {text for texts in drawn(whole, f"curves-.*{what}").values() for text in texts}
    trained = [row for row in EXPERIMENTS.values() if row.recipe and not row.keep_rate]
    assert [row.title for row in trained if row.title not in labels] == []
    (pruned,) = drawn(whole, f"pruning-{what}").values()
    assert {"keep rate 0.975", "keep rate 0.95", "keep rate 0.9", "before pruning", "parameters"} <= set(pruned)


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 7, 11, 300])
def test_epochs_are_whole_numbers(report: Report, epochs: int) -> None:
    history = tuple(EPOCHS[number % 3] for number in range(max(2, epochs)))[:epochs]
    pages = report(ids=["student-c"], history=(*history, EPOCHS[1])[: max(2, epochs)])
    (texts,) = drawn(pages, "curves-2-accuracy").values()
    ticks = texts[: texts.index("epoch")]
    assert ticks
    assert all(re.fullmatch(r"\d+", tick) for tick in ticks)


def test_a_dotted_line_stands_where_the_optimizer_changes_and_nowhere_else(whole: Pages, full: Pages) -> None:
    def dotted(pages: Pages) -> list[str]:
        paths = (pages.out / "pictures").glob("curves-*.svg")
        grey = "stroke: #8a8a8a"  # of nothing else
        return sorted(path.name for path in paths if grey in path.read_text())

    assert dotted(whole) == []
    assert "Dotted" not in whole.text
    assert len(dotted(full)) == 10
    assert "Dotted: the optimizer changes." in full.text


def test_sizes_are_written_in_words(whole: Pages) -> None:
    (texts,) = drawn(whole, "sizes").values()
    assert {"1 MB", "10 MB"} <= set(texts)
    assert not any("10^" in text or "mathdefault" in text for text in texts)


# ---- conclusions -----------------------------------------------------------------------------------------------


def claims(pages: Pages) -> dict[str, tuple[str, str, str]]:
    """By the sentence: the verdict, where it holds, and what more is said."""
    pattern = (
        r'<div class="claim"><p><span.*?</span> (.*?)</p>\s*<p><b[^>]*>(.*?)</b>(.*?)</p>\s*<p[^>]*>(.*?)</p></div>'
    )
    found = re.findall(pattern, pages.html, re.DOTALL)
    return {words(says): (verdict, words(where), words(more)) for says, verdict, where, more in found}


def test_every_conclusion_has_a_verdict_in_its_question(whole: Pages, full: Pages) -> None:
    for pages in (whole, full):
        found = claims(pages)
        for conclusion in ledger.whole().conclusions.values():
            assert found[conclusion.text][0] in VERDICTS
            place = section(pages, "Question " + conclusion.question.replace("course", "3"))
            assert conclusion.text in words(place)
            assert f"{conclusion.text} **{found[conclusion.text][0]}**" in pages.markdown
    findings = [*FINDINGS, SWITCH]
    assert {f.id for f in findings if not f.says} | {"size", "parameters"} == ledger.whole().conclusions.keys()


def of(pages: Pages, name: str) -> tuple[str, str, str]:
    (finding,) = (finding for finding in (*FINDINGS, SWITCH) if finding.id == name)
    return claims(pages)[finding.claim]


@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize(
    ("points", "verdict"),
    [
        # at least 1.5. One standard error near 0.7 on 3,430 images, as if each network had its own: 1.1 points
        (5.0, "yes"), (3.0, "undecided"), (1.5, "undecided"), (0.0, "undecided"), (-2.0, "no"), (-9.0, "no"),
    ],
)  # fmt: skip
def test_a_conclusion_by_the_standard_error_of_a_difference(report: Report, points: float, verdict: str) -> None:
    pages = report(ids=["student-c", "student-e"], accuracies={"student-c": 0.7, "student-e": 0.7 + points / 100})
    found, where, more = of(pages, "good-teacher")
    assert found == verdict
    assert "whether it is so on Food-11, this run cannot tell" in where
    direction = "less" if points < 0 else "more"
    assert f"{abs(points):.2f} points {direction}, with a standard error of 1.1" in more
    assert "The report: 85.86% against 83.10%, 2.76 points more." in more
    assert "(b), " in more.partition("c: student from scratch")[0]  # which of the two accuracies is whose
    assert "neither the report nor this run has measured" in more


@pytest.mark.usefixtures("words_only")
def test_where_it_is_known_who_was_right_the_standard_error_is_that_of_pairs(report: Report) -> None:
    """100 images that only one of two got right, 60 and 40 of 3,430: sqrt(0.02915 - 0.00583^2) / sqrt(3430)."""
    first, second = np.zeros(3430, bool), np.zeros(3430, bool)
    first[:2400] = second[:2400] = True
    first[2400:2460] = second[2460:2500] = True
    bits = {name: {"test_right": packed(right), "test_accuracy": float(right.mean())}
            for name, right in (("student-e", first), ("student-c", second))}  # fmt: skip
    verdict, _, more = of(report(ids=["student-c", "student-e"], changes=bits), "good-teacher")
    assert "0.58 points more, with a standard error of 0.29" in more
    assert verdict == "no"  # less than the 1.5 that are asked for; as if images were not shared, it would be undecided


@pytest.mark.usefixtures("words_only")
def test_a_few_images_decide_nothing(report: Report) -> None:
    few = {name: {"test_images": 22, "images": 55, "test_right": "00" * 3} for name in ("student-e", "student-c")}
    bits = few["student-e"] | {"test_right": "ff" * 3}
    pages = report(ids=["student-c", "student-e"], changes=few | {"student-e": bits}, accuracies={"student-e": 1.0})
    verdict, _, more = of(pages, "good-teacher")
    assert verdict == "undecided"
    assert more.count("So few images decide nothing.") == 1


@pytest.mark.usefixtures("words_only")
def test_other_recipes_and_own_data_are_said_beside_the_verdict(report: Report, full: Pages) -> None:
    ids = ["student-c", "student-e"]
    assert "own recipe, this run cannot tell" in of(report("food11:/d", "quick", ids=ids), "good-teacher")[1]
    assert of(full, "good-teacher")[1] == ""


def test_the_switch_of_the_optimizer(whole: Pages, full: Pages) -> None:
    verdict, _, more = of(full, "switch")
    assert verdict == "yes"
    assert "after the switch, 80.00%; before the switch, 70.00%. That is 10.00 points more" in more
    verdict, _, more = of(whole, "switch")
    assert verdict == "not measured"
    assert "one optimizer" in more


@pytest.mark.usefixtures("words_only")
def test_the_ladders_are_compared_where_they_meet(report: Report) -> None:
    ids = ["student-net", "prune-0.975", "prune-0.95"]
    verdict, _, more = of(report(ids=ids, accuracies={"prune-0.975": 0.80, "prune-0.95": 0.70}), "pruning")
    assert verdict == "yes"
    assert "on validation images: keep rate 0.975, 80.00%; keep rate 0.95, 70.00%. That is 10.00 points more" in more
    assert "one epoch, the report's for five" in more


@pytest.mark.usefixtures("words_only")
def test_a_conclusion_without_its_runs_says_which_are_missing(report: Report) -> None:
    pages = report(ids=["student-c"], asked=["student-c", "student-e", "student-d"], failed=("student-d",))
    assert of(pages, "good-teacher")[::2] == (
        "not measured",
        "The report: 85.86% against 83.10%, 2.76 points more. Not run yet: “e: student distilled from (b)”.",
    )
    assert "Failed: “d: student distilled from (a)”." in of(pages, "weak-teacher")[2]
    assert "Not run: " in of(pages, "pruning")[2]


def test_sizes_are_concluded_from_counting(whole: Pages) -> None:
    for name, says in (("size", "7.6 and 6.5 times smaller"), ("parameters", "7.7 and 6.5 times smaller")):
        verdict, where, more = claims(whole)[ledger.whole().conclusions[name].text]
        assert (verdict, where) == ("no", "")
        assert says in more


# ---- what is not there -----------------------------------------------------------------------------------------


def not_reproduced(pages: Pages) -> dict[str, str]:
    return {row[0]: row[1] for row in rows(section(pages, "What is not reproduced"))[1:]}


@pytest.mark.usefixtures("words_only")
def test_what_is_not_reproduced_is_listed_with_its_reason(whole: Pages, full: Pages, report: Report) -> None:
    always = {missing.what: missing.why for missing in ledger.whole().missing}
    assert not_reproduced(full).items() >= always.items()
    assert len(not_reproduced(full)) == len(always) + 1  # pretrained on ImageNet
    assert "This run is on plates" in not_reproduced(whole)["Accuracies and losses on Food-11"]
    assert all(not_reproduced(whole).values())
    some = not_reproduced(report(ids=["student-c"], asked=["student-c"]))
    assert some["“e: student distilled from (b)”"] == "not run"


@pytest.mark.usefixtures("words_only")
@pytest.mark.parametrize(("asked", "word"), [(["student-c"], "Not run"), (None, "Not run yet")])
def test_no_part_says_nothing_of_what_is_missing(report: Report, asked: Any, word: str) -> None:
    pages = report(ids=["student-c"], asked=asked)
    for start, what in (
        ("How everything", "curves"), ("Question 1", "curves"), ("Question 2", "curves"), ("Question 3", "curves"),
        ("Question 3", "line in the chart"), ("Question 4", "curves"),
    ):  # fmt: skip
        assert f"No {what} of these. {word}: “" in words(section(pages, start))
    assert "far from the report" not in pages.text  # no number is there
    assert "274,472" in pages.cells("Plain convolutions")  # counting needs no run
    assert word.lower() in pages.cells("16 bit")[2]


# ---- the page --------------------------------------------------------------------------------------------------


def test_the_page_is_small_and_can_be_printed(whole: Pages, full: Pages) -> None:
    for pages in (whole, full):
        assert len(pages.html.encode()) < 4_000_000
        assert "@media print" in pages.html
        assert "@page" in pages.html


def test_the_time_says_whose_it_is(whole: Pages) -> None:
    runs = sum(1 for row in EXPERIMENTS)
    assert f"{runs:.1f} minutes of one core, all trainings added up" in whole.text
