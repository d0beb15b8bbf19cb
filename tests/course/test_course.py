"""What came of a course in miniature: every score is the expected one, and no notebook gets out of its jail."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from submissions import write

from hw7.handin import pack
from hw7.handin.notebook_repair import grade_id
from hw7.solution import PROJECT

pytest.importorskip("nbgrader")
import nbformat
from miniature_course import CANARY, COURSE, EXITS, FLOODS, LOOPS, Cell, Course, Score, finished, stubs
from nbgrader.apps.api import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from autograder.course import nbgrader_execute
from autograder.exports.nbgrader import cell_name
from autograder.intake import submission
from autograder.intake.layouts import find_submissions
from autograder.rubric import load_rubric

__all__ = ["finished"]  # the fixture
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(nbgrader_execute.why_not()), reason="no jail for notebooks here"),
]
TEACHING_ASSISTANTS = PROJECT / "docs" / "teaching-assistants.md"


# ---- what came of it -------------------------------------------------------------------------------------------


def test_every_score_is_the_expected_one(finished: Course) -> None:
    with finished.gradebook() as gradebook:
        totals = {each.student_id: (each.score, each.max_score) for each in gradebook.assignment_submissions("hw7")}
    wanted = {name: (pytest.approx(each.points + each.written), 112) for name, each in finished.students.items()}
    assert totals == wanted


def test_the_points_of_tasks_are_those_of_the_grader_in_either_order(finished: Course) -> None:
    rubric = load_rubric()
    graded = {row["student"]: row for row in rows(finished.folder / "grades" / "grades.csv")}
    assert set(graded) == set(finished.students)
    # exported before nbgrader's autograde, after it, and once more
    for scores in (finished.before, finished.after, finished.scores()):
        for student, row in graded.items():
            for task in rubric.tasks:
                points, worth, _ = scores[student][cell_name(task.id)]
                assert points == pytest.approx(float(row[task.id])), (student, task.id)
                assert worth == task.out_of


def test_autograde_again_changes_no_points_also_where_the_rubric_has_others_now(finished: Course) -> None:
    before = finished.scores()
    with finished.gradebook() as gradebook:
        gradebook.find_grade_cell("task-2-1", "hw7", "hw7").max_score = 30
        gradebook.db.commit()
    finished.nbgrader("autograde", "hw7", "--no-execute", "--student=perfect", "--force")
    with finished.gradebook() as gradebook:
        gradebook.find_grade_cell("task-2-1", "hw7", "hw7").max_score = before["perfect"]["task-2-1"][1]
        gradebook.db.commit()
    assert finished.scores() == before | {"perfect": manual_again(before["perfect"])}


def manual_again(scores: dict[str, Score]) -> dict[str, Score]:
    """nbgrader asks a person to look again at what has a manual score."""
    return {name: (auto, worth, name.startswith("question") or look) for name, (auto, worth, look) in scores.items()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_nbgraders_own_export_says_the_same(finished: Course) -> None:
    table = {row["student_id"]: row for row in rows(finished.folder / "grades.csv")}
    for name, student in finished.students.items():
        assert float(table[name]["score"]) == pytest.approx(student.points + student.written)
        assert float(table[name]["max_score"]) == 112


def test_the_formgrader_can_show_it(finished: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the interface that its pages ask."""
    monkeypatch.chdir(finished.folder)
    answers = NbGraderAPI(CourseDirectory(root=str(finished.folder), course_id=COURSE))
    (assignment,) = answers.get_assignments()
    assert (assignment["name"], assignment["num_submissions"], assignment["max_score"]) == ("hw7", 12, 112)
    submissions = {each["student"]: each for each in answers.get_submissions("hw7")}
    for name, student in finished.students.items():
        assert submissions[name]["autograded"], name
        assert submissions[name]["score"] == pytest.approx(student.points + student.written)
        assert submissions[name]["code_score"] == pytest.approx(student.points)
        assert submissions[name]["written_score"] == pytest.approx(student.written)
    notebooks = answers.get_notebook_submissions("hw7", "hw7")
    assert {each["student"] for each in notebooks} == set(finished.students)
    assert len(answers.get_students()) == 12


def test_each_student_gets_feedback(finished: Course) -> None:
    for name in finished.students:
        page = finished.folder / "feedback" / name / "hw7" / "hw7.html"
        text = page.read_text()
        assert "task-2-1" in text, name
        assert "question-6" in text, name
        assert "<script>alert" not in text
    released = list((finished.base / "exchange" / COURSE / "feedback").glob("*.html"))
    assert len(released) == 12


def test_the_students_zip_is_graded_like_what_was_collected(finished: Course, tmp_path: Path) -> None:
    for name in finished.students:
        folder = finished.base / "students" / name / "hw7"
        pack.pack(folder, tmp_path / "zips" / f"{name}.zip", check=False, released=finished.base / "notebook.json")
    packed = {each.student: submission.take_in(each) for each in find_submissions(tmp_path / "zips").found}
    collected = {
        each.student: submission.take_in(each) for each in find_submissions(finished.folder / "submitted").found
    }
    assert set(packed) == set(collected) == set(finished.students)
    for name in finished.students:
        assert packed[name].digest == collected[name].digest, name


def test_what_students_wrote_under_solution_is_not_replaced_by_stubs(finished: Course) -> None:
    for name, student in finished.students.items():
        for path, data in student.files.items():
            assert (finished.folder / "autograded" / name / "hw7" / path).read_bytes() == data


def test_the_page_for_teaching_assistants_has_the_commands_that_were_typed(finished: Course) -> None:
    """All but those that install, would open a browser, need a student's own name, or are a student's."""
    page = TEACHING_ASSISTANTS.read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    others = {"cd compression", "jupyter lab", "hw7 check --solution hw7", "hw7 pack hw7 --repair"}
    others |= {"python3 -m venv .venv", ". .venv/bin/activate", "pip install -c constraints.txt -e '.[nbgrader]'"}
    others |= {"hw7-grade doctor"}
    exchange = f" --Exchange.root={finished.base / 'exchange'}"
    typed = {line.replace(exchange, "").replace("hostile-*", "ada") for line in finished.typed}
    typed.add("nbgrader submit hw7 --course=compression")  # by nbgrader's entry point, for all in one process
    assert len(lines) > 15
    assert [line for line in lines if line not in typed | others] == []


# ---- notebooks that needed help ---------------------------------------------------------------------------------


def notes(cells: list[Cell]) -> str:
    return "\n".join(cell["source"] for cell in cells if "repaired" in cell["metadata"].get("tags", []))


def test_good_notebooks_get_no_note(finished: Course) -> None:
    for name in ("perfect", "stubs", "half", "attached"):
        assert notes(finished.graded(name)) == ""


def test_a_careless_notebook_was_repaired_and_says_so(finished: Course) -> None:
    cells = finished.graded("careless-no-refusal")
    note = notes(cells)
    for what in (
        "task-1-1 was deleted",
        "question-2 was deleted",
        "question-3 was there twice",
        "task-3-1 had been moved",
    ):
        assert what in note
    names = [grade_id(cell) for cell in cells if grade_id(cell)]
    released = nbformat.read(finished.folder / "release" / "hw7" / "hw7.ipynb", as_version=4)
    assert names == [grade_id(cell) for cell in released.cells if grade_id(cell)]


def test_cells_that_were_made_to_say_all_points_say_what_they_should(finished: Course) -> None:
    cells = finished.graded("cheat")
    tasks = [cell for cell in cells if grade_id(cell).startswith("task")]
    assert all("lab.check" in cell["source"] and not cell["outputs"] for cell in tasks)
    assert "is locked and was edited" in notes(cells)


def test_a_notebook_that_cannot_be_read_costs_its_answers_only(finished: Course) -> None:
    assert "merge conflict in line 2" in notes(finished.graded("broken"))
    page = (finished.folder / "feedback" / "broken" / "hw7" / "hw7.html").read_text()
    assert "merge conflict in line 2" in page
    submitted = finished.folder / "submitted" / "broken" / "hw7" / "hw7.ipynb"
    assert submitted.read_bytes() == finished.students["broken"].raw


# ---- the jail --------------------------------------------------------------------------------------------------


def printed(cell: Cell) -> str:
    return "".join(output.get("text", "") for output in cell["outputs"])


def test_a_hostile_notebook_reaches_nothing(finished: Course) -> None:
    cells = finished.graded("hostile-looks")
    (looks,) = [cell for cell in cells if "def tried" in cell["source"]]
    said = printed(looks)
    assert "GOT" not in said
    assert said.count("failed:") == 4 * 3 + 4
    assert "environment []" in said
    assert "home /scratch" in said
    assert CANARY not in json.dumps([cell["outputs"] for cell in cells if cell["cell_type"] == "code"])
    assert not [output for output in looks["outputs"] if output["output_type"] == "error"]
    for name in ("gradebook.db", "source/hw7/hw7.ipynb"):
        assert (finished.folder / name).exists()
    assert not (finished.folder / "autograded" / "hostile-looks" / "hw7" / "own.txt").exists()


def test_a_kernel_that_ends_does_not_end_the_grading(finished: Course) -> None:
    cells = finished.graded("hostile-looks")
    (at,) = [i for i, cell in enumerate(cells) if cell["source"] == EXITS]
    ends, after = cells[at], cells[at + 1]
    assert ends["outputs"][-1]["ename"] == "DeadKernelError"
    assert after["outputs"][-1]["ename"] == "NotRun"


def test_a_flood_of_output_is_cut(finished: Course) -> None:
    (cell,) = [cell for cell in finished.graded("hostile-looks") if cell["source"] == FLOODS]
    assert printed(cell).endswith("[more than 8 MiB of output: cut off]\n")
    assert len(printed(cell)) < 9_000_000


def test_an_endless_cell_is_cut_and_the_cells_behind_it_run(finished: Course) -> None:
    cells = finished.graded("hostile-loops")
    place = next(i for i, cell in enumerate(cells) if cell["source"] == LOOPS)
    assert any(output.get("ename") in ("CellTimeoutError", "KeyboardInterrupt") for output in cells[place]["outputs"])
    tasks = [cell for cell in cells[place:] if grade_id(cell).startswith("task")][:12]
    assert [cell["outputs"][-1]["data"]["text/plain"] for cell in tasks] == [
        str(float(cell["metadata"]["nbgrader"]["points"])) for cell in tasks
    ]  # the public tests ran in the jail


def test_validate_says_what_is_right_and_what_is_not(finished: Course, tmp_path: Path) -> None:
    folder = shutil.copytree(finished.base / "students" / "perfect" / "hw7", tmp_path / "hw7")
    command = re.search(r"`nbgrader (validate --.*)`", TEACHING_ASSISTANTS.read_text())
    assert command  # nbgrader's own limits are too short for a busy machine
    words = command[1].split()
    assert "Success! Your notebook passes all the tests." in finished.nbgrader(*words, cwd=folder)
    write(stubs("pruning"), None, folder)
    said = finished.nbgrader(*words, cwd=folder)
    assert "VALIDATION FAILED ON" in said
    assert 'lab.check("3.1")' in said
    assert 'lab.check("2.1")' not in said
