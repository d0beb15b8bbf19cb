"""Why a module cannot be imported: found in its source, said once, by the grader, at home and by `hw7 pack`."""

import subprocess
import sys
from pathlib import Path

import pytest
from submissions import HIDDEN, alternatives, mutants, reference_files, reference_weights, rubric, write

from autograder.grades import Grade
from autograder.grading import grade_submission
from autograder.intake.submission import Submission
from autograder.jail import Jail, best_tier
from autograder.rubric import Rubric
from hw7.checks.cases import Verdict
from hw7.checks.importable import GIVEN, import_trouble, installed, packages_inside, told
from hw7.checks.public import Checks, format_overview
from hw7.handin.pack import gather
from hw7.solution import MODULES

PANDAS = "which the grader does not have (it has torch, torchvision, numpy and the standard library)"
CANNOT = {  # what is wrong with losses.py, by what is said of it
    "import torch\n\ndef kd_loss(:\n    pass\n": "line 3, invalid syntax",
    "import torch\nimport a_frame_library as pd\n": f"line 2 imports a_frame_library, {PANDAS}",
    "from a_frame_library.io import read\n": f"line 1 imports a_frame_library, {PANDAS}",
    "from models import small_resnet18\n": "line 1 imports `models`: write `from solution.models import …`",
    "import models\n": "line 1 imports `models`: write `from solution.models import …`",
    "print('done')\nexit()\n": "line 2 calls exit() on import",
    "import sys\nsys.exit(0)\n": "line 2 calls sys.exit() on import",
    "name = input('your name? ')\n": "line 1 waits for input on import",
    "import torch\nunit = torch.ones(1).cuda()\n": "line 2 asks for a GPU on import, and the grader has none",
    "import torch\nx = torch.ones(1, device='cuda:0')\n": "line 2 asks for a GPU on import, and the grader has none",
    "import torch\nx = torch.ones(1).to('cuda')\n": "line 2 asks for a GPU on import, and the grader has none",
    "class Loss(nn.Module):\n    pass\n": "line 1 uses nn, which nothing above it defines",
    "def f(x, device=DEVICE):\n    return x\n": "line 1 uses DEVICE, which nothing above it defines",
    "from solution.models import resnet\n": "line 1 imports resnet from models.py, which does not define it",
    "from .teachers import teacher\n": "line 1 imports `solution.teachers`, which is not among the files",
    "%matplotlib inline\nimport torch\n": "line 1 is a command for a notebook, and no Python",
    "<<<<<<< HEAD\nimport torch\n": "line 1 was left by a merge of two versions",
    "raise RuntimeError('not yet')\n": "line 1 raises an exception on import",
    "weights = open('weights.txt').read()\n": "line 1 reads a file on import, and the grader has none for it",
}
CAN = (
    "try:\n    import a_frame_library\nexcept ImportError:\n    a_frame_library = None\n",
    "import torch\nif torch.cuda.is_available():\n    unit = torch.ones(1).cuda()\n",
    "import torch\nDEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')\n",
    "def f():\n    exit(a_name_that_is_defined_later)\n",
    "if __name__ == '__main__':\n    exit(main())\n",
    "pairs = {a: b for a, b in zip(range(3), [x + 1 for x in range(3)])}\nlater = lambda y: y + undefined\n",
    "class A:\n    size: int = 3\n    both = (size, size)\n\n    def f(self):\n        return undefined\n",
    "from torch.nn import *\nclass Loss(Module):\n    pass\n",
    "here = open(__file__).read()\n",
    "import re as regular\nfrom . import models\nfrom .models import *\nx = regular.escape('.')\n",
)


def with_losses(code: str) -> dict[str, bytes]:
    return {**reference_files(), "solution/losses.py": code.encode()}


@pytest.mark.parametrize("code", CANNOT, ids=range(len(CANNOT)))
def test_says_what_stops_an_import(code: str) -> None:
    text = told("losses", import_trouble(with_losses(code), "losses"))
    assert text == f"losses.py cannot be imported: {CANNOT[code]}."


@pytest.mark.parametrize("code", CAN, ids=range(len(CAN)))
def test_sees_nothing_in_what_can_be_imported(code: str, tmp_path: Path) -> None:
    files = with_losses(code)
    assert import_trouble(files, "losses") is None
    write(files, None, tmp_path)
    subprocess.run([sys.executable, "-c", "import solution.losses"], cwd=tmp_path, check=True, timeout=120)


def test_sees_nothing_in_all_solutions_that_run() -> None:
    named = [entry for entry in (*mutants(), *alternatives()) if "not-imported" not in entry.mistakes]
    seen = [(entry.id, module) for entry in named for module in MODULES if import_trouble(entry.files, module)]
    assert seen == []


def test_follows_the_submission_s_own_modules() -> None:
    files = with_losses("from .tools import halve\n") | {"solution/tools.py": b"halve = (\n"}

    def said(module: str) -> str:
        return told(module, import_trouble(files, module))

    assert said("losses").startswith("losses.py cannot be imported: in tools.py, line 1, ")
    files["solution/tools.py"] = b"from .losses import kd_loss\n\ndef halve(x):\n    return x / 2\n"
    assert "which imports this file: a circle" in said("losses")
    files["solution/__init__.py"] = b"import a_frame_library\n"
    assert said("models").startswith("models.py cannot be imported: in __init__.py, line 1")


def test_packages_that_functions_import_are_told_before_handing_in() -> None:
    files = with_losses("def plot():\n    import a_plot_library\n    import numpy, safetensors.torch, PIL\n")
    assert [what for _, what in packages_inside(files)] == [f"line 2 imports a_plot_library, {PANDAS}"]
    assert all(installed(name) for name in GIVEN)
    assert list(packages_inside(reference_files())) == []


def graded(files: dict[str, bytes], weights: bytes | None = None) -> Grade:
    tasks = tuple(task for task in rubric().tasks if task.id in ("2.1", "2.2", "3.4"))
    with Jail(best_tier()[0]) as jail:
        submission = Submission("ada", files, weights, None, "0" * 64)
        return grade_submission(submission, Rubric(tasks, "some", rubric().path), HIDDEN, jail)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import torch\n\ndef kd_loss(:\n", "line 3, invalid syntax"),
        ("import a_frame_library\n", f"line 1 imports a_frame_library, {PANDAS}"),
        ("import os\nos._exit(0)\n", "line 2 calls os._exit() on import"),
        ("while True:\n    pass\n", "the import does not come to an end"),
        ("import torch\nx = torch.ones(3) @ torch.ones(2)\n", "an exception is raised on import"),
        ("(" * 90_000, "line 1, too many nested parentheses"),
        ("x = " + "a." * 90_000 + "b", ""),  # what parses in no recursion that Python allows
    ],
)
def test_one_message_for_all_tasks_of_a_module(code: str, said: str) -> None:
    grade = graded(with_losses(code))
    told_of = {task.task: {part.outcome.message for part in task.parts} for task in grade.tasks}
    assert told_of["2.1"] == told_of["2.2"]
    (message,) = told_of["2.1"]
    assert message.startswith(f"losses.py cannot be imported: {said}")
    assert grade.tasks[2].verdict is Verdict.RIGHT


def test_at_home_and_in_the_zip(tmp_path: Path) -> None:
    folder = write(with_losses("import a_frame_library\n"), reference_weights(), tmp_path)
    checks = Checks(folder)
    parts = [*checks.check("2.1"), *checks.check("2.2")]
    (said,) = {part.outcome.message for part in parts}
    assert said == f"losses.py cannot be imported: line 1 imports a_frame_library, {PANDAS}."
    assert said in checks.explain("2.2", parts[-1])
    assert said in gather(folder).to_fix
    (folder / "solution" / "losses.py").write_text("import torch\nx = torch.ones(3) @ torch.ones(2)\n")
    again = Checks(folder)
    (said,) = {part.outcome.message for part in again.check("2.1")}
    assert said.startswith("losses.py cannot be imported: RuntimeError at ")
    assert "its module cannot be imported" in format_overview_of(again, "2.1")


def format_overview_of(checks: Checks, task: str) -> str:
    """The row of one task, so that no other is asked."""
    checks.__dict__["tasks"] = tuple(each for each in checks.tasks if each.id == task)
    return format_overview(checks)
