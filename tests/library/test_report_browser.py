"""The report's page in a real browser: it fits a screen and a telephone, unfolded too, and its formulas are drawn."""

from collections.abc import Callable
from pathlib import Path

import pytest
from browser import CHROMIUM, Look, looking, title, with_script
from made_up_report import Pages

Report = Callable[..., Pages]
pytestmark = [
    pytest.mark.slow,  # as those of the graded pages
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at the pages with"),
]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return looking(tmp_path)


def answer(look: Look, pages: Pages, script: str, width: int) -> str:
    page = with_script(pages.out / "report.html", f"document.title = String({script});")
    return title(look(page, width))


UNFOLD = "document.querySelectorAll('details').forEach((each) => { each.open = true; })"


def wider(what: str) -> str:
    """JavaScript: which of these are wider inside than they are, once all is unfolded."""
    boxes = f"[...document.querySelectorAll('{what}')].filter((box) => box.scrollWidth > box.clientWidth + 1)"
    return f"({UNFOLD}, {boxes}.map((box) => box.innerText.slice(0, 60)).join('|'))"


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_no_wider_than_its_window(look: Look, report: Report, width: int) -> None:
    pages = report()
    assert answer(look, pages, wider("html, section > p, .claim"), width) == ""


def test_no_table_is_cut_on_a_screen(look: Look, report: Report) -> None:
    for pages in (report(), report(ids=["student-c"], asked=["student-c"]), report("food11:/d", "full")):
        assert answer(look, pages, wider(".scroll, .formula, pre"), 1200) == ""
    assert answer(look, pages, wider(".scroll, .formula, pre"), 390) != ""  # where they scroll


def test_formulas_are_drawn_as_mathematics(look: Look, report: Report) -> None:
    size = "getBoundingClientRect()"
    high = f"math.{size}.height > 20 && math.querySelector('mfrac, msup').{size}.width > 5"
    script = f"[...document.querySelectorAll('math')].map((math) => {high})"
    assert answer(look, report(), script, 1200) == "true,true,true"
