"""hw7 as a wheel, away from its clone: what works there, what says that it needs more, and what pip changes.

The wheel is unpacked to a folder, from which one process runs the commands one after the other.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main
from made_up_class import REAL_RUBRIC
from submissions import REFERENCE, reference_files, reference_weights, write

import autograder.cli
import hw7.cli
from autograder.course.files import rendered
from autograder.course.release import FOR_STUDENTS
from hw7 import doctor
from hw7.solution import INSTALL_A_CLONE, PROJECT

PACKAGES = ("hw7", "autograder")
PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE")
CLEAN = shutil.ignore_patterns("__pycache__", ".*")
# One line of a command each; `ada` and `grades` are of the fixture.
NEED_A_CLONE = (
    "hw7 summary",
    "hw7 train student_dw --out o",
    "hw7 distill final --teacher t.safetensors --out o",
    "hw7 prune s.safetensors --out o",
    "hw7 quantize s.safetensors --out o",
    "hw7 reproduce --out o",
    "hw7 check",
    "hw7 check own-test",
    "hw7 pack",
    "hw7-grade release",
    "hw7-grade release o",
    "hw7-grade release --check",
    "hw7-grade course o",
    "hw7-grade similar submissions --out o",
    "hw7-grade new-task 3.6 slimming_penalty --chapter pruning",
)
WORK = (
    "hw7 --version",
    "hw7 data --limit 11 --size 32",
    "hw7 summary --solution ada",
    "hw7 check 3.4 --solution ada",
    "hw7 pack ada --no-check --out ada.zip",
    "hw7-grade --version",
    "hw7-grade run submissions --out grades --tier D --jobs 1 --rubric rubric.toml",
    "hw7-grade show ada --out grades",
    "hw7-grade export --out grades --to csv",
    "hw7-grade export --out grades --to html",
    "hw7-grade export --out grades --to gradescope",
    "hw7-grade export --out grades --to mail",
    "hw7-grade new-seed seed",
    'hw7-grade case ada 3.4 "one step" --out grades --to appeal',
    "hw7-grade rescore --out grades --rubric rubric.toml",
    'hw7-grade override ada 3.4 50 --because "So it was said" --out grades',
    'hw7-grade comment ada "A word" --out grades',
    "hw7-grade late ada 1 --out grades",
    "hw7-grade log --out grades",
    "hw7-grade diff grades@1 grades",
)
SAYS_SO_ITSELF = ("hw7-grade gradescope-image o.zip",)
RUN = """
import contextlib, io, json, shlex, sys, traceback
import autograder.cli, hw7.cli

if __name__ == "__main__":  # the grader's workers begin with this file, too
    for module in (autograder, hw7):
        assert module.__file__.startswith(sys.argv[1]), module.__file__
    results = {}
    for line in json.loads(sys.argv[2]):
        printed = io.StringIO()
        sys.argv = shlex.split(line)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                {"hw7": hw7, "hw7-grade": autograder}[sys.argv[0]].cli.app()
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                code = "traceback"
                traceback.print_exc()
        results[line] = code, printed.getvalue()
    print(json.dumps(results))
"""


def build(source: Path, out: Path) -> Path:
    """The wheel of a project's folder."""
    out.mkdir(exist_ok=True)
    code = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("hw7-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(PROJECT / name, source / name, ignore=CLEAN)
    for name in PROJECT_FILES:
        shutil.copy(PROJECT / name, source)
    return build(source, tmp_path_factory.mktemp("dist"))


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """Templates, tables and scripts, too: nothing is found missing only once it is installed."""
    files = [path for name in PACKAGES for path in (PROJECT / name).rglob("*") if path.is_file()]
    names = [path.relative_to(PROJECT) for path in files]
    kept = {each.as_posix() for each in names if "__pycache__" not in each.parts and not each.name.startswith(".")}
    assert len(kept) > 60
    assert kept - set(zipfile.ZipFile(wheel).namelist()) == set()


@pytest.fixture(scope="module")
def ran(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int | str, str]]:
    """Exit code and output of each command, run in a folder with a submission and nothing else."""
    here, site = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(site)
    write(reference_files(), reference_weights(), here / "ada")
    shutil.copytree(PROJECT / "assignments" / "hw7" / "tests", here / "ada" / "tests", ignore=CLEAN)
    shutil.copy(REFERENCE / "hw7.ipynb", here / "ada")
    write(reference_files(), None, here / "submissions" / "ada")
    (here / "rubric.toml").write_text(REAL_RUBRIC)
    (here / "run.py").write_text(RUN)
    commands = json.dumps([*NEED_A_CLONE, *SAYS_SO_ITSELF, *WORK])
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1", "HW7_CACHE": str(here / "cache")}
    done = subprocess.run(
        [sys.executable, "run.py", str(site), commands], cwd=here, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: dict[str, tuple[int | str, str]] = json.loads(done.stdout.splitlines()[-1])
    return results


def test_every_command_is_tried() -> None:
    """But `doctor`, whose finding has a test below."""
    tried = {tuple(line.split()[:2]) for line in (*NEED_A_CLONE, *SAYS_SO_ITSELF, *WORK)}
    for program, module in {"hw7": hw7.cli, "hw7-grade": autograder.cli}.items():
        for name in typer.main.get_command(module.cli).commands:  # type: ignore[attr-defined]
            assert (program, name) in tried or name == "doctor", f"{program} {name}"


@pytest.mark.parametrize("command", NEED_A_CLONE)
def test_a_command_that_needs_a_clone_says_so(ran: dict[str, tuple[int | str, str]], command: str) -> None:
    code, said = ran[command]
    assert code == 1, said
    assert len(said.splitlines()) == 1, said
    assert said.startswith(f"{command.split()[0]}: ")
    assert INSTALL_A_CLONE in said


def test_the_image_for_gradescope_says_so_too(ran: dict[str, tuple[int | str, str]]) -> None:
    code, said = ran[SAYS_SO_ITSELF[0]]
    assert code == 1
    assert said.splitlines()[0].endswith("build the image from a clone of the project")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("command", WORK)
def test_other_commands_work(ran: dict[str, tuple[int | str, str]], command: str) -> None:
    code, said = ran[command]
    assert code == 0, said


def test_what_works_is_right(ran: dict[str, tuple[int | str, str]]) -> None:
    assert "1 of 1 student has a grade (1 with full marks, 0 with some, 0 not gradable)" in ran[WORK[6]][1]
    assert "100 of 100 points" in ran["hw7-grade show ada --out grades"][1]
    assert "0 of 1 student changed" in ran["hw7-grade diff grades@1 grades"][1]
    packed = ran["hw7 pack ada --no-check --out ada.zip"][1]
    assert "was not checked" not in packed, "the notebook as handed out is beside the solution"


def test_the_doctor_takes_no_solution_for_no_fault() -> None:
    """A machine that only grades has none."""
    machine = doctor.Machine(None, Path(), {}, {}, {}, {}, {"none": "no solution is installed"})
    assert doctor._solution(machine) == doctor.Finding("solution", None, "no solution is installed")


# ---- where another PyTorch is there already, as on Colab and Kaggle -------------------------------------------------

# As such a machine has them: torch, what it needs, and what hw7 needs; `notebooks` is the machine's own package.
THERE = {
    "torch": "2.11.0+cu128", "torchvision": "0.26.0+cu128", "numpy": "2.0.2", "pillow": "11.3.0",
    "safetensors": "0.6.2", "typer": "0.16.0", "tqdm": "4.67.1", "tabulate": "0.9.0", "matplotlib": "3.10.0",
    "jinja2": "3.1.6", "filelock": "3.18.0", "pyyaml": "6.0.2", "packaging": "25.0", "pytest": "8.4.1",
    "ipykernel": "6.17.1", "jupyterlab": "4.4.5", "notebooks": "1.0.0",
}  # fmt: skip
NEEDS = {"torchvision": ["torch==2.11.0"], "notebooks": ["ipykernel==6.17.1", "torch==2.11.0"]}


@dataclass(frozen=True)
class Machine:
    """A virtual environment that has packages by name only, and the pip of these tests."""

    folder: Path

    def pip(self, *words: object) -> subprocess.CompletedProcess[str]:
        """pip there, without constraints (CI sets some for all of its environments), without a network, and without
        what PYTHONPATH has: pip would take a package there for installed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        python = next(path for path in self.folder.glob("*/python*") if path.stem == "python")
        command = [sys.executable, "-m", "pip", "--python", str(python), *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    @property
    def versions(self) -> dict[str, str]:
        found = [re.fullmatch(r"(.+)-(.+)\.dist-info", path.name) for path in self.site.glob("*.dist-info")]
        return {match[1]: match[2] for match in found if match}

    @property
    def site(self) -> Path:
        return next(self.folder.rglob("site-packages"))


def machine(folder: Path, **versions: str) -> Machine:
    venv.create(folder, with_pip=False)
    made = Machine(folder)
    for name, version in (THERE | versions).items():
        info = made.site / f"{name}-{version}.dist-info"
        info.mkdir()
        needs = "".join(f"Requires-Dist: {need}\n" for need in NEEDS.get(name, []))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        (info / "INSTALLER").write_text("pip\n")
        (info / "RECORD").write_text("")
    return made


@pytest.fixture(scope="module")
def students_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of what students receive: other needs, the same library (one file of it will do)."""
    source = tmp_path_factory.mktemp("students")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    (source / "pyproject.toml").write_bytes(rendered("pyproject.toml", project=project, extra=list(FOR_STUDENTS)))
    (source / "hw7").mkdir()
    for name in ("hw7/__init__.py", "LICENSE"):
        shutil.copy(PROJECT / name, source / name)
    return build(source, tmp_path_factory.mktemp("dist"))


@pytest.mark.parametrize("whose", ["wheel", "students_wheel"])
def test_pip_leaves_the_torch_that_is_there(whose: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    there = machine(tmp_path / "venv")
    before = there.versions
    done = there.pip("install", "--no-index", request.getfixturevalue(whose))
    assert done.returncode == 0, done.stderr
    after = there.versions
    assert after.pop("hw7")
    assert after == before
    assert before["torch"] == "2.11.0+cu128"
    assert there.pip("check").returncode == 0


def test_a_torch_that_is_too_old_is_told(wheel: Path, tmp_path: Path) -> None:
    """With a network, pip would replace it, and not in silence."""
    there = machine(tmp_path / "venv", torch="2.10.0+cu128", torchvision="0.25.0+cu128")
    done = there.pip("install", "--no-index", wheel)
    assert done.returncode == 1
    assert "torch>=2.11" in done.stderr
    assert "hw7" not in there.versions
