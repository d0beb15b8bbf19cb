"""The graded pages in a real browser: nothing hostile runs or is loaded, the table sorts, and a phone can show them."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from browser import CHROMIUM, Look, looking, title, with_script
from made_up_grades import HOSTILE, RUBRIC, TASKS, a_class, decided, hostile

from autograder.exports.common import printable
from autograder.exports.html import export_html

pytestmark = [
    pytest.mark.slow,  # Chromium starts eight times: half a minute on a busy machine
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at the pages with"),
]


@dataclass
class Server:
    """What hostile strings try to reach."""

    port: int
    asked: list[str] = field(default_factory=list)

    def aimed(self, text: str) -> str:
        """The hostile string, aimed at this server."""
        return text.replace("127.0.0.1:9/", f"127.0.0.1:{self.port}/")


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        seen = Server(listening.server_port)
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield seen
        listening.shutdown()


@pytest.fixture
def look(tmp_path: Path) -> Look:
    return looking(tmp_path)


def test_unescaped_the_same_strings_do_harm(look: Look, server: Server, tmp_path: Path) -> None:
    """Or the next test would prove nothing."""
    page = tmp_path / "control.html"
    page.write_text(f"<title>control</title>{''.join(map(server.aimed, HOSTILE[:2] + HOSTILE[8:9]))}")
    assert title(look(page)) == "stolen"
    assert {"/stolen.css", "/stolen"} <= set(server.asked)


def test_nothing_hostile_runs_or_is_loaded(look: Look, server: Server, tmp_path: Path) -> None:
    everything = server.aimed(" ".join(HOSTILE))
    texts = [everything, *map(server.aimed, HOSTILE)]
    class_page = export_html([decided(hostile(text), text) for text in texts], RUBRIC, tmp_path)
    alone = export_html([decided(hostile(everything, "alone"), everything)], RUBRIC, tmp_path / "alone")
    (student_page,) = (alone.parent / "students").iterdir()
    for page, name in ((class_page, "Homework 7: the class"), (student_page, "Homework 7: feedback")):
        dom = look(page)
        assert title(dom) == name
        for text in HOSTILE:
            assert " ".join(printable(server.aimed(text)).split()) in " ".join(unescape(dom).split())
        for task, (words, _) in TASKS.items():
            assert f"{task} {words}" in unescape(dom)
    assert server.asked == []


def test_even_unescaped_text_would_be_stopped_by_the_policy(look: Look, server: Server, tmp_path: Path) -> None:
    page = export_html(a_class(8), RUBRIC, tmp_path)
    for path in (page, *list((tmp_path / "students").iterdir())[:1]):
        harm = "".join(map(server.aimed, HOSTILE[:2] + HOSTILE[8:9]))
        path.write_text(path.read_text("utf-8").replace("</h1>", f"</h1>{harm}", 1), "utf-8")
        assert title(look(path)).startswith("Homework 7")
    assert server.asked == []


def test_the_table_of_students_sorts(look: Look, tmp_path: Path) -> None:
    page = export_html(a_class(30), RUBRIC, tmp_path)
    script = """
      const headers = document.querySelectorAll("table.sortable th button");
      const rows = () => [...document.querySelectorAll("table.sortable tbody tr")];
      const column = (n) => rows().map((row) => row.cells[n].innerText);
      const orders = [];
      for (const n of [1, 1, 0, 0]) { headers[n].click(); orders.push(column(n).join(",")); }
      document.title = orders.join("|");
    """
    totals_down, totals_up, names_down, names_up = (
        order.split(",") for order in title(look(with_script(page, script))).split("|")
    )
    assert len(totals_down) == 30
    assert [float(t) for t in totals_down] == sorted(map(float, totals_down), reverse=True)
    assert [float(t) for t in totals_up] == sorted(map(float, totals_down))
    assert names_up == sorted(names_up)
    assert names_down == names_up[::-1]


def test_no_page_is_wider_than_a_narrow_window(look: Look, tmp_path: Path) -> None:
    page = export_html([*a_class(8), hostile("w" * 300)], RUBRIC, tmp_path)
    script = (
        "const { scrollWidth, clientWidth } = document.documentElement; document.title = scrollWidth - clientWidth;"
    )
    widest = max((tmp_path / "students").iterdir(), key=lambda path: path.stat().st_size)
    for path in (page, widest):
        assert title(look(with_script(path, script), width=500)) == "0"  # Chromium has no narrower window
