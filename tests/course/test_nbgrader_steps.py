"""What this course changes in nbgrader's own steps, each by itself; test_course.py has them all together."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from notebooks import RELEASED, answered, at, graded

from autograder.rubric import load_rubric
from hw7 import HW7Error
from hw7.handin.notebook_repair import to_bytes
from hw7.solution import PROJECT
from hw7.support.files import read_json

pytest.importorskip("nbgrader")
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.converters import Autograde
from nbgrader.preprocessors import AssignLatePenalties
from traitlets.config import Config

from autograder.course import nbgrader, nbgrader_execute, nbgrader_steps

RUBRIC = load_rubric()


# ---- the course folder -----------------------------------------------------------------------------------------


def test_a_course_folder_has_the_assignment_and_a_configuration(tmp_path: Path) -> None:
    files = nbgrader.set_up(tmp_path / "ml", rubric=RUBRIC)
    assert {"nbgrader_config.py", "source/hw7/hw7.ipynb", "source/hw7/solution/losses.py"} <= set(files)
    assert not [name for name in files if "__pycache__" in name]
    released = PROJECT / "assignments" / "hw7" / "solution" / "losses.py"
    assert (tmp_path / "ml" / "source" / "hw7" / "solution" / "losses.py").read_bytes() == released.read_bytes()
    config = Config()
    text = (tmp_path / "ml" / "nbgrader_config.py").read_text()
    exec(text, {"get_config": lambda: config, "__file__": str(tmp_path / "ml" / "nbgrader_config.py")})
    assert config.CourseDirectory.course_id == "ml"
    # Days late are exported: nbgrader's own step would set them to nothing.
    assert AssignLatePenalties in Autograde().autograde_preprocessors
    assert AssignLatePenalties not in config.Autograde.autograde_preprocessors
    assert "solution/losses.py" in config.Autograde.exclude_overwriting["hw7"]
    steps = [step.__name__ for step in config.Autograde.autograde_preprocessors]
    assert "JailedExecute" in steps
    assert {"SaveAnswers", "Harmless"} <= set(steps)
    assert not {"Execute", "SaveAutoGrades"} & set(steps)


def test_a_second_time_it_keeps_the_teachers_configuration_and_renews_the_assignment(tmp_path: Path) -> None:
    nbgrader.set_up(tmp_path, "ml", RUBRIC)
    with (tmp_path / "nbgrader_config.py").open("a") as file:
        file.write("c.Exchange.root = '/srv'\n")
    (tmp_path / "source" / "hw7" / "solution" / "losses.py").write_text("old")
    assert "nbgrader_config.py" not in nbgrader.set_up(tmp_path, "ml", RUBRIC)
    assert "/srv" in (tmp_path / "nbgrader_config.py").read_text()
    assert (tmp_path / "source" / "hw7" / "solution" / "losses.py").read_text() != "old"


def test_the_notebooks_points_are_the_rubrics(tmp_path: Path) -> None:
    (first, *others) = RUBRIC.tasks
    worth = replace(RUBRIC, tasks=(replace(first, points={"structure": 2.5}), *others))
    nbgrader.set_up(tmp_path, "ml", worth)
    cells = graded(read_json(tmp_path / "source" / "hw7" / "hw7.ipynb"))
    assert cells["task-1-1"]["metadata"]["nbgrader"]["points"] == 2.5
    assert cells["task-1-2"]["metadata"]["nbgrader"]["points"] == 7


@pytest.mark.parametrize(("place", "before"), [(0, None), (3, "task-1-3"), (len(RUBRIC.tasks), "task-5-2")])
def test_a_task_that_has_no_cell_gets_one_behind_the_task_before_it(
    tmp_path: Path, place: int, before: str | None
) -> None:
    new = replace(RUBRIC.tasks[0], id="9.9", points={"structure": 2.5})
    more = replace(RUBRIC, tasks=(*RUBRIC.tasks[:place], new, *RUBRIC.tasks[place:]))
    nbgrader.set_up(tmp_path, "ml", more)
    notebook = read_json(tmp_path / "source" / "hw7" / "hw7.ipynb")
    nbformat.validate(notebook)
    tasks = [name for name in graded(notebook) if name.startswith("task")]
    assert tasks.index("task-9-9") == (tasks.index(before) + 1 if before else 0)
    cell = notebook["cells"][at(notebook, "task-9-9")]
    assert cell["source"] == ['lab.check("9.9")']
    like = notebook["cells"][at(notebook, "task-1-2")]["metadata"]["nbgrader"]
    assert cell["metadata"]["nbgrader"] == like | {"grade_id": "task-9-9", "points": 2.5}
    if before:
        assert at(notebook, "task-9-9") == at(notebook, before) + 1
    assert (tmp_path / "source" / "hw7" / "tests" / "notebook.json").read_bytes() == to_bytes(notebook)


def test_what_cannot_be_a_course_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HW7Error, match="say --name"):
        nbgrader.set_up(tmp_path / "machine learning")
    with pytest.raises(HW7Error, match="hw7-grade release"):
        nbgrader.set_up(tmp_path / "ml", assignment=tmp_path)


# ---- reading notebooks -----------------------------------------------------------------------------------------


@pytest.fixture
def released(tmp_path: Path) -> Path:
    path = tmp_path / "hw7.ipynb"
    path.write_bytes(RELEASED)
    return path


def test_a_good_notebook_is_read_as_it_is(released: Path) -> None:
    assert nbgrader_steps.repaired(to_bytes(answered()), released) == answered()


def test_what_was_repaired_stands_at_the_top_once(released: Path) -> None:
    notebook = answered()
    del notebook["cells"][at(notebook, "task-1-1")]
    repaired = nbgrader_steps.repaired(to_bytes(notebook), released)
    assert "task-1-1 was deleted" in repaired.cells[0].source
    assert nbgrader_steps.repaired(to_bytes(repaired), released) == repaired


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"{}", RELEASED[:-100], b"[" * 10_000])
def test_what_cannot_be_read_is_an_unanswered_notebook_that_says_why(released: Path, data: bytes) -> None:
    reader = nbgrader_steps.ReadRepaired(released=str(released))
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
    text, _ = reader.from_file(stream, resources={})
    assert "cannot be read, so this one is as it was released" in text
    assert '"grade_id": "question-c"' in text


def test_what_no_format_allows_is_told_too(released: Path) -> None:
    notebook = answered()
    notebook["cells"][0]["attachments"] = {"a.png": "no dictionary"}
    assert "no valid notebook" in nbgrader_steps.repaired(to_bytes(notebook), released).cells[0].source


def test_a_note_has_no_markup_of_a_students(released: Path) -> None:
    notebook = answered()
    notebook["cells"].append(
        {
            "cell_type": "raw",
            "id": "x",
            "source": "",
            "metadata": {"nbgrader": {"grade_id": "<script>alert(1)</script>"}},
        }
    )
    note = nbgrader_steps.repaired(to_bytes(notebook), released).cells[0].source
    assert "alert" in note
    assert "<" not in note


def test_without_a_released_notebook_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HW7Error, match="run `nbgrader generate_assignment hw7` first"):
        nbgrader_steps.repaired(RELEASED, tmp_path / "none.ipynb")


# ---- running notebooks -----------------------------------------------------------------------------------------


def notebook() -> Any:
    return new_notebook(cells=[new_code_cell("1 + 1")])


def test_without_a_jail_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nbgrader_execute, "why_not", lambda: "tier A: no namespaces")
    with pytest.raises(HW7Error, match=r"no jail to run them in: tier A: no namespaces.*--no-execute"):
        nbgrader_execute.JailedExecute().preprocess(notebook(), {"metadata": {"path": str(tmp_path)}})


def test_when_told_not_to_it_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbgrader_execute, "why_not", lambda: "no jail")
    given = notebook()
    same, _ = nbgrader_execute.JailedExecute(enabled=False).preprocess(given, {})
    assert same.cells[0].outputs == []


# ---- what a teacher's browser gets -----------------------------------------------------------------------------


def test_nothing_in_a_graded_notebook_can_act_in_a_browser() -> None:
    from nbconvert.exporters import HTMLExporter
    from nbformat.v4 import new_markdown_cell, new_output, new_raw_cell

    picture = "iVBORw0KGgo="
    shown: dict[str, Any] = {
        "text/html": "<script>alert(1)</script>", "application/javascript": "alert(2)",
        "image/svg+xml": "<svg onload='alert(3)'/>", "text/markdown": "| a |\n|---|\n\n<img src=x onerror=alert(4)>",
        "text/latex": "$x$<script>alert(5)</script>", "image/png": picture,
    }  # fmt: skip
    words = (
        "# Why\n\n**More** <script>alert(6)</script> [link](javascript:alert(7)) `a<b` $a<b$ [web](https://example.org)"
        " <IMG SRC=x onerror=alert(8)> [x](\n&#106;avascript:alert(11)) <javascript:alert(12)> [r]\n\n"
        "[r]: javascript:alert(13)"
    )
    cells = [
        new_markdown_cell(words, metadata={"tags": ['"><script>alert(9)</script>']}),
        new_raw_cell("<script>alert(10)</script>", metadata={"raw_mimetype": "text/html"}),
        *(new_code_cell("x", outputs=[new_output("display_data", data={kind: data})]) for kind, data in shown.items()),
    ]

    def page(notebook: Any) -> str:
        text, _ = HTMLExporter().from_notebook_node(notebook)
        return str(text)

    acts = re.compile(
        r"<[^>]*(onerror|onload)=|<script[^>]*>\s*alert|alert\(2\)\s*</script>|href=.javascript", re.IGNORECASE
    )
    assert len(acts.findall(page(new_notebook(cells=cells)))) >= 4  # so it would
    harmless, _ = nbgrader_steps.Harmless().preprocess(new_notebook(cells=cells), {})
    text = page(harmless)
    assert [text[match.start() - 80 : match.end() + 20] for match in acts.finditer(text)] == []
    for kept in (
        "<strong>More</strong>",
        "<h1",
        "<table",
        picture,
        "application/javascript: not shown",
        'href="https://example.org"',
    ):
        assert kept in text
    assert harmless.cells[0].source.startswith("# Why")
