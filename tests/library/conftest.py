"""What the tests of the library share."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
from made_up_report import Pages, made_up_report

from hw7.report import compare, counting, page, plots, questions, structures
from hw7.report.blocks import Text
from hw7.solution import load_solution


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pages]:
    """`made_up_report`, each in a folder of its own."""

    def write(*arguments: Any, **options: Any) -> Pages:
        return partial(made_up_report, tmp_path_factory.mktemp("report"))(*arguments, **options)

    return write


@cache
def _counts() -> dict[str, Any]:
    return counting.count(load_solution())


@pytest.fixture
def words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of the reference without what takes most of their time: pictures, and networks that are looked into."""

    def no_picture(name: str, caption: str, *_: Any) -> plots.Picture:
        return plots.Picture(name, caption, b"<svg/>")

    monkeypatch.setattr(plots, "_plotted", no_picture)
    monkeypatch.setattr(page, "sample_sheet", lambda split, each: b"")
    monkeypatch.setattr(questions, "_sizes", lambda solution: no_picture("sizes.svg", ""))
    monkeypatch.setattr(structures, "_folded", lambda solution, network, title, block: Text(title))
    monkeypatch.setattr(compare, "count", lambda solution, partly: _counts().copy())
