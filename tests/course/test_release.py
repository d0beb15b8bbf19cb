"""What students receive: made from the reference, the same every time, with no trace of an answer, good to work on."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import safetensors.torch
import torch
from plain import plain_tests
from submissions import mutants, reference_files, reference_weights, replace_definitions, write
from typer.testing import CliRunner

from autograder.course import differences, leaks
from autograder.course import release as releasing
from autograder.course.leaks import LINE, Scanner
from autograder.course.release import ASSIGNMENT, REFERENCE, reference_sources, release, student_tree
from autograder.course.stripping import secrets, stated
from autograder.rubric import load_rubric
from hw7 import HW7Error
from hw7.checks.cases import Case, Task
from hw7.checks.public import Checks, try_own_test
from hw7.checks.storage import read_cases, save_cases
from hw7.cli import cli
from hw7.solution import PROJECT
from hw7.support.words import counted

TASKS = [task.id for task in load_rubric().tasks]
NETWORK = ("5.1", "5.2")  # sizes count with a network that works: the two are one thing
# The functions of the contract by their task.
FUNCTIONS = {
    node.name: (ast.get_docstring(node) or "").removeprefix("Task ").partition(":")[0]
    for name in ("models", "losses", "pruning", "quantization")
    for node in ast.parse(reference_files()[f"solution/{name}.py"]).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
}


@pytest.fixture(scope="module")
def tree() -> dict[str, bytes]:
    return student_tree()


@pytest.fixture(scope="module")
def folder(tree: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as files; nobody changes it."""
    return write(tree, None, tmp_path_factory.mktemp("students"))


HIDDEN = [text for name, source in reference_sources().items() for text in secrets(source, name)]
PUBLIC = [text for name, source in reference_sources().items() if name.endswith(".py") for text in stated(source, name)]
SCANNER = Scanner(HIDDEN, PUBLIC)


# ---- the tree ----------------------------------------------------------------------------------------------------


@pytest.mark.rounding
def test_the_committed_assignment_is_what_the_generator_makes() -> None:
    release(PROJECT, check=True)


def test_what_is_in_it_and_what_is_not(tree: Mapping[str, bytes]) -> None:
    assert {name.partition("/")[0] for name in tree} == {
        "LICENSE", "README.md", "assignments", "constraints.txt", "docs", "hw7", "pyproject.toml",
    }  # fmt: skip
    for needed in (
        "solution/losses.py",
        "bugs/stale_optimizer.py",
        "tests/test_tasks.py",
        "tests/test_2_1_kd_loss.py",
        "tests/tasks.json",
        "hw7.ipynb",
    ):
        assert f"{ASSIGNMENT}/{needed}" in tree
    assert "hw7/checks/judges.py" in tree
    assert "hw7/report/ledger.toml" in tree
    assert not [name for name in tree if "weights.safetensors" in name or "autograder" in name or ".pyc" in name]
    for name in reference_files():
        compile(tree[f"{ASSIGNMENT}/{name}"], name, "exec")


def test_points_in_the_tree_are_the_rubrics(tree: Mapping[str, bytes]) -> None:
    rows = json.loads(tree[f"{ASSIGNMENT}/tests/tasks.json"])
    assert {row["id"]: row["points"] for row in rows} == {task.id: dict(task.points) for task in load_rubric().tasks}


def test_points_in_the_notebook_are_the_rubrics(tree: Mapping[str, bytes]) -> None:
    cells = nbformat.reads(tree[f"{ASSIGNMENT}/hw7.ipynb"].decode(), as_version=4).cells
    marks = [cell.metadata.nbgrader for cell in cells if "nbgrader" in cell.metadata]
    automatic = {mark.grade_id: mark.points for mark in marks if not mark.solution}
    assert automatic == {f"task-{task.id.replace('.', '-')}": task.out_of for task in load_rubric().tasks}
    assert [mark.grade_id for mark in marks if mark.solution] == [f"question-{n}" for n in range(1, 7)]
    for cell in cells:
        if mark := cell.metadata.get("nbgrader"):
            assert mark.locked is not mark.solution
            assert cell.source == "YOUR ANSWER HERE" if mark.solution else cell.source.startswith("lab.check(")


def test_a_task_of_the_rubric_needs_no_cell_in_the_reference_notebook(
    tree: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = reference_sources()
    notebook = json.loads(sources["hw7.ipynb"])
    notebook["cells"] = [cell for cell in notebook["cells"] if "lab.check(" not in "".join(cell["source"])]
    sources["hw7.ipynb"] = json.dumps(notebook)
    monkeypatch.setattr(releasing, "reference_sources", lambda: sources)
    made = student_tree()
    cells = json.loads(made[f"{ASSIGNMENT}/hw7.ipynb"])["cells"]
    assert [cell["id"] for cell in cells if "lab.check(" in "".join(cell["source"])] == [
        f"task-{task.replace('.', '-')}" for task in TASKS
    ]
    assert made[f"{ASSIGNMENT}/tests/notebook.json"] == made[f"{ASSIGNMENT}/hw7.ipynb"]


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(tree: Mapping[str, bytes]) -> None:
    releasing._cases.cache_clear()
    again = student_tree()
    assert {name for name in tree if tree[name] != again.get(name)} == set()
    assert again.keys() == tree.keys()


def test_check_names_every_difference(
    tree: Mapping[str, bytes], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releasing, "student_tree", lambda: dict(tree))
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    assert release(out, check=True) == sorted(tree)
    (out / "README.md").unlink()
    (out / "hw7" / "mine.py").write_text("x = 1\n")
    losses = out / ASSIGNMENT / "solution" / "losses.py"
    losses.write_text(losses.read_text().replace("Task 2.1: the", "Task 2.1: a"))
    cases = out / ASSIGNMENT / "tests" / "cases" / "3.1.safetensors"
    cases.write_bytes(cases.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(HW7Error) as caught:
        release(out, check=True)
    said = str(caught.value)
    assert "4 differences" in said
    for words in (
        "README.md: is missing",
        "hw7/mine.py: belongs to no release",
        "losses.py: line ",
        "3.1.safetensors: ",
    ):
        assert words in said
    with pytest.raises(HW7Error, match="holds other files"):
        release(out)
    (out / "hw7" / "mine.py").unlink()
    release(out)
    assert release(out, check=True) == sorted(tree)


# What a task's judge lets pass, relative to its largest entry: a little less, and far more.
@pytest.mark.parametrize(("task", "near", "far"), [("1.1", 4.7e-5, 1e-2), ("2.1", 1e-7, 1e-3), ("4.1", 1e-7, 1e-2)])
def test_an_answer_that_the_judge_takes_for_equal_is_equal(task: str, near: float, far: float, tmp_path: Path) -> None:
    """Another processor rounds the answers of networks in another way. Bytes are compared by what they mean."""
    name = f"cases/{task}.safetensors"
    committed = releasing.CASES.joinpath(name).read_bytes()
    cases = read_cases(committed)
    place, case = next((n, c) for n, c in enumerate(cases) if any(map(_has_floats, c.expected.values())))
    key, value = next((key, value) for key, value in case.expected.items() if _has_floats(value))

    def stored(factor: float) -> bytes:
        changed = replace(case, expected={**case.expected, key: value * factor})
        save_cases([*cases[:place], changed, *cases[place + 1 :]], tmp_path / "cases")
        return (tmp_path / "cases").read_bytes()

    assert stored(1) == committed
    assert stored(1 + near) != committed
    assert differences.same(name, stored(1 + near), committed)
    assert not differences.same(name, stored(1 + far), committed)
    assert not differences.same("cases.py", stored(1 + near), committed)
    said = differences._first_difference(name, stored(1 + far), committed)
    assert said.startswith(f"{case.name}: expected {key} differs by up to ")
    assert " allowed" in said


def _has_floats(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and bool(value.numel())


def test_cases_are_compared_by_name() -> None:
    """Whatever order their tensors have in the file; a case more, another input or another kind of number is told."""
    name = "cases/3.2.safetensors"
    committed = releasing.CASES.joinpath(name).read_bytes()
    tensors = safetensors.torch.load(committed)
    header = json.loads(committed[8 : 8 + int.from_bytes(committed[:8], "little")])["__metadata__"]
    cases = read_cases(committed)
    back = [str(len(tensors) - 1 - int(number)) for number in tensors]
    text = re.sub(
        r'{"tensor": (\d+)}', lambda found: f'{{"tensor": {len(tensors) - 1 - int(found[1])}}}', header["cases"]
    )
    turned = safetensors.torch.save(dict(zip(back, tensors.values(), strict=True)), {"cases": text})
    assert turned != committed
    assert differences.same(name, turned, committed)

    def told(changed: list[Case], path: Path) -> str:
        save_cases(changed, path)
        return differences._first_difference(name, path.read_bytes(), committed)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cases"
        assert told(cases[1:], path) == f"other cases: {cases[0].name}"
        assert "part is" in told([replace(cases[0], part="other"), *cases[1:]], path)
        (key, value), *rest = cases[0].call.inputs.items()
        call = replace(cases[0].call, inputs={key: 1 if isinstance(value, str) else "x", **dict(rest)})
        assert f"input 1 {key}" in told([replace(cases[0], call=call), *cases[1:]], path)
    assert differences._first_difference(name, b"", committed) == "cannot be read as cases"


def test_a_release_leaves_no_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes of a file that means the same stay, so that a change elsewhere changes nothing in the repository."""
    name, old = "cases/2.1.safetensors", releasing.CASES.joinpath("cases/2.1.safetensors").read_bytes()
    cases = read_cases(old)
    nudged = [
        replace(c, expected={k: v * (1 + 1e-7) if _has_floats(v) else v for k, v in c.expected.items()}) for c in cases
    ]
    save_cases(nudged, tmp_path / "new")
    rubric = replace(load_rubric(), tasks=tuple(task for task in load_rubric().tasks if task.id == "2.1"))
    monkeypatch.setattr(releasing, "_cases", lambda *_: (tmp_path / "new").read_bytes())
    assert releasing.public_tests(rubric)[name] == old
    monkeypatch.setattr(releasing, "CASES", tmp_path)  # nothing is committed there
    assert releasing.public_tests(rubric)[name] == (tmp_path / "new").read_bytes()


# ---- leaks -------------------------------------------------------------------------------------------------------


def cell_with(**changes: object) -> bytes:
    cell = nbformat.v4.new_code_cell("x = 1")
    cell.update(changes)
    return nbformat.writes(nbformat.v4.new_notebook(cells=[cell])).encode()


def output(text: str) -> list[nbformat.NotebookNode]:
    return [nbformat.v4.new_output("display_data", data={"text/plain": text})]


PLACES = {
    "code": lambda text: ("hw7/new.py", f"def f():\n{text}\n".encode()),
    "a comment": lambda text: ("hw7/new.py", "\n".join(f"# {line}" for line in text.split("\n")).encode()),
    "a docstring": lambda text: ("hw7/new.py", f'"""Help.\n{text}\n"""'.encode()),
    "a page": lambda text: ("docs/page.md", f"Try `{text}`.".encode()),
    "a table": lambda text: ("hw7/table.toml", f"hint = '''{text}'''".encode()),
    "a notebook's cell": lambda text: ("n.ipynb", cell_with(source=text)),
    "a notebook's output": lambda text: ("n.ipynb", cell_with(outputs=output(text))),
    "a notebook's metadata": lambda text: ("n.ipynb", cell_with(metadata={"note": {"was": [text]}})),
    "names of tensors": lambda text: ("c.safetensors", safetensors.torch.save({"0": torch.ones(1)}, {"was": text})),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_planted_answer_is_found_wherever_it_stands(place: str) -> None:
    for text in HIDDEN:
        name, data = PLACES[place](text)
        assert SCANNER.find({name: data}), text


def test_every_line_of_an_answer_is_found() -> None:
    told = {tuple(leaks._words(line)) for text in (*PUBLIC, *leaks.IDIOMS) for line in text.split("\n")}
    lines = {line for text in HIDDEN for line in text.split("\n") if len(leaks._words(line)) >= LINE}
    looked_for = [line for line in lines if tuple(leaks._words(line)) not in told]
    assert len(looked_for) > 100
    for line in looked_for:
        assert SCANNER.find({"docs/page.md": f"See {line.strip()}\n".encode()}), line


REWRITTEN = {
    "2.1": "a = F.log_softmax(s / t, dim=1)\nb = F.log_softmax(r.detach() / t, dim=1)",
    "2.1, broken otherwise": "x = F.kl_div(\n    p,\n    q,\n    reduction='batchmean',\n    log_target=True,\n)",
    "3.1": "return layer.weight.detach().abs()",
    "3.2": "order = torch.sort(scores, descending=True, stable=True).indices",
    "4.1": "a, b = table.amin(dim=1), table.amax(dim=1)",
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_an_answer_with_other_names_and_line_breaks_is_found(case: str) -> None:
    assert SCANNER.find({"hw7/new.py": REWRITTEN[case].encode()})


def test_files_and_markers_that_are_not_for_students_are_found() -> None:
    for name in ("autograder/tasks/losses/oracle.py", "reference_solutions/x.py", f"{ASSIGNMENT}/weights.safetensors"):
        assert SCANNER.find({name: b"\0" * 8}), name
    assert SCANNER.find({"hw7/x.py": b"    ### BEGIN SOLUTION\n"})


def test_the_tree_has_no_leak_and_harmless_code_is_none(tree: Mapping[str, bytes]) -> None:
    assert SCANNER.find(tree) == []
    assert SCANNER.find({"docs/page.md": b"with torch.no_grad():\n    logits = network(images)\n"}) == []


def test_a_second_copy_in_the_same_file_is_found(tree: Mapping[str, bytes]) -> None:
    name = f"{ASSIGNMENT}/solution/losses.py"
    copy = "\n\ndef _old_loss(a, b):\n    return F.kl_div(a, b, reduction='batchmean', log_target=True)\n"
    with pytest.raises(HW7Error, match=r"losses\.py: "):
        SCANNER.refuse({name: tree[name] + copy.encode()})


def test_a_permission_that_nobody_needs_is_an_error(tree: Mapping[str, bytes]) -> None:
    with pytest.raises(HW7Error, match=r"no longer stands in hw7/measure\.py"):
        SCANNER.find({"hw7/measure.py": b"x = 1\n"})


# ---- the public tests --------------------------------------------------------------------------------------------


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest as a student starts it; the tree's own library is found first."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_stubs_fail_every_test_with_a_message_that_names_the_task(folder: Path) -> None:
    ran = pytest_in(folder)
    parts = [(task.id, part) for task in load_rubric().tasks for part in task.points]
    files = (PROJECT / REFERENCE / "tests").glob("test_[0-9]*.py")
    plain = [name for path in files for name in plain_tests("{}.{}".format(*path.name.split("_")[1:3]))]
    assert f"{len(parts) + len(plain)} failed" in ran.stdout
    assert " passed" not in ran.stdout
    assert "Bug " not in ran.stdout  # the exercises without points
    for task in load_rubric().tasks:
        for part, points in task.points.items():
            assert f"Task {task.id}, {task.title}: {part}, 0 of {counted(points, 'point')}: MISSING" in ran.stdout


@pytest.mark.slow
def test_one_task_is_run_by_its_mark(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    for name in ("losses", "pruning"):
        path = f"solution/{name}.py"
        (out / ASSIGNMENT / path).write_bytes(reference_files()[path])
    ran = pytest_in(out, "-m", "task_3_2")
    assert ran.returncode == 0, ran.stdout
    assert f"{3 + len(plain_tests('3.2'))} passed" in ran.stdout
    assert pytest_in(out, "-m", "task_9_9").returncode != 0


@pytest.mark.slow
def test_the_bugs_are_found_by_their_tests_and_fixed_in_the_reference(folder: Path, tmp_path: Path) -> None:
    broken = pytest_in(folder, "-m", "bugs")
    for number in (1, 2, 3, 4):
        assert f"Bug {number}: " in broken.stdout
    assert pytest_in(folder, f"{ASSIGNMENT}/tests/test_bugs.py").stdout.count("Bug ") == broken.stdout.count("Bug ")
    assert not re.search(r"built-in|KL|running|partition|optimizer", broken.stdout)  # how Python prints, and answers
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    shutil.copytree(PROJECT / REFERENCE / "bugs", out / ASSIGNMENT / "bugs", dirs_exist_ok=True)
    fixed = pytest_in(out, "-m", "bugs")
    assert fixed.returncode == 0, fixed.stdout


def test_plain_pytest_in_the_folder_of_the_homework_runs_the_tasks_alone(folder: Path) -> None:
    listed = pytest_in(folder / ASSIGNMENT, "--collect-only", "-q")
    assert listed.returncode == 0, listed.stdout
    assert "test_tasks.py" in listed.stdout
    assert "own_test" not in listed.stdout
    assert "test_bugs" not in listed.stdout


@pytest.mark.slow
def test_a_program_with_a_bug_that_cannot_be_imported_hinders_no_test_of_a_task(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder, out)
    (out / ASSIGNMENT / "bugs" / "stale_optimizer.py").write_text("for\n")
    (out / ASSIGNMENT / "solution" / "losses.py").write_bytes(reference_files()["solution/losses.py"])
    ran = pytest_in(out, "-k", "2.1")
    assert ran.returncode == 0, ran.stdout


def solved_up_to(last: str, tree: Mapping[str, bytes]) -> dict[str, bytes]:
    """The reference with the stubs of all later tasks."""
    files = dict(reference_files())
    for name in files:
        stubs = tree[f"{ASSIGNMENT}/{name}"].decode()
        later = [
            ast.get_source_segment(stubs, node) or ""
            for node in ast.parse(stubs).body
            if isinstance(node, ast.FunctionDef) and FUNCTIONS.get(node.name, "") > last
        ]
        if later:
            files[name] = replace_definitions(files[name].decode(), "\n\n\n".join(later)).encode()
    return files


@pytest.mark.parametrize("last", [task for task in TASKS if task not in NETWORK])
def test_a_task_needs_no_later_one(last: str, tree: Mapping[str, bytes], folder: Path, tmp_path: Path) -> None:
    checks = Checks(write(solved_up_to(last, tree), None, tmp_path), folder / ASSIGNMENT / "tests")
    assert [part for part in checks.check(last) if not part.right] == []
    following = TASKS[TASKS.index(last) + 1]
    assert not any(result.right for result in checks.check(following))


def test_the_reference_passes_chapter_5_and_its_own_test(folder: Path, tmp_path: Path) -> None:
    checks = Checks(write(reference_files(), reference_weights(), tmp_path), folder / ASSIGNMENT / "tests")
    assert [part for task in NETWORK for part in checks.check(task) if not part.right] == []
    good, words = try_own_test(checks)
    assert good, words


def test_a_test_that_catches_nothing_is_told_so(folder: Path, tmp_path: Path) -> None:
    empty = b"def test_kd_loss(kd_loss):\n    kd_loss\n"
    directory = write(reference_files() | {"solution/own_test.py": empty}, None, tmp_path)
    good, words = try_own_test(Checks(directory, folder / ASSIGNMENT / "tests"))
    assert not good
    assert "catches 0 of 15" in words


def test_a_task_that_never_ends_says_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hw7.checks.public.PATIENCE", 0.05)
    endless = b"def channel_importance(bn):\n    while True:\n        pass\n"
    directory = write(reference_files() | {"solution/pruning.py": endless}, None, tmp_path)
    results = Checks(directory, folder / ASSIGNMENT / "tests").check("3.1")
    assert {str(result.outcome.verdict) for result in results} == {"TIME"}


def test_an_exception_is_shown_from_the_students_line_on(folder: Path, tmp_path: Path) -> None:
    wrong = b"def channel_importance(bn):\n    return bn.weights.abs()\n"
    directory = write(reference_files() | {"solution/pruning.py": wrong}, None, tmp_path)
    checks = Checks(directory, folder / ASSIGNMENT / "tests")
    said = checks.explain("3.1", checks.check("3.1")[0])
    assert "return bn.weights.abs()" in said
    assert "AttributeError" in said
    assert "calls/" not in said


@pytest.mark.parametrize("task", load_rubric().tasks, ids=lambda task: task.id)
def test_every_task_of_the_stubs_says_what_is_missing(task: Task, folder: Path) -> None:
    said = CliRunner().invoke(cli, ["check", task.id, "--solution", str(folder / ASSIGNMENT)]).output
    told = re.findall(
        rf"^Task {task.id}, {re.escape(task.title)}: (.*), 0 of \d+ points?: MISSING$", said, re.MULTILINE
    )
    assert ", ".join(told) == ", ".join(task.points)  # parts of which the same is said stand together


def test_the_command_says_the_points_and_what_is_next(folder: Path, tmp_path: Path) -> None:
    right = CliRunner().invoke(cli, ["check", "3.1", "--solution", str(write(reference_files(), None, tmp_path))])
    assert right.exit_code == 0, right.output
    assert "values    2 of 2" in right.output
    stubs = CliRunner().invoke(cli, ["check", "--solution", str(folder / ASSIGNMENT)])
    assert stubs.exit_code == 1
    assert "0 of 100" in stubs.output
    assert "pytest -m task_1_1" in stubs.output
    own = CliRunner().invoke(cli, ["check", "own-test", "--solution", str(folder / ASSIGNMENT)])
    assert own.exit_code == 1
    assert "must be right first" in own.output


@pytest.mark.slow
def test_most_wrong_solutions_fail_a_public_test(folder: Path, tmp_path: Path) -> None:
    """Public tests ask what the grader asks, of other inputs."""
    judged = [mutant for mutant in mutants() if mutant.task not in NETWORK]
    passing = []
    for mutant in judged:
        checks = Checks(write(mutant.files, None, tmp_path / mutant.id), folder / ASSIGNMENT / "tests")
        if all(result.right for result in checks.check(mutant.task)):
            passing.append(mutant.id)
    assert len(passing) <= 0.2 * len(judged), passing
